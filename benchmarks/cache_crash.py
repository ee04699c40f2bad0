# SPDX-License-Identifier: Apache-2.0
"""Does the cache survive `kill -9`? Processes that share one file are killed at random moments.

Every worker asks for judgments through a `CachedEngine` and writes two kinds of lines to one log: what its
engine was asked (before answering), and what it got back (an acknowledgement). Afterwards:

* every stored record is whole (`verify`);
* everything acknowledged is stored, as it was acknowledged;
* the engine was never asked for something that had been acknowledged before;
* no worker ended by itself with an error, such as a locked database.

The engine's answers differ from call to call, so that a second answer in the place of a first would show.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from autoj_reward.cache.codec import decode
from autoj_reward.cache.key import parts_of
from autoj_reward.cache.maintenance import verify
from autoj_reward.cache.store import JudgmentStore
from autoj_reward.engines.cached import CachedEngine
from autoj_reward.types import Failure, JudgeInput, JudgeOutput, PlainWrapper, Sampling, Segment

_NEW_PER_SECOND = 150
"""How fast the front of new inputs moves: workers crowd at it, and look back behind it."""

_EARLY = 0.2
"""Share of the kills that may come before a worker is ready."""

_TEXT_BYTES = 2000
_WRAPPER, _SAMPLING = PlainWrapper(before="Judge this: "), Sampling(max_new_tokens=8)


def question(number: int) -> JudgeInput:
    return JudgeInput(body=(Segment(f"input {number}"),), wrapper=_WRAPPER, sampling=_SAMPLING)


class SlowRandomEngine:
    """Writes random text, slowly, and notes what it was asked."""

    fingerprint = "crash-drill"

    def __init__(self, log: int) -> None:
        self._log = log

    def generate(self, inputs: Sequence[JudgeInput]) -> list[JudgeOutput | Failure]:
        numbers = [item.body[0].text.split()[1] for item in inputs]
        os.write(self._log, "".join(f"asked {n}\n" for n in numbers).encode())
        time.sleep(random.uniform(0.0, 0.004) * len(inputs))
        text = random.Random().randbytes(_TEXT_BYTES // 2).hex()
        return [JudgeOutput(text=f"{n} {text}", finish_reason="stop") for n in numbers]

    def close(self) -> None:
        """Nothing is held open."""


def work(cache: str, log_path: str, began: float) -> None:
    """Ask for batches near the front and behind it, until killed."""
    log = os.open(log_path, os.O_WRONLY | os.O_APPEND)
    engine = CachedEngine(SlowRandomEngine(log), JudgmentStore(cache), chunk=16)
    Path(log_path).with_name(f"ready-{os.getpid()}").touch()
    while True:
        front = int((time.time() - began) * _NEW_PER_SECOND) + 50
        numbers = [random.randrange(max(0, front - 200), front) for _ in range(24)]
        numbers += [random.randrange(front) for _ in range(24)]
        answers = engine.generate([question(n) for n in numbers])
        lines = [
            f"got {n} {_digest(a.text)}\n"
            for n, a in zip(numbers, answers, strict=True)
            if isinstance(a, JudgeOutput)
        ]
        os.write(log, "".join(lines).encode())


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(slots=True)
class Worker:
    """A process, the file that tells it has started, and when to kill it (None: not yet known)."""

    process: subprocess.Popen[bytes]
    ready: Path
    due: float | None


def drill(folder: Path, n_processes: int, n_kills: int) -> dict[str, object]:
    """Run the workers, kill them, and count what went wrong."""
    cache, log = folder / "judgments.sqlite", folder / "log"
    log.touch()
    began = time.time()
    command = [sys.executable, __file__, "--worker", str(cache), str(log), str(began)]
    errors: list[str] = []

    def start() -> Worker:
        process = subprocess.Popen(command, stderr=subprocess.PIPE)
        # Most are killed at work, some while they start and open the file.
        early = random.random() < _EARLY
        due = time.monotonic() + random.uniform(0.0, 2.0) if early else None
        return Worker(process, folder / f"ready-{process.pid}", due)

    def reap(process: subprocess.Popen[bytes]) -> None:
        stderr = process.communicate(timeout=60)[1]
        if process.returncode != -signal.SIGKILL:
            errors.append(stderr.decode(errors="replace")[-2000:])

    workers = [start() for _ in range(n_processes)]
    killed = 0
    try:
        while killed < n_kills and not errors:
            for n, worker in enumerate(workers):
                if worker.due is None and worker.ready.exists():
                    worker.due = time.monotonic() + random.uniform(0.0, 1.5)
                if worker.process.poll() is not None:
                    reap(worker.process)
                elif worker.due is not None and time.monotonic() >= worker.due and killed < n_kills:
                    worker.process.send_signal(signal.SIGKILL)
                    reap(worker.process)
                    killed += 1
                    workers[n] = start()
            time.sleep(0.002)
    finally:
        for worker in workers:
            with contextlib.suppress(ProcessLookupError):
                worker.process.kill()
            reap(worker.process)
    return {"processes": n_processes, "kills": killed, "seconds": round(time.time() - began, 1)} | _judge(
        cache, log, errors
    )


def _judge(cache: Path, log: Path, errors: list[str]) -> dict[str, object]:
    store = JudgmentStore(cache)
    checked = list(verify(store))
    got: dict[int, str] = {}
    n_got = n_asked = n_again = n_other = 0
    asked: dict[int, int] = {}
    for line in log.read_text().splitlines():
        kind, number, *rest = line.split()
        if kind == "asked":
            n_asked += 1
            n_again += int(number) in got
            asked[int(number)] = asked.get(int(number), 0) + 1
        else:
            n_got += 1
            n_other += got.setdefault(int(number), rest[0]) != rest[0]
    keys = {n: parts_of([question(n)], SlowRandomEngine.fingerprint)[0].key for n in got}
    stored = store.get(keys.values())
    n_lost = sum(key not in stored for key in keys.values())
    n_changed = sum(
        _digest(decode(stored[key], None).text) != got[n] for n, key in keys.items() if key in stored
    )
    store.close()
    return {
        "records": len(checked),
        "damaged": sum(damage is not None for damage in checked),
        "acknowledged": n_got,
        "acknowledged_inputs": len(got),
        "lost": n_lost,
        "changed": n_changed + n_other,
        "engine_inputs": n_asked,
        "asked_again_after_acknowledgement": n_again,
        "asked_twice_because_of_a_kill": sum(n - 1 for n in asked.values()),
        "errors": errors,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--short", action="store_true", help="4 processes and 12 kills")
    parser.add_argument("--results", type=Path, help="write the figures to this JSON file")
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options.worker[0], options.worker[1], float(options.worker[2]))
    n_processes, n_kills = (4, 12) if options.short else (options.processes, options.kills)
    with tempfile.TemporaryDirectory(prefix="cache-crash-") as folder:
        figures = drill(Path(folder), n_processes, n_kills)
    figures = {
        "question": "Does the cache survive kill -9?",
        "date": datetime.date.today().isoformat(),
        "command": "python benchmarks/cache_crash.py " + " ".join(sys.argv[1:]),
        **figures,
    }
    if options.results:
        options.results.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    for name, value in figures.items():
        print(f"{name:36} {value}")
    print(json.dumps(figures))
    wrong = ("damaged", "lost", "changed", "asked_again_after_acknowledgement", "errors")
    sys.exit(any(figures[name] for name in wrong))


if __name__ == "__main__":
    main()
