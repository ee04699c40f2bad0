# SPDX-License-Identifier: Apache-2.0
"""The server engine before a server that misbehaves: each fault alone, and all of them in the short drill."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from autoj_reward.engines.checkpoint.embedded import EMBEDDED_MODEL, resolve_model
from autoj_reward.engines.logprobs.tokenizer import InjectionSafeTokenizer
from autoj_reward.engines.openai.engine import ServerEngine
from autoj_reward.engines.openai.settings import load_tokenizer
from autoj_reward.errors import EngineError, EngineUnavailable
from autoj_reward.types import Failure, FailureReason, JudgeInput, JudgeOutput, PlainWrapper, Segment
from tests.engines.openai.faulty_server import FAULTS, Model, faulty_server

pytestmark = pytest.mark.slow

DRILL = Path(__file__).resolve().parents[3] / "benchmarks" / "faults.py"
MODEL = Model(digits=(32, 33, 34), ends=(77, 7896), half=30, n_vocab=49152)
KINDS = {
    "broken connection": ["close", "reset", "reset-midway", "short", "garbage"],
    "timeout": ["stall", "drip", "drip-head"],
    "HTTP 429": ["429", "429-after", "429-date"],
    "HTTP 503": ["503-after"],
    "HTTP 500": ["500"],
    "HTTP 502": ["502"],
    "wrong shape": [
        "truncated",
        "no-choice",
        "two-choices",
        "html",
        "no-logprobs",
        "nan",
        "null",
    ],
}


@pytest.fixture(scope="module")
def tokenizer() -> InjectionSafeTokenizer:
    return load_tokenizer(resolve_model(EMBEDDED_MODEL), None)


def items(n: int) -> list[JudgeInput]:
    return [JudgeInput(body=(Segment(f"input {k}"),), wrapper=PlainWrapper()) for k in range(n)]


def test_every_fault_has_its_kind() -> None:
    assert sorted(fault for faults in KINDS.values() for fault in faults) == sorted(FAULTS)


@pytest.mark.parametrize("kind", ["broken connection", "timeout", "HTTP 429", "HTTP 500", "wrong shape"])
def test_faults_are_classified_and_every_answer_belongs_to_its_input(
    kind: str, tokenizer: InjectionSafeTokenizer
) -> None:
    n = 6 if kind == "timeout" else 30
    with faulty_server(MODEL, faults=KINDS[kind], rate=0.3, stall_seconds=3.0, seed=2) as urls:
        engine = ServerEngine(urls, tokenizer=EMBEDDED_MODEL, timeout_seconds=1.5, attempts=30, concurrency=8)
        asked = items(n)
        answers = engine.generate(asked)
        assert [a.text for a in answers if isinstance(a, JudgeOutput)] == [
            MODEL.text(tokenizer.encode_input(item)) for item in asked
        ]
        retried = {k for k in engine.counts if k.startswith("retried")}
        assert f"retried: {kind}" in retried
        # A loaded machine may time out by itself; nothing else may be taken for something else.
        assert retried <= {f"retried: {kind}", "retried: timeout"}
        engine.close()


def test_an_input_without_an_answer_fails_alone_and_says_why(tokenizer: InjectionSafeTokenizer) -> None:
    with faulty_server(MODEL, faults=["500"], rate=0.6, seed=3) as urls:
        engine = ServerEngine(urls, tokenizer=EMBEDDED_MODEL, attempts=4, concurrency=8)
        while True:
            try:
                engine.connect()
                break
            except EngineError:
                continue
        # Without an answer to /tokenize it connects too.
        connecting = engine.counts["gave up: HTTP 500"]
        answers = engine.generate(items(60))
        failures = [a for a in answers if isinstance(a, Failure)]
        assert 0 < len(failures) < 60
        assert {f.reason for f in failures} == {FailureReason.ENGINE}
        assert all("HTTP 500" in f.detail and "4 failed attempts" in f.detail for f in failures)
        # One more where the question after the call, who serves now, is not answered either.
        assert engine.counts["gave up: HTTP 500"] - connecting - len(failures) in (0, 1)
        engine.close()


def test_a_server_that_dies_is_unavailable_and_one_that_lives_takes_over(
    tokenizer: InjectionSafeTokenizer,
) -> None:
    with faulty_server(MODEL) as first:
        with faulty_server(MODEL) as second:
            engine = ServerEngine([*first, *second], tokenizer=EMBEDDED_MODEL, attempts=4, concurrency=8)
            assert len(engine.generate(items(40))) == 40
        # Half of the connections are dead now.
        assert all(isinstance(a, JudgeOutput) for a in engine.generate(items(60)))
        assert engine.counts["retried: no connection"] + engine.counts["retried: broken connection"] > 0
    with pytest.raises(EngineUnavailable, match="is a server running"):
        engine.generate(items(5))
    engine.close()


def test_a_wait_longer_than_the_patience_is_not_begun(tokenizer: InjectionSafeTokenizer) -> None:
    with faulty_server(MODEL, faults=["429-after"], rate=1.0) as urls:
        engine = ServerEngine(urls, tokenizer=EMBEDDED_MODEL, retry_seconds=0.5)
        with pytest.raises(EngineUnavailable, match="HTTP 429"):
            engine.generate(items(1))
        engine.close()


def test_the_short_drill() -> None:
    """500 judgments, and every fault; the full drill is benchmarks/faults.py without arguments."""
    done = subprocess.run(
        [sys.executable, str(DRILL), "--judgments", "500", "--dry"],
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["answers"] == 500
    assert figures["wrong"] == figures["doubled_critiques"] == 0
    judged = sum(outcomes["judged"] for outcomes in figures["outcomes"].values())
    assert judged >= 490
    assert all(figures["server"].get(fault) for fault in FAULTS)
