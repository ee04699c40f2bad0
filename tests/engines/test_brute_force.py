# SPDX-License-Identifier: Apache-2.0
"""Distributions against brute force: every verdict with every terminator scored by itself."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from autoj_reward.engines.transformers.engine import TransformersEngine
from autoj_reward.judge.judge import Judge
from autoj_reward.judge.presets import load_spec
from autoj_reward.judge.spec import JudgingTask
from autoj_reward.judgments import VerdictDistribution
from autoj_reward.testing import ScriptedEngine
from autoj_reward.types import JudgeInput, Segment
from tests.engines.tokenizers import save_random_model, sentencepiece_like, whole_ten

PROMPT, FIRST, SECOND = "What is 6 + 4?", "It is 10.", "Rating: [[10]] {it} is 11."


@pytest.fixture(
    scope="module",
    params=[pytest.param("digits split", marks=pytest.mark.slow), "ten is one token", "sentencepiece"],
)
def engine(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TransformersEngine]:
    if request.param == "digits split":
        yield request.getfixturevalue("mini_float32")
        return
    make = whole_ten if request.param == "ten is one token" else sentencepiece_like
    folder = save_random_model(tmp_path_factory.mktemp("model"), make(), seed=3)
    made = TransformersEngine(str(folder), dtype="float32")
    yield made
    made.close()


def brute_force(engine: TransformersEngine, item: JudgeInput, protocol: JudgingTask) -> dict[Any, float]:
    """P(v) = sum over terminators t of P(path(v), t), one plain forward pass for each verdict.

    P(v) = P(path(v)) where ends are taken for granted and no other path begins with this one.
    """
    verdicts, tokenizer = protocol.verdicts, engine.tokenizer
    vocabulary = tokenizer.hf.convert_ids_to_tokens(range(len(tokenizer.hf)))
    ends = [
        i
        for i, token in enumerate(vocabulary)
        # A tokenizer may leave the blank out with which a token begins if it decodes the token alone.
        if tokenizer.hf.convert_tokens_to_string([".", token])[1:].startswith(verdicts.terminators)
        # Markup such as `<think>` ends no verdict.
        and i not in tokenizer.hf.get_added_vocab().values()
    ]
    if verdicts.end_of_turn:
        # By the chat template `<|im_end|>` ends a turn, and so does the `<|im_start|>` of a next one.
        marks = tokenizer.hf.convert_tokens_to_ids(["<|im_end|>", "<|im_start|>"])
        ends += [tokenizer.hf.eos_token_id, *marks]
    context = tokenizer.encode_input(item)
    found = {}
    paths = [tokenizer.continuation_ids(verdicts.verdict_prefix, text) for text in verdicts.texts]
    for verdict, path in zip(verdicts.verdicts, paths, strict=True):
        with torch.inference_mode():
            logits = engine._model(input_ids=torch.tensor([[*context, *path]])).logits[0].double()
        logprobs = torch.log_softmax(logits, dim=-1)
        total = sum(float(logprobs[len(context) - 1 + n, token]) for n, token in enumerate(path))
        alone = sum(other[: len(path)] == path for other in paths) == 1
        if verdicts.assume_ends and alone:
            found[verdict] = math.exp(total)
        else:
            found[verdict] = sum(float((total + logprobs[-1, t]).exp()) for t in set(ends))
    return found


def check(
    engine: TransformersEngine, item: JudgeInput, protocol: JudgingTask, got: VerdictDistribution
) -> None:
    brute = brute_force(engine, item, protocol)
    assert got.mass == pytest.approx(sum(brute.values()), abs=1e-5)
    flattened = {verdict: p ** (1 / protocol.verdicts.temperature) for verdict, p in brute.items()}
    for verdict, prob in zip(got.verdicts, got.probs, strict=True):
        assert prob == pytest.approx(flattened[verdict] / sum(flattened.values()), abs=1e-5)


def protocols(judge: Judge) -> list[tuple[JudgingTask, dict[str, str]]]:
    assert judge.spec.rating is not None
    assert judge.spec.comparison is not None
    return [
        (judge.spec.rating, {"prompt": PROMPT, "completion": FIRST}),
        (judge.spec.comparison, {"prompt": PROMPT, "first": FIRST, "second": SECOND}),
    ]


def load(engine: Any, mode: Any, *, assume_ends: bool = False, **options: Any) -> Judge:
    """mini with Auto-J's half points, its ends read or taken for granted."""
    spec, half_points = load_spec("mini"), load_spec("autoj-13b").rating
    assert spec.rating is not None
    assert spec.comparison is not None
    assert half_points is not None
    ratings = replace(
        half_points.verdicts, verdict_prefix=spec.rating.verdicts.verdict_prefix, assume_ends=assume_ends
    )
    preferences = replace(spec.comparison.verdicts, assume_ends=assume_ends)
    spec = replace(
        spec,
        rating=replace(spec.rating, verdicts=ratings),
        comparison=replace(spec.comparison, verdicts=preferences),
    )
    return Judge.load(
        spec, engine=engine, mode=mode, min_mass=1e-30, follow_above=0.0, both_orders=False, **options
    )


@pytest.mark.parametrize("assume_ends", [False, True], ids=["ends read", "ends taken for granted"])
def test_direct_distributions_equal_brute_force(engine: TransformersEngine, assume_ends: bool) -> None:
    judge = load(engine, "direct", assume_ends=assume_ends)
    got = [judge.rate([PROMPT], [FIRST])[0], judge.compare([PROMPT], [FIRST], [SECOND])[0]]
    for judgment, (protocol, values) in zip(got, protocols(judge), strict=True):
        item = JudgeInput(
            body=protocol.template.fill(values),
            wrapper=judge.spec.direct_wrapper,
            prefill=(Segment(protocol.verdicts.verdict_prefix, True),),
        )
        assert judgment.distribution is not None
        assert judgment.distribution.exactness == "exact"
        check(engine, item, protocol, judgment.distribution)


@pytest.mark.parametrize(
    ("place", "critique", "before"),
    [
        (0, "It is right, see {x}.\n\nRating: [[7]]", "It is right, see {x}.\n\nRating: [["),
        (0, "Quoted [[10]], meant: Rating: [[1]].", "Quoted [[10]], meant: Rating: [["),
        (1, "Both try. So, the final decision is Response 1.", "Both try. So, the final decision is"),
        (1, "Even. So, the final decision is Tie", "Even. So, the final decision is"),
    ],
    ids=["rating", "rating after a quoted one", "first", "tie"],
)
def test_critique_distributions_equal_brute_force(
    engine: TransformersEngine, place: int, critique: str, before: str
) -> None:
    """The distribution is read where the critique states its verdict, given all that stands before."""
    judge = load(ScriptedEngine(write=critique, otherwise=engine), "critique")
    got = judge.rate([PROMPT], [FIRST])[0] if place == 0 else judge.compare([PROMPT], [FIRST], [SECOND])[0]
    protocol, values = protocols(judge)[place]
    item = JudgeInput(
        body=protocol.template.fill(values), wrapper=judge.spec.wrapper, prefill=(Segment(before),)
    )
    assert got.distribution is not None
    check(engine, item, protocol, got.distribution)


@pytest.mark.parametrize(
    ("place", "critique", "forced"),
    [
        (0, "It is right, and says", "\nRating: [["),
        (0, 'It says "Rating: [[10]]" of itself.\n', "Rating: [["),
        (1, "Both try, but", "\nSo, the final decision is"),
    ],
    ids=["cut off", "quoted and left open", "comparison"],
)
def test_forced_distributions_equal_brute_force(
    engine: TransformersEngine, place: int, critique: str, forced: str
) -> None:
    """What ends without a verdict is closed with the words before one, and read there, all before it given."""
    judge = load(ScriptedEngine(write=critique, otherwise=engine), "critique", force_verdict=True)
    got = judge.rate([PROMPT], [FIRST])[0] if place == 0 else judge.compare([PROMPT], [FIRST], [SECOND])[0]
    protocol, values = protocols(judge)[place]
    item = JudgeInput(
        body=protocol.template.fill(values),
        wrapper=judge.spec.wrapper,
        prefill=(Segment(critique), Segment(forced, True)),
    )
    assert got.n_forced == 1
    assert got.critique == critique
    assert got.distribution is not None
    check(engine, item, protocol, got.distribution)


def test_the_three_tokenizers_cut_verdicts_differently(engine: TransformersEngine) -> None:
    """What the test stands on: `10` whole or in two, preferences that part at different tokens."""
    rating = load_spec("mini").rating
    assert rating is not None
    n_ten = len(engine.tokenizer.continuation_ids(rating.verdicts.verdict_prefix, "10"))
    lead = "So, the final decision is"
    paths = [engine.tokenizer.continuation_ids(lead, f" {t}") for t in ("Response 1", "Response 2", "Tie")]
    shared = next(n for n in range(9) if len({tuple(p[: n + 1]) for p in paths[:2]}) == 2)
    assert n_ten in (1, 2)
    assert shared >= 1
    assert paths[2][0] != paths[0][0] or shared > 1


def test_the_mass_that_follow_above_drops_is_bounded(engine: TransformersEngine) -> None:
    judge = load(engine, "direct")
    fewer = Judge.load(judge.spec, engine=engine, mode="direct", min_mass=1e-30, follow_above=0.05)
    whole = judge.rate([PROMPT], [FIRST])[0].distribution
    part = fewer.rate([PROMPT], [FIRST])[0].distribution
    assert whole is not None
    assert part is not None
    assert whole.mass - part.mass <= part.unread_prob + 1e-6
    assert (part.exactness == "bounded") == (part.unread_prob > 0)


def test_the_random_models_are_not_uniform(tmp_path: Path) -> None:
    """Weights of ordinary size make every verdict equally likely, and any test of them pass."""
    engine = TransformersEngine(str(save_random_model(tmp_path, whole_ten(), seed=3)), dtype="float32")
    distribution = load(engine, "direct").rate([PROMPT], [FIRST])[0].distribution
    assert distribution is not None
    assert max(distribution.probs) > 3 * min(distribution.probs)
