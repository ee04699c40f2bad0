# SPDX-License-Identifier: Apache-2.0
"""How a judge is run: mode, samples, orders, sampling, guard."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Any, Literal

from autoj_reward.errors import ConfigError
from autoj_reward.judge.guard.guard import Guard, make_guard
from autoj_reward.judge.messages.text import Reasoning, check_reasoning
from autoj_reward.judge.samples import ReadingRules
from autoj_reward.judge.spec import JudgeSpec
from autoj_reward.types import Mode, Sampling

Overlong = Literal["error", "truncate"]


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeSettings:
    """How a judge is run.

    Attributes:
        mode: direct or critique.
        n_samples: K critiques of each input, averaged as distributions. Direct mode needs one.
        both_orders: Whether each pair is judged in both orders, and the two averaged.
        overlong: error: an input that does not fit is a `too_long` failure. truncate: the middle of its
            longest completion, or of the longer ones of a list, is cut until it fits, and the judgment says
            how much.
        sampling: How critiques are generated.
        rules: How verdicts are read.
        guard: What is done about completions that try to influence the judge; None shows them as they are.
        reasoning: What is done with the policy's reasoning: strip, strip_opened or keep, see `Reasoning`.
        check_critiques: Whether the judge reads each of its critiques once more, see `Sample.contradicted`.
    """

    mode: Mode
    n_samples: int
    both_orders: bool
    overlong: Overlong
    sampling: Sampling
    rules: ReadingRules
    guard: Guard | None = None
    reasoning: Reasoning = "strip"
    check_critiques: bool = False


def make_settings(
    spec: JudgeSpec,
    *,
    mode: Mode | None,
    n_samples: int,
    both_orders: bool,
    overlong: Overlong | Literal["cut"],
    temperature: float | None,
    max_new_tokens: int | None,
    seed: int | None,
    min_mass: float | None,
    follow_above: float,
    force_verdict: bool,
    guard: Any,
    reasoning: str,
    check_critiques: bool = False,
) -> JudgeSettings:
    """Settings from what a caller gave; None takes the judge's own.

    Raises:
        ConfigError: A value is out of range, or two of them do not go together.
    """
    given = {"temperature": temperature, "max_new_tokens": max_new_tokens, "seed": seed}
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    sampling = replace(spec.sampling, **changes)
    chosen = mode or spec.default_mode
    least = spec.min_mass if min_mass is None else min_mass
    if not 0 < least <= 1:
        raise ConfigError(f"min_mass = {least} is not in (0, 1]")
    if overlong == "cut":
        warnings.warn("overlong='cut' is now 'truncate'", DeprecationWarning, stacklevel=3)
        overlong = "truncate"
    if chosen not in ("direct", "critique"):
        raise ConfigError(f"mode = {chosen!r} is not 'direct' or 'critique'")
    if overlong not in ("error", "truncate"):
        raise ConfigError(f"overlong = {overlong!r} is not 'error' or 'truncate'")
    if n_samples < 1 or sampling.max_new_tokens < 1 or sampling.temperature < 0:
        raise ConfigError("n_samples and max_new_tokens are at least 1, temperature at least 0")
    if n_samples > 1 and (chosen == "direct" or sampling.temperature == 0):
        raise ConfigError(
            f"n_samples = {n_samples} would draw the same {n_samples} times: mode is {chosen}, "
            f"temperature {sampling.temperature:g}",
            hint="use mode='critique' with a temperature above 0, or one sample",
        )
    if force_verdict and chosen == "direct":
        raise ConfigError(
            "force_verdict is for critiques that end without a verdict; direct mode writes none",
            hint="use mode='critique', or leave it out",
        )
    if check_critiques and chosen == "direct":
        raise ConfigError(
            "check_critiques is for critiques, and direct mode writes none",
            hint="use mode='critique', or leave it out",
        )
    return JudgeSettings(
        mode=chosen,
        n_samples=n_samples,
        both_orders=both_orders,
        overlong=overlong,
        sampling=sampling,
        rules=ReadingRules(min_mass=least, follow_above=follow_above, force_verdict=force_verdict),
        guard=make_guard(guard),
        reasoning=check_reasoning(reasoning),
        check_critiques=check_critiques,
    )
