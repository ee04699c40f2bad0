# SPDX-License-Identifier: Apache-2.0
"""The retry policy: which failures to retry, how long to wait, and when to stop using an endpoint."""

from __future__ import annotations

import email.utils
import random
from dataclasses import dataclass
from typing import Literal

StatusClass = Literal["answered", "busy", "again", "refused", "rejected"]
"""answered: read the body; busy: alive, but wants us to wait; again: broken for now; refused: this one
request is final; rejected: every request would be."""

_BUSY = frozenset({408, 425, 429})
_FOR_ALL = frozenset({401, 402, 403, 404, 405, 410, 501, 505})


def status_class(status: int, *, asks_to_wait: bool = False) -> StatusClass:
    """What an HTTP status means for a request.

    Args:
        status: HTTP status.
        asks_to_wait: Whether the answer has a `Retry-After`.
    """
    if 200 <= status < 300:
        return "answered"
    if status in _BUSY or (status == 503 and asks_to_wait):
        return "busy"
    if status in _FOR_ALL or status < 400:
        return "rejected"
    return "refused" if status < 500 else "again"


def retry_after_seconds(header: str | None, now: float) -> float | None:
    """Seconds that a `Retry-After` asks for, at least 0; None where it says nothing readable.

    Args:
        header: Seconds, or an HTTP date.
        now: Seconds since the epoch.
    """
    if header is None:
        return None
    text = header.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, OverflowError):
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How patient a request is.

    Attributes:
        attempts: Most attempts at one request that may fail. Waiting for a busy endpoint does not count.
        timeout_seconds: Most seconds of one attempt, from connecting to the body's last byte.
        retry_seconds: Most seconds of one request, all attempts and waits included.
        first_wait_seconds: Upper end of the first wait.
        longest_wait_seconds: Upper end of every later wait.
    """

    attempts: int = 8
    timeout_seconds: float = 120.0
    retry_seconds: float = 600.0
    first_wait_seconds: float = 0.25
    longest_wait_seconds: float = 20.0

    def wait_seconds(self, n_failed: int) -> float:
        """A random wait after `n_failed` failures: exponential, with full jitter."""
        top = min(self.longest_wait_seconds, self.first_wait_seconds * 2.0 ** min(n_failed - 1, 30))
        return random.uniform(0.0, top)


class CircuitBreaker:
    """Leaves an endpoint alone that fails again and again, and then tries it with one request.

    Times are seconds of one monotonic clock.

    Args:
        opens_after: Failures in a row after which the endpoint is left alone.
        first_rest_seconds: How long, the first time; doubled each time the trial fails.
        longest_rest_seconds: At most.
    """

    def __init__(
        self, *, opens_after: int = 5, first_rest_seconds: float = 0.5, longest_rest_seconds: float = 30.0
    ) -> None:
        self._opens_after = opens_after
        self._first_rest = first_rest_seconds
        self._longest_rest = longest_rest_seconds
        self._n_failed = 0
        self._n_opened = 0
        self._rests_until = 0.0
        self._on_trial = False

    @property
    def is_open(self) -> bool:
        return self._n_failed >= self._opens_after

    def ready_in(self, now: float) -> float | None:
        """Seconds until the endpoint may be asked, 0 for at once; None while a trial decides."""
        if not self.is_open:
            return 0.0
        return None if self._on_trial else max(0.0, self._rests_until - now)

    def begin(self) -> bool:
        """Note that a request starts; whether it is the trial of an open breaker."""
        if not self.is_open:
            return False
        self._on_trial = True
        return True

    def succeeded(self) -> None:
        self._n_failed = self._n_opened = 0
        self._on_trial = False

    def failed(self, now: float, *, trial: bool) -> bool:
        """Note a failure; whether the endpoint is left alone from now on because of it."""
        self._n_failed += 1
        if trial:
            self._on_trial = False
        elif self._n_failed != self._opens_after:
            # Requests that were in flight when it opened say nothing new.
            return False
        rest = min(self._longest_rest, self._first_rest * 2.0 ** min(self._n_opened, 20))
        self._n_opened += 1
        self._rests_until = now + rest
        return True

    def abandoned(self, *, trial: bool) -> None:
        """Note that a request ended without telling anything of the endpoint."""
        if trial:
            self._on_trial = False
