# SPDX-License-Identifier: Apache-2.0
"""`best_of_n` with criteria, for one group and many, and `track` for a growing transcript."""

from __future__ import annotations

import pytest

from autoj_reward import Judge, best_of_n, track
from autoj_reward.errors import ConfigError
from autoj_reward.testing import ScriptedEngine, untrusted_texts
from tests.criteria.conftest import GREEN

CRITERIA = {"Red": "It is red."}
GROUP = ["It is green.", "It is red.", "It is blue."]


@pytest.fixture
def judge(engine: ScriptedEngine) -> Judge:
    return Judge.load("mini", engine=engine, mode="direct")


def test_the_best_of_one_group_and_of_many(engine: ScriptedEngine) -> None:
    # The criterion has a name of its own, so the judge is shown both.
    judge = Judge.load("mini", engine=ScriptedEngine(read=_named), mode="direct")
    assert best_of_n(judge, "Colour?", GROUP, criteria=CRITERIA) == ["It is red."]
    assert best_of_n(judge, ["Colour?"] * 2, [GROUP, GROUP[1:]], criteria=CRITERIA) == [["It is red."]] * 2
    messages = [{"role": "user", "content": "Colour?"}]
    assert best_of_n(judge, messages, GROUP, criteria=CRITERIA, n_best=3)[0] == "It is red."
    with pytest.raises(ConfigError, match="give one of them"):
        best_of_n(judge, "Colour?", GROUP, criteria=CRITERIA, rubrics=[CRITERIA])


def _named(item: object) -> dict[str, float]:
    *_, answer, criterion = untrusted_texts(item)  # type: ignore[arg-type]
    assert criterion == "Red: It is red."
    return {"Yes": 0.9, "No": 0.1} if "red" in answer else {"Yes": 0.2, "No": 0.8}


def test_each_checkpoint_is_judged_without_what_follows(judge: Judge, engine: ScriptedEngine) -> None:
    steps = ["I look.", [{"role": "assistant", "content": "It is green."}], "No, it is red."]
    done = track(
        judge,
        "Colour?",
        steps,
        criteria=[{"text": "It is red.", "weight": 2}, {"text": "It is green.", "weight": -1}],
    )
    assert done.checkpoints == (1, 2, 3)
    both = (2 * 0.9 - 0.9) / 2
    assert done.rewards == pytest.approx([1 + 9 * (0.4 - 0.2) / 2, 1 + 9 * GREEN, 1 + 9 * both])
    assert done.final == done.rewards[-1]
    shown = [untrusted_texts(item)[1] for item in engine.inputs[::2]]
    assert shown[2].startswith(shown[1])
    assert shown[1].startswith(shown[0])
    assert "red" not in shown[1]


def test_checkpoints_may_be_chosen(judge: Judge, engine: ScriptedEngine) -> None:
    done = track(
        judge, "Colour?", ["It is red."] * 5, checkpoints=[5, 2, 2], criteria=[{"text": "It is red."}]
    )
    assert done.checkpoints == (2, 5)
    assert done.rewards == pytest.approx([1 + 9 * 0.9] * 2)
    assert engine.n_inputs == 2
    for wrong in ([0], [6], []):
        with pytest.raises(ConfigError, match="of 5 steps"):
            track(judge, "Colour?", ["a"] * 5, checkpoints=wrong)


def test_without_criteria_the_judges_own_rating_counts(judge: Judge) -> None:
    assert track(judge, "Colour?", ["a", "b"]).rewards == [5.0, 5.0]
