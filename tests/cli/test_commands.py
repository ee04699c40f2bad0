# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from autoj_reward.cli.app import app
from tests.cli.conftest import Run, read_rows, write_rows

COMMAND = [sys.executable, "-m", "autoj_reward.cli"]


def test_help_names_every_command(run: Run) -> None:
    shown = run("--help", judge=False).stdout
    for command in app.registered_commands:
        name = command.name or command.callback.__name__.replace("_", "-")  # type: ignore[union-attr]
        assert name in shown
        assert run(name, "--help", judge=False).exit_code == 0


def test_judges_lists_every_preset(run: Run) -> None:
    listed = json.loads(run("judges", "--json", judge=False).stdout)
    assert {"mini", "general", "autoj-13b", "autoj-13b-gptq-4bits", "autoj-bilingual-6b"} <= {
        judge["name"] for judge in listed
    }
    assert "mini" in run("judges", judge=False).stdout


@pytest.mark.slow
@pytest.mark.parametrize("module", ["autoj_reward", "autoj_reward.cli"])
def test_errors_are_printed_with_the_next_step(tmp_path: Path, module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", module, "rate", "nowhere.jsonl", "-o", "out.jsonl"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: there is no file 'nowhere.jsonl'\n  hint: ")
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_help_loads_no_model_library(tmp_path: Path) -> None:
    code = "import sys; sys.argv = ['autoj-reward', '--help']; from autoj_reward.cli import main\n"
    code += "try: main()\nexcept SystemExit: pass\n"
    code += "print({'torch', 'transformers', 'pyarrow', 'datasets'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.rstrip().endswith("set()")


@pytest.mark.slow
def test_interrupting_keeps_what_is_done_and_the_same_command_goes_on(
    tmp_path: Path, recorded: list[str]
) -> None:
    rows = [{"prompt": "What is it?", "completion": f"Paris {n}"} for n in range(30_000)]
    write_rows(tmp_path / "in.jsonl", rows)
    command = [*COMMAND, "rate", "in.jsonl", "-o", "out.jsonl", "--chunk", "16", *recorded]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    output = tmp_path / "out.jsonl"
    while process.poll() is None and not (output.exists() and output.stat().st_size > 20_000):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same command continues" in told
    done = len(read_rows(output))
    assert 0 < done < len(rows)
    finished = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert f"after {done:,} of 30,000" in finished.stderr
    assert [row["completion"] for row in read_rows(output)] == [row["completion"] for row in rows]


@pytest.mark.slow
def test_a_reader_that_goes_away_is_no_error(tmp_path: Path, recorded: list[str]) -> None:
    write_rows(tmp_path / "in.jsonl", [{"prompt": "Q" * 500, "completion": "Paris"}] * 2000)
    command = " ".join([*COMMAND, "rate", "in.jsonl", "-o", "-", "--quiet", "--chunk", "16", *recorded])
    done = subprocess.run(f"{command} | head -n 1", shell=True, cwd=tmp_path, capture_output=True, text=True)
    assert json.loads(done.stdout)["rating"] == 9
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads memory from /proc")
@pytest.mark.slow
def test_memory_stays_flat_on_large_input(tmp_path: Path, recorded: list[str]) -> None:
    """Ten times the rows must not take the memory of ten times the rows."""
    peaks = []
    for n in (2_000, 20_000):
        rows = [{"prompt": "Q" * 2000, "completion": "Paris"}] * n
        write_rows(tmp_path / f"{n}.jsonl", rows)
        code = (
            "import sys; from autoj_reward.cli import main\n"
            f"sys.argv = ['autoj-reward', 'rate', '{n}.jsonl', '-o', '{n}-out.jsonl', '--quiet', '--chunk', '64', "
            f"'--engine', {recorded[1]!r}]\n"
            "try: main()\nexcept SystemExit: pass\n"
            "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
        )
        env = {**os.environ, "AUTOJ_REWARD_NO_CACHE": "1"}
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True, env=env
        )
        peaks.append(int(done.stdout))
    assert peaks[1] < peaks[0] + 25_000  # kB; the large file has 40 MB
