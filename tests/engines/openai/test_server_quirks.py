# SPDX-License-Identifier: Apache-2.0
"""Quirks of servers and proxies: spellings, refusals, impossible numbers, huge answers, keys in messages."""

from __future__ import annotations

import asyncio
import gzip
import json
import math
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from autoj_reward.cache.store import JudgmentStore
from autoj_reward.cli.app import app
from autoj_reward.engines.local_server.engine import serve_order
from autoj_reward.engines.local_server.settings import LocalServerSettings
from autoj_reward.engines.openai.engine import ServerEngine
from autoj_reward.engines.openai.responses import by_id, read_chat, unlisted_prob
from autoj_reward.errors import AutojRewardError, ConfigError, EngineContractBroken, EngineRejected
from autoj_reward.integrations.client import JudgeClient
from autoj_reward.types import Failure, JudgeOutput
from tests.engines.openai.test_engine import (
    Answer,
    Body,
    item,
    models,
    refused,
    serving,
    wrote,
)

BOMB = gzip.compress(gzip.compress(b"\0" * (64 << 20)))


def chat(text: str, finish: Any, **usage: int) -> Answer:
    """A chat answer with a finish reason of any kind."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
    return 200, {"choices": [choice], "usage": usage}


def asked(answer: Answer, **settings: Any) -> JudgeOutput | Failure:
    """What becomes of a critique that a hosted server answers so."""

    def serve(path: str, body: Body, headers: Any) -> Answer:
        if path.endswith("/models"):
            return models("m")
        if path.endswith("/chat/completions"):
            probing = body["messages"][0]["content"] == "Say 1."
            return wrote("1") if probing else answer
        return 404, {"error": {"message": "no such path"}}

    with serving(serve) as url:
        engine = ServerEngine(url, attempts=2, retry_seconds=20, **settings)
        try:
            (only,) = engine.generate([item()])
        finally:
            engine.close()
        return only


# Finish reasons


@pytest.mark.parametrize(
    ("said", "finish"),
    [
        ("stop", "stop"), ("STOP", "stop"), ("eos", "stop"), ("end_turn", "stop"), ("FINISH_REASON_STOP", "stop"),
        (None, "stop"), ("", "stop"), ("whatever", "stop"), (7, "stop"), ("length", "length"),
        ("MAX_TOKENS", "length"), ("max_tokens", "length"), ("model_length", "length"),
    ],
)  # fmt: skip
def test_a_good_answer_is_no_failure_however_its_end_is_called(said: Any, finish: str) -> None:
    output = asked(chat("Right. Rating: [[9]]", said))
    assert isinstance(output, JudgeOutput)
    assert (output.text, output.finish_reason) == ("Right. Rating: [[9]]", finish)


def test_an_unknown_end_at_the_limit_of_tokens_is_a_cut() -> None:
    output = asked(chat("Right. Rating: [[9", None, completion_tokens=item().sampling.max_new_tokens))
    assert isinstance(output, JudgeOutput)
    assert output.finish_reason == "length"


@pytest.mark.parametrize("said", ["content_filter", "SAFETY", "error", "tool_calls", "abort"])
def test_an_end_that_is_none_is_a_failure(said: str) -> None:
    failure = asked(chat("I", said))
    assert isinstance(failure, Failure)
    assert said in failure.detail


def test_an_error_under_http_200_keeps_the_servers_words() -> None:
    with pytest.raises(EngineContractBroken, match="the model is being moved"):
        asked((200, {"error": {"message": "the model is being moved"}}))


def test_an_error_under_http_200_with_a_status_is_that_status() -> None:
    failure = asked((200, {"error": {"message": "this text is not to our taste", "code": 400}}))
    assert isinstance(failure, Failure)
    assert "not to our taste" in failure.detail


# Temperature


def picky(least: float | None) -> Any:
    """A chat server with log-probabilities that takes no temperature under some value."""

    def serve(path: str, body: Body, headers: Any) -> Answer:
        if path.endswith("/models"):
            return models("m")
        if not path.endswith("/chat/completions"):
            return 404, {"error": {"message": "no such path"}}
        given = body.get("temperature", 1.0)
        if given != 1.0 and (least is None or given < least):
            return refused("Unsupported value: 'temperature' does not support 0 with this model.")
        answer = wrote("7] and more")
        if body.get("logprobs"):
            top = [{"token": t, "logprob": math.log(p)} for t, p in (("7", 0.7), ("8", 0.2), ("]", 0.1))]
            answer[1]["choices"][0]["logprobs"] = {"content": [{**top[0], "top_logprobs": top}]}
        return answer

    return serve


@pytest.mark.parametrize("least", [0.01, None])
def test_an_api_that_refuses_temperature_0_is_read_all_the_same(least: float | None) -> None:
    """Listed probabilities do not depend on what is drawn."""
    with serving(picky(least)) as url:
        engine = ServerEngine(url)
        known = engine.connect()
        assert known.least_temperature == least
        assert known.chat_top > 1
        engine.close()


def test_a_greedy_critique_where_all_is_drawn_is_refused_and_one_at_temperature_1_is_not() -> None:
    from dataclasses import replace

    with serving(picky(None)) as url:
        engine = ServerEngine(url)
        with pytest.raises(EngineRejected, match="no temperature near 0"):
            engine.generate([item()])
        drawn = replace(item(), sampling=replace(item().sampling, temperature=1.0))
        assert isinstance(engine.generate([drawn])[0], JudgeOutput)
        engine.close()


# Impossible probabilities


def step(*listed: tuple[str, float], chosen: tuple[str, float] = ("7", -0.3)) -> Any:
    """A chat answer's body with one token's list."""
    top = [{"token": t, "logprob": p} for t, p in listed]
    record = {"token": chosen[0], "logprob": chosen[1], "top_logprobs": top}
    choice = {"message": {"content": "7"}, "finish_reason": "stop", "logprobs": {"content": [record]}}
    return {"choices": [choice]}


@pytest.mark.parametrize(
    "listed",
    [
        [("7", 0.0), ("8", 0.0), ("9", 0.0)],
        [("7", math.log(0.9)), ("8", math.log(0.9))],
        [("7", math.nan), ("8", -1.0)],
        [("7", math.inf)],
    ],
    ids=["all-zero", "sum-of-1.8", "nan", "infinite"],
)
def test_probabilities_that_cannot_be_are_refused(listed: list[tuple[str, float]]) -> None:
    from autoj_reward.engines.openai.connection import MalformedResponse

    with pytest.raises(MalformedResponse):
        read_chat(step(*listed))


def test_rounded_probabilities_are_taken() -> None:
    read_chat(step(("7", math.log(0.7)), ("8", math.log(0.302))))


def test_two_tokens_of_one_text_add_up() -> None:
    """Of 7, 7 and 8 with 0.4, 0.3 and 0.2, the last 7 alone was counted, or the larger."""
    body = step(("7", math.log(0.4)), ("7", math.log(0.3)), ("8", math.log(0.2)), chosen=("7", math.log(0.4)))
    (read,) = read_chat(body).steps
    found = by_id(read, {"7": 70, "8": 80})
    assert {i: math.exp(p) for i, p in found.items()} == {70: pytest.approx(0.7), 80: pytest.approx(0.2)}
    assert unlisted_prob(read) == pytest.approx(0.1)


# Bodies


@contextmanager
def raw(status: int, headers: dict[str, str], body: bytes) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """A server that gives one answer to everything; its address, and the headers it was sent."""
    seen: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append({k.lower(): v for k, v in self.headers.items()})
            self.rfile.read(int(self.headers.get("content-length", 0)))
            self.send_response(status)
            for name, value in {"content-length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize("encoding", ["gzip, gzip", "gzip", "br", "zstd"])
def test_compressed_answers_are_not_asked_for_and_not_unpacked(encoding: str) -> None:
    """64 kB unpacked into gigabytes, which the limit on bytes did not see."""
    headers = {"content-encoding": encoding, "content-type": "application/json"}
    with raw(200, headers, BOMB) as (url, seen):
        engine = ServerEngine(url, model="m", attempts=1)
        with pytest.raises(EngineContractBroken, match="compressed"):
            engine.connect()
        engine.close()
        client = JudgeClient(url, patience_seconds=5)
        with pytest.raises(EngineContractBroken, match="compressed"):
            client.rewards(["Q"], ["A"])
        with pytest.raises(EngineContractBroken, match="compressed"):
            asyncio.run(client.rewards_async(["Q"], ["A"]))
        client.close()
        assert {one["accept-encoding"] for one in seen} == {"identity"}


# Keys

KEY = "key-of-somebody"


def sent_key(url: str, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> str | None:
    """The key that an engine would send to an address."""
    engine = ServerEngine(url, **settings)
    key = engine._key()
    engine.close()
    return key


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AUTOJ_REWARD_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)


def test_the_openai_key_goes_to_https_and_to_this_machine_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with raw(200, {}, b"{}") as (url, seen):
        engine = ServerEngine(url, model="m", attempts=1)
        with pytest.raises(AutojRewardError):
            engine.connect()
        engine.close()
        assert {one.get("authorization") for one in seen} == {f"Bearer {KEY}"}
        seen.clear()
        # A name for this machine that does not say so; 127.1 and the like are not written as addresses.
        engine = ServerEngine(url.replace("127.0.0.1", "127.1"), model="m", attempts=1)
        with pytest.raises(AutojRewardError):
            engine.connect()
        engine.close()
        assert seen
        assert {one.get("authorization") for one in seen} == {None}
    for address in ("https://api.example/v1", "http://localhost:1", "http://[::1]:1"):
        assert sent_key(address, monkeypatch) == KEY
    assert sent_key("http://judge.example:8000", monkeypatch) is None
    assert sent_key("https://a.example,http://b.example", monkeypatch) is None
    assert sent_key("http://judge.example", monkeypatch, api_key_env="OPENAI_API_KEY") == KEY
    monkeypatch.setenv("AUTOJ_REWARD_API_KEY", "of-the-judges")
    assert sent_key("http://judge.example:8000", monkeypatch) == "of-the-judges"


def test_a_given_key_is_not_sent_over_plain_http_to_others_unless_allowed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(ConfigError, match="plain http") as error:
        ServerEngine("http://judge.example:8000", api_key=KEY)
    assert KEY not in str(error.value)
    assert sent_key("http://judge.example", monkeypatch, api_key=KEY, allow_plain_http=True) == KEY
    assert sent_key("http://127.0.0.1:1", monkeypatch, api_key=KEY) == KEY
    with pytest.raises(ConfigError, match="NO_SUCH_VARIABLE"):
        ServerEngine("http://127.0.0.1:1", api_key_env="NO_SUCH_VARIABLE")


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_does_not_carry_the_key_elsewhere(status: int) -> None:
    with raw(200, {}, b"{}") as (other, seen), raw(status, {"location": other}, b"") as (url, _):
        engine = ServerEngine(url, model="m", attempts=1, api_key=KEY)
        with pytest.raises(AutojRewardError):
            engine.connect()
        engine.close()
        client = JudgeClient(url, token=KEY, patience_seconds=2)
        with pytest.raises(AutojRewardError):
            client.rewards(["Q"], ["A"])
        client.close()
        assert seen == []


def test_a_servers_message_is_shown_as_one_line_without_control_characters_and_keys() -> None:
    words = f"no such key {KEY}\x1b[2J\r\nerror: all is well\x07"
    with raw(401, {}, json.dumps({"error": {"message": words}}).encode()) as (url, _):
        engine = ServerEngine(url, model="m", attempts=1, api_key=KEY)
        with pytest.raises(EngineRejected) as error:
            engine.connect()
        engine.close()
    message = error.value.args[0]
    assert message.isprintable()
    assert KEY not in message


def test_the_address_of_a_reward_server_is_shown_without_its_token() -> None:
    client = JudgeClient("http://any:token-of-the-server@127.0.0.1:9", patience_seconds=0.2)
    assert "token-of-the-server" not in repr(client)
    with pytest.raises(AutojRewardError) as error:
        client.rewards(["Q"], ["A"])
    assert "token-of-the-server" not in str(error.value)


def test_the_settings_of_a_managed_server_are_on_no_command_line() -> None:
    settings = LocalServerSettings(model="m", python=sys.executable, options={"hf_token": "token-of-the-hub"})
    order = serve_order(settings)
    assert "token-of-the-hub" not in " ".join(order.command)
    assert "token-of-the-hub" in json.dumps(order.environment)


# Files


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_only_this_user_can_read_a_cache(tmp_path: Path) -> None:
    path = tmp_path / "new" / "judgments.sqlite"
    umask = os.umask(0o022)
    try:
        store = JudgmentStore(path)
        store.note_engine("f", kind="k", model="m", version="v")
        files = sorted(path.parent.iterdir())
        assert len(files) == 3
        assert {mode(file) for file in files} == {0o600}
        assert mode(path.parent) == 0o700
        store.close()
    finally:
        os.umask(umask)


def test_a_cache_that_all_could_read_is_closed_to_them(tmp_path: Path) -> None:
    path = tmp_path / "judgments.sqlite"
    writing = JudgmentStore(path)
    writing.note_engine("f", kind="k", model="m", version="v")
    for file in tmp_path.iterdir():
        file.chmod(0o644)
    JudgmentStore(path).close()
    assert {mode(file) for file in tmp_path.iterdir()} == {0o600}
    writing.close()


# Commands


def test_a_judge_without_a_model_is_refused_at_once() -> None:
    with pytest.raises(ConfigError, match="without a model"):
        CliRunner().invoke(
            app, ["serve", "--judge", "general", "--engine", "transformers", "--port", "0", "--no-cache"],
            catch_exceptions=False,
        )  # fmt: skip


@pytest.mark.slow
def test_serving_a_judge_without_vllm_says_that_it_is_not_installed(tmp_path: Path) -> None:
    """It said "out of memory", after a minute."""
    code = (
        "import importlib.util, sys\n"
        "find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *a: None if name == 'vllm' else find(name, *a)\n"
        "from autoj_reward.cli import main\n"
        "sys.argv = ['autoj-reward', 'serve-judge', '--start-seconds', '20']\n"
        "main()\n"
    )
    (tmp_path / "vllm.py").write_text("raise ModuleNotFoundError(\"No module named 'vllm'\", name='vllm')\n")
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd=tmp_path,
        env={**os.environ, "AUTOJ_REWARD_RUNTIME": str(tmp_path / "runtime")},
    )  # fmt: skip
    assert done.returncode == 2
    assert "needs the package vllm" in done.stderr
    assert "out of memory" not in done.stderr
