# SPDX-License-Identifier: Apache-2.0
"""The command line in this process, with a judge that answers from a file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from autoj_reward.cli.app import app
from tests.quality import as_read

Run = Callable[..., Result]

RATINGS = [
    {"contains": ["Reply with a JSON list"], "text": '[{"text": "Names the capital.", "weight": 2}]'},
    {"contains": ["Paris"], "reading": {"9": 0.6, "8": 0.4}},
    {"contains": ["Berlin"], "reading": {"2": 1.0}},
    {"contains": ["mumble"], "reading": {"5": 0.0001}},
    {"contains": ["Response 1"], "reading": as_read({"Response 1": 0.5, "Response 2": 0.3, "Tie": 0.2})},
    {"contains": [], "reading": {"5": 0.75, "6": 0.25}},
    {"contains": ["Paris"], "text": "It is right.\n\nRating: [[9]]"},
    {"contains": [], "text": "It says little.\n\nRating: [[3]]"},
]


@pytest.fixture
def recorded(tmp_path: Path) -> list[str]:
    """Options that make the judge answer from a file."""
    path = tmp_path / "recorded.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in RATINGS), encoding="utf-8")
    return ["--engine", f"recorded:{path}"]


@pytest.fixture
def run(tmp_path: Path, recorded: list[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command in `tmp_path`; errors made for people are raised, not printed."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str, judge: bool = True, **options: Any) -> Result:
        further = recorded if judge else []
        return CliRunner().invoke(app, [*arguments, *further], **{"catch_exceptions": False, **options})

    return call


def write_rows(path: Path, rows: list[Any]) -> Path:
    """JSON lines; a text among the rows is written as it is."""
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


def read_rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
