# SPDX-License-Identifier: Apache-2.0
"""The commands on a real local cluster of two workers, one of which is killed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from autoj_reward.cli.app import app
from autoj_reward.errors import ConfigError
from tests.conftest import REPO

pytestmark = pytest.mark.slow

DRILL = REPO / "benchmarks" / "ray_drill.py"


def drill(*options: str) -> dict[str, object]:
    pytest.importorskip("ray", reason="needs Ray: the ray extra")
    done = subprocess.run(
        [sys.executable, str(DRILL), "--dry", *options],
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    figures: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return figures


def test_the_short_drill() -> None:
    """A twentieth of the full one, which is benchmarks/ray_drill.py without arguments."""
    figures = drill("--rows", "5000", "--block", "100")
    assert figures["killed_a_worker"]
    assert int(str(figures["parts_when_killed"])) < 50
    assert figures["rows_in_output"] == 5000
    assert figures["rows_twice"] == 0
    assert figures["equal_as_a_set"]
    assert figures["left_behind"] == []


def test_the_short_drill_on_the_embedded_judge() -> None:
    """The full one is 200 rows: benchmarks/ray_drill.py --embedded --rows 200 --block 20."""
    pytest.importorskip("torch")
    figures = drill("--embedded", "--rows", "12", "--block", "3")
    assert figures["rows_in_output"] == 12
    assert float(str(figures["largest_difference"])) <= 1e-4


def test_a_column_of_criteria_is_judged_on_a_cluster_as_on_one_machine() -> None:
    """With verdicts, score and spread of each row, and rows without a rubric among them."""
    pytest.importorskip("torch")
    figures = drill("--embedded", "--criteria", "--rows", "8", "--block", "2")
    assert figures["rows_in_output"] == 8
    assert figures["rows_by_criteria"] == 5
    assert float(str(figures["largest_difference"])) <= 1e-4


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["in.jsonl", "-o", "out"], "is not a .parquet file"),
        (["nowhere.parquet", "-o", "out"], "there is no file"),
        (["in.parquet", "-o", "out.parquet"], "is not a folder"),
        (["in.parquet", "-o", "-"], "is not a folder"),
        (["in.parquet", "-o", "out", "--retry-failed"], "--retry-failed: not with --ray"),
        (
            ["in.parquet", "-o", "out", "--push-to-hub", "me/x"],
            "one file on the hub, and the output 'out' is a",
        ),
        (["in.parquet", "-o", "out.parquet", "--push-to-hub", "me/x"], "whose output is a folder of Parquet"),
    ],
)
def test_engines_that_cannot_run_on_a_cluster_are_refused_first(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.jsonl").write_text("")
    pq.write_table(pa.table({"prompt": ["Q"], "completion": ["A"]}), tmp_path / "in.parquet")
    with pytest.raises(ConfigError, match=said):
        CliRunner().invoke(app, ["rate", *arguments, "--ray", "local"], catch_exceptions=False)
