# SPDX-License-Identifier: Apache-2.0
"""What all commands have in common: plain help by panels, and `--config FILE.toml` for their options."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from typer.core import TyperCommand

from autoj_reward.errors import ConfigError

T = TypeVar("T", bound=Callable[..., None])


def _read_config(context: typer.Context, path: Path | None) -> Path | None:
    """Make the file's values the defaults of the command's options."""
    if path is None:
        return None
    from autoj_reward.toml_file import read_toml

    names = {
        option.lstrip("-").replace("-", "_"): parameter
        for parameter in context.command.params
        if parameter.param_type_name == "option" and not parameter.is_eager
        for option in parameter.opts
    }
    values: dict[str, Any] = {}
    for key, value in read_toml(path).items():
        if (parameter := names.get(key.replace("-", "_"))) is None:
            near = difflib.get_close_matches(key.replace("-", "_"), names, n=1)
            raise ConfigError(
                f"{path}: `{context.command.name}` has no option {key!r}",
                hint=f"did you mean {near[0]!r}?" if near else f"it has {', '.join(sorted(names))}",
            )
        if isinstance(value, dict) or (isinstance(value, list) and not parameter.multiple):
            raise ConfigError(f"{path}: {key!r} takes one value, not {value!r}")
        values[parameter.name] = [value] if parameter.multiple and not isinstance(value, list) else value
    context.default_map = {**(context.default_map or {}), **values}
    return path


ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE.toml",
        help='Options of this command, one a line: `judge = "mini"`. The command line comes first.',
        is_eager=True,
        callback=_read_config,
        show_default=False,
    ),
]


class Command(TyperCommand):
    """A command whose help groups its options by panel, as plain text."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the command line; Typer's validator begins its messages with words about itself."""
        try:
            return super().parse_args(ctx, args)
        except typer.BadParameter as error:
            error.message = error.message.removeprefix("Value error, ")
            raise

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments, options and then the panels of options."""
        panels: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            if (record := parameter.get_help_record(ctx)) is not None:
                named = getattr(parameter, "rich_help_panel", None)
                default = "Arguments" if parameter.param_type_name == "argument" else "Options"
                panels.setdefault(named or default, []).append(record)
        for title, records in panels.items():
            with formatter.section(title):
                formatter.write_dl(records)


def command_group(text: str, **further: Any) -> typer.Typer:
    """A group of commands, with plain help: `text`, or that of its callback."""
    settings = {"no_args_is_help": True, **({"help": text} if text else {}), **further}
    return typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, **settings)


def command(group: typer.Typer, name: str | None = None) -> Callable[[T], T]:
    """Add a function to a group as a command, with the option `--config`."""

    def add(function: T) -> T:
        group.command(name=name, cls=Command)(_with_config(function))
        return function

    return add


def _with_config(command: Callable[..., None]) -> Callable[..., None]:
    signature = inspect.signature(command, eval_str=True)
    added = inspect.Parameter(
        "config_file", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=ConfigFile
    )

    @functools.wraps(command)
    def call(*, config_file: Path | None, **given: Any) -> None:
        command(**given)

    parameters = [*signature.parameters.values(), added]
    call.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {p.name: p.annotation for p in parameters}
    return call
