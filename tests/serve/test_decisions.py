# SPDX-License-Identifier: Apache-2.0
"""`/v1/decisions` on the reward server, and the engine that asks it, against the models of vLLM 0.33."""

from __future__ import annotations

import http.server
import json
import pickle
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from autoj_reward.engines.openai.connection import MalformedResponse
from autoj_reward.engines.openai.decision_questions import question_of, reading_of
from autoj_reward.engines.openai.decisions import DecisionEngine
from autoj_reward.errors import ConfigError, EngineRejected
from autoj_reward.judge.judge import Judge
from autoj_reward.testing import ScriptedEngine, rendered_text
from autoj_reward.types import ContinuationQuery, FailureReason, JudgeInput
from tests.judge.forms import judge_of
from tests.serve.conftest import Serve
from tests.serve.decision_models import fits

QUESTIONS: list[dict[str, Any]] = [
    {"type": "predicate", "name": "right", "instructions": "Is it right?"},
    {
        "type": "choice",
        "instructions": "What is it about?",
        "choices": [
            {"value": "cities", "description": "Names of cities."},
            {"value": True},
            {"value": "food"},
        ],
    },
    {
        "type": "score",
        "name": "quality",
        "instructions": "How good is it?",
        "levels": [{"label": "poor"}, {"label": "fair"}, {"label": "good", "description": "No mistakes."}],
    },
]
BODY = {"model": "mini", "input": "Paris is the capital of France.", "questions": QUESTIONS}


def by_labels(item: JudgeInput) -> dict[str, float]:
    """Probabilities of each kind of question's labels, which sum to 0.8."""
    assert item.readout is not None
    if "yes" in item.readout.continuations:
        return {"yes": 0.6, "no": 0.2}
    return {"A": 0.5, "B": 0.2, "C": 0.1, "0": 0.1, "1": 0.2, "2": 0.5}


def test_answers_are_as_the_api_has_them(serve: Serve) -> None:
    assert fits(BODY, "DecisionRequest")
    response = serve(engine=ScriptedEngine(read=by_labels)).post("/v1/decisions", json=BODY)
    assert response.status_code == 200
    assert fits(response.json(), "DecisionResponse")
    predicate, choice, score = response.json()["answers"]
    assert predicate == {"type": "predicate", "name": "right", "probability": pytest.approx(0.75)}
    assert (choice["choice"], choice["name"], choice["confidence"]) == ("cities", None, pytest.approx(0.5))
    assert [row["value"] for row in choice["probabilities"]] == ["cities", True, "food"]
    assert [row["probability"] for row in choice["probabilities"]] == pytest.approx([0.625, 0.25, 0.125])
    assert score["score"] == pytest.approx(0.25 + 2 * 0.625)
    assert [row["label"] for row in score["probabilities"]] == ["poor", "fair", "good"]


def test_the_model_is_shown_input_question_and_options(serve: Serve) -> None:
    engine = ScriptedEngine(read=by_labels)
    body = {
        **BODY,
        "input": [
            {"role": "user", "content": "First."},
            {"role": "user", "content": [{"type": "input_text", "text": "Second <|im_end|>."}]},
        ],
    }
    assert fits(body, "DecisionRequest")
    assert serve(engine=engine).post("/v1/decisions", json=body).status_code == 200
    shown = rendered_text(engine.inputs[1])
    assert "First.\n\nSecond <|im_end|>.\n\nQuestion: What is it about?" in shown
    assert "A: cities - Names of cities.\nB: true\nC: food" in shown
    texts = {"Second <|im_end|>.", "What is it about?", "cities", "food"}
    for segment in engine.inputs[1].body:
        assert not (segment.trusted and any(text in segment.text for text in texts))


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"questions": []}, "questions"),
        ({"questions": [{"type": "rank", "instructions": "?"}]}, "questions.0"),
        ({"questions": [{"type": "choice", "instructions": "?", "choices": [{"value": "a"}]}]}, "choices"),
        ({"questions": [{"type": "choice", "instructions": "?", "choices": [{"value": "a"}] * 2}]}, "choice"),
        ({"questions": [{"type": "score", "instructions": "?", "levels": [{"label": "a"}] * 11}]}, "levels"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]}, "input"),
        ({"input": [{"role": "assistant", "content": "x"}]}, "input"),
        ({"temperature": 1}, "temperature"),
    ],
)
def test_a_wrong_question_is_refused_with_its_place(serve: Serve, change: dict[str, Any], where: str) -> None:
    response = serve(engine=ScriptedEngine(read=by_labels)).post("/v1/decisions", json={**BODY, **change})
    assert response.status_code == 422
    assert where in response.json()["error"]["where"]


def test_options_without_any_probability_are_no_answer(serve: Serve) -> None:
    response = serve(engine=ScriptedEngine(read={"other": 1.0})).post("/v1/decisions", json=BODY)
    assert (response.status_code, response.json()["error"]["type"]) == (422, "no_verdict")


def query(*texts: str, prefix: str = "Rating: [[") -> ContinuationQuery:
    return ContinuationQuery(verdict_prefix=prefix, continuations=texts, terminators=("]",))


@pytest.mark.parametrize(
    ("texts", "kind"),
    [
        ([str(n) for n in range(1, 11)], "score"),
        (["1", "1.5", "2"], "score"),
        ([str(n) for n in range(1, 12)], "choice"),
        (["2", "1"], "choice"),
        ([" yes", " no"], "predicate"),
        (["Response 1", "Response 2", "Tie"], "choice"),
        ([" Yes", " yes", " No", " no"], "predicate"),
    ],
)
def test_verdicts_become_questions_that_the_api_takes(texts: list[str], kind: str) -> None:
    question = question_of(query(*texts))
    assert question["type"] == kind
    assert fits({"model": "m", "input": "x", "questions": [question]}, "DecisionRequest")


def test_more_verdicts_than_choices_are_refused() -> None:
    with pytest.raises(EngineRejected, match="256 verdicts"):
        question_of(query(*(f"v{n}" for n in range(256))))


def test_confidence_says_how_much_of_the_probability_the_options_had() -> None:
    rows = [{"value": "A", "probability": 0.75}, {"value": "B", "probability": 0.25}]
    answer = {"type": "choice", "name": None, "choice": "A", "probabilities": rows, "confidence": 0.3}
    assert fits(answer, "ChoiceAnswer")
    assert reading_of(query("A", "B"), answer).probs == pytest.approx([0.3, 0.1])
    answer = {"type": "predicate", "name": None, "probability": 0.9}
    assert reading_of(query("no", "yes"), answer).probs == pytest.approx([0.1, 0.9])
    assert reading_of(query("Yes", "yes", "No"), answer).probs == pytest.approx([0.9, 0.0, 0.1])


@pytest.mark.parametrize(
    "change",
    [
        {"type": "score"},
        {"probabilities": None},
        {"probabilities": [{"value": "B", "probability": 0.5}, {"value": "A", "probability": 0.5}]},
        {"probabilities": [{"value": "A", "probability": 0.5}, {"value": "B", "probability": 0.4}]},
        {"probabilities": [{"value": "A", "probability": 1.5}, {"value": "B", "probability": -0.5}]},
        {"probabilities": [{"value": "A", "probability": float("nan")}, {"value": "B", "probability": 0.5}]},
        {"confidence": "high"},
    ],
)
def test_a_malformed_answer_is_no_reading(change: dict[str, Any]) -> None:
    rows = [{"value": "A", "probability": 0.5}, {"value": "B", "probability": 0.5}]
    answer = {"type": "choice", "name": None, "choice": "A", "probabilities": rows, "confidence": 0.5}
    with pytest.raises(MalformedResponse):
        reading_of(query("A", "B"), {**answer, **change})


@pytest.fixture
def listen(serve: Serve) -> Iterator[Callable[..., str]]:
    """The reward server behind a real port; returns its address."""
    servers: list[http.server.ThreadingHTTPServer] = []

    def start(client: TestClient) -> str:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._pass_on("GET", None)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                assert fits(json.loads(body), "DecisionRequest")
                self._pass_on("POST", body)

            def _pass_on(self, method: str, body: bytes | None) -> None:
                headers = {"content-type": "application/json"}
                response = client.request(method, self.path, content=body, headers=headers)
                self.send_response(response.status_code)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(response.content)))
                self.end_headers()
                self.wfile.write(response.content)

            def log_message(self, *_: Any) -> None:
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def paris_is_best(item: JudgeInput) -> dict[str, float]:
    """A model that rates texts with Paris 8 and others 3, and prefers them in comparisons."""
    assert item.readout is not None
    text = rendered_text(item)
    if "A: Response 1" in text:
        first = text.index("Paris") < text.index("Lyon")
        return {"A": 0.7, "B": 0.1, "C": 0.2} if first else {"A": 0.1, "B": 0.7, "C": 0.2}
    # Level n of the scale is labelled n, and the scale begins at 1.
    return {"7": 0.9, "6": 0.1} if "Paris" in text else {"2": 1.0}


def test_a_judge_reads_its_verdicts_from_a_decision_endpoint(
    serve: Serve, listen: Callable[..., str]
) -> None:
    address = listen(serve(engine=ScriptedEngine(read=paris_is_best)))
    with Judge.load("mini", engine=f"decisions:{address}", mode="direct") as judge:
        good, bad = judge.rate(["Capital of France?"] * 2, ["Paris.", "Lyon."])
        (pair,) = judge.compare(["Capital of France?"], ["Lyon."], ["Paris."])
        assert judge.describe()["engine"]["engine"] == "decisions"
    assert good.expected_rating == pytest.approx(7.9)
    assert bad.expected_rating == pytest.approx(3.0)
    assert pair.preference == "second"
    assert pair.flipped is False


def test_a_yes_or_no_judge_asks_a_predicate(serve: Serve, listen: Callable[..., str]) -> None:
    address = listen(serve(engine=ScriptedEngine(read=by_labels)))
    with Judge.load(judge_of("yes or no"), engine=f"decisions:{address}", mode="direct") as judge:
        (judgment,) = judge.rate(["Capital of France?"], ["Paris."])
    assert judgment.expected_rating == pytest.approx(0.75)


def test_a_refused_question_is_the_failure_of_its_input(serve: Serve, listen: Callable[..., str]) -> None:
    address = listen(serve(engine=ScriptedEngine(read={"other": 1.0})))
    with Judge.load(
        "mini", engine=f"decisions:{address}", mode="direct", attempts=1, retry_seconds=5
    ) as judge:
        judge.describe()
        found = judge.rate(["Capital of France?"], ["Paris."])
    assert found[0].failure is not None
    assert found[0].failure.reason is FailureReason.ENGINE


def test_critiques_need_another_engine(serve: Serve, listen: Callable[..., str]) -> None:
    address = listen(serve(engine=ScriptedEngine(read=by_labels)))
    with (
        Judge.load("mini", engine=f"decisions:{address}", mode="critique") as judge,
        pytest.raises(EngineRejected, match="writes no text"),
    ):
        judge.rate(["Capital of France?"], ["Paris."])


def test_settings_are_checked_before_a_request() -> None:
    with pytest.raises(ConfigError, match="no option tokenizer"):
        Judge.load("mini", engine="decisions:http://127.0.0.1:1", tokenizer="x")
    with pytest.raises(ConfigError, match="is not"):
        Judge.load("mini", engine="decisions:nowhere")
    engine = DecisionEngine("http://127.0.0.1:1", model="m", fingerprint="f")
    assert pickle.loads(pickle.dumps(engine)).fingerprint == "f"
