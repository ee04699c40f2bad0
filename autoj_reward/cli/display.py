# SPDX-License-Identifier: Apache-2.0
"""Terminal output: notes and summaries on stderr, tables on stdout."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from autoj_reward.progress import span
from autoj_reward.redact import redact
from autoj_reward.terminal import printable
from autoj_reward.types import FailureReason

if TYPE_CHECKING:
    from autoj_reward.console import Console
    from autoj_reward.errors import DataError
    from autoj_reward.evaluate.report import ReportTable
    from autoj_reward.rows.fields import RowFormat
    from autoj_reward.rows.preferences import LabelSummary
    from autoj_reward.rows.records import RowItem, RowResult, Summary

_SNIPPET_CHARS = 70
_BAR_CHARS = 40
_MOST_PROBLEMS = 200
_MOST_VERDICTS = 12


def note(text: str) -> None:
    """One line on standard error."""
    print(f"note: {printable(redact(text))}", file=sys.stderr)  # noqa: T201 - this is the display


def note_format(name: str, found: RowFormat) -> None:
    """Say which published format the rows of an input are read as, if they have one."""
    if found.name is not None:
        note(f"{name} is read as {found.about} (--format {found.name})")


def table_console(*, to_stderr: bool = False) -> Console:
    """A console for tables: 120 columns wide without a terminal."""
    from autoj_reward.console import Console

    console = Console(stderr=to_stderr)
    return console if console.is_terminal else Console(stderr=to_stderr, width=120)


def print_tables(tables: Sequence[ReportTable], *, markdown: bool = False) -> None:
    """A report's tables on standard output, drawn or as Markdown."""
    if markdown:
        from autoj_reward.evaluate.report import as_markdown

        print(printable(as_markdown(tables)), end="")  # noqa: T201 - this is the display
        return
    from rich.table import Table

    from autoj_reward.console import escape

    console = table_console()
    for given in tables:
        table = Table(title=given.title, title_justify="left", title_style="bold")
        for n, name in enumerate(given.columns):
            table.add_column(escape(name), justify="right" if n else "left", no_wrap=True)
        for section in given.sections:
            for row in section:
                table.add_row(*map(escape, row))
            table.add_section()
        console.print(table)
        for line in given.notes:
            console.print(escape(line))


def print_problems(problems: Sequence[DataError]) -> None:
    """Print bad rows, with line and field, up to a limit."""
    for problem in problems[:_MOST_PROBLEMS]:
        print(problem, file=sys.stderr)  # noqa: T201 - this is the display
    if len(problems) > _MOST_PROBLEMS:
        note(f"{len(problems) - _MOST_PROBLEMS:,} further rows are wrong")


def print_summary(
    label: str, summary: Summary, target: str, *, overlong: str, n_left_out: int = 0, next_step: str = ""
) -> None:
    """Print the totals of a run.

    Args:
        label: The command.
        summary: The totals.
        target: The output.
        overlong: The judge's setting, for the advice about inputs that are too long.
        n_left_out: Rows that could not be read.
        next_step: What to do with the output.
    """
    spent, usage = summary.spending, summary.usage
    judging = summary.seconds - summary.loading_seconds
    loading = f" ({span(summary.loading_seconds)} of it loading)" if summary.loading_seconds >= 0.1 else ""
    head = f"{label}: {summary.n_judgments:,} judgments in {span(summary.seconds)}{loading}"
    if judging > 0 and summary.n_judgments:
        head += f", {summary.n_judgments / judging:.1f}/s"
    failed = ""
    if summary.failures:
        failed = f"{summary.failures.total():,} without a verdict: {summary.reasons}"
        if FailureReason.TOO_LONG in summary.failures:
            shorten = overlong == "error"
            how = "--overlong truncate shortens those" if shorten else "even with completions truncated"
            failed += f" ({how})"
    others = {
        "critiques": summary.n_explanations,
        "inputs truncated to fit": summary.n_cut,
        "forced after a critique without a verdict": summary.n_forced,
        "critiques that contradict their verdict": summary.n_contradicted,
        "rows left out": n_left_out,
    }
    facts = {
        "verdicts": ", ".join(f"{n:,} x {name}" for name, n in summary.verdicts.most_common(_MOST_VERDICTS)),
        "mean": ", ".join(f"{name} {mean:.3f}" for name, mean in summary.means().items()),
        "failed": failed,
        "also": ", ".join(f"{n:,} {name}" for name, n in others.items() if n),
        "tokens": f"{usage.prompt_tokens:,} in prompts ({usage.cached_tokens:,} of them shared), "
        f"{usage.completion_tokens:,} written",
        "cache": ""
        if spent is None
        else f"{spent.n_cached:,} answers from the cache, {spent.n_asked:,} from the engine"
        + (
            " (a critique takes up to two: its text, and the reading of its verdict)"
            if summary.n_explanations
            else ""
        ),
        "output": "" if target == "-" else target,
        "next": next_step,
    }
    print_facts(head, facts)


def print_facts(head: str, facts: Mapping[str, str]) -> None:
    """Print the last lines of a command: a head, and a line for each fact that is not empty."""
    lines = [head, *(f"  {name:<10}{text}" for name, text in facts.items() if text)]
    print(printable("\n".join(lines)), file=sys.stderr)  # noqa: T201 - this is the display


def print_group(item: RowItem, finished: RowResult, *, to_stderr: bool) -> None:
    """Print a group's ranking as a table, its best completion whole, and the critiques of best and worst."""
    from rich.table import Table

    from autoj_reward.console import escape
    from autoj_reward.judge.messages.text import completion_text, prompt_text
    from autoj_reward.ranking.tables import RANKING_COLUMNS, another_rating

    console = table_console(to_stderr=to_stderr)
    added = finished.added
    ranking: list[dict[str, Any]] = added["ranking"]
    prompt = snippet(prompt_text(item.requests[0].prompt), 100)
    texts = [snippet(completion_text(r.completions[0]), _SNIPPET_CHARS) for r in item.requests]
    table = Table(title=f"line {item.line}: {escape(prompt)}", title_justify="left", title_style="bold")
    for name in RANKING_COLUMNS:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("completion", overflow="ellipsis", no_wrap=True)
    for place, entry in enumerate(ranking, start=1):
        failure = entry["failure"]
        table.add_row(
            "-" if entry["reward"] is None else str(place),
            str(entry["index"]),
            "-" if entry["reward"] is None else f"{entry['reward']:.3f}",
            "-" if entry["low"] is None else f"{entry['low']:.3g} to {entry['high']:.3g}",
            "-" if entry["rating"] is None else f"{entry['rating']:g}",
            f"[red]{failure['reason']}[/red]" if failure else escape(texts[entry["index"]]),
        )
    console.print(table)
    spent = f"{added['strategy']}: {added['n_calls']:,} judge calls, {added['n_tokens']:,} tokens"
    if (sure := ranking[0]["best_prob"]) is not None:
        spent += f"; the first is the best for this judge with probability {sure:.2f}"
    if added["cycles"]:
        circles = "; ".join(", ".join(map(str, cycle)) for cycle in added["cycles"])
        spent += f"; beat each other in a circle: {circles}"
    if finished.explanations:
        spent += f"; {len(finished.explanations):,} critiques, written afterwards"
    console.print(spent, soft_wrap=True)
    readable = [entry for entry in ranking if entry["failure"] is None]
    ends = [("best", readable[0])] if readable else []
    ends += [("worst", readable[-1])] if len(readable) > 1 else []
    for name, entry in ends:
        if name == "best":
            whole = completion_text(item.requests[entry["index"]].completions[0])
            console.print(f"[bold]best completion[/bold], index {entry['index']}:\n{escape(whole.strip())}\n")
        if entry["critique"]:
            console.print(
                f"[bold]critique of the {name}[/bold], index {entry['index']}{another_rating(entry)}: "
                f"{escape(entry['critique'].strip())}\n"
            )


def print_labels(labels: LabelSummary) -> None:
    """Print what labelling kept and dropped, with a histogram of margins."""
    from autoj_reward.console import Console

    console = Console(stderr=True)
    kept = f"{labels.n_rows:,} rows of data from {labels.n_groups:,} prompts"
    named = {"tie": "tie (closer than the judge's resolution)"}
    reasons = (f"{n:,} {named.get(reason, reason)}" for reason, n in labels.dropped.most_common())
    dropped = ", ".join(reasons) or "none"
    console.print(f"{kept}; pairs dropped: {dropped}", soft_wrap=True)
    record = labels.as_record()
    for name in ("chosen", "rejected"):
        if (chars := record[f"mean_{name}_chars"]) is not None:
            console.print(f"{name}: {chars:,.0f} characters on average", soft_wrap=True)
    bins = labels.histogram()
    most = max((n for _, _, n in bins), default=0)
    for low, high, n in bins:
        bar = "#" * round(_BAR_CHARS * n / most)
        console.print(f"margin {low:7.3f} to {high:7.3f}  {n:7,}  {bar}", soft_wrap=True)


def snippet(text: str, n_chars: int) -> str:
    """The beginning of a prompt or completion on one line, without control characters."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * n_chars]).split())
    return line if len(line) <= n_chars else line[: n_chars - 1] + "…"
