# SPDX-License-Identifier: Apache-2.0
"""A panel: several judges that answer as one."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Literal, cast

from autoj_reward.criteria.rubric import Rubric
from autoj_reward.errors import ConfigError, EngineError
from autoj_reward.identity import short_id
from autoj_reward.judge.judge import Judge
from autoj_reward.judge.panels.combine import Rule
from autoj_reward.judge.panels.engine import PanelEngine
from autoj_reward.judge.panels.judgment import panel_judgment
from autoj_reward.judge.panels.members import Member
from autoj_reward.judge.panels.spec import MemberSpec, OnMissing, PanelSpec, panel_spec
from autoj_reward.judgments import Judgment, PairJudgment, RatingJudgment
from autoj_reward.types import Failure, FailureReason, Request

_REMOTE = ("server", "decisions")


class Panel(Judge):
    """Several judges as one: a `Judge` whose verdicts combine those of its members.

    It is made of judges, or by `Judge.load` from a TOML file with `kind = "panel"`. Every member has its own
    template, engine, batches and entries in the cache; members on servers are asked at the same time, others
    one after the other. What each said is kept in a judgment's `members`. A panel of one judge gives that
    judge's judgments.

    A rubric or reference answer goes to the members whose template shows it. A member that does not compare
    compares by its ratings; one that does not rate takes no part in ratings. Ratings are on the scale of the
    first member that rates: the ends of another scale are mapped to its ends, and a probability between two
    of its ratings is split so that the mean stays.

    Args:
        members: Judges, or names for `Judge.load`.
        names: What judgments call them; None takes the judges' names, numbered where two are the same.
        weights: Their weights, at least 0; only proportions count. None weighs them equally.
        compare_by: For each member comparison, ratings, or None for what it does best.
        rule: mean, majority or minimum, see `Rule`.
        on_missing: error: an engine that fails raises, and a member without a verdict makes the panel's
            judgment a failure. leave_out: the other members decide, with their weights; `n_left_out` counts.
        name: The panel's name.

    Raises:
        ConfigError: There are no members, names or weights do not fit, or members differ in both_orders,
            reasoning or guard.

    Example:
        >>> panel = Panel(["mini", "autoj-13b"], weights=[1, 3])                # doctest: +SKIP
        >>> panel.rate(["Name a prime."], ["7"])[0].agreement                   # doctest: +SKIP
    """

    def __init__(
        self,
        members: Sequence[Judge | str],
        *,
        names: Sequence[str] | None = None,
        weights: Sequence[float] | None = None,
        compare_by: Sequence[Literal["comparison", "ratings"] | None] | None = None,
        rule: Rule = "mean",
        on_missing: OnMissing = "error",
        name: str = "panel",
    ) -> None:
        judges = [Judge.load(m) if isinstance(m, str) else m for m in members]
        names = _numbered([judge.spec.name for judge in judges]) if names is None else names
        weights = [1.0] * len(judges) if weights is None else weights
        compare_by = [None] * len(judges) if compare_by is None else compare_by
        if not len(judges) == len(names) == len(weights) == len(compare_by):
            raise ConfigError(
                f"{len(judges)} members have {len(names)} names, {len(weights)} weights and "
                f"{len(compare_by)} ways to compare"
            )
        specs = [
            MemberSpec(judge=judge.spec, name=own, weight=float(weight), compare_by=how)
            for judge, own, weight, how in zip(judges, names, weights, compare_by, strict=True)
        ]
        self._set_up(panel_spec(specs, name=name, rule=rule, on_missing=on_missing), judges)

    @classmethod
    def of(cls, spec: PanelSpec, judges: Sequence[Judge]) -> Panel:
        """The panel that a spec describes, of one judge for each of its members."""
        made = cls.__new__(cls)
        made._set_up(spec, judges)
        return made

    def _set_up(self, spec: PanelSpec, judges: Sequence[Judge]) -> None:
        members = tuple(Member(m, judge) for m, judge in zip(spec.members, judges, strict=True))
        first = judges[0].settings
        for member in members:
            for field in ("both_orders", "reasoning", "guard"):
                if (found := getattr(member.judge.settings, field)) != (wanted := getattr(first, field)):
                    raise ConfigError(
                        f"member {member.spec.name!r} has {field} = {found!r}, the first one {wanted!r}",
                        hint="members of a panel share both_orders, reasoning and guard",
                    )
        writes = any(m.judge.settings.mode == "critique" for m in members)
        mode: Literal["critique", "direct"] = "critique" if writes else "direct"
        settings = replace(first, mode=mode, n_samples=1)
        super().__init__(spec, settings, PanelEngine([m.judge for m in members]))
        self.panel_spec, self.members = spec, members
        self.n_left_out: Counter[str] = Counter()
        """Judgments that a member had no part in because it was missing, by the member's name."""

    @property
    def dtype(self) -> str | None:
        return _coarsest({m.judge.dtype for m in self.members})

    @property
    def head_dtype(self) -> str | None:
        return _coarsest({m.judge.head_dtype for m in self.members})

    @property
    def identity(self) -> str:
        return self._identity([m.judge.identity for m in self.members])

    def _identity(self, ids: Sequence[str]) -> str:
        """The members' ids, weights and rule as one; of one member its own."""
        if len(ids) == 1:
            return ids[0]
        facts = [[m.spec.weight, m.spec.compare_by, one] for m, one in zip(self.members, ids, strict=True)]
        return short_id("panel", self.panel_spec.rule, self.panel_spec.on_missing, facts)

    def describe(self, how: Literal["load", "files", "plan"] = "load") -> dict[str, Any]:
        members = [m.judge.describe(how) for m in self.members]
        engines = [one["engine"] for one in members]
        prints = [one.get("fingerprint") for one in engines]
        kinds = {str(one.get("engine")) for one in engines}
        limits = [n for one in engines if (n := one.get("context_tokens"))]
        settings = ("mode", "min_mass", "sampling", "wrapper", "n_samples", "force_verdict")
        ids = [one["judge_id"] for one in members]
        return {
            **members[0],
            "judge": self.spec.name,
            "model": self.spec.model,
            "judge_id": None if None in ids else self._identity(ids),
            "template": self.spec.fingerprint,
            "mode": self.settings.mode,
            "n_samples": 1,
            "scale": None
            if self.spec.rating is None
            else sorted({float(v) for v in self.spec.rating.verdicts.verdicts}),
            "rule": self.panel_spec.rule,
            "on_missing": self.panel_spec.on_missing,
            "members": [
                {
                    "name": m.spec.name,
                    "weight": m.spec.weight,
                    "judge_id": one["judge_id"],
                    "template": one["template"],
                    **{key: one[key] for key in settings},
                }
                for m, one in zip(self.members, members, strict=True)
            ],
            "engine": {
                "engine": kinds.pop() if len(kinds) == 1 else "panel",
                "fingerprint": None if None in prints else short_id("panel", prints),
                "source": "; ".join(dict.fromkeys(str(e.get("source") or e.get("model")) for e in engines)),
                "dtype": self.dtype if how == "plan" else next((e.get("dtype") for e in engines), None),
                "context_tokens": min(limits, default=None),
                "members": engines,
            },
        }

    def close(self) -> None:
        self._async_calls.close()
        for member in self.members:
            member.judge.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return Panel.of, (self.panel_spec, [m.judge for m in self.members])

    def with_settings(self, *, engine_of: Judge | None = None, **changes: Any) -> Panel:
        if engine_of is not None:
            raise ConfigError("a panel has the engines of its members")
        return Panel.of(self.panel_spec, [m.judge.with_settings(**changes) for m in self.members])

    def inputs_per_request(self, n_completions: int) -> int:
        return sum(m.inputs_per_request(n_completions) for m in self.members)

    def language_of(self, request: Request) -> str | None:
        found = (m.judge.language_of(request) for m in self.members if m.judge.spec.translations)
        return next(found, None)

    def check(self, requests: Sequence[Request]) -> None:
        for n in {len(request.completions) for request in requests}:
            own = [request for request in requests if len(request.completions) == n]
            for member in self._able(n):
                member.check([self._fitting(member, request) for request in own])

    def judge_requests(self, requests: Sequence[Request]) -> list[RatingJudgment | PairJudgment]:
        sizes = sorted({len(request.completions) for request in requests})
        asked: list[tuple[Member, list[int]]] = []
        for n in sizes:
            own = [i for i, request in enumerate(requests) if len(request.completions) == n]
            asked += [(member, own) for member in self._able(n)]
        heard: dict[int, dict[str, Judgment]] = {i: {} for i in range(len(requests))}
        for (member, own), judged in zip(asked, self._ask_all(asked, requests), strict=True):
            for i, judgment in zip(own, judged, strict=True):
                heard[i][member.spec.name] = judgment
        judge_id = self._identity([m.judge._answerer.known_identity for m in self.members])
        return [self._judgment(requests[i], said, judge_id) for i, said in heard.items()]

    def _able(self, n_completions: int) -> list[Member]:
        """The members that judge requests of one completion, or of two.

        Raises:
            ConfigError: None does.
        """
        self.spec.task_for(n_completions)
        return [m for m in self.members if m.can_judge(n_completions)]

    def _fitting(self, member: Member, request: Request) -> Request:
        """The request without what this member's template does not show and another member's does.

        A rubric of criteria is for every member that rates.
        """
        n = len(request.completions)
        if isinstance(request.rubric, Rubric) and (n == 1 or member.spec.rates_to_compare):
            return request
        own, all_ = member.taken(n), frozenset[str]().union(*(m.taken(n) for m in self._able(n)))
        if not isinstance(request.rubric, str):
            # Any judge is asked about criteria one by one.
            all_ -= {"rubric"}
        unseen: dict[str, Any] = dict.fromkeys(all_ - own)
        return replace(request, **unseen) if unseen else request

    def _ask_all(
        self, asked: Sequence[tuple[Member, list[int]]], requests: Sequence[Request]
    ) -> list[list[Judgment]]:
        """Each member's judgments; members on servers at the same time."""
        calls = [
            functools.partial(self._ask, member, [self._fitting(member, requests[i]) for i in own])
            for member, own in asked
        ]
        remote = [i for i, (member, _) in enumerate(asked) if member.spec.name in self._remote]
        if len(calls) < 2 or not remote:
            return [call() for call in calls]
        with ThreadPoolExecutor(len(remote), thread_name_prefix="autoj-reward-panel") as threads:
            running = {i: threads.submit(calls[i]) for i in remote}
            here = {i: call() for i, call in enumerate(calls) if i not in running}
            return [running[i].result() if i in running else here[i] for i in range(len(calls))]

    @functools.cached_property
    def _remote(self) -> frozenset[str]:
        """Names of the members on servers; found once, because a plan is read from files."""
        return frozenset(m.spec.name for m in self.members if _is_remote(m.judge))

    def _ask(self, member: Member, requests: Sequence[Request]) -> list[Judgment]:
        try:
            return member.judge_requests(requests)
        except EngineError as error:
            if self.panel_spec.on_missing == "error" or len(self.members) == 1:
                raise
            failure = Failure(reason=FailureReason.ENGINE, detail=str(error))
            return [member.missing(request, failure) for request in requests]

    def _judgment(
        self, request: Request, said: Mapping[str, Judgment], judge_id: str
    ) -> RatingJudgment | PairJudgment:
        if len(self.members) == 1:
            return cast(RatingJudgment | PairJudgment, next(iter(said.values())))
        if self.panel_spec.on_missing == "leave_out":
            self.n_left_out.update(name for name, judgment in said.items() if judgment.failure is not None)
        mode, n = self.settings.mode, len(request.completions)
        return panel_judgment(self.panel_spec, n, said, mode=mode, judge_id=judge_id)


def load_panel(spec: PanelSpec, arguments: Mapping[str, Any], engine_options: Mapping[str, Any]) -> Panel:
    """A panel whose members are loaded with the arguments of `Judge.load`.

    What a member states itself comes first; one with an engine of its own gets none of the engine options.
    Members of one model with equal engine options share an engine.
    """
    judges: list[Judge] = []
    engines: dict[str, Judge] = {}
    for member in spec.members:
        own = dict(member.options)
        given = {**arguments, **({} if "engine" in own else engine_options), **own}
        if own.get("mode") == "direct":
            given |= {"n_samples": 1, "force_verdict": False, "check_critiques": False}
        judge = Judge.load(member.judge, **given)
        engine, model = given.get("engine"), member.judge
        if engine is None or isinstance(engine, str):
            further = {k: v for k, v in given.items() if k not in arguments}
            own_model = [model.model, model.revision, model.context_tokens, model.engine_options]
            key = repr([engine, *own_model, further])
            first = engines.setdefault(key, judge)
            judge = judge if first is judge else judge.with_settings(engine_of=first)
        judges.append(judge)
    return Panel.of(spec, judges)


def _is_remote(judge: Judge) -> bool:
    return str(judge.describe("plan")["engine"].get("engine")) in _REMOTE


def _coarsest(dtypes: set[str | None]) -> str | None:
    """The one that all share, else one of 16 bits, or None."""
    if len(dtypes) == 1:
        return next(iter(dtypes))
    return next((d for d in dtypes if d not in (None, "float32")), None)


def _numbered(names: Sequence[str]) -> list[str]:
    """Names with a number where two are the same."""
    return [n if names.count(n) == 1 else f"{n} {names[: i + 1].count(n)}" for i, n in enumerate(names)]
