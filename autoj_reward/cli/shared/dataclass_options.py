# SPDX-License-Identifier: Apache-2.0
"""Dataclasses as options of a command.

Typer reads a command's options from its signature. `with_options` adds the fields of a dataclass to it, so
that twenty options are written once and reach the command as one object.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, get_type_hints


def with_options(*kinds: type) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add the fields of dataclasses to a command as options; a field may be such a dataclass itself.

    The command's last parameters, one for each dataclass in the same order, receive the objects.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = list(inspect.signature(command, eval_str=True).parameters.values())
        own, receivers = own[: -len(kinds)], own[-len(kinds) :]
        parameters = own + [p for kind in kinds for p in _parameters(kind)]

        @functools.wraps(command)
        def call(**given: Any) -> None:
            made = {r.name: _made(kind, given) for kind, r in zip(kinds, receivers, strict=True)}
            command(**given, **made)

        call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        call.__annotations__ = {p.name: p.annotation for p in parameters}
        return call

    return decorate


def _made(kind: type, given: dict[str, Any]) -> Any:
    """Build an options object, removing its values from those given."""
    hints = get_type_hints(kind)
    return kind(
        **{
            f.name: _made(hints[f.name], given) if is_dataclass(hints[f.name]) else given.pop(f.name)
            for f in fields(kind)
        }
    )


def _parameters(kind: type) -> Iterator[inspect.Parameter]:
    hints = get_type_hints(kind, include_extras=True)
    for f in fields(kind):
        if is_dataclass(hints[f.name]):
            yield from _parameters(hints[f.name])
        else:
            yield inspect.Parameter(
                f.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=inspect.Parameter.empty if f.default is MISSING else f.default,
                annotation=hints[f.name],
            )
