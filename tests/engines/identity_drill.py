# SPDX-License-Identifier: Apache-2.0
"""Swap judges under one cache, round after round, and find whose answers come back."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from autoj_reward.cache.store import JudgmentStore
from autoj_reward.engines.cached import CachedEngine
from autoj_reward.engines.openai.engine import ServerEngine
from autoj_reward.errors import EngineChanged
from autoj_reward.judge.judge import Judge
from autoj_reward.types import JudgeOutput
from tests.engines.openai.test_engine import item, serving
from tests.engines.openai.test_identity import Swapped
from tests.engines.swapping import (
    how,
    rated,
    save_adapter,
    save_judge,
    swap_adapter,
    swap_chat_template,
    swap_tokenizer,
    swap_weights,
)

JUDGE_FILE = """
extends = "mini"
name = "drill"
model = "{model}"
[rating]
template = "drill"
text = "Rate ({n}): {{prompt}} and {{completion}}. "
"""


class Disk:
    """A judge on disk in three forms: a checkpoint, a LoRA folder on it, and it with an adapter."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.model = save_judge(folder / "model")
        self.adapter = save_adapter(folder / "adapter", self.model, seed=1)
        self.lora = save_adapter(folder / "lora", self.model, seed=2)
        for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
            (self.lora / name).write_bytes((self.model / name).read_bytes())
        self.cache = folder / "disk.sqlite"
        self.file = folder / "judge.toml"
        self._write_file(0)

    def _write_file(self, n: int) -> None:
        self.file.write_text(JUDGE_FILE.format(model=self.model, n=n), encoding="utf-8")

    def round(self, n: int, kind: str, *, keep_times: bool) -> dict[str, Any]:
        """Change one thing; what the cache gives after it, and what the judge that is there gives."""
        name, options = str(self.model), {}
        if kind == "base":
            name = str(self.lora)
        elif kind == "adapter":
            options = {"adapter": str(self.adapter)}
        elif kind == "template":
            name = str(self.file)

        def judged(**cache: Any) -> list[float | None]:
            return rated(lambda: Judge.load(name, **how(**options, **cache)))

        before = judged(cache=self.cache)
        changes: dict[str, Callable[[], None]] = {
            "weights": lambda: swap_weights(self.model, n + 10, keep_times=keep_times),
            "base": lambda: swap_weights(self.model, n + 10, keep_times=keep_times),
            "adapter": lambda: swap_adapter(self.adapter, self.model, n + 10, keep_times=keep_times),
            "tokenizer": lambda: swap_tokenizer(self.model, n, keep_times=keep_times),
            "chat template": lambda: swap_chat_template(self.model, n, keep_times=keep_times),
            "template": lambda: self._write_file(n + 1),
        }
        changes[kind]()
        after, true = judged(cache=self.cache), judged()
        return {"stale": not _equal(after, true), "differs": not _equal(before, true)}


def _equal(one: Sequence[float | None], other: Sequence[float | None]) -> bool:
    """Whether ratings are the same up to noise."""
    return all(
        a == b or (a is not None and b is not None and math.isclose(a, b, abs_tol=1e-5))
        for a, b in zip(one, other, strict=True)
    )


class Address:
    """A server behind one address, whose model somebody swaps."""

    def __init__(self, server: Swapped, url: str, folder: Path) -> None:
        self.server, self.url = server, url
        self.store = JudgmentStore(folder / "server.sqlite")
        server.answer.update(model=server.name, system_fingerprint="fp_0")

    def round(self, n: int, kind: str) -> dict[str, Any]:
        """Swap under an engine that is connected, and ask it, and then a new one."""
        server = self.server
        engine = CachedEngine(ServerEngine(self.url), self.store)
        try:
            wrote = _writer(engine, f"text {n % 3}")
            if kind == "list of models":
                server.entry["root"] = f"root {n}"
            elif kind == "model of an answer":
                # A proxy that lists one name and passes on to dated ones.
                server.answer["model"] = f"{server.name}-{20200000 + n}"
            else:
                server.answer["system_fingerprint"] = f"fp_{n + 1}"
            former, server.writes = server.writes, f"writer {n}"
            try:
                running = _writer(engine, f"other {n}")
            except EngineChanged:
                running = None
        finally:
            engine.close()
        new = CachedEngine(ServerEngine(self.url), self.store)
        try:
            after = _writer(new, f"text {n % 3}")
        finally:
            new.close()
        stale = wrote != former or running is not None or after != server.writes
        return {"stale": stale, "differs": True}


def _writer(engine: CachedEngine, text: str) -> str:
    (output,) = engine.generate([item(text)])
    assert isinstance(output, JudgeOutput), output
    return output.text.partition(".")[0]


DISK = ("weights", "base", "adapter", "tokenizer", "chat template", "template")
SERVER = ("list of models", "model of an answer", "system_fingerprint")


def drill(folder: Path, rounds: int, *, seed: int = 0) -> dict[str, Any]:
    """Swap one thing a round, every kind in turn.

    Returns:
        Rounds and stale answers by kind, and how many swaps changed the judge's answers at all.
    """
    draw = random.Random(seed)
    disk = Disk(folder)
    counts: Counter[str] = Counter()
    stale: Counter[str] = Counter()
    n_changed = 0
    with serving(server := Swapped()) as url:
        address = Address(server, url, folder)
        kinds = [*DISK, *SERVER]
        draw.shuffle(kinds)
        for n in range(rounds):
            kind = kinds[n % len(kinds)]
            if kind in DISK:
                keep_times = draw.random() < 0.5
                name = f"{kind}{', time kept' if keep_times else ''}" if kind != "template" else kind
                done = disk.round(n, kind, keep_times=keep_times)
            else:
                name = kind
                done = address.round(n, kind)
            counts[name] += 1
            stale[name] += done["stale"]
            n_changed += done["differs"]
    return {
        "rounds": rounds, "stale": stale.total(), "changed_answers": n_changed, "rounds_by_kind": dict(counts),
        "stale_by_kind": {name: n for name, n in stale.items() if n},
    }  # fmt: skip
