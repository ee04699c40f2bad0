# SPDX-License-Identifier: Apache-2.0
"""Does an output file survive two writers and `kill -9` at any moment?

Each round takes a command (rate, compare, rerank, label) and a kind of file, starts two processes that run
the same command into one output, kills the writer at a random moment once or several times, and then runs the
command once more. The second writer must be refused as long as the first one lives, no run may be refused
after its death, and the last run must give what an uninterrupted run gives: the same bytes as JSON lines, the
same rows as Parquet, and no further files.

Processes are forked from one that has imported the commands, so that a round takes a second or two and the
kills fall into the work and not into imports.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from report import publish, show

from autoj_reward.cli import main as command_line
from tests.outputs import read_output

ANSWERS = [
    {"contains": ["7"], "reading": {"9": 0.6, "8": 0.4}},
    {"contains": ["3 is bad"], "reading": {"2": 1.0}},
    {"contains": ["Response 1"], "reading": {"Response 1": 0.5, "Response 2": 0.3, "Tie": 0.2}},
    {"contains": [], "reading": {"5": 0.75, "6": 0.25}},
]
COMMANDS = ("rate", "compare", "rerank", "label")
SUFFIXES = (".jsonl", ".parquet")


class Writer:
    """A command in a separate process."""

    def __init__(self, folder: Path, arguments: list[str], name: str) -> None:
        self.said = folder / f"{name}.txt"
        self.status: int | None = None
        self.pid = os.fork()
        if self.pid:
            return
        try:
            os.chdir(folder)
            file = os.open(self.said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(file, 1)
            os.dup2(file, 2)
            sys.argv = ["autoj-reward", *arguments]
            command_line()
            os._exit(0)
        except SystemExit as end:
            sys.stderr.flush()
            os._exit(end.code if isinstance(end.code, int) else 0)
        except BaseException as error:
            os.write(2, f"{type(error).__name__}: {error}".encode())
            os._exit(99)

    def lives(self) -> bool:
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.status = status if pid else None
        return self.status is None

    def wait(self) -> int:
        """The exit status; negative for a signal."""
        if self.status is None:
            _, self.status = os.waitpid(self.pid, 0)
        return os.waitstatus_to_exitcode(self.status)

    def kill(self) -> None:
        if self.lives():
            os.kill(self.pid, signal.SIGKILL)


def rows_for(command: str, n: int) -> list[dict[str, Any]]:
    """Rows of the command's kind, no two alike, some of them with other fields."""
    made: list[dict[str, Any]] = []
    for k in range(n):
        row: dict[str, Any] = {"id": k, "prompt": f"Name number {k}.", **({"note": [k]} if k % 3 else {})}
        if command == "rate":
            row["completion"] = f"I say {k} is it."
        elif command == "compare":
            row |= {"first": f"{k} is it.", "second": f"I say {k} is bad."}
        else:
            row["completions"] = [f"{k} is it.", f"{k} is bad.", f"Perhaps {k + 1}."]
        made.append(row)
    return made


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def holder(lock: Path) -> int | None:
    """The process that the lock file names; it may be dead."""
    try:
        return int(json.loads(lock.read_text())["pid"])
    except (OSError, ValueError):
        return None


def settled(check: Callable[[], bool], seconds: float) -> bool:
    """Whether a condition becomes true in time."""
    end = time.monotonic() + seconds
    while not check():
        if time.monotonic() > end:
            return False
        time.sleep(0.001)
    return True


def one_round(
    folder: Path, command: str, suffix: str, alone: float, n: int, rng: random.Random
) -> Counter[str]:
    """One round's counts; names of errors begin with `wrong`."""
    counts: Counter[str] = Counter(rounds=1)
    target = folder / f"out{suffix}"
    for path in folder.glob("out*"):
        path.unlink()
    lock = folder / f"{target.name}.lock"
    arguments = arguments_of(folder, command, target.name)
    for _ in range(rng.choice((1, 1, 2, 3))):
        first = Writer(folder, arguments, "first")
        if rng.random() < 0.7:
            # One after the other; the first holds still, so that it lives while the second one tries.
            settled(lambda: holder(lock) == first.pid or not first.lives(), 60)  # noqa: B023
            time.sleep(rng.uniform(0.0, alone))
            if first.lives():
                os.kill(first.pid, signal.SIGSTOP)
            held = holder(lock) == first.pid and first.lives()
            second = Writer(folder, arguments, "second")
            end = second.wait()
            counts["refused_while_the_first_lives"] += held and end == 2
            counts["wrong_second_writer"] += held and end != 2
        else:
            second = Writer(folder, arguments, "second")
            settled(lambda: holder(lock) in (first.pid, second.pid) or not first.lives(), 60)  # noqa: B023
            time.sleep(rng.uniform(0.0, alone))
        for writer in (first, second):
            counts["kills"] += writer.lives()
            writer.kill()
        ends = [first.wait(), second.wait()]
        texts = [first.said.read_text(), second.said.read_text()]
        refused = [end == 2 and "is writing" in text for end, text in zip(ends, texts, strict=True)]
        counts["refused"] += sum(refused)
        counts["wrong_both_refused"] += all(refused)
        counts["wrong_ends"] += sum(
            not ok and end not in (0, -signal.SIGKILL) for ok, end in zip(refused, ends, strict=True)
        )
        counts["finished_before_the_kill"] += 0 in ends
        counts["wrong_tracebacks"] += sum("Traceback" in text for text in texts)
        lines = folder / (
            target.name if suffix == ".jsonl" and command != "label" else f"{target.name}.part.jsonl"
        )
        if lines.exists():
            done = lines.read_bytes().count(b"\n")
            counts["killed_in_the_middle"] += 0 < done < n
    last = Writer(folder, arguments, "last")
    if (end := last.wait()) != 0:
        counts["wrong_last_run"] += 1
        print(f"{command}{suffix}: the last run ended with {end}: {last.said.read_text()[-600:]}")
        return counts
    whole = folder / f"whole-{command}{suffix}"
    same = (
        target.read_bytes() == whole.read_bytes()
        if suffix == ".jsonl"
        else read_output(target) == read_output(whole)
    )
    counts["wrong_outputs"] += not same
    left = sorted(p.name for p in folder.glob("out*"))
    counts["wrong_files_left"] += left != [target.name, f"{target.name}.run.json"]
    if not same or left != [target.name, f"{target.name}.run.json"]:
        print(f"{command}{suffix}: same {same}, left {left}")
    return counts


def arguments_of(folder: Path, command: str, target: str) -> list[str]:
    return [
        command, f"in-{command}.jsonl", "-o", target, "--engine", f"recorded:{folder / 'recorded.jsonl'}",
        "--no-cache", "--mode", "direct", "--quiet", "--chunk", "2", "--allow-failures",
        *(["--critiques", "none"] if command == "rerank" else []),
    ]  # fmt: skip


def drill(folder: Path, rounds: int, n: int, seed: int) -> dict[str, Any]:
    """All rounds, over all commands and kinds of file in turn."""
    rng = random.Random(seed)
    write_lines(folder / "recorded.jsonl", ANSWERS)
    given = sys.argv
    for command in COMMANDS:
        # Imports what it needs, for all processes that are forked.
        write_lines(folder / f"in-{command}.jsonl", rows_for(command, 2))
        sys.argv = ["autoj-reward", *arguments_of(folder, command, f"warm-{command}.jsonl")]
        with contextlib.chdir(folder), contextlib.suppress(SystemExit):
            command_line()
        write_lines(folder / f"in-{command}.jsonl", rows_for(command, n))
    sys.argv = given
    kinds = [(command, suffix) for command in COMMANDS for suffix in SUFFIXES]
    rng.shuffle(kinds)
    counts: Counter[str] = Counter()
    alone: dict[tuple[str, str], float] = {}
    for k in range(rounds):
        command, suffix = kind = kinds[k % len(kinds)]
        if kind not in alone:
            whole = Writer(folder, arguments_of(folder, command, f"whole-{command}{suffix}"), "whole")
            settled((folder / f"whole-{command}{suffix}.lock").exists, 60)
            began = time.monotonic()
            if whole.wait():
                raise SystemExit(f"the uninterrupted run failed: {whole.said.read_text()}")
            alone[kind] = time.monotonic() - began
        counts += one_round(folder, command, suffix, alone[kind], n, rng)
    names = (
        "rounds", "kills", "refused", "refused_while_the_first_lives", "killed_in_the_middle",
        "finished_before_the_kill", "wrong_second_writer", "wrong_both_refused",
        "wrong_ends", "wrong_tracebacks", "wrong_last_run", "wrong_outputs", "wrong_files_left",
    )  # fmt: skip
    return {"rows": n, "seed": seed, **{name: counts[name] for name in names}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--rows", type=int, default=120)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--dry", action="store_true", help="print the figures, and keep no file")
    options = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        figures = drill(Path(name), options.rounds, options.rows, options.seed)
    figures["seconds"] = round(time.monotonic() - began, 1)
    show([figures])
    if options.dry:
        print(json.dumps(figures))
    else:
        publish("output_drill", "Does an output survive two writers and kill -9 at any moment?", figures)
    sys.exit(any(count for name, count in figures.items() if "wrong" in name))


if __name__ == "__main__":
    main()
