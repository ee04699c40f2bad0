# SPDX-License-Identifier: Apache-2.0
"""Commands report what they did not do, and what they write as JSON parses."""

from __future__ import annotations

import ast
import contextlib
import json
import math
import os
import pty
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import autoj_reward
from tests.cli.conftest import Run, write_rows
from tests.conftest import REPO

PACKAGE = Path(autoj_reward.__file__).parent


@pytest.mark.parametrize("target", ["out.jsonl", "out.parquet"])
@pytest.mark.parametrize("content", ["", "\n\n"])
def test_an_empty_input_is_said(run: Run, tmp_path: Path, target: str, content: str) -> None:
    (tmp_path / "in.jsonl").write_text(content)
    result = run("rate", "in.jsonl", "-o", target, "--quiet")
    assert result.exit_code == 0
    assert "in.jsonl holds no rows" in result.stderr


@pytest.mark.parametrize("command", ["rate", "compare", "rerank", "label"])
def test_a_run_without_a_verdict_fails(run: Run, tmp_path: Path, command: str) -> None:
    row: dict[str, Any] = {"prompt": "Q"}
    row |= {
        "rate": {"completion": "mumble"},
        "compare": {"first": "mumble", "second": "mumble!"},
    }.get(command, {"completions": ["mumble", "mumble!"]})
    write_rows(tmp_path / "in.jsonl", [row, row])
    recorded = tmp_path / "recorded.jsonl"
    recorded.write_text(json.dumps({"contains": [], "reading": {"5": 0.0001}}) + "\n")
    for _ in range(2):
        result = run(command, "in.jsonl", "-o", "out.jsonl", "--no-cache", catch_exceptions=True)
        assert "no row has a verdict: all 2 failed" in str(result.exception)
    assert json.loads((tmp_path / "out.jsonl.run.json").read_text())["complete"]


def test_the_status_after_an_interrupt_is_that_of_the_whole(run: Run, tmp_path: Path) -> None:
    """The last row alone failed, after a run that was stopped: the rows before it have verdicts."""
    rows = [{"prompt": "Q", "completion": c} for c in ("Paris", "Berlin", "mumble")]
    write_rows(tmp_path / "in.jsonl", rows)
    run("rate", "in.jsonl", "-o", "out.jsonl")
    record = json.loads((tmp_path / "out.jsonl.run.json").read_text())
    (tmp_path / "out.jsonl.run.json").write_text(json.dumps({**record, "complete": False}))
    lines = (tmp_path / "out.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "out.jsonl").write_bytes(b"".join(lines[:2]))
    result = run("rate", "in.jsonl", "-o", "out.jsonl")
    assert result.exit_code == 3
    assert "1 low_mass" in result.stderr


def test_a_file_without_one_good_row_is_not_an_empty_run(run: Run, tmp_path: Path) -> None:
    write_rows(tmp_path / "in.jsonl", [{"text": "x"}, {"text": "y"}])
    result = run("rate", "in.jsonl", "-o", "out.jsonl", "--skip-bad", catch_exceptions=True)
    assert "none of its 2 rows can be read" in str(result.exception)


@pytest.mark.parametrize("option", ["--temperature", "--max-new-tokens", "--seed"])
def test_options_that_direct_mode_does_not_use_are_said(run: Run, tmp_path: Path, option: str) -> None:
    write_rows(tmp_path / "in.jsonl", [{"prompt": "Q", "completion": "Paris"}])
    said = f"{option} has no effect in direct mode"
    assert said in run("rate", "in.jsonl", "-o", "a.jsonl", "--mode", "direct", option, "1").stderr
    assert said not in run("rate", "in.jsonl", "-o", "b.jsonl", "--mode", "critique", option, "1").stderr
    write_rows(tmp_path / "in.jsonl", [{"prompt": "Q", "completions": ["Paris", "Berlin"]}])
    assert said not in run("rerank", "in.jsonl", "-o", "c.jsonl", "--mode", "direct", option, "1").stderr


def strict(text: str | bytes) -> Any:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    return json.loads(text, parse_constant=refuse)


def test_numbers_that_json_does_not_have_become_null_and_are_said(run: Run, tmp_path: Path) -> None:
    lines = [
        '{"prompt": "Q", "completion": "Paris", "m": NaN}',
        '{"prompt": "Q", "completion": "Berlin", "k": [1e999]}',
    ]
    write_rows(
        tmp_path / "in.jsonl",
        [json.dumps({"prompt": "Q", "completion": "x"}), *lines, '{"prompt": -Infinity}'],
    )
    result = run("rate", "in.jsonl", "-o", "out.jsonl", "--skip-bad")
    rows = [strict(line) for line in (tmp_path / "out.jsonl").read_bytes().splitlines()]
    assert [(row.get("m", "none"), row.get("k", "none")) for row in rows] == [
        ("none", "none"),
        (None, "none"),
        ("none", [None]),
    ]
    assert "2 rows hold NaN or an infinity (first in.jsonl:2, field 'm')" in result.stderr
    strict((tmp_path / "out.jsonl.bad.jsonl").read_bytes())
    run("rate", "in.jsonl", "-o", "out.parquet", "--skip-bad")
    again = run("rate", "out.parquet", "-o", "again.jsonl")
    assert "2 rows hold NaN" in again.stderr
    for line in (tmp_path / "again.jsonl").read_bytes().splitlines():
        strict(line)


def test_json_output_of_commands_and_records_parses() -> None:
    """Every `json.dumps` whose text leaves the process goes through `json_text`, or forbids NaN."""
    rooms = ("cli", "rows", "evaluate", "training", "data")
    found = []
    for path in sorted(p for room in rooms for p in (PACKAGE / room).glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "json.dumps":
                forbids = any(k.arg == "allow_nan" for k in node.keywords)
                # A text that is read again at once is a copy, and stays here.
                if not forbids and "json.loads(json.dumps(" not in path.read_text(encoding="utf-8"):
                    found.append(f"{path.name}:{node.lineno}")
    assert found == []


@pytest.mark.parametrize("further", [[], ["--dry-run"]], ids=["rows", "plan"])
@pytest.mark.slow
def test_a_full_disk_behind_standard_output_is_said(tmp_path: Path, further: list[str]) -> None:
    write_rows(tmp_path / "in.jsonl", [{"prompt": "Q", "completion": "Paris"}])
    (tmp_path / "answers.jsonl").write_text('{"contains": [], "reading": {"5": 1.0}}\n')
    command = ["rate", "in.jsonl", "-o", "-", "--engine", "recorded:answers.jsonl", "--no-cache", *further]
    with open("/dev/full", "wb") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "autoj_reward.cli", *command],
            cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert ended.returncode == 2
    assert "cannot be written: [Errno 28]" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_file_of_wrong_rows_does_not_fill_the_terminal(run: Run, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text("prompt,completion\n" + "Q,A\n" * 5000)
    result = run("rate", "in.jsonl", "-o", "out.jsonl", catch_exceptions=True)
    assert "5,001 of 5,001 rows cannot be read" in str(result.exception)
    assert len(result.stderr.splitlines()) < 300
    assert "4,801 further rows are wrong" in result.stderr


def test_json_text_is_strict() -> None:
    from autoj_reward.json_text import json_text

    value = {"a": math.nan, "b": [math.inf, (1, -math.inf)], "c": np.float64("nan"), "d": 1.5}
    assert strict(json_text(value, indent=1)) == {"a": None, "b": [None, [1, None]], "c": None, "d": 1.5}


@pytest.mark.slow
@pytest.mark.parametrize("terminal", [False, True], ids=["pipe", "terminal"])
def test_standard_error_of_the_quickstart_holds_no_line_of_a_library(tmp_path: Path, terminal: bool) -> None:
    """Progress and summary alone, at a first use that converts the weights.

    The table is on standard output, also if only errors go to a terminal.
    """
    script = (REPO / "quickstart").read_text(encoding="utf-8").splitlines()[-1]
    (options,) = re.findall(r"^exec .venv/bin/autoj-reward (.*) \"\$@\"$", script)
    command = [sys.executable, "-m", "autoj_reward", *shlex.split(options), "--limit", "1", "--no-cache"]
    command += ["--critiques", "none", "-o", str(tmp_path / "ranked.jsonl")]
    reading, writing = pty.openpty() if terminal else os.pipe()
    env = {**os.environ, "COLUMNS": "400", "AUTOJ_REWARD_HOME": str(tmp_path / "home")}
    process = subprocess.Popen(command, cwd=REPO, env=env, stdout=subprocess.PIPE, stderr=writing, text=True)
    os.close(writing)
    said = b""
    # A terminal whose other end is closed is an error to read from.
    with contextlib.suppress(OSError):
        while part := os.read(reading, 1 << 16):
            said += part
    os.close(reading)
    table, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert len(re.findall("^│", table, re.MULTILINE)) == 32
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", said.decode())
    ours = re.compile(r"note: |(\S )?rerank[: ]|(verdicts|mean|also|tokens|output|next)  |$")
    assert [line for line in re.split(r"[\r\n]+", plain) if not ours.match(line.strip())] == []
