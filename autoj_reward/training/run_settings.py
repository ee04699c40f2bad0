# SPDX-License-Identifier: Apache-2.0
"""Tell whether a stage that was begun earlier had the same settings, data and judge.

Files count by their content: a checkout that has moved goes on, and a file that has changed is noticed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from autoj_reward.engines.checkpoint.file_hash import file_hash
from autoj_reward.engines.checkpoint.fingerprint import checkpoint_fingerprint
from autoj_reward.errors import ConfigError
from autoj_reward.json_text import json_text
from autoj_reward.judge.presets import load_spec
from autoj_reward.training.config import Stage, TrainConfig

_NAME = "settings.json"


def keep_settings(config: TrainConfig, stage: Stage, folder: Path, *, write: bool) -> None:
    """Compare a stage's settings with those that it was begun with.

    Args:
        config: The run.
        stage: The stage.
        folder: The stage's folder.
        write: Write them to a folder that has none.

    Raises:
        ConfigError: They differ.
    """
    facts: dict[str, Any] = {
        **_split_facts(config),
        "judge": _judge_facts(config.judge),
        "lora": asdict(config.lora),
        "autocast": config.autocast,
        "stage": asdict(stage),
    }
    for name in ("measures", "measure_every", "until"):
        del facts["stage"][name]
    path = folder / _NAME
    if path.exists():
        if changed := _changed(path, facts):
            raise ConfigError(
                f"{folder} was begun with other settings: {', '.join(changed)} changed since",
                hint="name another output folder, or remove this stage's and the later stages' folders",
            )
    elif write:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(json_text(facts, indent=1) + "\n", encoding="utf-8")


def refuse_another_split(config: TrainConfig) -> None:
    """Compare what splits the data with what split it in an earlier run in the output folder.

    Raises:
        ConfigError: That run held out other rows.
    """
    begun = sorted(Path(config.output).glob(f"stage-*/{_NAME}"))
    facts = _split_facts(config) if begun else {}
    for path in begun:
        if changed := _changed(path, facts):
            raise ConfigError(
                f"{path.parent} was trained with another split: {', '.join(changed)} changed since",
                hint="rows that it was trained on would count as held out; restore these settings",
            )


def _split_facts(config: TrainConfig) -> dict[str, Any]:
    files = [
        {
            **asdict(file),
            "path": _content(file.path),
            "translations": _content(file.translations) if file.translations else "",
        }
        for file in config.files
    ]
    exclude = sorted(map(_content, config.exclude))
    return {"files": files, "exclude": exclude, "seed": config.seed, "held_out": config.held_out}


def _judge_facts(judge: str) -> dict[str, Any]:
    spec = load_spec(judge)
    folder = Path(spec.model).expanduser()
    model = checkpoint_fingerprint(folder) if folder.is_dir() else spec.model
    return {"model": model, "revision": spec.revision, "prompts": spec.fingerprint}


def _content(path: str) -> str:
    try:
        return f"sha256 {file_hash(Path(path))}"
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error


def _changed(path: Path, facts: Mapping[str, Any]) -> list[str]:
    """Names of the facts that differ from those in the file."""
    before = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(before.get("judge"), dict):
        raise ConfigError(
            f"{path.parent} was begun by an earlier version, which kept paths and not what the files held",
            hint="name another output folder",
        )
    now = json.loads(json_text(facts))
    return sorted(name for name in now if before.get(name) != now[name])
