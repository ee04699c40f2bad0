# SPDX-License-Identifier: Apache-2.0
"""The client before a real server, and before answers that a server or something in between may give."""

from __future__ import annotations

import asyncio
import http.server
import json
import multiprocessing
import pickle
import threading
import time
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from autoj_reward.errors import ConfigError, EngineContractBroken, EngineRejected, EngineUnavailable
from autoj_reward.integrations.client import JudgeClient
from autoj_reward.judge.judge import Judge
from autoj_reward.judging import Judging
from tests.hostile import LOOK_ALIKES
from tests.integrations.remote.conftest import TOKEN
from tests.serve.conftest import Process

COMPLETIONS = ["Paris", "Berlin", "mumble", "", *LOOK_ALIKES]


@contextmanager
def answering(*answers: tuple[int, dict[str, str], Any]) -> Iterator[tuple[str, list[float]]]:
    """A server that gives these answers one after another, the last one for ever."""
    left = list(answers)
    times: list[float] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            times.append(time.monotonic())
            self.rfile.read(int(self.headers["content-length"]))
            status, headers, body = left.pop(0) if len(left) > 1 else left[0]
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            for name, value in {"content-length": str(len(content)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", times
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


ROW = {"prompt": "Q", "completion": "A"}
GOOD = (200, {}, {"rows": [{"reward": 1.0, "failure": None}]})
BUSY = {"error": {"type": "queue_full", "message": "much waits", "where": ""}}


async def and_close(client: JudgeClient, asked: Awaitable[Any]) -> Any:
    try:
        return await asked
    finally:
        await client.close_async()


def test_rewards_are_those_of_the_python_api(server: Process, judge: Judge) -> None:
    prompts = ["Q"] * len(COMPLETIONS)
    wanted = [j.reward for j in judge.rate(prompts, COMPLETIONS)]
    client = JudgeClient(server.url, rows_per_request=5)
    assert client.rewards(prompts, COMPLETIONS) == wanted
    assert asyncio.run(and_close(client, client.rewards_async(prompts, COMPLETIONS))) == wanted
    assert client.rate([]) == []
    client.close()
    assert client.rewards(["Q"], ["Paris"]) == [wanted[0]]
    client.close()


def test_compare_and_rank(server: Process, judge: Judge) -> None:
    client = JudgeClient(server.url)
    (pair,) = client.compare([{"prompt": "Q", "first": "Paris", "second": "B"}])
    assert pair["win_prob"] == judge.compare(["Q"], ["Paris"], ["B"])[0].win_prob
    (ranking,) = client.rank([{"prompt": "Q", "completions": ["Berlin", "Paris"]}])
    assert ranking["best"] == 1
    client.close()


def ask_in_child(pickled: bytes, url: str, results: Any) -> None:
    results.put(pickle.loads(pickled).rewards(["Q"], ["Paris"]))


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("method", ["spawn", "fork"])
@pytest.mark.slow
def test_a_pickled_client_works_in_another_process(server: Process, judge: Judge, method: str) -> None:
    client = JudgeClient(server.url)
    wanted = client.rewards(["Q"], ["Paris"])  # connections are open by now
    pickled = pickle.dumps(client)
    assert TOKEN.encode() not in pickled
    context = multiprocessing.get_context(method)
    results = context.Queue()
    child = context.Process(target=ask_in_child, args=(pickled, server.url, results))
    child.start()
    assert results.get(timeout=60) == wanted
    child.join()
    client.close()


def test_threads_share_a_client(server: Process, judge: Judge) -> None:
    client = JudgeClient(server.url)
    wanted = judge.rate(["Q", "Q"], ["Paris", "B"])
    got: list[Any] = []
    threads = [
        threading.Thread(target=lambda: got.append(client.rewards(["Q", "Q"], ["Paris", "B"])))
        for _ in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [[j.reward for j in wanted]] * 16
    client.close()


@pytest.mark.parametrize("status", [429, 503, 500, 502, 504, 408])
def test_a_server_that_is_busy_is_asked_again_after_its_time(status: int) -> None:
    named = 1 if status == 429 else 0
    busy = (status, {"Retry-After": str(named)}, BUSY)
    with answering(busy, GOOD) as (url, times):
        client = JudgeClient(url)
        assert client.rate([ROW])[0]["reward"] == 1.0
        client.close()
    assert times[1] - times[0] >= named
    with answering(busy, GOOD) as (url, times):
        client = JudgeClient(url)
        assert asyncio.run(and_close(client, client.rate_async([ROW])))[0]["reward"] == 1.0
    assert times[1] - times[0] >= named


def test_patience_ends_and_says_what_happened_last() -> None:
    with answering((429, {"Retry-After": "30"}, BUSY)) as (url, times):
        client = JudgeClient(url, patience_seconds=1.0)
        with pytest.raises(EngineUnavailable, match="HTTP 429: much waits"):
            client.rate([ROW])
        client.close()
    assert len(times) == 1
    with pytest.raises(EngineUnavailable, match="did not judge within"):
        JudgeClient("http://127.0.0.1:9", patience_seconds=0.5).rate([ROW])


def test_a_request_that_breaks_the_server_is_not_sent_for_ever() -> None:
    with answering((500, {"Retry-After": "0"}, BUSY)) as (url, times):
        client = JudgeClient(url, patience_seconds=300)
        with pytest.raises(EngineRejected, match="failed 4 times"):
            client.rate([ROW])
        client.close()
    assert len(times) == 4


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422])
def test_a_final_refusal_is_not_repeated(status: int) -> None:
    refusal = {"error": {"type": "x", "message": "no such thing", "where": "rows[0].prompt"}}
    with answering((status, {}, refusal)) as (url, times):
        client = JudgeClient(url)
        with pytest.raises(EngineRejected, match="no such thing"):
            client.rate([ROW])
        client.close()
    assert len(times) == 1


@pytest.mark.parametrize(
    "body",
    [b"<html>", {"rows": []}, {"rows": [{}, {}]}, {"rewards": [1]}, [], None],
    ids=lambda b: repr(b)[:12],
)
def test_an_answer_of_something_else_is_no_reward(body: Any) -> None:
    with answering((200, {}, body)) as (url, _):
        client = JudgeClient(url)
        with pytest.raises(EngineContractBroken):
            client.rate([ROW])
        client.close()


def test_a_wrong_token_says_what_to_do(server: Process) -> None:
    client = JudgeClient(server.url, token="wrong-wrong-wrong-wrong")
    with pytest.raises(EngineRejected, match="401") as refused:
        client.rate([ROW])
    assert "AUTOJ_REWARD_TOKEN" in refused.value.hint
    client.close()


@pytest.mark.parametrize("url", ["judge:8000", "", "ftp://judge"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="not a server URL"):
        JudgeClient(url)


def test_a_served_judge_has_the_methods_of_a_judge(server: Process, judge: Judge) -> None:
    """Whole judgments come back: distributions, samples and provenance, failures too."""
    prompts = ["Q"] * len(COMPLETIONS)
    with JudgeClient(server.url, rows_per_request=3) as client:
        assert isinstance(client, Judging)
        assert isinstance(judge, Judging)
        rated, wanted = client.rate(prompts, COMPLETIONS), judge.rate(prompts, COMPLETIONS)
        assert [j.to_dict() | {"judge_id": ""} for j in rated] == [
            j.to_dict() | {"judge_id": ""} for j in wanted
        ]
        assert [j.distribution for j in rated] == [j.distribution for j in wanted]
        assert [j.samples for j in rated] == [j.samples for j in wanted]
        assert asyncio.run(and_close(client, client.arate(prompts, COMPLETIONS))) == rated
        pairs = client.compare(prompts=["Q"], firsts=["Paris"], seconds=["Berlin"])
        [local] = judge.compare(["Q"], ["Paris"], ["Berlin"])
        assert pairs[0].order_win_probs == local.order_win_probs
        assert asyncio.run(and_close(client, client.acompare(["Q"], ["Paris"], ["Berlin"]))) == pairs
        assert client.rate(rows=[ROW])[0]["reward"] == client.rate([ROW])[0]["reward"]
        with pytest.raises(ConfigError, match="rate takes prompts, completions, or rows"):
            client.rate(["Q"], ["A"], scale="raw")  # type: ignore[call-overload]


def test_a_server_of_another_version_is_named() -> None:
    with answering(GOOD) as (url, _), pytest.raises(EngineContractBroken, match="same version"):
        JudgeClient(url).rate(["Q"], ["A"])
