# SPDX-License-Identifier: Apache-2.0
"""Options that several commands share: `Annotated` types, and dataclasses for `with_options`."""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from autoj_reward.cli.shared.budget import BudgetOptions
from autoj_reward.cli.shared.budget import LimitOptions as LimitOptions
from autoj_reward.cli.shared.criteria_options import CriteriaOptions as CriteriaOptions
from autoj_reward.cli.shared.dataclass_options import with_options as with_options
from autoj_reward.errors import ConfigError

if TYPE_CHECKING:
    from autoj_reward.rows.records import RunSettings


def in_panel(name: str) -> Callable[..., Any]:
    """`typer.Option` for the options that one panel of the help shows."""
    return functools.partial(typer.Option, rich_help_panel=name)


_judge_option, _reading_option = in_panel("Judge"), in_panel("Reading the verdict")
_files_option, _cache_option = in_panel("Rows and output"), in_panel("Cache")

_JUDGE_HELP = (
    "A preset (see `autoj-reward judges`), a .toml file, or any instruct model's folder or hub name."
)
JudgeName = Annotated[str, _judge_option(metavar="NAME", help=_JUDGE_HELP)]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON, with all figures.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no summary.")]
DataOption = Annotated[str | None, typer.Option("--data", hidden=True)]
"""The former name of an input that is now an argument."""
Limit = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="The first N rows only.", show_default=False)
]
AllowFailures = Annotated[
    bool,
    typer.Option(
        "--allow-failures",
        help="Exit with status 0 even if some judgments failed; otherwise with 3, after the result.",
    ),
]
FormatName = Annotated[str | None, typer.Option("--format", metavar="NAME", help="As for rate.")]
Columns = Annotated[list[str] | None, typer.Option(metavar="OURS=THEIRS", help="As for rate.")]


def _current_name(overlong: str) -> str:
    """Check the value of --overlong, and replace the old name `cut`."""
    if overlong in ("error", "truncate"):
        return overlong
    if overlong != "cut":
        raise typer.BadParameter(f"{overlong!r} is not one of 'error', 'truncate'.")
    from autoj_reward.cli.display import note

    note("--overlong cut is now --overlong truncate")
    return "truncate"


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeOptions:
    """The judge, its engine, and how verdicts are read."""

    judge: JudgeName = "mini"
    engine: Annotated[
        str | None,
        _judge_option(
            metavar="NAME",
            help="transformers, vllm, vllm-server (one vLLM for all processes of the machine), server:URL, "
            "decisions:URL, recorded:FILE; by default vllm if it is installed and a GPU is found, else "
            "transformers.",
        ),
    ] = None
    engine_option: Annotated[
        list[str] | None,
        _judge_option(
            metavar="KEY=VALUE", help="Passed to the engine (dtype=float32, device=cuda:1, ...). Repeatable."
        ),
    ] = None
    api_key_env: Annotated[
        str | None,
        _judge_option(
            metavar="NAME",
            help="Environment variable with the key for server:URL, sent to any address; by default "
            "$AUTOJ_REWARD_API_KEY, or $OPENAI_API_KEY to https and to this machine only.",
        ),
    ] = None
    mode: Annotated[
        Literal["direct", "critique"] | None,
        _reading_option(
            help="direct reads the verdict immediately; critique lets the judge write first. By default the "
            "judge's own mode.",
        ),
    ] = None
    samples: Annotated[
        int,
        _reading_option(
            min=1,
            metavar="K",
            help="Critiques of each input, averaged as distributions; needs --temperature.",
        ),
    ] = 1
    temperature: Annotated[float | None, _reading_option(min=0.0, help="Of critiques.")] = None
    max_new_tokens: Annotated[int | None, _reading_option(min=1, help="Most tokens of a critique.")] = None
    seed: Annotated[int | None, _reading_option(help="For sampled critiques.")] = None
    overlong: Annotated[
        str,
        _reading_option(
            metavar="error|truncate",
            callback=_current_name,
            help="An input over the judge's context fails (error), or loses the middle of its longest "
            "completion (truncate).",
        ),
    ] = "error"
    force_verdict: Annotated[
        bool,
        _reading_option(
            "--force-verdict",
            help="If a critique ends without a verdict, append the words that introduce one and read the "
            "verdict there; otherwise it is a failure.",
        ),
    ] = False
    check_critiques: Annotated[
        bool | None,
        _reading_option(
            "--check-critiques",
            help="Let the judge read each critique once more, without the completion, and count those that "
            "contradict their verdict.",
        ),
    ] = None
    guard: Annotated[
        bool | None,
        _reading_option(
            "--guard/--no-guard",
            help="Neutralise and flag attacks on the judge in completions (its delimiters, planted verdicts, "
            "invisible text), and score empty ones by rule. By default on for rerank, label and serve, off "
            "for rate and compare.",
        ),
    ] = None
    guard_option: Annotated[
        list[str] | None,
        _reading_option(
            metavar="KEY=VALUE",
            help="A setting of the guard: verdicts=false, empty=judge, penalty=0.2, ... Repeatable; turns "
            "the guard on.",
        ),
    ] = None
    reasoning: Annotated[
        Literal["strip", "strip_opened", "keep"],
        _reading_option(
            help="The reasoning of policies in completions. strip: hide a <think> block at the beginning and "
            "the reasoning field of messages from the judge; strip_opened: the same if the policy's chat "
            "template opens the block; keep: show all.",
        ),
    ] = "strip"

    def for_guard(self, *, default: bool) -> bool | dict[str, Any]:
        """The argument `guard` of `Judge.load`; `default` applies if no option is given.

        Raises:
            ConfigError: The guard is both configured and switched off.
        """
        parts = typed(key_values(self.guard_option, "--guard-option"))
        if parts and self.guard is False:
            raise ConfigError("--guard-option is given together with --no-guard")
        wanted = default if self.guard is None else self.guard
        return parts or wanted


@dataclass(frozen=True, slots=True, kw_only=True)
class RowOptions:
    """How rows are read and written."""

    format_name: Annotated[
        str | None,
        _files_option(
            "--format",
            metavar="NAME",
            help="The format of the rows, where the first ones do not tell: chosen-rejected, sharegpt, "
            "instruction-output, reward-bench, ... (all in docs/files.md).",
        ),
    ] = None
    column: Annotated[
        list[str] | None,
        _files_option(
            metavar="OURS=THEIRS",
            help="Where a file's field has another name: --column prompt=question. Repeatable.",
        ),
    ] = None
    split: Annotated[str, _files_option(help="Split of a data set.")] = "train"
    limit: Annotated[
        int | None, _files_option(min=1, metavar="N", help="The first N rows only.", show_default=False)
    ] = None
    push_to_hub: Annotated[
        str | None,
        _files_option(
            metavar="ORG/NAME",
            help="Also put the finished output on the hub, as this data set; a new one is private. Needs "
            "HF_TOKEN.",
        ),
    ] = None
    skip_bad: Annotated[
        bool,
        _files_option(
            help="Write rows that cannot be read to OUT.bad.jsonl and continue; otherwise they stop "
            "the run before it begins."
        ),
    ] = False
    overwrite: Annotated[
        bool, _files_option(help="Start again; otherwise an interrupted output is continued.")
    ] = False
    retry_failed: Annotated[
        bool,
        _files_option(
            help="Judge the failed rows of a finished output again, without the cache, and keep the others."
        ),
    ] = False
    allow_failures: Annotated[
        bool,
        _files_option(
            "--allow-failures",
            help="Exit with status 0 even if rows failed or were left out; otherwise with 3.",
        ),
    ] = False
    max_failures: Annotated[
        float,
        _files_option(
            min=0.0,
            max=1.0,
            metavar="SHARE",
            help="Stop when more than this share of judgments has failed (from 64 judgments on).",
        ),
    ] = 0.9
    chunk: Annotated[
        int | None,
        _files_option(
            min=1,
            metavar="N",
            help="Number of judgments made, and then written, at a time: 64 on transformers, else 1,024.",
        ),
    ] = None
    spending: BudgetOptions = BudgetOptions()
    dry_run: Annotated[
        bool,
        _files_option(
            "--dry-run",
            help="Check the rows, print what would be run and what it needs, and stop: nothing is loaded, "
            "downloaded or written.",
        ),
    ] = False
    quiet: Annotated[bool, _files_option("--quiet", "-q", help="No progress and no tables.")] = False

    def for_run(self, *, default_chunk: int) -> RunSettings:
        """The settings of a row run."""
        from autoj_reward.rows.records import RunSettings

        return RunSettings(
            split=self.split,
            skip_bad=self.skip_bad,
            overwrite=self.overwrite,
            max_failures=self.max_failures,
            chunk_requests=self.chunk or default_chunk,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheOptions:
    """The cache of the engine's answers."""

    cache: Annotated[
        Path | None,
        _cache_option(
            metavar="FILE",
            help="File of the cache; by default $AUTOJ_REWARD_CACHE, or judgments.sqlite in the user's cache "
            "folder.",
        ),
    ] = None
    no_cache: Annotated[
        bool,
        _cache_option(
            "--no-cache",
            envvar="AUTOJ_REWARD_NO_CACHE",
            help="Ask the engine for everything, and store nothing.",
        ),
    ] = False
    refresh: Annotated[
        bool,
        _cache_option(
            "--refresh",
            help="Ask the engine for everything, and replace stored answers.",
        ),
    ] = False

    def for_judge(self, *, again: bool = False) -> dict[str, Any]:
        """Keyword arguments of `Judge.load`; with `again` stored answers are not used.

        Raises:
            ConfigError: The options exclude each other.
        """
        if self.no_cache:
            if self.refresh or self.cache is not None:
                raise ConfigError("--no-cache is given together with --cache or --refresh")
            return {}
        return {"cache": self.cache or True, "refresh": self.refresh or again}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """All options of a command that judges rows."""

    judging: JudgeOptions
    criteria: CriteriaOptions
    caching: CacheOptions
    rows: RowOptions

    def for_cache(self) -> dict[str, Any]:
        """Keyword arguments of `Judge.load` about the cache, which --retry-failed does not read.

        Raises:
            ConfigError: The options exclude each other.
        """
        return self.caching.for_judge(again=self.rows.retry_failed)


def one_input(argument: str | None, option: str | None) -> str:
    """The input, given as the argument or with its former option.

    Raises:
        typer.BadParameter: It is missing, or given twice.
    """
    if (argument is None) == (option is None):
        raise typer.BadParameter("the input is missing" if option is None else "the input is given twice")
    return str(argument or option)


def key_values(pairs: Sequence[str] | None, option: str) -> dict[str, str]:
    """`KEY=VALUE` texts as a dictionary.

    Raises:
        ConfigError: One has no `=`.
    """
    split = [pair.partition("=") for pair in pairs or ()]
    if wrong := [key for key, equals, _ in split if not equals or not key]:
        raise ConfigError(f"{option} {wrong[0]!r} is not KEY=VALUE")
    return {key: value for key, _, value in split}


def typed(values: dict[str, str]) -> dict[str, Any]:
    """Values as TOML reads them (numbers, true, lists); anything else is text."""
    result: dict[str, Any] = {}
    for key, value in values.items():
        try:
            result[key.replace("-", "_")] = tomllib.loads(f"value = {value}")["value"]
        except (ValueError, RecursionError):
            result[key.replace("-", "_")] = value
    return result
