# SPDX-License-Identifier: Apache-2.0
"""The exceptions of this package, as one tree.

::

    AutojRewardError
    ├── ConfigError (ValueError)    wrong settings; raised while constructing, never mid-run
    ├── TemplateError (ValueError)  fields missing or unknown; lists all of them at once
    ├── EngineError                 a whole call failed; has .retryable and .hint
    │   ├── EngineUnavailable       unreachable, overloaded, timed out: retried, then raised
    │   ├── EngineRejected          bad request, unknown model, no permission: final
    │   │   └── EngineChanged       another model answers than the one that was asked first: final
    │   └── EngineContractBroken    wrong count or shape came back: final
    ├── DataError (ValueError)      a file's row is wrong: names file, line and field
    ├── StoreError                  cache file corrupt, or from a newer version
    ├── TooManyFailures             the share of failed judgments passed the limit
    └── BudgetSpent                 the budget of tokens, seconds or money is spent

An output without a verdict is not an error but a `Failure` of its judgment. Control characters in error
messages are escaped, so they can be printed.
"""

from __future__ import annotations

from collections.abc import Sequence

from autoj_reward.terminal import printable


class AutojRewardError(Exception):
    """Base of all errors of this package.

    Args:
        message: What is wrong, and where.
        hint: What to do; may be empty.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    def __str__(self) -> str:
        message = super().__str__()
        return printable(f"{message}\n  hint: {self.hint}" if self.hint else message)


class ConfigError(AutojRewardError, ValueError):
    """A setting is wrong; raised by constructors, before any work."""


class TemplateError(AutojRewardError, ValueError):
    """A template's fields and the values given for them do not match.

    Args:
        message: Names the template.
        missing: Fields that the template needs and that were not given.
        unknown: Fields that were given or used and do not exist.
    """

    def __init__(
        self,
        message: str,
        *,
        missing: Sequence[str] = (),
        unknown: Sequence[str] = (),
        hint: str = "",
    ) -> None:
        parts = [message]
        if missing:
            parts.append("missing: " + ", ".join(missing))
        if unknown:
            parts.append("unknown: " + ", ".join(unknown))
        super().__init__("; ".join(parts), hint=hint)
        self.missing = tuple(missing)
        self.unknown = tuple(unknown)


class EngineError(AutojRewardError):
    """A whole engine call failed. A single output without a verdict is a `Failure` instead."""

    retryable = False


class EngineUnavailable(EngineError):
    """The engine is unreachable, overloaded or timed out; trying again may help."""

    retryable = True


class EngineRejected(EngineError):
    """The engine refused: bad request, unknown model, no permission. Final."""


class EngineChanged(EngineRejected):
    """Another model answers than the first one, or than the requested one. Final.

    No answer of that call is kept.
    """


class EngineContractBroken(EngineError):
    """The engine answered with a wrong count or shape. Final."""


class DataError(AutojRewardError, ValueError):
    """A row of a file is wrong.

    Args:
        message: What is wrong.
        path: The file, as the user named it.
        line: 1-based line (JSON lines) or row (Parquet), or None for the whole file.
        field: The wrong field, or None.
    """

    def __init__(
        self,
        message: str,
        *,
        path: str = "",
        line: int | None = None,
        field: str | None = None,
        hint: str = "",
    ) -> None:
        where = path if line is None else f"{path}:{line}"
        if field is not None:
            where += f": field {field!r}"
        super().__init__(f"{where}: {message}" if where else message, hint=hint)
        self.path = path
        self.line = line
        self.field = field


class StoreError(AutojRewardError):
    """The cache file cannot be used: corrupt, full, read-only, or from a newer version."""


class TooManyFailures(AutojRewardError):
    """The share of failed judgments passed the limit, so the run stopped."""


class BudgetSpent(AutojRewardError):
    """The budget of tokens, seconds or money is spent; what was judged before is kept."""
