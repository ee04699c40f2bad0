# SPDX-License-Identifier: Apache-2.0
"""Sharing, supervising and ending a server, with a cheap one; the real one is in test_vllm.py."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from autoj_reward.engines.local_server.engine import serve_order
from autoj_reward.engines.local_server.launch import flags
from autoj_reward.engines.local_server.settings import LocalServerSettings, serve_environment
from autoj_reward.engines.local_server.shared import LaunchSpec, SharedServer, _owned, share_server
from autoj_reward.engines.local_server.state import JudgeFolder, runtime_home
from autoj_reward.errors import ConfigError, EngineUnavailable
from tests.engines.local_server.other_python import bare_python
from tests.engines.local_server.user_process import stand_in_order

USER = Path(__file__).with_name("user_process.py")


class User:
    """Another process that shares the server."""

    def __init__(self, key: str, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(USER), key, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(USER.parents[3])},
        )

    def hear(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        return dict(json.loads(line))

    def do(self, order: str) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(order + "\n")
        self.process.stdin.flush()
        return self.hear()

    def leave(self) -> None:
        """End in order."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        self.process.wait(60)
        self.process.stdout.close()


@pytest.fixture(autouse=True)
def _own_runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOJ_REWARD_RUNTIME", str(tmp_path / "runtime"))


@pytest.fixture
def marker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A variable that every process of this test's servers inherits, so that none can hide."""
    text = f"AUTOJ_REWARD_TEST={tmp_path}"
    monkeypatch.setenv("AUTOJ_REWARD_TEST", str(tmp_path))
    yield text
    for pid in marked(text):
        if pid != os.getpid():
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
def users(marker: str) -> Iterator[Callable[..., User]]:
    made: list[User] = []

    def make(*arguments: str) -> User:
        made.append(User(*arguments))
        return made[-1]

    yield make
    for user in made:
        user.leave()


def marked(marker: str, *, but: frozenset[int] = frozenset()) -> set[int]:
    """Running processes with the marker in their environment, other than this one and those named."""
    found = set()
    for file in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if marker.encode() in file.read_bytes().split(b"\0"):
                found.add(int(file.parent.name))
    return found - but - {os.getpid()}


def share(key: str, *arguments: str, seconds: float = 60.0, **order: Any) -> SharedServer:
    """The stand-in's server for a key, in this process."""

    def make_order() -> LaunchSpec:
        plain = stand_in_order(*arguments)
        named = {name: getattr(plain, name) for name in LaunchSpec.__slots__}
        return LaunchSpec(**{**named, **order})

    return share_server(JudgeFolder(key), make_order, start_seconds=seconds, report=lambda _: None)


def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait until something holds, which it must within 30 seconds."""
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.05)


def ask(server: SharedServer) -> dict[str, Any]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(server.state.endpoint) as answer:
        return dict(json.loads(answer.read()))


# One server, one process


def test_a_server_is_started_used_and_ended(marker: str, capfd: pytest.CaptureFixture[str]) -> None:
    server = share("one", "--slow", "0.5")
    assert server.owned
    assert server.lives()
    assert server.state.owner_pid == os.getpid()
    assert ask(server)["environment"]["VLLM_API_KEY"] == "secret"
    assert "this goes to standard output" in server.folder.tail()
    assert "error red" in server.folder.tail(), "control characters have no place in messages"
    server.close()
    server.close()
    assert not server.lives()
    assert not marked(marker), "no worker survives, not even one in a session of its own"
    assert capfd.readouterr() == ("", ""), "what the server prints is in its log alone"


def test_only_this_user_can_read_the_key(marker: str) -> None:
    server = share("one", "--workers", "0")
    assert stat.S_IMODE(server.folder.state.stat().st_mode) == 0o600
    assert stat.S_IMODE(server.folder.path.stat().st_mode) == 0o700
    assert "secret" not in repr(server.state)
    for pid in marked(marker):
        assert b"secret" not in Path(f"/proc/{pid}/cmdline").read_bytes()
    server.close()
    assert not server.folder.state.exists()


def test_a_folder_of_somebody_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_folder = tmp_path / "open"
    open_folder.mkdir()
    open_folder.chmod(0o777)
    monkeypatch.setenv("AUTOJ_REWARD_RUNTIME", str(open_folder))
    with pytest.raises(ConfigError, match="not this user's alone"):
        runtime_home()


def test_objects_of_one_process_share_and_the_last_one_ends_it(marker: str) -> None:
    first, second = share("one", "--workers", "0"), share("one")
    assert first.state == second.state
    first.close()
    assert second.lives()
    second.close()
    assert not marked(marker)


def test_keys_have_servers_of_their_own(marker: str) -> None:
    first, second = share("one", "--workers", "0"), share("two", "--workers", "0")
    assert first.state.endpoint != second.state.endpoint
    first.close()
    assert second.lives()
    second.close()


@pytest.mark.slow
def test_a_server_that_is_deaf_to_sigterm_is_killed(marker: str) -> None:
    server = share("one", "--deaf", "--workers", "0")
    server.close()
    assert not marked(marker)


@pytest.mark.parametrize("left", ['{"judge_id": "x", "endpoint": "http://127.0.0.1:1/v1"', "{}", "[]"])
def test_files_left_by_a_crash_do_not_prevent_a_start(left: str, marker: str) -> None:
    folder = JudgeFolder("one")
    folder.state.write_text(left)
    folder.alive.touch()
    folder.server_info.write_text('{"error": "of yesterday"}')
    assert folder.read_state() is None
    server = share("one", "--workers", "0")
    assert server.owned
    assert server.state.server_info == {}
    server.close()


def test_a_start_that_fails_shows_the_end_of_the_log(marker: str) -> None:
    with pytest.raises(ConfigError, match="ended while starting") as raised:
        share("one", "--fail", "the weights are gone")
    assert "the weights are gone" in str(raised.value)
    assert not marked(marker)


@pytest.mark.slow
def test_a_start_that_takes_too_long_is_ended(marker: str) -> None:
    with pytest.raises(EngineUnavailable, match="not ready in time") as raised:
        share("one", "--slow", "60", seconds=1.0)
    assert "this goes to standard output" in str(raised.value)
    assert "start_seconds" in raised.value.hint
    assert not marked(marker)


def test_a_port_in_use_is_named(marker: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port {port} .*in use"):
            share("one", port=port)


def test_a_program_that_is_not_there(marker: str) -> None:
    with pytest.raises(ConfigError, match="cannot be started"):
        share("one", command=("/no/such/program",))
    assert not marked(marker)


@pytest.mark.slow
def test_a_server_that_dies_is_known_to_be_gone_and_its_workers_with_it(marker: str) -> None:
    server = share("one")
    os.kill(ask(server)["pid"], signal.SIGKILL)
    until(lambda: not server.lives())
    until(lambda: not marked(marker))
    again = share("one", "--workers", "0")
    assert again.state.judge_id != server.state.judge_id
    server.close()
    assert again.lives(), "closing the lost one must not touch the new one"
    again.close()


# Several processes


@pytest.mark.slow
def test_four_processes_that_start_at_once_share_one(users: Callable[..., User]) -> None:
    four = [users("one", "--slow", "1") for _ in range(4)]
    heard = [user.hear() for user in four]
    assert sum(news["owned"] for news in heard) == 1
    assert len({news["judge_id"] for news in heard}) == 1
    log = JudgeFolder("one").log.read_text()
    assert log.count("standard output") == 1


@pytest.mark.slow
def test_a_killed_owner_takes_the_server_along(users: Callable[..., User], marker: str) -> None:
    four = [users("one") for _ in range(4)]
    heard = [user.hear() for user in four]
    (owner,) = [user for user, news in zip(four, heard, strict=True) if news["owned"]]
    others = [user for user in four if user is not owner]
    pids = frozenset(user.process.pid for user in four)
    assert len(marked(marker, but=pids)) == 5, "supervisor, guard, server and two workers"
    owner.process.kill()
    until(lambda: not marked(marker, but=pids))
    assert [user.do("lives")["lives"] for user in others] == [False] * 3
    newcomer = users("one", "--workers", "0")
    assert newcomer.hear()["owned"]


@pytest.mark.slow
def test_an_owner_that_ends_in_order_leaves_the_server_to_the_others(
    users: Callable[..., User], marker: str
) -> None:
    """Ranks of one run end at different times; the first to end used to take the judge from the others."""
    owner = users("one", "--workers", "0")
    assert owner.hear()["owned"]
    other = users("one")
    assert not other.hear()["owned"]
    closed = owner.do("close")
    assert closed["alive"]
    assert other.do("lives")["lives"]
    owner.leave()
    assert other.do("lives")["lives"]
    other.process.kill()
    until(lambda: not marked(marker, but=frozenset({other.process.pid})))


@pytest.mark.slow
def test_an_owner_killed_while_starting_is_replaced(users: Callable[..., User], marker: str) -> None:
    first = users("one", "--slow", "60")
    until(lambda: "standard output" in JudgeFolder("one").tail())
    second = users("one", "--workers", "0")
    first.process.kill()
    news = second.hear()
    assert news["owned"]
    assert second.do("lives")["lives"]
    pids = frozenset({second.process.pid})
    assert len(marked(marker, but=pids)) == 3, "the first one's slow server is gone"


@pytest.mark.slow
def test_those_who_wait_for_a_start_that_fails_do_not_try_the_same(users: Callable[..., User]) -> None:
    three = [users("one", "--slow", "3", "--fail", "no memory") for _ in range(3)]
    heard = [user.hear() for user in three]
    assert {news["error"] for news in heard} == {"ConfigError"}
    assert all("no memory" in news["message"] for news in heard)
    assert not JudgeFolder("one").log.with_suffix(".log.1").exists(), "it was tried once"


@pytest.mark.slow
def test_a_fork_that_ends_leaves_the_server_alone(users: Callable[..., User]) -> None:
    owner = users("one", "--workers", "0")
    owner.hear()
    assert owner.do("fork")["lives"]
    assert not owner.do("close")["alive"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_supervisor_that_ends_takes_the_server_along(number: signal.Signals, marker: str) -> None:
    """A server whose workers are deaf used to outlive a killed supervisor."""
    server = share("one", "--workers", "1", "--deaf")
    os.kill(_owned[server.state.judge_id].pid, number)
    until(lambda: not server.lives())
    again = share("one", "--workers", "0")
    assert len(marked(marker)) == 3, (
        "the new supervisor, its guard and its server, and nothing of the old one"
    )
    again.close()
    assert not marked(marker), "who has not noticed the end of the old one is no user of the new one"
    server.close()


# What it is started with


def test_a_launchers_variables_do_not_reach_the_server() -> None:
    before = {
        "RANK": "3", "WORLD_SIZE": "8", "LOCAL_RANK": "3", "MASTER_ADDR": "node", "MASTER_PORT": "29500",
        "TORCHELASTIC_RUN_ID": "none", "OMP_NUM_THREADS": "1", "ACCELERATE_USE_FSDP": "true", "VLLM_PORT": "1",
        "VLLM_DP_RANK": "2", "SLURM_PROCID": "3", "OMPI_COMM_WORLD_RANK": "3", "CUDA_VISIBLE_DEVICES": "0,1",
        "PATH": "/bin", "HF_HOME": "/models", "VLLM_LOGGING_LEVEL": "DEBUG", "SLURM_JOB_ID": "7",
    }  # fmt: skip
    after = serve_environment(LocalServerSettings(model="m"), "secret", before)
    kept = ("PATH", "HF_HOME", "VLLM_LOGGING_LEVEL", "SLURM_JOB_ID", "CUDA_VISIBLE_DEVICES")
    assert {name: after.get(name) for name in before} == {n: before[n] if n in kept else None for n in before}
    assert after["VLLM_API_KEY"] == "secret"


@pytest.mark.parametrize(
    ("devices", "before", "after"),
    [
        ((2, 3), "0", "2,3"),
        (None, "0,1", "0,1"),
        (None, "", None),
        (None, None, None),
    ],
    ids=["chosen", "inherited", "hidden-from-a-reward-process", "all"],
)
def test_devices(devices: tuple[int, ...] | None, before: str | None, after: str | None) -> None:
    environment = {} if before is None else {"CUDA_VISIBLE_DEVICES": before}
    found = serve_environment(LocalServerSettings(model="m", devices=devices), "k", environment)
    assert found.get("CUDA_VISIBLE_DEVICES") == after


def test_a_users_own_thread_count_stands() -> None:
    assert (
        serve_environment(LocalServerSettings(model="m"), "k", {"OMP_NUM_THREADS": "1"})["OMP_NUM_THREADS"]
        == "1"
    )


def test_command_line() -> None:
    settings = LocalServerSettings(
        model="ORG/M",
        dtype="bfloat16",
        revision="abc",
        adapter="ORG/A",
        tensor_parallel_size=2,
        data_parallel_size=4,
        context_tokens=4096,
        options={"hf_token": "secret"},
    )
    order = json.loads(settings.as_order())
    command = flags({**order["arguments"], **order["frontend"]})
    for flag in (
        "--dtype=bfloat16",
        "--revision=abc",
        "--tensor-parallel-size=2",
        "--data-parallel-size=4",
        "--max-model-len=4096",
        "--enable-prompt-tokens-details",
        "--no-use-tqdm-on-load",
    ):
        assert flag in command
    assert command[command.index("--lora-modules") + 1] == "judge=ORG/A"
    assert settings.request_model == "judge"
    assert order["model"] == "ORG/M"
    assert order["options"] == {"hf_token": "secret"}
    assert order["cpu_defaults"] == {"block_size": 32, "kv_cache_memory_bytes": 4 << 30}


def test_arguments_become_flags() -> None:
    arguments = {
        "enforce_eager": False,
        "trust_remote_code": True,
        "hf_overrides": {"a": [1, 2]},
        "kv_cache_dtype": None,
        "compilation_config": "-O1",
        "stop": ["a", "b"],
    }
    assert flags(arguments) == [
        "--no-enforce-eager", "--trust-remote-code", "--hf-overrides", '{"a": [1, 2]}', "--compilation-config=-O1",
        "--stop", "a", "b",
    ]  # fmt: skip


def test_another_environments_python_gets_none_of_this_ones_paths(tmp_path: Path) -> None:
    python = tmp_path / "bin" / "python"
    before = {"PATH": "/bin", "PYTHONPATH": "/here", "PYTHONHOME": "/here"}
    after = serve_environment(LocalServerSettings(model="m", python=str(python)), "k", before)
    assert after["PATH"] == f"{python.parent}:/bin"
    assert not after.keys() & {"PYTHONPATH", "PYTHONHOME"}
    assert serve_environment(LocalServerSettings(model="m"), "k", before).items() >= before.items()


def test_a_python_without_vllm_is_named(tmp_path: Path) -> None:
    """It needs no package of ours either: the script that runs there is the standard library's."""
    settings = LocalServerSettings(model=str(tmp_path), python=bare_python(tmp_path / "other"))
    with pytest.raises(ConfigError, match=r"vLLM cannot be imported by .*/other/bin/python") as raised:
        share_server(
            JudgeFolder("other"), lambda: serve_order(settings), start_seconds=60, report=lambda _: None
        )
    assert "python=PATH" in raised.value.hint


@pytest.mark.parametrize(
    ("given", "devices", "message"),
    [
        ({"tensor_parallel_size": 0}, None, "below 1"),
        ({"memory_share": 1.5}, None, "memory_share"),
        ({"tensor_parallel_size": 2}, (0,), "not 2 different"),
        ({"data_parallel_size": 2}, (1, 1), "not 2 different"),
        ({"port": 8000}, None, "serve-judge --port"),
        ({"api_key": "x"}, None, "at random"),
        ({"sleep": True}, None, "only the engine 'vllm' sleeps"),
        ({"python": "/no/such/python"}, None, "not a program"),
    ],
)
def test_wrong_settings(given: dict[str, Any], devices: tuple[int, ...] | None, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LocalServerSettings.from_options("no/such", given, devices)


def test_settings_that_shape_answers_are_in_the_key_and_sizes_are_not(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    plain = {"model": str(tmp_path), "dtype": "bfloat16"}
    key = LocalServerSettings(**plain).key()  # type: ignore[arg-type]
    same = [
        {"devices": (1,)},
        {"memory_share": 0.4},
        {"tensor_parallel_size": 2},
        {"options": {"enforce_eager": True}},
    ]
    other = [
        {"dtype": "float32"},
        {"context_tokens": 512},
        {"name": "second"},
        {"options": {"quantization": "fp8"}},
        {"adapter": "ORG/A"},
    ]
    assert {LocalServerSettings(**{**plain, **more}).key() for more in same} == {key}
    assert len({LocalServerSettings(**{**plain, **more}).key() for more in other} | {key}) == len(other) + 1
    (tmp_path / "config.json").write_text('{"changed": true}')
    assert LocalServerSettings(**plain).key() != key, "a folder whose content changed is another model"  # type: ignore[arg-type]


def test_settings_survive_the_way_to_the_server() -> None:
    settings = LocalServerSettings(
        model="{port} \u2028 é", devices=(1, 2), options={"hf_overrides": {"a": None}}
    )
    order = json.loads(settings.as_order())
    assert (order["model"], order["options"]) == (settings.model, settings.options)
