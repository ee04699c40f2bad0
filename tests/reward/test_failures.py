# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoj_reward import ConfigError, TooManyFailures
from autoj_reward.reward.failures import (
    FailureLimit,
    RunningMean,
    decide_pairs,
    fill_group_means,
)
from autoj_reward.reward.groups import Item
from autoj_reward.reward.metrics import CallReport, JudgedRow, ReportLog, correlation, mean_metrics


def test_group_means() -> None:
    rewards = [1.0, None, 4.0, None, None, -1.0]
    assert fill_group_means(rewards, [[0, 1, 2], [3, 4], [5]]) == [1.0, 2.5, 4.0, None, None, -1.0]


some = st.one_of(st.none(), st.sampled_from([-1.0, 0.0, 0.25]))


@given(st.lists(some, min_size=2, max_size=12).filter(lambda r: len(r) > 1))
def test_a_groups_mean_stays(rewards: list[float | None]) -> None:
    known = [r for r in rewards if r is not None]
    filled = fill_group_means(rewards, [list(range(len(rewards)))])
    if known:
        assert sum(r for r in filled if r is not None) / len(filled) == pytest.approx(sum(known) / len(known))


def pair(first: str, second: str, prompt: str = "P") -> list[Item]:
    return [Item(prompt=prompt, completion=c) for c in (first, second)]


@given(some, some, st.text(max_size=5), st.text(max_size=5))
def test_the_hash(first: float | None, second: float | None, a: str, b: str) -> None:
    filled, n_failed, n_tied = decide_pairs(pair(a, b), [first, second], step=0.01, middle=0.0)
    swapped, *_ = decide_pairs(pair(b, a), [second, first], step=0.01, middle=0.0)
    assert None not in filled
    if first is not None and second is not None and first != second:
        assert filled == [first, second]
    else:
        assert n_failed == (first is None or second is None)
        assert n_tied == (n_failed == 0 and a != b)
        assert abs(filled[0] - filled[1]) == pytest.approx(0.01)
        known = [r for r in (first, second) if r is not None]
        assert sum(filled) / 2 == pytest.approx(known[0] if known else 0.0)
    if a != b:
        # Which of the two wins does not depend on which stands first.
        assert (filled[0] > filled[1]) == (swapped[1] > swapped[0])


def test_the_hash_is_fair() -> None:
    """Equal fills would make the first completion chosen every time."""
    items = [Item(prompt=str(n % 400), completion=f"{n}") for n in range(800)]
    filled, n_failed, _ = decide_pairs(items, [None] * 800, step=0.1, middle=0.0)
    firsts = sum(filled[i] > filled[i + 400] for i in range(400))
    assert n_failed == 400
    assert 150 < firsts < 250


def test_pairs_of_two_prompts_are_an_error() -> None:
    items = [*pair("a", "b"), *pair("c", "d", prompt="Q")]
    with pytest.raises(ConfigError, match="must be a pair of one prompt"):
        decide_pairs(items, [None] * 4, step=0.1, middle=0.0)
    with pytest.raises(ConfigError, match="must be a pair"):
        decide_pairs([*pair("a", "b"), items[0]], [None] * 3, step=0.1, middle=0.0)


def test_running_mean() -> None:
    mean = RunningMean(0.0)
    assert mean.fill([None]) == [0.0]
    assert mean.fill([1.0, None, 3.0]) == [1.0, 2.0, 3.0]
    assert mean.fill([None, None]) == [2.0, 2.0]


def test_the_limit_looks_at_the_latest() -> None:
    limit = FailureLimit(0.25)
    for _ in range(20):
        limit.count(32, {})
    limit.count(32, {"truncated": 16})
    # An average over the whole run would let a judge that died go on for long.
    with pytest.raises(TooManyFailures, match=r"32 of the last 64 .*20 truncated, 12 engine.*over 25%"):
        limit.count(32, {"truncated": 4, "engine": 12})


def test_the_limit_needs_some_judgments() -> None:
    limit = FailureLimit(0.0)
    for _ in range(7):
        limit.count(8, {"engine": 8})
    with pytest.raises(TooManyFailures):
        limit.count(8, {})
    with pytest.raises(ConfigError):
        FailureLimit(1.5)


def test_rows_of_old_reports_are_let_go() -> None:
    """A run without a callback once kept a thousand calls' texts."""
    log = ReportLog(n_reports=4, n_rows=5)
    row = JudgedRow(prompt="P", completion="C", critique=None, raw=1.0, reward=1.0, reason=None)
    for n in range(6):
        log.add(CallReport(rows=(row,) * 2, metrics={"seconds": float(n)}))
    kept = log.take()
    assert [r.metrics["seconds"] for r in kept] == [2.0, 3.0, 4.0, 5.0]
    assert [len(r.rows) for r in kept] == [0, 0, 2, 2]
    log.add(CallReport(rows=(row,) * 9))
    assert [len(r.rows) for r in log.take()] == [9]
    assert mean_metrics(kept)["seconds"] == 14.0


def test_correlation() -> None:
    assert correlation([1, 2, 3], [2, 4, 6]) == pytest.approx(1.0)
    assert correlation([1, 2, 3], [6, 4, 2]) == pytest.approx(-1.0)
    assert correlation([1, 2, 3], [5, 5, 5]) is None
    assert correlation([1, 2], [1, 2]) is None
