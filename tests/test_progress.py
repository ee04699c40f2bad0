# SPDX-License-Identifier: Apache-2.0
"""What progress says, on a clock that the test moves."""

from __future__ import annotations

import sys
import types

import pytest

from autoj_reward import progress
from autoj_reward.progress import RunProgress


class Clock:
    """Stands for the `time` module of the progress display."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(progress, "time", made)
    return made


def test_each_phase_is_said_and_loading_does_not_count_in_the_rate(clock: Clock) -> None:
    """Loading, the first judgments, then a rate without the loading and without an earlier run's rows."""
    loaded = False
    shown = RunProgress("rate", 100, status=lambda: "20% from the cache", loaded=lambda: loaded)
    clock.now += 30
    shown.poll()
    assert shown.state() == "loading the judge, 30 s"
    loaded = True
    shown.poll()
    shown.skip(40)
    clock.now += 5
    assert shown.state() == "waiting for the first of 60, 5.0 s"
    shown.advance(10)
    clock.now += 5
    assert shown.state() == "50 of 100, 1.0/s, about 50 s left, 20% from the cache"
    assert (shown.seconds, shown.loading_seconds) == (40.0, 30.0)


def test_a_line_is_written_every_15_seconds_until_the_end(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = RunProgress("rate", 4, loaded=lambda: False)
    for _ in range(40):
        clock.now += 1
        shown.poll()
    assert capsys.readouterr().err.splitlines() == [
        "rate: loading the judge, 16 s",
        "rate: loading the judge, 32 s",
    ]
    shown.advance(4)
    clock.now += 60
    shown.poll()
    assert capsys.readouterr().err == ""


def test_quiet_shows_nothing(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with RunProgress("rate", 4, quiet=True) as shown:
        clock.now += 60
        shown.poll()
        shown.advance(1)
    assert capsys.readouterr().err == ""


def test_a_notebook_has_one_line_that_changes(
    clock: Clock, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ipykernel", types.ModuleType("ipykernel"))
    with RunProgress("label", 4) as shown:
        shown.advance(2)
        clock.now += 2
        shown.poll()
        shown.advance(2)
    lines = capsys.readouterr().err
    assert lines.count("\n") == 1
    assert "\rlabel: 2 of 4, 1.0/s, about 2.0 s left" in lines
    assert lines.rstrip().endswith("label: 4 done")
