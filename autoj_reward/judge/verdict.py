# SPDX-License-Identifier: Apache-2.0
"""Verdict sets: the verdicts of a judge, how it writes them, and how a reading becomes a distribution.

The parser of critiques is `parse.py`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

from autoj_reward.errors import ConfigError
from autoj_reward.judge.verdicts.bounded_regex import bounded
from autoj_reward.judge.verdicts.stated import squeeze
from autoj_reward.judgments import PREFERENCES, Preference, Verdict, VerdictDistribution
from autoj_reward.types import ContinuationLogprobs, ContinuationQuery, Failure, FailureReason

_MOST_VERDICTS = 1000

SCORE = r"(?<![\w.])(?P<score>[+-]?\d{1,6}(?:\.\d{1,6})?)(?!\w)"
"""A score among several in one verdict: a number that is not part of a word such as `score_1`."""

Place = Literal["end", "start", "anywhere"]
"""Where an output states its verdict. end: it concludes with it. start: it begins with it, and explains it
afterwards. anywhere: the last place that the pattern finds, such as a field of a JSON object."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictSet:
    """The verdicts of one task.

    Attributes:
        verdicts: V different verdicts: ratings in rising order, preferences, or (of a graded comparison) the
            first completion's win probabilities in rising order.
        texts: How the judge writes each right after the verdict prefix, V of them; then further texts that
            are read too.
        further: The verdict of each further text.
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
        place: Where an output states its verdict.
        scores: Finds each score (its group `score`) in what the pattern found, where a verdict is several
            scores; None where it is one text.
        between: The words between two scores; empty without `scores`.
    """

    verdicts: tuple[Verdict, ...]
    texts: tuple[str, ...]
    further: tuple[Verdict, ...] = ()
    verdict_prefix: str
    pattern: re.Pattern[str]
    stated: Mapping[str, Verdict]
    terminators: tuple[str, ...]
    end_of_turn: bool
    assume_ends: bool = False
    temperature: float = 1.0
    place: Place = "end"
    scores: re.Pattern[str] | None = None
    between: str = ""

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

    def separated_by(self, between: str) -> VerdictSet:
        """The set of two scores with these words between them, as a critique may write them."""
        if between == self.between or not self.between:
            return self
        texts = tuple(between.join(text.split(self.between, 1)) for text in self.texts)
        return replace(self, texts=texts, between=between)

    def text_of(self, verdict: Verdict) -> str:
        """How the judge writes a verdict after the prefix.

        Raises:
            ConfigError: The set does not hold it.
        """
        if verdict not in self.verdicts:
            raise ConfigError(f"the judge has no verdict {verdict!r}; it has {shown(self.verdicts)}")
        return self.texts[self.verdicts.index(verdict)]

    @property
    def closing(self) -> str:
        """What closes the brackets with which the prefix ends, such as `]]`."""
        prefix = self.verdict_prefix
        return prefix[len(prefix.rstrip("[({<")) :].translate(str.maketrans("[({<", "])}>"))

    def distribution(
        self, reading: ContinuationLogprobs, *, min_mass: float
    ) -> VerdictDistribution | Failure:
        """A reading as a distribution over the set.

        P(v | set) = P(v) / mass, with P(v) = sum over terminators t of P(path(v), t) and mass the sum
        over v; a verdict with several texts has the sum of theirs. At a temperature T other than 1 the
        distribution is P(v)^(1/T), normalised; the mass is what was read all the same.

        Args:
            reading: One path for each text, in the set's order.
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
        n = len(self.verdicts)
        for verdict, prob in zip(self.further, probs[n:], strict=True):
            probs[self.verdicts.index(verdict)] += prob
        del probs[n:]
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
        """All probability on one verdict, where an endpoint shows no probabilities or a rule decides.

        A preference that the set does not hold, such as a tie of two equal completions, is added to it.
        """
        if isinstance(verdict, str) and not isinstance(self.verdicts[0], str):
            wins = cast(tuple[float, ...], self.verdicts)
            verdict = {"first": max(wins), "second": min(wins), "tie": 0.5}[verdict]
        verdicts = self.verdicts if verdict in self.verdicts else (*self.verdicts, verdict)
        return VerdictDistribution(
            verdicts=verdicts,
            probs=tuple(1.0 if v == verdict else 0.0 for v in verdicts),
            exactness="point",
        )


def rating_set(
    *,
    low: float = 1,
    high: float = 10,
    step: float = 0.5,
    values: Mapping[str, float] | None = None,
    also: Mapping[str, Iterable[str]] | None = None,
    pattern: str,
    terminators: tuple[str, ...],
    verdict_prefix: str,
    end_of_turn: bool = False,
    **rules: Any,
) -> VerdictSet:
    """Ratings: numbers of a scale, written `7` or `6.5`, or texts with a value each.

    Args:
        low: Lowest rating of the scale.
        high: Highest rating of the scale.
        step: Distance of two ratings.
        values: Instead of a scale: how the judge writes its verdicts right after the verdict prefix, and the
            rating that each means (`{"yes": 1, "no": 0}`, `{"A": 1, "B": 2}`). Texts may share a rating.
        also: Further spellings of the values' texts that count as stated.
        pattern: Finds a stated verdict; its group `verdict` is looked up among the texts.
        terminators: First characters of the tokens that end a verdict.
        verdict_prefix: The words before the verdict.
        end_of_turn: Whether the end of the turn ends it too.
        **rules: `assume_ends`, `temperature`, `place`, as in `VerdictSet`.

    Raises:
        ConfigError: The scale is empty, two texts are the same, or the pattern is not one.
    """
    table = numbers(low, high, step) if values is None else values
    if len(set(table.values())) < 2 or not all(map(math.isfinite, table.values())):
        raise ConfigError(f"{shown(table)} hold no two ratings")
    return _valued_set(
        table,
        also or {},
        pattern=pattern,
        terminators=terminators,
        verdict_prefix=verdict_prefix,
        end_of_turn=end_of_turn,
        **rules,
    )


def preference_set(
    *,
    written: Mapping[Preference, str],
    also: Mapping[Preference, tuple[str, ...]],
    verdict_prefix: str,
    pattern: str,
    terminators: tuple[str, ...],
    end_of_turn: bool = True,
    **rules: Any,
) -> VerdictSet:
    """First or second, or a tie if the judge knows one.

    Args:
        written: How the judge writes each right after the verdict prefix, with the blank before it. Without a
            text for `tie` there are two verdicts.
        also: Further spellings that count as stated.
        verdict_prefix: The words before the verdict.
        pattern: Finds a stated verdict; its group `verdict` is looked up among the spellings.
        terminators: First characters of the tokens that end a verdict.
        end_of_turn: Whether the end of the turn ends it too.
        **rules: `assume_ends`, `temperature`, `place`, as in `VerdictSet`.

    Raises:
        ConfigError: A preference has no text, two have the same one, or the pattern is not one.
    """
    if missing := [p for p in PREFERENCES[:2] if not written.get(p)]:
        raise ConfigError(f"the comparison has no text for {', '.join(missing)}")
    verdicts = tuple(p for p in PREFERENCES if written.get(p))
    return _verdict_set(
        verdicts,
        [(written[p], p) for p in verdicts],
        [(text, p) for p in verdicts for text in also.get(p, ())],
        verdict_prefix=verdict_prefix,
        pattern=pattern,
        terminators=terminators,
        end_of_turn=end_of_turn,
        **rules,
    )


def graded_set(
    *, values: Mapping[str, float], also: Mapping[str, Iterable[str]] | None = None, **rules: Any
) -> VerdictSet:
    """Graded preferences, from much worse to much better.

    Args:
        values: How the judge writes its verdicts, and the chance in [0, 1] with which the first completion
            then wins: `{"A>>B": 1, "A>B": 0.75, "A=B": 0.5, "B>A": 0.25, "B>>A": 0}`.
        also: Further spellings of the texts that count as stated.
        **rules: As in `preference_set`.

    Raises:
        ConfigError: A value is not in [0, 1], or one has no counterpart: completions are shown in both
            orders, so there must be 1 - v for each v.
    """
    wins = {text: round(float(value), 6) for text, value in values.items()}
    if not all(0.0 <= v <= 1.0 for v in wins.values()):
        raise ConfigError(f"the win probabilities of {shown(wins)} are not all in [0, 1]")
    if lone := [v for v in wins.values() if round(1.0 - v, 6) not in wins.values()]:
        raise ConfigError(
            f"the graded comparison has the win probability {lone[0]:g} and no {1 - lone[0]:g}",
            hint="the same verdict with the completions in the other order needs a text too",
        )
    if len(set(wins.values())) < 2:
        raise ConfigError(f"{shown(wins)} hold no two win probabilities")
    return _valued_set(wins, also or {}, **{"end_of_turn": True, **rules})


def score_pair_set(
    *, table: Mapping[str, float], between: str, scores: str = SCORE, **rules: Any
) -> VerdictSet:
    """Two scores in one output, the first completion's before the second's: the higher one wins.

    Args:
        table: How the judge writes its scores, and the number that each means; see `numbers` for a scale.
        between: The words between the two (`" "`, `"</answer><answer>"`), which are read with them.
        scores: Finds each score (group `score`) within the pattern's group `verdict`.
        **rules: As in `preference_set`.

    Raises:
        ConfigError: There are over 1,000 pairs, nothing is between the scores, or a pattern is not one.
    """
    if not between or any(c in "+-." or c.isdigit() for c in between[0] + between[-1]):
        raise ConfigError(f"between = {between!r} does not separate two scores", hint="such as ' ' or ', '")
    if len(table) ** 2 > _MOST_VERDICTS:
        raise ConfigError(
            f"{len(table)} scores make {len(table) ** 2} pairs, over {_MOST_VERDICTS}",
            hint="take a larger step, or read the scores one after the other: [rating.list] with size = 2",
        )
    pairs = [
        (f"{a}{between}{b}", f"{squeeze(a)} {squeeze(b)}", "first" if x > y else "second" if x < y else "tie")
        for a, x in table.items()
        for b, y in table.items()
    ]
    heads = {verdict: next(p for p in pairs if p[2] == verdict) for verdict in PREFERENCES}
    pairs = [*heads.values(), *(p for p in pairs if p not in heads.values())]
    made = _verdict_set(
        PREFERENCES,
        [(text, cast(Verdict, verdict)) for text, _, verdict in pairs],
        [],
        **{"end_of_turn": True, **rules},
    )
    return replace(
        made,
        stated={key: cast(Verdict, verdict) for _, key, verdict in pairs},
        scores=compile_pattern(scores, "score"),
        between=between,
    )


def numbers(low: float, high: float, step: float) -> dict[str, float]:
    """The numbers of a scale, rising, by how they are written.

    Raises:
        ConfigError: There are no two of them, over 1,000, or two that are written alike.
    """
    scale = f"a scale from {low:g} to {high:g} in steps of {step:g}"
    if not (step > 0 and high > low) or not all(map(math.isfinite, (low, high, step))):
        raise ConfigError(f"{scale} holds no two ratings")
    if not (high - low) / step < _MOST_VERDICTS:
        raise ConfigError(f"{scale} holds over {_MOST_VERDICTS}")
    n = int((high - low) / step + 1e-9) + 1
    ratings = [round(low + k * step, 6) for k in range(n)]
    table = {f"{r:g}": r for r in ratings}
    if len(table) < n:
        raise ConfigError(f"{scale} writes two ratings alike")
    return table


def _valued_set(table: Mapping[str, float], also: Mapping[str, Iterable[str]], **rules: Any) -> VerdictSet:
    """Texts with a number each, in rising order; of several texts with one number the first given leads."""
    if unknown := [text for text in also if text not in table]:
        raise ConfigError(f"there are spellings for {shown(unknown)}, which {shown(table)} does not hold")
    rising = sorted(table.items(), key=lambda item: item[1])
    heads = {value: text for text, value in reversed(rising)}
    verdicts = tuple(sorted(heads))
    texts = [(heads[v], v) for v in verdicts] + [(t, v) for t, v in rising if heads[v] != t]
    spellings = [(spelling, table[text]) for text, more in also.items() for spelling in more]
    return _verdict_set(verdicts, texts, spellings, **rules)


def _verdict_set(
    verdicts: tuple[Verdict, ...],
    texts: Iterable[tuple[str, Verdict]],
    spellings: Iterable[tuple[str, Verdict]],
    *,
    pattern: str,
    temperature: float = 1.0,
    **rules: Any,
) -> VerdictSet:
    texts = list(texts)
    stated: dict[str, Verdict] = {}
    for text, verdict in (*texts, *spellings):
        if stated.setdefault(squeeze(text), verdict) != verdict:
            raise ConfigError(f"two verdicts are written {text.strip()!r}, case and blanks left out")
    if not all(text for text, _ in texts):
        raise ConfigError("a verdict has an empty text")
    if not 0.0 < temperature < float("inf"):
        raise ConfigError(f"the verdicts' temperature = {temperature:g} is not above 0")
    return VerdictSet(
        verdicts=verdicts,
        texts=tuple(text for text, _ in texts),
        further=tuple(verdict for _, verdict in texts[len(verdicts) :]),
        pattern=compile_pattern(pattern, "verdict"),
        stated=stated,
        temperature=temperature,
        **rules,
    )


def shown(texts: Iterable[object], most: int = 24) -> str:
    """Verdicts for a message; of many the first ones and their number."""
    listed = [str(text).strip() for text in texts]
    more = f", ... ({len(listed)})" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more


def compile_pattern(pattern: str, group: str) -> re.Pattern[str]:
    """A judge file's pattern, every repeat of it limited.

    Raises:
        ConfigError: It is not a regular expression, or lacks the group.
    """
    try:
        compiled = re.compile(bounded(pattern), re.IGNORECASE)
    except (re.error, RecursionError, OverflowError) as error:
        raise ConfigError(f"the verdict pattern {pattern!r} is not a regular expression: {error}") from error
    if group not in compiled.groupindex:
        raise ConfigError(f"the verdict pattern {pattern!r} has no group named {group!r}")
    return compiled
