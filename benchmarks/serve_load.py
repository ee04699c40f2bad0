# SPDX-License-Identifier: Apache-2.0
"""How much of an engine's throughput does the reward server keep, and what happens when its queue is full?

paced_server.py runs in a process of its own, over a recorded engine with a known ceiling (batches of at most
32, one at a time, 50 ms each: 640 judgments a second). This process runs 64 clients in a closed loop: each
sends its next request when it has the last answer. Every request is a completion never seen before, so the
cache keeps all of them and answers none.

Then a second server with a short queue meets three times as many clients as it can hold: what is too much
must be refused with 429 at once, and nothing may time out.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from report import publish, show

from benchmarks.paced_server import BATCH, SECONDS

SERVER = Path(__file__).resolve().parent / "paced_server.py"
CEILING = BATCH / SECONDS
ANSWERS = [{"contains": [], "reading": {"7": 0.5, "8": 0.3, "6": 0.2}}]
_CROWD = 384
EXPECTED = 7 * 0.5 + 8 * 0.3 + 6 * 0.2


class Server:
    """The paced server as a process."""

    def __init__(self, folder: Path, *options: str) -> None:
        recorded = folder / "recorded.jsonl"
        recorded.write_text("".join(json.dumps(a) + "\n" for a in ANSWERS), encoding="utf-8")
        command = [sys.executable, str(SERVER), str(recorded), *options]
        self.popen = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.popen.stdout is not None
        self.port = int(self.popen.stdout.readline().rpartition(":")[2])
        while b"ready" not in self._get("/ready"):
            time.sleep(0.05)

    def resident_mb(self) -> float:
        """Memory that the process holds, in MB."""
        status = Path(f"/proc/{self.popen.pid}/status").read_text(encoding="utf-8")
        found = re.search(r"VmRSS:\s+(\d+)", status)
        return int(found[1]) / 1024 if found else 0.0

    def metric(self, name: str) -> float:
        """One of its metrics, summed over labels."""
        lines = self._get("/metrics").decode().splitlines()
        return sum(float(x.rpartition(" ")[2]) for x in lines if re.match(rf"{name}[ {{]", x))

    def stop(self) -> int:
        self.popen.terminate()
        return self.popen.wait(60)

    def _get(self, path: str) -> bytes:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
                return bytes(answer.read())
        except OSError:
            return b""


class Client:
    """One keep-alive connection, with no more HTTP than it takes: the load must not be the bottleneck."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def connect(self) -> None:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)

    async def rate(self, completion: str) -> tuple[int, bytes]:
        """Status and body of one request."""
        body = json.dumps({"rows": [{"prompt": "Name a prime.", "completion": completion}]}).encode()
        head = f"POST /v1/rate HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
        self._writer.write(head.encode() + b"Content-Type: application/json\r\n\r\n" + body)
        answer = await self._reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", answer.lower())
        assert length is not None
        return int(answer[9:12]), await self._reader.readexactly(int(length[1]))

    def close(self) -> None:
        self._writer.close()


async def load(server: Server, n: int, n_clients: int, *, name: str) -> dict[str, Any]:
    """`n` requests by clients in a closed loop; what came back, and how fast."""
    statuses: Counter[int] = Counter()
    seconds: list[float] = []
    memory: list[float] = []
    wrong = 0
    left = iter(range(n))

    async def work() -> None:
        nonlocal wrong
        client = Client(server.port)
        await client.connect()
        for k in left:
            began = time.perf_counter()
            status, body = await client.rate(f"{name} {k} is one.")
            seconds.append(time.perf_counter() - began)
            statuses[status] += 1
            if status == 200:
                wrong += abs(json.loads(body)["rows"][0]["reward"] - EXPECTED) > 1e-9
            else:
                await asyncio.sleep(0.01)
        client.close()

    async def watch() -> None:
        while True:
            memory.append(server.resident_mb())
            await asyncio.sleep(1.0)

    watching = asyncio.create_task(watch())
    began = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(n_clients)))
    spent = time.perf_counter() - began
    watching.cancel()
    seconds.sort()
    settled = memory[len(memory) // 5 :] or memory
    return {
        "requests": n,
        "clients": n_clients,
        "statuses": {str(k): v for k, v in sorted(statuses.items())},
        "wrong_rewards": wrong,
        "seconds": round(spent, 2),
        "answered_per_second": round(statuses[200] / spent, 1),
        "p50_ms": round(seconds[len(seconds) // 2] * 1e3, 1),
        "p99_ms": round(seconds[len(seconds) * 99 // 100] * 1e3, 1),
        "max_ms": round(seconds[-1] * 1e3, 1),
        "memory_mb_after_a_fifth": round(settled[0], 1),
        "memory_mb_at_the_end": round(settled[-1], 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=200_000)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--dry", action="store_true", help="print the figures, and keep no file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        server = Server(path, "--cache", str(path / "cache.sqlite"))
        steady = asyncio.run(load(server, options.requests, options.clients, name="steady"))
        steady["share_of_ceiling"] = round(steady["answered_per_second"] / CEILING, 3)
        batches = server.metric("autoj_batch_size_count")
        steady["mean_batch"] = round(server.metric("autoj_batch_size_sum") / batches, 1)
        steady["exit_status"] = server.stop()
        server = Server(path, "--queue", "64", "--deadline", "10")
        crowd = asyncio.run(load(server, max(options.requests // 20, 4 * _CROWD), _CROWD, name="crowd"))
        crowd["exit_status"] = server.stop()
    figures = {"ceiling_per_second": CEILING, "steady": steady, "past_the_queue": crowd}
    show([{"load": k, **{m: v for m, v in f.items() if m != "statuses"}} for k, f in (("steady", steady),)])
    show([{"load": "past the queue", **{m: v for m, v in crowd.items() if m != "statuses"}}])
    print("statuses: steady", steady["statuses"], "past the queue", crowd["statuses"])
    if options.dry:
        print(json.dumps(figures))
    else:
        publish("serve_load", "How much of an engine's pace does the reward server keep?", figures)
    sys.exit(
        bool(steady["wrong_rewards"] or crowd["wrong_rewards"])
        or set(steady["statuses"]) != {"200"}
        or not set(crowd["statuses"]) <= {"200", "429"}
    )


if __name__ == "__main__":
    main()
