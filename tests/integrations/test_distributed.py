# SPDX-License-Identifier: Apache-2.0
"""Two processes under `accelerate launch`, on a CPU over gloo."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import REPO
from tests.integrations.two_ranks import QUALITIES, wins
from tests.quality import QualityEngine, quality

pytest.importorskip("accelerate", reason="needs accelerate: ./setup mini trl")

pytestmark = pytest.mark.slow


def launch(what: str, folder: Path, *further: str) -> list[dict[str, Any]]:
    """What both ranks wrote.

    `--multi_gpu` is accelerate's name for several processes; with `--cpu` it would start one.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2",
        "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no",
        "--main_process_port", str(port), "-m", "tests.integrations.two_ranks", what, str(folder), *further,
    ]  # fmt: skip
    paths = os.pathsep.join([str(REPO), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        command, cwd=REPO, env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads((folder / f"{rank}.json").read_text(encoding="utf-8")) for rank in (0, 1)]


def test_a_split_group_is_judged_as_on_one_process(tmp_path: Path) -> None:
    """A reward function sees a slice of the batch, and once compared what happened to be on one process."""
    engine = QualityEngine()
    whole = wins(engine)
    mine = [pair for part in QUALITIES for pair in part]
    expected = whole([p for p, _ in mine], [f"q={q}" for _, q in mine])
    ranks = launch("judge_alone", tmp_path)
    assert [r for rank in ranks for r in rank["rewards"]] == pytest.approx(expected)
    assert [r["most"] for r in ranks] == [1, 1]
    asked = [tuple(texts) for rank in ranks for texts in rank["asked"]]
    assert sorted(asked) == sorted(engine.asked)
    # Both did a part.
    assert all(rank["asked"] for rank in ranks)
    assert [rank["incomplete"] for rank in ranks] == [0.0, 0.0]


def test_a_failure_has_the_mean_of_its_whole_group(tmp_path: Path) -> None:
    ranks = launch("rate_with_a_failure", tmp_path)
    assert [rank["rewards"] for rank in ranks] == [[4.0, 6.0], [4.0, 2.0]]


def test_an_error_on_one_rank_is_raised_on_all(tmp_path: Path) -> None:
    """The other rank once waited in a collective until somebody killed it."""
    first, second = launch("fail_on_rank_1", tmp_path)
    assert first["error"] == second["error"] == "EngineUnavailable"
    assert "the judge is gone" in first["message"]
    assert "start it again" in first["message"]
    assert first["notes"] == ["raised on rank 1"]
    # Rank 0 did not wait for its engine.
    assert first["answered"] == 0


def test_an_error_before_judging_too(tmp_path: Path) -> None:
    first, second = launch("fail_before_judging", tmp_path)
    assert first["error"] == second["error"] == "ConfigError"
    assert "no assistant message" in first["message"]


def test_grpo_with_a_group_on_both(tiny_policy: Path, tmp_path: Path) -> None:
    ranks = launch("train", tmp_path, str(tiny_policy))
    rewards, texts = ranks[0]["rewards"], ranks[0]["completions"]
    assert [rank["local"] for rank in ranks] == [2, 2]
    assert [rank["incomplete"] for rank in ranks] == [0.0, 0.0]
    order = sorted(range(4), key=lambda i: quality(texts[i]))
    assert sum(rewards) == pytest.approx(2.0, abs=1e-5)
    assert rewards[order[-1]] == max(rewards)
    assert [rank["most"] for rank in ranks] == [1, 1]
    asked = {tuple(sorted(t[1:])) for rank in ranks for t in map(tuple, rank["asked"])}
    # Four comparisons in a ring, each in both orders and by one rank only.
    assert len(asked) == 4
    assert sum(len(rank["asked"]) for rank in ranks) == 8
