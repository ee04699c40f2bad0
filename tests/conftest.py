# SPDX-License-Identifier: Apache-2.0
"""What every test may use: the data folder, the embedded judge, and hostile text."""

from __future__ import annotations

import importlib.util
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from autoj_reward.engines.transformers.engine import TransformersEngine

# A model or an adapter that is not on this machine is missing at once, without tries to reach the hub.
os.environ.setdefault("HF_HUB_OFFLINE", "1")

# A shell starts background jobs with Ctrl-C ignored, and the commands that tests interrupt would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

REPO = Path(__file__).resolve().parent.parent

# Fixtures that start a process for each test, a browser or vLLM: tests that use them are slow.
SLOW_FIXTURES = {"browser", "process", "vllm_float32", "vllm_serve"}


def needs(package: str, *, extra: str) -> pytest.MarkDecorator:
    """Skip where a package is not installed, without importing it, which may take seconds."""
    missing = importlib.util.find_spec(package) is None
    return pytest.mark.skipif(missing, reason=f"needs {package}: the extra {extra}")


def examples(n: int) -> int:
    """How many examples a Hypothesis test takes.

    All n in `tests/all_examples`, a quarter of them in a whole run, a tenth in one without the slow tests.
    """
    return n // {"all": 1, "few": 10}.get(os.environ.get("AUTOJ_REWARD_EXAMPLES", ""), 4)


def pytest_configure(config: pytest.Config) -> None:
    if "not slow" in config.option.markexpr:
        os.environ.setdefault("AUTOJ_REWARD_EXAMPLES", "few")
    # An example may take as long as a busy machine needs: tests time nothing.
    settings.register_profile("untimed", deadline=None)
    settings.load_profile("untimed")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that start vLLM or run PPO are slow too: `-m "not slow"` replaces the default `-m "not vllm"`."""
    for item in items:
        marks = {mark.name for mark in item.iter_markers()}
        if marks & {"vllm", "ppo"} or SLOW_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker("slow")


@pytest.fixture(scope="session")
def data() -> Path:
    """Folder of the real data; tests that need it skip without it."""
    for folder in (os.environ.get("AUTOJ_REWARD_DATA"), REPO.parent / "shared" / "data"):
        if folder and Path(folder).is_dir():
            return Path(folder)
    pytest.skip("needs the data files: put them in ../shared/data or name their folder in $AUTOJ_REWARD_DATA")


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Judgments of tests go to a cache of their own; the converted weights are shared with the user's."""
    os.environ["AUTOJ_REWARD_CACHE"] = str(tmp_path_factory.mktemp("cache") / "judgments.sqlite")


@pytest.fixture(scope="session")
def mini_float32() -> Iterator[TransformersEngine]:
    """The embedded judge's model in float32, once for the whole session.

    Closing it does nothing: a judge closes its engine, and further tests need this one.
    """
    from autoj_reward.engines.checkpoint.embedded import EMBEDDED_MODEL
    from autoj_reward.engines.transformers.engine import TransformersEngine

    engine = TransformersEngine(EMBEDDED_MODEL, dtype="float32")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "close", lambda: None)
        yield engine
    engine.close()
