# SPDX-License-Identifier: Apache-2.0
"""A judge's coroutines: concurrent callers share batches, and each gets its own judgments or its own error."""

from __future__ import annotations

import asyncio
import pickle
import threading
from typing import Any

import pytest

from autoj_reward.errors import ConfigError, EngineUnavailable
from autoj_reward.judge.judge import Judge
from autoj_reward.testing import ScriptedEngine, rendered_text, untrusted_texts
from autoj_reward.types import JudgeInput
from tests.judge.forms import judge_of
from tests.quality import QualityEngine


class GatedEngine(QualityEngine):
    """Waits at a gate before it answers."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.gate = threading.Event()

    def generate(self, inputs: Any) -> Any:
        assert self.gate.wait(20)
        return super().generate(inputs)


def load(engine: QualityEngine) -> Judge:
    return Judge.load("mini", engine=engine, mode="direct")


def test_concurrent_callers_share_batches_and_get_their_own_judgments() -> None:
    engine = QualityEngine()

    async def rate(n: int) -> float | None:
        (judgment,) = await judge.arate([f"Question {n}?"], [f"q={n % 9 + 1}"])
        return judgment.expected_rating

    async def steps() -> list[float | None]:
        return await asyncio.gather(*(rate(n) for n in range(200)))

    with load(engine) as judge:
        found = asyncio.run(steps())
    assert found == [pytest.approx(n % 9 + 1) for n in range(200)]
    assert len(engine.calls) < 5
    assert engine.n_inputs == 200


def test_ratings_and_comparisons_are_those_of_the_calls_without_async() -> None:
    prompts, firsts, seconds = ["a", "b", "c"], ["q=3", "q=8", "q=5"], ["q=6", "q=2", "q=5 too"]

    async def steps() -> Any:
        return await asyncio.gather(
            judge.arate(prompts, firsts), judge.acompare(prompts, firsts, seconds), judge.arate([], [])
        )

    with load(QualityEngine()) as judge:
        rated, compared, none = asyncio.run(steps())
        assert rated == judge.rate(prompts, firsts)
        assert compared == judge.compare(prompts, firsts, seconds)
        assert none == []


def test_callers_that_come_while_the_engine_is_busy_are_one_batch() -> None:
    engine = GatedEngine()

    async def steps() -> None:
        first = asyncio.create_task(judge.arate(["first"], ["q=1"]))
        await asyncio.sleep(0.05)
        others = [asyncio.create_task(judge.arate([f"{n}"], ["q=1"])) for n in range(50)]
        await asyncio.sleep(0.05)
        engine.gate.set()
        await asyncio.gather(first, *others)

    with load(engine) as judge:
        asyncio.run(steps())
    assert [len(call) for call in engine.calls] == [1, 50]


def test_a_request_that_does_not_fit_fails_its_own_call_alone() -> None:
    async def steps() -> Any:
        return await asyncio.gather(
            judge.arate(["a"], ["q=4"]),
            judge.arate(["a"], [[{"role": "user"}]]),
            judge.arate(["a", "b"], ["q=4"]),
            return_exceptions=True,
        )

    with load(QualityEngine()) as judge:
        good, wrong, lengths = asyncio.run(steps())
    assert good[0].expected_rating == pytest.approx(4)
    assert isinstance(wrong, ConfigError)
    assert isinstance(lengths, ConfigError)


def test_a_failed_engine_fails_every_caller_of_the_batch_and_not_the_next() -> None:
    async def steps() -> Any:
        failed = await asyncio.gather(
            judge.arate(["a"], ["dies"]), judge.arate(["b"], ["q=4"]), return_exceptions=True
        )
        return failed, await judge.arate(["b"], ["q=4"])

    with load(QualityEngine(dies="dies")) as judge:
        failed, after = asyncio.run(steps())
    assert [type(error) for error in failed] == [EngineUnavailable] * 2
    assert after[0].expected_rating == pytest.approx(4)


def test_a_cancelled_caller_takes_its_requests_out_of_the_queue() -> None:
    engine = GatedEngine()

    async def steps() -> None:
        first = asyncio.create_task(judge.arate(["first"], ["q=1"]))
        await asyncio.sleep(0.05)
        leaves = asyncio.create_task(judge.arate(["leaves"], ["q=1"]))
        stays = asyncio.create_task(judge.arate(["stays"], ["q=1"]))
        await asyncio.sleep(0.05)
        leaves.cancel()
        await asyncio.sleep(0)
        engine.gate.set()
        await asyncio.gather(first, stays)

    def prompt(item: JudgeInput) -> str:
        return untrusted_texts(item)[0]

    with load(engine) as judge:
        asyncio.run(steps())
    assert [prompt(item) for item in engine.inputs] == ["first", "stays"]


def test_a_judge_serves_one_event_loop_after_another_and_can_be_pickled() -> None:
    with load(QualityEngine()) as judge:
        for _ in range(3):
            (judgment,) = asyncio.run(judge.arate(["a"], ["q=4"]))
            assert judgment.expected_rating == pytest.approx(4)
    with Judge.load("mini", engine="transformers") as judge:
        assert isinstance(pickle.loads(pickle.dumps(judge)), Judge)


def test_a_judge_that_rates_lists_keeps_the_completions_of_calls_separate() -> None:
    def lists() -> set[tuple[bool, bool]]:
        return {("mine" in rendered_text(item), "yours" in rendered_text(item)) for item in engine.inputs}

    async def steps() -> None:
        await asyncio.gather(judge.arate(["a"] * 2, ["mine 1", "mine 2"]), judge.arate(["a"], ["yours"]))

    engine = ScriptedEngine(read=lambda item: dict.fromkeys(item.readout.continuations, 0.1))  # type: ignore[union-attr]
    with Judge.load(judge_of("list of four"), engine=engine, mode="direct") as judge:
        asyncio.run(steps())
    assert lists() == {(True, False), (False, True)}
