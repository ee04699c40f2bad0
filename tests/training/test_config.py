# SPDX-License-Identifier: Apache-2.0
"""A run's settings: what is wrong is named, all at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from autoj_reward.errors import ConfigError
from autoj_reward.training.config import load_config

REPO = Path(__file__).resolve().parent.parent.parent


def test_paths_are_relative_to_the_file(config_file: Path) -> None:
    config = load_config(config_file)
    assert config.judge == str(config_file.parent / "judge.toml")
    assert config.files[0].path == str(config_file.parent / "pairs.jsonl")
    assert config.exclude == (str(config_file.parent / "test.jsonl"),)


def test_a_run_is_the_same_from_any_working_folder(
    config_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(config_file.parent)
    assert load_config(config_file.name) == load_config(config_file)


def test_the_output_folder_can_be_named_elsewhere(config_file: Path, tmp_path: Path) -> None:
    assert load_config(config_file, output=tmp_path / "else").output == str(tmp_path / "else")


def test_a_path_takes_variables(config_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = config_file.read_text().replace('"pairs.jsonl"', '"$SOME_DATA/pairs.jsonl"')
    config_file.write_text(text)
    monkeypatch.delenv("SOME_DATA", raising=False)
    with pytest.raises(ConfigError, match=r"SOME_DATA.*not set"):
        load_config(config_file)
    monkeypatch.setenv("SOME_DATA", "/somewhere")
    assert load_config(config_file).files[0].path == "/somewhere/pairs.jsonl"


@pytest.mark.parametrize(
    "before, after, said",
    [
        ("seed = 3", "sead = 3", "sead is not a setting"),
        ("seed = 3", 'seed = "3"', "seed = '3' is of the wrong kind"),
        ("seed = 3", "seed = true", "seed = True is of the wrong kind"),
        ("seed = 3", f"seed = {2**70}", "seed is an integer over 64 bits"),
        ("seed = 3", "seed = 3\nthreads = -1", "threads = -1 is below 0"),
        ("held_out = 0.3", "held_out = nan", "held_out = nan is not a finite number"),
        ("max_tokens = 400", "epochs = inf", "epochs = inf is not a finite number"),
        ("seed = 3", f"seed = {'[' * 3000}{']' * 3000}", "nested"),
        ("seed = 3", f"seed = 1{'0' * 5000}", "is not TOML"),
        ("held_out = 0.3", "held_out = 0.8", "held_out = 0.8 is not in"),
        ("crossed_ratings", "crossed", "'crossed'] are not kinds of example"),
        ("rating other_prompt", "other_prompt", "'other_prompt'] are not measures"),
        ('name = "pairs"', 'name = "crossed"', "their names must be unique"),
        (
            'kind = "pairs"',
            'kind = "pear"',
            "kind = 'pear' is none of auto-j-ratings, auto-j-comparisons, pairs",
        ),
        ("max_tokens = 400", "flaws = { rude = 1.0 }", "'rude'] are not flaws"),
        ("max_tokens = 400", 'until = { "rating human" = 0.9 }', "until needs measure_every"),
        ("max_tokens = 400", "final_share = 2.0", "final_share = 2.0 is not in"),
        ("rating other_prompt", "rating identical", "'rating identical'] are not measures"),
        ("max_tokens = 400", 'until = { "rating repeated" = 0.9 }', "not among its measures"),
        ('autocast = "none"', 'autocast = "int4"', "neither bfloat16 nor none"),
        ("r = 4", "r = 0", "r is at least 1"),
        ('path = "pairs.jsonl"', "", "path is missing"),
        ("crossed_ratings = ", "crossed_ratings = -", "examples holds a number below 0"),
        ("r = 4", "r = 4.5", "r = 4.5 is of the wrong kind (int)"),
        ("lora = { r = 4, alpha = 8 }", "lora = 4", "[lora]: must be a table"),
    ],
    ids=lambda value: value[:30],
)
def test_errors_name_the_field(config_file: Path, before: str, after: str, said: str) -> None:
    text = config_file.read_text()
    assert before in text
    config_file.write_text(text.replace(before, after, 1))
    with pytest.raises(ConfigError) as caught:
        load_config(config_file)
    assert said in str(caught.value)


def test_all_problems_are_named_at_once(config_file: Path) -> None:
    text = config_file.read_text().replace("seed = 3", "sead = 3").replace("r = 4", "rank = 4")
    config_file.write_text(text)
    with pytest.raises(ConfigError, match=r"(?s)rank is not a setting.*sead is not a setting"):
        load_config(config_file)


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read the training file"):
        load_config(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("name", "judge"),
    [
        ("train_mini.toml", "untrained_mini.toml"),
        ("train_mini_cpu.toml", "untrained_mini.toml"),
        ("train_small.toml", "untrained_small.toml"),
        ("train_small_cpu.toml", "untrained_small.toml"),
    ],
)
def test_the_shipped_runs_are_right(monkeypatch: pytest.MonkeyPatch, name: str, judge: str) -> None:
    monkeypatch.setenv("AUTOJ_REWARD_DATA", "/data")
    config = load_config(REPO / "examples" / name)
    assert Path(config.judge).resolve() == REPO / "examples" / judge
    assert config.stages[-1].final_share <= 0.1
