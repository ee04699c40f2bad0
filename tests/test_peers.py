# SPDX-License-Identifier: Apache-2.0
"""The peer benchmark's own parts: a run that can be resumed, rows that are never mixed, memory that is measured."""

from __future__ import annotations

import ast
import http.server
import importlib.util
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest

from tests.conftest import REPO

pytestmark = pytest.mark.slow

BENCHMARKS = REPO / "benchmarks"


@pytest.fixture(scope="module")
def peers() -> Any:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        yield load("peers", BENCHMARKS / "peers.py")
    finally:
        sys.path.remove(str(BENCHMARKS))


def load(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


RUNNER = """
import time
STARTED = time.perf_counter()
from common import measure, read_task, rating_of, versions_of
task = read_task()
held = bytearray(80 << 20)
def judge(indices):
    time.sleep(0.01 * len(indices))
    if task.get("fail"):
        raise SystemExit("it broke")
    return [{"rating": rating_of(task["bodies"][i]), "tokens": 3, "requests": 1} for i in indices]
measure(judge, task, started=STARTED, unreadable="None", versions=versions_of("numpy", "no-such-package"))
time.sleep(0.5)
"""
TASK = {
    "bodies": ["only the start", "[[7]]", "none", "x [[ 2.5 ]]"],
    "pairs": [],
    "max_new_tokens": 4,
    "context": 64,
    "vllm_options": {},
}


@pytest.fixture
def runner(peers: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A peer of our own, run like every other one: as a process, by its contract."""
    (tmp_path / "runners").mkdir()
    common = (BENCHMARKS / "peer_runners" / "common.py").read_text()
    (tmp_path / "runners" / "common.py").write_text(common)
    (tmp_path / "runners" / "tiny.py").write_text(RUNNER)
    monkeypatch.setattr(peers, "RUNNERS", tmp_path / "runners")
    return peers.Peer(script="tiny.py")


def test_a_peer_is_run_and_measured(peers: Any, runner: Any, tmp_path: Path) -> None:
    row = peers.run_peer(runner, TASK, tmp_path, 60)
    assert (row["n"], row["n_unreadable"], row["tokens"], row["same_when_warm"]) == (3, 1, 9, 3)
    assert row["requests"] == 3
    assert row["per_second"] == pytest.approx(3 / row["cold_seconds"])
    assert 0.02 < row["cold_seconds"] < 10
    assert row["peak_mib"] > 80
    assert "no-such-package" not in row["versions"]


class CountingServer(http.server.BaseHTTPRequestHandler):
    """vLLM's counters, and one request for each POST; those about row 0 are refused."""

    counts: ClassVar[dict[str, int]] = {"answered": 0, "refused": 0}

    def do_GET(self) -> None:
        lines = (
            "# HELP vllm:request_success_total Requests",
            f'vllm:request_success_total{{finished_reason="stop"}} {self.counts["answered"]}.0',
            'vllm:request_success_total{finished_reason="length"} 0.0',
            f'vllm:prompt_tokens_total{{engine="0"}} {7 * self.counts["answered"]}.0',
            f'http_requests_total{{status="4xx"}} {self.counts["refused"]}.0',
            'http_requests_total{status="2xx"} 50.0',
        )
        self.send_response(200)
        self.end_headers()
        self.wfile.write("\n".join(lines).encode())

    def do_POST(self) -> None:
        asked = self.rfile.read(int(self.headers["content-length"])).decode()
        refused = asked == "row 0"
        self.counts["refused" if refused else "answered"] += 1
        self.send_response(400 if refused else 200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Silent."""


CACHE_RUNNER = """
import urllib.request
from common import measure_cache, read_task
task, kept = read_task(), {}
def open_cache(model, max_new_tokens):
    def judge(indices):
        for i in indices:
            key = (i, max_new_tokens)  # Not the model, as some do.
            if key not in kept:
                urllib.request.urlopen(task["url"], data=f"row {i}".encode())
            kept[key] = 7.0
        return [{"rating": kept[i, max_new_tokens]} for i in indices]
    return judge
measure_cache(open_cache, task, where="a dictionary", versions={})
"""


def test_a_cache_is_measured_by_what_reaches_the_server(peers: Any, runner: Any, tmp_path: Path) -> None:
    (tmp_path / "runners" / "tiny.py").write_text(CACHE_RUNNER)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), CountingServer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    task = {**TASK, "pairs": [["p", "c"]] * 4, "overlong": {"pair": ["p", "long"], "body": "long"}}
    task |= {"url": url, "served_model": "judge", "other_model": "other"}
    try:
        row = peers.run_peer(peers.Peer(script="tiny.py", table="caches"), task, tmp_path, 60)
    finally:
        server.shutdown()
        server.server_close()
    assert (row["n"], row["requests_cold"], row["requests_warm"]) == (3, 3, 0)
    assert (row["requests_other_model"], row["requests_more_tokens"]) == (0, 3)
    assert row["refused_row"] == ["the whole call raised HTTPError"] * 2
    assert row["refused_row_asked"] == [1, 1]
    assert row["warm_per_second"] > 0
    assert "per_second" not in row


PICK_RUNNER = """
import time
STARTED = time.perf_counter()
import urllib.request
from common import measure_picks, read_task
task, spent = read_task(), {"calls": 0}
def pick(prompt, completions):
    urllib.request.urlopen(task["url"], data=prompt.encode())
    spent["calls"] += 1
    return completions.index("right") if "right" in completions else None
measure_picks(pick, task, started=STARTED, how="by its word", versions={}, told=lambda: dict(spent))
"""


def test_picks_are_measured_by_their_gold_and_what_the_server_counts(
    peers: Any, runner: Any, tmp_path: Path
) -> None:
    """The first group counts for nothing, and a group without a pick has the mean of its gold."""
    (tmp_path / "runners" / "tiny.py").write_text(PICK_RUNNER)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), CountingServer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    right = {"prompt": "q", "completions": ["wrong", "right"], "gold": [0.0, 1.0]}
    neither = {"prompt": "q", "completions": ["a", "b", "c"], "gold": [0.0, 0.0, 1.0]}
    task = {
        **TASK,
        "groups": [neither, right, right, neither],
        "url": f"http://127.0.0.1:{server.server_port}",
    }
    try:
        row = peers.run_peer(peers.Peer(script="tiny.py", table="picks"), task, tmp_path, 60)
    finally:
        server.shutdown()
        server.server_close()
    assert (row["n"], row["picks"], row["n_without_pick"]) == (3, [1, 1, None], 1)
    assert row["gold"] == pytest.approx((1 + 1 + 1 / 3) / 3)
    assert row["gold_of_any"] == pytest.approx((0.5 + 0.5 + 1 / 3) / 3)
    assert row["gold_of_best"] == 1.0
    assert (row["requests"], row["prompt_tokens"], row["told"]) == (3, 21, {"calls": 3})
    (shown,) = peers.table_of({"our best_of_n": row}, "picks")
    assert (shown["gold"], shown["how"]) == (row["gold"], "by its word")


def test_a_peer_that_fails_says_why(peers: Any, runner: Any, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="it broke"):
        peers.run_peer(runner, {**TASK, "fail": True}, tmp_path, 60)


def test_a_peer_that_hangs_is_ended(peers: Any, runner: Any, tmp_path: Path) -> None:
    before = peers.family(os.getpid())
    with pytest.raises(RuntimeError, match="not done within"):
        peers.run_peer(runner, {**TASK, "bodies": ["x"] * 5000}, tmp_path, 1.0)
    assert peers.family(os.getpid()) == before


def test_rows_are_kept_and_those_of_another_task_are_not_taken(peers: Any, tmp_path: Path) -> None:
    rows = {
        "vllm.LLM": {"per_second": 4.0},
        "ours, critique": {"per_second": 8.0},
        "distilabel": {"error": "x"},
    }
    peers.keep(rows, {"judge": "mini", "n": 3}, tmp_path / "peers.json")
    assert peers.kept_rows(tmp_path / "peers.json", {"judge": "mini", "n": 3}) == rows
    assert peers.kept_rows(tmp_path / "peers.json", {"judge": "mini", "n": 4}) == {}
    assert json.loads((tmp_path / "peers.json").read_text())["ratios"] == {"vllm.LLM": 2.0}


def test_peers_are_compared_on_their_own_kind_of_engine(peers: Any) -> None:
    rows = {
        "vllm.LLM": {"per_second": 4.0}, "distilabel": {"per_second": 1.0}, "ours, critique": {"per_second": 8.0},
        "ours on that server": {"per_second": 3.0}, "transformers pipeline": {"error": "no memory"},
    }  # fmt: skip
    assert peers.ratios(rows) == {"vllm.LLM": 2.0, "distilabel": 3.0}
    table = {row["peer"]: row for row in peers.table_of(rows)}
    assert table["transformers pipeline"]["unreadable"] == "no memory"


def test_caches_have_a_table_of_their_own(peers: Any) -> None:
    rows = {"vllm.LLM": {"per_second": 4.0}, "our cache": {"warm_per_second": 9.0, "where": "a file"}}
    assert [row["peer"] for row in peers.table_of(rows)] == ["vllm.LLM"]
    (cache,) = peers.table_of(rows, "caches")
    assert (cache["peer"], cache["warm_per_second"], cache["where"]) == ("our cache", 9.0, "a file")
    assert peers.ratios(rows) == {}


def test_the_family_of_a_process_is_found(peers: Any) -> None:
    parent = subprocess.Popen(["sh", "-c", "sleep 30 & sleep 30"])
    try:
        time.sleep(0.3)
        assert len(peers.family(parent.pid)) >= 3
    finally:
        for pid in reversed(peers.family(parent.pid)):
            subprocess.run(["kill", str(pid)], check=False)
        parent.wait()


@pytest.mark.parametrize(
    ("text", "rating"), [("Rating: [[7]]", 7.0), ("[[ 2.5 ]] [[3]]", 2.5), ("[[x]]", None), ("", None)]
)
def test_the_regular_expression_that_people_write(text: str, rating: float | None) -> None:
    common = load("peer_common", BENCHMARKS / "peer_runners" / "common.py")
    assert common.rating_of(text) == rating


def test_every_peer_has_a_runner_that_imports_only_what_its_environment_has(peers: Any) -> None:
    for name, peer in peers.PEERS.items():
        tree = ast.parse((BENCHMARKS / "peer_runners" / peer.script).read_text())
        imported = {
            n.module.split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module
        }
        assert "common" in imported, name
        assert not (peer.packages and "autoj_reward" in imported), name
        assert all("==" in p or p == "requests" for p in peer.packages), name
