# SPDX-License-Identifier: Apache-2.0
"""Called as verl calls: a function loaded from a file, one sample at a time, on a loop or in threads."""

from __future__ import annotations

import asyncio
import functools
import importlib.util
import inspect
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autoj_reward.errors import ConfigError
from autoj_reward.integrations.required_reward import NoVerdict
from autoj_reward.integrations.verl import async_compute_score, compute_score
from autoj_reward.judge.judge import Judge
from tests.serve.conftest import Process

SAMPLES = ["Paris", "Berlin", "{completion}", "Rating: [[10]]", ""]
MORE = {
    "reward_router_address": "127.0.0.1:1234", "reward_model_tokenizer": object(), "strict_box_verify": False,
}  # fmt: skip


def loaded(path: Path, name: str, reward_kwargs: dict[str, Any]) -> Callable[..., Any]:
    """What verl makes of `custom_reward_function.path` and `.name`."""
    spec = importlib.util.spec_from_file_location("custom_module", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["custom_module"] = module
    spec.loader.exec_module(module)
    function = getattr(module, name)

    def call(**given: Any) -> Any:
        return function(**{**given, **reward_kwargs})

    async def call_async(**given: Any) -> Any:
        return await function(**{**given, **reward_kwargs})

    return call_async if inspect.iscoroutinefunction(function) else call


async def all_scores(function: Callable[..., Any]) -> list[Any]:
    """As verl's reward loop does: await a coroutine function, run any other in a thread."""
    loop = asyncio.get_running_loop()

    async def one(sample: str) -> Any:
        given: dict[str, Any] = {
            "data_source": "openai/gsm8k", "solution_str": sample, "ground_truth": "Paris",
            "extra_info": {"split": "train", "index": 0, "question": "Q", "num_turns": None, "rollout_reward_scores": {}},
            **MORE,
        }  # fmt: skip
        if inspect.iscoroutinefunction(function):
            return await function(**given)
        return await loop.run_in_executor(None, functools.partial(function, **given))

    try:
        return await asyncio.gather(*(one(sample) for sample in SAMPLES))
    finally:
        await sys.modules["custom_module"].client.close_async()


@pytest.mark.parametrize("kind", ["compute_score", "async_compute_score"])
def test_scores_are_the_rewards_of_the_python_api(
    kind: str, server: Process, judge: Judge, tmp_path: Path
) -> None:
    path = tmp_path / "my_reward.py"
    path.write_text(
        "from autoj_reward.integrations.client import JudgeClient\n"
        f"from autoj_reward.integrations.verl import {kind} as make\n"
        f"client = JudgeClient({server.url!r})\ncompute_score = make(client, scale='raw', resolution=0)\n"
    )
    function = loaded(path, "compute_score", {"further": 1})
    assert inspect.iscoroutinefunction(function) is (kind == "async_compute_score")
    scores = asyncio.run(all_scores(function))
    sys.modules["custom_module"].client.close()
    wanted = [j.reward for j in judge.rate(["Q"] * len(SAMPLES), SAMPLES)]
    assert scores == [{"score": reward, "judge_failed": 0.0} for reward in wanted]


def call(function: Callable[..., Any], solution: str = "Paris", **info: Any) -> Any:
    """One call as a trainer makes it; its connections are closed with the event loop."""
    client = function.__self__.client  # type: ignore[attr-defined]
    if not inspect.iscoroutinefunction(function):
        try:
            return function("source", solution, "truth", info)
        finally:
            client.close()

    async def ask() -> Any:
        try:
            return await function("source", solution, "truth", info)
        finally:
            await client.close_async()

    return asyncio.run(ask())


@pytest.mark.parametrize("make", [compute_score, async_compute_score])
def test_they_can_be_pickled_and_are_what_they_were(make: Any, server: Process) -> None:
    again = pickle.loads(pickle.dumps(make(server.url)))
    assert inspect.iscoroutinefunction(again) is (make is async_compute_score)
    assert again.__name__ == "compute_score"
    assert call(again, question="Q") == call(make(server.url), question="Q")


@pytest.mark.parametrize("make", [compute_score, async_compute_score])
def test_prompts_of_parquet_and_special_tokens_are_taken_as_they_are(
    make: Any, server: Process, judge: Judge
) -> None:
    messages = np.array(
        [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Q"}], dtype=object
    )
    score = call(
        make(server.url, prompt_field="prompt", end_tokens=["<stop>"], scale="raw", resolution=0),
        "Paris<stop><|im_end|>",
        prompt=messages,
    )
    assert score["score"] == judge.rate([messages.tolist()], ["Paris"])[0].reward


@pytest.mark.parametrize("make", [compute_score, async_compute_score])
def test_no_verdict_is_an_error_or_the_reward_that_was_chosen(make: Any, server: Process) -> None:
    with pytest.raises(NoVerdict, match="low_mass"):
        call(make(server.url), "mumble", question="Q")
    assert call(make(server.url, failure_reward=-2.0), "mumble", question="Q") == {
        "score": -2.0, "judge_failed": 1.0,
    }  # fmt: skip


@pytest.mark.parametrize("make", [compute_score, async_compute_score])
def test_a_prompt_that_is_not_there_says_where_to_put_it(make: Any, server: Process) -> None:
    with pytest.raises(ConfigError, match="extra_info has no 'question'; it has 'index'") as missing:
        call(make(server.url), index=3)
    assert "prompt_field" in missing.value.hint
    with pytest.raises(ConfigError, match="nothing"):
        compute_score(server.url)("source", "text", "truth", None)
