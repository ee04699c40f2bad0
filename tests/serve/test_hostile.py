# SPDX-License-Identifier: Apache-2.0
"""What clients do to the server before they have shown anything: every wait and every length has an end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.types import Message

from autoj_reward.serve.limits import BodyLimit
from tests.conftest import REPO
from tests.serve.conftest import ANSWERS, Process, Serve, started

HEAD = b"POST /v1/rate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
ROW = {"prompt": "Q", "completion": "Paris"}
Start = Callable[..., Process]


def talk(port: int, *pieces: bytes, pause: float = 0.0, seconds: float = 10.0) -> tuple[bytes, float]:
    """All that the server answers to bytes, and the seconds until it closed the connection."""
    began, answer = time.monotonic(), b""
    with (
        contextlib.suppress(ConnectionError),
        socket.create_connection(("127.0.0.1", port), timeout=seconds) as client,
    ):
        for piece in pieces:
            client.sendall(piece)
            time.sleep(pause)
        while part := client.recv(65536):
            answer += part
    return answer, time.monotonic() - began


def health(port: int) -> float:
    """Seconds until `/health` is answered over a new connection."""
    began = time.monotonic()
    answer, _ = talk(
        port, b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", seconds=5.0
    )
    assert b"200 OK" in answer
    return time.monotonic() - began


def statuses(answer: bytes) -> list[int]:
    return [int(part[:3]) for part in answer.split(b"HTTP/1.1 ")[1:]]


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A server with short times, and few files to open."""
    path = Path(tmp_path_factory.mktemp("answers")) / "recorded.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in ANSWERS), encoding="utf-8")
    script = str(REPO / "benchmarks" / "paced_server.py")
    times = [f"{name}_seconds=1.0" for name in ("head", "body", "idle", "write")]
    command = [sys.executable, script, str(path), "--seconds", "0.2"]
    command += [part for setting in times for part in ("--set", setting)]
    server = started(["sh", "-c", 'ulimit -n 256; exec "$@"', "sh", *command])
    yield int(server.url.rpartition(":")[2])
    status, told = server.stop()
    assert status == 0
    assert "Traceback" not in told


# At the default limits, through what the server had before them


def test_silent_connections_do_not_block_other_clients(recorded: Path) -> None:
    """More of them than the process may open files, which took all until each had waited for minutes."""
    script = str(REPO / "benchmarks" / "paced_server.py")
    limited = ["sh", "-c", 'ulimit -n 256; exec "$@"', "sh", sys.executable, script, str(recorded)]
    server = started(limited)
    port = int(server.url.rpartition(":")[2])
    silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(300)]
    with socket.create_connection(("127.0.0.1", port), timeout=3.0) as client:
        client.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        try:
            answer = client.recv(1000)
        except TimeoutError:
            answer = b"nothing"
    for one in silent:
        one.close()
    server.popen.kill()
    server.popen.communicate()
    assert b"200 OK" in answer


@pytest.mark.slow
def test_a_huge_header_is_refused_quickly(process: Start) -> None:
    port = int(process().url.rpartition(":")[2])
    pieces = [b"x" * (256 << 10)] * 32
    began = time.monotonic()
    answer, _ = talk(port, b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: ", *pieces, b"\r\n\r\n")
    assert b"200 OK" not in answer
    assert time.monotonic() - began < 5.0


async def _drips(n: int) -> Message:
    await asyncio.sleep(0.1)
    return {"type": "http.request", "body": b"x", "more_body": True}


def test_a_body_that_comes_a_byte_at_a_time_ends() -> None:
    """Each piece came in time, so the whole never ended."""
    sent: list[Message] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass

    async def run() -> None:
        n = 0

        async def receive() -> Message:
            nonlocal n
            n += 1
            return await _drips(n)

        async def send(message: Message) -> None:
            sent.append(message)

        limited = BodyLimit(app, max_bytes=1000, seconds=0.5)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(3):
                await limited({"type": "http", "headers": [], "path": "/"}, receive, send)

    asyncio.run(run())
    assert [m["status"] for m in sent if m["type"] == "http.response.start"] == [408]


@pytest.mark.slow
def test_an_abandoned_request_is_not_judged(process: Start) -> None:
    server = process("--seconds", "0.3")
    port = int(server.url.rpartition(":")[2])
    rows = [{"prompt": "Q", "completion": f"one {k}"} for k in range(256)]
    body = json.dumps({"rows": rows}).encode()
    for _ in range(4):
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            time.sleep(0.3)
    waiting, ends = 1.0, time.monotonic() + 2.0
    while waiting and time.monotonic() < ends:
        time.sleep(0.05)
        lines = httpx.get(f"{server.url}/metrics", trust_env=False).text.splitlines()
        waiting = next(float(x.split()[1]) for x in lines if x.startswith("autoj_waiting_judgments "))
    assert waiting == 0


# At small limits


@pytest.mark.parametrize(
    ("first", "piece", "status"),
    [
        (b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: ", b"x" * 9000, 431),
        (b"GET /", b"x" * 9000, 431),
        (b"GET /health HTTP/1.1\r\nHost: localhost\r\n", b"X: y\r\n" * 200, 431),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: ", b"x" * 9000, 431),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;", b"x" * 9000, 431),
    ],
    ids=["header", "address", "many-headers", "trailer", "chunk-extension"],
)
def test_long_requests_are_refused(port: int, first: bytes, piece: bytes, status: int) -> None:
    answer, seconds = talk(port, first, *[piece] * 20, b"\r\n\r\n", pause=0.002)
    assert statuses(answer) in ([status], [])  # a client that writes on may lose the answer
    assert seconds < 4
    assert health(port) < 1


@pytest.mark.parametrize(
    ("first", "most"),
    [
        (b"", 2.5),
        (b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: ", 3.0),
        (HEAD + b"Content-Length: 10000\r\n\r\n", 3.0),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", 3.0),
    ],
    ids=["silent", "head", "body", "chunks"],
)
@pytest.mark.parametrize("drips", [False, True])
def test_a_request_that_never_comes_to_its_end_is_ended(
    port: int, first: bytes, most: float, drips: bool
) -> None:
    chunked = b"chunked" in first
    dripped = ([b"1\r\nx\r\n"] if chunked else [b"x"]) * 40 if drips and first else []
    answer, seconds = talk(port, first, *dripped, pause=0.1)
    assert set(statuses(answer)) <= {408}
    assert seconds < most + (2 if drips else 0)


def test_an_idle_connection_is_closed(port: int) -> None:
    answer, seconds = talk(port, b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert statuses(answer) == [200]
    assert 0.5 < seconds < 4


def test_a_connection_lives_on_after_every_kind_of_answer(port: int) -> None:
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
        for _ in range(3):
            assert client.get("/health").status_code == 200
            assert client.post("/v1/rate", json={"rows": [ROW]}).status_code == 200
            assert client.post("/v1/rate", content=b"{").status_code == 415
            sent = {"Content-Type": "application/json"}
            assert client.post("/v1/rate", content=b"{", headers=sent).status_code == 422
            assert client.get("/nowhere").status_code == 404


def test_a_client_that_reads_no_answer_is_cut_off(port: int) -> None:
    """About 40 MB of answers into a socket whose other end reads nothing."""
    began = time.monotonic()
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", port))
        client.settimeout(5.0)
        with contextlib.suppress(OSError):
            while time.monotonic() - began < 10:
                client.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n")
                time.sleep(0.001)
    assert time.monotonic() - began < 9
    assert health(port) < 1


def test_pipelined_requests_are_answered_in_order_or_refused(port: int) -> None:
    few = (
        b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
        + b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n"
    )
    answer, _ = talk(port, few)
    assert statuses(answer) == [200, 404]
    answer, _ = talk(port, few * 5000)
    assert len(statuses(answer)) < 20
    assert health(port) < 1


@pytest.mark.parametrize(
    "raw",
    [
        HEAD
        + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /health HTTP/1.1\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        HEAD + b"Content-Length: +5\r\n\r\nhello",
        HEAD + b"Content-Length: -1\r\n\r\n",
        HEAD + b"Content-Length: 5, 5\r\n\r\nhello",
        HEAD + b"Content-Length : 5\r\n\r\nhello",
        HEAD + b"Content-Length: 99999999999999999999999999\r\n\r\n",
        HEAD + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhelloworld\r\n0\r\n\r\n",
        HEAD + b"X: a\r\n folded\r\n\r\n",
        HEAD + b"X: a\0b\r\n\r\n",
        HEAD + b"X y: a\r\n\r\n",
        b"GET /health HTTP/1.1\nHost: localhost\n\n",
        b"GET /health HTTP/9.9\r\nHost: localhost\r\n\r\n",
        b"GET /he\x01alth HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 20,
        b"\r\n\r\n\r\n\0",
    ],
    ids=lambda raw: repr(raw.replace(HEAD, b""))[2:42],
)
def test_malformed_http_is_one_refusal_in_the_servers_shape(port: int, raw: bytes) -> None:
    answer, _ = talk(port, raw)
    assert len(statuses(answer)) == 1
    assert 400 <= statuses(answer)[0] < 500
    error = json.loads(answer.partition(b"\r\n\r\n")[2])["error"]
    assert set(error) == {"type", "message", "where"}
    assert health(port) < 1


# Hosts


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8000", "LOCALHOST.:1", "[::1]:8000", "[0::1]"])
def test_this_machines_own_names_are_taken(serve: Serve, host: str) -> None:
    assert serve().get("/health", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost:x", ""]
)
def test_another_name_is_refused_where_no_token_is_asked_for(serve: Serve, host: str) -> None:
    """A page that lets its own name point to this machine (DNS rebinding) could read rewards and metrics."""
    client = serve()
    for path in ("/health", "/metrics", "/docs"):
        assert client.get(path, headers={"Host": host}).status_code == 421
    answer = client.post("/v1/rate", json={"rows": [ROW]}, headers={"Host": host})
    assert answer.status_code == 421
    assert host not in answer.text or not host


def test_hosts_can_be_allowed_and_a_token_allows_all(serve: Serve) -> None:
    named = serve(allowed_hosts=("judge.example",))
    assert named.get("/health", headers={"Host": "judge.example:80"}).status_code == 200
    assert named.get("/health", headers={"Host": "other.example"}).status_code == 421
    guarded = serve(token="0123456789abcdef")
    assert guarded.get("/health", headers={"Host": "any.example"}).status_code == 200


# Bodies


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b'{"rows": ' + b"[" * 100_000, {}),
        (b'{"rows": ' + b'{"a":' * 100_000, {}),
        (b'{"rows": ' + b"9" * 100_000 + b"}", {}),
        (b'{"rows": [{"prompt": "Q", "completion": ' + b"9" * 5000 + b"}]}", {}),
        (b'{"rows": [' + b"{}," * 100_000 + b"{}]}", {}),
        (b'{"rows": [' + b"[]," * 100_000 + b"[]]}", {}),
        (b'{"rows": [], "rows": 1e999, "deadline_seconds": NaN}', {}),
        (b"\xff\xfe\x00", {}),
        (b"\x1f\x8b\x08" + b"\0" * 100, {"Content-Encoding": "gzip"}),
        (b"x", {"Content-Encoding": "gzip, gzip"}),
    ],
    ids=[
        "lists",
        "objects",
        "digits",
        "digits-in-row",
        "empty-rows",
        "lists-as-rows",
        "nan",
        "bom",
        "gzip",
        "twice",
    ],
)
@pytest.mark.parametrize("path", ["/v1/rate", "/v1/compare", "/v1/rank", "/get_reward", "/remote_rm"])
def test_hostile_bodies_are_refused_in_one_shape(
    serve: Serve, path: str, body: bytes, headers: dict[str, str]
) -> None:
    sent = {"Content-Type": "application/json", **headers}
    answer = serve().post(path, content=body, headers=sent)
    assert 400 <= answer.status_code < 500
    assert set(answer.json()["error"]) == {"type", "message", "where"}
    assert answer.status_code == (415 if headers else answer.status_code)


def test_a_group_without_completions_does_not_pass_the_limit_on_completions(serve: Serve) -> None:
    rows = [{"prompt": "Q", "completions": []}] * 2000
    assert serve(max_completions=10).post("/v1/rank", json={"rows": rows}).status_code in (413, 422)


def test_paths_of_clients_are_no_labels_of_metrics(serve: Serve) -> None:
    client = serve()
    for k in range(20):
        client.get(f"/made-up-{k}")
        client.request("MADEUP", "/health")
    page = client.get("/metrics").text
    assert "made-up" not in page
    assert sum("autoj_requests_total" in line for line in page.splitlines()) < 12


@pytest.mark.slow
def test_the_short_drill() -> None:
    """A twentieth of what benchmarks/serve_hostile.py does: `/health` within a second, from beginning to end."""
    kinds = ("silent connections", "slow heads", "slow bodies", "huge headers", "abandoned requests")
    only = [part for kind in kinds for part in ("--only", kind)]
    script = str(REPO / "benchmarks" / "serve_hostile.py")
    done = subprocess.run(
        [sys.executable, script, "--seconds", "1", "--share", "0.5", "--dry", *only],
        capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["exit_status"] == 0
    assert figures["left_waiting"] == 0
