# SPDX-License-Identifier: Apache-2.0
"""Best-of-N selection against gold labels: value and cost of each strategy's pick.

A group of size N is the first N of its completions in the order of their tie-break hashes, so that smaller
groups are part of larger ones and share their judgments. The cost of each contender is that of a run without
the others. If several completions tie for the first place, the gold of the pick is their mean.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from autoj_reward.errors import ConfigError, DataError
from autoj_reward.evaluate.gold import GoldGroup
from autoj_reward.judge.judge import Judge
from autoj_reward.ranking.evidence import Answers, Evidence, Round
from autoj_reward.ranking.orders import order
from autoj_reward.ranking.registry import choose_strategy
from autoj_reward.ranking.resolution import ranking_resolution
from autoj_reward.ranking.runner import JudgeOracle, run_strategy
from autoj_reward.ranking.strategies import Pointwise, Strategy
from autoj_reward.statistics import Share, bootstrap_rows, kendall, resampled, share_of_known, spearman

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Contender:
    """A strategy, and the judge that it asks."""

    strategy: Strategy
    judge: Judge


def contenders_of(
    judge: Judge, names: Sequence[str], *, samples: int | None = None, temperature: float = 1.0
) -> dict[str, Contender]:
    """Contenders by strategy names, and K sampled critiques as one more.

    Args:
        judge: The judge that strategies ask.
        names: As `choose_strategy` takes them.
        samples: K, at least 2: adds `K samples`, the mean of K critiques' distributions, drawn at the
            temperature by the same judge in critique mode. None adds nothing.
        temperature: Sampling temperature of those critiques.

    Raises:
        ConfigError: A strategy's name is unknown, or K is below 2.
    """
    found = {(s := choose_strategy(name)).name: Contender(s, judge) for name in names}
    if samples is not None:
        if samples < 2 or temperature <= 0:
            raise ConfigError(
                f"samples must be at least 2 and their temperature above 0; found {samples} and {temperature}"
            )
        sampling = replace(judge.settings.sampling, temperature=temperature)
        settings: dict[str, Any] = {"mode": "critique", "n_samples": samples, "sampling": sampling}
        found[f"{samples} samples"] = Contender(Pointwise(), judge.with_settings(**settings))
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectionRow:
    """One contender, or one rule that uses no judge, at one N.

    Attributes:
        name: The contender or rule.
        n: Completions of a group.
        n_groups: Groups.
        gold: Mean gold of the pick.
        over_random: Mean gold of the pick less that of a random one in the same groups, exact.
        gain: (pick - random) / (oracle - random), the ratio of the means; 1 is the oracle.
        kendall: Mean tau-b with gold over groups where both sides differ; None for rules.
        spearman: Mean rank correlation, likewise.
        calls: Judge calls for a prompt.
        tokens: Tokens for a prompt.
        seconds: Seconds for a prompt: judgments at the mean seconds that one of their kind took.
        ties: Share of groups in which several completions tie for the first place.
        unranked: Share of completions without a verdict.
    """

    name: str
    n: int
    n_groups: int
    gold: Share
    over_random: Share
    gain: Share
    kendall: Share | None = None
    spearman: Share | None = None
    calls: float = 0.0
    tokens: float = 0.0
    seconds: float = 0.0
    ties: float = 0.0
    unranked: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectionReport:
    """All rows, and paired differences of gold between contenders at each N.

    Attributes:
        rows: By N, then by name.
        paired: {"n", "above", "below", "difference"}: mean gold of one less the other's, same groups.
        skipped: Groups smaller than the smallest N, or without gold.
        failures: Judgments without a verdict, by reason.
    """

    rows: list[SelectionRow]
    paired: list[dict[str, Any]]
    skipped: int
    failures: Counter[str]

    def as_dict(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "rows": [asdict(r) for r in self.rows],
            "paired": self.paired,
            "skipped": self.skipped,
            "failures": dict(self.failures),
        }


_CHECKED_GROUPS = 16
"""Groups that are judged between two checks."""


@dataclass(slots=True)
class _SharedOracle:
    """Answers for parts of groups, from judgments kept for the whole groups."""

    judge: Judge
    whole: JudgeOracle
    check: Callable[[], None] | None = None
    rating_seconds: list[float] = field(default_factory=list)
    comparison_seconds: list[float] = field(default_factory=list)
    parts: list[tuple[int, tuple[int, ...]]] = field(default_factory=list)
    """For each group of the current run: the whole group's number, and its members, ascending."""

    @property
    def calls_per_comparison(self) -> int:
        return self.whole.calls_per_comparison

    def answer(self, asked: list[tuple[int, Round]]) -> list[Answers]:
        translated = []
        for g, wanted in asked:
            number, members = self.parts[g]
            rate = tuple(members[i] for i in wanted.rate)
            compare = tuple((members[i], members[j]) for i, j in wanted.compare)
            translated.append((number, Round(rate=rate, compare=compare)))
        for kind, known, seconds in (
            ("rate", self.whole.ratings, self.rating_seconds),
            ("compare", self.whole.comparisons, self.comparison_seconds),
        ):
            new = [(g, _missing(g, wanted, kind, known)) for g, wanted in translated]
            if n := sum(len(w.rate) + len(w.compare) for _, w in new):
                start = time.perf_counter()
                self._answer(new)
                seconds += [(time.perf_counter() - start) / n] * n
        return [self.whole.recall(g, wanted) for g, wanted in translated]

    def _answer(self, new: list[tuple[int, Round]]) -> None:
        """All at once, which engines do best, or a few groups between two checks."""
        size = len(new) if self.check is None else _CHECKED_GROUPS
        for start in range(0, len(new), size):
            if self.check is not None:
                self.check()
            self.whole.answer(new[start : start + size])

    def seconds(self, evidence: Evidence) -> float:
        """Seconds that the judgments would take, at the mean of their kind."""
        return len(evidence.ratings) * _mean(self.rating_seconds) + len(evidence.comparisons) * _mean(
            self.comparison_seconds
        )


def _missing(g: int, wanted: Round, kind: str, known: Mapping[Any, Any]) -> Round:
    if kind == "rate":
        return Round(rate=tuple(i for i in wanted.rate if (g, i) not in known))
    return Round(compare=tuple(p for p in wanted.compare if (g, *p) not in known))


def evaluate_selection(
    groups: Sequence[GoldGroup],
    contenders: Mapping[str, Contender],
    *,
    sizes: Sequence[int] = (2, 4, 8, 16, 32),
    pairs: Sequence[tuple[str, str]] = (),
    resolution: float | None = None,
    progress: Callable[[str], None] = lambda text: None,
    check: Callable[[], None] | None = None,
) -> SelectionReport:
    """Measure every contender at every N, with rules that use no judge as baselines.

    Args:
        groups: Groups with gold; those without, or smaller than the smallest N, are left out and counted.
        contenders: By name.
        sizes: The N, each at least 2. A group counts at each N that it is large enough for.
        pairs: Names (above, below) of contenders or rules whose picks are compared in pairs.
        resolution: Rewards closer than this tie; None is each judge's own, as for `rank`.
        progress: Called with a line about each step.
        check: Called before every 16 groups that are judged; ends the call by raising, as a budget does.

    Raises:
        ConfigError: A size is below 2, or a pair names an unknown contender.
        DataError: No group is large enough and has gold.
        EngineError: The engine failed as a whole.
    """
    if not sizes or min(sizes) < 2:
        raise ConfigError(f"every size must be at least 2; found {list(sizes)}")
    usable = [g for g in groups if g.gold is not None and len(g.members) >= min(sizes)]
    if not usable:
        raise DataError(
            f"no group has gold labels and at least {min(sizes)} distinct completions",
            hint="add 'gold' to each 'outputs'; rerank --format autoj-selection picks without labels",
        )
    oracles: dict[int, _SharedOracle] = {}
    for contender in contenders.values():
        judge = contender.judge
        oracles.setdefault(
            id(judge), _SharedOracle(judge, JudgeOracle(judge, [g.requests() for g in usable]), check)
        )
    rows, paired = [], []
    for n in sorted(set(sizes)):
        # Members are in the order of a hash, so the first n are a random n.
        parts = [(g, tuple(range(n))) for g, group in enumerate(usable) if len(group.members) >= n]
        if not parts:
            continue
        made = _Results(usable, parts, resolution)
        for name, contender in contenders.items():
            progress(f"N = {n}: {name}, {len(parts)} groups")
            made.run(name, contender.strategy, oracles[id(contender.judge)])
        rows += made.rows(n)
        for above, below in pairs:
            if not {above, below} <= set(made.picks):
                raise ConfigError(
                    f"cannot compare {above!r} with {below!r}: known are {', '.join(made.picks)}"
                )
            difference = resampled(made.picks[above] - made.picks[below], made.resamples)
            paired.append({"n": n, "above": above, "below": below, "difference": asdict(difference)})
    judged = [j for o in oracles.values() for j in (*o.whole.ratings.values(), *o.whole.comparisons.values())]
    failures = Counter(j.failure.reason.value for j in judged if j.failure is not None)
    return SelectionReport(rows=rows, paired=paired, skipped=len(groups) - len(usable), failures=failures)


class _Results:
    """Picks, costs and correlations of all contenders at one N."""

    def __init__(
        self,
        groups: Sequence[GoldGroup],
        parts: Sequence[tuple[int, tuple[int, ...]]],
        resolution: float | None,
    ) -> None:
        self.parts = parts
        self.resolution = resolution
        self.gold = [_gold_by_member(groups[g])[list(part)] for g, part in parts]
        self.resamples = bootstrap_rows(len(parts))
        self.picks = _rules(groups, parts, self.gold)
        self.costs: dict[str, dict[str, Any]] = {}
        self._seeds = [(len(part), groups[g].seed(part)) for g, part in parts]

    def run(self, name: str, strategy: Strategy, judge_oracle: _SharedOracle) -> None:
        judge_oracle.parts = list(self.parts)
        evidences = run_strategy(strategy, self._seeds, judge_oracle)
        standings = [strategy.standing(e) for e in evidences]
        ties = self.resolution
        if ties is None:
            ties = ranking_resolution(judge_oracle.judge, strategy)
        orders = [order(s, ties) for s in standings]
        # Without any verdict the pick is one of all, at random.
        firsts = [o[0] if o else list(range(len(g))) for o, g in zip(orders, self.gold, strict=True)]
        self.picks[name] = np.array([g[f].mean() for g, f in zip(self.gold, firsts, strict=True)])
        places = [_places(o, len(g)) for o, g in zip(orders, self.gold, strict=True)]
        ranks = list(zip(places, self.gold, strict=True))
        self.costs[name] = {
            "kendall": share_of_known([kendall(-p, g) for p, g in ranks]),
            "spearman": share_of_known([spearman(-p, g) for p, g in ranks]),
            "calls": float(np.mean([e.n_calls for e in evidences])),
            "tokens": float(np.mean([e.n_tokens for e in evidences])),
            "seconds": float(np.mean([judge_oracle.seconds(e) for e in evidences])),
            "ties": float(np.mean([len(f) > 1 for f in firsts])),
            "unranked": float(np.concatenate([np.isnan(s.rewards) for s in standings]).mean()),
        }

    def rows(self, n: int) -> list[SelectionRow]:
        random, oracle = self.picks["random"], self.picks["oracle"]
        return [
            SelectionRow(
                name=name,
                n=n,
                n_groups=len(self.parts),
                gold=resampled(picks, self.resamples),
                over_random=resampled(picks - random, self.resamples),
                gain=resampled(picks - random, self.resamples, over=oracle - random),
                **self.costs.get(name, {}),
            )
            for name, picks in self.picks.items()
        ]


def _rules(
    groups: Sequence[GoldGroup], parts: Sequence[tuple[int, tuple[int, ...]]], gold: Sequence[Floats]
) -> dict[str, Floats]:
    """Expected gold of rules that need no judge, a random and the best possible pick included."""
    of = [(groups[g], groups[g].members, part) for g, part in parts]
    lengths = [np.array([len(g.completions[e[i][0]]) for i in p], dtype=float) for g, e, p in of]
    firsts = [np.array([-e[i][0] for i in p], dtype=float) for g, e, p in of]
    rules = {
        "random": np.array([g.mean() for g in gold]),
        "oracle": np.array([g.max() for g in gold]),
        "first": _picked(firsts, gold),
        "longest": _picked(lengths, gold),
    }
    if all(g.logprobs is not None for g, _, _ in of):
        logprobs = [np.array([g.logprobs[e[i][0]] for i in p]) for g, e, p in of if g.logprobs is not None]
        rules["most probable"] = _picked(logprobs, gold)
    if all(g.systems is not None for g, _, _ in of):
        rules["best system"] = _best_system(of, gold)
    return rules


def _picked(values: Sequence[Floats], gold: Sequence[Floats]) -> Floats:
    return np.array([g[v == v.max()].mean() for v, g in zip(values, gold, strict=True)])


def _best_system(
    of: Sequence[tuple[GoldGroup, Sequence[tuple[int, ...]], tuple[int, ...]]], gold: Sequence[Floats]
) -> Floats:
    """Pick the system with the best mean gold over these groups, or at random in groups without it."""
    names = [np.array([(g.systems or ())[e[i][0]] for i in p]) for g, e, p in of]
    by_system: dict[str, list[float]] = {}
    for row, values in zip(names, gold, strict=True):
        for name, value in zip(row.tolist(), values.tolist(), strict=True):
            by_system.setdefault(name, []).append(value)
    most = max(len(values) for values in by_system.values())
    # A system in few groups could be best by chance.
    best = max((n for n, v in by_system.items() if 2 * len(v) >= most), key=lambda n: _mean(by_system[n]))
    return np.array(
        [
            v[row == best].mean() if (row == best).any() else v.mean()
            for row, v in zip(names, gold, strict=True)
        ]
    )


def _gold_by_member(group: GoldGroup) -> Floats:
    """(n,) gold of distinct completions: the mean over copies of one text."""
    assert group.gold is not None
    gold = group.gold
    return np.array([np.mean([gold[m] for m in members]) for members in group.members])


def _places(blocks: Sequence[Sequence[int]], n: int) -> Floats:
    """The place of each: ties share one, and completions without a verdict share the last."""
    places = np.full(n, float(len(blocks)))
    for place, block in enumerate(blocks):
        places[list(block)] = place
    return places


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else 0.0
