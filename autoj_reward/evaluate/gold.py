# SPDX-License-Identifier: Apache-2.0
"""Read groups of completions with known quality: Auto-J's selection format and public sets.

Auto-J's `testdata_selection.jsonl` holds rows {"scenario", "prompt", "outputs": {MODEL: {"outputs": [...]}}}
without labels, so that only a judge's picks, calls and ties can be reported on it. With "outputs" a model may
have "gold" (a number for each output, more is better), "logprobs" (the policy's, summed over the output) and
"systems" (which model wrote it).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoj_reward.judge.messages.text import completion_text, prompt_text
from autoj_reward.ranking.tiebreak import distinct_completions
from autoj_reward.rows.fields import RowProblem
from autoj_reward.rows.labels import gold_of, read_labelled
from autoj_reward.rows.source import read_rows
from autoj_reward.types import Request

_CALCULATOR = re.compile(r"<<[^<>\n]*+>>")


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldGroup:
    """A prompt and its G completions with their gold values.

    Attributes:
        prompt: The prompt.
        completions: G completions.
        gold: G values, more is better, or None if unknown.
        systems: G names of the models that wrote them, or None.
        logprobs: G log-probabilities under the policy, or None.
    """

    prompt: str
    completions: tuple[str, ...]
    gold: tuple[float, ...] | None = None
    systems: tuple[str, ...] | None = None
    logprobs: tuple[float, ...] | None = None

    @property
    def members(self) -> tuple[tuple[int, ...], ...]:
        """The indices of each distinct completion, ascending, in the order of their tie-break hashes."""
        return distinct_completions(self.prompt, self.completions).members

    def requests(self) -> list[Request]:
        """One rating request for each distinct completion, in that order."""
        return [Request(prompt=self.prompt, completions=(self.completions[m[0]],)) for m in self.members]

    def seed(self, part: tuple[int, ...]) -> int:
        """The tie-break seed for some of the members."""
        members = self.members
        return distinct_completions(self.prompt, [self.completions[members[i][0]] for i in part]).seed


def read_selection(
    path: str | Path, *, format_name: str | None = None, columns: Mapping[str, str] | None = None
) -> Iterator[GoldGroup]:
    """Groups of a file of any known format (see docs/files.md), with gold where the rows have it.

    Auto-J's selection format gives a group for each prompt and model. Other groups have gold in `gold`,
    `ratings`, `scores` or `labels`; a pair that people decided is a group of two with gold 1 and 0.

    Args:
        path: As for `open_source`.
        format_name: The format; None recognises it by the first rows.
        columns: Our field names to the file's: `prompt`, `completions`, `gold`; `first`, `second`, `label`.

    Raises:
        ConfigError: The file does not exist, or has a format without groups.
        DataError: A row is wrong; names file, line and field.
    """
    read = read_labelled(path, format_name=format_name, columns=columns)
    auto_j = read.format.name == "autoj-selection"
    for one in read.rows:
        n = len(one.parts.completions)
        try:
            yield GoldGroup(
                prompt=prompt_text(one.parts.prompt),
                completions=tuple(completion_text(text, "keep") for text in one.parts.completions),
                gold=_beside(one.row, "gold", n, float) if auto_j else gold_of(one.parts),
                systems=_beside(one.row, "systems", n, str),
                logprobs=_beside(one.row, "logprobs", n, float),
            )
        except RowProblem as problem:
            raise problem.at(path, one.line) from problem


def _beside(made: dict[str, Any], name: str, n: int, kind: Callable[[Any], Any]) -> tuple[Any, ...] | None:
    values = made.get(name)
    if values is None:
        return None
    if not isinstance(values, list) or len(values) != n:
        raise RowProblem(f"must be a list of {n}, one for each output", f"outputs.*.{name}")
    try:
        found = tuple(kind(v) for v in values)
    except (TypeError, ValueError) as error:
        raise RowProblem(f"must hold values of type {kind.__name__}: {error}", f"outputs.*.{name}") from error
    if not all(math.isfinite(v) for v in found if isinstance(v, float)):
        raise RowProblem("must hold finite numbers only", f"outputs.*.{name}")
    return found


def read_truthfulqa(folder: Path) -> Iterator[GoldGroup]:
    """Model answers; gold is 1 for truthful and informative by people, else 0. All have labels."""
    for _, row in read_rows(folder / "truthfulqa_bon" / "truthfulqa_bon.jsonl"):
        kept = [c for c in row["candidates"] if not c["is_reference_answer"] and c["informative"] is not None]
        if kept:
            yield GoldGroup(
                prompt=row["question"],
                completions=tuple(c["text"] for c in kept),
                gold=tuple(float(c["truthful"] and c["informative"]) for c in kept),
            )


def read_summeval(folder: Path) -> Iterator[GoldGroup]:
    """Summaries; gold is the mean of four dimensions by three experts, 1 to 5."""
    for _, row in read_rows(folder / "bartscore_summeval" / "summeval_bon.jsonl"):
        candidates = row["candidates"]
        yield GoldGroup(
            prompt=f"Summarize the following article:\n\n{row['source']}",
            completions=tuple(c["text"] for c in candidates),
            gold=tuple(sum(c["human"].values()) / len(c["human"]) for c in candidates),
            systems=tuple(c["system"] for c in candidates),
        )


def read_humaneval(folder: Path) -> Iterator[GoldGroup]:
    """Samples of one model; gold is 1 where the unit tests pass. The first 32 of 100."""
    for _, row in read_rows(folder / "humaneval_codegen16b" / "humaneval_codegen16b_bon100.jsonl"):
        yield GoldGroup(
            prompt=f"Complete this Python function:\n\n{row['prompt']}",
            completions=tuple(row["completions"][:32]),
            gold=tuple(float(passed) for passed in row["passed"][:32]),
        )


def read_gsm8k(folder: Path) -> Iterator[GoldGroup]:
    """Four solvers' solutions, the calculator's marks hidden; gold is 1 where the answer is right."""
    solvers = ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification")
    for _, row in read_rows(folder / "gsm8k_solutions" / "example_model_solutions.jsonl"):
        yield GoldGroup(
            prompt=row["question"],
            completions=tuple(_CALCULATOR.sub("", row[s]["solution"]) for s in solvers),
            gold=tuple(float(row[s]["is_correct"]) for s in solvers),
            systems=solvers,
        )


def read_alpacaeval(folder: Path) -> Iterator[GoldGroup]:
    """Answers of 32 models; gold is an AI label: GPT-4-turbo's P(one beats gpt4_1106_preview)."""
    for _, row in read_rows(folder / "alpaca_eval_bon32" / "alpaca_eval_bon32.jsonl.gz"):
        candidates = row["candidates"]
        yield GoldGroup(
            prompt=row["instruction"],
            completions=tuple(c["text"] for c in candidates),
            gold=tuple(float(c["gpt4_turbo_pref"]) for c in candidates),
            systems=tuple(c["model"] for c in candidates),
        )


READERS: dict[str, Callable[[Path], Iterator[GoldGroup]]] = {
    "truthfulqa": read_truthfulqa,
    "summeval": read_summeval,
    "humaneval": read_humaneval,
    "gsm8k": read_gsm8k,
    "alpacaeval": read_alpacaeval,
}
"""Sets by name; each reads its part of the data folder."""
