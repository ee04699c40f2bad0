# SPDX-License-Identifier: Apache-2.0
"""The engine for tests: its answers, its failures, and what it keeps."""

from __future__ import annotations

import math
import pickle
import textwrap

import pytest

import autoj_reward.testing
from autoj_reward import EngineUnavailable, Failure, FailureReason, Judge
from autoj_reward.testing import ScriptedEngine, make_reading, untrusted_texts
from autoj_reward.types import JudgeInput

REFUSED = Failure(reason=FailureReason.ENGINE, detail="refused")


def length(item: JudgeInput) -> dict[str, float]:
    return {f"{len(untrusted_texts(item)[-1])}": 1.0}


def test_the_example_in_the_docstring_runs() -> None:
    doc = autoj_reward.testing.__doc__ or ""
    code = textwrap.dedent(doc.split("::", 1)[1])
    exec(compile(code, "docstring", "exec"), {})


def test_a_function_reads_and_a_constant_writes() -> None:
    engine = ScriptedEngine(read=length, write="Short.\n\nRating: [[7]]")
    with Judge.load("mini", engine=engine, mode="direct") as judge:
        assert [j.rating for j in judge.rate(["Q", "Q"], ["abc", "abcd"])] == [3.0, 4.0]
    with Judge.load("mini", engine=engine, mode="critique") as judge:
        (written,) = judge.rate(["Q"], ["abc"])
    assert written.samples[0].critique.startswith("Short.")
    assert len(engine.calls[0]) == 2
    assert engine.n_inputs == len(engine.inputs)
    assert engine.n_closed == 2


def test_failures_are_of_one_input_and_exceptions_of_the_call() -> None:
    def script(item: JudgeInput) -> dict[str, float] | Failure:
        if "gone" in untrusted_texts(item)[-1]:
            raise EngineUnavailable("the server is gone")
        return REFUSED if "no" in untrusted_texts(item)[-1] else {"7": 0.5, "8": 0.5}

    with Judge.load("mini", engine=ScriptedEngine(read=script), mode="direct") as judge:
        good, bad = judge.rate(["Q", "Q"], ["yes", "no"])
        assert good.expected_rating == pytest.approx(7.5)
        assert bad.failure is not None
        assert "refused" in bad.failure.detail
        with pytest.raises(EngineUnavailable, match="the server is gone"):
            judge.rate(["Q", "Q"], ["yes", "gone"])


def test_inputs_without_a_script_go_to_the_other_engine_in_one_call() -> None:
    inner = ScriptedEngine(read=length, fingerprint="inner")
    outer = ScriptedEngine(otherwise=inner)
    with Judge.load("mini", engine=outer, mode="direct") as judge:
        assert [j.rating for j in judge.rate(["Q", "Q"], ["abc", "abcd"])] == [3.0, 4.0]
    assert (outer.fingerprint, len(inner.calls), inner.n_closed) == ("inner", 1, 1)
    with Judge.load("mini", engine=ScriptedEngine(write="text"), mode="direct") as judge:
        (judgment,) = judge.rate(["Q"], ["A"])
    assert judgment.failure is not None
    assert "no answer" in judgment.failure.detail


def test_probabilities_are_kept_as_given() -> None:
    engine = ScriptedEngine(read=length)
    with Judge.load("mini", engine=engine, mode="direct") as judge:
        judge.compare(["Q"], ["A"], ["B"])
    output = make_reading(engine.inputs[0], {"Response 1": 0.25, "Tie": float("nan")})
    assert output.reading is not None
    first, second, tie = (path.path_logprob for path in output.reading.paths)
    assert first == pytest.approx(math.log(0.25))
    assert second == -math.inf
    assert math.isnan(tie)


def test_it_can_be_pickled_where_its_script_can() -> None:
    engine = pickle.loads(pickle.dumps(ScriptedEngine(read={"7": 1.0})))
    with Judge.load("mini", engine=engine, mode="direct") as judge:
        assert judge.rate(["Q"], ["A"])[0].rating == 7.0
