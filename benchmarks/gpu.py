# SPDX-License-Identifier: Apache-2.0
"""How fast is a judge of 13B size, in bf16 and with fp8 weights and cache, and how near the arithmetic limit?

Dummy weights in the shape of a Llama 13B (or, without a GPU, in a small shape): the time does not depend
on their values. For each precision: direct judgments a second, and critique tokens a second. Beside them
the arithmetic floor on this machine's own measured matrix rate and memory bandwidth: a direct judgment
cannot be faster than its operations (2 per weight and new token), a critique step not faster than reading
the weights once and every live sequence's cache.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from groups import SETS, flat, read_groups
from report import publish, show

from autoj_reward.engines.checkpoint.embedded import embedded_checkpoint
from autoj_reward.engines.vllm.engine import VLLMEngine
from autoj_reward.errors import ConfigError
from autoj_reward.judge.judge import Judge
from autoj_reward.types import JudgeInput, JudgeOutput, Sampling

SHAPES: dict[str, dict[str, int]] = {
    "13b": {
        "hidden_size": 5120,
        "intermediate_size": 13824,
        "num_hidden_layers": 40,
        "num_attention_heads": 40,
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
    arguments.add_argument("--set", default="alpacaeval-32", choices=list(SETS))
    arguments.add_argument("--limit", type=int, default=32 if has_gpu else 1, help="groups")
    arguments.add_argument("--tokens", type=int, default=256 if has_gpu else 16, help="tokens of a critique")
    arguments.add_argument("--context", type=int, default=4096)
    arguments.add_argument("--cache-gib", type=float, default=None if has_gpu else 1.0)
    given = arguments.parse_args()

    with tempfile.TemporaryDirectory() as scratch:
        folder = dummy_checkpoint(Path(scratch), SHAPES[given.shape], given.context)
        rows = [{"precision": p, **measure(str(folder), PRECISIONS[p], given)} for p in given.precisions]
    rate, bandwidth = machine_rates()
    for row in rows:
        add_floor(row, SHAPES[given.shape], rate, bandwidth)
    show([{k: v for k, v in row.items() if k != "work"} for row in rows])
    machine = {"measured_tflops_bf16": rate / 1e12, "measured_gb_per_second": bandwidth / 1e9}
    publish("gpu", f"a {given.shape}-shaped judge by precision, beside the floor", {"rows": rows, **machine})


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


def measure(folder: str, precision: dict[str, str], given: argparse.Namespace) -> dict[str, Any]:
    """Seconds and tokens of a direct call and of a critique call, or why there are none."""
    options: dict[str, Any] = {"load_format": "dummy", **precision}
    if given.cache_gib is not None:
        options["kv_cache_memory_bytes"] = int(given.cache_gib * 2**30)
    try:
        engine = VLLMEngine(folder, dtype="bfloat16", context_tokens=given.context, **options)
    except ConfigError as error:
        return {
            "direct_per_second": None,
            "tokens_per_second": None,
            # Without the folder, which means nothing to a reader.
            "note": str(error).splitlines()[0].replace(f" {folder!r}", "")[:160],
        }
    judge = Judge.load("mini", engine=engine, mode="direct", min_mass=1e-9)
    prompts, completions = flat(read_groups(given.set, given.limit))
    judge.rate(prompts[:4], completions[:4])
    engine.forget()
    start = time.perf_counter()
    judgments = judge.rate(prompts, completions)
    direct_seconds = time.perf_counter() - start
    inputs = critique_inputs(judge, prompts, completions, given.tokens)
    engine.forget()
    start = time.perf_counter()
    written = [a for a in engine.generate(inputs) if isinstance(a, JudgeOutput)]
    critique_seconds = time.perf_counter() - start
    cache_tokens = engine.cache_tokens or 0
    engine.close()
    usage = [j.usage for j in judgments]
    context = statistics.fmean(a.usage.prompt_tokens + given.tokens / 2 for a in written)
    return {
        "direct_per_second": len(judgments) / direct_seconds,
        "tokens_per_second": sum(a.usage.completion_tokens for a in written) / critique_seconds,
        "note": "",
        "work": {
            "judgments": len(judgments),
            "new_tokens_each": statistics.fmean(
                u.prompt_tokens - u.cached_tokens + u.completion_tokens - u.n_requests for u in usage
            ),
            "context": context,
            "live": min(len(written), int(cache_tokens / context), _MOST_SEQUENCES),
        },
    }


def critique_inputs(
    judge: Judge, prompts: list[str], completions: list[str], tokens: int
) -> list[JudgeInput]:
    protocol = judge.spec.rating
    assert protocol is not None
    return [
        JudgeInput(
            body=protocol.template.fill({"prompt": p, "completion": c}),
            wrapper=judge.spec.wrapper,
            sampling=Sampling(max_new_tokens=tokens),
        )
        for p, c in zip(prompts, completions, strict=True)
    ]


def add_floor(row: dict[str, Any], shape: dict[str, int], rate: float, bandwidth: float) -> None:
    """Fill in what arithmetic allows, in judgments and tokens a second.

    Args:
        row: Of `measure`.
        shape: The model's.
        rate: bf16 operations a second; fp8 is counted at the same rate, so its floor is a cautious one.
        bandwidth: Bytes a second.
    """
    row |= {"direct_floor": None, "tokens_floor": None, "of_direct_floor": None, "of_tokens_floor": None}
    work = row.get("work")
    if work is None:
        return
    hidden, layers = shape["hidden_size"], shape["num_hidden_layers"]
    weights = layers * (4 * hidden**2 + 3 * hidden * shape["intermediate_size"])
    weight_bytes = weights * (1 if "weights" in row["precision"] else 2)
    cache_bytes = 2 * layers * hidden * (1 if "cache" in row["precision"] else 2)
    row["direct_floor"] = rate / (2 * weights * work["new_tokens_each"])
    step = (weight_bytes + work["live"] * work["context"] * cache_bytes) / bandwidth
    row["tokens_floor"] = work["live"] / max(step, work["live"] * 2 * weights / rate)
    row["of_direct_floor"] = row["direct_per_second"] / row["direct_floor"]
    row["of_tokens_floor"] = row["tokens_per_second"] / row["tokens_floor"]


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
