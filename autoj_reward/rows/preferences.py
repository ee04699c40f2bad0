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
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from autoj_reward.errors import ConfigError
from autoj_reward.judge.judge import Judge
from autoj_reward.judge.messages.text import completion_text, prompt_text
from autoj_reward.judgments import Judgment, RatingJudgment, RubricJudgment
from autoj_reward.progress import RunProgress, in_notebook
from autoj_reward.ranking.label import label_compared, label_requests
from autoj_reward.ranking.pair_rules import LabelledGroup, LabelSettings, PreferencePair
from autoj_reward.ranking.strategies import Pointwise, Strategy
from autoj_reward.rows.check import check_rows, good_rows, item_of
from autoj_reward.rows.fields import RowFormat, RowProblem, find_format
from autoj_reward.rows.formats.detect import nearest
from autoj_reward.rows.parquet import storable
from autoj_reward.rows.records import RowItem, RowResult, RowTask
from autoj_reward.rows.source import DatasetRows, Row, chunked
from autoj_reward.rows.tasks import compare_task, group_task
from autoj_reward.rows.trainer_messages import trainer_messages
from autoj_reward.types import Text

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

    The fields added to a row are `rows`, the data, and `dropped`, how many pairs were not kept by reason. The
    data keeps the input's other columns, except those that tell TRL's trainers the kind of a data set.

    Args:
        judge: The judge.
        row_format: Where rows keep prompt and completions; grouped or of two.
        layout: Layout of prompts and completions in the data.
        kind: The trainer's columns.
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
        results = []
        for item, done in zip(items, labelled, strict=True):
            made = data_rows(
                item.requests[0].prompt,
                [completion for request in item.requests for completion in request.completions],
                done,
                layout=layout,
                kind=kind,
                margin_scale=margin_scale,
                line=item.line,
            )
            others = _other_columns(item.row, row_format)
            made = [row | {k: v for k, v in others.items() if k not in row} for row in made]
            results.append(RowResult({"rows": made, "dropped": dict(done.dropped)}, done.judgments))
        return results

    if not row_format.grouped:
        return replace(compare_task(judge, row_format), label="label", judge=judged, added_fields=())
    if not (settings.confirm and strategy.asks == "ratings"):
        return group_task("label", judge, row_format, judged, strategy)
    task = group_task("label", judge, row_format, judged, strategy, asks="both")
    return replace(task, further="then a comparison of each pair that is chosen")


_TRAINERS = frozenset({"prompt", "chosen", "rejected", "completion", "completions", "label", "messages"})
"""Columns by which TRL's trainers tell kinds of data sets."""


def _other_columns(row: Row, fields: RowFormat) -> Row:
    """An input row's columns without prompt, completions, and those that mean something to trainers."""
    left = {name: value for name, value in row.items() if name not in fields.fields | _TRAINERS}
    return dict(storable(left))


def layout_of(row: Row, fields: RowFormat) -> Layout:
    """Conversational if a row's prompt or one of its completions is a list of messages."""
    try:
        parts = fields.parts(row)
    except RowProblem:
        return "standard"
    given = [parts.prompt, *parts.completions]
    return "standard" if all(isinstance(text, str) for text in given) else "conversational"


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
    """The rows of data that one labelled group makes.

    Args:
        prompt: Its prompt.
        completions: Its completions; pairs name them by index.
        labelled: Its pairs.
        layout: Layout of prompt and completions in the data.
        kind: The trainer's columns.
        margin_scale: What margins are multiplied by.
        line: The group's line in its file, for `source`.
    """
    entries = _dpo_entries(labelled.pairs, margin_scale) if kind == "dpo" else _kto_entries(labelled.pairs)
    return [
        storable(
            {
                "prompt": _laid_out(prompt, layout, "user"),
                **{name: _laid_out(completions[i], layout, "assistant") for name, i in texts.items()},
                **columns,
                "source": _source(labelled, pair, line),
            }
        )
        for texts, columns, pair in entries
    ]


_Entry = tuple[dict[str, int], Row, PreferencePair]
"""A row of data: the index of each completion in it, its other columns, and the pair it comes from."""


def _dpo_entries(pairs: Sequence[PreferencePair], margin_scale: float) -> Iterator[_Entry]:
    for pair in pairs:
        columns: Row = {"margin": pair.margin * margin_scale, "win_prob": pair.win_prob}
        for side, reward, rating in (
            ("chosen", pair.chosen_reward, pair.chosen_rating),
            ("rejected", pair.rejected_reward, pair.rejected_rating),
        ):
            if reward is not None:
                columns[f"{side}_reward"] = reward
            columns |= _rating_columns(side, rating)
        texts = {"chosen": pair.chosen, "rejected": pair.rejected}
        yield texts, columns | _comparison_columns(pair), pair


def _kto_entries(pairs: Sequence[PreferencePair]) -> Iterator[_Entry]:
    """A row for each completion; one that is chosen in one pair and rejected in another has none."""
    sides: dict[int, set[bool]] = {}
    first: dict[int, PreferencePair] = {}
    for pair in pairs:
        for index, label in ((pair.chosen, True), (pair.rejected, False)):
            sides.setdefault(index, set()).add(label)
            first.setdefault(index, pair)
    for index, labels in sides.items():
        if len(labels) == 1:
            (label,), pair = labels, first[index]
            reward = pair.chosen_reward if label else pair.rejected_reward
            rating = pair.chosen_rating if label else pair.rejected_rating
            columns: Row = {"label": label} | ({} if reward is None else {"reward": reward})
            yield {"completion": index}, columns | _rating_columns("completion", rating), pair


def _rating_columns(side: str, judgment: RatingJudgment | None) -> Row:
    if judgment is None or judgment.distribution is None:
        return {}
    columns: Row = {} if judgment.critique is None else {f"{side}_critique": judgment.critique}
    columns[f"{side}_rating_probs"] = list(judgment.distribution.probs)
    if isinstance(judgment, RubricJudgment):
        columns[f"{side}_criteria"] = [verdict.to_dict() for verdict in judgment.criteria]
        columns[f"{side}_score"] = judgment.score
    return columns


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
        "exactness": None if judgment.distribution is None else judgment.distribution.exactness,
        "strategy": "comparison" if labelled.ranking is None else labelled.ranking.strategy,
    }


def _laid_out(text: Text, layout: Layout, role: Literal["user", "assistant"]) -> str | list[Row]:
    if layout == "standard":
        return prompt_text(text, "keep") if role == "user" else completion_text(text, "keep")
    return [{"role": role, "content": text}] if isinstance(text, str) else trainer_messages(text)


@dataclass(slots=True)
class LabelSummary:
    """Counts of the pairs that labelling kept and dropped.

    Attributes:
        n_groups: Input rows.
        n_rows: Rows of data.
        dropped: Pairs not kept, by reason.
        margins: Of the rows, as a sample of at most 100,000.
        chars: Characters of all chosen and all rejected texts; KTO's labels count as chosen and rejected.
        n_texts: How many texts these are.
    """

    n_groups: int = 0
    n_rows: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    margins: list[float] = field(default_factory=list)
    chars: Counter[str] = field(default_factory=Counter)
    n_texts: Counter[str] = field(default_factory=Counter)

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
                    side = "chosen" if chosen else "rejected"
                    self.chars[side] += len(completion_text(row[name], "keep"))
                    self.n_texts[side] += 1
        return rows

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
            **{
                f"mean_{side}_chars": self.chars[side] / n if (n := self.n_texts[side]) else None
                for side in ("chosen", "rejected")
            },
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
    progress: bool | None = None,
) -> Any:
    """Preference data from a `datasets.Dataset`, as another one.

    Args:
        dataset: With columns `prompt` and `completions` (a list), `prompt`, `first` and `second`, or those of
            a published format of pairs or groups (see docs/files.md), which is recognised.
        judge: The judge.
        kind: dpo (also for RewardTrainer) or kto.
        strategy: How groups are ranked; None rates each once.
        settings: Which pairs; None takes the best against the worst.
        columns: Our column names to the data set's, where they differ.
        layout: Of prompts and completions; None takes that of the first row.
        margin_scale: What margins are multiplied by.
        chunk_requests: Completions judged at a time.
        progress: Show progress on stderr; None shows it in a notebook.

    Returns:
        A `datasets.Dataset`; empty, and without columns, if no pair was kept.

    Raises:
        ConfigError: There are no such columns, or the judge cannot answer what is asked.
        DataError: A row is wrong; raised before anything is judged.
        EngineError: The engine failed as a whole.
    """
    import datasets

    columns = columns or {}
    if not len(dataset):
        return datasets.Dataset.from_dict({})
    source = DatasetRows("data set", dataset)
    _, fields = find_format(source, ("rerank", "compare"), None, columns)
    needed = (fields.prompt, *fields.completions)
    if fields.name is None and (missing := [n for n in needed if n not in dataset.column_names]):
        near = nearest(dict.fromkeys(dataset.column_names, ""), ("rerank", "compare"))
        raise ConfigError(
            f"the data set has no column {', '.join(missing)}{': ' * bool(near.says)}{near.says}",
            hint="it needs prompt and completions, prompt, first and second, or the columns of a published "
            "format; columns= maps names",
        )
    task = label_task(
        judge,
        fields,
        layout=layout or layout_of(dataset[0], fields),
        kind=kind,
        strategy=strategy,
        settings=settings,
        margin_scale=margin_scale,
    )
    checked = check_rows(source, task)
    if checked.problems:
        raise checked.problems[0]
    items = (item_of(source, line, row, task) for line, row in good_rows(source, fields, checked))
    made: list[Row] = []
    quiet = not (in_notebook() if progress is None else progress)
    with RunProgress("label", checked.n_requests, quiet=quiet) as shown:
        for chunk in chunked(items, chunk_requests, lambda item: len(item.requests)):
            for result in task.judge(chunk):
                made += result.added["rows"]
            shown.advance(sum(len(item.requests) for item in chunk))
    # At once: messages of later rows may have fields that earlier ones lack.
    return datasets.Dataset.from_list(made)
