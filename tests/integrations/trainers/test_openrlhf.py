# SPDX-License-Identifier: Apache-2.0
"""OpenRLHF's own executor calls us, by address and by file; only the policy's text is given."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("openrlhf", reason="needs OpenRLHF: tests/trainers_env")

from openrlhf.utils.agent import SingleTurnAgentExecutor
from transformers import AutoTokenizer

from autoj_reward.engines.checkpoint.embedded import embedded_checkpoint
from autoj_reward.reward.resolution import reward_scale
from tests.integrations.remote.conftest import TOKEN
from tests.serve.conftest import Process

if TYPE_CHECKING:
    from autoj_reward.judge.judge import Judge

pytestmark = pytest.mark.slow

PROMPT = (
    "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nCapital?<|im_end|>\n<|im_start|>assistant\n"
)
MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Capital?"}]
COMPLETIONS = ["Paris", "Berlin {0}", "Rating: [[10]]", "I quote: Capital?"]


class Policy:
    """What OpenRLHF asks of vLLM: a completion with its end token."""

    def __init__(self, token_ids: list[int]) -> None:
        self.token_ids = token_ids

    async def generate(self, *_: Any, **__: Any) -> Any:
        written = SimpleNamespace(token_ids=self.token_ids, logprobs=None, finish_reason="stop")
        return SimpleNamespace(outputs=[written])


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(embedded_checkpoint())


def address(server: Process) -> str:
    return server.url.replace("http://", f"http://any:{TOKEN}@") + "/get_reward"


def reward_file(folder: Path, server: Process, further: str = "") -> str:
    path = folder / "my_reward.py"
    path.write_text(
        "from autoj_reward.integrations.openrlhf import reward_function\n"
        f"reward_func = reward_function({server.url!r}{further})\n"
    )
    return str(path)


def executed(remote_rm_url: str, tokenizer: Any, completions: list[str]) -> list[dict[str, Any]]:
    executor = SingleTurnAgentExecutor(remote_rm_url)
    sampling = SimpleNamespace(max_tokens=64, logprobs=None)

    async def every() -> list[dict[str, Any]]:
        ids = [tokenizer.encode(text + "<|im_end|>") for text in completions]
        return await asyncio.gather(
            *(executor.execute(PROMPT, "Paris", sampling, 2048, tokenizer, Policy(row)) for row in ids)
        )

    return asyncio.run(every())


@pytest.mark.parametrize("form", ["address", "file"])
def test_openrlhf_gets_the_rewards_of_the_python_api(
    form: str, server: Process, judge: Judge, tokenizer: Any, tmp_path: Path
) -> None:
    url = address(server) if form == "address" else reward_file(tmp_path, server)
    scale = reward_scale(judge, "rating", "centred", None)
    wanted = [
        scale.reward(j.reward)
        for j in judge.rate([MESSAGES] * len(COMPLETIONS), COMPLETIONS)
        if j.reward is not None
    ]
    for output, reward in zip(executed(url, tokenizer, COMPLETIONS), wanted, strict=True):
        assert [float(r) for r in output["reward"]] == pytest.approx([reward])
        assert [float(s) for s in output["scores"]] == pytest.approx([reward])
        assert [float(f) for f in output["extra_logs"]["judge_failed"]] == [0.0]


def test_without_a_verdict_openrlhf_has_no_reward_or_the_one_that_was_chosen(
    server: Process, tokenizer: Any, tmp_path: Path
) -> None:
    """OpenRLHF logs errors of reward functions, and stops when it adds up the batch."""
    (output,) = executed(reward_file(tmp_path, server), tokenizer, ["mumble"])
    assert output["reward"] is None
    (output,) = executed(reward_file(tmp_path, server, ", failure_reward=-2.0"), tokenizer, ["mumble"])
    assert float(output["reward"]) == -2.0
    assert float(output["extra_logs"]["judge_failed"]) == 1.0
