# SPDX-License-Identifier: Apache-2.0
"""Judge a transcript as it grows: one judgment at each checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from autoj_reward.criteria.rubric import Rubric
from autoj_reward.errors import ConfigError
from autoj_reward.judge.judge import Judge
from autoj_reward.judge.messages.columns import as_column
from autoj_reward.judge.messages.text import ShownText, conversation_text, without_reasoning
from autoj_reward.judgments import RatingJudgment
from autoj_reward.types import Text, Usage


@dataclass(frozen=True, slots=True)
class Track:
    """How good a transcript was at each checkpoint.

    Attributes:
        checkpoints: After how many steps each judgment was made, rising.
        judgments: A judgment at each checkpoint.
    """

    checkpoints: tuple[int, ...]
    judgments: tuple[RatingJudgment, ...]

    @property
    def rewards(self) -> list[float | None]:
        """The reward at each checkpoint, on the judge's scale; None without a verdict."""
        return [judgment.reward for judgment in self.judgments]

    @property
    def final(self) -> float | None:
        """The reward at the last checkpoint; None without a verdict."""
        return self.judgments[-1].reward

    @property
    def usage(self) -> Usage:
        """Tokens of all judgments."""
        return sum((judgment.usage for judgment in self.judgments), start=Usage())


def track(
    judge: Judge,
    prompt: Text,
    steps: Sequence[Text],
    *,
    checkpoints: Sequence[int] | None = None,
    criteria: Mapping[str, str] | Sequence[Any] | Rubric | None = None,
    reference: str | None = None,
) -> Track:
    """Judge the beginnings of a transcript, such as an agent's steps.

    Each checkpoint is judged without what comes after it. Checkpoints follow each other from the shortest to
    the longest, so an engine with a prefix cache (vLLM, most servers) computes each step once.

    Args:
        judge: The judge.
        prompt: The task.
        steps: N steps, each a text or messages.
        checkpoints: After how many steps to judge, in [1, N]; None judges after each.
        criteria: Criteria, as `read_rubric` takes them (`{"Tests": "Do the tests pass?"}`), or None for the
            judge's own rating.
        reference: A reference answer, for judges whose template takes one.

    Raises:
        ConfigError: There are no steps, or a checkpoint is not among them.
        TemplateError: The judge's template does not take a reference.
        EngineError: The engine failed as a whole.
    """
    rule = judge.settings.reasoning
    texts = [
        without_reasoning(step, rule) if isinstance(step, str) else conversation_text(step, rule)
        for step in as_column("steps", steps)
    ]
    chosen = tuple(sorted(set(range(1, len(texts) + 1) if checkpoints is None else checkpoints)))
    if not chosen or chosen[0] < 1 or chosen[-1] > len(texts):
        raise ConfigError(f"checkpoints {list(chosen)} of {len(texts)} steps; each is in [1, {len(texts)}]")
    numbered = [f"[Step {n}]\n{text}\n\n" for n, text in enumerate(texts, start=1)]
    judgments = judge.rate(
        [prompt] * len(chosen),
        [ShownText("".join(numbered[:n])) for n in chosen],
        rubrics=None if criteria is None else [criteria] * len(chosen),
        references=None if reference is None else [reference] * len(chosen),
    )
    return Track(chosen, tuple(judgments))
