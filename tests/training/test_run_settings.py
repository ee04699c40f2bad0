# SPDX-License-Identifier: Apache-2.0
"""What a stage was begun with is compared by content, wherever the files are."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from autoj_reward.errors import ConfigError
from autoj_reward.training.config import TrainConfig, load_config
from autoj_reward.training.run_settings import keep_settings, refuse_another_split


def begin(config: TrainConfig, output: Path) -> None:
    keep_settings(config, config.stages[0], output / "stage-1-crossed", write=True)


def test_a_run_goes_on_after_its_files_have_moved(config_file: Path, tmp_path: Path) -> None:
    begin(load_config(config_file), tmp_path / "out")
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for name in ("run.toml", "judge.toml", "pairs.jsonl", "test.jsonl"):
        shutil.move(tmp_path / name, moved / name)
    config = load_config(moved / "run.toml", output=tmp_path / "out")
    begin(config, tmp_path / "out")
    refuse_another_split(config)


def add(path: Path, text: str) -> None:
    path.write_text(path.read_text() + text)


def reword(path: Path) -> None:
    path.write_text(path.read_text().replace("{prompt} {completion}", "{prompt}: {completion}"))


CHANGES: dict[str, tuple[str, Callable[[Path], None]]] = {
    "data": ("files", lambda folder: add(folder / "pairs.jsonl", "\n")),
    "excluded prompts": ("exclude", lambda folder: add(folder / "test.jsonl", '{"prompt": "new"}\n')),
    "judge's prompt": ("judge", lambda folder: reword(folder / "judge.toml")),
}


@pytest.mark.parametrize("change", CHANGES)
def test_changed_content_under_the_same_name_is_refused(
    config_file: Path, tmp_path: Path, change: str
) -> None:
    begin(load_config(config_file), tmp_path / "out")
    named, make = CHANGES[change]
    make(tmp_path)
    with pytest.raises(ConfigError, match=f"begun with other settings: {named} changed since"):
        begin(load_config(config_file), tmp_path / "out")


def test_other_data_split_the_rows_in_another_way(config_file: Path, tmp_path: Path) -> None:
    begin(load_config(config_file), tmp_path / "out")
    add(tmp_path / "pairs.jsonl", "\n")
    with pytest.raises(ConfigError, match="another split: files changed since"):
        refuse_another_split(load_config(config_file))


def test_measures_may_change_and_the_learning_rate_may_not(config_file: Path, tmp_path: Path) -> None:
    config = load_config(config_file)
    begin(config, tmp_path / "out")
    first = dataclasses.replace(config.stages[0], measure_every=1)
    begin(dataclasses.replace(config, stages=(first,)), tmp_path / "out")
    first = dataclasses.replace(first, learning_rate=1e-3)
    with pytest.raises(ConfigError, match="stage changed since"):
        begin(dataclasses.replace(config, stages=(first,)), tmp_path / "out")


def test_other_weights_in_the_judges_folder_are_noticed(
    config_file: Path, tmp_path: Path, tiny_model: Path
) -> None:
    copied = shutil.copytree(tiny_model, tmp_path / "model")
    judge = tmp_path / "judge.toml"
    judge.write_text(judge.read_text().replace(str(tiny_model), str(copied)))
    begin(load_config(config_file), tmp_path / "out")
    weights = copied / "model.safetensors"
    weights.write_bytes(weights.read_bytes() + b"0")
    with pytest.raises(ConfigError, match="judge changed since"):
        begin(load_config(config_file), tmp_path / "out")


def test_a_run_of_an_earlier_version_is_refused_with_the_reason(config_file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out" / "stage-1-crossed"
    folder.mkdir(parents=True)
    (folder / "settings.json").write_text('{"judge": "judge.toml", "files": [], "exclude": []}')
    with pytest.raises(ConfigError, match="was begun by an earlier version"):
        refuse_another_split(load_config(config_file))


def test_a_file_that_is_gone_is_named(config_file: Path, tmp_path: Path) -> None:
    config = load_config(config_file)
    (tmp_path / "test.jsonl").unlink()
    with pytest.raises(ConfigError, match=r"test\.jsonl cannot be read: No such file"):
        begin(config, tmp_path / "out")
