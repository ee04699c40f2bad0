# SPDX-License-Identifier: Apache-2.0
"""Verdict sets: the verdicts of a judge, how it writes them, and how a reading becomes a distribution."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from autoj_reward.errors import ConfigError
from autoj_reward.judge.bounded_regex import bounded
from autoj_reward.judgments import PREFERENCES, Preference, Verdict, VerdictDistribution
from autoj_reward.types import ContinuationLogprobs, ContinuationQuery, Failure, FailureReason

_MOST_RATINGS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictSet:
    """The verdicts of one task.

    Attributes:
        verdicts: V ratings in rising order, or the three preferences.
        texts: How the judge writes each right after the verdict prefix, V of them.
        verdict_prefix: The words before the verdict, forced in direct mode.
        pattern: Finds a stated verdict in the judge's text; its group `verdict` is what was stated.
        stated: Stated text (case-folded, blanks squeezed) to verdict.
        terminators: First characters of the tokens that end a verdict.
        end_of_turn: Whether the end of the turn ends it too.
        assume_ends: Whether the end of a verdict that begins no other is taken for granted. Right for a
            judge that always closes its verdict: a direct verdict is then one request, unless it is the
            beginning of another. The mass then includes longer continuations.
        temperature: Fitted on labelled rows by `autoj-reward calibrate`: above 1 flattens readings,
            below 1 sharpens them. The most probable verdict of a reading stays.
    """

    verdicts: tuple[Verdict, ...]
    texts: tuple[str, ...]
    verdict_prefix: str
    pattern: re.Pattern[str]
    stated: Mapping[str, Verdict]
    terminators: tuple[str, ...]
    end_of_turn: bool
    assume_ends: bool = False
    temperature: float = 1.0

    def readout(self, *, follow_above: float = 0.0) -> ContinuationQuery:
        """What an engine is to read at the place of the verdict."""
        return ContinuationQuery(
            verdict_prefix=self.verdict_prefix,
            continuations=self.texts,
            terminators=self.terminators,
            end_of_turn=self.end_of_turn,
            follow_above=follow_above,
            assume_ends=self.assume_ends,
        )

    def distribution(
        self, reading: ContinuationLogprobs, *, min_mass: float
    ) -> VerdictDistribution | Failure:
        """A reading as a distribution over the set.

        P(v | set) = P(v) / mass, with P(v) = sum over terminators t of P(path(v), t) and mass the sum
        over v. At a temperature T other than 1 the distribution is P(v)^(1/T), normalised; the mass is
        what was read all the same.

        Args:
            reading: One path for each verdict, in the set's order.
            min_mass: Least mass, in (0, 1], with which a distribution means anything.

        Returns:
            The distribution, or a `low_mass` failure.
        """
        probs = reading.probs
        total = sum(probs)
        mass = min(total, 1.0)
        if not mass >= min_mass:  # also where it is not a number
            return Failure(
                reason=FailureReason.LOW_MASS,
                detail=f"only {mass:.2g} of the probability fell on a verdict (at least {min_mass:g} is "
                f"needed; at most {reading.unread_prob:.2g} was not read)",
            )
        if self.temperature != 1.0:
            most = max(probs)
            probs = [(p / most) ** (1.0 / self.temperature) for p in probs]
            total = sum(probs)
        return VerdictDistribution(
            verdicts=self.verdicts,
            probs=tuple(p / total for p in probs),
            mass=mass,
            unread_prob=reading.unread_prob,
            exactness="bounded" if reading.unread_prob > 0.0 else "exact",
        )

    def point(self, verdict: Verdict) -> VerdictDistribution:
        """All probability on one verdict, where an endpoint shows no probabilities."""
        return VerdictDistribution(
            verdicts=self.verdicts,
            probs=tuple(1.0 if v == verdict else 0.0 for v in self.verdicts),
            exactness="point",
        )


def rating_set(
    *,
    low: float,
    high: float,
    step: float,
    verdict_prefix: str,
    pattern: str,
    terminators: tuple[str, ...],
    end_of_turn: bool = False,
    assume_ends: bool = False,
    temperature: float = 1.0,
) -> VerdictSet:
    """Ratings from `low` to `high` in steps of `step`, written `7` or `6.5`.

    Raises:
        ConfigError: The scale is empty, or the pattern is not one.
    """
    if not (step > 0 and high > low) or not all(map(math.isfinite, (low, high, step))):
        raise ConfigError(f"a scale from {low:g} to {high:g} in steps of {step:g} holds no two ratings")
    _require_temperature(temperature)
    if not (high - low) / step < _MOST_RATINGS:
        raise ConfigError(f"a scale from {low:g} to {high:g} in steps of {step:g} holds over {_MOST_RATINGS}")
    n = int((high - low) / step + 1e-9) + 1
    ratings = tuple(round(low + k * step, 6) for k in range(n))
    texts = tuple(f"{r:g}" for r in ratings)
    if len(set(texts)) < n:
        raise ConfigError(f"a scale from {low:g} to {high:g} in steps of {step:g} writes two ratings alike")
    return VerdictSet(
        verdicts=ratings,
        texts=texts,
        verdict_prefix=verdict_prefix,
        pattern=_compile(pattern),
        stated=dict(zip(texts, ratings, strict=True)),
        terminators=terminators,
        end_of_turn=end_of_turn,
        assume_ends=assume_ends,
        temperature=temperature,
    )


def preference_set(
    *,
    written: Mapping[Preference, str],
    also: Mapping[Preference, tuple[str, ...]],
    verdict_prefix: str,
    pattern: str,
    terminators: tuple[str, ...],
    end_of_turn: bool = True,
    assume_ends: bool = False,
    temperature: float = 1.0,
) -> VerdictSet:
    """First, second or tie.

    Args:
        written: How the judge writes each right after the verdict prefix, with the blank before it.
        also: Further spellings that count as stated.
        verdict_prefix: The words before the verdict.
        pattern: Finds a stated verdict; its group `verdict` is looked up among the spellings.
        terminators: First characters of the tokens that end a verdict.
        end_of_turn: Whether the end of the turn ends it too.
        assume_ends: As in `VerdictSet`.
        temperature: Of readings, above 0.

    Raises:
        ConfigError: A preference has no text, or the pattern is not one.
    """
    if missing := [p for p in PREFERENCES if not written.get(p)]:
        raise ConfigError(f"the comparison has no text for {', '.join(missing)}")
    _require_temperature(temperature)
    stated: dict[str, Verdict] = {}
    for preference in PREFERENCES:
        for text in (written[preference], *also.get(preference, ())):
            stated[squeeze(text)] = preference
    return VerdictSet(
        verdicts=PREFERENCES,
        texts=tuple(written[p] for p in PREFERENCES),
        verdict_prefix=verdict_prefix,
        pattern=_compile(pattern),
        stated=stated,
        terminators=terminators,
        end_of_turn=end_of_turn,
        assume_ends=assume_ends,
        temperature=temperature,
    )


def _require_temperature(temperature: float) -> None:
    if not 0.0 < temperature < float("inf"):
        raise ConfigError(f"the verdicts' temperature = {temperature:g} is not above 0")


def squeeze(text: str) -> str:
    """Case-folded, with blanks squeezed: how stated verdicts are looked up."""
    return " ".join(text.casefold().split())


def _compile(pattern: str) -> re.Pattern[str]:
    try:
        compiled = re.compile(bounded(pattern), re.IGNORECASE)
    except (re.error, RecursionError, OverflowError) as error:
        raise ConfigError(f"the verdict pattern {pattern!r} is not a regular expression: {error}") from error
    if "verdict" not in compiled.groupindex:
        raise ConfigError(f"the verdict pattern {pattern!r} has no group named 'verdict'")
    return compiled
