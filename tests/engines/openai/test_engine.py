# SPDX-License-Identifier: Apache-2.0
"""The server engine before servers of several kinds, each a handful of lines on 127.0.0.1."""

from __future__ import annotations

import json
import math
import multiprocessing
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from autoj_reward.engines import Engine
from autoj_reward.engines.factory import make_engine
from autoj_reward.engines.openai.engine import ServerEngine
from autoj_reward.errors import ConfigError, EngineContractBroken, EngineRejected, EngineUnavailable
from autoj_reward.judge.judge import Judge
from autoj_reward.judge.presets import load_spec
from autoj_reward.types import (
    ChatWrapper,
    ContinuationQuery,
    Failure,
    FailureReason,
    JudgeInput,
    JudgeOutput,
    PlainWrapper,
    Sampling,
    Segment,
)
from tests.engines.taught import tokenizer
from tests.engines.tokenizers import CHAT_TEMPLATE

Body = Mapping[str, Any]
Answer = tuple[int, Any]
Serve = Callable[[str, Body, Mapping[str, str]], Answer]
"""Path, body (empty for a GET) and headers in, status and JSON out."""

NOT_FOUND: Answer = (404, {"error": {"message": "no such path"}})
RATING = ContinuationQuery(verdict_prefix="Rating: [[", continuations=("1", "2", "10"), terminators=("]",))


@contextmanager
def serving(serve: Serve, port: int = 0) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Two packets for one answer would wait for each other's acknowledgement.
        wbufsize = -1

        def do_GET(self) -> None:
            self.answer({})

        def do_POST(self) -> None:
            self.answer(json.loads(self.rfile.read(int(self.headers["content-length"]))))

        def answer(self, body: Body) -> None:
            status, value = serve(self.path, body, dict(self.headers))
            data = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def models(*names: str, **said: Any) -> Answer:
    return 200, {"data": [{"id": name, **said} for name in names]}


def wrote(text: str, finish: str = "stop", **message: Any) -> Answer:
    return 200, {"choices": [{"message": {"content": text, **message}, "finish_reason": finish}]}


def refused(message: str) -> Answer:
    return 400, {"error": {"message": message}}


def hosted(path: str, body: Body, headers: Mapping[str, str]) -> Answer:
    """A hosted reasoning model: chat only, strict about fields, no log-probabilities, a key."""
    if headers.get("authorization", headers.get("Authorization")) != "Bearer sesame":
        return 401, {"error": {"message": "who are you?"}}
    if path == "/v1/models":
        return models("big", "small", owned_by="them")
    if path != "/v1/chat/completions":
        return NOT_FOUND
    if unknown := body.keys() - {
        "model",
        "messages",
        "max_completion_tokens",
        "temperature",
        "seed",
        "stop",
        "top_p",
    }:
        return refused(f"unknown fields {sorted(unknown)}")
    assert body["messages"][-1]["role"] == "user"
    asked = body["messages"][-1]["content"]
    if "Say 1." in asked:
        return wrote("1")
    if "beginning with: Rating: [[" in asked:
        return wrote("Rating: [[2]]", reasoning_content="Two, I think.")
    if "tasteless" in asked:
        return wrote("", finish="content_filter")
    return wrote("It is poor.\n\nRating: [[2]]", reasoning_content="Two, I think.")


def llamacpp(path: str, body: Body, headers: Mapping[str, str]) -> Answer:
    """Lists the most probable tokens in records, in both APIs; goes on writing an assistant's turn."""
    if path == "/v1/models":
        return models("gguf", owned_by="llamacpp", meta={"n_ctx": 512, "n_params": 7})
    if path == "/v1/completions" and isinstance(body["prompt"], list):
        return refused("text only, please")
    if path not in ("/v1/completions", "/v1/chat/completions"):
        return NOT_FOUND
    chat = path.endswith("chat/completions")
    shown = body["messages"][-1]["content"] if chat else body["prompt"]
    text, table = "7", {"1": 0.5, "2": 0.25, "x": 0.25}
    if shown.endswith("[[1"):
        table = {"]]": 0.5, "0": 0.5}
    elif shown.endswith(("[[2", "[[10")):
        table = {"]]": 0.75, "?": 0.25}
    rows = [{"token": t, "logprob": math.log(p)} for t, p in table.items()]
    listed = body.get("top_logprobs") if chat else body.get("logprobs")
    logprobs = {"content": [{**rows[0], "top_logprobs": rows[:listed]}]} if listed else None
    part = {"message": {"content": text}} if chat else {"text": text}
    return 200, {"choices": [{**part, "finish_reason": "length", "logprobs": logprobs}]}


def legacy(path: str, body: Body, headers: Mapping[str, str]) -> Answer:
    """Completions only, without log-probabilities."""
    if path == "/v1/models":
        return models("old", owned_by="somebody")
    if (
        path != "/v1/completions"
        or not isinstance(body["prompt"], str)
        or "logprobs" in body
        or "top_k" in body
    ):
        return NOT_FOUND if path != "/v1/completions" else refused("no")
    text = "2]]" if body["prompt"].endswith("[[") else "Bad.\n\nRating: [[2]]"
    return 200, {"choices": [{"text": text, "finish_reason": "stop"}]}


def item(
    text: str = "x", *, readout: ContinuationQuery | None = None, plain: bool = False, **sampling: Any
) -> JudgeInput:
    return JudgeInput(
        body=(Segment("Rate: ", True), Segment(text)),
        wrapper=PlainWrapper(before="[INST] ", after=" [/INST] ") if plain else ChatWrapper(),
        prefill=(Segment(readout.verdict_prefix, True),) if readout else (),
        readout=readout,
        sampling=Sampling(**sampling),
    )


def answers(engine: Engine, *items: JudgeInput) -> list[JudgeOutput]:
    found = engine.generate(items)
    assert all(isinstance(one, JudgeOutput) for one in found), found
    return found  # type: ignore[return-value]


def probs(answer: JudgeOutput) -> dict[str, float]:
    assert answer.reading is not None
    return {p.text: p.prob for p in answer.reading.paths}


def test_a_hosted_chat_model_gives_honest_points() -> None:
    with serving(hosted) as url:
        engine = ServerEngine(url, model="small", api_key="sesame")
        known = engine.connect()
        assert (known.chat, known.completions, known.prefix) == (True, False, False)
        assert (known.chat_top, known.extras, known.limit_name) == (0, False, "max_completion_tokens")
        written, direct = answers(engine, item(), item(readout=RATING))
        assert (written.thinking, written.finish_reason) == ("Two, I think.", "stop")
        assert direct.reading is None
        # The judge parses lead and text together.
        assert direct.text == "2]]"
        (failure,) = engine.generate([item("tasteless")])
        assert isinstance(failure, Failure)
        assert "content_filter" in failure.detail
        for mode in ("direct", "critique"):
            judge = Judge.load("mini", engine=engine, mode=mode)
            (judgment,) = judge.rate(["What is 2 + 2?"], ["5"])
            assert judgment.distribution is not None
            assert judgment.distribution.exactness == "point"
            assert judgment.expected_rating == 2.0
        assert judgment.samples[0].thinking == "Two, I think."
        engine.close()


@pytest.mark.parametrize("plain", [False, True], ids=["chat", "text"])
def test_lists_of_the_most_probable_are_followed_by_text(plain: bool) -> None:
    with serving(llamacpp) as url:
        engine = ServerEngine(url)
        known = engine.connect()
        assert (known.kind, known.prefix, known.top, known.chat_top) == ("llamacpp", True, 20, 20)
        assert engine.context_tokens == 512
        (read,) = answers(engine, item(readout=RATING, plain=plain))
        assert probs(read) == pytest.approx({"1": 0.25, "2": 0.1875, "10": 0.1875})
        assert read.reading is not None
        assert read.reading.unread_prob == pytest.approx(0.0)
        assert read.usage.n_requests == 4
        engine.close()


def test_completions_without_probabilities_write_on_from_the_lead() -> None:
    with serving(legacy) as url:
        engine = ServerEngine(url)
        written, direct = answers(engine, item(plain=True), item(plain=True, readout=RATING))
        assert written.text == "Bad.\n\nRating: [[2]]"
        assert (direct.reading, direct.text) == (None, "2]]")
        critique = replace(item(plain=True, readout=RATING), prefill=(Segment("Bad.\n\nRating: [["),))
        (after,) = answers(engine, critique)
        assert (after.reading, after.text, after.usage.n_requests) == (None, "", 0)
        forced = replace(critique, prefill=(Segment("Bad, and"), Segment("\nRating: [[", True)))
        (after,) = answers(engine, forced)
        assert (after.reading, after.text) == (None, "2]]")
        with pytest.raises(EngineRejected, match="chat template"):
            engine.generate([item()])
        with pytest.raises(EngineRejected, match="repetition_penalty"):
            engine.generate([item(plain=True, repetition_penalty=1.1)])
        engine.close()


def test_arguments_of_a_chat_template_need_a_server_that_takes_them() -> None:
    with serving(hosted) as url:
        engine = ServerEngine(url, model="small", api_key="sesame")
        asking = replace(item(), wrapper=ChatWrapper(arguments=(("enable_thinking", False),)))
        with pytest.raises(EngineRejected, match="enable_thinking"):
            engine.generate([asking])
        engine.close()


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"api_key": "sesame"}, ConfigError, "big, small"),
        ({"api_key": "sesame", "model": "tiny"}, ConfigError, "no model 'tiny'"),
        ({"api_key": "wrong", "model": "small"}, EngineRejected, "api_key"),
        ({"api_key": "sesame", "model": "small", "api": "completions"}, ConfigError, "completions"),
    ],
    ids=["which", "unknown", "key", "api"],
)
def test_missing_abilities_of_an_endpoint_are_named(
    settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    with serving(hosted) as url:
        engine = ServerEngine(url, **settings)
        with pytest.raises(error, match=message):
            engine.connect()
        engine.close()


@pytest.mark.parametrize(
    "settings", [{"api": "http"}, {"concurrency": 0}, {"attempts": 0}, {"api_key": "a\nb"}]
)
def test_wrong_settings(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        ServerEngine("http://127.0.0.1:9", **settings)


def test_a_page_in_place_of_an_api_is_named() -> None:
    with serving(lambda path, body, headers: (200, "Welcome")) as url:
        engine = ServerEngine(url, attempts=2)
        with pytest.raises(EngineContractBroken, match="no list of models"):
            engine.connect()
        engine.close()


def test_a_closed_port_is_unavailable_with_a_hint() -> None:
    with serving(llamacpp) as url:
        pass
    engine = ServerEngine(url, attempts=2)
    with pytest.raises(EngineUnavailable, match="is a server running"):
        engine.generate([item()])
    engine.close()


def test_an_endpoint_that_is_down_at_first_joins_when_it_is_up(caplog: pytest.LogCaptureFixture) -> None:
    asked: list[str] = []

    def late(path: str, body: Body, headers: Mapping[str, str]) -> Answer:
        asked.append(path)
        return llamacpp(path, body, headers)

    with serving(llamacpp) as other:
        pass
    with serving(llamacpp) as url:
        engine = ServerEngine([url, other], concurrency=4)
        assert answers(engine, *(item(f"{k}") for k in range(8)))
        assert "is used once it does" in caplog.text
        with serving(late, port=int(other.rpartition(":")[2])):
            while "/v1/chat/completions" not in asked or len(asked) < 12:
                assert answers(engine, *(item(f"{k}") for k in range(8)))
            engine.close()


@pytest.mark.parametrize("status", [404, 500, 502])
def test_a_server_without_a_tokenize_route_is_used_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    """SGLang has no such route; a router in front of a server may turn its refusal into an error of its own."""
    asked: list[str] = []

    def serve(path: str, body: Body, headers: Mapping[str, str]) -> Answer:
        asked.append(path)
        if path == "/v1/models":
            return models("routed", owned_by="sglang")
        if path != "/v1/completions":
            return status, {"error": {"message": "no way there"}}
        if isinstance(body["prompt"], list) and "logprobs" not in body:
            return 200, {"choices": [{"text": "Bad.\n\nRating: [[2]]", "finish_reason": "stop"}]}
        return refused("no")

    tokenizer(CHAT_TEMPLATE).save_pretrained(tmp_path)
    with serving(serve) as url:
        engine = ServerEngine(url, tokenizer=str(tmp_path))
        (written,) = answers(engine, item())
        assert written.text == "Bad.\n\nRating: [[2]]"
        assert asked.count("/tokenize") == 1
        assert "tokenizer is not compared" in caplog.text
        engine.close()


def test_endpoints_must_be_alike() -> None:
    with serving(llamacpp) as one, serving(legacy) as other:
        engine = ServerEngine([one, other], tokenizer=None)
        with pytest.raises(ConfigError, match="differs from the other endpoints"):
            engine.connect()
        engine.close()


def test_a_key_is_in_no_message_and_no_representation() -> None:
    with serving(hosted) as url:
        engine = ServerEngine(url, model="small", api_key="secret-key")
        with pytest.raises(EngineRejected) as raised:
            engine.connect()
        assert "secret-key" not in f"{raised.value!r} {engine!r}"
        engine.close()


def test_too_long_by_the_servers_word() -> None:
    def serve(path: str, body: Body, headers: Mapping[str, str]) -> Answer:
        if "too much" in json.dumps(body):
            return refused(
                "This model's maximum context length is 512 tokens, and your prompt has 600 input tokens."
            )
        if "odd" in json.dumps(body):
            return refused("this is odd")
        return llamacpp(path, body, headers)

    with serving(serve) as url:
        engine = ServerEngine(url)
        good, long, odd = engine.generate([item("fine"), item("too much"), item("odd")])
        assert isinstance(good, JudgeOutput)
        assert isinstance(long, Failure)
        assert isinstance(odd, Failure)
        assert (long.reason, long.overflow_tokens) == (FailureReason.TOO_LONG, 88)
        assert odd.reason is FailureReason.ENGINE
        engine.close()


def test_one_fatal_answer_ends_the_call() -> None:
    """A key that is withdrawn mid-run must not be tried ten thousand times."""
    asked: list[str] = []

    def serve(path: str, body: Body, headers: Mapping[str, str]) -> Answer:
        if "input" in json.dumps(body):
            asked.append(path)
            return 403, {"error": {"message": "your key was withdrawn"}}
        return llamacpp(path, body, headers)

    with serving(serve) as url:
        engine = ServerEngine(url, concurrency=4)
        with pytest.raises(EngineRejected, match="withdrawn"):
            engine.generate([item(f"input {k}") for k in range(200)])
        assert len(asked) <= 8
        # The engine itself goes on.
        assert answers(engine, item("fine"))
        engine.close()


@pytest.mark.slow
def test_text_needs_neither_torch_nor_a_tokenizer_library() -> None:
    with serving(llamacpp) as url:
        code = f"""
import sys
for name in ("torch", "transformers", "tokenizers", "vllm"):
    sys.modules[name] = None
from autoj_reward.judge.judge import Judge
with Judge.load("mini", engine="server:{url}", tokenizer="none") as judge:
    print(judge.rate(["What is 2 + 2?"], ["4"])[0].distribution.exactness)
"""
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
        )
        assert done.stdout.strip() in ("exact", "bounded"), done.stderr


def test_the_factory_knows_servers_by_address() -> None:
    with serving(llamacpp) as url:
        spec = load_spec("mini")
        for name, options in ((f"server:{url}", {}), ("server", {"endpoints": [url]})):
            engine = make_engine(name, spec, {"tokenizer": "none", **options})()
            assert answers(engine, item())[0].text == "7"
            engine.close()
        with pytest.raises(ConfigError, match="dtyp"):
            make_engine(f"server:{url}", spec, {"dtyp": "float32"})
        with pytest.raises(ConfigError, match="endpoints"):
            make_engine("server", spec, {})


def test_a_pickle_holds_no_connection_and_its_copy_works_after_the_original_closed() -> None:
    with serving(llamacpp) as url:
        engine = ServerEngine(url)
        assert answers(engine, item())
        copy = pickle.loads(pickle.dumps(engine))
        assert copy.fingerprint == engine.fingerprint
        engine.close()
        engine.close()
        with pytest.raises(EngineRejected, match="closed"):
            engine.generate([item()])
        assert answers(copy, item())
        copy.close()


def test_a_copy_before_another_server_refuses() -> None:
    with serving(llamacpp) as url:
        engine = ServerEngine(url)
        state = (engine.connect(), pickle.dumps(engine))[1]
        engine.close()
    with serving(legacy) as other:
        copy = pickle.loads(state.replace(url.encode(), other.encode()))
        with pytest.raises(ConfigError):
            copy.generate([item()])
        copy.close()


def test_threads_share_one_engine() -> None:
    with serving(llamacpp) as url:
        engine = ServerEngine(url, concurrency=8)
        found: list[list[JudgeOutput]] = []

        def ask() -> None:
            found.append(answers(engine, *(item(f"{k}", readout=RATING) for k in range(20))))

        threads = [threading.Thread(target=ask) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [len(one) for one in found] == [20] * 6
        engine.close()


@pytest.mark.slow
def test_a_fork_has_connections_of_its_own() -> None:
    with serving(llamacpp) as url:
        engine = ServerEngine(url)
        before = answers(engine, item(readout=RATING))

        def in_child(results: Any) -> None:
            results.send([probs(a) for a in answers(engine, item(readout=RATING))])

        here, there = multiprocessing.Pipe()
        child = multiprocessing.get_context("fork").Process(target=in_child, args=(there,))
        child.start()
        assert here.poll(60)
        assert here.recv() == [probs(a) for a in before]
        child.join()
        assert child.exitcode == 0
        assert answers(engine, item())
        engine.close()


@pytest.mark.parametrize("handed_to", ["main thread", "another"])
def test_an_interruption_takes_the_requests_with_it(handed_to: str) -> None:
    """After Ctrl-C nothing goes on in the background, and the engine can be used again.

    Whichever thread the system hands the signal to: only the main thread's wait is ended by it.
    """
    main = threading.get_ident()
    held, begun = threading.Event(), threading.Event()

    def serve(path: str, body: Body, headers: Mapping[str, str]) -> Answer:
        if "slow" in json.dumps(body):
            begun.set()
            held.wait(60)
        return llamacpp(path, body, headers)

    with serving(serve) as url:
        engine = ServerEngine(url, concurrency=2)
        engine.connect()

        def interrupt() -> None:
            begun.wait(60)
            signal.pthread_kill(main if handed_to == "main thread" else threading.get_ident(), signal.SIGINT)

        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            engine.generate([item(f"slow {k}") for k in range(50)])
        thread.join()
        asked = engine.counts["requests"]
        held.set()
        assert answers(engine, item("fine"))
        # The answer, and a look at who gave it.
        assert engine.counts["requests"] == asked + 2
        engine.close()


def test_closing_ends_running_calls() -> None:
    held, begun = threading.Event(), threading.Event()

    def serve(path: str, body: Body, headers: Mapping[str, str]) -> Answer:
        if "slow" in json.dumps(body):
            begun.set()
            held.wait(60)
        return llamacpp(path, body, headers)

    with serving(serve) as url:
        engine = ServerEngine(url)
        errors: list[Exception] = []

        def ask() -> None:
            try:
                engine.generate([item("slow")])
            except EngineRejected as error:
                errors.append(error)

        thread = threading.Thread(target=ask)
        thread.start()
        begun.wait(60)
        engine.close()
        thread.join()
        held.set()
        assert "closed" in str(errors[0])
