# SPDX-License-Identifier: Apache-2.0
"""What does a cached judgment cost, by stage, and how much does the cache slow a cold run?

`Judge.rate` makes 7,424 ratings with critiques of 2 kB (two answers each: the text and the verdict's
reading), cold and then warm, with an engine that answers at once. The stages of the warm pass are measured
one by one over the same inputs. The same texts go through diskcache, sqlitedict and plain SQLite. Ceiling of
the warm
pass: plain SQLite's look-up of two answers.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import math
import os
import random
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from autoj_reward.cache.codec import decode, encode
from autoj_reward.cache.key import Parts, parts_of
from autoj_reward.cache.store import JudgmentStore
from autoj_reward.engines.cached import CachedEngine
from autoj_reward.judge.judge import Judge
from autoj_reward.judge.parse import Stated, find_verdict
from autoj_reward.judgments import RatingJudgment
from autoj_reward.types import (
    ContinuationLogprob,
    ContinuationLogprobs,
    Failure,
    JudgeInput,
    JudgeOutput,
    Segment,
    Usage,
)

OURS, DISKCACHE = "autoj_reward", "diskcache"
_WORDS = ["the", "completion", "answers", "what", "was", "asked", "but", "leaves", "out", "one", "step"]


@dataclass(frozen=True, slots=True)
class Seconds:
    """How long something took: by the clock, and of this process's own time on a core.

    On a shared machine the first holds what others did as well; the second is what one core has to spend.
    """

    wall: float
    core: float

    def __sub__(self, other: Seconds) -> Seconds:
        return Seconds(self.wall - other.wall, self.core - other.core)

    def __add__(self, other: Seconds) -> Seconds:
        return Seconds(self.wall + other.wall, self.core + other.core)

    @staticmethod
    def now() -> Seconds:
        return Seconds(time.perf_counter(), time.process_time())


class InstantEngine:
    """Writes a critique of the wanted size that states a rating, and reads a rating; at once."""

    fingerprint = "benchmark"

    def __init__(self, n_chars: int) -> None:
        self._n_chars = n_chars
        self.seconds = Seconds(0.0, 0.0)

    def generate(self, inputs: Sequence[JudgeInput]) -> list[JudgeOutput | Failure]:
        began = Seconds.now()
        answers: list[JudgeOutput | Failure] = [self._answer(item) for item in inputs]
        self.seconds += Seconds.now() - began
        return answers

    def close(self) -> None:
        """Nothing is held open."""

    def _answer(self, item: JudgeInput) -> JudgeOutput:
        seed = random.Random(item.body[-2].text)
        usage = Usage(prompt_tokens=700, completion_tokens=400, n_requests=1)
        if item.readout is None:
            end = f"\n\nRating: [[{seed.randint(1, 10)}]]"
            words = " ".join(seed.choices(_WORDS, k=self._n_chars // 4))
            return JudgeOutput(
                text=words[: self._n_chars - len(end)] + end, finish_reason="stop", usage=usage
            )
        weights = [seed.random() for _ in item.readout.continuations]
        paths = tuple(
            ContinuationLogprob(text=text, path_logprob=math.log(w / sum(weights)), end_logprob=-0.01)
            for text, w in zip(item.readout.continuations, weights, strict=True)
        )
        return JudgeOutput(
            text="", finish_reason="read", usage=usage, reading=ContinuationLogprobs(paths=paths)
        )


def texts(n: int) -> tuple[list[str], list[str]]:
    """Prompts and completions: groups of 32, a few hundred characters each."""
    seed = random.Random(0)
    prompts = [f"{g}: " + " ".join(seed.choices(_WORDS, k=30)) for g in range(-(-n // 32)) for _ in range(32)]
    completions = [f"{i}: " + " ".join(seed.choices(_WORDS, k=120)) for i in range(n)]
    return prompts[:n], completions


class Table:
    """Microseconds per judgment, printed as they come and kept for the results."""

    def __init__(self, n: int) -> None:
        self._n = n
        self.wall: dict[str, float] = {}
        self.core: dict[str, float] = {}
        print(f"{'':52} {'clock':>9}     {'core':>9}     {'on one core':>12}")

    def add(self, name: str, seconds: Seconds) -> None:
        wall, core = (value / self._n * 1e6 for value in (seconds.wall, seconds.core))
        self.wall[name], self.core[name] = round(wall, 2), round(core, 2)
        print(f"{name:52} {wall:9.1f} µs  {core:9.1f} µs  {1e6 / core:12,.0f} /s")


def best(work: Callable[[], object], times: int) -> Seconds:
    """The shortest of several runs, which other load disturbs least."""
    taken = []
    for _ in range(times):
        began = Seconds.now()
        work()
        taken.append(Seconds.now() - began)
    return Seconds(min(t.wall for t in taken), min(t.core for t in taken))


def judge_passes(folder: Path, n: int, n_chars: int, table: Table, times: int) -> CachedEngine:
    """The judge without a cache, cold, and warm."""
    prompts, completions = texts(n)
    plain = Judge.load("autoj-13b", engine=InstantEngine(n_chars), mode="critique")
    inner = InstantEngine(n_chars)
    cached = CachedEngine(inner, JudgmentStore(folder / "judge.sqlite"))
    judge = Judge.load("autoj-13b", engine=cached, mode="critique")

    without: list[RatingJudgment] = []
    seconds_without = best(lambda: without.__setitem__(slice(None), plain.rate(prompts, completions)), 1)
    engine: InstantEngine = plain.engine  # type: ignore[assignment]
    table.add("no cache: Judge.rate, the engine's own time left out", seconds_without - engine.seconds)
    began = Seconds.now()
    cold = judge.rate(prompts, completions)
    seconds = Seconds.now() - began
    table.add("cold: Judge.rate, the engine's own time left out", seconds - inner.seconds)
    plainly = seconds_without - engine.seconds
    table.add("cold: of that, spent on the cache", seconds - inner.seconds - plainly)
    warm: list[RatingJudgment] = []
    table.add(
        "warm: Judge.rate",
        best(lambda: warm.__setitem__(slice(None), judge.rate(prompts, completions)), times),
    )
    assert without == cold == warm
    assert cached.stats.n_asked == 2 * n
    return cached


def stages(folder: Path, n: int, cached: CachedEngine, table: Table, times: int) -> None:
    """The parts of the warm pass over the same inputs, each alone."""
    judge = Judge.load("autoj-13b", engine=cached, mode="critique")
    spec, settings = judge.spec, judge.settings
    assert spec.rating is not None
    template, verdicts = spec.rating.template, spec.rating.verdicts
    prompts, completions = texts(n)

    def render() -> list[JudgeInput]:
        return [
            JudgeInput(
                body=template.fill({"prompt": p, "completion": c}),
                wrapper=spec.wrapper,
                sampling=settings.sampling,
            )
            for p, c in zip(prompts, completions, strict=True)
        ]

    table.add("stage: render", best(render, times))
    inputs = render()
    values = cached.store.get([p.key for p in parts_of(inputs, cached.fingerprint)])
    found = [decode(values[p.key], None) for p in parts_of(inputs, cached.fingerprint)]
    stated = [find_verdict(o.text, o.finish_reason, verdicts) for o in found]
    readout = verdicts.readout(follow_above=settings.rules.follow_above)
    readings = [
        replace(item, prefill=(Segment(o.text[: s.start]),), readout=readout)
        for item, o, s in zip(inputs, found, stated, strict=True)
        if isinstance(s, Stated)
    ]
    asked = [*inputs, *readings]
    keys: list[Parts] = []

    def make_keys() -> None:
        keys[:] = parts_of(inputs, cached.fingerprint) + parts_of(readings, cached.fingerprint)

    table.add("stage: key (two)", best(make_keys, times))
    flat = [part.key for part in keys]
    table.add("stage: look-up and checksum (two)", best(lambda: cached.store.get(flat), times))
    values = cached.store.get(flat)
    table.add(
        "stage: decode (two)",
        best(lambda: [decode(values[k], i.readout) for k, i in zip(flat, asked, strict=True)], times),
    )
    outputs = [decode(values[k], i.readout) for k, i in zip(flat, asked, strict=True)]

    def read_verdicts() -> None:
        for output in outputs[:n]:
            find_verdict(output.text, output.finish_reason, verdicts)
        for output in outputs[n:]:
            assert output.reading is not None
            verdicts.distribution(output.reading, min_mass=settings.rules.min_mass)

    table.add("stage: verdict (found, and its distribution)", best(read_verdicts, times))

    pairs = list(zip(keys, outputs, asked, strict=True))[:n]
    rows = [(part, encode(output, item.readout)) for part, output, item in pairs]
    stores = [JudgmentStore(folder / f"bulk-{k}.sqlite") for k in range(times)]
    fresh = iter(stores)
    table.add(f"{OURS}: write 2 kB, one transaction", best(lambda: next(fresh).put(rows), times))
    table.add(f"{OURS}: read 2 kB", best(lambda: stores[0].get([p.key for p, _ in rows]), times))
    compare_stores(folder, [part.key for part, _ in rows], [value for _, value in rows], table, times)


def compare_stores(folder: Path, keys: list[bytes], values: list[bytes], table: Table, times: int) -> None:
    """The same 2 kB values in other stores, each in the fastest way it documents."""
    import diskcache
    import sqlitedict

    def write_diskcache(cache: diskcache.Cache) -> None:
        with cache.transact():
            for key, value in zip(keys, values, strict=True):
                cache.set(key, value)

    caches = [diskcache.Cache(folder / f"diskcache-{k}") for k in range(times)]
    fresh = iter(caches)
    table.add(f"{DISKCACHE}: write 2 kB, one transaction", best(lambda: write_diskcache(next(fresh)), times))
    table.add(f"{DISKCACHE}: read 2 kB", best(lambda: [caches[0][key] for key in keys], times))
    for cache in caches:
        cache.close()

    def write_sqlitedict(rows: sqlitedict.SqliteDict) -> None:
        for name, value in zip(names, values, strict=True):
            rows[name] = value
        rows.commit()

    names = [key.hex() for key in keys]
    dicts = [
        sqlitedict.SqliteDict(folder / f"sqlitedict-{k}.sqlite", encode=bytes, decode=bytes)
        for k in range(times)
    ]
    fresh = iter(dicts)
    table.add("sqlitedict: write 2 kB, one commit", best(lambda: write_sqlitedict(next(fresh)), times))
    table.add("sqlitedict: read 2 kB", best(lambda: [dicts[0][name] for name in names], 1))
    for rows in dicts:
        rows.close()

    def write_raw(raw: sqlite3.Connection) -> None:
        raw.execute("BEGIN")
        raw.executemany("INSERT INTO answers VALUES (?, ?)", list(zip(keys, values, strict=True)))
        raw.execute("COMMIT")

    raws = [sqlite3.connect(folder / f"raw-{k}.sqlite", isolation_level=None) for k in range(times)]
    for raw in raws:
        raw.execute("PRAGMA journal_mode = WAL")
        raw.execute("PRAGMA synchronous = NORMAL")
        raw.execute("CREATE TABLE answers (key BLOB PRIMARY KEY, value BLOB)")
    fresh = iter(raws)
    table.add("plain SQLite: write 2 kB, one transaction", best(lambda: write_raw(next(fresh)), times))
    sql = "SELECT value FROM answers WHERE key = ?"
    table.add(
        "plain SQLite: read 2 kB", best(lambda: [raws[0].execute(sql, (k,)).fetchone() for k in keys], times)
    )
    for raw in raws:
        raw.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ratings", type=int, default=7424)
    parser.add_argument("--chars", type=int, default=2000, help="of each critique")
    parser.add_argument("--times", type=int, default=5, help="repetitions of what can be repeated; best of")
    parser.add_argument("--results", type=Path, help="write the figures to this JSON file")
    options = parser.parse_args()
    table = Table(options.ratings)
    with tempfile.TemporaryDirectory(prefix="cache-benchmark-") as name:
        folder = Path(name)
        cached = judge_passes(folder, options.ratings, options.chars, table, options.times)
        stages(folder, options.ratings, cached, table, options.times)
    written = (table.core[f"{name}: write 2 kB, one transaction"] for name in (DISKCACHE, OURS))
    figures = {
        "question": "What does a cached judgment cost?",
        "date": datetime.date.today().isoformat(),
        "command": "python benchmarks/cache.py " + " ".join(sys.argv[1:]),
        "ratings": options.ratings,
        "chars": options.chars,
        "sqlite": sqlite3.sqlite_version,
        "python": sys.version.split()[0],
        "load_average": [round(load, 1) for load in os.getloadavg()],
        "microseconds_per_judgment_by_the_clock": table.wall,
        "microseconds_per_judgment_on_a_core": table.core,
        "warm_judgments_per_second_and_core": round(1e6 / table.core["warm: Judge.rate"]),
        "warm_judgments_per_second_by_the_clock": round(1e6 / table.wall["warm: Judge.rate"]),
        "bulk_writes_over_diskcache": round(next(written) / next(written), 2),
        "records_digest": hashlib.sha256(repr(texts(options.ratings)).encode()).hexdigest()[:16],
    }
    if options.results:
        options.results.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
