# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from autoj_reward import ConfigError, JudgeReward
from tests.integrations.test_judge_reward import judge
from tests.integrations.test_trainers import failing_reward, group_trainer, online_dpo
from tests.quality import QualityEngine

trl_callback = pytest.importorskip("autoj_reward.integrations.trl_callback", exc_type=ImportError)

pytestmark = pytest.mark.filterwarnings(
    "ignore::FutureWarning", "ignore::UserWarning", "ignore::DeprecationWarning"
)


@pytest.mark.slow
def test_numbers_and_tables_of_grpo(
    tiny_policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reward = JudgeReward(judge(QualityEngine(), mode="critique"), trainer="grpo", scale="raw")
    trainer = group_trainer("GRPO", tiny_policy, tmp_path, [reward], max_steps=3)
    reward.attach(trainer)
    trainer.add_callback(trl_callback.JudgmentCallback(reward, every=2, n_rows=3))
    trainer.train()
    rows = [json.loads(line) for line in (tmp_path / "judgments.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [2, 2, 2]
    assert all(row["critique"].startswith("About: ") and row["reward"] is not None for row in rows)
    assert "step 2: judge_rating" in capsys.readouterr().out
    logged = [h for h in trainer.state.log_history if "judge_rating/seconds" in h]
    # Once a step, by the trainer itself.
    assert [h["step"] for h in logged] == [1, 2, 3]
    assert all(h["judge_rating/failure_share"] == 0.0 for h in logged)
    assert list(trainer._logs["extra"]) == [
        "judge_rating/critique",
        "judge_rating/failure",
        "judge_rating/raw",
    ]


@pytest.mark.slow
def test_numbers_of_online_dpo(tiny_policy: Path, tmp_path: Path) -> None:
    """Its trainer gives no function to log with, and once left out its own numbers where we had logged ours."""
    reward = failing_reward()
    trainer = online_dpo(tiny_policy, tmp_path, [reward])
    reward.attach(trainer)
    trainer.add_callback(trl_callback.JudgmentCallback(reward, every=1, show=False))
    trainer.train()
    (logged,) = [h for h in trainer.state.log_history if "judge_rating/coin_for_failures" in h]
    assert logged["judge_rating/coin_for_failures"] == 1.0
    assert logged["judge_rating/failures/engine"] == pytest.approx(1 / 8)
    assert [h["step"] for h in trainer.state.log_history if "rewards/margins" in h] == [1]
    rows = [json.loads(line) for line in (tmp_path / "judgments.jsonl").read_text().splitlines()]
    assert [row["failure"] for row in rows].count("engine") == 1


def test_hostile_text_is_shown_as_text(tmp_path: Path) -> None:
    from rich.console import Console

    from autoj_reward.reward.metrics import JudgedRow

    row = JudgedRow(
        prompt="[bold]P[/bold]", completion="\x1b[2J\ud800[/red]" + "x" * 9999, critique=None, raw=None,
        reward=None, reason="no_verdict",
    )  # fmt: skip
    console = Console(width=200, record=True, file=open(tmp_path / "out", "w", encoding="utf-8"))  # noqa: SIM115
    console.print(trl_callback.judgment_table("step 1", [row]))
    shown = console.export_text()
    assert "[bold]P[/bold]" in shown
    assert "\x1b" not in shown
    assert "no_verdict" in shown
    trl_callback._append(tmp_path / "rows.jsonl", 1, [row])
    assert json.loads((tmp_path / "rows.jsonl").read_text())["completion"] == row.completion


@pytest.mark.parametrize("wrong", [{"every": 0}, {"n_rows": 0}])
def test_wrong_settings(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        trl_callback.JudgmentCallback(failing_reward(), **wrong)


@pytest.mark.slow
def test_a_gold_reward_is_asked_logged_and_rings(tiny_policy: Path, tmp_path: Path) -> None:
    """The gold reward falls as training goes on, whatever the completions are."""
    asked: list[dict[str, Any]] = []

    def gold(prompts: list[str], completions: list[str], **columns: Any) -> list[float]:
        asked.append({"n": len(completions), **columns})
        return [1.0 - 0.1 * len(asked)] * len(completions)

    reward = JudgeReward(judge(QualityEngine()), trainer="grpo")
    trainer = group_trainer("GRPO", tiny_policy, tmp_path, [reward], max_steps=12)
    callback = trl_callback.JudgmentCallback(
        reward, every=50, gold=gold, gold_every=1, gold_n=4, on_alarm="stop", gap_threshold=1.0
    )
    trainer.add_callback(callback)
    trainer.train()
    assert [p.gold for p in callback.gap] == [
        pytest.approx(1.0 - 0.1 * (n + 1)) for n in range(len(callback.gap))
    ]
    assert all(one["n"] == 4 for one in asked)
    assert callback.alarms
    assert trainer.state.global_step == callback.alarms[0].step < 12
    logged = [h for h in trainer.state.log_history if "judge_rating/gold_gap" in h]
    assert [h["step"] for h in logged] == [p.step for p in callback.gap]
    assert len((tmp_path / "gold.jsonl").read_text().splitlines()) == 4 * len(callback.gap)


@pytest.mark.parametrize(
    "wrong", [{"gold_every": 0}, {"gold_n": 0}, {"gap_threshold": 0.0}, {"on_alarm": "cry"}]
)
def test_wrong_settings_of_the_gold_reward(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        trl_callback.JudgmentCallback(failing_reward(), gold=lambda **_: [], **wrong)
