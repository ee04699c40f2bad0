# SPDX-License-Identifier: Apache-2.0
"""A reward with settings from the environment, as `trl grpo --reward_funcs` finds it."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from autoj_reward import ConfigError
from autoj_reward.integrations import trl as trl_module
from autoj_reward.integrations.trl_settings import reward_from_environment
from tests.conftest import REPO


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AUTOJ_REWARD_CONFIG", "AUTOJ_REWARD_JUDGE", "AUTOJ_REWARD_ENGINE"):
        monkeypatch.delenv(name, raising=False)


def test_settings_of_a_file_are_arguments_of_the_reward(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "reward.toml"
    file.write_text(
        'judge = "autoj-13b"\nengine = "server:http://127.0.0.1:1"\njudge_mode = "direct"\nmode = "pairwise"\n'
        'scale = "raw"\nschedule = "all"\nname = "taste"\nmax_failures = 0.25\n[guard]\nforged = "lowest"\n'
    )
    monkeypatch.setenv("AUTOJ_REWARD_CONFIG", str(file))
    reward = reward_from_environment()
    assert (reward.__name__, reward.mode, reward.scale.scale) == ("taste", "pairwise", "raw")
    assert reward.judge.settings.mode == "direct"
    assert reward.judge.settings.guard is not None
    assert reward.judge.spec.name == "autoj-13b"
    monkeypatch.setenv("AUTOJ_REWARD_JUDGE", "mini")
    assert reward_from_environment().judge.spec.name == "mini"


def test_variables_are_enough() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AUTOJ_REWARD_JUDGE", "mini")
        assert reward_from_environment().__name__ == "judge_rating"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('scale = "raw"', "reward.toml names no judge"),
        ('judge = "mini"\nscale = "percent"', "reward.toml: scale = 'percent'"),
        ('judge = "mini"\nsclae = "raw"', "reward.toml: .*no option sclae"),
        ('judge = "mini"\nn_retries = "two"', "reward.toml: a setting has the wrong type"),
        ("judge = ", "not TOML"),
    ],
)
def test_wrong_files_are_named(
    content: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "reward.toml"
    file.write_text(content)
    monkeypatch.setenv("AUTOJ_REWARD_CONFIG", str(file))
    with pytest.raises(ConfigError, match=message):
        reward_from_environment()


def test_nothing_is_named() -> None:
    with pytest.raises(ConfigError, match="the environment names no judge"):
        reward_from_environment()


def test_the_module_has_one_reward(monkeypatch: pytest.MonkeyPatch) -> None:
    """TRL's script imports the module and takes the attribute; the second time it is the same reward."""
    monkeypatch.setenv("AUTOJ_REWARD_JUDGE", "mini")
    module = importlib.import_module("autoj_reward.integrations.trl")
    reward = module.judge_reward
    try:
        assert module.judge_reward is reward
    finally:
        monkeypatch.delattr(trl_module, "judge_reward")
    with pytest.raises(AttributeError, match="judge_rewrad"):
        _ = module.judge_rewrad


SCRIPT = """
from trl.scripts import grpo
from autoj_reward.integrations import trl as ours
grpo.main(*grpo.make_parser().parse_args_and_config(fail_with_unknown_args=False))
print("FILL", ours.judge_reward.fill)
"""


@pytest.mark.slow
def test_trls_script_trains_with_it(tiny_policy: Path, tmp_path: Path) -> None:
    """TRL's own script, with the reward by its dotted path. It learns of the trainer without `attach`."""
    data = tmp_path / "data"
    data.mkdir()
    rows: list[dict[str, Any]] = [
        {"prompt": [{"role": "user", "content": text}]} for text in ("Name a prime.", "Say hello.")
    ]
    (data / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "reward.toml").write_text('judge = "mini"\nscale = "unit"\nname = "taste"\n')
    options = {
        "model_name_or_path": tiny_policy, "dataset_name": data, "output_dir": tmp_path / "out",
        "max_steps": 1, "num_generations": 2, "per_device_train_batch_size": 2, "max_completion_length": 8,
        "logging_steps": 1, "report_to": "none", "use_cpu": True, "bf16": False,
    }  # fmt: skip
    done = subprocess.run(
        [
            sys.executable, "-c", SCRIPT, "--reward_funcs", "autoj_reward.integrations.trl.judge_reward",
            *(text for name, value in options.items() for text in (f"--{name}", str(value))),
        ],
        env={**os.environ, "AUTOJ_REWARD_CONFIG": str(tmp_path / "reward.toml"), "HF_HUB_OFFLINE": "1"},
        cwd=REPO, capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    # Without the trainer a failure would get its group's mean.
    assert "FILL none" in done.stdout
    assert "rewards/taste/mean" in done.stdout
