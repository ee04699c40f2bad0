# SPDX-License-Identifier: Apache-2.0
"""One output has one writer, and is only continued if it is the beginning of the output of these rows."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.cli.conftest import Run, write_rows
from tests.outputs import read_output

ROWS = [{"prompt": f"Q{n}", "completion": f"Paris {n}", "id": n} for n in range(20)]

OUTPUT = """
from autoj_reward.rows.output import Output
output = Output(sys.argv[1], {"command": "rate"})
print("held", flush=True)
"""
LOCK = """
from autoj_reward.rows.lock import OutputLock
lock = OutputLock(Path(sys.argv[1]))
print("held", flush=True)
"""
FORKED = """
from autoj_reward.rows.lock import OutputLock
lock = OutputLock(Path(sys.argv[1]))
child = os.fork()
print(child, flush=True) if child else None
"""


@contextmanager
def holding(code: str, target: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process that runs the code on `target`, and its first line; it is killed in the end."""
    whole = f"import os, sys, time\nfrom pathlib import Path\n{code}\ntime.sleep(60)"
    with subprocess.Popen(
        [sys.executable, "-c", whole, str(target)], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def outcome(run: Run, *arguments: str) -> str:
    """What a command ends with: its error, or the empty text."""
    result = run(*arguments, catch_exceptions=True)
    return "" if result.exception is None else f"{type(result.exception).__name__}: {result.exception}"


@pytest.mark.parametrize("name", ["out.jsonl", "out.parquet"])
@pytest.mark.slow
def test_a_second_writer_is_refused_and_told_who_writes(run: Run, tmp_path: Path, name: str) -> None:
    write_rows(tmp_path / "in.jsonl", ROWS)
    with holding(OUTPUT, tmp_path / name) as (holder, _):
        said = outcome(run, "rate", "in.jsonl", "-o", name, "--overwrite")
        assert f"another run (pid {holder.pid} on " in said
        assert "since 20" in said
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        assert (tmp_path / f"{name}.lock").exists()
        assert outcome(run, "rate", "in.jsonl", "-o", name, "--overwrite") == ""
    assert [row["id"] for row in read_output(tmp_path / name)] == list(range(20))
    assert not (tmp_path / f"{name}.lock").exists()


@pytest.mark.slow
def test_two_names_of_one_file_are_one_output(run: Run, tmp_path: Path) -> None:
    write_rows(tmp_path / "in.jsonl", ROWS)
    (tmp_path / "other.jsonl").symlink_to("out.jsonl")
    with holding(OUTPUT, tmp_path / "out.jsonl"):
        assert "is writing" in outcome(run, "rate", "in.jsonl", "-o", "other.jsonl", "--overwrite")


@pytest.mark.parametrize("command", ["label", "retry", "rescore", "classify"])
@pytest.mark.slow
def test_every_command_that_writes_rows_takes_the_lock(run: Run, tmp_path: Path, command: str) -> None:
    rows = [{"prompt": "Q", "completions": ["Paris", "Berlin"]}]
    write_rows(tmp_path / "in.jsonl", rows if command == "label" else ROWS)
    if command in ("retry", "rescore"):
        run("rate", "in.jsonl", "-o", "done.jsonl", "--mode", "critique")
    arguments = {
        "label": ["label", "in.jsonl", "-o", "out"],
        "retry": ["rate", "in.jsonl", "-o", "done.jsonl", "--mode", "critique", "--retry-failed"],
        "rescore": ["rescore", "done.jsonl", "-o", "new.jsonl", "--critiques"],
        "classify": ["classify", "in.jsonl", "-o", "out.jsonl"],
    }[command]
    target = {"label": "out", "retry": "done.jsonl", "rescore": "new.jsonl", "classify": "out.jsonl"}[command]
    with holding(LOCK, tmp_path / target):
        judge = command in ("label", "retry")
        result = run(*arguments, judge=judge, catch_exceptions=True)
        assert "is writing" in str(result.exception)


@pytest.mark.slow
def test_a_lock_ends_with_its_holder_though_a_forked_child_lives_on(tmp_path: Path) -> None:
    from autoj_reward.errors import ConfigError
    from autoj_reward.rows.lock import OutputLock

    target = tmp_path / "out.jsonl"
    with holding(FORKED, target) as (holder, child):
        try:
            with pytest.raises(ConfigError, match="is writing"):
                OutputLock(target)
            holder.kill()
            holder.wait()
            OutputLock(target).release()
        finally:
            os.kill(int(child), signal.SIGKILL)


def unfinished(tmp_path: Path, whole: str, part: str, lines: list[bytes]) -> None:
    """An output that was begun by the run which wrote `whole`, with these lines."""
    record = json.loads((tmp_path / f"{whole}.run.json").read_text())
    (tmp_path / f"{part}.run.json").write_text(json.dumps({**record, "complete": False}))
    named = part if part.endswith(".jsonl") else f"{part}.part.jsonl"
    (tmp_path / named).write_bytes(b"".join(lines))


@pytest.mark.parametrize("wrong", [[0, 2], [0, 0, 1], [1, 0]], ids=["missing", "doubled", "swapped"])
def test_json_lines_of_two_runs_are_not_gone_on_with(run: Run, tmp_path: Path, wrong: list[int]) -> None:
    write_rows(tmp_path / "in.jsonl", ROWS)
    run("rate", "in.jsonl", "-o", "whole.jsonl")
    lines = (tmp_path / "whole.jsonl").read_bytes().splitlines(keepends=True)
    unfinished(tmp_path, "whole.jsonl", "part.jsonl", [lines[n] for n in wrong])
    said = outcome(run, "rate", "in.jsonl", "-o", "part.jsonl")
    assert "is not the expected row" in said
    assert "two runs" in said


@pytest.mark.parametrize("numbers", [[1, 3], [1, 1, 2], [2, 1]], ids=["missing", "doubled", "swapped"])
def test_additions_of_two_runs_are_not_joined(run: Run, tmp_path: Path, numbers: list[int]) -> None:
    """They were joined by position: 2,046 of 6,000 rows carried another row's rating."""
    write_rows(tmp_path / "in.jsonl", ROWS)
    run("rate", "in.jsonl", "-o", "whole.parquet")
    row = pq.read_table(tmp_path / "whole.parquet").to_pylist()[0]
    added = {name: value for name, value in row.items() if name not in ROWS[0]}
    lines = [json.dumps({"row": n, "added": added, **added}).encode() + b"\n" for n in numbers]
    unfinished(tmp_path, "whole.parquet", "part.parquet", lines)
    assert "two runs" in outcome(run, "rate", "in.jsonl", "-o", "part.parquet")


def test_retry_does_not_take_one_row_for_another(run: Run, tmp_path: Path) -> None:
    write_rows(tmp_path / "in.jsonl", ROWS)
    run("rate", "in.jsonl", "-o", "out.jsonl")
    lines = (tmp_path / "out.jsonl").read_bytes().splitlines(keepends=True)
    for changed in ([*lines[:3], lines[4], lines[3], *lines[5:]], lines[:-1], [*lines, lines[0]]):
        (tmp_path / "out.jsonl").write_bytes(b"".join(changed))
        said = outcome(run, "rate", "in.jsonl", "-o", "out.jsonl", "--retry-failed")
        assert "the file was changed since" in said
        assert (tmp_path / "out.jsonl").read_bytes() == b"".join(changed)


@pytest.mark.parametrize("name", ["out.jsonl", "out.parquet"])
def test_an_interrupt_keeps_what_is_done_and_lets_others_write(
    run: Run, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from autoj_reward.engines.recorded import RecordedEngine

    write_rows(tmp_path / "in.jsonl", ROWS)
    run("rate", "in.jsonl", "-o", f"whole{Path(name).suffix}")
    generate = RecordedEngine.generate

    def interrupted(self: Any, inputs: Any) -> Any:
        if any("Paris 12" in segment.text for item in inputs for segment in item.body):
            raise KeyboardInterrupt
        return generate(self, inputs)

    monkeypatch.setattr(RecordedEngine, "generate", interrupted)
    result = run("rate", "in.jsonl", "-o", name, "--chunk", "5", "--no-cache")
    assert result.exit_code == 130
    assert not (tmp_path / f"{name}.lock").exists()
    monkeypatch.undo()
    os.chdir(tmp_path)
    result = run("rate", "in.jsonl", "-o", name, "--no-cache")
    assert "after 10 of 20 rows" in result.stderr
    assert read_output(tmp_path / name) == read_output(tmp_path / f"whole{Path(name).suffix}")


def test_a_damaged_record_is_said(run: Run, tmp_path: Path) -> None:
    write_rows(tmp_path / "in.jsonl", ROWS)
    run("rate", "in.jsonl", "-o", "out.jsonl")
    for content in ("{", "[]", '{"run": 5}', "[" * 100_000):
        (tmp_path / "out.jsonl.run.json").write_text(content)
        assert "ConfigError: the record" in outcome(run, "rate", "in.jsonl", "-o", "out.jsonl")
    assert outcome(run, "rate", "in.jsonl", "-o", "out.jsonl", "--overwrite") == ""


def test_a_run_that_ended_between_its_last_two_steps_is_finished(run: Run, tmp_path: Path) -> None:
    """The Parquet file was in its place and the additions gone, but the record was not written: all again."""
    write_rows(tmp_path / "in.jsonl", ROWS)
    run("rate", "in.jsonl", "-o", "out.parquet")
    (tmp_path / "out.parquet.part.jsonl").write_bytes(b'{"row": 1, "added": {}}\n')
    (tmp_path / "out.parquet.tmp").mkdir()
    result = run("rate", "in.jsonl", "-o", "out.parquet")
    assert "is finished" in result.stderr
    assert sorted(p.name for p in tmp_path.glob("out*")) == ["out.parquet", "out.parquet.run.json"]


def test_bad_rows_do_not_replace_the_file_that_they_come_from(run: Run, tmp_path: Path) -> None:
    write_rows(tmp_path / "out.jsonl.bad.jsonl", [ROWS[0], {"prompt": 5}])
    before = (tmp_path / "out.jsonl.bad.jsonl").read_bytes()
    said = outcome(run, "rate", "out.jsonl.bad.jsonl", "-o", "out.jsonl", "--skip-bad")
    assert "is the input as well as the output" in said
    assert (tmp_path / "out.jsonl.bad.jsonl").read_bytes() == before


def test_a_dry_run_writes_nothing(run: Run, tmp_path: Path) -> None:
    write_rows(tmp_path / "in.jsonl", [ROWS[0], {"prompt": 5}])
    before = sorted(tmp_path.iterdir())
    run("rate", "in.jsonl", "-o", "out.jsonl", "--skip-bad", "--dry-run", "--no-cache")
    assert sorted(tmp_path.iterdir()) == before


def test_a_device_is_no_output(run: Run, tmp_path: Path) -> None:
    write_rows(tmp_path / "in.jsonl", ROWS)
    (tmp_path / "out.jsonl").symlink_to("/dev/full")
    said = outcome(run, "rate", "in.jsonl", "-o", "out.jsonl", "--overwrite")
    assert "not a regular file" in said
    assert Path("/dev/full").exists()


@pytest.mark.parametrize("name", ["out.jsonl", "out.parquet"])
@pytest.mark.slow
def test_a_full_disk_keeps_what_was_written(run: Run, tmp_path: Path, name: str) -> None:
    """With a limit on the size of files, which acts as a full disk does."""
    write_rows(tmp_path / "in.jsonl", [{**row, "text": "x" * 500} for row in ROWS])
    limited = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (3000, resource.RLIM_INFINITY)); "
        "from autoj_reward.cli import main; sys.argv[0] = 'autoj-reward'; main()"
    )
    command = ["rate", "in.jsonl", "-o", name, "--no-cache", "--chunk", "4", "--engine"]
    command.append(f"recorded:{tmp_path / 'recorded.jsonl'}")
    ended = subprocess.run(
        [sys.executable, "-c", limited, *command], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2, ended.stderr
    assert "cannot be written" in ended.stderr
    assert "Traceback" not in ended.stderr
    result = run("rate", "in.jsonl", "-o", name, "--no-cache")
    assert "continuing" in result.stderr
    assert [row["id"] for row in read_output(tmp_path / name)] == list(range(20))


@pytest.mark.slow
def test_waiting_for_a_lock_that_is_removed_does_not_give_two_holders(tmp_path: Path) -> None:
    """Two processes take and give back one lock for a second; never are both inside."""
    code = (
        "import os, sys, time; from pathlib import Path\n"
        "from autoj_reward.errors import ConfigError; from autoj_reward.rows.lock import OutputLock\n"
        "inside = Path(sys.argv[1] + '.inside'); end = time.time() + 1; n = 0\n"
        "while time.time() < end:\n"
        "    try:\n"
        "        with OutputLock(Path(sys.argv[1])):\n"
        "            os.close(os.open(inside, os.O_CREAT | os.O_EXCL)); n += 1; inside.unlink()\n"
        "    except ConfigError:\n"
        "        pass\n"
        "print(n)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "out")]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    for process in running:
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        assert int(out) > 0
