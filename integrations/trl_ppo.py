# SPDX-License-Identifier: Apache-2.0
"""A judge as the reward model of TRL's PPOTrainer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from autoj_reward.errors import ConfigError
from autoj_reward.integrations.trl import JudgeReward
from autoj_reward.integrations.trl_ppo_tokens import PromptBook
from autoj_reward.integrations.trl_trainer import has_ppo, trl_version


def ppo_classes() -> tuple[Any, Any]:
    """TRL's PPOConfig and PPOTrainer.

    Raises:
        ConfigError: The installed TRL does not have them; TRL 1.12 was the last that did.
    """
    _require_ppo()
    from trl.experimental.ppo import PPOConfig, PPOTrainer

    return PPOConfig, PPOTrainer


class JudgeRewardModel(nn.Module):
    """A reward as the `reward_model` of PPOTrainer.

    It has no weights, and is not the value model. PPOTrainer calls its backbone, which recovers prompts and
    completions from the padded token rows, judges them, and returns each row's reward at every position.

    PPO has one completion per prompt and needs a number for it: a failure gets the mean of the last thousand
    rewards.

    Args:
        reward: A reward made with `trainer="ppo"`.
        tokenizer: The policy's tokenizer, padding on the left.
        datasets: Rows of all the trainer's datasets, evaluation included: `input_ids` as the trainer gets
            them, the prompt, and the columns that the reward uses.
        prompt_column: Column with the prompt, as text or messages.

    Raises:
        ConfigError: TRL has no PPO, the reward is for another trainer, or rows contradict each other.

    Example:
        >>> rows = data.map(lambda row: tokenizer(row["prompt"]))               # doctest: +SKIP
        >>> reward = JudgeReward("mini", trainer="ppo")
        >>> model = JudgeRewardModel(reward, tokenizer, rows)                   # doctest: +SKIP
        >>> tokens = rows.select_columns("input_ids")                           # doctest: +SKIP
        >>> PPOTrainer(..., reward_model=model, train_dataset=tokens)           # doctest: +SKIP
    """

    base_model_prefix = "judge"

    def __init__(
        self,
        reward: JudgeReward,
        tokenizer: Any,
        *datasets: Iterable[Mapping[str, Any]],
        prompt_column: str = "prompt",
    ) -> None:
        super().__init__()
        _require_ppo()
        if reward.fill not in ("running_mean", "raise"):
            raise ConfigError(
                f"the reward gives failures {reward.fill!r}, and PPO needs a number for each completion",
                hint="JudgeReward(..., trainer='ppo')",
            )
        if tokenizer.pad_token_id is None:
            raise ConfigError(
                "the tokenizer has no padding token", hint="tokenizer.pad_token = tokenizer.eos_token"
            )
        rows = [row for rows in datasets for row in rows]
        if wrong := [n for n, row in enumerate(rows) if prompt_column not in row or "input_ids" not in row]:
            raise ConfigError(
                f"row {wrong[0]} has no {prompt_column!r} or no 'input_ids'",
                hint="keep the prompt beside its tokens here, and give the trainer the tokens only",
            )
        self.reward = reward
        self.judge = _Backbone(reward, tokenizer, PromptBook(rows, tokenizer.pad_token_id), prompt_column)
        self.score = nn.Identity()


class _Backbone(nn.Module):
    """A stand-in for a language model; its hidden state is the reward."""

    def __init__(self, reward: JudgeReward, tokenizer: Any, book: PromptBook, prompt_column: str) -> None:
        super().__init__()
        self._reward, self._tokenizer, self._book, self._prompt = reward, tokenizer, book, prompt_column

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, **_: Any) -> SimpleNamespace:
        """Judge the rows.

        Args:
            input_ids: (B, L) tokens; 0 where masked.
            attention_mask: (B, L); False for padding and tokens equal to it.

        Returns:
            `hidden_states` and `last_hidden_state`, (B, L, 1): each row's reward at every position.
        """
        rows = self._book.split(input_ids.tolist(), attention_mask.tolist())
        completions = self._tokenizer.batch_decode(
            [row.completion_ids for row in rows], skip_special_tokens=True
        )
        prompts = [row.known[self._prompt] for row in rows]
        if prompts and not isinstance(prompts[0], str):
            completions = [[{"role": "assistant", "content": text}] for text in completions]
        names = [name for name in (rows[0].known if rows else ()) if name != self._prompt]
        columns: dict[str, Any] = {name: [row.known.get(name) for row in rows] for name in names}
        rewards = self._reward(
            prompts=prompts,
            completions=completions,
            completion_ids=[row.completion_ids for row in rows],
            **columns,
        )
        given = torch.tensor(rewards, dtype=torch.float32, device=input_ids.device)
        hidden = given[:, None, None].expand(*input_ids.shape, 1).contiguous()
        return SimpleNamespace(hidden_states=(hidden,), last_hidden_state=hidden)


def _require_ppo() -> None:
    if not has_ppo():
        version = ".".join(str(n) for n in trl_version() or ()) or "none"
        raise ConfigError(
            f"PPOTrainer was removed after TRL 1.12; the installed TRL is {version}",
            hint="pip install 'autoj-reward[ppo]' in a separate environment; or use RLOO, which needs no "
            "value model",
        )
