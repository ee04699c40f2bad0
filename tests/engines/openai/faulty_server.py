# SPDX-License-Identifier: Apache-2.0
"""A small server that speaks the OpenAI API of vLLM and misbehaves on a seeded schedule.

Its model is a formula: the probability of a token after a prompt follows from a hash of both, so a reader
that knows the formula can tell whether an answer is that of its own prompt. Run as a program, it prints its ports
as one JSON line, and ends when its standard input does.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import email.utils
import hashlib
import json
import math
import os
import random
import socket
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FAULTS = (
    "close", "reset", "reset-midway", "stall", "drip", "drip-head", "429", "429-after", "429-date", "500",
    "502", "503-after", "truncated", "short", "no-choice", "two-choices", "html", "garbage", "no-logprobs",
    "nan", "null",
)  # fmt: skip
_SHARE = 0.97
"""Of the probability is on the lively tokens."""


@dataclass(frozen=True)
class Model:
    """The formula.

    Attributes:
        digits: Ids that mostly follow anything but a digit; one or two of them take nearly all.
        ends: Ids that mostly follow a digit.
        half: The id that sometimes does.
        n_vocab: Over so many ids the rest is spread.
        refused: A sequence of ids; a prompt with it gets HTTP 400.
        too_long: Likewise, and the message speaks of the context.
    """

    digits: tuple[int, ...]
    ends: tuple[int, ...]
    half: int
    n_vocab: int
    refused: tuple[int, ...] = ()
    too_long: tuple[int, ...] = ()

    def logprobs(self, prompt: Sequence[int], ids: Collection[int]) -> dict[int, float]:
        """log P(id | prompt)."""
        context = _digest(prompt)
        if prompt[-1] in self.digits:
            shares, sharpness = {**dict.fromkeys(self.ends, 1.0), self.half: 0.1}, 2.0
        else:
            shares, sharpness = dict.fromkeys(self.digits, 1.0), 24.0
        weights = {i: share * math.exp(sharpness * _unit(context, i)) for i, share in shares.items()}
        total = sum(weights.values())
        rest = (1.0 - _SHARE) / self.n_vocab
        return {i: math.log(_SHARE * weights[i] / total if i in weights else rest) for i in ids}

    def text(self, prompt: Sequence[int]) -> str:
        """A critique that no other prompt gets."""
        context = _digest(prompt)
        return f"Critique {context.hex()[:24]}.\n\nRating: [[{1 + context[0] % 9}]]"


def _digest(prompt: Sequence[int]) -> bytes:
    return hashlib.blake2b(json.dumps(list(prompt)).encode(), digest_size=16).digest()


def _unit(context: bytes, token: int) -> float:
    mixed = hashlib.blake2b(context + token.to_bytes(4, "little"), digest_size=8).digest()
    return int.from_bytes(mixed, "little") / 2.0**64


class _Server:
    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.model = Model(
            **{k: tuple(v) if isinstance(v, list) else v for k, v in json.loads(options.model).items()}
        )
        self.schedule = random.Random(options.seed)
        self.counts: Counter[str] = Counter()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while await self._one(reader, writer):
                pass
        writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request and its answer; whether the connection lives on."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        method, path, _ = head.split(" ", 2)
        sizes = [
            line.split(":")[1] for line in head.split("\r\n") if line.lower().startswith("content-length:")
        ]
        data = await reader.readexactly(int(sizes[0])) if sizes else b""
        if path == "/counts":
            return await _send(writer, self.counts)
        fault = self._fault()
        self.counts[fault or "answered"] += 1
        await asyncio.sleep(self.schedule.uniform(0.0, 0.004))
        status, answer = self._answer(method, path, data)
        if fault is None:
            return await _send(writer, answer, status=status)
        return await _misbehave(fault, writer, answer, self.options.stall_seconds)

    def _fault(self) -> str | None:
        if self.schedule.random() >= self.options.rate:
            return None
        return self.schedule.choice(self.options.faults.split(","))

    def _answer(self, method: str, path: str, data: bytes) -> tuple[int, Any]:
        if (method, path) == ("GET", "/v1/models"):
            row = {"id": "formula", "owned_by": "vllm", "root": "formula", "max_model_len": 100_000}
            return 200, {"object": "list", "data": [row]}
        if path.endswith("/tokenize"):
            return 200, {"count": 0}
        if (method, path) != ("POST", "/v1/completions"):
            return 404, {"detail": "Not Found"}
        body = json.loads(data)
        prompt: list[int] = body["prompt"]
        for sequence, message in (
            (self.model.refused, "this prompt is not to our taste"),
            (self.model.too_long, "This model's maximum context length is 4096 tokens, and yours has 4196."),
        ):
            if sequence and holds(prompt, sequence):
                self.counts["refused"] += 1
                return 400, {"error": {"message": message, "type": "BadRequestError", "code": 400}}
        choice: dict[str, Any] = {"index": 0, "text": "", "finish_reason": "length", "logprobs": None}
        usage = {"prompt_tokens": len(prompt), "completion_tokens": body["max_tokens"]}
        if "logprob_token_ids" in body:
            choice["logprobs"] = self._logprobs(prompt, body)
        else:
            choice |= {"text": self.model.text(prompt), "finish_reason": "stop"}
        return 200, {"id": "x", "object": "text_completion", "choices": [choice], "usage": usage}

    def _logprobs(self, prompt: Sequence[int], body: Mapping[str, Any]) -> dict[str, Any]:
        listed, allowed = body["logprob_token_ids"], body.get("allowed_token_ids") or self.model.digits
        tokens: list[int] = []
        top: list[dict[str, float]] = []
        for _ in range(body["max_tokens"]):
            known = self.model.logprobs([*prompt, *tokens], {*listed, *allowed})
            chosen = max(allowed, key=lambda i: known[i])
            top.append({f"token_id:{i}": known[i] for i in (chosen, *listed)})
            tokens.append(chosen)
        names = [f"token_id:{t}" for t in tokens]
        chosen_logprobs = [step[name] for step, name in zip(top, names, strict=True)]
        return {"tokens": names, "token_logprobs": chosen_logprobs, "top_logprobs": top, "text_offset": []}


def holds(prompt: Sequence[int], sequence: Sequence[int]) -> bool:
    n = len(sequence)
    return any(tuple(prompt[i : i + n]) == tuple(sequence) for i in range(len(prompt) - n + 1))


def _head(status: int, size: int, kind: str = "application/json", more: str = "") -> bytes:
    return f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {size}\r\n{more}\r\n".encode()


async def _send(writer: asyncio.StreamWriter, body: Any, *, status: int = 200, more: str = "") -> bool:
    data = json.dumps(body).encode()
    writer.write(_head(status, len(data), more=more) + data)
    await writer.drain()
    return True


def _reset(writer: asyncio.StreamWriter) -> None:
    linger = struct.pack("ii", 1, 0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()


async def _drip(writer: asyncio.StreamWriter, data: bytes, seconds: float) -> bool:
    """A byte at a time, in twice the time that anybody waits."""
    for n in range(len(data)):
        writer.write(data[n : n + 1])
        await writer.drain()
        await asyncio.sleep(2.0 * seconds / len(data))
    return True


async def _misbehave(fault: str, writer: asyncio.StreamWriter, answer: Any, stall_seconds: float) -> bool:
    data = json.dumps(answer).encode()
    error = {"error": {"message": "not now", "code": 0}}
    match fault:
        case "close":
            return False
        case "reset":
            _reset(writer)
            return False
        case "reset-midway":
            writer.write(_head(200, len(data)) + data[: len(data) // 2])
            await writer.drain()
            _reset(writer)
            return False
        case "stall":
            await asyncio.sleep(stall_seconds)
            return False
        case "drip":
            writer.write(_head(200, len(data)))
            return await _drip(writer, data, stall_seconds)
        case "drip-head":
            return await _drip(writer, _head(200, len(data)), stall_seconds)
        case "429" | "500" | "502":
            return await _send(writer, error, status=int(fault))
        case "429-after" | "503-after":
            return await _send(writer, error, status=int(fault[:3]), more="retry-after: 1\r\n")
        case "429-date":
            date = email.utils.formatdate(time.time() + 1, usegmt=True)
            return await _send(writer, error, status=429, more=f"retry-after: {date}\r\n")
        case "truncated":
            return await _raw(writer, data[: len(data) // 2])
        case "short":
            writer.write(_head(200, len(data) + 10) + data)
            await writer.drain()
            return False
        case "html":
            return await _raw(writer, b"<html><body>Welcome</body></html>", kind="text/html")
        case "garbage":
            writer.write(random.Random(len(data)).randbytes(200))
            await writer.drain()
            return False
        case "null":
            return await _raw(writer, b"null")
    # The rest spoils an answer's shape; what has no choices is spoilt by having none.
    choices = answer.get("choices") or [{}] if isinstance(answer, dict) else [{}]
    spoilt: dict[str, Callable[[], Any]] = {
        "no-choice": lambda: {**answer, "choices": [], "data": None},
        "two-choices": lambda: {**answer, "choices": [*choices, *choices], "data": None},
        "no-logprobs": lambda: {"choices": [{**choices[0], "logprobs": {"tokens": []}, "text": None}]},
        "nan": lambda: {
            "choices": [
                {
                    **choices[0],
                    "text": math.nan,
                    "logprobs": {
                        "tokens": ["token_id:1"],
                        "token_logprobs": [math.nan],
                        "top_logprobs": [{}],
                    },
                }
            ]
        },
    }
    return await _send(writer, spoilt[fault]())


async def _raw(writer: asyncio.StreamWriter, data: bytes, *, kind: str = "application/json") -> bool:
    writer.write(_head(200, len(data), kind) + data)
    await writer.drain()
    return True


async def _main(options: argparse.Namespace) -> None:
    server = _Server(options)
    listeners = [await asyncio.start_server(server.serve, "127.0.0.1", 0) for _ in range(options.endpoints)]
    ports = [listener.sockets[0].getsockname()[1] for listener in listeners]
    sys.stdout.write(json.dumps(ports) + "\n")
    sys.stdout.flush()
    ended = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    tasks = [asyncio.create_task(_go_down(server, listeners, ports))] if options.down_seconds else []
    await ended
    del tasks
    # Open connections need no farewell; asyncio would complain about each.
    os._exit(0)


async def _go_down(server: _Server, listeners: list[asyncio.Server], ports: Sequence[int]) -> None:
    """The last endpoint refuses connections for a while, again and again."""
    while True:
        await asyncio.sleep(2 * server.options.down_seconds)
        server.counts["refuse"] += 1
        listeners[-1].close()
        await asyncio.sleep(server.options.down_seconds)
        listeners[-1] = await asyncio.start_server(server.serve, "127.0.0.1", ports[-1])


@contextlib.contextmanager
def faulty_server(
    model: Model,
    *,
    faults: Sequence[str] = FAULTS,
    rate: float = 0.0,
    endpoints: int = 1,
    stall_seconds: float = 5.0,
    down_seconds: float = 0.0,
    seed: int = 0,
) -> Iterator[list[str]]:
    """Addresses of a server in a process of its own, which ends with the block or with this process."""
    command = [
        sys.executable, __file__, "--model", json.dumps(model.__dict__), "--faults", ",".join(faults),
        "--rate", str(rate), "--endpoints", str(endpoints), "--stall-seconds", str(stall_seconds),
        "--down-seconds", str(down_seconds), "--seed", str(seed),
    ]  # fmt: skip
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            yield [f"http://127.0.0.1:{port}" for port in json.loads(process.stdout.readline())]
        finally:
            process.stdin.close()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, prog=Path(__file__).name)
    parser.add_argument("--model", required=True)
    parser.add_argument("--faults", default=",".join(FAULTS))
    parser.add_argument("--rate", type=float, default=0.0)
    parser.add_argument("--endpoints", type=int, default=1)
    parser.add_argument("--stall-seconds", type=float, default=5.0)
    parser.add_argument("--down-seconds", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    asyncio.run(_main(_options()))
