# SPDX-License-Identifier: Apache-2.0
"""The server as a process: how it starts, ends, is killed, and what it lets out."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import Result
from typer.testing import CliRunner

from autoj_reward.cli.app import app
from autoj_reward.errors import ConfigError
from autoj_reward.integrations.client import JudgeClient
from tests.conftest import REPO
from tests.serve.conftest import Process, started

pytestmark = pytest.mark.slow

TOKEN = "0123456789abcdef-token"
COMMAND = [sys.executable, "-m", "autoj_reward.cli", "serve"]
Start = Callable[..., Process]


def rate(url: str, completion: str, **options: Any) -> httpx.Response:
    body = {"rows": [{"prompt": "Q", "completion": completion}]}
    return httpx.post(f"{url}/v1/rate", json=body, timeout=30, trust_env=False, **options)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments, catch_exceptions=False)


def in_threads(n: int, work: Callable[[int], None]) -> list[threading.Thread]:
    threads = [threading.Thread(target=work, args=(k,)) for k in range(n)]
    for thread in threads:
        thread.start()
    return threads


def test_sigterm_lets_running_requests_finish(process: Start) -> None:
    server = process("--seconds", "2.0")
    answers: dict[int, int] = {}

    def ask(k: int) -> None:
        answers[k] = rate(server.url, f"completion {k}").status_code

    threads = in_threads(8, ask)
    ends = time.monotonic() + 20
    while time.monotonic() < ends:
        if "autoj_batches_under_way 1.0" in httpx.get(f"{server.url}/metrics", trust_env=False).text:
            break
    # The first batch may begin before the last client has sent its request.
    time.sleep(1.0)
    status, told = server.stop()
    for thread in threads:
        thread.join()
    assert answers == dict.fromkeys(range(8), 200)
    assert status == 0, told
    with pytest.raises(httpx.ConnectError):
        rate(server.url, "too late")


def test_draining_does_not_last_for_ever(process: Start) -> None:
    server = process("--seconds", "60", "--drain", "1")
    thread = threading.Thread(target=lambda: _quietly(lambda: rate(server.url, "slow")))
    thread.start()
    time.sleep(0.5)
    status, told = server.stop(timeout=20)
    assert status == 1
    assert "1 batches and 0 decisions did not finish in time" in told
    thread.join(20)


def _quietly(call: Callable[[], object]) -> None:
    try:
        call()
    except httpx.HTTPError:
        return


@pytest.fixture
def command(recorded: Path, tmp_path: Path) -> list[str]:
    return [
        *COMMAND,
        "--engine",
        f"recorded:{recorded}",
        "--port",
        "0",
        "--cache",
        str(tmp_path / "c.sqlite"),
    ]


def test_the_command_serves_and_no_secret_is_in_what_it_writes(command: list[str]) -> None:
    server = started([*command, "--host", "0.0.0.0"], AUTOJ_REWARD_TOKEN=TOKEN)
    try:
        url = server.url.replace("0.0.0.0", "127.0.0.1")
        assert rate(url, "Paris secret-completion").status_code == 401
        assert rate(url, "Paris", headers={"Authorization": "Bearer wrong-secret-token"}).status_code == 401
        right = rate(url, "Paris secret-completion", headers={"Authorization": f"Bearer {TOKEN}"})
        assert right.json()["rows"][0]["reward"] == pytest.approx(8.6)
        assert rate(url, "Paris", auth=("any", TOKEN)).status_code == 200
        broken = httpx.post(
            f"{url}/v1/rate",
            content=b'{"secret-body',
            headers={"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"},
            trust_env=False,
        )
        assert broken.status_code == 422
    finally:
        status, told = server.stop()
    assert status == 0
    assert "ready after" in told
    assert "ended" in told
    assert "secret" not in told
    assert TOKEN not in told


def test_an_address_that_others_reach_is_refused_without_a_token(
    recorded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AUTOJ_REWARD_TOKEN", raising=False)
    for host in ("0.0.0.0", "::", "192.168.1.10"):
        with pytest.raises(ConfigError, match="no token is set"):
            run("serve", "--host", host, "--engine", f"recorded:{recorded}")


def test_a_port_that_is_taken_is_said_before_the_judge_is_loaded(recorded: Path, process: Start) -> None:
    port = process().url.rpartition(":")[2]
    with pytest.raises(ConfigError, match="cannot listen"):
        run("serve", "--port", port, "--engine", f"recorded:{recorded}", "--no-cache")


def test_a_judge_that_cannot_be_loaded_ends_the_command(tmp_path: Path) -> None:
    done = subprocess.run(
        [*COMMAND, "--port", "0", "--no-cache", "--engine", "recorded:nowhere.jsonl"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert "cannot read the recorded answers" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_help_of_each_serving_command_names_the_other() -> None:
    assert "serve-judge" in run("serve", "--help").stdout
    assert "autoj-reward serve" in run("serve-judge", "--help").stdout


def test_killed_and_restarted_under_load_nothing_is_lost_and_nothing_is_paid_for_twice(
    process: Start, tmp_path: Path
) -> None:
    """Clients that retry get all answers; what was answered before the kill comes from the cache after it."""
    options = ["--cache", str(tmp_path / "cache.sqlite"), "--seconds", "0.02"]
    server = process(*options)
    port = server.url.rpartition(":")[2]
    client = JudgeClient(server.url, patience_seconds=90)
    answered: dict[str, float | None] = {}
    n, n_clients = 400, 16

    def ask(k: int) -> None:
        for i in range(k, n, n_clients):
            name = f"{'Paris' if i % 2 else 'Rome'} {i}"
            (answered[name],) = client.rewards(["Q"], [name])

    threads = in_threads(n_clients, ask)
    for kills in (1, 2):
        while len(answered) < kills * n // 4:
            time.sleep(0.005)
        os.kill(server.popen.pid, signal.SIGKILL)
        server.popen.communicate()
        before = set(answered)
        server = process(*options, "--port", port)
    for thread in threads:
        thread.join(120)
    assert len(answered) == n
    assert all(v == pytest.approx(8.6 if "Paris" in k else 5.25) for k, v in answered.items())
    # Everything answered before the last kill is in the cache: asking for it again asks no engine.
    metrics = httpx.get(f"{server.url}/metrics", trust_env=False).text
    asked = next(x for x in metrics.splitlines() if x.startswith('autoj_answers_total{source="engine"}'))
    client.rewards(["Q"] * len(before), sorted(before))
    assert asked in httpx.get(f"{server.url}/metrics", trust_env=False).text
    assert float(asked.rpartition(" ")[2]) <= n - len(before)
    client.close()


def test_the_short_load() -> None:
    """A fiftieth of what benchmarks/serve_load.py does; its figures want an idle machine, its counts do not."""
    done = subprocess.run(
        [sys.executable, str(REPO / "benchmarks" / "serve_load.py"), "--requests", "4000", "--dry"],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    steady, crowd = figures["steady"], figures["past_the_queue"]
    assert steady["statuses"] == {"200": 4000}
    assert crowd["statuses"]["429"] > 0
    assert sum(crowd["statuses"].values()) == crowd["requests"]
    assert steady["memory_mb_at_the_end"] - steady["memory_mb_after_a_fifth"] < 20
    # Requests of many clients share batches, also where other work holds the clients up.
    assert steady["mean_batch"] > 8
