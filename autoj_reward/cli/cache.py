# SPDX-License-Identifier: Apache-2.0
"""`cache`: inspect, verify, prune, export and merge the cache of judgments."""

from __future__ import annotations

import datetime
import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autoj_reward.cli.display import snippet, table_console
from autoj_reward.cli.options import (
    AsJson,
    Columns,
    FormatName,
    JudgeOptions,
    Quiet,
    key_values,
    with_options,
)
from autoj_reward.cli.shared.grammar import command, command_group
from autoj_reward.errors import ConfigError, DataError
from autoj_reward.json_text import json_text

if TYPE_CHECKING:
    from autoj_reward.cache.store import JudgmentStore
    from autoj_reward.cache.transfer import Moved

app = command_group("Look at, check, shrink and move the cache of judgments.")

CachePath = Annotated[
    Path | None,
    typer.Option(
        "--cache",
        metavar="FILE",
        help="The cache; by default $AUTOJ_REWARD_CACHE, or judgments.sqlite in the user's cache folder.",
        show_default=False,
    ),
]
_SIZES = {"": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
_AGES = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


@command(app, "stats")
def show_stats(cache: CachePath = None, as_json: AsJson = False) -> None:
    """Show what the cache holds, by engine."""
    from rich.filesize import decimal
    from rich.table import Table

    from autoj_reward.cache.maintenance import stats
    from autoj_reward.console import escape

    store = opened_cache(cache)
    found = stats(store)
    if as_json:
        typer.echo(json_text({"path": str(store.path), **asdict(found)}, indent=1))
        return
    console = table_console()
    table = Table(title=f"{escape(str(store.path))}: {decimal(found.file_bytes)}", title_justify="left")
    for name in ("engine", "model", "texts", "readings", "size", "oldest", "newest"):
        table.add_column(name, overflow="fold", justify="right" if name in ("texts", "readings") else "left")
    for engine in found.engines:
        table.add_row(
            escape(engine.fingerprint),
            escape("\n".join(engine.names)),
            f"{engine.n_texts:,}",
            f"{engine.n_readings:,}",
            decimal(engine.n_bytes),
            _day(engine.oldest),
            _day(engine.newest),
        )
    console.print(table)
    if found.n_leases:
        console.print(f"{found.n_leases:,} judgments are being made now")
    if found.network:
        console.print("on a network file system: kept with a rollback journal")


@command(app, "verify")
def check(
    cache: CachePath = None,
    drop: Annotated[bool, typer.Option(help="Remove what is damaged.")] = False,
    quiet: Quiet = False,
) -> None:
    """Check every stored judgment. Exit status 1 if one is damaged."""
    from autoj_reward.cache.maintenance import remove, verify
    from autoj_reward.console import escape

    store = opened_cache(cache)
    n, damaged = 0, []
    for damage in verify(store):
        n += 1
        if damage is not None:
            damaged.append(damage)
            _say(f"{damage.key.hex()}: {escape(damage.problem)}")
    removed = ", removed" if drop and damaged else ""
    _say(f"{n:,} judgments, {len(damaged):,} damaged{removed}", quiet=quiet)
    if damaged and drop:
        remove(store, [damage.key for damage in damaged])
    elif damaged:
        raise typer.Exit(1)


@command(app, "prune")
def shrink(
    cache: CachePath = None,
    older_than: Annotated[
        str | None, typer.Option(metavar="AGE", help="Remove what is older: 12h, 30d, 8w.")
    ] = None,
    max_size: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Remove the oldest until the rest holds at most this: 500MB, 2GB."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Only of this model: its name or (the beginning of) its fingerprint, as in `stats`. Alone: "
            "all of it.",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count what would be removed.")] = False,
    quiet: Quiet = False,
) -> None:
    """Remove judgments by age, size or model."""
    from rich.filesize import decimal

    from autoj_reward.cache.maintenance import prune

    n, n_bytes = prune(
        opened_cache(cache),
        older_than_seconds=None if older_than is None else _number(older_than, _AGES, "--older-than"),
        max_bytes=None if max_size is None else int(_number(max_size, _SIZES, "--max-size")),
        model=model,
        dry_run=dry_run,
    )
    _say(f"{n:,} judgments ({decimal(n_bytes)}) {'would go' if dry_run else 'removed'}", quiet=quiet)


@command(app, "export")
def export_judgments(
    target: Annotated[Path, typer.Argument(metavar="OUT.parquet", help="A new file.", show_default=False)],
    cache: CachePath = None,
    quiet: Quiet = False,
) -> None:
    """Write every judgment to a Parquet file, with texts, log-probabilities and keys, for `import`."""
    from autoj_reward.cache.transfer import export_parquet
    from autoj_reward.console import escape

    n = export_parquet(opened_cache(cache), target)
    _say(f"{n:,} judgments -> {escape(str(target))}", quiet=quiet)


@command(app, "import")
def import_judgments(
    source: Annotated[
        Path, typer.Argument(metavar="IN.parquet", help="What `export` wrote.", show_default=False)
    ],
    cache: CachePath = None,
    quiet: Quiet = False,
) -> None:
    """Add the judgments of an exported file. Existing judgments stay as they are."""
    from autoj_reward.cache.transfer import import_parquet

    _say_moved(import_parquet(opened_cache(cache, make=True), source), source, quiet=quiet)


@command(app, "merge")
def merge_caches(
    source: Annotated[
        Path, typer.Argument(metavar="OTHER.sqlite", help="The other cache.", show_default=False)
    ],
    cache: CachePath = None,
    quiet: Quiet = False,
) -> None:
    """Add the judgments of another cache; damaged ones are left out."""
    from autoj_reward.cache.transfer import merge

    _say_moved(merge(opened_cache(cache, make=True), source), source, quiet=quiet)


@command(app, "explain")
@with_options(JudgeOptions)
def explain_row(
    source: Annotated[str, typer.Argument(metavar="IN", help="Rows, as for rate and compare.")],
    row: Annotated[int, typer.Option(min=1, help="Which row, by its line.")] = 1,
    cache: CachePath = None,
    format_name: FormatName = None,
    column: Columns = None,
    fingerprint: Annotated[
        str | None, typer.Option(help="The engine's fingerprint, instead of asking the engine for it.")
    ] = None,
    *,
    judging: JudgeOptions,
) -> None:
    """Show whether the cache answers a row, and how its request differs from the nearest stored judgment."""
    from autoj_reward.cli.run import load_judge
    from autoj_reward.engines.explain import ExplainingEngine
    from autoj_reward.judge.judge import Judge
    from autoj_reward.rows.fields import find_format
    from autoj_reward.rows.source import DatasetRows, open_source
    from autoj_reward.rows.tasks import taken_fields

    store = opened_cache(cache)
    found = next((r for line, r in open_source(source).rows() if line == row), None)
    if found is None or isinstance(found, DataError):
        raise found or DataError(f"has no row {row}", path=source)
    columns = key_values(column, "--column")
    kind, fields = find_format(DatasetRows(source, [found]), ("compare", "rate"), format_name, columns)
    compares = kind == "compare"
    judge = load_judge(judging, {"cache": store})
    task = judge.spec.comparison if compares else judge.spec.rating
    requests = fields.requests(found, optional=taken_fields(judge.spec, task))
    engine = ExplainingEngine(store, fingerprint or judge.engine.fingerprint)
    asking = Judge(judge.spec, judge.settings, engine)
    (asking.compare_requests if compares else asking.rate_requests)(requests)
    judge.close()

    for one in engine.explanations:
        _say(
            f"[bold]{one.kind}[/bold] {one.key.hex()[:16]}: {'[green]hit' if one.hit else '[red]miss'}[/] "
            f"({one.n_same_text:,} stored judgments of the same text)"
        )
        for difference in one.differences:
            _say(f"  {difference.part}: here {_shown(difference.here)}, stored {_shown(difference.stored)}")


def opened_cache(path: Path | None, *, make: bool = False) -> JudgmentStore:
    """The cache; with `make` it is created if it does not exist.

    Raises:
        ConfigError: It does not exist.
        StoreError: It cannot be used.
    """
    from autoj_reward.cache.store import JudgmentStore, default_path

    where = path or default_path()
    if not make and not where.exists():
        raise ConfigError(
            f"there is no cache {where}", hint="--cache FILE, or $AUTOJ_REWARD_CACHE, names one"
        )
    return JudgmentStore(where)


def _say(line: str, *, quiet: bool = False) -> None:
    """Print a line without wrapping it."""
    if quiet:
        return
    table_console().print(line, soft_wrap=True)


def _say_moved(moved: Moved, source: Path, *, quiet: bool) -> None:
    from autoj_reward.console import escape

    damaged = f", {moved.n_damaged:,} damaged and left out" if moved.n_damaged else ""
    known = f"{moved.n_known:,} known before{damaged}"
    _say(f"{moved.n_new:,} new judgments from {escape(str(source))}, {known}", quiet=quiet)


def _number(text: str, units: dict[str, int], option: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]*)", text.strip().lower())
    if match is None or match[2] not in units:
        raise ConfigError(f"{option} {text!r} is not a number with one of {', '.join(filter(None, units))}")
    return float(match[1]) * units[match[2]]


def _day(seconds: int) -> str:
    return datetime.datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M")


def _shown(value: Any) -> str:
    from autoj_reward.console import escape

    return escape(snippet("nothing" if value is None else json_text(value, ensure_ascii=False), 100))
