# SPDX-License-Identifier: Apache-2.0
"""Do four processes of a node share one local judge server, and does it end with its owner?

Four processes make the engine at the same time, with the variables of a launcher in their environment, and
judge until told to stop. Looked at, from outside:

* how many servers there are (one), and whether the judgments of all four are equal;
* then the owner gets `kill -9` while all are judging: how long any process of the server is still there
  (every process counts that carries a marker in its environment or writes to the server's log, whatever its
  name, group or parent; the limit is 30 seconds), and what the other three are told (`EngineUnavailable`,
  within the time shown);
* then a new engine in one of the three starts a judge again, and its supervisor gets `kill -9`: how long any
  process of the server is still there; and the third time the owner is killed while the server starts.

The kills of a round are at a random moment of judging.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

from report import publish, show

_MARKER = "AUTOJ_REWARD_DRILL"
_LIMIT_SECONDS = 30.0
_LAUNCHER = {"WORLD_SIZE": "4", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500", "LOCAL_WORLD_SIZE": "4"}
_ENGINE = {
    "dtype": "bfloat16",
    "context_tokens": 2048,
    "enforce_eager": True,
    "kv_cache_memory_bytes": 256 << 20,
    "start_seconds": 1500.0,
    # A machine with other work is slow, which is not what is asked here.
    "timeout_seconds": 600.0,
}


def user() -> None:
    """One of the processes: make the engine, judge in a loop, report; `again` makes the engine again."""
    from autoj_reward.engines.local_server.engine import LocalServerEngine
    from autoj_reward.errors import AutojRewardError
    from autoj_reward.types import ChatWrapper, ContinuationQuery, Failure, JudgeInput, JudgeOutput, Segment

    ratings = tuple(f"{k / 2:g}" for k in range(2, 21))
    readout = ContinuationQuery(
        verdict_prefix="Rating: [[", continuations=ratings, terminators=("]",), follow_above=0.01
    )

    def inputs(first: int) -> list[JudgeInput]:
        return [
            JudgeInput(
                body=(Segment(f"Rate this answer to the question for a river: the Rhine, {first + n} km."),),
                wrapper=ChatWrapper(),
                prefill=(Segment(readout.verdict_prefix, True),),
                readout=readout,
            )
            for n in range(4)
        ]

    def tell(**news: Any) -> None:
        print(json.dumps({"at": time.time(), **news}), flush=True)

    while True:
        try:
            engine = LocalServerEngine("embedded:smollm2-135m-instruct", **_ENGINE)
            tell(event="ready", owned=engine.owned, endpoint=engine.endpoint, fingerprint=engine.fingerprint)
            first = 0
            while True:
                answers = engine.generate(inputs(first))
                failures = [answer.detail for answer in answers if isinstance(answer, Failure)]
                if failures:
                    tell(event="failed", first=first, failures=failures)
                    continue
                readings = [
                    [round(path.prob, 4) for path in answer.reading.paths]
                    for answer in answers
                    if isinstance(answer, JudgeOutput) and answer.reading
                ]
                tell(event="judged", first=first, readings=readings)
                first += len(answers)
        except AutojRewardError as error:
            tell(event="error", kind=type(error).__name__, message=str(error))
        engine.close()
        if not sys.stdin.readline():
            return


class User:
    """A process that judges, seen from outside."""

    def __init__(self, folder: Path, rank: int, marker: str) -> None:
        self.output = folder / f"user-{uuid.uuid4().hex[:8]}.jsonl"
        self.errors = self.output.with_suffix(".err")
        environment = {
            **os.environ,
            **_LAUNCHER,
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "AUTOJ_REWARD_RUNTIME": str(folder / "runtime"),
            _MARKER: marker,
        }
        with open(self.output, "wb") as out, open(self.errors, "wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, __file__, "--user"],
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=err,
                env=environment,
            )

    def news(self, event: str) -> list[dict[str, Any]]:
        lines = [
            json.loads(line) for line in self.output.read_text().splitlines(keepends=True) if "\n" in line
        ]
        return [line for line in lines if line["event"] == event]

    def again(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(b"again\n")
        self.process.stdin.flush()

    def end(self) -> None:
        with contextlib.suppress(OSError):
            self.process.kill()
        self.process.wait()
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.close()


def marked(marker: str, users: list[User]) -> dict[int, str]:
    """The processes of servers, with their command lines.

    They have the marker in their environment, or write to a log in the drill's folder: vLLM's engine and
    worker processes write their titles over their environment.
    """
    own = {user.process.pid for user in users}
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            pid = int(folder.name)
            if pid in own or not (_has_marker(folder, marker) or _has_log(folder, marker)):
                continue
            found[pid] = (
                (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            )
    return found


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def _has_marker(folder: Path, marker: str) -> bool:
    return f"{_MARKER}={marker}".encode() in (folder / "environ").read_bytes().split(b"\0")


def _has_log(folder: Path, marker: str) -> bool:
    return any(marker in os.readlink(folder / "fd" / number) for number in "12")


def until_gone(marker: str, users: list[User]) -> float:
    """Seconds until no process of the server is left.

    Raises:
        SystemExit: Some are left after 30 seconds; says which.
    """
    began = time.monotonic()
    while left := marked(marker, users):
        if time.monotonic() - began > _LIMIT_SECONDS:
            raise SystemExit(f"still there after {_LIMIT_SECONDS:.0f} s: {left}")
        time.sleep(0.05)
    return time.monotonic() - began


def until(condition: Any, seconds: float, users: list[User]) -> float:
    """Seconds until something holds.

    Raises:
        SystemExit: It does not hold in time, or a user has ended by itself.
    """
    began = time.monotonic()
    while not condition():
        ended = any(u.process.poll() not in (None, -signal.SIGKILL) for u in users)
        if ended or time.monotonic() - began > seconds:
            told = [u.output.read_text()[-1000:] + u.errors.read_text()[-2000:] for u in users]
            raise SystemExit(
                "\n".join([f"{'a user ended' if ended else f'not after {seconds:.0f} s'}:", *told])
            )
        time.sleep(0.1)
    return time.monotonic() - began


def killed_owner(users: list[User], marker: str) -> tuple[dict[str, Any], list[User]]:
    """Kill the owner while all are judging. The figures, and the users that are left."""
    began = time.time()
    until(lambda: all(u.news("judged") for u in users), 1800, users)
    ready = [u.news("ready")[-1] for u in users]
    (owner,) = [u for u, news in zip(users, ready, strict=True) if news["owned"]]
    servers = [c for c in marked(marker, users).values() if "local_server/launch.py" in c]
    first = [u.news("judged")[0]["readings"] for u in users]
    apart = max(
        abs(a - b)
        for other in first[1:]
        for x, y in zip(first[0], other, strict=True)
        for a, b in zip(x, y, strict=True)
    )
    time.sleep(random.uniform(0.5, 2.0))
    n_processes = len(marked(marker, users))
    kill = time.time()
    owner.process.kill()
    gone = until_gone(marker, users)
    others = [u for u in users if u is not owner]
    until(lambda: all(u.news("error") for u in others), 120, others)
    told = [u.news("error")[-1] for u in others]
    owner.end()
    return {
        "killed": "owner, judging",
        "users": len(users),
        "ready_seconds": round(max(news["at"] for news in ready) - began, 1),
        "servers": len(servers),
        "endpoints": len({news["endpoint"] for news in ready}),
        "fingerprints": len({news["fingerprint"] for news in ready}),
        "most_apart": apart,
        "failed_before": sum(len(news["failures"]) for u in users for news in u.news("failed")),
        "server_processes": n_processes,
        "gone_after_seconds": round(gone, 2),
        "others_told": sorted({news["kind"] for news in told}),
        "others_told_after_seconds": round(max(news["at"] for news in told) - kill, 1),
        "message": told[0]["message"].partition(";")[0],
    }, others


def killed_supervisor(users: list[User], marker: str) -> dict[str, Any]:
    """One of the others starts a new judge; its supervisor is killed."""
    starter = users[0]
    began = time.time()
    n_before = len(starter.news("judged"))
    starter.again()
    until(lambda: len(starter.news("judged")) > n_before, 1800, users)
    ready = starter.news("ready")[-1]
    running = [p for p, c in marked(marker, users).items() if "managed_supervisor" in c]
    # The guard is a fork of the supervisor, with the same command line.
    (supervisor,) = [p for p in running if _parent(p) == starter.process.pid]
    n_processes = len(marked(marker, users))
    kill = time.time()
    os.kill(supervisor, signal.SIGKILL)
    gone = until_gone(marker, users)
    until(lambda: len(starter.news("error")) > 1, 120, users)
    told = starter.news("error")[-1]
    return {
        "killed": "supervisor, judging",
        "users": 1,
        "ready_seconds": round(ready["at"] - began, 1),
        "server_processes": n_processes,
        "gone_after_seconds": round(gone, 2),
        "others_told": [told["kind"]],
        "others_told_after_seconds": round(told["at"] - kill, 1),
        "message": told["message"].partition(";")[0],
    }


def killed_while_starting(users: list[User], marker: str) -> dict[str, Any]:
    """The owner is killed when vLLM's engine process is there, and the server is not ready."""
    user = users[-1]
    user.again()
    until(lambda: any("EngineCore" in c for c in marked(marker, users).values()), 600, users)
    time.sleep(random.uniform(0.0, 10.0))
    n_processes = len(marked(marker, users))
    user.process.kill()
    gone = until_gone(marker, users)
    return {
        "killed": "owner, starting",
        "users": 1,
        "server_processes": n_processes,
        "gone_after_seconds": round(gone, 2),
    }


def _told(row: dict[str, Any]) -> dict[str, Any]:
    """Print a row at once, because each takes minutes."""
    print(", ".join(f"{name} {value}" for name, value in row.items()), flush=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="the killed owner only; nothing is kept")
    parser.add_argument("--user", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.user:
        user()
        return
    marker = uuid.uuid4().hex
    users: list[User] = []
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix=f"managed-judge-{marker}-") as folder:
        try:
            users = [User(Path(folder), rank, marker) for rank in range(4)]
            figures, others = killed_owner(users, marker)
            rows.append(_told(figures))
            if not options.short:
                rows.append(_told(killed_supervisor(others, marker)))
                rows.append(_told(killed_while_starting(others, marker)))
        finally:
            for each in users:
                each.end()
            for pid in marked(marker, []):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
    show([{k: row.get(k, "-") for k in rows[0] if k != "message"} for row in rows])
    if options.short:
        print(json.dumps({"rounds": rows}))
        return
    publish("managed", "Is one judge shared, and does nothing of it survive its owner?", {"rounds": rows})


if __name__ == "__main__":
    main()
