# SPDX-License-Identifier: Apache-2.0
"""A thinking budget limits thinking, and not the critique of a judge that does not think."""

from __future__ import annotations

from pathlib import Path

import pytest

from autoj_reward.judge.judge import Judge
from autoj_reward.testing import ScriptedEngine
from autoj_reward.types import JudgeInput, JudgeOutput, Usage

ANSWER = "It names the right city and says no more than was asked for. Rating: [[7]]"


def writes(text: str) -> ScriptedEngine:
    """Writes a text word by word, from where its turn has come to, within the limit and up to a stop text."""

    def write(item: JudgeInput) -> JudgeOutput:
        begun = "".join(segment.text for segment in item.prefill)
        words = text.removeprefix(begun).split(" ")
        kept = " ".join(words[: item.sampling.max_new_tokens])
        stops = [kept.find(stop) for stop in item.sampling.stop if stop in kept]
        if stops:
            return JudgeOutput(text=kept[: min(stops)], finish_reason="stop", usage=Usage(n_requests=1))
        cut = len(words) > item.sampling.max_new_tokens
        finish = "length" if cut else "stop"
        return JudgeOutput(text=kept, finish_reason=finish, usage=Usage(n_requests=1))  # type: ignore[arg-type]

    return ScriptedEngine(write=write, read={"7": 1.0})


@pytest.fixture
def judge_file(tmp_path: Path) -> str:
    own = 'extends = "general"\nname = "own"\nmodel = "none"\n[thinking]\nbudget_tokens = 8\n'
    (tmp_path / "own.toml").write_text(own)
    return str(tmp_path / "own.toml")


@pytest.mark.parametrize("most", [2048, 16])
def test_a_judge_that_does_not_think_goes_on_beyond_the_budget(judge_file: str, most: int) -> None:
    """Its answer was cut off at the budget, and failed as truncated."""
    judge = Judge.load(judge_file, engine=writes(ANSWER), mode="critique", max_new_tokens=most)
    (judged,) = judge.rate(["Capital of France?"], ["Paris."])
    assert (judged.rating, judged.critique, judged.failure) == (7.0, ANSWER, None)


def test_its_critique_has_no_more_tokens_than_the_limit(judge_file: str) -> None:
    judge = Judge.load(judge_file, engine=writes(ANSWER), mode="critique", max_new_tokens=12)
    (judged,) = judge.rate(["Capital of France?"], ["Paris."])
    assert judged.failure is not None
    assert judged.failure.reason == "truncated"
    assert 8 < len(judged.failure.raw_text.split()) <= 12
