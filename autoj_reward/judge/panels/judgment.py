# SPDX-License-Identifier: Apache-2.0
"""A panel's judgment from those of its members."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from autoj_reward.distributions import Verdict, VerdictDistribution, aggregate
from autoj_reward.identity import short_id
from autoj_reward.judge.panels.combine import combine, on_scale
from autoj_reward.judge.panels.spec import PanelSpec
from autoj_reward.judgments import Judgment, MemberVerdict, PairJudgment, Provenance, RatingJudgment, Sample
from autoj_reward.types import Failure, Mode, Usage


@dataclass(frozen=True, slots=True)
class _Said:
    """What one member said: its weight, its judgment, and its distribution on the panel's scale."""

    name: str
    weight: float
    judgment: Judgment
    distribution: VerdictDistribution | None


def panel_judgment(
    spec: PanelSpec, n_completions: int, said: Mapping[str, Judgment], *, mode: Mode, judge_id: str
) -> RatingJudgment | PairJudgment:
    """Combine the members' judgments of one request.

    Args:
        spec: The panel.
        n_completions: 1 or 2.
        said: A judgment by member name, at least one.
        mode: The panel's.
        judge_id: The panel's.
    """
    verdicts = spec.task_for(n_completions).verdicts.verdicts
    rating = n_completions == 1
    weights = {m.name: m.weight for m in spec.members}
    heard = [
        _Said(name, weights[name], judgment, _scaled(judgment.distribution, verdicts, rating))
        for name, judgment in said.items()
    ]
    failure = _failure(spec, heard)
    deciding = [one for one in heard if one.distribution is not None and one.weight > 0.0]
    if failure is None and not deciding:
        deciding = [one for one in heard if one.distribution is not None]
    distribution = None if failure is not None else _combined(spec, deciding, comparing=not rating)
    by_rule = failure is None and all(one.judgment.by_rule for one in deciding)
    kind = RatingJudgment if rating else PairJudgment
    return kind(
        mode=mode,
        distribution=distribution,
        samples=() if by_rule else _samples(spec, heard, deciding, verdicts, failure),
        failure=failure,
        usage=sum((one.judgment.usage for one in heard), start=Usage()),
        provenance=_provenance(spec, [one.judgment for one in heard], judge_id),
        flags=_flags([one.judgment for one in heard]),
        penalties=_penalties([one.judgment for one in heard]),
        by_rule=by_rule,
        members=tuple(
            MemberVerdict(
                name=one.name, weight=one.weight, distribution=one.distribution, judgment=one.judgment
            )
            for one in heard
        ),
    )


def _scaled(
    distribution: VerdictDistribution | None, verdicts: Sequence[Verdict], rating: bool
) -> VerdictDistribution | None:
    return None if distribution is None else on_scale(distribution, verdicts, stretch=rating)


def _combined(spec: PanelSpec, deciding: Sequence[_Said], *, comparing: bool) -> VerdictDistribution:
    distributions = [one.distribution for one in deciding if one.distribution is not None]
    return combine(distributions, [one.weight or 1.0 for one in deciding], spec.rule, comparing=comparing)


def _failure(spec: PanelSpec, heard: Sequence[_Said]) -> Failure | None:
    """Why the panel has no verdict: a member's failure, by its policy; None if it has one."""
    failed = [(one.name, one.judgment.failure) for one in heard if one.judgment.failure is not None]
    if not failed or (spec.on_missing == "leave_out" and len(failed) < len(heard)):
        return None
    name, failure = failed[0]
    assert failure is not None
    return Failure(
        reason=failure.reason,
        detail=f"member {name!r}: {failure.detail}",
        raw_text=failure.raw_text,
        overflow_tokens=failure.overflow_tokens,
    )


def _samples(
    spec: PanelSpec,
    heard: Sequence[_Said],
    deciding: Sequence[_Said],
    verdicts: Sequence[Verdict],
    failure: Failure | None,
) -> tuple[Sample, ...]:
    """One sample for each order that was judged, combined by the panel's rule; critiques are the members'."""
    written = [(one.name, one.judgment.critique) for one in heard if one.judgment.critique]
    critique = written[0][1] if len(written) == 1 else "\n\n".join(f"[{n}]\n{text}" for n, text in written)
    rating = isinstance(heard[0].judgment, RatingJudgment)
    swapped = any(s.swapped for one in heard for s in one.judgment.samples)
    samples = []
    for order in (False, True) if swapped else (False,):
        own = [_of_order(one.judgment, order) for one in deciding]
        scaled = [d for d in (_scaled(one, verdicts, rating) for one in own) if d is not None]
        weights = [one.weight or 1.0 for one in deciding]
        complete = failure is None and scaled and len(scaled) == len(deciding)
        samples.append(
            Sample(
                critique=critique or "",
                distribution=combine(scaled, weights, spec.rule, comparing=not rating) if complete else None,
                failure=None if complete else failure,
                swapped=order,
            )
        )
    return tuple(samples)


def _of_order(judgment: Judgment, swapped: bool) -> VerdictDistribution | None:
    """A member's distribution in one order; what a rule decided holds in both."""
    if not judgment.samples:
        return judgment.distribution
    own = [s.distribution for s in judgment.samples if s.swapped is swapped and s.distribution is not None]
    return aggregate(own)


def _provenance(spec: PanelSpec, judgments: Sequence[Judgment], judge_id: str) -> Provenance:
    all_ = [judgment.provenance for judgment in judgments]
    return Provenance(
        judge=spec.name,
        template=spec.fingerprint,
        engine=short_id("panel", [p.engine for p in all_]),
        cut_chars=tuple(max(cuts) for cuts in zip(*(p.cut_chars for p in all_ if p.cut_chars), strict=True)),
        guard=next((p.guard for p in all_ if p.guard), ""),
        language=next((p.language for p in all_ if p.language is not None), None),
        judge_id=judge_id,
    )


def _flags(judgments: Sequence[Judgment]) -> tuple[tuple[str, ...], ...]:
    """For each completion what any member's guard found."""
    found = [judgment.flags for judgment in judgments if judgment.flags]
    return tuple(tuple(dict.fromkeys(f for own in flags for f in own)) for flags in zip(*found, strict=True))


def _penalties(judgments: Sequence[Judgment]) -> tuple[float, ...]:
    """For each completion the largest of the members' penalties."""
    found = [judgment.penalties for judgment in judgments if judgment.penalties]
    return tuple(max(own) for own in zip(*found, strict=True))
