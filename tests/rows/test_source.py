# SPDX-License-Identifier: Apache-2.0
"""Files that are not what they are called: found with line and field, and never a traceback."""

from __future__ import annotations

import gzip
import json
import os
import tempfile
import threading
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoj_reward.errors import ConfigError, DataError
from autoj_reward.rows.output import to_json
from autoj_reward.rows.source import JsonLines, open_source
from tests.conftest import examples

GOOD = b'{"prompt": "Q", "completion": "A"}\n'


def read(path: Path) -> list[Any]:
    return [row for _, row in open_source(str(path)).rows()]


def problem(path: Path) -> str:
    """What is wrong with a file: of the whole, or of its first bad row."""
    try:
        return next((str(row) for row in read(path) if isinstance(row, DataError)), "")
    except (ConfigError, DataError) as error:
        return str(error)
    except Exception as error:
        return f"a traceback: {error!r}"


BROKEN = {
    "array that breaks off": (b'[{"prompt": "Q"},\n {"prompt": ', "JSON array: item 2"),
    "array in one line, then text": (b'[{"prompt": "Q"}, {"prompt": "R"}]\nx', "text follows"),
    "array of texts after a mark": (b'\xef\xbb\xbf["Q"]', "in.jsonl:1: a str, not a JSON object"),
    "UTF-16": ('{"prompt": "Q"}\n'.encode("utf-16"), "UTF-16"),
    "Parquet by another name": (b"PAR1\x15\x04\n\x00", "Parquet"),
    "zip": (b"PK\x03\x04\n", "ZIP"),
    "latin-1": ('{"prompt": "é"}\n'.encode("latin-1"), "in.jsonl:1: not JSON in UTF-8"),
    "CSV": (b"prompt,completion\nQ,A\n", "in.jsonl:1: not JSON"),
    "number": (b"5\n", "in.jsonl:1: a int, not a JSON object"),
    "doubled key": (b'{"prompt": "a", "prompt": "b"}\n', "in.jsonl:1: not JSON in UTF-8: the key 'prompt' is given"),
    "doubled key within": (b'{"m": [{"a": 1, "a": 2}]}\n', "the key 'a' is given twice"),
    "deep": (b'{"m": ' + b"[" * 100 + b"]" * 100 + b"}\n", "in.jsonl:1: nested more than 64 deep"),
    "very deep": (b'{"m": ' + b"[" * 99_999 + b"]" * 99_999 + b"}\n", "in.jsonl:1: nested more than 64 deep"),
    "5,000 digits": (b'{"m": ' + b"1" * 5000 + b"}\n", "in.jsonl:1: not JSON"),
    "NUL bytes": (b"\x00" * 64 + b"\n", "in.jsonl:1: not JSON"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_file_of_another_kind_is_named(tmp_path: Path, name: str) -> None:
    content, words = BROKEN[name]
    (tmp_path / "in.jsonl").write_bytes(content)
    assert words in problem(tmp_path / "in.jsonl")


@pytest.mark.parametrize("cut", [3, 12, 40, -9, -4])
def test_a_gzip_stream_that_breaks_off_is_an_error_of_the_file(tmp_path: Path, cut: int) -> None:
    whole = gzip.compress(GOOD * 2000)
    (tmp_path / "in.jsonl.gz").write_bytes(whole[:cut])
    assert "in.jsonl.gz: cannot be read" in problem(tmp_path / "in.jsonl.gz")


@pytest.mark.parametrize("place", range(10, 60, 7))
def test_a_gzip_stream_with_a_wrong_byte_is_an_error_of_the_file(tmp_path: Path, place: int) -> None:
    """zlib's own error was a traceback."""
    lines = b"".join(b'{"prompt": "%d", "completion": "%d"}\n' % (n, n * 7919 % 1000) for n in range(300))
    whole = bytearray(gzip.compress(lines))
    whole[place] ^= 0xFF
    (tmp_path / "in.jsonl.gz").write_bytes(whole)
    assert problem(tmp_path / "in.jsonl.gz").startswith(str(tmp_path / "in.jsonl.gz"))


def test_gzip_is_told_by_its_first_bytes(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_bytes(gzip.compress(GOOD))
    assert read(tmp_path / "in.jsonl") == [json.loads(GOOD)]


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" + b"\x00" * 40 + b"PAR1", b"not parquet at all"])
def test_a_parquet_file_that_is_none_is_an_error_of_the_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "in.parquet").write_bytes(content)
    assert "in.parquet: cannot be read as Parquet" in problem(tmp_path / "in.parquet")


@pytest.mark.parametrize("share", [0.3, 0.7, 0.99])
def test_a_parquet_file_that_breaks_off_is_an_error_of_the_file(tmp_path: Path, share: float) -> None:
    pq.write_table(pa.table({"prompt": [f"{n}" for n in range(9999)]}), tmp_path / "in.parquet")
    whole = (tmp_path / "in.parquet").read_bytes()
    (tmp_path / "in.parquet").write_bytes(whole[: int(share * len(whole))])
    assert "cannot be read as Parquet" in problem(tmp_path / "in.parquet")


def test_values_that_python_does_not_have_are_errors_of_the_file(tmp_path: Path) -> None:
    texts = pa.array([b"\xff"]).view(pa.string())
    dates = pa.array([2**60], pa.timestamp("ms"))
    for column in (texts, dates):
        pq.write_table(pa.table({"prompt": column}), tmp_path / "in.parquet")
        assert "cannot be read as Parquet" in problem(tmp_path / "in.parquet")


def test_marks_line_ends_and_empty_lines_are_no_rows(tmp_path: Path) -> None:
    row = json.loads(GOOD)
    line = GOOD.strip()
    for content in (
        b"\xef\xbb\xbf" + GOOD, line, line + b"\r\n\r\n" + line + b"\r\n", b"\n\n" + GOOD + b"  \n", b"",
        json.dumps(row | {"x": "a\u2028b\u0085c"}, ensure_ascii=False).encode() + b"\n",
    ):  # fmt: skip
        (tmp_path / "in.jsonl").write_bytes(content)
        assert all(r["prompt"] == "Q" for r in read(tmp_path / "in.jsonl"))


def test_a_line_without_end_is_not_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autoj_reward.rows.source._MOST_LINE_BYTES", 1000)
    (tmp_path / "in.jsonl").write_bytes(GOOD + b'{"prompt": "' + b"x" * 2000)
    assert "in.jsonl:2: is longer than" in problem(tmp_path / "in.jsonl")


def test_a_pipe_is_read_as_standard_input_is(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(GOOD,))
    writer.start()
    source = open_source(str(tmp_path / "pipe"))
    writer.join()
    assert [list(source.rows()), list(source.rows())] == [[(1, json.loads(GOOD))]] * 2


def test_a_folder_given_as_a_file_is_refused(tmp_path: Path) -> None:
    for name in ("in.jsonl", "in.parquet"):
        (tmp_path / name).mkdir()
        assert "cannot be loaded" in problem(tmp_path / name)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda s: st.lists(s) | st.dictionaries(st.text(), s)
)  # fmt: skip


@given(
    content=st.lists(st.binary(max_size=40) | JSON.map(lambda v: to_json({"m": v})), max_size=6).map(
        b"\n".join
    )
)
@settings(max_examples=examples(150))
def test_no_content_ends_in_a_traceback(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name, made in (("in.jsonl", content), ("in.jsonl.gz", gzip.compress(content)[:-1])):
            (Path(folder) / name).write_bytes(made)
            assert "traceback" not in problem(Path(folder) / name)


@given(row=st.dictionaries(st.text(), JSON, max_size=4))
@settings(max_examples=examples(150))
def test_every_row_is_written_as_valid_json_and_read_back(row: dict[str, Any]) -> None:
    line = to_json(row)

    def refuse(name: str) -> None:
        raise AssertionError(name)

    strict = json.loads(line, parse_constant=refuse)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "in.jsonl").write_bytes(line)
        (found,) = JsonLines(Path(folder) / "in.jsonl").rows()
    assert found == (1, strict) or isinstance(found[1], DataError)
