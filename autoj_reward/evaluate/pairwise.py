# SPDX-License-Identifier: Apache-2.0
"""Agreement with people on pairs, as Auto-J's leaderboard counts it, by scenario group.

agreement    share of pairs whose decision in both orders is the human label
consistency  share of pairs with the same decision in both orders
one order    share of pairs whose decision in the given order is the human label
combined     as one order, with both orders combined: by averaged probabilities where the file has
             them, else a disagreement of the two orders counts as a tie
decided      as one order, on the pairs on which people did not tie; a tie of the judge is wrong there

A decision that could not be read is wrong and inconsistent, and counted as unreadable; it is no tie.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from autoj_reward.errors import DataError
from autoj_reward.evaluate.data import Decision, LabelledPair, scenario_groups
from autoj_reward.evaluate.metrics import Share, share
from autoj_reward.judgments import Preference


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupScores:
    """Scores of one group of scenarios; None where the decisions hold one order only."""

    n: int
    agreement: Share | None
    consistency: Share | None
    one_order: Share
    swapped_order: Share | None
    combined: Share | None
    decided: Share


@dataclass(frozen=True, slots=True, kw_only=True)
class PairwiseReport:
    """Scores over all pairs and by group, with what a judge has to beat.

    Attributes:
        overall: All pairs.
        groups: By group name, in the leaderboard's order.
        n_unreadable: Pairs with an order that could not be read.
        tie_share: How often the given order's decision is a tie, and how often people's is.
        hard_flips: Pairs where the two orders name different winners, and how many of those favour the
            second slot; None with one order.
        baselines: Scores of rules that read nothing.
    """

    overall: GroupScores
    groups: dict[str, GroupScores]
    n_unreadable: int
    tie_share: tuple[float, float]
    hard_flips: tuple[int, int] | None
    baselines: dict[str, GroupScores]

    def as_dict(self) -> dict[str, Any]:
        """As plain data; shares are percentages."""
        return {
            "overall": _plain(self.overall),
            "groups": {name: _plain(scores) for name, scores in self.groups.items()},
            "baselines": {name: _plain(scores) for name, scores in self.baselines.items()},
            "n_unreadable": self.n_unreadable,
            "tie_share": {"judge": self.tie_share[0], "people": self.tie_share[1]},
            "hard_flips": None
            if self.hard_flips is None
            else {"n": self.hard_flips[0], "for_second_slot": self.hard_flips[1]},
        }


def evaluate_pairs(pairs: Sequence[LabelledPair], decisions: Sequence[Decision]) -> PairwiseReport:
    """Score decisions against people.

    Args:
        pairs: B pairs.
        decisions: B decisions, in the same order.

    Raises:
        DataError: The numbers differ, or there are none.
    """
    if len(pairs) != len(decisions) or not pairs:
        raise DataError(f"there are {len(pairs)} pairs and {len(decisions)} decisions")
    present = {p.group for p in pairs}
    groups = [g for g in dict.fromkeys(scenario_groups().values()) if g in present]
    both = any(d.swapped is not None for d in decisions)
    flips = [d for d in decisions if d.given != d.swapped and {d.given, d.swapped} == {"first", "second"}]
    n = len(pairs)
    return PairwiseReport(
        overall=_scores(pairs, decisions, both=both),
        groups={
            group: _scores(*_where(pairs, decisions, lambda p, g=group: p.group == g), both=both)  # type: ignore[misc]
            for group in groups
        },
        n_unreadable=sum(d.given is None or (both and d.swapped is None) for d in decisions),
        tie_share=(
            sum(d.given == "tie" for d in decisions) / n,
            sum(p.preference == "tie" for p in pairs) / n,
        ),
        hard_flips=(len(flips), sum(d.given == "second" for d in flips)) if both else None,
        baselines={
            "longer completion": _scores(pairs, [Decision(given=_longer(p)) for p in pairs], both=False),
            "always first": _scores(pairs, [Decision(given="first") for _ in pairs], both=False),
            "always tie": _scores(pairs, [Decision(given="tie") for _ in pairs], both=False),
        },
    )


def _scores(pairs: Sequence[LabelledPair], decisions: Sequence[Decision], *, both: bool) -> GroupScores:
    labels = [p.preference for p in pairs]
    given = [d.given == label for d, label in zip(decisions, labels, strict=True)]
    swapped = [d.swapped == label for d, label in zip(decisions, labels, strict=True)]
    consistent = [d.given == d.swapped and d.given is not None for d in decisions]
    combined = [_combined(d) == label for d, label in zip(decisions, labels, strict=True)]
    return GroupScores(
        n=len(pairs),
        agreement=share([g and s for g, s in zip(given, swapped, strict=True)]) if both else None,
        consistency=share(consistent) if both else None,
        one_order=share(given),
        swapped_order=share(swapped) if both else None,
        combined=share(combined) if both else None,
        decided=share([g for g, label in zip(given, labels, strict=True) if label != "tie"]),
    )


def _combined(decision: Decision) -> Preference | None:
    if decision.averaged is not None or decision.given is None or decision.swapped is None:
        return decision.averaged
    return decision.given if decision.given == decision.swapped else "tie"


def _longer(pair: LabelledPair) -> Preference:
    if len(pair.first) == len(pair.second):
        return "tie"
    return "first" if len(pair.first) > len(pair.second) else "second"


def _where(
    pairs: Sequence[LabelledPair], decisions: Sequence[Decision], keep: Callable[[LabelledPair], bool]
) -> tuple[list[LabelledPair], list[Decision]]:
    kept = [(p, d) for p, d in zip(pairs, decisions, strict=True) if keep(p)]
    return [p for p, _ in kept], [d for _, d in kept]


def _plain(scores: GroupScores) -> dict[str, Any]:
    return {
        name: value
        if not isinstance(value, dict)
        else {
            "percent": round(100 * value["value"], 2),
            "low": round(100 * value["low"], 2),
            "high": round(100 * value["high"], 2),
            "n": value["n"],
        }
        for name, value in asdict(scores).items()
    }
