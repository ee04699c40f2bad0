# SPDX-License-Identifier: Apache-2.0
"""Select the examples of each training stage and the cases of each measure."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeVar, cast

from autoj_reward.judge.spec import JudgeSpec
from autoj_reward.judgments import Preference
from autoj_reward.training.config import Flaw, Stage
from autoj_reward.training.contrast import (
    RATINGS,
    SHARES,
    SOUND_RATING,
    Contrast,
    make_contrast,
    sound_entries,
)
from autoj_reward.training.critiques import (
    comparison_critique,
    pair_critique,
    rating_critique,
)
from autoj_reward.training.data import Example, PairRow, Part, RatedRow, on_scale, protocol_of

PREFERRED_RATING, OTHER_RATING = 7.0, 4.0
"""Ratings that stand for a preferred completion and for the other one of a pair."""

_COMPARED: dict[Flaw, float] = {**{flaw: share * 0.86 for flaw, share in SHARES.items()}, "identical": 0.14}

Row = TypeVar("Row", PairRow, RatedRow)

_CHARS_PER_TOKEN = 3.6
"""English text under the tokenizers tried."""


def stage_examples(stage: Stage, part: Part, spec: JudgeSpec, *, seed: int) -> list[Example]:
    """All examples of a stage, in a drawn order; comparisons are there in both orders.

    Args:
        stage: Which kinds, and how many of each.
        part: Rows of the training side.
        spec: The judge, for how it writes its verdicts.
        seed: The run's seed; stages draw apart from each other.
    """
    examples: list[Example] = []
    for kind, n in stage.examples.items():
        examples += _build(kind, n, stage, part, spec, seed=f"{seed} {stage.name} {kind}")
    units: dict[str, list[Example]] = {}
    for n, example in enumerate(examples):
        units.setdefault(example.unit or f"alone {n}", []).append(example)
    order = list(units.values())
    random.Random(f"{seed} {stage.name}").shuffle(order)
    return [example for unit in order for example in unit]


def _build(kind: str, n: int, stage: Stage, part: Part, spec: JudgeSpec, *, seed: str) -> list[Example]:
    """About n examples of one kind."""
    rng = random.Random(seed)
    ratings = "rating" in kind
    # The exact limit is applied to tokens afterwards; this one keeps hopeless cases out.
    protocol = protocol_of(spec, 1 if ratings else 2)
    around = 40 + len(protocol.template.text) // 4
    max_chars = max(0, int((stage.max_tokens - around) * _CHARS_PER_TOKEN))
    number = rng.randrange(2**32)
    if kind == "crossed_ratings":
        return list(_crossed_ratings(part, n // 4, max_chars, rng, kind))
    if kind.startswith("contrast"):
        shares = cast("Mapping[Flaw, float]", stage.flaws) or (None if ratings else _COMPARED)
        cases = make_contrast(
            part, n // 2, seed=number, max_chars=max_chars, flaws=shares, together=not ratings
        )
        made = _contrast_ratings if ratings else _contrast_comparisons
        return list(made(cases, spec, rng, kind, critiques="critiques" in kind))[:n]
    if kind.startswith("pair"):
        pairs = [p for p in part.pairs if len(p.prompt) + len(p.first) + len(p.second) <= max_chars]
        made_pairs = _pair_ratings if kind == "pair_ratings" else _pair_comparisons
        return list(made_pairs(_cycle(rng, pairs, n // 2), spec, rng, kind))[:n]
    rows = [r for r in part.rated if len(r.prompt) + len(r.completion) <= max_chars]
    if kind == "rating_critiques":
        # These state their rating, so it has to be one of the judge's own.
        rows = [r for r in rows if on_scale(r.rating, protocol.verdicts) == r.rating]
    return list(_rated(_cycle(rng, rows, n), kind))


def _cycle(rng: random.Random, rows: Sequence[Row], n: int) -> Iterator[Row]:
    """n rows: each once in a drawn order, and again from the start where there are fewer."""
    order = list(rows)
    rng.shuffle(order)
    for i in range(n if order else 0):
        yield order[i % len(order)]


def _crossed_ratings(part: Part, n: int, max_chars: int, rng: random.Random, kind: str) -> Iterator[Example]:
    """Two prompts with a completion each, in all four combinations.

    Each prompt and each completion is right once and wrong once, so only whether they belong together
    tells the ratings apart.
    """
    entries = [e for e in sound_entries(part) if len(e[0]) + len(e[1]) <= max_chars]
    rng.shuffle(entries)
    # Neighbours by length: little padding, and length says nothing.
    entries = sorted(entries[: 2 * n], key=lambda e: len(e[1]))
    for number, (one, two) in enumerate(zip(entries[::2], entries[1::2], strict=False)):
        for prompt, completion, sound in (
            (one[0], one[1], True),
            (one[0], two[1], False),
            (two[0], two[1], True),
            (two[0], one[1], False),
        ):
            yield Example(
                prompt=prompt,
                completions=(completion,),
                verdict=SOUND_RATING if sound else RATINGS["other_prompt"],
                kind=kind,
                origin=f"{one[2]} {two[2]}",
                unit=f"{kind} {number}",
            )


def _contrast_ratings(
    cases: Iterable[Contrast], spec: JudgeSpec, rng: random.Random, kind: str, *, critiques: bool
) -> Iterator[Example]:
    for number, case in enumerate(cases):
        for text, rating, flaw in (
            (case.better, SOUND_RATING, None),
            (case.worse, RATINGS[case.flaw], case.flaw),
        ):
            yield Example(
                prompt=case.prompt,
                completions=(text,),
                verdict=rating,
                kind=kind,
                origin=f"{case.origin} {flaw or 'sound'}",
                critique=rating_critique(rng, flaw, rating, spec) if critiques else "",
                unit=f"{kind} {number}",
            )


def _contrast_comparisons(
    cases: Iterable[Contrast], spec: JudgeSpec, rng: random.Random, kind: str, *, critiques: bool
) -> Iterator[Example]:
    for number, case in enumerate(cases):
        for better_first in (True, False):
            texts = (case.better, case.worse) if better_first else (case.worse, case.better)
            verdict: Preference = "tie" if case.flaw == "identical" else "first" if better_first else "second"
            yield Example(
                prompt=case.prompt,
                completions=texts,
                verdict=verdict,
                kind=kind,
                origin=f"{case.origin} {case.flaw}",
                critique=comparison_critique(rng, case.flaw, verdict, spec) if critiques else "",
                unit=f"{kind} {number}",
            )


def _pair_ratings(
    pairs: Iterable[PairRow], spec: JudgeSpec, rng: random.Random, kind: str
) -> Iterator[Example]:
    for number, pair in enumerate(pairs):
        if pair.preference == "tie":
            continue
        for text, name in ((pair.first, "first"), (pair.second, "second")):
            rating = PREFERRED_RATING if pair.preference == name else OTHER_RATING
            yield Example(
                prompt=pair.prompt,
                completions=(text,),
                verdict=rating,
                kind=kind,
                origin=pair.origin,
                unit=f"{kind} {number}",
            )


def _pair_comparisons(
    pairs: Iterable[PairRow], spec: JudgeSpec, rng: random.Random, kind: str
) -> Iterator[Example]:
    other: dict[Preference, Preference] = {"first": "second", "second": "first", "tie": "tie"}
    for number, pair in enumerate(pairs):
        for swapped in (False, True):
            texts = (pair.second, pair.first) if swapped else (pair.first, pair.second)
            verdict = other[pair.preference] if swapped else pair.preference
            written = ""
            if kind == "pair_critiques":
                # A critique from the data names the slots, so it is right in the given order only.
                if pair.critique and swapped:
                    continue
                written = pair.critique or pair_critique(rng, texts, verdict, spec)
            yield Example(
                prompt=pair.prompt,
                completions=texts,
                verdict=verdict,
                kind=kind,
                origin=pair.origin,
                critique=written,
                unit=f"{kind} {number}",
            )


def _rated(rows: Iterable[RatedRow], kind: str) -> Iterator[Example]:
    for row in rows:
        yield Example(
            prompt=row.prompt,
            completions=(row.completion,),
            verdict=row.rating,
            kind=kind,
            origin=row.origin,
            critique=row.critique if kind == "rating_critiques" else "",
        )
