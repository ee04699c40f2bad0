# SPDX-License-Identifier: Apache-2.0
"""The retry policy: which failures to retry, how long to wait, and when to stop using an endpoint.

`transport.py` applies it.
"""

from __future__ import annotations

import email.utils
import math
import random
from dataclasses import dataclass
from typing import Literal

from autoj_reward.errors import ConfigError

StatusClass = Literal["answered", "busy", "again", "refused", "rejected"]
"""answered: read the body; busy: retry without counting an attempt; again: retry; refused: this request
fails for good; rejected: every request would fail."""

_BUSY = frozenset({408, 425, 429})
_FOR_ALL = frozenset({401, 402, 403, 404, 405, 410, 501, 505})


def status_class(status: int, *, asks_to_wait: bool = False) -> StatusClass:
    """What an HTTP status means for a request; `asks_to_wait`: the response has a `Retry-After`."""
    if 200 <= status < 300:
        return "answered"
    if status in _BUSY or (status == 503 and asks_to_wait):
        return "busy"
    if status in _FOR_ALL or status < 400:
        return "rejected"
    return "refused" if status < 500 else "again"


def retry_after_seconds(header: str | None, now: float) -> float | None:
    """Seconds that a `Retry-After` header asks for, at least 0; None if it cannot be read.

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
    """How often and how long one request is retried.

    Attributes:
        attempts: Most failed attempts, at least 1. Waiting for a busy endpoint does not count.
        timeout_seconds: Most seconds of one attempt, from connecting to the body's last byte.
        retry_seconds: Most seconds of one request with all its attempts and waits.
        first_wait_seconds: Upper bound of the first wait.
        longest_wait_seconds: Upper bound of every later wait.

    Raises:
        ConfigError: A number is out of range.
    """

    attempts: int = 8
    timeout_seconds: float = 120.0
    retry_seconds: float = 600.0
    first_wait_seconds: float = 0.25
    longest_wait_seconds: float = 20.0

    def __post_init__(self) -> None:
        times = {"timeout_seconds": self.timeout_seconds, "retry_seconds": self.retry_seconds}
        if self.attempts < 1:
            raise ConfigError(f"attempts must be at least 1, not {self.attempts}")
        for name, seconds in times.items():
            if not (seconds > 0 and math.isfinite(seconds)):
                raise ConfigError(f"{name} must be a finite number above 0, not {seconds}")

    def wait_seconds(self, n_failed: int) -> float:
        """A random wait after `n_failed` failures: exponential, with full jitter."""
        top = min(self.longest_wait_seconds, self.first_wait_seconds * 2.0 ** min(n_failed - 1, 30))
        return random.uniform(0.0, top)


class CircuitBreaker:
    """Stop using an endpoint after repeated failures; after a rest, try it with a single request.

    Times are seconds of one monotonic clock.

    Args:
        opens_after: Consecutive failures after which the endpoint rests.
        first_rest_seconds: Length of the first rest; doubled each time the trial request fails.
        longest_rest_seconds: Upper bound of a rest.
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
        """Seconds until the endpoint may be used, 0 for now; None while a trial request is in flight."""
        if not self.is_open:
            return 0.0
        return None if self._on_trial else max(0.0, self._rests_until - now)

    def begin(self) -> bool:
        """Record the start of a request; returns whether it is the trial of an open breaker."""
        if not self.is_open:
            return False
        self._on_trial = True
        return True

    def succeeded(self) -> None:
        self._n_failed = self._n_opened = 0
        self._on_trial = False

    def failed(self, now: float, *, trial: bool) -> bool:
        """Record a failure; returns whether it starts a rest."""
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
        """Record a request that ended without success or failure, such as a cancelled one."""
        if trial:
            self._on_trial = False
