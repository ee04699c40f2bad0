# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoj_reward import ConfigError, Judge
from autoj_reward.reward.resolution import engine_resolution
from autoj_reward.reward.scale import RewardScale
from autoj_reward.testing import ScriptedEngine


@pytest.mark.parametrize(
    ("low", "high", "scale", "raw", "reward"),
    [
        (1, 10, "raw", 7.3, 7.3),
        (1, 10, "unit", 1, 0.0),
        (1, 10, "unit", 10, 1.0),
        (1, 10, "unit", 5.5, 0.5),
        (1, 10, "centred", 5.5, 0.0),
        (1, 10, "centred", 1, -1.0),
        (1, 10, "centred", 7, (7 - 5.5) / 4.5),
        (0, 1, "raw", 0.2, 0.2),
        (0, 1, "unit", 0.2, 0.2),
        (0, 1, "centred", 0.2, -0.6),
        (1, 5, "unit", 4, 0.75),
    ],
)
def test_scales(low: float, high: float, scale: str, raw: float, reward: float) -> None:
    assert RewardScale(low, high, scale).reward(raw) == pytest.approx(reward, abs=1e-11)  # type: ignore[arg-type]


def test_noise_is_not_a_difference() -> None:
    """A group judged alike once got advantages of full size from the engine's last digits."""
    scale = RewardScale(1, 10, "centred", 0.001)
    assert len({scale.reward(7.0 + n * 1e-5) for n in range(-40, 41)}) == 1
    assert scale.reward(7.0) != scale.reward(7.001)


unit = st.floats(0, 1)
steps = st.sampled_from([0.0, 1e-4, 0.01, 0.05, 0.3])


@given(unit, steps)
def test_swapping_completions_swaps_rewards(p: float, step: float) -> None:
    scale = RewardScale(0, 1, "centred", step)
    assert scale.reward(p) == pytest.approx(-scale.reward(1.0 - p), abs=1e-9 if step == 0 else step * 2.001)
    if step and abs((p - 0.5) / step % 1 - 0.5) > 1e-6:
        assert scale.reward(p) == pytest.approx(-scale.reward(1.0 - p), abs=1e-9)


@given(unit, unit, steps, st.sampled_from(["raw", "unit", "centred"]))
def test_rewards_rise_with_ratings_and_stay_in_range(p: float, q: float, step: float, scale: str) -> None:
    s = RewardScale(1, 10, scale, step)  # type: ignore[arg-type]
    low, high = sorted((1 + 9 * p, 1 + 9 * q))
    assert s.reward(1) <= s.reward(low) <= s.reward(high) <= s.reward(10)


@pytest.mark.parametrize(
    ("scale", "step"), [("half", 0.0), ("raw", -1.0), ("raw", 9.0), ("raw", float("nan"))]
)
def test_wrong_settings(scale: str, step: float) -> None:
    with pytest.raises(ConfigError):
        RewardScale(1, 10, scale, step)  # type: ignore[arg-type]


def test_the_dtype_is_read_from_files_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server needs it for the scale of every request."""
    asked = []

    def plan(*_: object, **__: object) -> dict[str, str]:
        asked.append(1)
        return {"dtype": "float32"}

    with Judge.load("mini", mode="direct", engine=ScriptedEngine(read={"5": 1.0})) as judge:
        monkeypatch.setattr(judge, "_plan", plan)
        assert {engine_resolution(judge, pairwise=False) for _ in range(3)} == {0.001}
    assert len(asked) == 1
