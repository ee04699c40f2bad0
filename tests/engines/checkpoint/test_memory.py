# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from autoj_reward import ConfigError, Judge
from autoj_reward.cli.app import app
from autoj_reward.engines.checkpoint import dtype
from autoj_reward.engines.checkpoint.hub import is_here, is_hub_name, kept_snapshot, where_to_get
from autoj_reward.engines.checkpoint.memory import (
    GIB,
    GpuMemory,
    MemoryNeed,
    check_fits,
    check_memory_share,
    gpu_memory,
    main_memory_gib,
    memory_need,
)
from autoj_reward.engines.factory import make_engine
from autoj_reward.judge.presets import list_presets, load_spec, preset_names
from tests.cli.conftest import write_rows

LLAMA = load_spec("autoj-13b").architecture
assert LLAMA is not None


def test_a_token_of_the_13b_model_caches_0_8_megabytes() -> None:
    assert LLAMA.cache_bytes(1) == 2 * 40 * 5120 * 2
    yi = load_spec("autoj-bilingual-6b").architecture
    assert yi is not None
    assert yi.cache_bytes(1) == 2 * 32 * 4 * 128 * 2


@pytest.mark.parametrize(
    ("name", "settings", "weights", "cache"),
    [
        ("autoj-13b", {}, 24.3, 3.1), ("autoj-13b", {"dtype": "float32"}, 48.5, 6.2),
        ("autoj-13b", {"quantization": "fp8"}, 12.1, 3.1),
        ("autoj-13b-fp8", {"quantization": "fp8", "kv_cache_dtype": "fp8"}, 12.1, 1.6),
        ("autoj-13b-gptq-4bits", {}, 6.9, 3.1), ("autoj-bilingual-6b", {}, 11.3, 0.2),
    ],
)  # fmt: skip
def test_memory_need(name: str, settings: dict[str, object], weights: float, cache: float) -> None:
    spec = load_spec(name)
    need = memory_need(spec.architecture, spec.model, {"context_tokens": spec.context_tokens, **settings})
    assert need is not None
    assert (round(need.weights_gib, 1), round(need.cache_gib, 1)) == (weights, cache)


def test_the_memory_that_presets_state_covers_their_weights() -> None:
    for spec in list_presets():
        need = memory_need(spec.architecture, spec.model, dict(spec.engine_options))
        if need is not None and spec.memory_gib is not None:
            assert need.weights_gib < spec.memory_gib


def test_another_model_does_not_inherit_sizes(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(
        'extends = "mini"\nname = "own"\nmodel = "ORG/LARGE"\n', encoding="utf-8"
    )
    own = load_spec(str(tmp_path / "own.toml"))
    assert (own.architecture, own.memory_gib) == (None, None)
    (tmp_path / "own.toml").write_text('extends = "mini"\n[architecture]\nlayers = 0\n', encoding="utf-8")
    with pytest.raises(ConfigError, match="layers = 0 is below 1"):
        load_spec(str(tmp_path / "own.toml"))


def test_weight_files_are_counted_where_nothing_else_is_known(tmp_path: Path) -> None:
    assert memory_need(None, str(tmp_path), {}) is None
    for name, size in (("a.safetensors", 3), ("b.safetensors", 1), ("a.bin", 100)):
        with open(tmp_path / name, "wb") as file:
            file.truncate(size << 20)
    need = memory_need(None, str(tmp_path), {})
    assert need is not None
    assert need.weights_gib * GIB == 4 << 20
    double = memory_need(None, str(tmp_path), {"dtype": "float32"})
    assert double is not None
    assert double.weights_gib * GIB == 8 << 20


def fake_nvidia(folder: Path, monkeypatch: pytest.MonkeyPatch, rows: str) -> None:
    """A program of that name, in front of any real one."""
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{rows}\nEND\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_gpus_are_those_that_this_process_sees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_nvidia(tmp_path, monkeypatch, "0, GPU-a, 10240, 0\n1, GPU-b, 20480, 4096")
    first, second = GpuMemory(10.0, 10.0), GpuMemory(20.0, 24.0)
    assert gpu_memory() == [first, second]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert gpu_memory() == [second]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-b, GPU-a")
    assert gpu_memory() == [second, first]
    fake_nvidia(tmp_path, monkeypatch, "0, GPU-a, [N/A], [N/A]")
    assert gpu_memory() is None
    fake_nvidia(tmp_path, monkeypatch, "no devices were found")
    assert gpu_memory() is None


def test_a_share_of_a_gpus_memory_has_to_be_free() -> None:
    gpus = [GpuMemory(40.0, 80.0), GpuMemory(0.5, 80.0)]
    check_memory_share(0.5, gpus, 1)
    check_memory_share(0.9, None, 1)
    with pytest.raises(
        ConfigError, match=r"0\.9 needs 72\.0 GiB of the 80\.0 GiB of GPU 0, but 40\.0"
    ) as caught:
        check_memory_share(0.9, gpus, 1)
    assert "memory_share = 0.5 or less" in caught.value.hint
    with pytest.raises(ConfigError, match=r"of GPU 1, but 0\.5 GiB are free") as caught:
        check_memory_share(0.1, gpus, 2)
    assert caught.value.hint.startswith("end the programs")
    for share in (0.0, 1.01):
        with pytest.raises(ConfigError, match=r"is not in \(0, 1\]"):
            check_memory_share(share, None, 1)


def test_a_model_that_does_not_fit_is_refused_with_settings_that_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need = MemoryNeed(weights_gib=24.3, cache_gib=3.1)
    fake_nvidia(tmp_path, monkeypatch, "0, GPU-a, 20480, 0\n1, GPU-b, 20480, 0")
    with pytest.raises(ConfigError, match=r"needs about 28.4 GiB .* 1 GPU with 20.0 GiB") as caught:
        check_fits(need, "GAIR/autoj-13b", {})
    assert "autoj-13b-gptq-4bits" in caught.value.hint
    check_fits(need, "GAIR/autoj-13b", {"tensor_parallel_size": 2})
    with pytest.raises(ConfigError, match=r"2 GPUs with 10\.0 GiB free each within memory_share = 0\.5"):
        check_fits(need, "GAIR/autoj-13b", {"tensor_parallel_size": 2, "memory_share": 0.5})
    with pytest.raises(ConfigError, match="main memory"):
        check_fits(MemoryNeed(weights_gib=1e6, cache_gib=0.0), "m", {"device": "cpu"})


def test_a_sleeping_judge_needs_main_memory_for_its_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_nvidia(tmp_path, monkeypatch, "0, GPU-a, 200000000, 0")
    need = MemoryNeed(weights_gib=1e5, cache_gib=1.0)
    check_fits(need, "GAIR/autoj-13b", {})
    with pytest.raises(ConfigError, match=r"100000\.0 GiB of weights to main memory after every call"):
        check_fits(need, "GAIR/autoj-13b", {"sleep": True})


def test_main_memory_respects_a_containers_limit(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 16777216 kB\nMemAvailable: 8388608 kB\n", encoding="ascii")
    assert main_memory_gib(tmp_path, tmp_path / "none") == 8.0
    for name, text in (
        ("max", f"{4 * GIB}"),
        ("current", f"{3 * GIB}"),
        ("stat", f"anon 1\ninactive_file {GIB}\n"),
    ):
        (tmp_path / f"memory.{name}").write_text(text, encoding="ascii")
    assert main_memory_gib(tmp_path, tmp_path) == 2.0
    (tmp_path / "memory.max").write_text("max\n", encoding="ascii")
    assert main_memory_gib(tmp_path, tmp_path) == 8.0
    assert main_memory_gib(tmp_path / "none") is None


def test_a_model_is_refused_before_it_is_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_nvidia(tmp_path, monkeypatch, "0, GPU-a, 8192")
    with (
        Judge.load("autoj-13b", engine="transformers", dtype="bfloat16") as judge,
        pytest.raises(ConfigError, match="needs about 28"),
    ):
        judge.rate(["p"], ["c"])
    with pytest.raises(ConfigError, match="'transformers' has no option kv_cache_dtype, quantization"):
        make_engine("transformers", load_spec("autoj-13b-fp8"), {"memory_check": False})()


@pytest.mark.parametrize(
    ("name", "size", "fitting"), [("autoj-13b", 5, "1, 2, 4, 8"), ("autoj-bilingual-6b", 3, "1, 2, 4, 8, 16")]
)
def test_devices_must_divide_heads_and_inner_size(name: str, size: int, fitting: str) -> None:
    """40 heads can be parted among five, 13,824 inner numbers cannot: vLLM found out after loading."""
    with pytest.raises(ConfigError, match=f"tensor_parallel_size = {size} ") as caught:
        make_engine("vllm", load_spec(name), {"tensor_parallel_size": size})
    assert caught.value.hint.endswith(fitting)


def test_a_missing_model_says_what_to_fetch_and_where_to_put_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    told = where_to_get("GAIR/autoj-13b", "abc")
    assert "hf download GAIR/autoj-13b --revision abc --local-dir FOLDER" in told
    assert f"models--GAIR--autoj-13b into {tmp_path}" in told
    assert not is_here("GAIR/autoj-13b")
    (tmp_path / "models--GAIR--autoj-13b" / "snapshots").mkdir(parents=True)
    assert is_here("GAIR/autoj-13b")
    assert is_hub_name("GAIR/autoj-13b")
    assert not is_hub_name(str(tmp_path))
    assert "config.json" in where_to_get(str(tmp_path))


@pytest.mark.parametrize(
    ("variable", "value", "found"),
    [
        ("HF_HUB_CACHE", "~/models", "home/models"),
        ("HUGGINGFACE_HUB_CACHE", "~/models", "home/models"),
        ("HF_HOME", "$HOME/hf", "home/hf/hub"),
        ("XDG_CACHE_HOME", "$HOME/cache", "home/cache/huggingface/hub"),
        ("HF_TOKEN", "none", "home/.cache/huggingface/hub"),
    ],
)
def test_the_hub_cache_is_where_the_hub_library_looks(
    variable: str, value: str, found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """XDG_CACHE_HOME and a tilde were passed over, so a model that was here counted as absent."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv(variable, value)
    reference = tmp_path / found / "models--GAIR--autoj-13b" / "refs" / "main"
    reference.parent.mkdir(parents=True)
    reference.write_text("c0ffee", encoding="ascii")
    snapshot = reference.parent.parent / "snapshots" / "c0ffee"
    snapshot.mkdir(parents=True)
    assert kept_snapshot("GAIR/autoj-13b") == snapshot


@pytest.mark.parametrize("name", [n for n in preset_names() if load_spec(n).model != "none"])
def test_a_dry_run_says_what_would_be_run_and_loads_nothing(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a cache the model was once built to see whether the engine is one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    spec = load_spec(name)
    row = {"prompt": "p", "first": "a", "second": "b"}
    if spec.comparison is None:
        assert spec.rating is not None
        row = {"prompt": "p", "completion": "a"} | dict.fromkeys(
            spec.rating.template.required - set(row), "a"
        )
    command, n_inputs = ("rate", 3) if spec.comparison is None else ("compare", 6)
    write_rows(tmp_path / "in.jsonl", [row] * 3)
    arguments = [
        command,
        "in.jsonl",
        "-o",
        "out.jsonl",
        "--judge",
        name,
        "--dry-run",
        "--cache",
        "c.sqlite",
    ]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    facts = {line[:12].strip(): line[12:] for line in done.stdout.splitlines()}
    assert {"judge", "model", "size", "memory", "context", "licence", "would run"} <= facts.keys()
    assert facts["would run"] == f"{command}: 3 rows, 3 requests, {n_inputs} inputs to the model"
    assert facts["judge"].startswith(f"{name}: ")
    assert not (tmp_path / "out.jsonl").exists()
    assert not (tmp_path / "hub").exists()


@pytest.mark.parametrize(
    ("strategy", "words"), [("pointwise", "2 inputs"), ("ring", "as many comparisons as ring")]
)
def test_a_plan_does_not_guess_how_many_comparisons(
    strategy: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A strategy's comparisons were counted as one for each completion."""
    monkeypatch.chdir(tmp_path)
    write_rows(tmp_path / "in.jsonl", [{"prompt": "p", "completions": ["a", "b"]}])
    arguments = ["rerank", "in.jsonl", "-o", "out.jsonl", "--dry-run", "--strategy", strategy]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert words in next(line for line in done.stdout.splitlines() if line.startswith("would run"))


@pytest.mark.parametrize(
    ("hardware", "option", "weights"),
    [("float32", [], 1.2), ("bfloat16", [], 0.6), ("bfloat16", ["--engine-option", "dtype=float32"], 1.2)],
)
def test_a_plan_states_the_memory_in_the_dtype_that_the_engine_takes(
    hardware: str, option: list[str], weights: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A CPU without bfloat16 units loads 16-bit weights as float32, and the plan stated half of it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(dtype, "cpu_dtype", lambda: hardware)
    monkeypatch.setattr(dtype, "runs_on_cpu", lambda settings: True)
    write_rows(tmp_path / "in.jsonl", [{"prompt": "p", "completion": "a"}])
    need = memory_need(
        load_spec("small").architecture, "m", {"dtype": option[-1][6:] if option else hardware}
    )
    for engine in ("transformers", "vllm"):
        command = ["rate", "in.jsonl", "-o", "o.jsonl", "--judge", "small", "--engine", engine, "--dry-run"]
        shown = CliRunner().invoke(app, [*command, *option], catch_exceptions=False).stdout
        assert need is not None
        assert f"weights {need.weights_gib:.1f}" in shown
        assert need.weights_gib == pytest.approx(2 * weights, rel=0.05)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "2 inputs to the model, then a critique of the best and the worst of each row (at most 128 tokens each)"),
        (["--critiques", "all", "--max-new-tokens", "40"], "then a critique of each completion (at most 40 tokens"),
        (["--strategy", "ring"], "as ring asks for, then a critique of the best and the worst"),
        (["--critiques", "none"], "2 inputs to the model\n"),
        (["--mode", "critique"], "2 inputs to the model\n"),
    ],
)  # fmt: skip
def test_a_plan_counts_the_critiques_of_a_direct_judge(
    arguments: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They can take longer than the ratings, and the plan left them out."""
    monkeypatch.chdir(tmp_path)
    write_rows(tmp_path / "in.jsonl", [{"prompt": "p", "completions": ["a", "b"]}])
    command = ["rerank", "in.jsonl", "-o", "out.jsonl", "--judge", "mini", "--dry-run", *arguments]
    shown = CliRunner().invoke(app, command, catch_exceptions=False).stdout
    assert words in f"{next(line for line in shown.splitlines() if line.startswith('would run'))}\n"


def test_a_presets_file_is_shown() -> None:
    shown = CliRunner().invoke(app, ["judges", "--show", "autoj-13b-fp8"], catch_exceptions=False).stdout
    assert 'kv_cache_dtype = "fp8"' in shown
    with pytest.raises(ConfigError, match="the preset 'unheard-of' is unknown"):
        CliRunner().invoke(app, ["judges", "--show", "unheard-of"], catch_exceptions=False)
