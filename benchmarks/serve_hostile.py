# SPDX-License-Identifier: Apache-2.0
"""Does the reward server answer a live client within a second, whatever others do to it?

The server runs at its default limits, over a recorded engine (batches of at most 32, 50 ms each). For each
kind of attack, a second process does it for a while; this one asks `/health` over new connections all the
time, and notes how long each answer took. No answer within a second, or none at all, is a failure. Everything
stays on the loopback interface.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from report import publish, show

from benchmarks.serve_load import Server

LIMIT_SECONDS = 1.0
Attack = Callable[[int, bytes], Awaitable[None]]


def head(path: str, *more: str, method: str = "POST") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", "Content-Type: application/json", *more]
    return "\r\n".join(lines).encode() + b"\r\n"


def request(path: str, body: bytes) -> bytes:
    return head(path, f"Content-Length: {len(body)}") + b"\r\n" + body


ROWS = json.dumps({"rows": [{"prompt": "Q", "completion": f"one {k}"} for k in range(64)]}).encode()
TINY = b'{"rows": [' + b"{}," * 2_600_000 + b"{}]}"
NESTED = b'{"rows": ' + b"[" * 8_000_000
DIGITS = b'{"rows": ' + b"9" * 8_000_000 + b"}"


async def silent(port: int, _: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    await reader.read()
    writer.close()


async def drip(port: int, first: bytes) -> None:
    """Send a head or a body that never ends, a byte at a time."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(first)
    while not reader.at_eof() and not writer.is_closing():
        writer.write(b"x")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.5):
                await reader.read(1000)
    writer.close()


async def pour(port: int, first: bytes) -> None:
    """Send 64 MiB after a beginning, as fast as the server reads."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(first)
    for _ in range(256):
        writer.write(b"x" * (256 << 10))
        await writer.drain()
    await reader.read(1000)
    writer.close()


async def leave(port: int, content: bytes) -> None:
    """Send a request and disconnect."""
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(content)
    await writer.drain()
    await asyncio.sleep(0.01)
    writer.transport.abort()


async def deaf(port: int, content: bytes) -> None:
    """Send requests without reading the answers."""
    _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    while True:
        writer.write(content)
        await writer.drain()
        await asyncio.sleep(0.1)


async def ask(port: int, content: bytes) -> None:
    """Ask, and wait for the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(content)
    await reader.read(1000)
    writer.close()


ATTACKS: dict[str, tuple[Attack, int, bytes]] = {
    "silent connections": (silent, 1500, b""),
    "slow heads": (drip, 400, b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: "),
    "slow bodies": (drip, 400, head("/v1/rate", "Content-Length: 1000000") + b"\r\n"),
    "huge headers": (pour, 8, b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: "),
    "huge addresses": (pour, 8, b"GET /"),
    "huge trailers": (pour, 8, head("/v1/rate", "Transfer-Encoding: chunked") + b"\r\n0\r\nX: "),
    "huge chunk extensions": (pour, 8, head("/v1/rate", "Transfer-Encoding: chunked") + b"\r\n1;"),
    "huge bodies": (pour, 8, head("/v1/rate", "Content-Length: 67108864") + b"\r\n"),
    "abandoned requests": (leave, 16, request("/v1/rate", ROWS)),
    "answers never read": (deaf, 64, head("/openapi.json", method="GET") + b"\r\n"),
    "pipelined requests": (ask, 8, (head("/health", method="GET") + b"\r\n") * 20_000),
    "bodies of many tiny rows": (ask, 2, request("/v1/rate", TINY)),
    "deeply nested bodies": (ask, 2, request("/v1/rate", NESTED)),
    "bodies of one huge number": (ask, 2, request("/v1/rate", DIGITS)),
    "no HTTP at all": (ask, 16, b"\x16\x03\x01" * 1000),
}


def attack(port: int, name: str, seconds: float, share: float) -> None:
    """One kind of attack for a time; each client restarts when the server ends it."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    one, n, content = ATTACKS[name]

    async def again() -> None:
        while True:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await one(port, content)
            await asyncio.sleep(0.01)

    async def all_of_them() -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await asyncio.gather(*(again() for _ in range(max(1, round(n * share)))))

    asyncio.run(all_of_them())


async def health(port: int) -> float:
    """Seconds until an answer; infinite if there is none within ten."""
    began = time.perf_counter()
    try:
        async with asyncio.timeout(10):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(head("/health", "Connection: close", method="GET") + b"\r\n")
            answer = await reader.read()
            writer.close()
    except (OSError, TimeoutError):
        return float("inf")
    return time.perf_counter() - began if b"200 OK" in answer else float("inf")


async def watch(port: int, attacker: Any) -> list[float]:
    """How long `/health` takes while an attack goes on."""
    seconds = []
    while attacker.is_alive():
        seconds.append(await health(port))
        await asyncio.sleep(0.05)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each attack")
    parser.add_argument("--share", type=float, default=1.0, help="of each attack's clients")
    parser.add_argument("--only", choices=ATTACKS, action="append")
    parser.add_argument("--dry", action="store_true", help="print the figures, and keep no file")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder), "--queue", "4096")
        for name in options.only or ATTACKS:
            told = (server.port, name, options.seconds, options.share)
            attacker = multiprocessing.get_context("fork").Process(target=attack, args=told)
            attacker.start()
            seconds = sorted(asyncio.run(watch(server.port, attacker)))
            attacker.join()
            late = sum(s > LIMIT_SECONDS for s in seconds)
            rows.append(
                {
                    "attack": name,
                    "clients": max(1, round(ATTACKS[name][1] * options.share)),
                    "asked": len(seconds),
                    "late": late,
                    "p50_ms": round(seconds[len(seconds) // 2] * 1e3, 1),
                    "max_ms": round(seconds[-1] * 1e3, 1),
                    "server_mb": round(server.resident_mb(), 1),
                }
            )
            print(f"{name}: {rows[-1]}", file=sys.stderr)
        left = server.metric("autoj_waiting_judgments")
        status = server.stop()
    show(rows)
    figures = {"attacks": rows, "left_waiting": left, "exit_status": status, "seconds_each": options.seconds}
    if options.dry:
        print(json.dumps(figures))
    else:
        publish("serve_hostile", "Does a live client get an answer within a second under attack?", figures)
    sys.exit(any(row["late"] for row in rows))


if __name__ == "__main__":
    main()
