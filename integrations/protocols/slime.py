# SPDX-License-Identifier: Apache-2.0
"""Custom reward function for slime, backed by the reward server.

slime awaits `custom_rm(args, sample)`, and with a list of samples where it asks for batches (`--group-rm`).

    # my_rm.py; --custom-rm-path my_rm.rm
    from autoj_reward.integrations.protocols.slime import custom_rm
    rm = custom_rm("http://judge:8100")

`--rm-type remote_rm --rm-url http://judge:8100/remote_rm` needs no Python.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from autoj_reward.integrations.client import JudgeClient
from autoj_reward.integrations.required_reward import number
from autoj_reward.judge.messages.chat_markup import answer_of, exchange_of
from autoj_reward.reward.scale import Scale, check_scale


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rewarder:
    client: JudgeClient
    scale: Scale
    resolution: float | None
    labels_as_references: bool
    failure_reward: float | None
    end_tokens: tuple[str, ...]

    async def custom_rm(self, args: Any, samples: Any, **_: Any) -> float | list[float]:
        group = samples if isinstance(samples, list) else [samples]
        rows = [self._row(sample) for sample in group]
        judged = await self.client.rate_async(rows, scale=self.scale, resolution=self.resolution)
        rewards = [number(row, self.failure_reward) for row in judged]
        failed = {_group(sample) for sample, row in zip(group, judged, strict=True) if row["failure"]}
        for sample in group:
            if _group(sample) in failed:
                sample.remove_sample = True
        return rewards if isinstance(samples, list) else rewards[0]

    def _row(self, sample: Any) -> dict[str, Any]:
        if isinstance(sample.prompt, str):
            asked, answer = exchange_of(sample.prompt, sample.response, self.end_tokens)
        else:
            asked, answer = sample.prompt, answer_of(sample.response, self.end_tokens)
        row = {"prompt": asked, "completion": answer}
        if self.labels_as_references and sample.label is not None:
            row["reference"] = str(sample.label)
        return row


def custom_rm(
    judge: str | JudgeClient,
    *,
    scale: Scale = "centred",
    resolution: float | None = None,
    labels_as_references: bool = False,
    failure_reward: float | None = None,
    end_tokens: Sequence[str] = (),
) -> Callable[..., Awaitable[float | list[float]]]:
    """Make a `custom_rm` function for slime.

    Args:
        judge: The server's URL, or a client. With a URL, the token is `$AUTOJ_REWARD_TOKEN`.
        scale: raw, unit or centred, as `JudgeReward`'s.
        resolution: Step to which ratings are rounded, in their own units; 0 for none, None for the noise of
            the server's engine.
        labels_as_references: Show labels to the judge, whose template must take a reference.
        failure_reward: Reward of a failed judgment; None raises. The sample, and all of its group in the same
            call, are marked `remove_sample`, which takes them out of the loss.
        end_tokens: Special tokens to remove from the end of completions, besides the usual ones.

    Returns:
        A picklable coroutine function. It takes slime's arguments and one sample or a list of them, and
        returns a number or a list.

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
    ).custom_rm


def _group(sample: Any) -> Any:
    """What the samples of a group share; a sample without a group is one of its own."""
    return id(sample) if sample.group_index is None else ("group", sample.group_index)
