# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from autoj_reward import ConfigError
from autoj_reward.integrations.trl_failures import choose_fill


@pytest.mark.parametrize(
    ("trainer", "n_rewards", "version", "normalizes", "fill"),
    [
        (None, 1, (1, 16, 0), False, "group_mean"),
        ("grpo", 1, (1, 16, 0), False, "none"),
        ("grpo", 1, (1, 6, 0), False, "none"),
        ("grpo", 1, (1, 5, 2), False, "group_mean"),
        ("grpo", 1, (0, 29, 0), False, "group_mean"),
        ("grpo", 2, (1, 16, 0), False, "group_mean"),
        ("grpo", 2, (1, 16, 0), True, "none"),
        ("rloo", 1, (1, 12, 0), False, "none"),
        ("rloo", 3, (1, 12, 0), False, "group_mean"),
        ("async_grpo", 1, None, False, "none"),
        ("async_grpo", 2, (1, 16, 0), False, "group_mean"),
        ("online_dpo", 1, (1, 16, 0), False, "hash"),
        ("online_dpo", 2, (1, 12, 0), False, "hash"),
        ("ppo", 1, (1, 12, 0), False, "running_mean"),
    ],
)
def test_fill_for_each_trainer(trainer, n_rewards, version, normalizes, fill) -> None:
    chosen = choose_fill(
        "auto", trainer, n_rewards=n_rewards, trl_version=version, normalizes_first=normalizes
    )
    assert chosen == fill
    assert choose_fill("raise", trainer, n_rewards=n_rewards, trl_version=version) == "raise"


@pytest.mark.parametrize(
    ("on_failure", "trainer", "n_rewards", "message"),
    [
        ("zero", "grpo", 1, "on_failure = 'zero'"),
        ("auto", "dpo", 1, "trainer = 'dpo'"),
        ("auto", "grpo", 0, "n_rewards = 0"),
        ("hash", "grpo", 1, "trains on none"),
        ("none", "ppo", 1, "does not fit PPO"),
        ("none", "online_dpo", 1, "does not fit OnlineDPO"),
        ("group_mean", "online_dpo", 1, "first completion as chosen"),
    ],
)
def test_fills_that_do_not_fit(on_failure, trainer, n_rewards, message) -> None:
    with pytest.raises(ConfigError, match=message):
        choose_fill(on_failure, trainer, n_rewards=n_rewards)


def test_the_former_name_of_hash() -> None:
    with pytest.warns(DeprecationWarning, match="'coin' is now 'hash'"):
        assert choose_fill("coin", "online_dpo") == "hash"
