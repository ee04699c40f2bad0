# SPDX-License-Identifier: Apache-2.0
"""The monitor on made runs: each way of hacking raises its alarm, and an honest run none."""

from __future__ import annotations

import math
import pickle
import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoj_reward.errors import ConfigError
from autoj_reward.monitor.monitor import (
    Alarm,
    Monitor,
    Scored,
    Thresholds,
    distinct_bigrams,
    rank_correlation,
    window_of,
)
from tests.hostile import hostile_text

WORDS = [
    a + b
    for a in ["ba", "ke", "li", "mo", "nu", "pra", "sto", "tri", "vel"]
    for b in ["dan", "fil", "gor", "hem", "jun", "kat", "lop"]
]


def honest(n: int, seed: int = 0) -> list[tuple[float, str, tuple[str, ...]]]:
    draw = random.Random(seed)
    made = []
    for _ in range(n):
        text = " ".join(draw.choices(WORDS, k=draw.randint(20, 60)))
        made.append((draw.gauss(5, 1.5), text, ("verdict",) if draw.random() < 0.01 else ()))
    return made


Made = list[tuple[float, str, tuple[str, ...]]]


def run(late: Callable[[Made], Made], **thresholds: float | None) -> list[Alarm]:
    """Alarms of a run that is honest for two windows and changed afterwards."""
    monitor = Monitor(window=128, thresholds=Thresholds(**thresholds))  # type: ignore[arg-type]
    found = []
    for step, items in enumerate(
        [honest(128, 1), honest(128, 2), late(honest(128, 3)), late(honest(128, 4))]
    ):
        rewards, texts, flags = zip(*items, strict=True)
        found += monitor.add(list(rewards), list(texts), flags=list(flags), step=step)
    assert len(monitor.windows) == 4
    return found


HACKS: dict[str, Callable[[Made], Made]] = {
    "length_correlation": lambda items: [(len(t) / 60 + random.Random(len(t)).gauss(0, 0.3), t, f) for _, t, f in items],
    "length_growth": lambda items: [(r, t * 3, f) for r, t, f in items],
    "distinct_drop": lambda items: [(r, " ".join(t.split()[:4]) + " as a matter of fact it is so " * 6, f) for r, t, f in items],
    "duplicates": lambda items: [(r, items[i % 64][1], f) for i, (r, _, f) in enumerate(items)],
    "flagged": lambda items: [(r, t, ("verdict",) if i % 10 == 0 else f) for i, (r, t, f) in enumerate(items)],
    "failed": lambda items: [(math.nan if i % 4 == 0 else r, t, f) for i, (r, t, f) in enumerate(items)],
    "spread": lambda items: [(9.0 + r / 1000, t, f) for r, t, f in items],
}  # fmt: skip


@pytest.mark.parametrize("name", HACKS)
def test_a_hack_raises_its_alarm_and_a_switched_off_one_does_not(name: str) -> None:
    found = run(HACKS[name])
    assert {a.step for a in found if a.name == name} == {2, 3}
    assert all(str(a).startswith(f"step {a.step}: ") for a in found)
    assert name not in {a.name for a in run(HACKS[name], **{name: None})}


def test_an_honest_run_is_quiet() -> None:
    assert run(lambda items: items) == []


def test_a_correlation_that_was_there_from_the_start_is_no_drift() -> None:
    monitor = Monitor(window=128)
    found = []
    for seed in range(3):
        items = HACKS["length_correlation"](honest(128, seed))
        found += monitor.add([r for r, *_ in items], [t for _, t, _ in items])
    assert found == []


def test_windows_do_not_depend_on_how_completions_come_in() -> None:
    items = honest(400)
    one, many = Monitor(window=64), Monitor(window=64)
    one.add([r for r, *_ in items], [t for _, t, _ in items], flags=[f for *_, f in items])
    for r, t, f in items:
        many.add([r], [[{"role": "assistant", "content": t}]], flags=[f])
    one.finish()
    many.finish()
    assert one.windows == many.windows
    assert [w.n for w in one.windows] == [64] * 6
    assert pickle.loads(pickle.dumps(one)).windows == one.windows


def test_a_short_log_is_one_window() -> None:
    monitor = Monitor(window=64)
    monitor.add([None, 2.0], ["a", "b"])
    monitor.finish()
    (window,) = monitor.windows
    assert (window.n, window.failed, window.reward, window.flagged) == (2, 0.5, 2.0, None)


@given(
    items=st.lists(
        st.builds(
            Scored,
            st.one_of(st.none(), st.floats(-10, 10)),
            hostile_text,
            st.sampled_from([None, (), ("verdict",)]),
        ),
        min_size=1,
        max_size=20,
    )
)
def test_measures_stay_in_their_ranges(items: list[Scored]) -> None:
    w = window_of(items)
    for share in (w.failed, w.duplicates, w.flagged, w.distinct):
        assert share is None or 0.0 <= share <= 1.0
    assert w.length_correlation is None or -1.0 - 1e-9 <= w.length_correlation <= 1.0 + 1e-9


@pytest.mark.parametrize(
    ("first", "second", "value"),
    [([1, 2, 3], [10, 20, 90], 1.0), ([1, 2, 3], [3, 2, 1], -1.0), ([1, 1, 1], [1, 2, 3], None), ([1, 2], [1, 2], None),
     ([1, 2, 2, 3], [1, 2, 3, 2], 0.5)],
)  # fmt: skip
def test_rank_correlation(first: list[float], second: list[float], value: float | None) -> None:
    assert rank_correlation(first, second) == (None if value is None else pytest.approx(value))


@pytest.mark.parametrize(
    ("texts", "value"),
    [(["a b c"], 1.0), (["a b", "a b"], 0.5), (["a"], None), ([], None), (["我们很好我们很好"], 4 / 7)],
)
def test_distinct_bigrams(texts: list[str], value: float | None) -> None:
    assert distinct_bigrams(texts) == value


def test_wrong_use_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least 8"):
        Monitor(window=2)
    with pytest.raises(ConfigError, match="another number"):
        Monitor().add([1.0], ["a", "b"])
    with pytest.raises(ConfigError, match="is not a number"):
        Thresholds(flagged="much")  # type: ignore[arg-type]
