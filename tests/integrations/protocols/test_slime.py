# SPDX-License-Identifier: Apache-2.0
"""slime's protocol, by its published code: what `remote_rm` posts, and how `custom_rm` is awaited."""

from __future__ import annotations

import asyncio
import pickle
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from autoj_reward.integrations.client import JudgeClient
from autoj_reward.integrations.protocols.slime import custom_rm
from autoj_reward.integrations.required_reward import NoVerdict
from autoj_reward.judge.judge import Judge
from autoj_reward.reward.resolution import reward_scale
from tests.integrations.remote.conftest import TOKEN, _token, answers, judge, server
from tests.serve.conftest import Process

__all__ = ["_token", "answers", "judge", "server"]

CHAT = "<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\n"


@dataclass
class Sample:
    """The fields of slime's `Sample` that a reward function sees."""

    prompt: Any
    response: str
    label: str | None = None
    group_index: int | None = None
    remove_sample: bool = False


def rewarded(client: JudgeClient, samples: Any, **options: Any) -> Any:
    async def ask() -> Any:
        rm = pickle.loads(pickle.dumps(custom_rm(client, scale="raw", resolution=0, **options)))
        try:
            return await rm(None, samples, evaluation=False)
        finally:
            await rm.__self__.client.close_async()

    return asyncio.run(ask())


@pytest.mark.parametrize("prompt", ["Q", CHAT, [{"role": "user", "content": "Q"}]])
def test_rewards_are_those_of_the_python_api(server: Process, judge: Judge, prompt: Any) -> None:
    client = JudgeClient(server.url)
    wanted = [j.reward for j in judge.rate(["Q", "Q"], ["Paris", "Berlin"])]
    samples = [Sample(prompt, "Paris<|im_end|>"), Sample(prompt, "Berlin")]
    assert rewarded(client, samples) == wanted
    assert rewarded(client, samples[0]) == wanted[0]


@pytest.mark.parametrize("prompt", ["Q", CHAT, [{"role": "user", "content": "Q"}]])
def test_remote_rm_answers_a_number(server: Process, judge: Judge, prompt: Any) -> None:
    """What slime posts to `--rm-url`; its client knows no token but the one in the address."""
    url = server.url.replace("http://", f"http://any:{TOKEN}@") + "/remote_rm"
    (wanted,) = judge.rate(["Q"], ["Paris"])
    answer = httpx.post(url, json={"prompt": prompt, "response": "Paris<|im_end|>", "label": None})
    scale = reward_scale(judge, "rating", "centred", None)
    assert wanted.reward is not None
    assert answer.json() == scale.reward(wanted.reward)
    assert httpx.post(url, json={"prompt": prompt, "response": "mumble", "label": "x"}).json() is None
    refused = httpx.post(url, json={"prompt": 3, "response": "Paris"})
    assert refused.status_code == 422
    assert httpx.post(url, json={"prompt": "Q", "response": ["Paris"]}).json()["error"]["where"] == "response"


def test_a_failure_takes_its_group_out_of_the_loss(server: Process) -> None:
    client = JudgeClient(server.url)
    samples = [Sample("Q", text, group_index=n) for n, text in [(0, "Paris"), (0, "mumble"), (1, "Paris")]]
    with pytest.raises(NoVerdict, match="low_mass"):
        rewarded(client, samples)
    assert rewarded(client, samples, failure_reward=0.0)[1] == 0.0
    assert [sample.remove_sample for sample in samples] == [True, True, False]
    alone = [Sample("Q", "mumble"), Sample("Q", "Paris")]
    rewarded(client, alone, failure_reward=0.0)
    assert [sample.remove_sample for sample in alone] == [True, False]
