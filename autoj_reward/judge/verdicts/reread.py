# SPDX-License-Identifier: Apache-2.0
"""Let a judge read its own critiques once more, to find verdicts that contradict them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from autoj_reward.engines import Engine
from autoj_reward.judge.parse import Stated, find_verdict
from autoj_reward.judge.samples import judge_directly
from autoj_reward.judge.settings import JudgeSettings
from autoj_reward.judge.spec import JudgeSpec
from autoj_reward.judge.verdict import VerdictSet
from autoj_reward.judgments import Judgment, PairJudgment, Sample
from autoj_reward.types import JudgeInput, Segment

_OF_ONE = "A judge wrote this about a response, its verdict left out. Say which verdict it supports.\n***\n"
_OF_TWO = "A judge wrote this about two responses, its decision left out. Say which one it supports.\n***\n"
_AFTER = "\n***"


def reread(
    judgments: Sequence[Judgment],
    sets: Sequence[VerdictSet | None],
    spec: JudgeSpec,
    settings: JudgeSettings,
    engine: Engine,
) -> list[Judgment]:
    """The judgments, with `Sample.reread` of every critique that states a verdict.

    Each critique is shown up to its verdict, and the verdict is read directly: one short input for each.

    Args:
        judgments: The judgments.
        sets: The verdicts of each one's critiques; None for critiques that hold several, which are left out.
        spec: The judge.
        settings: Its settings.
        engine: Its engine.
    """
    asked: list[tuple[int, int, JudgeInput, VerdictSet]] = []
    for i, (judgment, verdicts) in enumerate(zip(judgments, sets, strict=True)):
        for k, sample in enumerate(judgment.samples if verdicts is not None else ()):
            assert verdicts is not None
            words = _before_verdict(sample, verdicts)
            if words is not None:
                question = _OF_TWO if isinstance(judgment, PairJudgment) else _OF_ONE
                body = (Segment(question, True), Segment(words), Segment(_AFTER, True))
                item = JudgeInput(body=body, wrapper=spec.direct_wrapper, sampling=settings.sampling)
                asked.append((i, k, item, verdicts))
    if not asked:
        return list(judgments)
    read = judge_directly([a[2] for a in asked], engine, spec, [a[3] for a in asked], settings.rules)
    found = [list(judgment.samples) for judgment in judgments]
    usages = [judgment.usage for judgment in judgments]
    for (i, k, _, _), metered in zip(asked, read, strict=True):
        distribution, before = metered.sample.distribution, found[i][k]
        if distribution is not None and before.swapped:
            distribution = distribution.swapped()
        found[i][k] = replace(before, reread=distribution)
        usages[i] += metered.usage
    return [
        replace(judgment, samples=tuple(samples), usage=usage)
        for judgment, samples, usage in zip(judgments, found, usages, strict=True)
    ]


def _before_verdict(sample: Sample, verdicts: VerdictSet) -> str | None:
    """The critique without its verdict; None if it states none, or says nothing else."""
    if sample.stated is None or sample.failure is not None or not sample.critique:
        return None
    stated = find_verdict(sample.critique, sample.finish_reason or "stop", verdicts)
    if not isinstance(stated, Stated):
        return None
    words = sample.critique[: stated.start].removesuffix(verdicts.verdict_prefix)
    return words.rstrip(" \n\"'[({<").lstrip() or None
