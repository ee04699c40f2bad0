# SPDX-License-Identifier: Apache-2.0
"""What a failed judgment does in TRL's trainers: every cell of the table in docs/trl.md, by real steps."""

from __future__ import annotations

import asyncio
import statistics
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autoj_reward import Judge, JudgeReward, async_reward, testing
from autoj_reward.types import JudgeInput
from tests.integrations.conftest import PROMPTS
from tests.quality import QualityEngine, quality

pytest.importorskip("trl", reason="needs TRL: ./setup mini trl")

# TRL and what it calls, about themselves.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning", "ignore::DeprecationWarning"),
]

FAILING = 1
"""The second completion of the first group gets no verdict."""


def failing_reward(**options: Any) -> JudgeReward:
    engine = QualityEngine(failing=frozenset({FAILING}))
    judge = Judge.load("mini", mode="direct", engine=engine)
    return JudgeReward(judge, **{"scale": "raw", "resolution": 0, "n_retries": 0, **options})


def length_reward(completions: list[str], **_: Any) -> list[float]:
    return [0.125 * (len(c) % 8) for c in completions]


def dataset(**columns: Any) -> Any:
    from datasets import Dataset

    return Dataset.from_dict({"prompt": PROMPTS, **columns})


COMMON: dict[str, Any] = {
    "max_steps": 1,
    "per_device_train_batch_size": 8,
    "learning_rate": 1e-3,
    "logging_steps": 1,
    "report_to": "none",
    "save_strategy": "no",
    "use_cpu": True,
    "disable_tqdm": True,
    "bf16": False,
    "temperature": 1.0,
}


def group_trainer(kind: str, policy: Path, folder: Path, functions: list[Any], **settings: Any) -> Any:
    import trl

    config = getattr(trl, f"{kind}Config")(
        output_dir=str(folder), num_generations=4, max_completion_length=8, **{**COMMON, **settings}
    )
    trainer = getattr(trl, f"{kind}Trainer")(
        model=str(policy), reward_funcs=functions, args=config, train_dataset=dataset()
    )
    return trainer


def trained(trainer: Any) -> Any:
    """The trainer after its step, which moved the policy."""
    before = [p.detach().clone() for p in trainer.model.parameters()]
    trainer.train()
    assert any(not (a == b).all() for a, b in zip(before, trainer.model.parameters(), strict=True))
    return trainer


def groups(values: Any) -> list[list[float]]:
    values = list(values)
    return [values[i : i + 4] for i in range(0, len(values), 4)]


def grpo(rewards: list[float]) -> list[float]:
    """Dr. GRPO's formula with the group's standard deviation, as in TRL: over n - 1."""
    mean, std = statistics.mean(rewards), statistics.stdev(rewards)
    return [(r - mean) / (std + 1e-4) for r in rewards]


def rloo(rewards: list[float]) -> list[float]:
    """Each against the mean of the others."""
    return [r - (sum(rewards) - r) / (len(rewards) - 1) for r in rewards]


FORMULAS: dict[str, Callable[[list[float]], list[float]]] = {"GRPO": grpo, "RLOO": rloo}


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("kind", ["GRPO", "RLOO"])
def test_one_function(kind: str, asynchronous: bool, tiny_policy: Path, tmp_path: Path) -> None:
    """The failed completion has no advantage, and the others have those of a group without it."""
    reward = failing_reward()
    function = async_reward(reward) if asynchronous else reward
    trainer = group_trainer(kind, tiny_policy, tmp_path, [function])
    reward.attach(trainer)
    trained(trainer)
    logs = trainer._logs
    judged = groups(logs["rewards"]["judge_rating"])
    given = groups(logs["advantages"])
    completions = groups(logs["completion"])
    assert [[r != r for r in group] for group in judged] == [[False, True, False, False], [False] * 4]
    for rewards, texts in zip(judged, completions, strict=True):
        # The log holds the judge's own ratings.
        assert [r for r in rewards if r == r] == pytest.approx(
            [quality(t) for t, r in zip(texts, rewards, strict=True) if r == r], abs=1e-5
        )
    known = [r for r in judged[0] if r == r]
    expected = FORMULAS[kind](known)
    assert given[0] == pytest.approx([expected[0], 0.0, *expected[1:]], rel=1e-4, abs=1e-5)
    assert given[1] == pytest.approx(FORMULAS[kind](judged[1]), rel=1e-4, abs=1e-5)
    history = trainer.state.log_history[0]
    assert history["rewards/judge_rating/mean"] == pytest.approx(
        statistics.mean([*known, *judged[1]]), rel=1e-5
    )
    assert history["judge_rating/failure_share"] == pytest.approx(1 / 8)
    assert history["judge_rating/failures/engine"] == pytest.approx(1 / 8)
    assert history["judge_rating/incomplete_groups"] == 0.0


@pytest.mark.parametrize("kind", ["GRPO", "RLOO"])
def test_two_functions(kind: str, tiny_policy: Path, tmp_path: Path) -> None:
    """None would be 0.0 in the sum, far below the worst rating: the failure has its group's mean instead."""
    reward = failing_reward()
    trainer = group_trainer(kind, tiny_policy, tmp_path, [reward, length_reward])
    reward.attach(trainer)
    trained(trainer)
    logs = trainer._logs
    judged = groups(logs["rewards"]["judge_rating"])
    other = groups(logs["rewards"]["length_reward"])
    texts = groups(logs["completion"])[0]
    known = [quality(t) for i, t in enumerate(texts) if i != FAILING]
    assert judged[0][FAILING] == pytest.approx(statistics.mean(known), rel=1e-5)
    for rewards, further, advantages in zip(judged, other, groups(logs["advantages"]), strict=True):
        sums = [a + b for a, b in zip(rewards, further, strict=True)]
        assert advantages == pytest.approx(FORMULAS[kind](sums), rel=1e-3, abs=1e-4)


def test_two_functions_normalised_first(tiny_policy: Path, tmp_path: Path) -> None:
    """None is left out of the judge's own normalisation, so that it is right there."""
    reward = failing_reward()
    trainer = group_trainer(
        "GRPO",
        tiny_policy,
        tmp_path,
        [reward, length_reward],
        multi_objective_aggregation="normalize_then_sum",
    )
    reward.attach(trainer)
    trained(trainer)
    logs = trainer._logs
    (first, second) = groups(logs["rewards"]["judge_rating"])
    assert first[FAILING] != first[FAILING]
    known = grpo([r for r in first if r == r])
    others = [a for g in groups(logs["rewards"]["length_reward"]) for a in grpo(g)]
    sums = [a + b for a, b in zip([known[0], 0.0, *known[1:], *grpo(second)], others, strict=True)]
    mean, std = statistics.mean(sums), statistics.stdev(sums)
    expected = [(s - mean) / (std + 1e-4) for s in sums]
    assert list(logs["advantages"]) == pytest.approx(expected, rel=1e-3, abs=1e-3)


def test_asynchronous_functions_run_at_the_same_time(tiny_policy: Path, tmp_path: Path) -> None:
    """The judge waits for the other function, which could not run if the judge held the event loop."""
    other_runs = threading.Event()

    def read(item: JudgeInput) -> dict[str, float]:
        assert other_runs.wait(60)
        return {"7": 1.0}

    async def other(completions: list[str], **_: Any) -> list[float]:
        other_runs.set()
        return [0.0] * len(completions)

    judge = Judge.load("mini", mode="direct", engine=testing.ScriptedEngine(read=read))
    reward = JudgeReward(judge, scale="raw")
    trainer = group_trainer("GRPO", tiny_policy, tmp_path, [async_reward(reward), other])
    reward.attach(trainer)
    trainer.train()
    assert set(trainer._logs["rewards"]["judge_rating"]) == {7.0}


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_reward_attaches_itself(asynchronous: bool, tiny_policy: Path, tmp_path: Path) -> None:
    """At its first call, to the trainer whose function to log with it is given."""
    reward = failing_reward()
    trainer = trained(
        group_trainer("GRPO", tiny_policy, tmp_path, [async_reward(reward) if asynchronous else reward])
    )
    assert (reward.trainer, reward.fill) == (trainer, "none")
    assert list(trainer._logs["advantages"])[FAILING] == 0.0


def test_unattached(tiny_policy: Path, tmp_path: Path) -> None:
    """The group's mean: the others' advantages keep their order and their sum."""
    reward = failing_reward()

    def judge_rating(**columns: Any) -> Any:
        return reward(**columns)

    trainer = trained(group_trainer("GRPO", tiny_policy, tmp_path, [judge_rating]))
    assert reward.trainer is None
    first = groups(trainer._logs["advantages"])[0]
    assert first[FAILING] == pytest.approx(0.0, abs=1e-5)
    judged = groups(trainer._logs["rewards"]["judge_rating"])[0]
    assert first == pytest.approx(grpo(judged), rel=1e-4, abs=1e-5)


def test_pairwise(tiny_policy: Path, tmp_path: Path) -> None:
    engine = QualityEngine()
    reward = JudgeReward(
        Judge.load("mini", mode="direct", engine=engine), mode="pairwise", scale="unit", resolution=0
    )
    trainer = group_trainer("GRPO", tiny_policy, tmp_path, [reward])
    reward.attach(trainer)
    trained(trainer)
    wins = groups(trainer._logs["rewards"]["judge_pairwise"])
    for rewards, texts in zip(wins, groups(trainer._logs["completion"]), strict=True):
        assert sum(rewards) == pytest.approx(2.0, abs=1e-5)
        best = max(range(4), key=lambda i: quality(texts[i]))
        assert rewards[best] > 0.5
    assert max(engine.asked.values()) == 1


def online_dpo(policy: Path, folder: Path, functions: list[Any], **settings: Any) -> Any:
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl.experimental.online_dpo import OnlineDPOConfig, OnlineDPOTrainer

    class Recording(OnlineDPOTrainer):
        """Keeps what it makes of the rewards."""

        def _calculate_rewards_from_functions(self, *given: Any, **further: Any) -> Any:
            self.totals = super()._calculate_rewards_from_functions(*given, **further)
            self.completions = further["completions"] if "completions" in further else given[1]
            return self.totals

    common = {k: v for k, v in COMMON.items() if k != "per_device_train_batch_size"}
    config = OnlineDPOConfig(
        output_dir=str(folder), max_new_tokens=8, missing_eos_penalty=None,
        **{**common, "per_device_train_batch_size": 4, **settings},
    )  # fmt: skip
    return Recording(
        model=AutoModelForCausalLM.from_pretrained(policy),
        reward_funcs=functions,
        args=config,
        processing_class=AutoTokenizer.from_pretrained(policy),
        train_dataset=dataset(),
    )


@pytest.mark.parametrize("n_functions", [1, 2])
def test_online_dpo(n_functions: int, tiny_policy: Path, tmp_path: Path) -> None:
    """None would be 0.0: the judged completion would win every time. Here the coin decides, by a hair."""
    reward = failing_reward()
    functions = [reward, length_reward][:n_functions]
    trainer = online_dpo(tiny_policy, tmp_path, functions)
    reward.attach(trainer)
    trained(trainer)
    (report,) = reward.take_reports()
    judged = [row.reward for row in report.rows]
    assert None not in judged
    failed, partner = FAILING, FAILING + 4
    assert report.rows[failed].reason == "engine"
    assert abs(judged[failed] - judged[partner]) == pytest.approx(reward.scale.step)
    assert judged[partner] == pytest.approx(quality(report.rows[partner].completion), abs=0.01)
    assert report.metrics["coin_for_failures"] == 1.0
    further = length_reward(trainer.completions) if n_functions == 2 else [0.0] * 8
    totals = [a + b for a, b in zip(judged, further, strict=True)]
    assert trainer.totals.tolist() == pytest.approx(totals, rel=1e-5)


def test_async_grpo_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its trainer needs a GPU kernel; this is the code that scores a group, with a reward that was sent to it."""
    import pickle
    from types import SimpleNamespace

    worker = pytest.importorskip("trl.experimental.async_grpo.async_rollout_worker", exc_type=ImportError)
    loop = next(
        kind for kind in vars(worker).values() if isinstance(kind, type) and "_score_group" in vars(kind)
    )
    texts = ["q=4", "q=5", "q=9", "q=2"]
    messages = [[{"role": "assistant", "content": t}] for t in texts]
    prompts = [[{"role": "user", "content": "Name a prime."}]] * 4

    def score(n_functions: int, *, asynchronous: bool) -> list[Any]:
        reward: Any = failing_reward(trainer="async_grpo", n_rewards=n_functions)
        reward = pickle.loads(pickle.dumps(async_reward(reward) if asynchronous else reward))
        assert worker.is_async_callable(reward) == asynchronous
        functions = [reward, lambda completions, **_: [1.0, 2.0, 3.0, 4.0]][:n_functions]
        here = SimpleNamespace(
            reward_funcs=functions,
            reward_func_names=["judge", "other"][:n_functions],
            _env_reward_types=[],
            _provides_rollout_reward=False,
        )
        group = SimpleNamespace(
            prompts=prompts, completions=messages, completions_ids=[[1]] * 4, reward_kwargs={},
            env_rewards=[], rollout_rewards=[], tool_call_counts=[0] * 4, tool_failure_counts=[0] * 4,
            completions_sequences=[
                [SimpleNamespace(input_ids=[1], completion_mask=[1], old_log_probs=[0.0])] for _ in texts
            ],
            model_version=0, group_id=0,
        )  # fmt: skip
        return [s.advantage for s in asyncio.run(loop._score_group(here, group))]

    known = [4.0, 9.0, 2.0]
    mean, std = statistics.mean(known), statistics.pstdev(known)
    one = pytest.approx([(4 - mean) / std, 0.0, (9 - mean) / std, (2 - mean) / std], rel=1e-4)
    assert score(1, asynchronous=False) == one
    assert score(1, asynchronous=True) == one
    totals = [4 + 1.0, mean + 2.0, 9 + 3.0, 2 + 4.0]
    mean, std = statistics.mean(totals), statistics.pstdev(totals)
    two = pytest.approx([(t - mean) / std for t in totals], rel=1e-4)
    assert score(2, asynchronous=False) == two
    assert score(2, asynchronous=True) == two
