# SPDX-License-Identifier: Apache-2.0
"""The speed benchmark's clock: every second counts once, for the innermost stage, and nothing stays timed."""

from __future__ import annotations

import importlib.util
import sys
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
    """Work of known length, on a clock that only it moves."""

    now = 0.0

    def outer(self) -> None:
        Work.now += 2.0
        self.inner()
        self.inner()

    def inner(self) -> None:
        Work.now += 5.0

    def breaks(self) -> None:
        self.inner()
        raise ValueError


@pytest.fixture
def clock(speed: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    named = {"inside": ((Work, "inner"),), "rest": ((Work, "outer"), (Work, "breaks"))}
    monkeypatch.setattr(speed, "STAGES", named)
    monkeypatch.setattr(speed.time, "perf_counter", lambda: Work.now)
    return speed.Clock()


def test_seconds_count_once_for_the_innermost_stage(clock: Any) -> None:
    with clock.running():
        Work().outer()
    assert clock.seconds == {"inside": 10.0, "rest": 2.0}
    assert clock.shares() == pytest.approx({"inside": 10 / 12, "rest": 2 / 12})


def test_an_error_passes_through_and_functions_are_put_back(clock: Any) -> None:
    before = Work.inner
    with pytest.raises(ValueError), clock.running():
        Work().breaks()
    assert Work.inner is before
    assert clock.seconds == {"inside": 5.0, "rest": 0.0}
    with clock.running():
        Work().outer()
    assert clock.seconds["inside"] == 15.0


def test_the_functions_of_all_stages_exist(speed: Any) -> None:
    for functions in speed.STAGES.values():
        assert all(callable(getattr(owner, name)) for owner, name in functions)
