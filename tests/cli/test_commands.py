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
from autoj_reward.cli.run import _existing
from autoj_reward.errors import ConfigError
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


HEAVY = {"torch", "transformers", "pyarrow", "datasets", "numpy", "rich", "autoj_reward.judge.judge"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["rate", "--help"],
        ["evaluate", "pairwise", "--help"],
        ["rate", "nowhere.jsonl", "-o", "out.jsonl"],
        ["rerank", "in.jsonl", "-o", "out.jsonl", "--mode", "both"],
        ["calibrate", "in.jsonl", "--samples", "0"],
    ],
    ids=" ".join,
)
def test_help_and_errors_load_nothing_heavy(tmp_path: Path, arguments: list[str]) -> None:
    code = f"import sys; sys.argv = ['autoj-reward', *{arguments}]; from autoj_reward.cli import main\n"
    code += f"try: main()\nexcept SystemExit: pass\nprint({HEAVY} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.rstrip().endswith("set()")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--mode", "both"], "Invalid value for '--mode': 'both' is not one of 'direct', 'critique'."),
        (["--overlong", "no"], "Invalid value for '--overlong': 'no' is not one of 'error', 'truncate'."),
        (["--limt", "3"], "No such option: --limt"),
        (["--engine", "paper"], "there is no engine 'paper'\n  hint: transformers, vllm"),
        (["--mode", "direct", "--samples", "4"], "--samples = 4 would draw the same 4 times"),
        (["--mode", "direct", "--force-verdict"], "--force-verdict is for critiques"),
    ],
    ids=lambda given: given if isinstance(given, str) else " ".join(given),
)
def test_errors_are_in_the_words_of_the_command_line(
    run: Run, tmp_path: Path, arguments: list[str], said: str
) -> None:
    write_rows(tmp_path / "in.jsonl", [{"prompt": "Q", "completion": "Paris"}])
    result = run("rate", "in.jsonl", "-o", "out.jsonl", *arguments, judge=False, catch_exceptions=True)
    error = "" if isinstance(result.exception, SystemExit) else str(result.exception)
    assert said in result.stderr + error
    assert result.exit_code != 0


def test_options_can_come_from_a_file(run: Run, tmp_path: Path) -> None:
    write_rows(tmp_path / "in.jsonl", [{"question": "Q", "completion": c} for c in ("Paris", "Berlin")])
    (tmp_path / "run.toml").write_text(
        'output = "out.jsonl"\ncolumn = "prompt=question"\nno-cache = true\nmode = "direct"\nquiet = true\n'
    )
    result = run("rate", "in.jsonl", "--config", "run.toml")
    assert result.exit_code == 0, result.output
    assert [row["mode"] for row in read_rows(tmp_path / "out.jsonl")] == ["direct", "direct"]
    run("rate", "in.jsonl", "--config", "run.toml", "-o", "other.jsonl", "--mode", "critique")
    assert [row["mode"] for row in read_rows(tmp_path / "other.jsonl")] == ["critique", "critique"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("ovrwrite = true", "`rate` has no option 'ovrwrite'\n  hint: did you mean 'overwrite'?"),
        ("split = ['a', 'b']", "'split' takes one value"),
        ("mode = 'both'", "'both' is not one of 'direct', 'critique'"),
    ],
)
def test_a_wrong_option_in_a_file_is_said(run: Run, tmp_path: Path, line: str, said: str) -> None:
    write_rows(tmp_path / "in.jsonl", [{"prompt": "Q", "completion": "Paris"}])
    (tmp_path / "run.toml").write_text(line + "\n")
    result = run("rate", "in.jsonl", "-o", "o.jsonl", "--config", "run.toml", catch_exceptions=True)
    assert said in result.stderr + str(result.exception)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupting_keeps_what_is_done_and_the_same_command_goes_on(
    tmp_path: Path, recorded: list[str], number: signal.Signals, status: int
) -> None:
    rows = [{"prompt": "What is it?", "completion": f"Paris {n}"} for n in range(10_000)]
    write_rows(tmp_path / "in.jsonl", rows)
    command = [*COMMAND, "rate", "in.jsonl", "-o", "out.jsonl", "--chunk", "16", *recorded]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    output = tmp_path / "out.jsonl"
    while process.poll() is None and not (output.exists() and output.stat().st_size > 20_000):
        time.sleep(0.01)
    process.send_signal(number)
    _, told = process.communicate(timeout=60)
    assert process.returncode == status
    assert "the same command continues" in told
    done = len(read_rows(output))
    assert 0 < done < len(rows)
    finished = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert f"after {done:,} of 10,000" in finished.stderr
    assert [row["completion"] for row in read_rows(output)] == [row["completion"] for row in rows]


def test_an_input_is_looked_for_here_and_the_hub_is_not_asked_yet() -> None:
    assert _existing("org/data-2.5") == "org/data-2.5"
    assert _existing("-") == "-"
    for missing in ("nowhere.jsonl", "org/nowhere.jsonl", "/org/data", "a/b/c", "nowhere"):
        with pytest.raises(ConfigError, match="there is no file"):
            _existing(missing)


BUSY = """
import hashlib, sys
from autoj_reward.judge.judge import Judge
def load(*arguments, **options):
    print("busy", file=sys.stderr, flush=True)
    # A call that gives Python no chance to raise KeyboardInterrupt for minutes.
    hashlib.pbkdf2_hmac("sha256", b"", b"", (1 << 31) - 1)
Judge.load = load
sys.argv = ["autoj-reward", "rate", "in.jsonl", "-o", "out.jsonl"]
from autoj_reward.cli import main
main()
"""


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_command_inside_a_library(
    tmp_path: Path, number: signal.Signals, status: int
) -> None:
    write_rows(tmp_path / "in.jsonl", [{"prompt": "Q", "completion": "Paris"}])
    process = subprocess.Popen(
        [sys.executable, "-c", BUSY], cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stderr is not None
    try:
        assert process.stderr.readline() == "busy\n"
        process.send_signal(number)
        _, told = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, told) == (status, "stopped\n")


FORKING = """
import os, signal, sys, time
from autoj_reward.cli.shared.interrupt import end_soon_after_signals
end_soon_after_signals()
reading, writing = os.pipe()
child = os.fork()
if not child:
    os.write(writing, b"ready")
    time.sleep(60)
    os._exit(0)
os.read(reading, 5)
os.kill(child, signal.SIGTERM)
sys.exit(os.WTERMSIG(os.waitpid(child, 0)[1]))
"""


@pytest.mark.slow
def test_a_forked_process_ends_by_sigterm_as_without_us() -> None:
    done = subprocess.run([sys.executable, "-c", FORKING], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (signal.SIGTERM, "")


def test_failed_and_left_out_rows_are_in_the_exit_status(run: Run, tmp_path: Path) -> None:
    good, failed, bad = (
        {"prompt": "Q", "completion": "Paris"},
        {"prompt": "Q", "completion": "mumble"},
        {"x": 1},
    )
    for rows, status in (([good], 0), ([good, failed], 3), ([good, bad], 3), ([good, failed, bad], 3)):
        write_rows(tmp_path / "in.jsonl", rows)
        arguments = ("rate", "in.jsonl", "-o", "out.jsonl", "--overwrite", "--skip-bad", "--mode", "direct")
        assert run(*arguments).exit_code == status
        assert run(*arguments, "--allow-failures").exit_code == 0
    # The same without judging, for an output that is complete.
    assert run(*(a for a in arguments if a != "--overwrite")).exit_code == 3


def test_the_summary_counts_verdicts_and_failures(run: Run, tmp_path: Path) -> None:
    completions = ["Paris", "Paris!", "Berlin", "mumble"]
    write_rows(tmp_path / "in.jsonl", [{"prompt": "Q", "completion": c} for c in completions])
    said = run("rate", "in.jsonl", "-o", "out.jsonl", "--mode", "direct", "--no-cache").stderr
    assert "rate: 4 judgments in" in said
    lines = [line.strip() for line in said.splitlines()]
    for line in (
        "verdicts  2 x 9, 1 x 2",
        "mean      reward 6.400",
        "failed    1 without a verdict: 1 low_mass",
        "output    out.jsonl",
    ):
        assert line in lines
    record = json.loads((tmp_path / "out.jsonl.run.json").read_text())
    assert (record["verdicts"], record["mean_reward"]) == ({"9": 2, "2": 1}, 6.4)
    said = run("rate", "in.jsonl", "-o", "o.jsonl", "--limit", "2", "--mode", "direct", "--no-cache").stderr
    assert "next      autoj-reward report o.jsonl" in said
    assert len(read_rows(tmp_path / "o.jsonl")) == 2
    assert run("rate", "in.jsonl", "-o", "q.jsonl", "--quiet", "--allow-failures").stderr == ""


def test_quiet_commands_print_warnings_alone(run: Run, tmp_path: Path) -> None:
    write_rows(tmp_path / "in.jsonl", [{"prompt": "Q", "completion": c} for c in ("Paris", "Berlin")])
    assert run("rate", "in.jsonl", "-o", "out.jsonl", "--quiet").output == ""
    for arguments in (
        ["report", "out.jsonl", "-o", "out.html"],
        ["monitor", "out.jsonl"],
        ["rescore", "out.jsonl", "--cache", "judgments.sqlite"],
    ):
        run("rate", "in.jsonl", "-o", "cached.jsonl", "--cache", "judgments.sqlite", "--overwrite", "--quiet")
        result = run(*arguments, "--quiet", judge=False)
        assert (result.exit_code, result.output) == (0, ""), arguments
    assert (tmp_path / "out.html").exists()


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
