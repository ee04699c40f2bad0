# SPDX-License-Identifier: Apache-2.0
"""The routes: the same verdicts as the Python API, and every refusal in one shape."""

from __future__ import annotations

import html
import json
import logging
import re
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from autoj_reward import Judge, rank
from autoj_reward.cache.store import JudgmentStore
from autoj_reward.engines.cached import CachedEngine
from autoj_reward.engines.recorded import RecordedEngine
from autoj_reward.errors import EngineError, EngineRejected, EngineUnavailable
from autoj_reward.rows.fields import row_format
from autoj_reward.rows.records import RowItem
from autoj_reward.rows.tasks import rerank_task
from autoj_reward.testing import ScriptedEngine, rendered_text
from autoj_reward.types import JudgeInput
from tests.hostile import LOOK_ALIKES
from tests.serve.conftest import Serve

TOKEN = "0123456789abcdef-token"
HOSTILE = ["", "Paris", "mumble", "{completion}", "\ud800", "\x00", "a" * 100_000, *LOOK_ALIKES]


class Moody(ScriptedEngine):
    """A recorded engine that can be made to wait or to fail."""

    def __init__(self, path: Path) -> None:
        super().__init__(read=self.react, otherwise=RecordedEngine(path))
        self.error: Exception | None = None
        self.poison: str | None = None
        self.go = threading.Event()
        self.go.set()

    def react(self, item: JudgeInput) -> None:
        assert self.go.wait(30)
        if self.error is not None:
            raise self.error
        if self.poison and self.poison in rendered_text(item):
            raise RuntimeError("a poisoned input")


@pytest.fixture
def moody(recorded: Path) -> Moody:
    return Moody(recorded)


def rate(client: Any, *completions: Any, **further: Any) -> Any:
    rows = [{"prompt": "Q", "completion": c} for c in completions]
    return client.post(
        "/v1/rate",
        content=json.dumps({"rows": rows, **further}),
        headers={"content-type": "application/json"},
    )


def test_rate_equals_the_python_api_for_every_kind_of_text(serve: Serve, judge: Judge) -> None:
    answer = rate(serve(), *HOSTILE)
    assert answer.status_code == 200
    judgments = judge.rate(["Q"] * len(HOSTILE), HOSTILE)
    assert [row["reward"] for row in answer.json()["rows"]] == [j.reward for j in judgments]
    assert answer.json()["judge"]["engine"] == judgments[0].provenance.engine


def test_messages_are_taken_like_texts(serve: Serve, judge: Judge) -> None:
    prompt = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Capital?"}]
    completion = [{"role": "assistant", "content": "Paris"}]
    answer = serve().post("/v1/rate", json={"rows": [{"prompt": prompt, "completion": completion}]})
    assert answer.json()["rows"][0]["reward"] == judge.rate([prompt], [completion])[0].reward


def test_compare_equals_the_python_api(serve: Serve, judge: Judge) -> None:
    answer = serve().post("/v1/compare", json={"rows": [{"prompt": "Q", "first": "Paris", "second": "B"}]})
    (row,) = answer.json()["rows"]
    (judgment,) = judge.compare(["Q"], ["Paris"], ["B"])
    assert (row["win_prob"], row["tie_prob"], row["flipped"]) == (
        judgment.win_prob,
        judgment.tie_prob,
        judgment.flipped,
    )


def test_rank_equals_the_python_api(serve: Serve, judge: Judge) -> None:
    groups = [["Berlin", "Paris", "mumble", "Rome"], ["one"]]
    rows = [{"prompt": "Q", "completions": group} for group in groups]
    answer = serve().post("/v1/rank", json={"rows": rows}).json()["rows"]
    rankings = rank(judge, ["Q", "Q"], groups)
    assert [[e["index"] for e in row["ranking"]] for row in answer] == [
        [c.index for c in ranking.candidates] for ranking in rankings
    ]
    assert [row["best"] for row in answer] == [1, 0]


def test_rank_answers_every_field_that_rerank_adds(serve: Serve, judge: Judge) -> None:
    groups = [["Berlin", "Paris", "Berlin"], ["one"]]
    rows = [{"prompt": "Q", "completions": group} for group in groups]
    answer = serve().post("/v1/rank", json={"rows": rows}).json()["rows"]
    task = rerank_task(judge, row_format("rerank", None, {}), critiques="none")
    items = [
        RowItem(i, row, task.row_format.requests(row, optional=task.optional)) for i, row in enumerate(rows)
    ]
    assert answer == [json.loads(json.dumps(result.added)) for result in task.judge(items)]
    assert [row["n_calls"] for row in answer] == [2, 1]
    assert [row["strategy"] for row in answer] == ["pointwise"] * 2


def test_a_failure_is_null_and_typed(serve: Serve) -> None:
    (row,) = rate(serve(), "mumble").json()["rows"]
    assert row["reward"] is row["rating"] is row["expected_rating"] is None
    assert row["failure"]["reason"] == "low_mass"


@pytest.mark.parametrize(
    ("path", "body", "where"),
    [
        ("/v1/rate", {"rows": []}, "body.rows"),
        ("/v1/rate", {}, "body.rows"),
        ("/v1/rate", {"rows": [{"prompt": "Q", "completion": "A"}, {"prompt": "Q"}]}, "rows[1].completion"),
        ("/v1/rate", {"rows": [{"prompt": 3, "completion": "A"}]}, "rows[0].prompt"),
        ("/v1/rate", {"rows": ["x"]}, "rows[0]"),
        ("/v1/rate", {"rows": [{"prompt": "Q", "completion": []}]}, "rows[0].completion"),
        ("/v1/rate", {"rows": [{"prompt": "Q", "completion": [{"role": "user", "content": "?"}]}]}, "rows[0].completion"),
        ("/v1/rate", {"rows": [{"prompt": "Q", "completion": "A", "rubric": "be nice"}]}, "rows[0]"),
        ("/v1/rate", {"rows": [{"prompt": "Q", "completion": "A"}], "deadline_seconds": 0}, "body.deadline_seconds"),
        ("/v1/rate", {"rows": [{"prompt": "Q", "completion": "A"}], "deadlin": 1}, "body.deadlin"),
        ("/v1/compare", {"rows": [{"prompt": "Q", "first": "A"}]}, "rows[0].second"),
        ("/v1/rank", {"rows": [{"prompt": "Q", "completions": []}]}, "rows[0].completions"),
        ("/v1/rank", {"rows": [{"prompt": "Q", "completions": ["A", None]}]}, "rows[0].completions[1]"),
    ],
)  # fmt: skip
def test_errors_name_the_place_in_the_request(serve: Serve, path: str, body: Any, where: str) -> None:
    answer = serve().post(path, json=body)
    assert answer.status_code == 422
    assert answer.json()["error"]["where"] == where


@pytest.mark.parametrize(
    "content",
    [b"", b"{nope", b"[" * 100_000, b"\xff\xfe", b"null", b'"text"', b'{"rows": NaN}', b'{"\\ud800": 1}', b"1" * 5000],
    ids=["empty", "no JSON", "deep", "no UTF-8", "null", "text", "NaN", "surrogate", "long number"],
)  # fmt: skip
def test_bodies_that_are_no_body_are_refused_and_not_repeated(serve: Serve, content: bytes) -> None:
    answer = serve().post("/v1/rate", content=content, headers={"content-type": "application/json"})
    assert answer.status_code in (400, 422)
    assert set(answer.json()) == {"error"}


def test_unknown_paths_and_methods_have_the_same_shape(serve: Serve) -> None:
    client = serve()
    assert client.get("/nowhere").json()["error"]["type"] == "http"
    assert client.get("/v1/rate").status_code == 405
    client.get("/../../etc/passwd")
    assert 'path="other",status="404"' in client.get("/metrics").text
    assert "nowhere" not in client.get("/metrics").text


def test_completions_are_bounded(serve: Serve) -> None:
    client = serve(max_completions=4)
    assert rate(client, *"abcd").status_code == 200
    assert rate(client, *"abcde").status_code == 413
    pairs = [{"prompt": "Q", "first": "A", "second": "B"}] * 3
    assert client.post("/v1/compare", json={"rows": pairs}).status_code == 413
    groups = [{"prompt": "Q", "completions": list("abc")}] * 2
    assert client.post("/v1/rank", json={"rows": groups}).json()["error"]["type"] == "too_many"


def test_bodies_are_bounded_whether_their_length_is_announced_or_not(serve: Serve) -> None:
    client = serve(max_body_bytes=2000)
    assert rate(client, "a" * 1000).status_code == 200
    assert rate(client, "a" * 2000).status_code == 413

    def pieces() -> Any:
        yield from [b'{"rows": [{"prompt": "Q", "completion": "'] + [b"a" * 500] * 5

    answer = client.post("/v1/rate", content=pieces(), headers={"content-type": "application/json"})
    assert answer.status_code == 413
    assert answer.json()["error"]["message"] == "the body is longer than 2,000 bytes"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Authorization": f"Bearer {TOKEN}x"}, 401),
        ({"Authorization": f"Bearer {TOKEN[:-1]}"}, 401),
        ({"Authorization": TOKEN}, 401),
        ({"Authorization": "Basic not*base64"}, 401),
        ({"Authorization": "Bearer "}, 401),
        ({"X-Token": TOKEN}, 401),
        ({"Authorization": f"Bearer {TOKEN}"}, 200),
        ({"Authorization": f"bearer {TOKEN}"}, 200),
    ],
)
def test_the_token_is_asked_for(serve: Serve, headers: dict[str, str], status: int) -> None:
    client = serve(token=TOKEN)
    for method, path in (("GET", "/metrics"), ("GET", "/openapi.json"), ("GET", "/docs")):
        assert client.request(method, path, headers=headers).status_code == status
    answer = client.post("/v1/rate", json={"rows": [{"prompt": "Q", "completion": "A"}]}, headers=headers)
    assert answer.status_code == status
    assert client.get("/health").status_code == client.get("/ready").status_code == 200
    if status == 401:
        assert "Bearer" in answer.headers["www-authenticate"]


def test_a_url_with_the_token_as_password_is_enough(serve: Serve) -> None:
    client = serve(token=TOKEN)
    assert client.get("/metrics", auth=("any", TOKEN)).status_code == 200
    assert client.get("/metrics", auth=("any", "wrong-wrong-wrong")).status_code == 401


def test_the_comparison_takes_constant_time() -> None:
    """Not timed, which no loaded machine could: the token is compared by `hmac.compare_digest`, on digests."""
    from autoj_reward.serve import auth

    seen: list[tuple[bytes, bytes]] = []
    real = auth.hmac.compare_digest
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(auth.hmac, "compare_digest", lambda a, b: seen.append((a, b)) or real(a, b))
        guard = auth.TokenGuard(lambda *_: None, TOKEN)  # type: ignore[arg-type,return-value]
        scopes = [
            {"path": "/v1/rate", "headers": [(b"authorization", b"Bearer " + given)]}
            for given in (b"", b"x", TOKEN.encode())
        ]
        assert [guard._may_pass(scope) for scope in scopes] == [False, False, True]
    assert [(len(a), len(b)) for a, b in seen] == [(32, 32)] * 3


def test_the_token_is_checked_before_the_body_is_read(serve: Serve) -> None:
    client = serve(token=TOKEN, max_body_bytes=100)
    assert client.post("/v1/rate", content=b"x" * 1000).status_code == 401


def test_a_full_queue_is_429_with_retry_after(serve: Serve, moody: Moody) -> None:
    client = serve(moody, max_waiting=4, max_completions=4, max_batch=2, window_seconds=0.0)
    moody.go.clear()
    answers: list[Any] = []
    threads = [threading.Thread(target=lambda: answers.append(rate(client, "a", "b"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    ends = time.monotonic() + 10
    while time.monotonic() < ends and "autoj_waiting_judgments 4.0" not in client.get("/metrics").text:
        time.sleep(0.02)
    refused = rate(client, "c")
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) >= 1
    moody.go.set()
    for thread in threads:
        thread.join(20)
    assert [answer.status_code for answer in answers] == [200] * 4
    assert rate(client, "c").status_code == 200


def test_a_deadline_is_504_and_the_answer_is_not_lost(serve: Serve, moody: Moody, tmp_path: Path) -> None:
    cached = CachedEngine(moody, JudgmentStore(tmp_path / "cache.sqlite"))
    client = serve(cached, deadline_seconds=5.0)
    moody.go.clear()
    late = rate(client, "Paris", deadline_seconds=0.1)
    assert late.status_code == 504
    assert late.json()["error"]["type"] == "deadline"
    assert "0.1 seconds" in late.json()["error"]["message"]
    moody.go.set()
    assert rate(client, "Paris").json()["rows"][0]["reward"] == pytest.approx(8.6)
    assert len(moody.calls) == 1


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (EngineUnavailable("http://10.0.0.9:8000 refused; key sk-secret"), 503, "engine_unavailable"),
        (EngineRejected("no model /srv/models/judge"), 502, "engine_failed"),
        (EngineError("odd"), 502, "engine_failed"),
    ],
    ids=["unavailable", "rejected", "other"],
)
def test_engine_errors_are_no_500_and_tell_nothing_of_the_inside(
    serve: Serve, moody: Moody, error: Exception, status: int, kind: str
) -> None:
    client = serve(moody)
    moody.error = error
    answer = rate(client, "Paris")
    assert (answer.status_code, answer.json()["error"]["type"]) == (status, kind)
    assert not any(word in answer.text for word in ("10.0.0.9", "secret", "/srv"))
    moody.error = None
    assert rate(client, "Paris").status_code == 200


def test_one_request_that_breaks_the_engine_spares_those_it_was_merged_with(
    serve: Serve, moody: Moody, caplog: pytest.LogCaptureFixture
) -> None:
    client = serve(moody, window_seconds=0.3)
    moody.poison = "arsenic"
    answers: dict[str, Any] = {}

    def ask(completion: str) -> None:
        answers[completion] = rate(client, completion)

    threads = [threading.Thread(target=ask, args=(c,)) for c in ("Paris", "arsenic", "Rome")]
    with caplog.at_level(logging.ERROR, logger="autoj_reward"):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
    assert {c: a.status_code for c, a in answers.items()} == {"Paris": 200, "arsenic": 500, "Rome": 200}
    assert answers["arsenic"].json()["error"]["type"] == "internal"
    assert "arsenic" not in caplog.text


def test_while_the_judge_is_loading_health_is_there_and_ready_is_not(recorded: Path, serve: Serve) -> None:
    loaded = threading.Event()

    def build() -> RecordedEngine:
        assert loaded.wait(20)
        return RecordedEngine(recorded)

    from autoj_reward.engines.lazy import LazyEngine

    client = serve(LazyEngine(build, lambda: RecordedEngine(recorded).fingerprint), wait=False)
    assert client.get("/health").status_code == 200
    assert client.get("/ready").json() == {"status": "loading"}
    early = rate(client, "Paris")
    assert (early.status_code, early.headers["retry-after"]) == (503, "5")
    loaded.set()
    ends = time.monotonic() + 10
    while client.get("/ready").status_code != 200 and time.monotonic() < ends:
        time.sleep(0.02)
    assert rate(client, "Paris").status_code == 200


def metric(client: Any, name: str) -> float:
    (line,) = [x for x in client.get("/metrics").text.splitlines() if x.startswith(name + " ")]
    return float(line.rpartition(" ")[2])


def test_metrics(serve: Serve, moody: Moody, tmp_path: Path) -> None:
    client = serve(CachedEngine(moody, JudgmentStore(tmp_path / "cache.sqlite")))
    rate(client, "Paris", "mumble")
    rate(client, "Paris")
    rate(client, 3)
    assert metric(client, 'autoj_requests_total{path="/v1/rate",status="200"}') == 2
    assert metric(client, 'autoj_requests_total{path="/v1/rate",status="422"}') == 1
    assert metric(client, 'autoj_request_seconds_count{path="/v1/rate"}') == 3
    assert metric(client, 'autoj_batch_size_sum{kind="rate"}') == 3
    assert metric(client, 'autoj_judgments_total{kind="rate"}') == 3
    assert metric(client, 'autoj_failures_total{reason="low_mass"}') == 1
    assert metric(client, 'autoj_failures_total{reason="truncated"}') == 0
    assert metric(client, 'autoj_answers_total{source="cache"}') == 1
    assert metric(client, "autoj_cache_hit_share") == pytest.approx(1 / 3)
    assert metric(client, "autoj_waiting_judgments") == 0
    assert metric(client, "autoj_ready") == 1
    assert "Paris" not in client.get("/metrics").text


def test_the_openapi_page_describes_rows(serve: Serve) -> None:
    client = serve()
    schema = client.get("/openapi.json").json()
    assert set(schema["paths"]) == {
        "/v1/rate", "/v1/compare", "/v1/rank", "/v1/decisions", "/v1/models", "/get_reward", "/remote_rm", "/health", "/ready",
        "/metrics",
    }  # fmt: skip
    row = schema["components"]["schemas"]["CompareBody"]["properties"]["rows"]["items"]
    assert row["required"] == ["prompt", "first", "second"]


def test_the_docs_page_shows_every_route_without_a_network(serve: Serve) -> None:
    client = serve()
    page = client.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    for path in client.get("/openapi.json").json()["paths"]:
        assert f"<code>POST {path}</code>" in page.text or f"<code>GET {path}</code>" in page.text
    assert "<script" not in page.text
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", page.text)
    # The example for a route is a body that the route takes.
    shown = re.search(r"/v1/compare .*?-d &#x27;(.*?)&#x27;", page.text, re.DOTALL)
    assert shown is not None
    answer = client.post("/v1/compare", json=json.loads(html.unescape(shown[1])))
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    "headers", [{}, {"Content-Type": "application/x-www-form-urlencoded"}], ids=["none", "form"]
)
def test_a_missing_content_type_is_said(serve: Serve, headers: dict[str, str]) -> None:
    answer = serve().post(
        "/v1/rate", content=b'{"rows": [{"prompt": "Q", "completion": "A"}]}', headers=headers
    )
    assert answer.status_code == 415
    assert answer.json()["error"]["message"] == "send JSON with the header Content-Type: application/json"
