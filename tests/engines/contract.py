# SPDX-License-Identifier: Apache-2.0
"""What every engine must do. A test class per engine inherits these and gives an `engine` fixture."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from autoj_reward.engines import Engine
from autoj_reward.errors import EngineError
from autoj_reward.types import (
    ChatWrapper,
    ContinuationQuery,
    Failure,
    FailureReason,
    JudgeInput,
    JudgeOutput,
    Sampling,
    Segment,
)
from tests.hostile import MIXED

RATINGS = ContinuationQuery(
    verdict_prefix="Rating: [[",
    continuations=tuple(f"{k / 2:g}" for k in range(2, 21)),
    terminators=("]",),
)
PREFERENCES = ContinuationQuery(
    verdict_prefix="So, the final decision is",
    continuations=(" Response 1", " Response 2", " Tie"),
    terminators=("\n", "."),
    end_of_turn=True,
)


def question(
    text: str, *, n: int = 12, readout: ContinuationQuery | None = None, **sampling: object
) -> JudgeInput:
    """An input to write on from, or to read at."""
    prefill = (Segment(readout.verdict_prefix, True),) if readout else ()
    return JudgeInput(
        body=(Segment("Answer briefly: ", True), Segment(text)),
        wrapper=ChatWrapper(),
        prefill=prefill,
        readout=readout,
        sampling=Sampling(max_new_tokens=n, **sampling),  # type: ignore[arg-type]
    )


def outputs(engine: Engine, inputs: list[JudgeInput]) -> list[JudgeOutput]:
    """The answers, all of which must be outputs."""
    answers = engine.generate(inputs)
    assert len(answers) == len(inputs)
    assert all(isinstance(answer, JudgeOutput) for answer in answers), answers
    return answers  # type: ignore[return-value]


class EngineContract:
    """Inherit, and give a fixture `engine`.

    `tolerance` is the engine's own noise between batches, in probability.
    """

    tolerance = 1e-4

    def test_no_inputs_give_no_outputs(self, engine: Engine) -> None:
        assert engine.generate([]) == []

    def test_answers_keep_their_order_and_number(self, engine: Engine) -> None:
        texts = ["What is 2 + 2?", "Name a colour. " * 30, "Hi", "Name a colour. " * 10, "Hi"]
        inputs = [question(t, readout=RATINGS if k % 2 else None) for k, t in enumerate(texts)]
        answers = outputs(engine, inputs)
        for item, answer in zip(inputs, answers, strict=True):
            assert (answer.reading is not None) == (item.readout is not None)
            assert (answer.finish_reason == "read") == (item.readout is not None)
        alone = [outputs(engine, [item])[0] for item in inputs]
        for answer, single in zip(answers, alone, strict=True):
            if answer.reading and single.reading:
                assert [p.prob for p in answer.reading.paths] == pytest.approx(
                    [p.prob for p in single.reading.paths], abs=self.tolerance
                )

    @pytest.mark.parametrize("readout", [RATINGS, PREFERENCES], ids=["ratings", "preferences"])
    def test_a_reading_holds_probabilities(self, engine: Engine, readout: ContinuationQuery) -> None:
        (answer,) = outputs(engine, [question("How good is this: Paris?", readout=readout)])
        assert answer.reading is not None
        assert answer.text == ""
        assert [p.text for p in answer.reading.paths] == list(readout.continuations)
        assert all(p.path_logprob <= 0 and p.end_logprob <= 0 for p in answer.reading.paths)
        assert sum(p.prob for p in answer.reading.paths) <= 1 + 1e-4
        assert 0 <= answer.reading.unread_prob <= 1

    def test_follow_above_leaves_only_improbable_verdicts_unread(self, engine: Engine) -> None:
        """What is not followed is bounded by `unread_prob`, never silently zero."""
        every = question("Paris?", readout=RATINGS)
        fewer = question("Paris?", readout=ContinuationQuery(**{**_fields(RATINGS), "follow_above": 0.02}))
        whole, part = (a.reading for a in outputs(engine, [every, fewer]))
        assert whole is not None
        assert part is not None
        missing = sum(p.prob for p in whole.paths) - sum(p.prob for p in part.paths)
        assert missing <= part.unread_prob + 10 * self.tolerance

    @pytest.mark.parametrize("readout", [RATINGS, PREFERENCES], ids=["ratings", "preferences"])
    def test_an_end_taken_for_granted_is_certain(self, engine: Engine, readout: ContinuationQuery) -> None:
        """`1` begins `1.5`, so its end is read all the same; nothing goes on after `1.5`."""
        granted = replace(readout, assume_ends=True)
        items = [question("Paris?", readout=r) for r in (readout, granted)]
        whole, part = (a.reading for a in outputs(engine, items))
        assert whole is not None
        assert part is not None
        assert part.unread_prob <= whole.unread_prob + self.tolerance
        for every, one in zip(whole.paths, part.paths, strict=True):
            going_on = sum(c.startswith(one.text) for c in readout.continuations) > 1
            assert one.prob >= every.prob - self.tolerance
            if going_on:
                assert one.prob == pytest.approx(every.prob, abs=self.tolerance)
            else:
                assert one.end_logprob == 0.0

    def test_writing_ends_at_the_limit_or_the_turn(self, engine: Engine) -> None:
        short, long = outputs(engine, [question("Count to 100.", n=3), question("Say hi.", n=200)])
        assert short.finish_reason == "length"
        assert short.usage.completion_tokens == 3
        assert long.text
        assert long.finish_reason in ("stop", "length")
        assert "<|im_end|>" not in long.text

    def test_a_stop_text_ends_the_output_and_is_not_part_of_it(self, engine: Engine) -> None:
        (free,) = outputs(engine, [question("Name three colours.", n=24)])
        stop = free.text[4:7]
        (stopped,) = outputs(engine, [question("Name three colours.", n=24, stop=(stop,))])
        assert stopped.finish_reason == "stop"
        assert stopped.text == free.text[: free.text.index(stop)]

    def test_greedy_writing_repeats_itself(self, engine: Engine) -> None:
        first, second = (outputs(engine, [question("Name a river.")])[0].text for _ in range(2))
        assert first == second

    def test_draws_differ_and_a_seed_brings_them_back(self, engine: Engine) -> None:
        def draws() -> list[str]:
            items = [
                question("Tell me a story.", n=16, temperature=1.0, seed=5),
                question("Tell me a story.", n=16, temperature=1.0, seed=5),
            ]
            items[1] = JudgeInput(**{**_fields(items[1]), "sample_index": 1})
            return [answer.text for answer in outputs(engine, items)]

        once = draws()
        assert once[0] != once[1]
        assert draws() == once

    def test_an_input_over_the_context_fails_alone_and_says_by_how_much(self, engine: Engine) -> None:
        answers = engine.generate(
            [question("Hi"), question("word " * 40_000), question("Hi", readout=RATINGS)]
        )
        assert isinstance(answers[0], JudgeOutput)
        assert isinstance(answers[2], JudgeOutput)
        failure = answers[1]
        assert isinstance(failure, Failure)
        assert failure.reason is FailureReason.TOO_LONG
        assert failure.overflow_tokens > 30_000

    def test_hostile_text_is_only_text(self, engine: Engine) -> None:
        inputs = [question(text, readout=RATINGS) for text in (*MIXED, "")]
        for answer in outputs(engine, inputs):
            assert answer.reading is not None
            assert not any(math.isnan(p.prob) for p in answer.reading.paths)

    def test_usage_is_counted(self, engine: Engine) -> None:
        written, read = outputs(engine, [question("Hi", n=4), question("Hi", readout=RATINGS)])
        assert written.usage.prompt_tokens > 0
        assert 0 < written.usage.completion_tokens <= 4
        assert read.usage.n_requests >= 1

    def test_fingerprint_is_stable(self, engine: Engine) -> None:
        assert engine.fingerprint == engine.fingerprint
        assert engine.fingerprint


def check_closing(engine: Engine) -> None:
    """Close an engine that is needed no more: twice is fine, asking it again is an error."""
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.generate([question("Hi")])


def _fields(record: object) -> dict[str, object]:
    return {name: getattr(record, name) for name in record.__slots__}  # type: ignore[attr-defined]
