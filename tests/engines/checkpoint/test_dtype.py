# SPDX-License-Identifier: Apache-2.0
"""On a CPU the dtype follows from the processor; on other devices from the checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest

from autoj_reward.engines.checkpoint import dtype, identity
from autoj_reward.engines.checkpoint.dtype import automatic_dtype, cpu_dtype, runs_on_cpu
from autoj_reward.judge.judge import Judge
from autoj_reward.reward.resolution import engine_resolution


@pytest.mark.parametrize(
    ("cpuinfo", "expected"),
    [
        ("processor\t: 0\nflags\t\t: fpu avx512f avx512_bf16 amx_tile\n", "bfloat16"),
        ("flags\t\t: fpu amx_bf16 amx_tile\n", "bfloat16"),
        ("flags\t\t: fpu avx2 avx512f avx512_vnni amx_tile\n", "float32"),
        ("Features\t: fp asimd\n", "float32"),
        ("", "float32"),
    ],
)
def test_bfloat16_needs_hardware(tmp_path: Path, cpuinfo: str, expected: str) -> None:
    (tmp_path / "cpuinfo").write_text(cpuinfo)
    assert cpu_dtype(tmp_path / "cpuinfo") == expected
    assert cpu_dtype(tmp_path / "missing") == "float32"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"device": "cpu"}, True),
        ({"device": "cuda:1"}, False),
        ({"device_map": "cpu"}, True),
        ({"device_map": "cuda"}, False),
        ({}, True),
        ({"device_map": "auto"}, True),
    ],
)
def test_the_device_is_known_without_loading(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], expected: bool
) -> None:
    monkeypatch.setattr(dtype, "_DEVICE_FILES", ())
    assert runs_on_cpu(settings) is expected


@pytest.mark.parametrize("hardware", ["bfloat16", "float32"])
def test_auto_is_the_processors_dtype_on_a_cpu(monkeypatch: pytest.MonkeyPatch, hardware: str) -> None:
    monkeypatch.setattr(dtype, "_DEVICE_FILES", ())
    monkeypatch.setattr(dtype, "cpu_dtype", lambda: hardware)
    for saved in ("bfloat16", "float16", "float32"):
        assert automatic_dtype("transformers", saved, {}) == hardware
        assert automatic_dtype("transformers", saved, {"device": "cuda"}) == saved
    assert automatic_dtype("transformers", None, {}) is None
    assert automatic_dtype("vllm", "bfloat16", {}) == hardware
    assert automatic_dtype("vllm", "float32", {}) is None


@pytest.mark.parametrize(("hardware", "points"), [("bfloat16", 0.03), ("float32", 0.001)])
def test_a_judge_and_its_rewards_know_the_dtype_before_it_is_loaded(
    monkeypatch: pytest.MonkeyPatch, hardware: str, points: float
) -> None:
    monkeypatch.setattr(dtype, "_DEVICE_FILES", ())
    monkeypatch.setattr(dtype, "cpu_dtype", lambda: hardware)
    judge = Judge.load("mini", engine="transformers")
    assert judge.dtype == judge.describe("plan")["engine"]["dtype"] == hardware
    assert engine_resolution(judge, pairwise=False) == pytest.approx(points)
    assert Judge.load("mini", engine="transformers", dtype="float32").dtype == "float32"
    assert judge.built_engine is None


def test_answers_in_another_dtype_are_other_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is announced for the cache changes with the processor's dtype."""
    (tmp_path / "config.json").write_text('{"model_type": "llama", "dtype": "bfloat16"}')
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    monkeypatch.setattr(dtype, "_DEVICE_FILES", ())
    found = []
    for hardware in ("bfloat16", "float32"):
        monkeypatch.setattr(dtype, "cpu_dtype", lambda chosen=hardware: chosen)
        settings = identity.resolve_settings("transformers", str(tmp_path), {})
        found.append(identity.predicted_facts("transformers", str(tmp_path), settings))
    assert [facts and facts["dtype"] for facts in found] == ["bfloat16", "float32"]
