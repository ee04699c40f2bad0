# SPDX-License-Identifier: Apache-2.0
"""Distributions of every form of verdict against brute force, on a tiny random model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from autoj_reward.engines.transformers.engine import TransformersEngine
from autoj_reward.judge.judge import Judge
from autoj_reward.judge.verdicts.lists import order_key
from autoj_reward.judgments import Verdict
from autoj_reward.testing import ScriptedEngine
from autoj_reward.types import JudgeInput, Segment
from tests.engines.test_brute_force import brute_force, check
from tests.engines.tokenizers import save_random_model, sentencepiece_like
from tests.judge.forms import judge_of

PROMPT, COMPLETIONS = "What is 6 + 4?", ["It is 10.", "Eleven.", "I do not know.", "Ten, as 6 and 4 are."]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TransformersEngine]:
    folder = save_random_model(tmp_path_factory.mktemp("model"), sentencepiece_like(), seed=3)
    made = TransformersEngine(str(folder), dtype="float32")
    yield made
    made.close()


def load(form: str, engine: Any, mode: Any) -> Judge:
    return Judge.load(
        judge_of(form), engine=engine, mode=mode, min_mass=1e-300, follow_above=0.0, both_orders=False
    )


def task_of(judge: Judge) -> Any:
    return judge.spec.rating or judge.spec.comparison


def by_verdict(engine: TransformersEngine, item: JudgeInput, task: Any) -> dict[Verdict, float]:
    """Brute force over every text of the set; texts of one verdict add up."""
    own = task.verdicts
    texts = replace(own, verdicts=tuple(range(len(own.texts))), further=())
    found = brute_force(engine, item, replace(task, verdicts=texts))
    totals: dict[Verdict, float] = defaultdict(float)
    for n, verdict in enumerate((*own.verdicts, *own.further)):
        totals[verdict] += found[n]
    return totals


CRITIQUES = {
    "two outcomes": ("Both try. My verdict is [[", "B]]"),
    "output (a)": ("Therefore, Output (", "a)"),
    "graded words": ("Hm.\n\nMy final verdict is: [[", "A>>B]]"),
    "graded -3 to 3": ("Preference: ", "-2"),
    "graded 1 to 6": ("So \\boxed{", "2}"),
    "two scores": ("Scores: ", "8 10"),
    "two scores in tags": ("So <answer>", "4.5</answer><answer>2</answer>"),
    "two scores in JSON": ('{"score_1": ', '8, "score_2": 10}'),
    "yes or no": ("Well. ", "yes"),
    "letters": ("Grade: ", "C"),
    "words": ("The answer is", " good."),
    "integers 0 to 100": ("Score: ", "100"),
    "boxed": ("So \\boxed{", "3}"),
    "JSON field": ('{"score": ', '3, "sure": true}'),
}


HUNDRED_TEXTS = ("two scores", "two scores in tags", "two scores in JSON")


@pytest.mark.parametrize("mode", ["direct", "critique"])
@pytest.mark.parametrize(
    "form",
    [pytest.param(form, marks=pytest.mark.slow) if form in HUNDRED_TEXTS else form for form in CRITIQUES],
)
def test_every_form_equals_brute_force(engine: TransformersEngine, form: str, mode: Any) -> None:
    before, verdict = CRITIQUES[form]
    judge = load(form, ScriptedEngine(write=before + verdict, otherwise=engine), mode)
    task = task_of(judge)
    if judge.spec.rating is not None:
        values = {"prompt": PROMPT, "completion": COMPLETIONS[0]}
        got: Any = judge.rate([PROMPT], COMPLETIONS[:1])[0]
    else:
        values = {"prompt": PROMPT, "first": COMPLETIONS[0], "second": COMPLETIONS[1]}
        got = judge.compare([PROMPT], COMPLETIONS[:1], COMPLETIONS[1:2])[0]
    prefill = Segment(task.verdicts.verdict_prefix, True) if mode == "direct" else Segment(before)
    item = JudgeInput(body=task.template.fill(values), wrapper=judge.spec.wrapper, prefill=(prefill,))
    brute = by_verdict(engine, item, task)
    assert got.distribution is not None
    assert got.distribution.exactness == "exact"
    assert got.mass == pytest.approx(sum(brute.values()), abs=1e-5)
    assert set(got.distribution.verdicts) == set(brute)
    for own, prob in zip(got.distribution.verdicts, got.distribution.probs, strict=True):
        assert prob == pytest.approx(brute[own] / sum(brute.values()), abs=1e-5)
    if judge.spec.comparison is not None:
        win = {"first": 1.0, "tie": 0.5, "second": 0.0}
        expected = sum(p * (win[v] if isinstance(v, str) else v) for v, p in brute.items())
        assert got.win_prob == pytest.approx(expected / sum(brute.values()), abs=1e-5)


# Of each list: the scores that a critique states, and what is written before the first, between two, and at the end.
LISTS = {
    "list of four": (("7", "10", "3", "1"), "Scores: ", " ", ""),
    "two ratings in tags": (("4.5", "2"), "<answer>", "</answer><answer>", "</answer>"),
    "two ratings in JSON": (("8", "10"), '{"score_1": ', ', "score_2": ', "}"),
}


@pytest.mark.parametrize("mode", ["direct", "critique"])
@pytest.mark.parametrize(
    "form", ["list of four", *(pytest.param(f, marks=pytest.mark.slow) for f in LISTS if f != "list of four")]
)
def test_every_score_of_a_list_equals_brute_force(engine: TransformersEngine, form: str, mode: Any) -> None:
    """Each score is read given those before it: the most probable ones in direct mode, else the stated ones."""
    stated, start, between, end = LISTS[form]
    judge = load(form, ScriptedEngine(write=start + between.join(stated) + end, otherwise=engine), mode)
    task, n = task_of(judge), len(stated)
    got = judge.rate([PROMPT] * n, COMPLETIONS[:n])
    ordered = sorted(range(n), key=lambda i: order_key(PROMPT, COMPLETIONS[i]))
    body = task.template.fill(
        {"prompt": PROMPT, "completions": task.listing.body([COMPLETIONS[i] for i in ordered])}
    )
    written = start
    for place, i in enumerate(ordered):
        item = JudgeInput(
            body=body, wrapper=judge.spec.wrapper, prefill=(Segment(written, mode == "direct"),)
        )
        own = replace(task, verdicts=replace(task.verdicts, verdict_prefix=between if place else start))
        distribution = got[i].distribution
        assert distribution is not None
        check(engine, item, own, distribution)
        brute = brute_force(engine, item, own)
        chosen = stated[place] if mode == "critique" else f"{max(brute, key=lambda v: brute[v]):g}"
        written += chosen + between


def test_the_best_of_four_equals_brute_force(engine: TransformersEngine) -> None:
    judge = load("best of four", engine, "direct")
    task = task_of(judge)
    got = judge.rate([PROMPT] * 4, COMPLETIONS)
    ordered = sorted(range(4), key=lambda i: order_key(PROMPT, COMPLETIONS[i]))
    body = task.template.fill(
        {"prompt": PROMPT, "completions": task.listing.body([COMPLETIONS[i] for i in ordered])}
    )
    item = JudgeInput(
        body=body, wrapper=judge.spec.wrapper, prefill=(Segment(task.verdicts.verdict_prefix, True),)
    )
    brute = brute_force(engine, item, replace(task, verdicts=task.listing.choice(task.verdicts, 4)))
    assert [got[i].reward for i in ordered] == pytest.approx(
        [brute[float(n)] / sum(brute.values()) for n in range(4)], abs=1e-5
    )
