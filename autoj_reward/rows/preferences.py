# SPDX-License-Identifier: Apache-2.0
"""Write preference data in the columns that TRL's trainers read.

dpo  prompt, chosen, rejected, and `margin`, which RewardTrainer reads; a row for each pair
kto  prompt, completion, label; a row for each completion of a kept pair, chosen ones true

The layout is standard (texts, reasoning and tool calls included) or conversational (messages, see
`trainer_messages`) for the whole file.
Further columns are a soft label (`win_prob`), the rewards, the critiques and distributions, and `source`.
Every column holds one type in all rows of a run. Lone surrogates become U+FFFD.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from autoj_reward.errors import ConfigError
from autoj_reward.judge.judge import Judge
from autoj_reward.judge.messages.text import completion_text, prompt_text
from autoj_reward.judgments import Judgment, RatingJudgment
from autoj_reward.ranking.label import label_compared, label_requests
from autoj_reward.ranking.pair_rules import LabelledGroup, LabelSettings, PreferencePair
from autoj_reward.ranking.strategies import Pointwise, Strategy
from autoj_reward.rows.check import check_rows, good_rows, item_of
from autoj_reward.rows.fields import RowFormat, row_format
from autoj_reward.rows.parquet import storable
from autoj_reward.rows.records import RowItem, RowResult, RowTask
from autoj_reward.rows.source import DatasetRows, Row, chunked
from autoj_reward.rows.tasks import compare_task, group_task
from autoj_reward.rows.trainer_messages import trainer_messages
from autoj_reward.types import Request, Text

Kind = Literal["dpo", "kto"]
Layout = Literal["standard", "conversational"]

_BINS = 10


def label_task(
    judge: Judge,
    row_format: RowFormat,
    *,
    layout: Layout,
    kind: Kind = "dpo",
    strategy: Strategy | None = None,
    settings: LabelSettings | None = None,
    margin_scale: float = 1.0,
) -> RowTask:
    """Make preference data of each row: of a group of completions, or of two.

    What is added to a row is `rows`, the data, and `dropped`, how many pairs were not kept by reason.

    Args:
        judge: Judges.
        row_format: Where rows keep prompt and completions; grouped or of two.
        layout: Of prompts and completions in the data.
        kind: Whose columns.
        strategy: How groups are ranked; None rates each once.
        settings: Which pairs.
        margin_scale: What margins are multiplied by in the data.

    Raises:
        ConfigError: The judge cannot answer what is asked.
    """
    settings, strategy = settings or LabelSettings(), strategy or Pointwise()

    def judged(items: Sequence[RowItem]) -> list[RowResult]:
        groups = [item.requests for item in items]
        if row_format.grouped:
            labelled = label_requests(judge, groups, strategy=strategy, settings=settings)
        else:
            labelled = label_compared(judge, [g[0] for g in groups], settings=settings)
        return [
            RowResult(
                {
                    "rows": data_rows(
                        item.requests[0].prompt,
                        _completions(item.requests),
                        done,
                        layout=layout,
                        kind=kind,
                        margin_scale=margin_scale,
                        line=item.line,
                    ),
                    "dropped": dict(done.dropped),
                },
                done.judgments,
            )
            for item, done in zip(items, labelled, strict=True)
        ]

    if not row_format.grouped:
        return replace(compare_task(judge, row_format), label="label", judge=judged, added_fields=())
    asks = strategy if not settings.confirm or strategy.asks == "comparisons" else _Both(strategy)
    return group_task("label", judge, row_format, judged, asks)


class _Both:
    """A strategy whose pairs are compared as well: both templates must fit."""

    asks: Literal["both"] = "both"

    def __init__(self, strategy: Strategy) -> None:
        self.name = strategy.name
        self.rounds = strategy.rounds
        self.standing = strategy.standing


def _completions(requests: Sequence[Request]) -> list[Text]:
    """The completions of a group, or of a request for a comparison."""
    return [completion for request in requests for completion in request.completions]


def layout_of(row: Row, fields: RowFormat) -> Layout:
    """Conversational where a row's prompt or a completion is a list of messages."""
    values = [row.get(fields.prompt)]
    for name in fields.completions:
        value = row.get(name)
        values += value if fields.grouped and isinstance(value, list) else [value]
    return "conversational" if any(isinstance(v, list | dict) for v in values) else "standard"


def data_rows(
    prompt: Text,
    completions: Sequence[Text],
    labelled: LabelledGroup,
    *,
    layout: Layout,
    kind: Kind,
    margin_scale: float = 1.0,
    line: int | None = None,
) -> list[Row]:
    """The data that one labelled group makes.

    Args:
        prompt: Its prompt.
        completions: Its completions, which the pairs' indices count.
        labelled: Its pairs.
        layout: Of prompt and completions in the data.
        kind: Whose columns.
        margin_scale: What margins are multiplied by.
        line: The group's line in its file, for `source`.
    """
    if kind == "dpo":
        rows = _dpo_rows(prompt, completions, labelled, layout, margin_scale, line)
    else:
        rows = _kto_rows(prompt, completions, labelled, layout, line)
    return [storable(row) for row in rows]


def _dpo_rows(
    prompt: Text,
    completions: Sequence[Text],
    labelled: LabelledGroup,
    layout: Layout,
    margin_scale: float,
    line: int | None,
) -> list[Row]:
    rows = []
    for pair in labelled.pairs:
        row: Row = {
            "prompt": _prompt(prompt, layout),
            "chosen": _completion(completions[pair.chosen], layout),
            "rejected": _completion(completions[pair.rejected], layout),
            "margin": pair.margin * margin_scale,
            "win_prob": pair.win_prob,
        }
        sides = (
            ("chosen", pair.chosen_reward, pair.chosen_rating),
            ("rejected", pair.rejected_reward, pair.rejected_rating),
        )
        for side, reward, rating in sides:
            if reward is not None:
                row[f"{side}_reward"] = reward
            row |= _rating_columns(side, rating)
        row |= _comparison_columns(pair)
        rows.append({**row, "source": _source(labelled, pair, line)})
    return rows


def _kto_rows(
    prompt: Text,
    completions: Sequence[Text],
    labelled: LabelledGroup,
    layout: Layout,
    line: int | None,
) -> list[Row]:
    """A row for each completion; one that is chosen in one pair and rejected in another is in none."""
    sides: dict[int, set[bool]] = {}
    first: dict[int, PreferencePair] = {}
    for pair in labelled.pairs:
        for index, label in ((pair.chosen, True), (pair.rejected, False)):
            sides.setdefault(index, set()).add(label)
            first.setdefault(index, pair)
    rows = []
    for index, labels in sides.items():
        if len(labels) == 1:
            pair, label = first[index], labels.copy().pop()
            reward = pair.chosen_reward if label else pair.rejected_reward
            rating = pair.chosen_rating if label else pair.rejected_rating
            row: Row = {
                "prompt": _prompt(prompt, layout),
                "completion": _completion(completions[index], layout),
                "label": label,
                **({} if reward is None else {"reward": reward}),
                **_rating_columns("completion", rating),
                "source": _source(labelled, pair, line),
            }
            rows.append(row)
    return rows


def _rating_columns(side: str, judgment: RatingJudgment | None) -> Row:
    if judgment is None or judgment.distribution is None:
        return {}
    critique = {} if judgment.critique is None else {f"{side}_critique": judgment.critique}
    return critique | {f"{side}_rating_probs": list(judgment.distribution.probs)}


def _comparison_columns(pair: PreferencePair) -> Row:
    if pair.comparison is None:
        return {}
    columns: Row = {"tie_prob": pair.comparison.tie_prob}
    if pair.order_win_probs is not None:
        columns["order_win_probs"] = list(pair.order_win_probs)
    if pair.comparison.critique is not None:
        columns["comparison_critique"] = pair.comparison.critique
    return columns


def _source(labelled: LabelledGroup, pair: PreferencePair, line: int | None) -> Row:
    judgment: Judgment | None = pair.comparison or pair.chosen_rating
    assert judgment is not None
    return {
        "line": line,
        "chosen_index": pair.chosen,
        "rejected_index": pair.rejected,
        "judge": judgment.provenance.judge,
        "template": judgment.provenance.template,
        "engine": judgment.provenance.engine,
        "judge_id": judgment.provenance.judge_id or None,
        "mode": judgment.mode,
        "strategy": "comparison" if labelled.ranking is None else labelled.ranking.strategy,
    }


def _prompt(prompt: Text, layout: Layout) -> str | list[Row]:
    if layout == "standard":
        return prompt_text(prompt, "keep")
    return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else trainer_messages(prompt)


def _completion(completion: Text, layout: Layout) -> str | list[Row]:
    if layout == "standard":
        return completion_text(completion, "keep")
    if isinstance(completion, str):
        return [{"role": "assistant", "content": completion}]
    return trainer_messages(completion)


@dataclass(slots=True)
class LabelSummary:
    """What labelling kept and dropped.

    Attributes:
        n_groups: Input rows.
        n_rows: Rows of data.
        dropped: Pairs not kept, by reason.
        margins: Of the rows, as a sample of at most 100,000.
        chosen_chars: Sum over the rows of the chosen texts' lengths; for KTO of those labelled true.
        rejected_chars: Likewise.
        n_chosen: How many texts that sums.
        n_rejected: Likewise.
    """

    n_groups: int = 0
    n_rows: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    margins: list[float] = field(default_factory=list)
    chosen_chars: int = 0
    rejected_chars: int = 0
    n_chosen: int = 0
    n_rejected: int = 0

    def add(self, added: Row) -> Iterable[Row]:
        """Count what one input row became, and give its rows of data."""
        rows: list[Row] = added["rows"]
        self.n_groups += 1
        self.n_rows += len(rows)
        self.dropped.update(added["dropped"])
        for row in rows:
            if "margin" in row and len(self.margins) < 100_000:
                self.margins.append(row["margin"])
            for name, chosen in (("chosen", True), ("rejected", False), ("completion", row.get("label"))):
                if name in row:
                    self._count(len(completion_text(row[name], "keep")), chosen=bool(chosen))
        return rows

    def _count(self, n_chars: int, *, chosen: bool) -> None:
        if chosen:
            self.chosen_chars, self.n_chosen = self.chosen_chars + n_chars, self.n_chosen + 1
        else:
            self.rejected_chars, self.n_rejected = self.rejected_chars + n_chars, self.n_rejected + 1

    def histogram(self) -> list[tuple[float, float, int]]:
        """Ten bins of the margins: from, to, how many. Empty without margins."""
        if not self.margins:
            return []
        counts, edges = np.histogram(self.margins, bins=_BINS)
        return [(float(a), float(b), int(n)) for a, b, n in zip(edges, edges[1:], counts, strict=False)]

    def as_record(self) -> Row:
        """For the run's record and for reports."""
        return {
            "groups": self.n_groups,
            "data_rows": self.n_rows,
            "dropped": dict(self.dropped),
            "margin_histogram": [{"from": a, "to": b, "n": n} for a, b, n in self.histogram()],
            "mean_chosen_chars": self.chosen_chars / self.n_chosen if self.n_chosen else None,
            "mean_rejected_chars": self.rejected_chars / self.n_rejected if self.n_rejected else None,
        }


def label_dataset(
    dataset: Any,
    judge: Judge,
    *,
    kind: Kind = "dpo",
    strategy: Strategy | None = None,
    settings: LabelSettings | None = None,
    columns: dict[str, str] | None = None,
    layout: Layout | None = None,
    margin_scale: float = 1.0,
    chunk_requests: int = 1024,
) -> Any:
    """Preference data from a `datasets.Dataset`, as another one.

    Args:
        dataset: With columns `prompt` and `completions` (a list), or `prompt`, `first` and `second`.
        judge: Judges.
        kind: dpo (also for RewardTrainer) or kto.
        strategy: How groups are ranked; None rates each once.
        settings: Which pairs; None takes the best against the worst.
        columns: Our column names to the data set's, where they differ.
        layout: Of prompts and completions; None takes that of the first row.
        margin_scale: What margins are multiplied by.
        chunk_requests: Completions judged at a time.

    Returns:
        A `datasets.Dataset`; empty, and without columns, where no pair was kept.

    Raises:
        ConfigError: There are no such columns, or the judge cannot answer what is asked.
        DataError: A row is wrong; raised before anything is judged.
        EngineError: The engine failed as a whole.
    """
    import datasets

    columns = columns or {}
    grouped = columns.get("completions", "completions") in dataset.column_names
    fields = row_format("rerank" if grouped else "compare", None, columns)
    if missing := [n for n in (fields.prompt, *fields.completions) if n not in dataset.column_names]:
        raise ConfigError(
            f"the data set has no column {', '.join(missing)}",
            hint="it needs prompt and completions, or prompt, first and second; columns= maps names",
        )
    if not len(dataset):
        return datasets.Dataset.from_dict({})
    task = label_task(
        judge,
        fields,
        layout=layout or layout_of(dataset[0], fields),
        kind=kind,
        strategy=strategy,
        settings=settings,
        margin_scale=margin_scale,
    )
    source = DatasetRows("data set", dataset)
    checked = check_rows(source, task)
    if checked.problems:
        raise checked.problems[0]
    items = (item_of(source, line, row, task) for line, row in good_rows(source, fields, checked))
    made: list[Row] = []
    for chunk in chunked(items, chunk_requests, lambda item: len(item.requests)):
        for result in task.judge(chunk):
            made += result.added["rows"]
    # At once: messages of later rows may have fields that earlier ones lack.
    return datasets.Dataset.from_list(made)
