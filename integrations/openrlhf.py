# SPDX-License-Identifier: Apache-2.0
"""Reward function for OpenRLHF, backed by the reward server.

OpenRLHF takes a server's URL (`--remote_rm_url http://judge:8100/get_reward`), or a Python file with a
`reward_func(queries, prompts, labels)`. The URL does not need this module. The file is better if the server
may be busy: OpenRLHF's own HTTP code gives up after five attempts, one a second, and continues without a
reward.

    # my_reward.py; --remote_rm_url my_reward.py
    from autoj_reward.integrations.openrlhf import reward_function
    reward_func = reward_function("http://judge:8100")
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from autoj_reward.errors import ConfigError
from autoj_reward.integrations.client import JudgeClient
from autoj_reward.integrations.required_reward import number
from autoj_reward.judge.messages.chat_markup import completion_of, exchange_of
from autoj_reward.reward.scale import Scale, check_scale


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rewarder:
    client: JudgeClient
    scale: Scale
    resolution: float | None
    labels_as_references: bool
    failure_reward: float | None
    end_tokens: tuple[str, ...]

    def reward_func(
        self, queries: Sequence[str], prompts: Sequence[str], labels: Any = None, **_: Any
    ) -> dict[str, Any]:
        import torch

        given = [None] * len(queries) if labels is None else labels
        rows = [self._row(*sample) for sample in zip(queries, prompts, given, strict=True)]
        judged = self.client.rate(rows, scale=self.scale, resolution=self.resolution)
        rewards = torch.tensor([number(row, self.failure_reward) for row in judged], dtype=torch.float32)
        failed = torch.tensor([float(row["failure"] is not None) for row in judged], dtype=torch.float32)
        return {"rewards": rewards, "scores": rewards.clone(), "extra_logs": {"judge_failed": failed}}

    def _row(self, query: str, prompt: str, label: Any) -> dict[str, Any]:
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
    """Make a `reward_func` for OpenRLHF.

    Args:
        judge: The server's URL (without `/get_reward`), or a client. With a URL, the token is
            `$AUTOJ_REWARD_TOKEN`.
        scale: raw, unit or centred, as `JudgeReward`'s.
        resolution: Step to which ratings are rounded, in their own units; 0 for none, None for the noise of
            the server's engine.
        labels_as_references: Show labels to the judge, whose template must take a reference.
        failure_reward: Reward of a failed judgment; None raises.
        end_tokens: Special tokens to remove from the end of completions, besides the usual ones.

    Returns:
        A picklable function. It takes B queries (prompt and completion as one text with special tokens), B
        prompts and B labels, and ignores other arguments. It returns float32 tensors of shape (B,):
        `rewards`, `scores` (the same), and in `extra_logs` `judge_failed`, 0 or 1.

    Raises:
        ConfigError: The URL or the scale is wrong.
    """
    return _Rewarder(
        client=JudgeClient(judge) if isinstance(judge, str) else judge,
        scale=check_scale(scale),
        resolution=resolution,
        labels_as_references=labels_as_references,
        failure_reward=failure_reward,
        end_tokens=tuple(end_tokens),
    ).reward_func
