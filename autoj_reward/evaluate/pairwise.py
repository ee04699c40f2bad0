# SPDX-License-Identifier: Apache-2.0
"""Agreement with people on pairs, by scenario group, as Auto-J's leaderboard counts it.

agreement    share of pairs whose decision in both orders is the human label
consistency  share of pairs with the same decision in both orders
one order    share of pairs whose decision in the given order is the human label
combined     as one order, with both orders combined: by averaged probabilities where the file has
             them, else a disagreement of the two orders counts as a tie
decided      as one order, on the pairs on which people did not tie; a tie of the judge is wrong there
decided both as agreement, on those pairs
kappa        Cohen's kappa of the decisions that agreement counts, or with one order of its decisions; two
             orders that differ are a decision of their own, which is never right

A decision that could not be read is wrong and inconsistent, and counted as unreadable; it is not a tie.
Intervals and tests are over prompts: all pairs of one prompt are drawn together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from autoj_reward.autoj.pairs import Decision, LabelledPair
from autoj_reward.autoj.scenarios.names import scenario_groups
from autoj_reward.errors import DataError
from autoj_reward.evaluate.report import MISSING, ReportTable, figure
from autoj_reward.judge.messages.text import completion_text, prompt_text
from autoj_reward.judgments import Preference
from autoj_reward.statistics import (
    PairedTest,
    Share,
    as_plain,
    calibration_error,
    cohen_kappa,
    paired_test,
    share,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupScores:
    """Scores of one group of scenarios; None if the decisions hold one order only.

    `kappa` is in [-1, 1]; None if people's preference is the same for all pairs, as of `chosen` and
    `rejected`: it could be nothing but 0.
    """

    n: int
    agreement: Share | None
    kappa: float | None
    consistency: Share | None
    one_order: Share
    swapped_order: Share | None
    combined: Share | None
    decided: Share
    decided_both: Share | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PairCalibration:
    """How well win probabilities hold on the pairs that people decided.

    Attributes:
        error: Expected calibration error of the more probable side, in [0, 1]: ten equal bins.
        brier: Mean squared distance of the win probability from what happened, in [0, 1].
        n: Decided pairs with a win probability.
    """

    error: float
    brier: float
    n: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PairwiseReport:
    """Scores over all pairs and by group, with baselines.

    Attributes:
        overall: All pairs.
        groups: By group name, in the leaderboard's order.
        n_unreadable: Pairs with an order that could not be read.
        tie_share: Share of ties among the decisions in the given order, and among people's, in [0, 1].
        hard_flips: Pairs where the two orders name different winners, and how many of those favour the
            second slot; None with one order.
        second_slot: Among all decisions for one completion, in both orders, the share for the one that
            was shown second: 0.5 without bias. None with one order.
        calibration: Of win probabilities; None if the decisions have none.
        longer_wins: Of the pairs that people decided, the share that the longer completion won; pairs of
            equal length are left out.
        baselines: Scores of rules that do not read the texts.
    """

    overall: GroupScores
    groups: dict[str, GroupScores]
    n_unreadable: int
    tie_share: tuple[float, float]
    hard_flips: tuple[int, int] | None
    second_slot: Share | None
    calibration: PairCalibration | None
    longer_wins: Share
    baselines: dict[str, GroupScores]

    def as_dict(self) -> dict[str, Any]:
        """As plain data; shares are percentages."""
        flips = self.hard_flips
        return {
            **as_plain(self),
            "tie_share": {"judge": self.tie_share[0], "people": self.tie_share[1]},
            "hard_flips": None if flips is None else {"n": flips[0], "for_second_slot": flips[1]},
        }

    def table(self) -> ReportTable:
        """As a table of percentages: groups, all pairs with their interval, baselines."""
        overall = [_row(name, self.overall, bound) for name, bound in _BOUNDS]
        return ReportTable(
            title="Agreement with people, percent",
            columns=("group", "n", *_COLUMNS.values()),
            sections=(
                tuple(_row(name, scores) for name, scores in self.groups.items()),
                tuple(overall),
                tuple(_row(name, scores) for name, scores in self.baselines.items()),
            ),
            notes=(*_LEGEND, *self._notes()),
        )

    def _notes(self) -> list[str]:
        notes = [f"ties: judge {self.tie_share[0]:.1%}, people {self.tie_share[1]:.1%}"]
        if self.overall.kappa is None:
            notes.append(
                "people prefer the same place in every pair: no kappa, which could only be 0, and one order "
                "alone says little, since always that place would be right"
            )
        if self.longer_wins.n:
            of = self.longer_wins
            notes.append(f"people prefer the longer completion in {of.value:.1%} of {of.n:,} decided pairs")
        if self.hard_flips is not None:
            n, second = self.hard_flips
            notes.append(f"hard flips between the two orders: {n}, of them {second} for the second slot")
        if self.second_slot is not None and self.second_slot.n:
            slot = self.second_slot
            notes.append(
                f"decisions for the second slot: {slot.value:.1%} of {slot.n:,} "
                f"({slot.low:.1%} to {slot.high:.1%})"
            )
        if self.calibration is not None:
            known = self.calibration
            notes.append(
                f"win probabilities on {known.n:,} decided pairs: calibration error {known.error:.3f}, "
                f"Brier {known.brier:.3f}"
            )
        if self.n_unreadable:
            notes.append(f"{self.n_unreadable} pairs could not be read; they count as wrong, not as ties")
        return notes


_COLUMNS = {
    "agreement": "agreement",
    "kappa": "kappa",
    "consistency": "consistency",
    "one_order": "one order",
    "swapped_order": "swapped",
    "combined": "combined",
    "decided": "decided",
    "decided_both": "decided both",
}
_LEGEND = (
    "agreement: people's choice in both orders; consistency: one choice in both orders; kappa: agreement "
    "beyond chance",
    "one order, swapped: people's choice in each order alone; combined: of both orders averaged",
    "decided: one order, on the pairs where people did not tie; decided both: agreement on those",
)
_BOUNDS = (("Overall", "value"), ("95% from", "low"), ("95% to", "high"))


def evaluate_pairs(pairs: Sequence[LabelledPair], decisions: Sequence[Decision]) -> PairwiseReport:
    """Score B decisions on B pairs, in the same order, against people.

    Raises:
        DataError: The numbers differ, or there are none.
    """
    _same_length(pairs, decisions)
    present = {p.group for p in pairs}
    groups = [g for g in dict.fromkeys(scenario_groups().values()) if g in present]
    both = any(d.swapped is not None for d in decisions)
    flips = [d for d in decisions if d.given != d.swapped and {d.given, d.swapped} == {"first", "second"}]
    n = len(pairs)
    unequal = [p for p in pairs if p.preference != "tie" and longer(p) != "tie"]
    return PairwiseReport(
        overall=_scores(pairs, decisions, both=both),
        groups={
            group: _scores(
                [p for p in pairs if p.group == group],
                [d for p, d in zip(pairs, decisions, strict=True) if p.group == group],
                both=both,
            )
            for group in groups
        },
        n_unreadable=sum(d.given is None or (both and d.swapped is None) for d in decisions),
        tie_share=(
            sum(d.given == "tie" for d in decisions) / n,
            sum(p.preference == "tie" for p in pairs) / n,
        ),
        hard_flips=(len(flips), sum(d.given == "second" for d in flips)) if both else None,
        second_slot=_second_slot(pairs, decisions) if both else None,
        calibration=_calibration(pairs, decisions),
        longer_wins=share([longer(p) == p.preference for p in unequal], of=_prompts(unequal)),
        baselines={
            "longer completion": _scores(pairs, [Decision(given=longer(p)) for p in pairs], both=False),
            "always first": _scores(pairs, [Decision(given="first") for _ in pairs], both=False),
            "always tie": _scores(pairs, [Decision(given="tie") for _ in pairs], both=False),
        },
    )


def compare_judges(
    pairs: Sequence[LabelledPair], first: Sequence[Decision], second: Sequence[Decision]
) -> dict[str, PairedTest]:
    """Compare two judges on B pairs: a paired test for each figure that both have.

    The figures are `agreement`, `one_order` and `combined`.

    Raises:
        DataError: The numbers differ, or there are none.
    """
    for decisions in (first, second):
        _same_length(pairs, decisions)
    labels = [p.preference for p in pairs]
    rights: dict[str, Callable[[Decision, Preference], bool]] = {
        "one_order": lambda d, label: d.given == label,
    }
    if all(any(d.swapped is not None for d in decisions) for decisions in (first, second)):
        rights["agreement"] = lambda d, label: d.given == label and d.swapped == label
        rights["combined"] = lambda d, label: combined(d) == label
    return {
        name: paired_test(
            [right(d, label) for d, label in zip(first, labels, strict=True)],
            [right(d, label) for d, label in zip(second, labels, strict=True)],
            of=_prompts(pairs),
        )
        for name, right in sorted(rights.items())
    }


def combined(decision: Decision) -> Preference | None:
    """Both orders as one decision: by averaged probabilities, or, without them, a disagreement is a tie."""
    if decision.averaged is not None or decision.given is None or decision.swapped is None:
        return decision.averaged
    return decision.given if decision.given == decision.swapped else "tie"


def longer(pair: LabelledPair) -> Preference:
    """The decision of the baseline that prefers the completion with more characters."""
    first, second = (len(completion_text(text)) for text in (pair.first, pair.second))
    if first == second:
        return "tie"
    return "first" if first > second else "second"


def _same_length(pairs: Sequence[LabelledPair], decisions: Sequence[Decision]) -> None:
    if len(pairs) != len(decisions) or not pairs:
        raise DataError(f"there are {len(pairs)} pairs and {len(decisions)} decisions")


def _scores(pairs: Sequence[LabelledPair], decisions: Sequence[Decision], *, both: bool) -> GroupScores:
    labels = [p.preference for p in pairs]
    given = [d.given == label for d, label in zip(decisions, labels, strict=True)]
    swapped = [d.swapped == label for d, label in zip(decisions, labels, strict=True)]
    agreed = [g and s for g, s in zip(given, swapped, strict=True)]
    consistent = [d.given == d.swapped and d.given is not None for d in decisions]
    together = [combined(d) == label for d, label in zip(decisions, labels, strict=True)]
    same = [d.given if not both or d.given == d.swapped else None for d in decisions]
    kappa = cohen_kappa(same, labels) if len(set(labels)) > 1 else math.nan
    prompts = _prompts(pairs)
    decided = [n for n, label in enumerate(labels) if label != "tie"]

    def of_decided(right: Sequence[bool]) -> Share:
        return share([right[n] for n in decided], of=[prompts[n] for n in decided])

    return GroupScores(
        n=len(pairs),
        agreement=share(agreed, of=prompts) if both else None,
        kappa=None if math.isnan(kappa) else kappa,
        consistency=share(consistent, of=prompts) if both else None,
        one_order=share(given, of=prompts),
        swapped_order=share(swapped, of=prompts) if both else None,
        combined=share(together, of=prompts) if both else None,
        decided=of_decided(given),
        decided_both=of_decided(agreed) if both else None,
    )


def _prompts(pairs: Sequence[LabelledPair]) -> list[str]:
    return [prompt_text(pair.prompt) for pair in pairs]


def _second_slot(pairs: Sequence[LabelledPair], decisions: Sequence[Decision]) -> Share:
    # Swapped decisions are named as the pair was given: its first completion was shown second.
    slots = [
        (prompt, decided == second)
        for prompt, d in zip(_prompts(pairs), decisions, strict=True)
        for decided, second in ((d.given, "second"), (d.swapped, "first"))
        if decided in ("first", "second")
    ]
    return share([in_second for _, in_second in slots], of=[prompt for prompt, _ in slots])


def _calibration(pairs: Sequence[LabelledPair], decisions: Sequence[Decision]) -> PairCalibration | None:
    known = [
        (d.win_prob, p.preference == "first")
        for p, d in zip(pairs, decisions, strict=True)
        if d.win_prob is not None and p.preference != "tie"
    ]
    if not known:
        return None
    probs = np.array([prob for prob, _ in known])
    won = np.array([first for _, first in known])
    return PairCalibration(
        error=calibration_error(np.maximum(probs, 1 - probs), (probs >= 0.5) == won),
        brier=float(((probs - won) ** 2).mean()),
        n=len(known),
    )


def _row(name: str, scores: GroupScores, bound: str = "value") -> tuple[str, ...]:
    def cell(given: Share | float | None) -> str:
        if isinstance(given, float):
            return figure(given, of=1.0) if bound == "value" else MISSING
        return MISSING if given is None or given.n == 0 else figure(getattr(given, bound))

    return (name, str(scores.n), *(cell(getattr(scores, column)) for column in _COLUMNS))
