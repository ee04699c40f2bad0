# SPDX-License-Identifier: Apache-2.0
"""Select the examples of each training stage and the cases of each measure."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TypeVar, cast

from autoj_reward.judge.spec import JudgeSpec
from autoj_reward.judgments import Preference, Verdict
from autoj_reward.training.config import ExampleKind, Flaw, Stage
from autoj_reward.training.contrast import (
    RATINGS,
    SHARES,
    SOUND_RATING,
    Contrast,
    make_contrast,
    sound_entries,
)
from autoj_reward.training.correctness import RIGHT_RATING, WRONG_RATING, make_correctness
from autoj_reward.training.critiques import (
    comparison_critique,
    pair_critique,
    rating_critique,
)
from autoj_reward.training.data import Example, PairRow, Part, RatedRow, on_scale

PREFERRED_RATING, OTHER_RATING = 7.0, 4.0
"""Ratings that stand for a preferred completion and for the other one of a pair."""

_COMPARED: dict[Flaw, float] = {**{flaw: share * 0.86 for flaw, share in SHARES.items()}, "identical": 0.14}

Row = TypeVar("Row", PairRow, RatedRow)

_CHARS_PER_TOKEN = 3.6
"""English text under the tokenizers tried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Draw:
    """Settings for about n examples of one kind, of at most `max_chars`, from the rows of `part`."""

    kind: str
    n: int
    stage: Stage
    part: Part
    spec: JudgeSpec
    rng: random.Random
    seed: int
    max_chars: int

    def example(
        self, prompt: str, texts: tuple[str, ...], verdict: Verdict, origin: str, *, critique: str = "",
        unit: int | None = None,
    ) -> Example:  # fmt: skip
        """An example of this kind; those of one unit are trained on together."""
        return Example(
            prompt=prompt,
            completions=texts,
            verdict=verdict,
            kind=self.kind,
            origin=origin,
            critique=critique,
            unit="" if unit is None else f"{self.kind} {unit}",
        )


def stage_examples(stage: Stage, part: Part, spec: JudgeSpec, *, seed: int) -> list[Example]:
    """All examples of a stage in random order, comparisons in both orders.

    Every stage draws its own examples from the run's seed.
    """
    examples: list[Example] = []
    for kind, n in stage.examples.items():
        examples += _examples(kind, n, stage, part, spec, seed=f"{seed} {stage.name} {kind}")
    units: dict[str, list[Example]] = {}
    for n, example in enumerate(examples):
        units.setdefault(example.unit or f"alone {n}", []).append(example)
    order = list(units.values())
    random.Random(f"{seed} {stage.name}").shuffle(order)
    return [example for unit in order for example in unit]


def _examples(kind: str, n: int, stage: Stage, part: Part, spec: JudgeSpec, *, seed: str) -> list[Example]:
    """At most n examples of one kind."""
    n_completions, make = _MAKERS[cast(ExampleKind, kind)]
    rng = random.Random(seed)
    # An estimate that leaves out most examples that are too long; the exact limit is in tokens.
    around = 40 + len(spec.task_for(n_completions).template.text) // 4
    draw = _Draw(
        kind=kind,
        n=n,
        stage=stage,
        part=part,
        spec=spec,
        rng=rng,
        seed=rng.randrange(2**32),
        max_chars=max(0, int((stage.max_tokens - around) * _CHARS_PER_TOKEN)),
    )
    return list(islice(make(draw), n))


def _cycle(rng: random.Random, rows: Sequence[Row], n: int) -> Iterator[Row]:
    """n rows: each once in random order, then again from the start if there are fewer."""
    order = list(rows)
    rng.shuffle(order)
    for i in range(n if order else 0):
        yield order[i % len(order)]


def _crossed_ratings(draw: _Draw) -> Iterator[Example]:
    """Two prompts with a completion each, in all four combinations.

    Each prompt and each completion is right once and wrong once, so the ratings depend only on whether
    they belong together.
    """
    entries = [e for e in sound_entries(draw.part) if len(e[0]) + len(e[1]) <= draw.max_chars]
    draw.rng.shuffle(entries)
    # Neighbours by length: little padding, and length does not predict the rating.
    entries = sorted(entries[: 2 * (draw.n // 4)], key=lambda e: len(e[1]))
    for number, (one, two) in enumerate(zip(entries[::2], entries[1::2], strict=False)):
        for prompt, completion, sound in (
            (one[0], one[1], True),
            (one[0], two[1], False),
            (two[0], two[1], True),
            (two[0], one[1], False),
        ):
            rating = SOUND_RATING if sound else RATINGS["other_prompt"]
            yield draw.example(prompt, (completion,), rating, f"{one[2]} {two[2]}", unit=number)


def _contrasts(draw: _Draw, flaws: Mapping[Flaw, float] | None, *, together: bool) -> list[Contrast]:
    """Sound and spoilt completions, the flaws in the stage's own shares if it names any."""
    own = cast(Mapping[Flaw, float], draw.stage.flaws)
    return make_contrast(
        draw.part,
        draw.n // 2,
        seed=draw.seed,
        max_chars=draw.max_chars,
        flaws=own or flaws,
        together=together,
    )


def _contrast_ratings(draw: _Draw, *, critiques: bool) -> Iterator[Example]:
    for number, case in enumerate(_contrasts(draw, None, together=False)):
        for text, rating, flaw in (
            (case.better, SOUND_RATING, None),
            (case.worse, RATINGS[case.flaw], case.flaw),
        ):
            critique = rating_critique(draw.rng, flaw, rating, draw.spec) if critiques else ""
            origin = f"{case.origin} {flaw or 'sound'}"
            yield draw.example(case.prompt, (text,), rating, origin, critique=critique, unit=number)


def _contrast_comparisons(draw: _Draw, *, critiques: bool) -> Iterator[Example]:
    for number, case in enumerate(_contrasts(draw, _COMPARED, together=True)):
        for better_first in (True, False):
            texts = (case.better, case.worse) if better_first else (case.worse, case.better)
            verdict: Preference = "tie" if case.flaw == "identical" else "first" if better_first else "second"
            critique = comparison_critique(draw.rng, case.flaw, verdict, draw.spec) if critiques else ""
            origin = f"{case.origin} {case.flaw}"
            yield draw.example(case.prompt, texts, verdict, origin, critique=critique, unit=number)


def _correctness_ratings(draw: _Draw) -> Iterator[Example]:
    for number, case in enumerate(make_correctness(draw.n // 2, seed=draw.seed)):
        for text, rating in ((case.right, RIGHT_RATING), (case.wrong, WRONG_RATING)):
            yield draw.example(case.prompt, (text,), rating, case.kind, unit=number)


def _correctness_comparisons(draw: _Draw) -> Iterator[Example]:
    for number, case in enumerate(make_correctness(draw.n // 2, seed=draw.seed)):
        yield draw.example(case.prompt, (case.right, case.wrong), "first", case.kind, unit=number)
        yield draw.example(case.prompt, (case.wrong, case.right), "second", case.kind, unit=number)


def _pairs(draw: _Draw) -> Iterator[tuple[int, PairRow]]:
    """People's pairs, with the number of the unit that each belongs to."""
    fitting = [p for p in draw.part.pairs if _size(p) <= draw.max_chars]
    n = draw.n // 2
    if not draw.stage.balance_lengths:
        return enumerate(_cycle(draw.rng, fitting, n))
    longer = [p for p in fitting if _longer_won(p) is True]
    shorter = [p for p in fitting if _longer_won(p) is False]
    # Of like size, so that both are in one batch.
    units = zip(
        *(sorted(_cycle(draw.rng, pairs, n // 2), key=_size) for pairs in (longer, shorter)), strict=False
    )
    return ((number, pair) for number, unit in enumerate(units) for pair in unit)


def _longer_won(pair: PairRow) -> bool | None:
    """Whether the longer completion was preferred; None for ties and equal lengths."""
    if pair.preference == "tie" or len(pair.first) == len(pair.second):
        return None
    return (pair.preference == "first") == (len(pair.first) > len(pair.second))


def _size(pair: PairRow) -> int:
    return len(pair.prompt) + len(pair.first) + len(pair.second)


def _pair_ratings(draw: _Draw) -> Iterator[Example]:
    for number, pair in _pairs(draw):
        if pair.preference == "tie":
            continue
        for text, name in ((pair.first, "first"), (pair.second, "second")):
            rating = PREFERRED_RATING if pair.preference == name else OTHER_RATING
            yield draw.example(pair.prompt, (text,), rating, pair.origin, unit=number)


def _pair_comparisons(draw: _Draw, *, critiques: bool) -> Iterator[Example]:
    other: dict[Preference, Preference] = {"first": "second", "second": "first", "tie": "tie"}
    for number, pair in _pairs(draw):
        for swapped in (False, True):
            texts = (pair.second, pair.first) if swapped else (pair.first, pair.second)
            verdict = other[pair.preference] if swapped else pair.preference
            written = ""
            if critiques:
                # A critique from the data names the slots, so it is right in the given order only.
                if pair.critique and swapped:
                    continue
                written = pair.critique or pair_critique(draw.rng, texts, verdict, draw.spec)
            yield draw.example(pair.prompt, texts, verdict, pair.origin, critique=written, unit=number)


def _rated(draw: _Draw, *, critiques: bool) -> Iterator[Example]:
    rows = [r for r in draw.part.rated if len(r.prompt) + len(r.completion) <= draw.max_chars]
    if critiques:
        # These state their rating, so it has to be one of the judge's own.
        verdicts = draw.spec.task_for(1).verdicts
        rows = [r for r in rows if on_scale(r.rating, verdicts) == r.rating]
    for row in _cycle(draw.rng, rows, draw.n):
        critique = row.critique if critiques else ""
        yield draw.example(row.prompt, (row.completion,), row.rating, row.origin, critique=critique)


_MAKERS: dict[ExampleKind, tuple[int, Callable[[_Draw], Iterator[Example]]]] = {
    "crossed_ratings": (1, _crossed_ratings),
    "contrast_ratings": (1, partial(_contrast_ratings, critiques=False)),
    "contrast_comparisons": (2, partial(_contrast_comparisons, critiques=False)),
    "contrast_rating_critiques": (1, partial(_contrast_ratings, critiques=True)),
    "contrast_comparison_critiques": (2, partial(_contrast_comparisons, critiques=True)),
    "correctness_ratings": (1, _correctness_ratings),
    "correctness_comparisons": (2, _correctness_comparisons),
    "pair_ratings": (1, _pair_ratings),
    "pair_comparisons": (2, partial(_pair_comparisons, critiques=False)),
    "pair_critiques": (2, partial(_pair_comparisons, critiques=True)),
    "ratings": (1, partial(_rated, critiques=False)),
    "rating_critiques": (1, partial(_rated, critiques=True)),
}
"""For each kind the number of completions of an example, and the function that makes its examples."""
