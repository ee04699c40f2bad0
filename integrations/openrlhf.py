# SPDX-License-Identifier: Apache-2.0
"""Reward function for OpenRLHF, backed by the reward server.

OpenRLHF takes a server's address (`--remote_rm_url http://judge:8000/get_reward`), or a Python file with a
`reward_func(queries, prompts, labels)`. The address needs nothing of this module. The file is better where
the server may be busy: OpenRLHF's own HTTP code gives up after five attempts, one a second, and continues
without a reward.

    # my_reward.py; --remote_rm_url my_reward.py
    from autoj_reward.integrations.openrlhf import reward_function
    reward_func = reward_function("http://judge:8000")
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from autoj_reward.errors import ConfigError
from autoj_reward.integrations.client import JudgeClient
from autoj_reward.integrations.required_reward import number
from autoj_reward.judge.messages.chat_markup import completion_of, exchange_of
from autoj_reward.reward.scale import Scale, check_scale


@dataclass(frozen=True, slots=True, kw_only=True)
class _Settings:
    client: JudgeClient
    scale: Scale
    resolution: float | None
    labels_as_references: bool
    failure_reward: float | None
    end_tokens: tuple[str, ...]

    def row(self, query: str, prompt: str, label: Any) -> dict[str, Any]:
        """The row to rate."""
        completion = completion_of(query, prompt)
        if completion is None:
            raise ConfigError(
                "a query does not hold its prompt", hint="was the prompt cut? Raise OpenRLHF's prompt length"
            )
        asked, answer = exchange_of(prompt, completion, self.end_tokens)
        row: dict[str, Any] = {"prompt": asked, "completion": answer}
        if self.labels_as_references and label is not None:
            row["reference"] = str(label)
        return row


def reward_function(
    judge: str | JudgeClient,
    *,
    scale: Scale = "centred",
    resolution: float | None = None,
    labels_as_references: bool = False,
    failure_reward: float | None = None,
    end_tokens: Sequence[str] = (),
) -> Callable[..., dict[str, Any]]:
    """A `reward_func` for OpenRLHF.

    Args:
        judge: The server's address (without `/get_reward`), or a client. With an address, the token is
            `$AUTOJ_REWARD_TOKEN`.
        scale: raw, unit or centred, as `JudgeReward`'s.
        resolution: Step to which ratings are rounded, in their own units; 0 for none, None for the noise of
            the server's engine.
        labels_as_references: Show labels to the judge, whose template has to take a reference.
        failure_reward: The reward of a completion without a verdict; None raises.
        end_tokens: Special tokens of the policy to take off, besides the usual ones.

    Returns:
        A function that can be pickled. It takes B queries (prompt and completion as one text, special tokens
        included), B prompts and B labels, and whatever comes with them. It returns float32 tensors of B:
        `rewards`, `scores` (the same), and in `extra_logs` `judge_failed`, 0 or 1.

    Raises:
        ConfigError: The address or the scale is none.
    """
    settings = _Settings(
        client=JudgeClient(judge) if isinstance(judge, str) else judge,
        scale=check_scale(scale),
        resolution=resolution,
        labels_as_references=labels_as_references,
        failure_reward=failure_reward,
        end_tokens=tuple(end_tokens),
    )
    function = functools.partial(_reward_func, settings)
    function.__name__ = "reward_func"  # type: ignore[attr-defined]
    return function


def _reward_func(
    settings: _Settings, queries: Sequence[str], prompts: Sequence[str], labels: Any = None, **_: Any
) -> dict[str, Any]:
    import torch

    given = [None] * len(queries) if labels is None else labels
    rows = [settings.row(*sample) for sample in zip(queries, prompts, given, strict=True)]
    judged = settings.client.rate(rows, scale=settings.scale, resolution=settings.resolution)
    rewards = torch.tensor([number(row, settings.failure_reward) for row in judged], dtype=torch.float32)
    failed = torch.tensor([float(row["failure"] is not None) for row in judged], dtype=torch.float32)
    return {"rewards": rewards, "scores": rewards.clone(), "extra_logs": {"judge_failed": failed}}
