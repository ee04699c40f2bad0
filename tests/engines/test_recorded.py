# SPDX-License-Identifier: Apache-2.0
"""Recorded answers as a file may hold them: all of JSON, and nothing that is not."""

from __future__ import annotations

import contextlib
import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoj_reward.engines.recorded import RecordedEngine
from autoj_reward.errors import ConfigError, DataError
from autoj_reward.types import ContinuationQuery, JudgeInput, JudgeOutput, PlainWrapper, Segment
from tests.conftest import examples


def error_of(path: Path) -> BaseException | None:
    try:
        RecordedEngine(path)
    except BaseException as error:
        return error
    return None


@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\u0085", "\x0b", "\x0c", "\x1c"])
def test_texts_may_hold_any_character_that_ends_a_line_elsewhere(tmp_path: Path, mark: str) -> None:
    answer = {"contains": [f"a{mark}b"], "text": f"one{mark}two"}
    (tmp_path / "a.jsonl").write_text(
        json.dumps(answer, ensure_ascii=mark < " ") + "\r\n\n", encoding="utf-8"
    )
    assert error_of(tmp_path / "a.jsonl") is None


@pytest.mark.parametrize(
    "content",
    [b"\xff\n", b"[" * 99_999 + b"\n", b'{"text": ' + b"1" * 5000 + b"}\n", b'{"reading": {"5": NaN}}\n',
     b'{"reading": {"5": true}}\n', b'{"reading": {"5": 1e999}}\n', b"[]\n", b'{"contains": "x"}\n'],
)  # fmt: skip
def test_a_wrong_line_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"contains": [], "text": "x"}\n' + content)
    raised = error_of(tmp_path / "a.jsonl")
    assert isinstance(raised, DataError), raised
    assert "a.jsonl:2" in str(raised)


@given(
    content=st.binary(max_size=80)
    | st.text(alphabet='{}[]",:\n 0123eENaInftruls\u2028', max_size=80).map(str.encode)
)
@settings(max_examples=examples(200))
def test_no_content_ends_in_a_traceback(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(ConfigError, DataError):
        file = Path(folder) / "a.jsonl"
        file.write_bytes(content)
        RecordedEngine(file)


def test_of_several_spellings_of_a_verdict_the_first_has_its_probability(tmp_path: Path) -> None:
    """Each had it, so that a verdict counted twice."""
    (tmp_path / "r.jsonl").write_text('{"contains": [], "reading": {"yes": 0.3, "no": 0.7}}\n')
    readout = ContinuationQuery(verdict_prefix="", continuations=(" yes", " no", "yes"), terminators=(".",))
    item = JudgeInput(
        body=(Segment("Is it?", True),), wrapper=PlainWrapper(before="", after=""), readout=readout
    )
    (answer,) = RecordedEngine(tmp_path / "r.jsonl").generate([item])
    assert isinstance(answer, JudgeOutput)
    assert answer.reading is not None
    assert answer.reading.probs == pytest.approx([0.3, 0.7, 0.0])
