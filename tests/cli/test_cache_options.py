# SPDX-License-Identifier: Apache-2.0
"""The commands and their cache: what is paid for once, what `kill -9` costs, what goes on without a cache."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from autoj_reward.errors import ConfigError, StoreError
from tests.cli.conftest import Run, read_rows, write_rows

COMMAND = [sys.executable, "-m", "autoj_reward.cli"]
ROWS = [{"prompt": "What is the capital of France?", "completion": f"Paris {n}"} for n in range(6)]


def answers(stderr: str) -> tuple[int, int]:
    """Answers from the cache, and from the engine, as the summary says."""
    found = re.search(r"([\d,]+) answers from the cache, ([\d,]+) from the engine", stderr)
    assert found, stderr
    cached, asked = (int(text.replace(",", "")) for text in found.groups())
    return cached, asked


def test_an_answer_is_paid_for_once_whatever_file_it_is_in(run: Run, tmp_path: Path) -> None:
    """Peers keep whole batches or whole files, and lose them when one row changes."""
    write_rows(tmp_path / "in.jsonl", ROWS)
    write_rows(tmp_path / "more.jsonl", [{"prompt": "Q", "completion": "new"}, *ROWS[::-1]])
    assert answers(run("rate", "in.jsonl", "-o", "a.jsonl", "--cache", "c.sqlite").stderr) == (0, 6)
    again = run("rate", "in.jsonl", "-o", "b.jsonl", "--cache", "c.sqlite", "--chunk", "2")
    assert answers(again.stderr) == (6, 0)
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()
    assert json.loads((tmp_path / "b.jsonl.run.json").read_text())["from_cache"] == 6
    assert answers(run("rate", "more.jsonl", "-o", "m.jsonl", "--cache", "c.sqlite").stderr) == (6, 1)


def test_the_cache_is_on_unless_it_is_switched_off(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTOJ_REWARD_CACHE", str(tmp_path / "mine.sqlite"))
    write_rows(tmp_path / "in.jsonl", ROWS)
    assert "answers from" not in run("rate", "in.jsonl", "-o", "a.jsonl", "--no-cache").stderr
    assert not (tmp_path / "mine.sqlite").exists()
    assert answers(run("rate", "in.jsonl", "-o", "b.jsonl").stderr) == (0, 6)
    assert (tmp_path / "mine.sqlite").exists()
    monkeypatch.setenv("AUTOJ_REWARD_NO_CACHE", "1")
    assert "answers from" not in run("rate", "in.jsonl", "-o", "c.jsonl").stderr
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()


def test_refresh_asks_for_everything_again(run: Run, tmp_path: Path) -> None:
    write_rows(tmp_path / "in.jsonl", ROWS)
    run("rate", "in.jsonl", "-o", "a.jsonl", "--cache", "c.sqlite")
    fresh = run("rate", "in.jsonl", "-o", "b.jsonl", "--cache", "c.sqlite", "--refresh")
    assert answers(fresh.stderr) == (0, 6)


def test_retry_failed_does_not_read_the_failure_out_of_the_cache(run: Run, tmp_path: Path) -> None:
    """A cache that keeps unreadable answers would give the failed row its failure back for ever."""
    write_rows(tmp_path / "in.jsonl", [*ROWS, {"prompt": "Q", "completion": "mumble"}])
    run("rate", "in.jsonl", "-o", "a.jsonl", "--cache", "c.sqlite")
    again = run("rate", "in.jsonl", "-o", "a.jsonl", "--cache", "c.sqlite", "--retry-failed")
    assert answers(again.stderr) == (0, 1)


def test_another_judge_model_asks_again(run: Run, tmp_path: Path) -> None:
    """Keys without the model once gave one model's verdicts to another."""
    write_rows(tmp_path / "in.jsonl", ROWS)
    run("rate", "in.jsonl", "-o", "a.jsonl", "--cache", "c.sqlite")
    recorded = tmp_path / "recorded.jsonl"
    recorded.write_text(recorded.read_text().replace('"9": 0.6', '"3": 0.6'))
    assert answers(run("rate", "in.jsonl", "-o", "b.jsonl", "--cache", "c.sqlite").stderr) == (0, 6)
    assert read_rows(tmp_path / "b.jsonl")[0]["rating"] == 3


@pytest.mark.parametrize("command", ["rate", "compare", "rerank"])
def test_no_cache_ignores_a_broken_cache_file(run: Run, tmp_path: Path, command: str) -> None:
    (tmp_path / "c.sqlite").write_bytes(os.urandom(5000))
    row = {"prompt": "Q", "completion": "A", "first": "A", "second": "B", "completions": ["A", "B"]}
    write_rows(tmp_path / "in.jsonl", [row])
    with pytest.raises(StoreError, match="not a database"):
        run(command, "in.jsonl", "-o", "a.jsonl", "--cache", "c.sqlite")
    assert not (tmp_path / "a.jsonl").exists()
    assert run(command, "in.jsonl", "-o", "a.jsonl", "--no-cache").exit_code == 0


@pytest.mark.parametrize("other", [["--cache", "c.sqlite"], ["--refresh"]])
def test_options_that_exclude_each_other(run: Run, tmp_path: Path, other: list[str]) -> None:
    write_rows(tmp_path / "in.jsonl", ROWS)
    with pytest.raises(ConfigError, match="--no-cache is given together"):
        run("rate", "in.jsonl", "-o", "a.jsonl", "--no-cache", *other)


@pytest.mark.slow
def test_runs_at_the_same_time_share_one_cache(tmp_path: Path, recorded: list[str]) -> None:
    """Peers' annotation files were overwritten by the last of several runs; their databases were locked."""
    rows = [{"prompt": "Q", "completion": f"Paris {n}"} for n in range(400)]
    write_rows(tmp_path / "in.jsonl", rows)
    command = [*COMMAND, "rate", "in.jsonl", "--cache", "c.sqlite", "--chunk", "16", *recorded]
    runs = [
        subprocess.Popen([*command, "-o", f"{n}.jsonl"], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
        for n in range(3)
    ]
    told = [process.communicate(timeout=300)[1] for process in runs]
    assert [process.returncode for process in runs] == [0, 0, 0], told
    assert sum(answers(text)[1] for text in told) == len(rows)
    assert len({(tmp_path / f"{n}.jsonl").read_bytes() for n in range(3)}) == 1


# kill -9


def kill_at(command: list[str], folder: Path, output: Path, n_bytes: int) -> bool:
    """Kill a run when its output has this many bytes; whether it was still running."""
    process = subprocess.Popen(command, cwd=folder, stderr=subprocess.DEVNULL)
    while process.poll() is None and not (output.exists() and output.stat().st_size >= n_bytes):
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait(60)
    return process.returncode == -signal.SIGKILL


@pytest.mark.parametrize(
    ("kind", "options"),
    [("rate", []), ("rate", ["--mode", "critique"]), ("compare", []), ("rerank", ["--show", "0"])],
    ids=["rate", "critiques", "compare", "rerank"],
)
@pytest.mark.slow
def test_a_killed_run_ends_as_if_it_had_not_been_killed(
    run: Run, tmp_path: Path, recorded: list[str], kind: str, options: list[str]
) -> None:
    texts: dict[str, Any] = {
        "rate": lambda n: {"completion": f"Paris {n}"},
        "compare": lambda n: {"first": f"A {n}", "second": f"B {n}"},
        "rerank": lambda n: {"completions": [f"Paris {n}", f"Berlin {n}", "Rome"]},
    }
    write_rows(tmp_path / "in.jsonl", [{"prompt": f"Q{n}", **texts[kind](n)} for n in range(1000)])
    arguments = [kind, "in.jsonl", "--chunk", "8", *options]
    run(*arguments, "-o", "whole.jsonl", "--no-cache")
    killed = [*COMMAND, *arguments, *recorded, "-o", "killed.jsonl", "--cache", "c.sqlite"]
    output = tmp_path / "killed.jsonl"
    size = (tmp_path / "whole.jsonl").stat().st_size
    assert [kill_at(killed, tmp_path, output, size * share // 100) for share in (5, 40)] == [True, True]
    n_rows = output.read_bytes().count(b"\n")
    assert 0 < n_rows < 1000
    done = subprocess.run(killed, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=True)
    assert f"continuing killed.jsonl after {n_rows:,}" in done.stderr
    assert output.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert " 0 damaged" in run("cache", "verify", "--cache", "c.sqlite", judge=False).stdout


@pytest.mark.slow
def test_a_killed_run_of_a_real_model_goes_on_and_a_warm_one_loads_none(tmp_path: Path) -> None:
    """Finished rows stay byte for byte; the others may differ by what batches do to the model's numbers."""
    pytest.importorskip("transformers", reason="needs the mini extra")
    rows = [{"prompt": f"What is {n} + {n}?", "completion": f"It is {n + n % 3}."} for n in range(12)]
    write_rows(tmp_path / "in.jsonl", rows)
    option = ["--engine", "transformers", "--engine-option", "dtype=float32", "--chunk", "2"]
    command = [*COMMAND, "rate", "in.jsonl", *option]
    killed = [*command, "-o", "killed.jsonl", "--cache", "killed.sqlite"]
    assert kill_at(killed, tmp_path, tmp_path / "killed.jsonl", 400)
    before = (tmp_path / "killed.jsonl").read_bytes()
    finished = before[: before.rindex(b"\n") + 1]
    assert finished.count(b"\n") >= 2
    done = subprocess.run(killed, cwd=tmp_path, capture_output=True, text=True, timeout=600, check=True)
    n_cached, n_asked = answers(done.stderr)
    assert n_cached + n_asked == 12 - finished.count(b"\n")
    after = (tmp_path / "killed.jsonl").read_bytes()
    assert after.startswith(finished)

    whole = [*command, "-o", "whole.jsonl", "--cache", "whole.sqlite"]
    subprocess.run(whole, cwd=tmp_path, capture_output=True, timeout=600, check=True)
    for resumed, uninterrupted in zip(
        *(read_rows(tmp_path / f"{n}.jsonl") for n in ("killed", "whole")), strict=True
    ):
        assert resumed["completion"] == uninterrupted["completion"]
        assert resumed["expected_rating"] == pytest.approx(uninterrupted["expected_rating"], abs=1e-3)

    # Another chunk size, another output, and `explain`: nothing of a model is even imported.
    code = (
        "import sys; from autoj_reward.cli import main\n"
        "try: main()\nexcept SystemExit as end: assert not end.code\n"
        "print({'torch', 'transformers', 'vllm'} & set(sys.modules))"
    )
    for arguments in (
        ["rate", "in.jsonl", "-o", "warm.jsonl", *option[:-1], "12", "--cache", "killed.sqlite"],
        ["cache", "explain", "in.jsonl", "--row", "12", *option[:-2], "--cache", "killed.sqlite"],
    ):
        warm = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert warm.returncode == 0, warm.stderr
        assert warm.stdout.splitlines()[-1] == "set()"
        assert "hit" in warm.stdout or answers(warm.stderr) == (12, 0)
    assert (tmp_path / "warm.jsonl").read_bytes() == after
