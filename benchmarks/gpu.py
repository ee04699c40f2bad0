# SPDX-License-Identifier: Apache-2.0
"""How fast is a judge of 13B size, in bf16 and with fp8 weights and cache, and how near the arithmetic limit?

Dummy weights in the shape of a Llama 13B (or, without a GPU, in a small shape): the time does not depend
on their values. For each precision: judgments a second of each kind, the same requests to vLLM alone, the
share of prefix hits, and the arithmetic floor on this machine's own measured matrix rate and memory
bandwidth. The results are written after every row.

One small layer leaves vLLM's own scheduler and process, and this package's code, which `own_code.py` measures
by itself:

    python benchmarks/gpu.py --shape one-layer --precisions bf16 --eager --name one_layer
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import overhead
from groups import SETS, flat, read_groups
from own_code import every_branch
from report import publish, show

from autoj_reward.engines.checkpoint.embedded import embedded_checkpoint
from autoj_reward.engines.vllm.engine import VLLMEngine
from autoj_reward.errors import ConfigError
from autoj_reward.judge.judge import Judge
from autoj_reward.judge.presets import load_spec

SHAPES: dict[str, dict[str, int]] = {
    "13b": {
        "hidden_size": 5120,
        "intermediate_size": 13824,
        "num_hidden_layers": 40,
        "num_attention_heads": 40,
    },
    "one-layer": {
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
    },
    "tiny": {
        "hidden_size": 64,
        "intermediate_size": 176,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    },
    "small": {
        "hidden_size": 512,
        "intermediate_size": 1408,
        "num_hidden_layers": 8,
        "num_attention_heads": 8,
    },
}
PRECISIONS: dict[str, dict[str, str]] = {
    "bf16": {},
    "fp8 weights": {"quantization": "fp8"},
    "fp8 cache": {"kv_cache_dtype": "fp8"},
    "fp8 weights and cache": {"quantization": "fp8", "kv_cache_dtype": "fp8"},
}
KINDS = ("direct", "every branch", "critique")
"""direct: verdicts as the judge reads them. every branch: each verdict is read to its end, as for a judge
that spreads its probability; dummy weights spread it so thin that otherwise no branch is followed. critique:
a text of full length, then the verdict."""

_MOST_SEQUENCES = 256
"""Sequences that vLLM runs at once by default, at the least."""
_TOKENIZER = (
    "tokenizer*",
    "special_tokens_map.json",
    "vocab*",
    "merges.txt",
    "chat_template*",
    "generation_config.json",
)


def main() -> None:
    import torch

    has_gpu = torch.cuda.is_available()
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--shape", default="13b" if has_gpu else "small", choices=list(SHAPES))
    arguments.add_argument("--precisions", nargs="*", default=list(PRECISIONS), choices=list(PRECISIONS))
    arguments.add_argument("--kinds", nargs="*", default=list(KINDS), choices=list(KINDS))
    arguments.add_argument("--repeats", type=int, default=2)
    arguments.add_argument("--name", default="gpu", help="of the result file")
    arguments.add_argument("--set", default="alpacaeval-32", choices=list(SETS))
    arguments.add_argument("--limit", type=int, default=32 if has_gpu else 1, help="groups")
    arguments.add_argument("--tokens", type=int, default=256 if has_gpu else 16, help="tokens of a critique")
    arguments.add_argument("--context", type=int, default=4096)
    arguments.add_argument("--cache-gib", type=float, default=None if has_gpu else 1.0)
    arguments.add_argument("--eager", action="store_true", help="compile nothing: slower, and starts sooner")
    given = arguments.parse_args()

    rate, bandwidth = machine_rates()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = dummy_checkpoint(Path(scratch), SHAPES[given.shape], given.context)
        for precision in given.precisions:
            for row in measure(str(folder), PRECISIONS[precision], given):
                row = {"precision": precision, **row}
                add_floor(row, SHAPES[given.shape], rate, bandwidth)
                rows.append(row)
                # At once: a run on a borrowed machine may be cut off.
                keep(given, rows, rate, bandwidth)
    show([{k: v for k, v in row.items() if k not in ("work", "seconds", "profile")} for row in rows])


def keep(given: argparse.Namespace, rows: list[dict[str, Any]], rate: float, bandwidth: float) -> None:
    machine = {"measured_tflops_bf16": rate / 1e12, "measured_gb_per_second": bandwidth / 1e9}
    publish(
        given.name, f"a {given.shape}-shaped judge by precision, beside the floor", {"rows": rows, **machine}
    )


def dummy_checkpoint(folder: Path, shape: dict[str, int], context: int) -> Path:
    """A folder with a Llama configuration and a tokenizer, and no weights."""
    source = embedded_checkpoint()
    for pattern in _TOKENIZER:
        for file in source.glob(pattern):
            (folder / file.name).write_bytes(file.read_bytes())
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    heads = shape["num_attention_heads"]
    config |= shape | {
        "num_key_value_heads": heads,
        "head_dim": shape["hidden_size"] // heads,
        "max_position_embeddings": context,
        "tie_word_embeddings": False,
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def measure(folder: str, precision: dict[str, str], given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A row for each kind of judgment, or one that says why there are none."""
    options: dict[str, Any] = {"load_format": "dummy", "enforce_eager": given.eager, **precision}
    if given.cache_gib is not None:
        options["kv_cache_memory_bytes"] = int(given.cache_gib * 2**30)
    start = time.perf_counter()
    try:
        engine = VLLMEngine(folder, dtype="bfloat16", context_tokens=given.context, **options)
    except ConfigError as error:
        # Without the folder, which means nothing to a reader.
        yield {"kind": "-", "note": str(error).splitlines()[0].replace(f" {folder!r}", "")[:160]}
        return
    started = {"start_seconds": time.perf_counter() - start, "cache_tokens": engine.cache_tokens}
    prompts, completions = flat(read_groups(given.set, given.limit))
    try:
        for kind in given.kinds:
            judge = judge_of(kind, engine, given.tokens)
            row = overhead.measure(engine, judge, prompts, completions, given.repeats)
            yield {
                "kind": kind,
                "note": "",
                **started,
                **row,
                "work": work_of(engine, judge, prompts, completions),
            }
    finally:
        engine.close()


def judge_of(kind: str, engine: VLLMEngine, tokens: int) -> Judge:
    """A judge for one kind of judgment. Dummy weights put next to no mass on verdicts, and write none."""
    spec = load_spec("mini")
    options: dict[str, Any] = {"engine": engine, "min_mass": 1e-12}
    if kind == "critique":
        return Judge.load(spec, mode="critique", force_verdict=True, max_new_tokens=tokens, **options)
    if kind == "every branch":
        return Judge.load(every_branch(spec), mode="direct", follow_above=0.0, **options)
    return Judge.load(spec, mode="direct", **options)


def work_of(engine: VLLMEngine, judge: Judge, prompts: list[str], completions: list[str]) -> dict[str, float]:
    """What a judgment costs, in tokens, from an empty prefix cache."""
    engine.forget()
    usage = [j.usage for j in judge.rate(prompts, completions)]
    written = statistics.fmean(u.completion_tokens for u in usage)
    context = statistics.fmean(u.prompt_tokens / u.n_requests for u in usage)
    return {
        "new_tokens_each": statistics.fmean(
            u.prompt_tokens - u.cached_tokens + u.completion_tokens - u.n_requests for u in usage
        ),
        "written": written,
        "context": context,
        "live": min(len(usage), int((engine.cache_tokens or 0) / context) or 1, _MOST_SEQUENCES),
    }


def add_floor(row: dict[str, Any], shape: dict[str, int], rate: float, bandwidth: float) -> None:
    """Fill in the judgments a second that arithmetic allows, and which share of it was reached.

    A direct judgment cannot take less than the operations of its new tokens (2 for each weight), a critique
    not less than reading the weights once a step and every running sequence's cache.

    Args:
        row: Of `measure`.
        shape: The model's.
        rate: bf16 operations a second; fp8 is counted at the same rate, so its floor is a cautious one.
        bandwidth: Bytes a second.
    """
    if (work := row.get("work")) is None:
        return
    hidden, layers = shape["hidden_size"], shape["num_hidden_layers"]
    weights = layers * (4 * hidden**2 + 3 * hidden * shape["intermediate_size"])
    seconds = 2 * weights * work["new_tokens_each"] / rate
    if row["kind"] == "critique":
        weight_bytes = weights * (1 if "weights" in row["precision"] else 2)
        cache_bytes = 2 * layers * hidden * (1 if "cache" in row["precision"] else 2)
        step = (weight_bytes + work["live"] * work["context"] * cache_bytes) / bandwidth
        seconds = max(seconds, work["written"] * step / work["live"])
    row["floor_per_second"] = 1 / seconds
    row["of_floor"] = row["per_second"] * seconds


def machine_rates() -> tuple[float, float]:
    """bf16 matrix operations a second, and bytes a second read from memory, as torch reaches them."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    size, length = (8192, 1 << 30) if device == "cuda" else (1024, 1 << 26)
    a, b = (torch.randn(size, size, dtype=torch.bfloat16, device=device) for _ in range(2))
    big = torch.ones(length, dtype=torch.bfloat16, device=device)
    return 2 * size**3 / best_seconds(lambda: a @ b), 2 * length / best_seconds(big.sum)


def best_seconds(work: Callable[[], Any]) -> float:
    """The shortest of ten runs."""
    import torch

    seconds = []
    for _ in range(11):
        start = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return min(seconds[1:])


if __name__ == "__main__":
    main()
