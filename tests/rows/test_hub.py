# SPDX-License-Identifier: Apache-2.0
"""Data sets of the hub in and out, against a local stand-in behind HF_ENDPOINT."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import needs
from tests.rows.hub_stand_in import hub

pytestmark = [pytest.mark.slow, needs("datasets", extra="data")]

ROWS = [{"prompt": f"Add {n} and 2.", "completion": str(n + 2)} for n in range(5)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


def command(tmp_path: Path, endpoint: str, *args: str, **more: str) -> subprocess.CompletedProcess[str]:
    given = {"HF_ENDPOINT": endpoint, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path / "hf"), **more}
    return subprocess.run(
        [sys.executable, "-m", "autoj_reward.cli", *args],
        cwd=tmp_path, env={**os.environ, **given}, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


def test_a_data_set_is_read_and_the_output_is_put_on_the_hub(tmp_path: Path) -> None:
    """`classify` needs no large model; rows and outputs go the same way in every command."""
    with hub(
        {"org/sums": {"data/train.jsonl": LINES, "data/test.jsonl": LINES[: LINES.index(b"\n") + 1]}}
    ) as here:
        done = command(
            tmp_path, here.endpoint, "classify", "org/sums", "-o", "out.jsonl", "--push-to-hub", "me/out",
            HF_TOKEN="hf_secret",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        written = (tmp_path / "out.jsonl").read_bytes()
        assert [json.loads(line)["prompt"] for line in written.splitlines()] == [
            row["prompt"] for row in ROWS
        ]
        assert here.sets["me/out"] == {"data/train.jsonl": written}
        assert here.private == {"me/out"}
        assert here.keys >= {"Bearer hf_secret"}
        assert "hf_secret" not in done.stderr + (tmp_path / "out.jsonl.run.json").read_text()
        part = command(tmp_path, here.endpoint, "classify", "org/sums", "--split", "test", "-o", "test.jsonl")
        assert part.returncode == 0, part.stderr
        assert len((tmp_path / "test.jsonl").read_bytes().splitlines()) == 1
        none = command(tmp_path, here.endpoint, "rate", "org/none", "-o", "none.jsonl")
        assert none.returncode == 2
        assert "has no such data set" in none.stderr
        wrong = command(tmp_path, here.endpoint, "rate", "org/sums", "--split", "dev", "-o", "none.jsonl")
        assert wrong.returncode == 2
        assert "--split NAME" in wrong.stderr


@pytest.mark.parametrize(("offline", "words"), [("0", "cannot be reached"), ("1", "HF_HUB_OFFLINE is set")])
def test_without_a_network_the_reason_is_said_once(tmp_path: Path, offline: str, words: str) -> None:
    done = command(
        tmp_path, "http://127.0.0.1:9", "rate", "org/sums", "-o", "out.jsonl", HF_HUB_OFFLINE=offline
    )
    assert done.returncode == 2
    assert words in done.stderr
    assert "Retry" not in done.stderr
    (tmp_path / "in.jsonl").write_bytes(LINES)
    pushed = command(
        tmp_path, "http://127.0.0.1:9", "classify", "in.jsonl", "-o", "out.jsonl", "--push-to-hub", "me/out",
        HF_HUB_OFFLINE=offline,
    )  # fmt: skip
    assert pushed.returncode == 2
    assert words in pushed.stderr
    assert not (tmp_path / "out.jsonl").exists()
