# SPDX-License-Identifier: Apache-2.0
"""What a judge is asked about criteria: the template, and the verdicts of each criterion.

The template puts prompt and completion first and the criteria last, so the calls about one completion differ
in their last tokens only.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from autoj_reward.criteria.rubric import YES_NO, Criterion, Rubric
from autoj_reward.judge.spec import JudgingTask, read_text
from autoj_reward.judge.template import Template
from autoj_reward.judge.verdict import VerdictSet, rating_set

REFERENCE = "\n[REFERENCE ANSWER]\n{value}\n"
_LEAD, _NUMBERED_LEAD = "Verdict: [[", "Verdict {number}: [["
_VERDICT = r"\[\[[ \t]{0,8}+(?P<verdict>[^\[\]\s](?:[^\[\]\r\n]{0,58}[^\[\]\s])?)[ \t]{0,8}\]\]"


@dataclass(frozen=True, slots=True)
class CriteriaCall:
    """Criteria that the judge is shown together, and the place of the one whose verdict is wanted."""

    criteria: tuple[Criterion, ...]
    place: int

    @property
    def text(self) -> str:
        """The criteria as the judge is shown them."""
        if len(self.criteria) == 1:
            return _shown(self.criteria[0])
        return "\n".join(f"{n}. {_shown(c)}" for n, c in enumerate(self.criteria, start=1))

    @property
    def task(self) -> JudgingTask:
        """The template, and the verdicts of the criterion."""
        criterion, several = self.criteria[self.place], len(self.criteria) > 1
        number = self.place + 1 if several else None
        return JudgingTask(
            template=_template("criteria.txt" if several else "criterion.txt"),
            verdicts=_verdicts(criterion.choices, number),
        )


def calls_of(rubric: Rubric) -> list[CriteriaCall]:
    """For each criterion, in the rubric's order, the call that judges it."""
    found: dict[int, CriteriaCall] = {}
    for places in rubric.calls():
        together = tuple(rubric.criteria[n] for n in places)
        found.update({n: CriteriaCall(together, place) for place, n in enumerate(places)})
    return [found[n] for n in range(len(rubric.criteria))]


def criterion_tasks() -> list[JudgingTask]:
    """What is asked about one yes-or-no criterion and about several, for guards."""
    criterion = Criterion(text="any")
    return [CriteriaCall((criterion,) * n, 0).task for n in (1, 2)]


def leads_to_criterion(words: str) -> bool:
    """Whether words before a verdict are those before a criterion's, alone or after other criteria's."""
    last = words.rpartition("\n")[2]
    return last == _LEAD or last == _NUMBERED_LEAD.format(number="".join(filter(str.isdecimal, last)))


@functools.cache
def _template(name: str) -> Template:
    return Template(name=name, text=read_text(name, None), blocks={"reference": REFERENCE})


@functools.lru_cache(maxsize=1024)
def _verdicts(choices: tuple[str, ...], number: int | None) -> VerdictSet:
    """The verdicts `Verdict: [[Yes]]`, or of a numbered criterion `Verdict 2: [[Yes]]`."""
    last = len(choices) - 1
    lead = _LEAD if number is None else _NUMBERED_LEAD.format(number=number)
    before = "" if number is None else rf"verdict[ \t]{{0,3}}{number}\b[^\[\n]{{0,12}}"
    return rating_set(
        values={choice: place / last for place, choice in enumerate(choices)},
        verdict_prefix=lead,
        pattern=before + _VERDICT,
        terminators=("]",),
        assume_ends=True,
        place="end" if number is None else "anywhere",
    )


def _shown(criterion: Criterion) -> str:
    if criterion.choices == YES_NO:
        return criterion.headed_text
    return f"{criterion.headed_text} (verdicts, from the worst to the best: {', '.join(criterion.choices)})"
