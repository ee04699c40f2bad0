# SPDX-License-Identifier: Apache-2.0
"""The speed benchmark's clock: every second counts once, for the innermost stage, and nothing stays timed."""

from __future__ import annotations

import importlib.util
import sys
import time
from typing import Any

import pytest

from tests.conftest import REPO

pytestmark = pytest.mark.slow

BENCHMARKS = REPO / "benchmarks"


@pytest.fixture(scope="module")
def speed() -> Any:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        spec = importlib.util.spec_from_file_location("speed", BENCHMARKS / "speed.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["speed"] = module
        spec.loader.exec_module(module)
        yield module
    finally:
        sys.path.remove(str(BENCHMARKS))


class Work:
    def outer(self) -> None:
        time.sleep(0.02)
        self.inner()
        self.inner()

    def inner(self) -> None:
        time.sleep(0.05)

    def breaks(self) -> None:
        self.inner()
        raise ValueError


@pytest.fixture
def stages(speed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    named = {"inside": ((Work, "inner"),), "rest": ((Work, "outer"), (Work, "breaks"))}
    monkeypatch.setattr(speed, "STAGES", named)


def test_seconds_count_once_for_the_innermost_stage(speed: Any, stages: None) -> None:
    clock = speed.Clock()
    start = time.perf_counter()
    with clock.running():
        Work().outer()
    took = time.perf_counter() - start
    assert 0.1 <= clock.seconds["inside"] < took
    assert 0.02 <= clock.seconds["rest"] < took - 0.1
    assert sum(clock.seconds.values()) == pytest.approx(took, abs=0.01)
    assert sum(clock.shares().values()) == pytest.approx(1.0)


def test_an_error_passes_through_and_functions_are_put_back(speed: Any, stages: None) -> None:
    before, clock = Work.inner, speed.Clock()
    with pytest.raises(ValueError), clock.running():
        Work().breaks()
    assert Work.inner is before
    assert 0.05 <= clock.seconds["inside"] < 0.5
    with clock.running():
        Work().outer()
    assert clock.seconds["inside"] >= 0.15


def test_the_functions_of_all_stages_exist(speed: Any) -> None:
    for functions in speed.STAGES.values():
        assert all(callable(getattr(owner, name)) for owner, name in functions)
