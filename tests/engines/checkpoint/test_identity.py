# SPDX-License-Identifier: Apache-2.0
"""What an engine will be is known before it is loaded, and is what it turns out to be."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from autoj_reward.engines.checkpoint import dtype as dtype_module
from autoj_reward.engines.checkpoint.dtype import automatic_dtype
from autoj_reward.engines.checkpoint.embedded import EMBEDDED_MODEL, embedded_checkpoint
from autoj_reward.engines.checkpoint.fingerprint import checkpoint_fingerprint, digest_of, engine_facts
from autoj_reward.engines.checkpoint.identity import predicted_facts, resolve_settings


def checkpoint(folder: Path, **config: Any) -> str:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", **config}))
    (folder / "model.safetensors").write_bytes(b"weights")
    return str(folder)


def known(engine: str, model: str, **options: Any) -> str | None:
    facts = predicted_facts(engine, model, resolve_settings(engine, model, options))
    return None if facts is None else digest_of(facts)


@pytest.mark.slow
def test_the_embedded_judge_is_what_was_announced(mini_float32: Any) -> None:
    assert known("transformers", EMBEDDED_MODEL, dtype="float32") == mini_float32.fingerprint


@pytest.mark.parametrize(
    ("engine", "config", "options", "dtype"),
    [
        ("transformers", {"dtype": "bfloat16"}, {}, "bfloat16"),
        ("transformers", {"torch_dtype": "float32"}, {}, "bfloat16"),
        ("transformers", {"dtype": "float32"}, {"device": "cuda"}, "float32"),
        ("transformers", {"dtype": "bfloat16"}, {"dtype": "float16"}, "float16"),
        ("transformers", {}, {}, None),
        ("transformers", {"dtype": "float16", "quantization_config": {"bits": 4}}, {}, None),
        ("transformers", {"dtype": "float16"}, {"quantization_config": "4bit"}, None),
        ("transformers", {"dtype": "float16"}, {"device_map": "auto"}, "bfloat16"),
        ("vllm", {"dtype": "bfloat16"}, {}, "bfloat16"),
        ("vllm", {"dtype": "float16"}, {"block_size": 32}, "float16"),
        ("vllm", {"dtype": "float16", "model_type": "gemma2"}, {}, None),
        ("vllm", {"dtype": "float32"}, {}, None),
        ("vllm", {"dtype": "float32"}, {"dtype": "half"}, "float16"),
    ],
)
def test_a_dtype_is_announced_where_it_is_certain(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    engine: str,
    config: dict[str, Any],
    options: dict[str, Any],
    dtype: str | None,
) -> None:
    monkeypatch.setattr(dtype_module, "_DEVICE_FILES", ())
    monkeypatch.setattr(dtype_module, "cpu_dtype", lambda: "bfloat16")
    model = checkpoint(tmp_path / "m", **config)
    expected = dtype and digest_of(engine_facts(engine, model, revision=None, dtype=dtype, adapter=None))
    assert known(engine, model, **options) == expected


def test_a_settled_dtype_is_given_to_the_engine(tmp_path: Path) -> None:
    """Where the announced dtype was not the one that ran, answers went under another model's key."""
    model = checkpoint(tmp_path / "m", dtype="bfloat16")
    assert resolve_settings("vllm", model, {})["dtype"] == automatic_dtype("vllm", "bfloat16", {})
    assert resolve_settings("vllm", model, {"dtype": "float32"})["dtype"] == "float32"


def test_the_same_weights_saved_by_another_version_are_the_same_model(tmp_path: Path) -> None:
    old = checkpoint(tmp_path / "old", transformers_version="4.30", _name_or_path="/home/a")
    new = checkpoint(tmp_path / "new", transformers_version="5.19", _name_or_path="/home/b")
    other = checkpoint(tmp_path / "other", rope_theta=5.0)
    prints = [checkpoint_fingerprint(Path(folder)) for folder in (old, new, other)]
    assert prints[0] == prints[1] != prints[2]


def test_code_that_comes_with_a_checkpoint_is_part_of_it(tmp_path: Path) -> None:
    folder = Path(checkpoint(tmp_path / "m"))
    before = checkpoint_fingerprint(folder)
    (folder / "modeling_own.py").write_text("x = 1")
    assert checkpoint_fingerprint(folder) != before


def test_a_weights_file_counts_by_content_not_by_path(tmp_path: Path) -> None:
    """Two GGUF files under one name, one after the other, once shared a key."""
    file = tmp_path / "judge.gguf"
    prints = []
    for content in (b"one", b"two"):
        file.write_bytes(content)
        prints.append(
            digest_of(engine_facts("transformers", str(file), revision=None, dtype="float16", adapter=None))
        )
    assert prints[0] != prints[1]


HUB = """
import json
from autoj_reward.engines.checkpoint.identity import predicted_facts, resolve_settings
from autoj_reward.engines.checkpoint.fingerprint import hub_commit
ready = resolve_settings("transformers", "org/judge", {})
print(json.dumps([hub_commit("org/judge", None), ready, predicted_facts("transformers", "org/judge", ready)]))
"""
LOADED = """
from autoj_reward.judge.judge import Judge
judge = Judge.load("org/judge", engine="transformers", cache="a.sqlite")
before = judge.engine.fingerprint
assert not judge.engine.inner.is_built
judge.rate(["What is 1 + 1?"], ["2"])
assert judge.engine.inner.is_built and judge.engine.inner.built.fingerprint == before
judge.close()
"""


@pytest.mark.slow
def test_a_hub_name_is_the_commit_that_is_here(tmp_path: Path) -> None:
    """A branch that moves is another model; its name alone was once the key."""
    repo = tmp_path / "hub" / "models--org--judge"
    env = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}

    def run(code: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", code], env=env, cwd=tmp_path, capture_output=True, text=True, timeout=600
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    (repo / "refs").mkdir(parents=True)
    (repo / "snapshots").mkdir()
    prints = []
    for digit in "12":
        commit = digit * 40
        (repo / "refs" / "main").write_text(commit)
        (repo / "snapshots" / commit).symlink_to(embedded_checkpoint())
        found, settings, facts = json.loads(run(HUB))
        assert found == settings["revision"] == commit
        assert settings["dtype"] == automatic_dtype("transformers", "bfloat16", {})
        prints.append(digest_of(facts))
    assert len(set(prints)) == 2
    run(LOADED)
