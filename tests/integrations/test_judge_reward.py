# SPDX-License-Identifier: Apache-2.0
"""The reward by itself, with an engine that judges by what completions say of themselves."""

from __future__ import annotations

import asyncio
import inspect
import pickle
import re
import threading
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from autoj_reward import (
    ConfigError,
    EngineUnavailable,
    Judge,
    JudgeReward,
    Ring,
    TooManyFailures,
    async_reward,
    rank,
)
from autoj_reward.reward.resolution import engine_resolution, measure_resolution
from autoj_reward.testing import ScriptedEngine, rendered_text
from autoj_reward.types import JudgeInput, Request
from tests.conftest import REPO
from tests.quality import QualityEngine, refusing_engine, win_prob


def judge(engine: Any = None, name: str = "mini", **options: Any) -> Judge:
    return Judge.load(name, engine=engine or QualityEngine(), **{"mode": "direct", **options})


def reward(engine: Any = None, **options: Any) -> JudgeReward:
    return JudgeReward(judge(engine), **options)


class Log:
    """What a trainer's log functions were given."""

    def __init__(self) -> None:
        self.metrics: dict[str, float] = {}
        self.extra: dict[str, list[Any]] = defaultdict(list)

    def __call__(self, reward: Any, prompts: Any, completions: Any, **columns: Any) -> Any:
        return reward(
            prompts=prompts, completions=completions, completion_ids=[[1] * len(str(c)) for c in completions],
            trainer_state=None, log_metric=self.metrics.__setitem__,
            log_extra=lambda name, values: self.extra[name].extend(values), **columns,
        )  # fmt: skip


def centred(rating: float) -> float:
    return (rating - 5.5) / 4.5


PROMPTS = ["P"] * 4
COMPLETIONS = ["q=4", "q=7", "mumble", "q=10"]


def test_ratings_of_a_group() -> None:
    log = Log()
    rewards = log(reward(), PROMPTS, COMPLETIONS)
    mean = (centred(4) + centred(7) + centred(10)) / 3
    assert rewards == pytest.approx([centred(4), centred(7), mean, centred(10)])
    assert log.metrics["judge_rating/failure_share"] == 0.25
    assert log.metrics["judge_rating/failures/low_mass"] == 0.25
    assert log.metrics["judge_rating/flat_group_share"] == 0.0
    assert log.metrics["judge_rating/incomplete_groups"] == 0.0
    assert log.metrics["judge_rating/seconds"] >= 0.0
    # 3, 3 and 4 characters for 4, 7 and 10.
    assert log.metrics["judge_rating/length_correlation"] == pytest.approx(0.866, abs=1e-3)
    assert "judge_rating/cache_hit_share" not in log.metrics
    assert log.extra["judge_rating/raw"] == [4.0, 7.0, None, 10.0]
    assert log.extra["judge_rating/failure"] == [None, None, "low_mass", None]
    assert "judge_rating/critique" not in log.extra


def test_the_page_lists_what_is_logged(tmp_path: Path) -> None:
    """Calls with failures, with a cache, in critique mode, and with what OnlineDPO needs."""
    logged, columns = set[str](), set[str]()
    for asked in (
        reward(trainer="online_dpo"),
        JudgeReward(judge(mode="critique", cache=tmp_path / "cache.sqlite"), trainer="grpo"),
    ):
        log = Log()
        log(asked, PROMPTS, COMPLETIONS)
        names = (name.removeprefix("judge_rating/") for name in log.metrics)
        logged |= {"failures/REASON" if name.startswith("failures/") else name for name in names}
        columns |= set(log.extra)
    page = (REPO / "docs" / "trl.md").read_text(encoding="utf-8")
    table = page.partition("## Watching")[2].partition("TRL itself logs")
    first_cells = [line.split("|")[1] for line in table[0].splitlines() if line.startswith("| `")]
    assert {name for cell in first_cells for name in re.findall("`([^`]+)`", cell)} == logged
    assert all(f"`{column}`" in table[2].partition("## ")[0] for column in columns)
    assert len(columns) == 3


@pytest.mark.parametrize(
    ("options", "third"),
    [
        ({"trainer": "grpo"}, None),
        ({"trainer": "grpo", "n_rewards": 2}, 7.0),
        ({"trainer": "rloo"}, None),
        ({"trainer": "async_grpo"}, None),
        ({"trainer": "ppo"}, 7.0),
        ({"on_failure": "none"}, None),
        ({}, 7.0),
    ],
)
def test_the_reward_of_a_failure_for_each_trainer(options: dict[str, Any], third: float | None) -> None:
    assert reward(scale="raw", **options)(PROMPTS, COMPLETIONS) == [4.0, 7.0, third, 10.0]


def test_failures_can_be_errors() -> None:
    with pytest.raises(TooManyFailures, match=r"1 of 4 .*low_mass.*'raise'"):
        reward(on_failure="raise")(PROMPTS, COMPLETIONS)


def test_a_dead_judge_stops_the_run() -> None:
    """Its failures once became the lowest rewards, and the policy learned from them for hours."""
    dead = reward(trainer="grpo")
    for _ in range(3):
        assert dead(["P"] * 16, ["down"] * 16) == [None] * 16
    with pytest.raises(TooManyFailures, match="64 engine"):
        dead(["P"] * 16, ["down"] * 16)


def test_pairs_for_online_dpo() -> None:
    log = Log()
    for_pairs = reward(trainer="online_dpo", scale="raw")
    rewards = log(
        for_pairs, ["A", "B", "C", "A", "B", "C"], ["q=3", "mumble", "q=5 a", "q=7", "q=6", "q=5 b"]
    )
    assert rewards[0] == 3.0
    assert rewards[3] == 7.0
    assert None not in rewards
    assert rewards[1] != rewards[4]
    assert rewards[1] + rewards[4] == pytest.approx(12.0)
    assert rewards[2] != rewards[5]
    assert log.metrics["judge_rating/coin_for_failures"] == 1.0
    assert log.metrics["judge_rating/coin_for_ties"] == 1.0


def test_failed_completions_are_judged_again() -> None:
    engine = QualityEngine()
    assert reward(engine, scale="raw", on_failure="raise")(["P"], ["flaky q=6"]) == [6.0]
    with pytest.raises(TooManyFailures):
        reward(scale="raw", on_failure="raise", n_retries=0)(["P"], ["flaky q=6"])
    # A direct reading without mass reads the same again.
    reward(engine, trainer="grpo")(["P"], ["mumble"])
    assert sum(n for texts, n in engine.asked.items() if "mumble" in texts) == 1


def test_pairwise() -> None:
    log = Log()
    wins = reward(mode="pairwise", scale="unit", resolution=0)
    rewards = log(wins, ["P", "Q", "P", "Q", "P"], ["q=2", "q=8", "q=3", "q=6", "q=5"])
    # What `rank` says of the same groups by the same comparisons.
    p, q = rank(judge(), ["P", "Q"], [["q=2", "q=3", "q=5"], ["q=8", "q=6"]], strategy=Ring())
    assert [rewards[0], rewards[2], rewards[4]] == pytest.approx(p.rewards)
    assert [rewards[1], rewards[3]] == pytest.approx(q.rewards)
    assert rewards[0] < rewards[2] < rewards[4]
    assert wins.__name__ == "judge_pairwise"
    assert "judge_pairwise/flat_group_share" in log.metrics


def test_a_lone_completion_is_no_failure_of_the_judge() -> None:
    log = Log()
    rewards = log(
        reward(mode="pairwise", trainer="grpo", max_failures=0.0), ["P", "Q", "Q"], ["a", "q=3", "q=4"]
    )
    assert rewards[0] is None
    assert log.metrics["judge_pairwise/incomplete_groups"] == 1.0
    assert log.metrics["judge_pairwise/failure_share"] == 0.0
    assert log.extra["judge_pairwise/failure"] == ["alone", None, None]


def test_against_a_column() -> None:
    wins = reward(mode="pairwise", schedule="baseline", baseline_column="gold", scale="unit", resolution=0)
    gold = ["q=4", [{"role": "assistant", "content": "q=6"}]]
    assert wins(["P", "P"], ["q=5", "q=5"], gold=gold) == pytest.approx([win_prob(5, 4), win_prob(5, 6)])
    with pytest.raises(ConfigError, match="no column 'gold'"):
        wins(["P"], ["q=5"], answer=["q=4"])


def test_messages_and_text_are_judged_alike() -> None:
    engine = QualityEngine()
    judged = reward(engine, scale="raw")
    as_text = judged(["Name a prime."], ["<think>hm</think>q=7"])
    as_messages = judged(
        [[{"role": "user", "content": "Name a prime."}]],
        [[{"role": "assistant", "content": "<think>hm</think>q=7"}]],
    )
    assert as_text == as_messages == [7.0]
    assert engine.asked == {("Name a prime.", "q=7"): 2}


def test_rubrics_and_references(tmp_path: Any) -> None:
    engine = refusing_engine()
    path = tmp_path / "own.toml"
    path.write_text('extends = "general"\nname = "own"\nmodel = "none"\n', encoding="utf-8")
    shown = JudgeReward(
        judge(engine, str(path)), rubric_column="standard", reference_column="answer", n_retries=0
    )
    shown(["P", "P"], ["q=7", "q=7"], standard=["be brief", None], answer=["thirteen", "13"])
    both, one = map(rendered_text, engine.inputs)
    assert "be brief" in both
    assert "thirteen" in both
    assert "STANDARD" not in one
    with pytest.raises(ConfigError, match=r"standard\[0\]: a rubric must be a text"):
        shown(["P"], ["q=7"], standard=[1], answer=["13"])


def test_noise_is_rounded_away_and_flat_groups_are_counted() -> None:
    log = Log()
    noisy = QualityEngine(noise=1e-4)
    judged = reward(noisy, scale="raw")
    first = log(judged, ["P", "P"], ["q=7.25 a", "q=7.25 b"])
    assert log(judged, ["P", "P"], ["q=7.25 a", "q=7.25 b"]) == first
    assert first[0] == first[1]
    assert log.metrics["judge_rating/flat_group_share"] == 1.0
    requests = [Request(prompt="P", completions=(f"q=7.25 {i}",)) for i in range(3)]
    assert measure_resolution(judge(QualityEngine(noise=1e-4)), requests) == pytest.approx(1e-4, rel=1e-3)


def test_resolution_follows_the_dtype() -> None:
    fine = Judge.load("mini", engine="transformers", dtype="float32")
    coarse = Judge.load("mini", engine="transformers", dtype="bfloat16")
    served = Judge.load("mini", engine="server:http://127.0.0.1:1")
    for pairwise in (False, True):
        assert engine_resolution(fine, pairwise=pairwise) < engine_resolution(coarse, pairwise=pairwise)
        # What a server computes in is not known, and nor is whether its logits are rounded.
        assert engine_resolution(served, pairwise=pairwise) > engine_resolution(coarse, pairwise=pairwise)
    assert JudgeReward(fine).scale.resolution == engine_resolution(fine, pairwise=False)
    assert JudgeReward(fine, resolution=0.5).scale.resolution == 0.5


def test_critiques_are_logged() -> None:
    log = Log()
    critical = JudgeReward(judge(mode="critique"), scale="raw", trainer="grpo")
    engine = critical.judge.engine
    assert isinstance(engine, QualityEngine)
    rewards = log(critical, ["P"] * 3, ["q=7", "q=3", "down"])
    assert rewards[2] is None
    assert [c and c.split("\n")[0] for c in log.extra["judge_rating/critique"][:2]] == [
        "About: q=7",
        "About: q=3",
    ]
    (report,) = critical.take_reports()
    assert [row.raw is None for row in report.rows] == [False, False, True]
    assert critical.take_reports() == []


def test_a_cache_is_counted(tmp_path: Any) -> None:
    log = Log()
    engine = QualityEngine()
    cached = JudgeReward(judge(engine, cache=tmp_path / "judgments.sqlite"))
    log(cached, ["P"] * 2, ["q=7", "q=8"])
    assert log.metrics["judge_rating/cache_hit_share"] == 0.0
    log(cached, ["P"] * 4, ["q=7", "q=8", "q=9", "q=2"])
    assert log.metrics["judge_rating/cache_hit_share"] == 0.5
    cached.close()


def test_pickled(tmp_path: Any) -> None:
    """AsyncGRPO sends its reward functions to another process."""
    original = reward(trainer="async_grpo", n_rewards=2, scale="raw", name="taste", max_failures=1.0)
    assert original(PROMPTS, COMPLETIONS)[2] == 7.0
    copy = pickle.loads(pickle.dumps(original))
    assert copy.__name__ == "taste"
    assert copy.fill == "group_mean"
    assert copy(PROMPTS, COMPLETIONS) == [4.0, 7.0, 7.0, 10.0]
    by_name = JudgeReward("mini", judge_mode="critique", engine="server:http://127.0.0.1:1", mode="pairwise")
    copy = pickle.loads(pickle.dumps(by_name))
    assert copy.judge.settings == by_name.judge.settings
    assert copy.judge.spec == by_name.judge.spec
    assert copy.judge.built_engine is None


def test_called_from_threads() -> None:
    shared = reward(scale="raw", trainer="grpo", max_failures=1.0)
    results: dict[int, Any] = {}

    def ask(n: int) -> None:
        results[n] = [shared(["P"] * 3, [f"q={n}", "mumble", "q=10"]) for _ in range(20)]

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {n: [[float(n), None, 10.0]] * 20 for n in range(1, 9)}
    assert len(shared.take_reports()) == 160


def test_an_asynchronous_reward_leaves_the_event_loop_free() -> None:
    """The judge waits for another reward function, which could not run if the judge held the loop."""
    other_has_run = threading.Event()

    def read(item: JudgeInput) -> dict[str, float]:
        assert other_has_run.wait(20)
        return {"7": 1.0}

    slow = async_reward(reward(ScriptedEngine(read=read), scale="raw"))
    assert asyncio.iscoroutinefunction(slow)
    assert slow.__name__ == "judge_rating"

    async def other(**_: Any) -> list[float]:
        other_has_run.set()
        return [0.0]

    async def both() -> Any:
        return await asyncio.gather(slow(prompts=["P"], completions=["A"]), other())

    assert asyncio.run(both()) == [[7.0], [0.0]]


def test_an_asynchronous_reward_is_pickled_and_awaited_as_a_function_and_as_an_object() -> None:
    """AsyncGRPO pickles it; TRL 1.16 asks its `__call__`, and earlier ones the object."""
    original = async_reward(reward(trainer="async_grpo", scale="raw", name="taste", max_failures=1.0))
    copy = pickle.loads(pickle.dumps(original))
    assert copy.__name__ == "taste"
    assert inspect.iscoroutinefunction(copy)
    assert inspect.iscoroutinefunction(copy.__call__)
    assert asyncio.run(copy(PROMPTS, COMPLETIONS)) == [4.0, 7.0, None, 10.0]


def test_one_completion_at_a_time() -> None:
    """For environments that own their reward: many are judged at the same time."""
    shared = reward(scale="raw", on_failure="none", max_failures=1.0)

    async def all_of_them() -> list[float | None]:
        return list(await asyncio.gather(*(shared.score("P", text) for text in COMPLETIONS)))

    assert asyncio.run(all_of_them()) == [4.0, 7.0, None, 10.0]
    assert asyncio.run(shared.score([{"role": "user", "content": "P"}], "q=3")) == 3.0


def test_one_completion_has_nothing_to_win_against_but_a_baseline() -> None:
    with pytest.raises(ConfigError, match="score judges one completion, and schedule = 'ring'"):
        asyncio.run(reward(mode="pairwise").score("P", "q=3"))
    against = reward(mode="pairwise", schedule="baseline", baseline_column="gold", scale="raw", resolution=0)
    assert asyncio.run(against.score("P", "q=3", gold="q=6")) == pytest.approx(win_prob(3.0, 6.0), abs=1e-6)
    with pytest.raises(ConfigError, match="no column 'gold'"):
        asyncio.run(against.score("P", "q=3"))


def test_an_asynchronous_pairwise_reward_needs_whole_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = async_reward(reward(mode="pairwise"))
    asyncio.run(alone(prompts=["P", "P"], completions=["q=1", "q=2"]))
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="split over processes"):
        asyncio.run(alone(prompts=["P", "P"], completions=["q=1", "q=2"]))


def test_a_judge_that_dies_is_an_error_not_a_reward() -> None:
    with pytest.raises(EngineUnavailable, match="the judge is gone"):
        reward(QualityEngine(dies="q=3"))(["P"] * 2, ["q=2", "q=3"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "both"}, "mode = 'both'"),
        ({"scale": "percent"}, "scale = 'percent'"),
        ({"schedule": "swiss", "mode": "pairwise"}, "schedule = 'swiss'"),
        ({"schedule": "all"}, "is for mode='pairwise'"),
        ({"schedule": "baseline", "mode": "pairwise"}, "belong together"),
        ({"baseline_column": "gold", "mode": "pairwise"}, "belong together"),
        ({"thinking": "drop"}, "thinking = 'drop'"),
        ({"shown": "first"}, "shown = 'first'"),
        ({"on_failure": "zero"}, "on_failure = 'zero'"),
        ({"trainer": "sft"}, "trainer = 'sft'"),
        ({"trainer": "ppo", "on_failure": "none"}, "PPO"),
        ({"max_failures": 2.0}, "max_failures"),
        ({"n_retries": -1}, "n_retries"),
        ({"resolution": -0.1}, "resolution"),
        ({"judge_mode": "direct"}, "given by name"),
        ({"dtype": "float32"}, "given by name"),
    ],
)
def test_wrong_settings_are_said_at_once(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        reward(**options)


def test_wrong_lengths() -> None:
    with pytest.raises(ConfigError, match="2 prompts and 1 completions"):
        reward()(["P", "P"], ["q=1"])


class GRPOTrainer:
    def __init__(self, *functions: Any, aggregation: str = "sum_then_normalize") -> None:
        self.reward_funcs = list(functions)
        self.multi_objective_aggregation = aggregation
        self.num_generations = 4


class OnlineDPOTrainer:
    def __init__(self, *functions: Any) -> None:
        self.reward_funcs = list(functions)


class AsyncGRPOTrainer:
    """Hands its functions on."""


class OwnTrainer(GRPOTrainer):
    """Derived from a known one."""


def test_attaching() -> None:
    first = reward()
    assert first.fill == "group_mean"
    assert first.attach(OwnTrainer(first)).fill == "none"
    assert first.attach(GRPOTrainer(first, len)).fill == "group_mean"
    assert first.attach(GRPOTrainer(len, first, aggregation="normalize_then_sum")).fill == "none"
    assert first.attach(GRPOTrainer(async_reward(first))).fill == "none"
    assert first.attach(OnlineDPOTrainer(first)).fill == "hash"
    with pytest.raises(ConfigError, match="does not call this reward"):
        first.attach(GRPOTrainer(reward()))
    with pytest.raises(ConfigError, match="Log is not one of GRPOTrainer"):
        first.attach(Log())
    with pytest.raises(ConfigError, match="trainer='async_grpo'"):
        first.attach(AsyncGRPOTrainer())
    with pytest.raises(ConfigError, match="awaits no reward function"):
        first.attach(OnlineDPOTrainer(async_reward(first)))
    fixed = reward(on_failure="none")
    with pytest.raises(ConfigError, match="does not fit OnlineDPO"):
        fixed.attach(OnlineDPOTrainer(fixed))


def test_incomplete_groups_are_counted_by_the_trainers_size() -> None:
    log = Log()
    attached = reward()
    trainer = GRPOTrainer(attached)
    attached.attach(trainer)
    log(attached, ["P"] * 4 + ["Q"] * 3, [f"q={n}" for n in range(1, 8)])
    assert log.metrics["judge_rating/incomplete_groups"] == 1.0
