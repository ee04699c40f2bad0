# SPDX-License-Identifier: Apache-2.0
"""The reward server over an engine that answers at a known pace: what serve_load.py and tests ask.

The engine takes at most 32 inputs at a time, one batch after another, and 50 ms for each: 640 a second.
Prints the server's address, then serves until SIGTERM.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from autoj_reward.cli.options import key_values, typed
from autoj_reward.engines.recorded import RecordedEngine
from autoj_reward.judge.judge import Judge
from autoj_reward.serve.running import serve
from autoj_reward.serve.settings import ServeSettings, read_token
from autoj_reward.types import Failure, JudgeInput, JudgeOutput

BATCH, SECONDS = 32, 0.05


class PacedEngine:
    """A recorded engine that takes as long as a model would, and says how often it was asked.

    Args:
        path: The recorded answers.
        batch: Most inputs at a time.
        seconds: For each batch, whatever its size.
    """

    def __init__(self, path: Path, *, batch: int = BATCH, seconds: float = SECONDS) -> None:
        self._inner = RecordedEngine(path)
        self._batch = batch
        self._seconds = seconds
        self._busy = threading.Lock()
        self.fingerprint = self._inner.fingerprint
        self.n_batches = 0

    def generate(self, inputs: Sequence[JudgeInput]) -> list[JudgeOutput | Failure]:
        answers: list[JudgeOutput | Failure] = []
        for start in range(0, len(inputs), self._batch):
            with self._busy:
                self.n_batches += 1
                time.sleep(self._seconds)
            answers += self._inner.generate(inputs[start : start + self._batch])
        return answers

    def close(self) -> None:
        """Nothing is held open."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recorded", type=Path)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--queue", type=int, default=4096)
    parser.add_argument("--deadline", type=float, default=120.0)
    parser.add_argument("--drain", type=float, default=30.0)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--set", action="append", metavar="NAME=VALUE", help="any other of ServeSettings")
    options = parser.parse_args()
    engine = PacedEngine(options.recorded, seconds=options.seconds)
    judge = Judge.load("mini", engine=engine, mode="direct", cache=options.cache or False)
    settings = ServeSettings(
        port=options.port,
        token=read_token(None),
        max_batch=BATCH,
        max_waiting=options.queue,
        max_completions=min(256, options.queue),
        deadline_seconds=options.deadline,
        drain_seconds=options.drain,
        **typed(key_values(options.set, "--set")),
    )
    if not serve(judge, settings, listening=lambda url: print(url, flush=True)):
        # As the command does: a thread that waits for the engine would keep the process alive.
        os._exit(1)


if __name__ == "__main__":
    main()
