# SPDX-License-Identifier: Apache-2.0
"""The row tasks (rate, compare, rerank, rubrics) and the fields that each adds to a row.

Missing numbers are null, never 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

from autoj_reward.judge.criteria.writing import WrittenRubric, write_rubrics
from autoj_reward.judge.judge import Judge
from autoj_reward.judge.panels.panel import Panel
from autoj_reward.judge.spec import JudgeSpec, JudgingTask
from autoj_reward.judgments import Provenance, RatingJudgment, Sample
from autoj_reward.ranking.orders import Candidate, Ranking
from autoj_reward.ranking.rank import rank_requests
from autoj_reward.ranking.runner import check_judge
from autoj_reward.ranking.strategies import Pointwise, Strategy
from autoj_reward.rows.fields import OPTIONAL_FIELDS, RowFormat
from autoj_reward.rows.records import RowItem, RowResult, RowTask
from autoj_reward.rows.source import Row
from autoj_reward.types import Request, Text

Critiques = Literal["none", "ends", "all"]
_Judge = Callable[[Sequence[RowItem]], list[RowResult]]

ADDED_FIELDS = {
    "rate": (
        "rating", "expected_rating", "reward", "critique", "forced", "contradicted", "mass",
        "entropy", "exactness", "mode", "cut_chars", "flags", "judge_id", "failure",
    ),
    "compare": (
        "preference", "win_prob", "tie_prob", "reward", "flipped", "slot_bias", "order_preferences",
        "order_win_probs", "critique", "forced", "contradicted", "mass", "entropy",
        "exactness", "mode", "cut_chars", "flags", "judge_id", "failure",
    ),
    "rerank": (
        "ranking", "best", "best_completion", "mode", "judge_id", "strategy", "resolution", "n_calls",
        "n_tokens", "cycles",
    ),
    "rubrics": ("rubric", "n_criteria", "judge_id", "failure"),
}  # fmt: skip
"""The fields that each command adds to a row, in this order."""
PANEL_FIELDS = ("agreement", "members")
"""What a panel of judges adds to the rows of `rate` and `compare` as well."""


def rate_task(judge: Judge, row_format: RowFormat) -> RowTask:
    """Rate each row's completion."""

    def judged(items: Sequence[RowItem]) -> list[RowResult]:
        judgments = judge.rate_requests([item.requests[0] for item in items])
        return [RowResult(j.to_dict(), [j]) for j in judgments]

    return _single_task("rate", judge, row_format, judged)


def compare_task(judge: Judge, row_format: RowFormat) -> RowTask:
    """Compare each row's two completions, in both orders unless the judge is told otherwise."""

    def judged(items: Sequence[RowItem]) -> list[RowResult]:
        judgments = judge.compare_requests([item.requests[0] for item in items])
        return [RowResult(j.to_dict(), [j]) for j in judgments]

    return _single_task("compare", judge, row_format, judged)


def rerank_task(
    judge: Judge,
    row_format: RowFormat,
    *,
    critiques: Critiques,
    strategy: Strategy | None = None,
    top: int | None = None,
    resolution: float | None = None,
) -> RowTask:
    """Order each row's group of completions, best first.

    Args:
        judge: The judge.
        row_format: Where rows keep prompt and completions.
        critiques: For a direct judge, which completions get a critique: none, the best and the worst of each
            group, or all. Critiques explain and do not change the ranking. In critique mode every rated
            completion has one.
        strategy: How they are ordered; None rates each once.
        top: Keep only the best `top` of each ranking, at least 1; None keeps all.
        resolution: Within how much rewards tie; None takes that of the judge's dtype.
    """
    chosen = strategy or Pointwise()
    check_judge(judge, chosen)

    def judged(items: Sequence[RowItem]) -> list[RowResult]:
        requests = [item.requests for item in items]
        rankings = rank_requests(judge, requests, strategy=chosen, resolution=resolution)
        wanted = [
            (n, c.index)
            for n, ranking in enumerate(rankings)
            for c in _explained(ranking.candidates[:top], critiques, judge)
        ]
        written = _write_critiques(judge, items, wanted)
        results = []
        for n, ranking in enumerate(rankings):
            explained = {c.index: written[n, c.index] for c in ranking.candidates if (n, c.index) in written}
            entries = [ranking.entry(c, explained.get(c.index)) for c in ranking.candidates[:top]]
            completions = [request.completions[0] for request in items[n].requests]
            added = ranking_fields(judge, ranking, entries, completions)
            results.append(RowResult(added, ranking.judgments, list(explained.values())))
        return results

    task = group_task("rerank", judge, row_format, judged, chosen)
    return replace(task, further=_critiques_asked(critiques, judge))


def rubrics_task(judge: Judge, row_format: RowFormat) -> RowTask:
    """Write criteria from each row's prompt, and its reference answer if it has one."""

    def judged(items: Sequence[RowItem]) -> list[RowResult]:
        written = write_rubrics(judge, [item.requests[0] for item in items])
        return [RowResult(_rubric_fields(one, judge.identity), [_as_judgment(one, judge)]) for one in written]

    return RowTask(
        label="rubrics",
        row_format=row_format,
        optional=frozenset({"reference"}),
        check=lambda requests: None,  # criteria can be written for any prompt
        judge=judged,
        added_fields=ADDED_FIELDS["rubrics"],
    )


def _rubric_fields(written: WrittenRubric, judge_id: str) -> dict[str, Any]:
    rubric = written.rubric
    return {
        "rubric": None if rubric is None else [criterion.to_dict() for criterion in rubric.criteria],
        "n_criteria": 0 if rubric is None else len(rubric.criteria),
        "judge_id": judge_id,
        "failure": None if written.failure is None else written.failure.to_dict(),
    }


def _as_judgment(written: WrittenRubric, judge: Judge) -> RatingJudgment:
    """What was written, for the run's counts of failures and tokens; it rates nothing."""
    return RatingJudgment(
        mode="critique",
        distribution=None,
        samples=(Sample(critique=written.text, failure=written.failure),),
        failure=written.failure,
        usage=written.usage,
        provenance=Provenance(judge=judge.spec.name, template=judge.spec.fingerprint, engine=""),
    )


def group_task(
    label: str, judge: Judge, row_format: RowFormat, judged: _Judge, strategy: Strategy, *, asks: str = ""
) -> RowTask:
    """A task for groups: rows must fit the templates of what is asked, by default what the strategy asks."""
    asks = asks or strategy.asks
    used = {
        "ratings": [judge.spec.rating],
        "comparisons": [judge.spec.comparison],
        "both": [judge.spec.rating, judge.spec.comparison],
    }[asks]
    taken = [taken_fields(judge.spec, task) for task in used if task is not None]

    def check(requests: Sequence[Request]) -> None:
        if asks != "comparisons":
            judge.check(requests)
        if asks != "ratings" and len(requests) > 1:
            first, last = requests[0], requests[-1]
            judge.check([first.paired_with(last)])

    return RowTask(
        label=label,
        row_format=row_format,
        optional=OPTIONAL_FIELDS.intersection(*taken),
        check=check,
        judge=judged,
        added_fields=ADDED_FIELDS.get(label, ()),
        inputs_per_request=judge.inputs_per_request(1) if strategy.asks == "ratings" else None,
        strategy=strategy,
    )


def ranking_fields(
    judge: Judge, ranking: Ranking, entries: Sequence[Row], completions: Sequence[Text]
) -> Row:
    """The fields that `rerank` adds to a row, from the entries of its ranking and its G completions."""
    return {
        "ranking": list(entries),
        "best": ranking.best,
        "best_completion": None if ranking.best is None else completions[ranking.best],
        "mode": judge.settings.mode,
        "judge_id": judge.identity,
        **ranking.totals(),
    }


def _single_task(label: str, judge: Judge, row_format: RowFormat, judged: _Judge) -> RowTask:
    task = judge.spec.comparison if label == "compare" else judge.spec.rating
    rereads = judge.settings.check_critiques and judge.settings.mode == "critique"
    return RowTask(
        label=label,
        row_format=row_format,
        optional=taken_fields(judge.spec, task),
        check=judge.check,
        judge=judged,
        added_fields=ADDED_FIELDS[label] + (PANEL_FIELDS if isinstance(judge, Panel) else ()),
        inputs_per_request=judge.inputs_per_request(2 if label == "compare" else 1),
        further="each critique read once more" if rereads else "",
    )


def taken_fields(spec: JudgeSpec, task: JudgingTask | None) -> frozenset[str]:
    """The optional fields of a row that a judge takes: `rubric`, `reference`, `language`."""
    shown = OPTIONAL_FIELDS & (task.fields if task else frozenset())
    return shown | {"language"} if spec.translations else shown - {"language"}


def _explained(candidates: Sequence[Candidate], critiques: Critiques, judge: Judge) -> Sequence[Candidate]:
    if critiques == "none" or judge.settings.mode == "critique":
        return []
    readable = [c for c in candidates if c.reward is not None]
    return readable if critiques == "all" else [*readable[:1], *readable[1:][-1:]]


def _critiques_asked(critiques: Critiques, judge: Judge) -> str:
    if critiques == "none" or judge.settings.mode == "critique":
        return ""
    which = "the best and the worst of each row" if critiques == "ends" else "each completion"
    return f"then a critique of {which} (at most {judge.settings.sampling.max_new_tokens:,} tokens each)"


def _write_critiques(
    judge: Judge, items: Sequence[RowItem], wanted: Sequence[tuple[int, int]]
) -> dict[tuple[int, int], RatingJudgment]:
    if not wanted:
        return {}
    critic = judge.with_settings(mode="critique")
    judgments = critic.rate_requests([items[n].requests[index] for n, index in wanted])
    return dict(zip(wanted, judgments, strict=True))
