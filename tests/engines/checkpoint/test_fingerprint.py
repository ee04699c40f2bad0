# SPDX-License-Identifier: Apache-2.0
"""No answer of another judge: what is changed on disk is another judge, however it was changed."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autoj_reward.cache.store import JudgmentStore
from autoj_reward.engines import describe_engine
from autoj_reward.engines.cached import CachedEngine
from autoj_reward.engines.checkpoint.embedded import EMBEDDED_MODEL
from autoj_reward.engines.checkpoint.file_hash import file_hash
from autoj_reward.engines.checkpoint.fingerprint import (
    checkpoint_fingerprint,
    digest_of,
    engine_facts,
)
from autoj_reward.engines.factory import make_lazy_engine
from autoj_reward.engines.lazy import LazyEngine
from autoj_reward.judge.judge import Judge
from autoj_reward.judge.presets import load_spec
from tests.engines.drawing import DrawingEngine
from tests.engines.identity_drill import drill
from tests.engines.swapping import (
    how,
    in_place,
    save_judge,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_judge(tmp_path / "judge")


@pytest.fixture(autouse=True)
def _settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of a test are a moment old, and would be hashed each time: the worse case is an old file."""
    monkeypatch.setattr("autoj_reward.engines.checkpoint.file_hash._SETTLED_NS", 0)


FILES = {
    "sharded index": "model.safetensors.index.json",
    "remote code": "modeling_own.py",
    "remote code in a package": "own/layers.py",
    "generation config": "generation_config.json",
    "preprocessor": "preprocessor_config.json",
    "processor": "processor_config.json",
    "added tokens": "added_tokens.json",
    "special tokens": "special_tokens_map.json",
    "gguf beside safetensors": "model-q4.gguf",
    "weights of another form": "model.bin",
    "mistral's form": "consolidated.00.pth",
    "mistral's settings": "params.json",
    "mistral's tokenizer": "tekken.json",
    "chat template file": "chat_template.jinja",
    "a named chat template": "additional_chat_templates/tool_use.jinja",
    "old chat template file": "chat_template.json",
    "quantisation": "hf_quant_config.json",
}


@pytest.mark.parametrize("name", FILES.values(), ids=FILES.keys())
def test_every_file_that_can_change_answers_is_part_of_the_judge(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    prints = [checkpoint_fingerprint(folder)]
    for content in ('{"a": 1}', '{"a": 2}'):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(content)
        prints.append(checkpoint_fingerprint(folder))
    assert len(set(prints)) == 3


def test_a_shard_in_a_folder_below_is_part_of_the_judge(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"w": "parts/1.safetensors"}}')
    prints = []
    for content in (b"one", b"two"):
        (tmp_path / "parts" / "1.safetensors").write_bytes(content)
        prints.append(checkpoint_fingerprint(tmp_path))
    assert prints[0] != prints[1]


@pytest.mark.parametrize("name", ["README.md", "optimizer.pt", "trainer_state.json", "training_args.bin"])
def test_files_of_training_beside_a_model_do_not_change_its_fingerprint(tmp_path: Path, name: str) -> None:
    (tmp_path / "config.json").write_text("{}")
    before = checkpoint_fingerprint(tmp_path)
    (tmp_path / name).write_text("1")
    assert checkpoint_fingerprint(tmp_path) == before


def test_a_chat_template_inside_the_tokenizers_settings_has_a_name_of_its_own(tmp_path: Path) -> None:
    """So that a run that is resumed under another one says what differs."""
    facts = []
    for template in ("a", "b"):
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({"x": 1, "chat_template": template}))
        facts.append(
            engine_facts("transformers", str(tmp_path), revision=None, dtype="float32", adapter=None)
        )
    assert {k for k in facts[0] if facts[0][k] != facts[1][k]} == {"model chat_template"}


def test_a_base_model_by_hub_name_counts_by_its_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "org/base", "r": 4}')
    (tmp_path / "adapter_model.safetensors").write_bytes(b"adapter")
    prints = []
    for commit in ("1" * 40, "2" * 40):
        monkeypatch.setattr("autoj_reward.engines.checkpoint.fingerprint.hub_commit", lambda *_, c=commit: c)
        prints.append(
            digest_of(
                engine_facts("transformers", str(tmp_path), revision=None, dtype="float32", adapter=None)
            )
        )
    assert prints[0] != prints[1]


def test_adapters_that_name_each_other_as_base_end(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for folder, base in ((one, two), (two, one)):
        folder.mkdir()
        (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(base)}))
    assert digest_of(engine_facts("transformers", str(one), revision=None, dtype="float32", adapter=None))


def large(path: Path, byte: bytes) -> bytes:
    content = byte * (1 << 21)
    path.write_bytes(content)
    return content


def test_a_hash_is_remembered_and_forgotten_with_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTOJ_REWARD_HOME", str(tmp_path / "home"))
    path = tmp_path / "w.safetensors"
    large(path, b"a")
    first = file_hash(path)
    (note,) = (tmp_path / "home" / "fingerprints").iterdir()
    assert note.read_text().startswith(first)
    time.sleep(0.02)
    in_place(path, b"b" * (1 << 21), keep_times=True)
    assert file_hash(path) != first


@pytest.mark.parametrize(
    "poison",
    [
        lambda note: note.write_text("0" * 64),
        lambda note: note.write_text("0" * 64 + " " + note.read_text().split()[1]),
        lambda note: note.write_bytes(b"\xff" * 129),
        lambda note: note.write_text(""),
    ],
    ids=["the former form", "another hash", "no text", "empty"],
)
def test_a_damaged_note_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, poison: Callable[[Path], object]
) -> None:
    monkeypatch.setenv("AUTOJ_REWARD_HOME", str(tmp_path / "home"))
    path = tmp_path / "w.safetensors"
    large(path, b"a")
    first = file_hash(path)
    (note,) = (tmp_path / "home" / "fingerprints").iterdir()
    poison(note)
    assert file_hash(path) == first


def test_a_note_that_others_can_write_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTOJ_REWARD_HOME", str(tmp_path / "home"))
    path = tmp_path / "w.safetensors"
    large(path, b"a")
    first = file_hash(path)
    (note,) = (tmp_path / "home" / "fingerprints").iterdir()
    note.chmod(0o666)
    reads: list[str] = []
    monkeypatch.setattr("hashlib.file_digest", _counting(reads))
    assert file_hash(path) == first
    assert reads


def test_a_file_that_changed_a_moment_ago_is_hashed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two changes within one tick of the file system's clock have the same times."""
    monkeypatch.setenv("AUTOJ_REWARD_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("autoj_reward.engines.checkpoint.file_hash._SETTLED_NS", 10**12)
    path = tmp_path / "w.safetensors"
    large(path, b"a")
    file_hash(path)
    assert not (tmp_path / "home" / "fingerprints").exists()


def _counting(reads: list[str]) -> Callable[..., Any]:
    import hashlib

    digest = hashlib.file_digest

    def counted(file: Any, name: str) -> Any:
        reads.append(name)
        return digest(file, name)

    return counted


# Who answers, through wrappers


def test_an_engine_of_three_methods_is_described_through_wrappers(tmp_path: Path) -> None:
    """The kind was the name of the module that an engine's class lies in, found behind its wrappers."""
    store = JudgmentStore(tmp_path / "a.sqlite")
    cached = CachedEngine(LazyEngine(DrawingEngine, lambda: "drawing"), store)
    assert describe_engine(cached)["fingerprint"] == "drawing"
    assert cached.fingerprint == "drawing"
    known = describe_engine(CachedEngine(DrawingEngine(), store))
    assert (known["engine"], known["fingerprint"]) == ("DrawingEngine", "drawing")


def test_a_judge_describes_itself_alike_before_and_after_it_is_loaded(folder: Path, tmp_path: Path) -> None:
    with Judge.load(str(folder), **how(cache=tmp_path / "a.sqlite")) as judge:
        plan, before = judge.describe("plan"), judge.describe("files")
        identity = judge.identity
        judge.rate(["Name a prime."], ["7"])
        after = judge.describe()
    assert plan["judge_id"] is None
    assert before["judge_id"] == after["judge_id"] == identity
    assert before["engine"]["facts"] == after["engine"]["facts"]
    for name in ("engine", "source", "chat_template", "context_tokens", "dtype"):
        assert plan["engine"][name] == before["engine"][name] == after["engine"][name], name
    assert after["engine"]["source"] == os.path.realpath(folder)
    assert after["engine"]["versions"]["transformers"]


@pytest.mark.slow
def test_sampling_and_template_are_part_of_who_judges(folder: Path) -> None:
    ids = set()
    for changes in ({}, {"temperature": 0.5}, {"temperature": 0.5, "seed": 1}, {"max_new_tokens": 9}):
        with Judge.load(str(folder), **how(**changes)) as judge:
            ids.add(judge.identity)
    assert len(ids) == 4
    assert all(len(i) == 12 for i in ids)


def test_the_two_libraries_do_not_share_answers() -> None:
    """They compute the same up to noise, where both compute what the model computes."""
    lazy = [
        make_lazy_engine(name, load_spec("mini"), {"dtype": "float32"}).fingerprint
        for name in ("transformers", "vllm")
    ]
    assert lazy[0] != lazy[1]
    assert digest_of(
        engine_facts("transformers", EMBEDDED_MODEL, revision=None, dtype="float32", adapter=None)
    )


@pytest.mark.slow
def test_the_short_drill(tmp_path: Path) -> None:
    """`benchmarks/identity_drill.py` runs a hundred rounds."""
    found = drill(tmp_path, 5)
    assert found["stale"] == 0, found
    assert found["changed_answers"] == 5
