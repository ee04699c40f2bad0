# SPDX-License-Identifier: Apache-2.0
"""Win rate of critiques against reference critiques, and statistics of a set of critiques.

A strong judge is shown the request, the answer and both critiques, and names the better one. A hash of the
texts and a seed decides which is shown first, so a second run shows the same; or both orders are judged.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import resources
from typing import Any

from autoj_reward.autoj.critiques import OUTCOMES, CritiqueCase, Outcome
from autoj_reward.autoj.scenarios.names import scenario_groups
from autoj_reward.errors import DataError
from autoj_reward.evaluate.report import ReportTable, figure
from autoj_reward.judge.judge import Judge
from autoj_reward.judge.parse import find_verdict
from autoj_reward.judge.spec import JudgeSpec, JudgingTask
from autoj_reward.judge.template import Template
from autoj_reward.judge.verdict import VerdictSet, preference_set
from autoj_reward.judgments import PairJudgment
from autoj_reward.statistics import Share, as_plain, share
from autoj_reward.types import Failure

_PATTERN = r"final\s+decision\s+is[\s:*\"“]*(?P<verdict>critique\s*\d+|tied?)\b"


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeShares:
    """Shares of n comparisons; an unreadable one is none of the three."""

    n: int
    win: Share
    tie: Share
    lose: Share


@dataclass(frozen=True, slots=True, kw_only=True)
class CritiqueReport:
    """Win, tie and lose shares over all comparisons and by group.

    Attributes:
        overall: All comparisons.
        groups: By group name, in the leaderboard's order.
        n_unreadable: Comparisons that could not be read; they count in n and are neither win, tie nor lose.
        longer_wins: Share of decided comparisons that the longer critique wins; None if the critiques are
            unknown.
        flips: Share of comparisons whose two orders disagree; None with one order.
    """

    overall: OutcomeShares
    groups: dict[str, OutcomeShares]
    n_unreadable: int
    longer_wins: Share | None = None
    flips: Share | None = None

    def as_dict(self) -> dict[str, Any]:
        """As plain data; shares are percentages."""
        return dict(as_plain(self))

    def table(self) -> ReportTable:
        """As a table of percentages."""

        def row(name: str, shares: OutcomeShares, bound: str = "value") -> tuple[str, ...]:
            return (name, str(shares.n), *(figure(getattr(getattr(shares, o), bound)) for o in OUTCOMES))

        notes = []
        if self.longer_wins is not None:
            notes.append(
                f"the longer critique wins {self.longer_wins.value:.1%} of {self.longer_wins.n:,} decided"
            )
        if self.flips is not None:
            notes.append(f"the two orders disagree in {self.flips.value:.1%} of {self.flips.n:,}")
        if self.n_unreadable:
            notes.append(f"{self.n_unreadable} comparisons could not be read; they count in no share")
        bounds = (("Overall", "value"), ("95% from", "low"), ("95% to", "high"))
        return ReportTable(
            title="Critiques against reference critiques, percent",
            columns=("group", "n", *OUTCOMES),
            sections=(
                tuple(row(name, shares) for name, shares in self.groups.items()),
                tuple(row(name, self.overall, bound) for name, bound in bounds),
            ),
            notes=tuple(notes),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CritiqueStatistics:
    """Ratings and lengths of a set of critiques.

    Attributes:
        n: Critiques.
        ratings: How often each stated rating occurs, the most frequent first.
        n_unrated: Critiques without a readable rating.
        tie_prob: Chance in [0, 1] that two critiques, drawn with replacement, state the same rating.
        mean_words: Mean number of words, separated by blanks.
    """

    n: int
    ratings: dict[float, int]
    n_unrated: int
    tie_prob: float
    mean_words: float

    def as_dict(self) -> dict[str, Any]:
        """As plain data; ratings as texts, which JSON needs."""
        return {
            "n": self.n,
            "ratings": {f"{rating:g}": n for rating, n in self.ratings.items()},
            "n_unrated": self.n_unrated,
            "tie_percent": round(100 * self.tie_prob, 2),
            "mean_words": round(self.mean_words, 1),
        }

    def notes(self) -> tuple[str, ...]:
        """Two lines for people."""
        ratings = ", ".join(f"{rating:g}: {n}" for rating, n in self.ratings.items())
        return (
            f"{self.n} critiques of {self.mean_words:.0f} words on average; ratings {ratings or 'none'}; "
            f"without one: {self.n_unrated}",
            f"two of them drawn at random state the same rating in {self.tie_prob:.1%}",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One evaluated critique against its reference critique.

    Attributes:
        outcome: None if the judge's answer could not be read.
        reference_first: Whether the reference critique was shown first; None with both orders.
        flipped: Whether the two orders disagree; None with one.
        judgment: The judge's judgment, in the order that was shown.
    """

    outcome: Outcome | None
    reference_first: bool | None
    flipped: bool | None
    judgment: PairJudgment


def evaluate_critiques(
    cases: Sequence[CritiqueCase],
    outcomes: Sequence[Outcome | None],
    *,
    critiques: Sequence[str] | None = None,
    references: Sequence[str] | None = None,
    flips: Sequence[bool | None] | None = None,
) -> CritiqueReport:
    """Win, tie and lose shares by group.

    Args:
        cases: B cases.
        outcomes: B outcomes, in the same order; None for one that could not be read.
        critiques: The B evaluated critiques, for the length baseline.
        references: The B reference critiques, likewise.
        flips: For both orders, whether they disagree.

    Raises:
        DataError: The numbers differ, or there are none.
    """
    for name, given in (("outcomes", outcomes), ("critiques", critiques), ("references", references)):
        if given is not None and len(given) != len(cases):
            raise DataError(f"there are {len(cases)} cases and {len(given)} {name}")
    if not cases:
        raise DataError("there are no cases")
    present = {c.group for c in cases}
    groups = [g for g in dict.fromkeys(scenario_groups().values()) if g in present]
    longer = None
    if critiques is not None and references is not None:
        longer = share(
            [
                (len(ours) > len(theirs)) == (outcome == "win")
                for ours, theirs, outcome in zip(critiques, references, outcomes, strict=True)
                if outcome in ("win", "lose") and len(ours) != len(theirs)
            ]
        )
    known = [f for f in flips or () if f is not None]
    return CritiqueReport(
        overall=_shares(outcomes),
        groups={
            group: _shares([o for c, o in zip(cases, outcomes, strict=True) if c.group == group])
            for group in groups
        },
        n_unreadable=sum(o is None for o in outcomes),
        longer_wins=longer,
        flips=share(known) if known else None,
    )


def critique_statistics(critiques: Sequence[str], verdicts: VerdictSet) -> CritiqueStatistics:
    """Ratings and lengths of at least one critique; `verdicts` says how their judge states a rating."""
    found = [find_verdict(text, "stop", verdicts) for text in critiques]
    stated = Counter(f.verdict for f in found if not isinstance(f, Failure))
    n = stated.total()
    return CritiqueStatistics(
        n=len(critiques),
        ratings={float(rating): count for rating, count in stated.most_common()},
        n_unrated=len(critiques) - n,
        tie_prob=sum((count / n) ** 2 for count in stated.values()) if n else 0.0,
        mean_words=sum(len(text.split()) for text in critiques) / len(critiques),
    )


def comparing_spec(spec: JudgeSpec) -> JudgeSpec:
    """A judge that compares critiques instead of completions, on the same model and in its own wrapper."""
    text = (resources.files("autoj_reward.evaluate") / "critique_comparison.txt").read_text(encoding="utf-8")
    verdicts = preference_set(
        written={"first": " Critique 1", "second": " Critique 2", "tie": " Tie"},
        also={"first": ("Critique1",), "second": ("Critique2",), "tie": ("Tied",)},
        verdict_prefix="The final decision is",
        pattern=_PATTERN,
        terminators=("\n", ".", '"'),
    )
    template = Template(name="critique_comparison.txt", text=text, aliases={"answer": "reference"})
    return replace(
        spec,
        name=f"{spec.name} comparing critiques",
        rating=None,
        comparison=JudgingTask(template=template, verdicts=verdicts),
    )


def compare_critiques(
    judge: Judge,
    cases: Sequence[CritiqueCase],
    critiques: Sequence[str],
    references: Sequence[str],
    *,
    seed: int = 0,
) -> list[Comparison]:
    """Let a judge compare B critiques with the reference critiques of the same cases.

    Args:
        judge: Of a `comparing_spec`. If it judges both orders, they are averaged as probabilities.
        cases: B cases.
        critiques: B evaluated critiques.
        references: B reference critiques.
        seed: With the texts it decides which critique is shown first.

    Raises:
        ConfigError: The numbers differ.
        EngineError: The engine failed as a whole.
    """
    swapped = [
        reference_first(case, ours, theirs, seed=seed)
        for case, ours, theirs in zip(cases, critiques, references, strict=True)
    ]
    pairs = [(b, a) if s else (a, b) for s, a, b in zip(swapped, critiques, references, strict=True)]
    judgments = judge.compare(
        [c.prompt for c in cases],
        [first for first, _ in pairs],
        [second for _, second in pairs],
        references=[c.completion for c in cases],
    )
    both = judge.settings.both_orders
    return [
        Comparison(
            outcome=_outcome(judgment, swapped=s),
            reference_first=None if both else s,
            flipped=judgment.flipped if both else None,
            judgment=judgment,
        )
        for judgment, s in zip(judgments, swapped, strict=True)
    ]


def reference_first(case: CritiqueCase, critique: str, reference: str, *, seed: int) -> bool:
    """Whether the reference critique is shown first: a fair coin that the texts and the seed decide."""
    whole = "\0".join([str(seed), case.prompt, case.completion, critique, reference])
    return hashlib.sha256(whole.encode("utf-8", "surrogatepass")).digest()[0] % 2 == 1


def _outcome(judgment: PairJudgment, *, swapped: bool) -> Outcome | None:
    preference = judgment.preference
    if len(judgment.samples) == 1 and judgment.distribution is not None:
        # One critique in one order decides what it states.
        stated = judgment.samples[0].stated
        preference = stated if stated in ("first", "second", "tie") else preference
    if preference is None or preference == "tie":
        return preference
    return "win" if (preference == "first") is not swapped else "lose"


def _shares(outcomes: Sequence[Outcome | None]) -> OutcomeShares:
    win, tie, lose = (share([o == name for o in outcomes]) for name in OUTCOMES)
    return OutcomeShares(win=win, tie=tie, lose=lose, n=len(outcomes))
