# SPDX-License-Identifier: Apache-2.0
"""Published weights are found in a fixed order, checked by their hash, and converted once."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from autoj_reward.engines.checkpoint import published
from autoj_reward.engines.checkpoint.embedded import SMALL_BASE, converted_model, resolve_model
from autoj_reward.engines.checkpoint.published import NAMED_BY, PUBLISHED, PublishedFile, find_file
from autoj_reward.errors import ConfigError
from autoj_reward.judge.presets import load_spec

CONTENT = b"GGUF weights"
WANTED = PublishedFile(
    name="some.gguf",
    size="0.5b",
    n_bytes=len(CONTENT),
    sha256=hashlib.sha256(CONTENT).hexdigest(),
    repo="org/some-GGUF",
    commit="1" * 40,
    converted_mb=1,
)


@pytest.fixture(autouse=True)
def _empty_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No weights anywhere, and a hub that cannot be reached."""
    monkeypatch.setenv("AUTOJ_REWARD_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.delenv(NAMED_BY, raising=False)
    monkeypatch.setattr(published, "_from_hub", lambda wanted: (None, "no network"))


def write(path: Path, content: bytes = CONTENT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_the_order_is_named_hub_cache_weights_folder_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    downloaded = write(tmp_path / "downloaded.gguf")
    monkeypatch.setattr(published, "_from_hub", lambda wanted: (downloaded, ""))
    assert find_file(WANTED) == downloaded
    kept = write(tmp_path / "home" / "weights" / WANTED.name)
    assert find_file(WANTED) == kept
    cached = write(tmp_path / "hub" / "models--org--some-GGUF" / "snapshots" / ("1" * 40) / WANTED.name)
    assert find_file(WANTED) == cached
    named = write(tmp_path / "mine" / WANTED.name)
    for value in (named, named.parent):
        monkeypatch.setenv(NAMED_BY, str(value))
        assert find_file(WANTED) == named


def test_without_the_file_one_error_names_the_three_ways() -> None:
    with pytest.raises(ConfigError) as raised:
        find_file(WANTED)
    said = str(raised.value)
    for part in (
        "no network",
        NAMED_BY,
        f"hf download org/some-GGUF {WANTED.name}",
        "benchmarks/weights.py 0.5b",
    ):
        assert part in said


@pytest.mark.parametrize("content", [b"GGUF WEIGHTS", b"GGUF"])
def test_another_file_is_refused_by_size_or_hash(tmp_path: Path, content: bytes) -> None:
    write(tmp_path / "home" / "weights" / WANTED.name, content)
    with pytest.raises(ConfigError, match=f"not the published.*{WANTED.sha256}"):
        find_file(WANTED)


def test_a_named_file_that_does_not_exist_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "home" / "weights" / WANTED.name)
    monkeypatch.setenv(NAMED_BY, str(tmp_path / "missing.gguf"))
    with pytest.raises(ConfigError, match=r"there is no file .*missing\.gguf"):
        find_file(WANTED)


def test_the_small_judge_is_made_of_a_published_file(tmp_path: Path) -> None:
    model = converted_model(load_spec("small").model)
    base = converted_model(SMALL_BASE)
    assert model is not None
    assert base is not None
    assert PUBLISHED[SMALL_BASE].sha256[:12] in base.folder().name
    assert PUBLISHED[SMALL_BASE].name in model.origin
    for found in (model, base):
        assert found.folder().is_relative_to(tmp_path / "home")


def test_without_weights_the_small_judge_names_the_three_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=NAMED_BY) as raised:
        resolve_model(load_spec("small").model)
    assert "benchmarks/weights.py" in str(raised.value)


def test_other_content_is_converted_to_another_folder() -> None:
    first, second = (published._model(replace(WANTED, sha256=digit * 64)) for digit in "12")
    assert first.folder() != second.folder()
