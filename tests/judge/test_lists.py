# SPDX-License-Identifier: Apache-2.0
"""A judge of lists gives the same numbers after a retry, from the server, and only through engines that can."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from autoj_reward import Judge, Request
from autoj_reward.errors import ConfigError
from autoj_reward.reward.reward import BatchReward
from autoj_reward.serve.service import RewardService
from autoj_reward.serve.settings import ServeSettings
from autoj_reward.testing import ScriptedEngine, untrusted_texts
from autoj_reward.types import Failure, FailureReason, JudgeInput

BEST_OF_THREE = """
extends = "general"
name = "best"
model = "none"
comparison = false
[rating]
template = "list"
blocks = {}
text = "{prompt}\\n\\n{completions}\\nWhich answer is best?"
verdict_prefix = "Best: "
pattern = 'best:\\s*(?P<verdict>\\d{1,2})'
terminators = ["."]
end_of_turn = true
[rating.scale]
low = 0
high = 1
step = 1
[rating.list]
size = 3
overlap = 2
best = true
item = "[Answer {index}]\\n{completion}\\n"
"""
COMPLETIONS = ["a", "b", "c", "d"]
EVEN = pytest.approx([1 / 3] * 4)


class OnceBroken(ScriptedEngine):
    """Calls every answer as likely the best; its second input fails once, if asked to."""

    def __init__(self, *, breaks: bool = False) -> None:
        super().__init__(read=self.read)
        self._left = 2 if breaks else 0

    def read(self, item: JudgeInput) -> Any:
        self._left -= 1
        if self._left == 0:
            return Failure(reason=FailureReason.ENGINE, detail="once")
        n = len(untrusted_texts(item)) - 1
        return {str(place + 1): 1 / n for place in range(n)}


@pytest.fixture
def judge_file(tmp_path: Path) -> str:
    (tmp_path / "best.toml").write_text(BEST_OF_THREE)
    return str(tmp_path / "best.toml")


@pytest.mark.parametrize("breaks", [False, True])
def test_a_list_that_failed_is_asked_for_whole(judge_file: str, breaks: bool) -> None:
    """The completion that failed was asked about alone, and was the best of its list of one."""
    judge = Judge.load(judge_file, engine=OnceBroken(breaks=breaks), mode="direct")
    reward = BatchReward(judge, scale="raw", resolution=0.0, n_retries=1)
    assert reward.score_batch(["q"] * 4, COMPLETIONS)[0] == EVEN


def test_the_server_cuts_no_list(judge_file: str) -> None:
    async def asked() -> list[float | None]:
        service = RewardService(judge, ServeSettings(max_batch=3))
        await service.load()
        requests = [Request(prompt="q", completions=(c,)) for c in COMPLETIONS]
        first, second = await asyncio.gather(service.rate(requests, None), service.rate(requests, None))
        await service.close()
        assert first == second
        return [judgment.reward for judgment in first]

    judge = Judge.load(judge_file, engine=OnceBroken(), mode="direct")
    assert asyncio.run(asked()) == EVEN


def test_a_decision_endpoint_is_refused(judge_file: str) -> None:
    """It was asked the same question about every place of the list."""
    with pytest.raises(ConfigError, match="rates lists"):
        Judge.load(judge_file, engine="decisions:http://127.0.0.1:9", mode="direct").rate(["q"], ["a"])
