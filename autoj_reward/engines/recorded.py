# SPDX-License-Identifier: Apache-2.0
r"""An engine that answers from a JSON lines file, for replays, demos and tests without a model.

A line answers every input whose rendered text contains all of its `contains` texts; the first match wins. An
answer is `text` and `finish_reason`, or `reading`: the probability of each continuation. ::

    {"contains": ["2 + 2", "4"], "reading": {"9": 0.7, "8": 0.3}}
    {"contains": [], "text": "Correct.\n\nRating: [[7]]", "finish_reason": "stop"}
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoj_reward.errors import ConfigError, DataError
from autoj_reward.types import (
    ContinuationLogprob,
    ContinuationLogprobs,
    Failure,
    FailureReason,
    FinishReason,
    JudgeInput,
    JudgeOutput,
    PlainWrapper,
    Usage,
)


@dataclass(frozen=True, slots=True)
class RecordedAnswer:
    """One line of the file. `reading` maps continuations, blanks stripped, to probabilities."""

    contains: tuple[str, ...]
    text: str | None
    finish_reason: FinishReason
    reading: Mapping[str, float] | None
    usage: Usage = Usage(n_requests=1)


class RecordedEngine:
    """Answers from a JSON lines file.

    Args:
        path: The file.

    Raises:
        ConfigError: The file cannot be read.
        DataError: A line is wrong; names file, line and field.
    """

    def __init__(self, path: str | Path) -> None:
        try:
            content = Path(path).read_bytes()
        except OSError as error:
            raise ConfigError(f"cannot read the recorded answers {path}: {error}") from error
        self._source = str(path)
        self._fingerprint = "recorded:" + hashlib.sha256(content).hexdigest()[:32]
        self._answers = [
            _answer(line, str(path), number)
            # Not splitlines(), which also splits at U+2028 and the like inside JSON strings.
            for number, line in enumerate(content.split(b"\n"), start=1)
            if line.strip()
        ]

    @property
    def fingerprint(self) -> str:
        return self._fingerprint

    def describe(self) -> dict[str, Any]:
        """See `DescribedEngine.describe`."""
        return {"engine": "recorded", "fingerprint": self._fingerprint, "source": self._source}

    def generate(self, inputs: Sequence[JudgeInput]) -> list[JudgeOutput | Failure]:
        """Answer every input from the file; an input without a matching line gets an `engine` failure."""
        return [self._answer_one(item) for item in inputs]

    def close(self) -> None:
        """Nothing is held open."""

    def _answer_one(self, item: JudgeInput) -> JudgeOutput | Failure:
        rendered = rendered_text(item)
        wants_text = item.readout is None
        for answer in self._answers:
            kind_fits = (answer.text is not None) if wants_text else (answer.reading is not None)
            if kind_fits and all(part in rendered for part in answer.contains):
                return _output(answer, item)
        return Failure(
            reason=FailureReason.ENGINE,
            detail=f"no recorded {'text' if wants_text else 'reading'} answers this input",
        )


def rendered_text(item: JudgeInput) -> str:
    """A judge's input as one text: plain wrapper, body and prefill."""
    before, after = "", ""
    if isinstance(item.wrapper, PlainWrapper):
        before, after = item.wrapper.before, item.wrapper.after
    body = "".join(s.text for s in item.body)
    return before + body + after + "".join(s.text for s in item.prefill)


def _output(answer: RecordedAnswer, item: JudgeInput) -> JudgeOutput:
    if item.readout is None:
        return JudgeOutput(text=answer.text or "", finish_reason=answer.finish_reason, usage=answer.usage)
    left = dict(answer.reading or {})
    # Of several spellings of a verdict the first has its probability.
    probs = [left.pop(c.strip(), 0.0) for c in item.readout.continuations]
    return JudgeOutput(
        text="",
        finish_reason="read",
        usage=answer.usage,
        reading=ContinuationLogprobs(
            paths=tuple(
                ContinuationLogprob(text=c, path_logprob=_log(p), end_logprob=0.0)
                for c, p in zip(item.readout.continuations, probs, strict=True)
            )
        ),
    )


def _log(prob: float) -> float:
    return math.log(prob) if prob > 0 else -math.inf


def _answer(line: bytes, path: str, number: int) -> RecordedAnswer:
    def wrong(message: str, field: str | None = None) -> DataError:
        return DataError(message, path=path, line=number, field=field)

    try:
        row: Any = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
    except (ValueError, RecursionError) as error:
        raise wrong(f"not JSON in UTF-8: {error}") from error
    if not isinstance(row, dict):
        raise wrong("not a JSON object")
    contains, text, reading = row.get("contains", []), row.get("text"), row.get("reading")
    if not (isinstance(contains, list) and all(isinstance(c, str) for c in contains)):
        raise wrong("must be a list of texts", "contains")
    if text is not None and not isinstance(text, str):
        raise wrong("must be a text", "text")
    if reading is not None:
        numbers = isinstance(reading, dict) and all(
            isinstance(p, int | float) and not isinstance(p, bool) and 0 <= p <= 1 for p in reading.values()
        )
        if not numbers or sum(reading.values()) > 1 + 1e-6:
            raise wrong("must map continuations to probabilities that sum to at most 1", "reading")
    if text is None and reading is None:
        raise wrong("has neither a text nor a reading")
    finish = row.get("finish_reason", "stop")
    if finish not in ("stop", "length"):
        raise wrong("must be 'stop' or 'length'", "finish_reason")
    tokens = {name: row.get(name, 0) for name in ("prompt_tokens", "completion_tokens")}
    for name, n in tokens.items():
        if type(n) is not int or n < 0:
            raise wrong("must be a whole number of at least 0", name)
    return RecordedAnswer(tuple(contains), text, finish, reading, Usage(n_requests=1, **tokens))
