# SPDX-License-Identifier: Apache-2.0
"""Make correctness contrasts: a right completion and a wrong one that reads as well.

Everything is made here, from `facts.json` and from arithmetic: nothing is taken from a data set. The right
and the wrong completion of a case differ in what is wrong alone, or their phrasings are drawn from one list,
so that neither length nor tone tells which is which.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

RIGHT_RATING, WRONG_RATING = 8.0, 2.0
"""The training labels of a right and of a wrong completion."""

_NAMES = (
    "Ada",
    "Boris",
    "Chiara",
    "Dmitri",
    "Elif",
    "Farid",
    "Greta",
    "Hugo",
    "Ines",
    "Jonas",
    "Kenji",
    "Lena",
)
_THINGS = ("stamps", "marbles", "postcards", "pencils", "shells", "coins", "buttons", "books")
_OPERATORS = ("+", "-", "*")
_TABLES = ("capital", "symbol", "opposite", "german", "author")


@dataclass(frozen=True, slots=True, kw_only=True)
class Correctness:
    """A prompt with a right and a wrong completion. `kind` names its generator."""

    prompt: str
    right: str
    wrong: str
    kind: str


@cache
def _facts() -> dict[str, Any]:
    text = resources.files(__package__).joinpath("facts.json").read_text(encoding="utf-8")
    facts: dict[str, Any] = json.loads(text)
    return facts


def make_correctness(n: int, *, seed: int) -> list[Correctness]:
    """Draw n cases, of all kinds in equal shares.

    Args:
        n: Number of cases.
        seed: The same seed draws the same cases.
    """
    rng = random.Random(f"correctness {seed}")
    kinds = list(_MAKERS)
    cases = []
    for number in range(n):
        kind = kinds[number % len(kinds)]
        prompt, right, wrong = _MAKERS[kind](rng)
        cases.append(Correctness(prompt=prompt, right=right, wrong=wrong, kind=kind))
    rng.shuffle(cases)
    return cases


def _fact(rng: random.Random) -> tuple[str, str, str]:
    """A question with one answer, and the answer to another question of its kind."""
    facts = _facts()
    table = facts[rng.choice(_TABLES)]
    key, value = rng.choice(list(table["pairs"].items()))
    other = rng.choice([v for v in table["pairs"].values() if v != value])
    phrasings = rng.choices(table["say"], k=2) if rng.random() < 0.5 else [rng.choice(table["say"])] * 2
    right, wrong = (
        _capitalized(phrasing.format(key=key, value=said))
        for phrasing, said in zip(phrasings, (value, other), strict=True)
    )
    return rng.choice(table["ask"]).format(key=key), right, wrong


def _membership(rng: random.Random) -> tuple[str, str, str]:
    """A true statement and its negation."""
    kind, member = _member(rng)
    asked = kind if rng.random() < 0.5 else rng.choice([k for k in _facts()["kinds"] if k != kind])
    belongs = member in _facts()["kinds"][asked]
    yes = f"Yes, {member} is one of the {asked}."
    no = f"No, {member} is not one of the {asked}."
    prompt = rng.choice((f"Is {member} one of the {asked}?", f"Does {member} belong to the {asked}?"))
    return (prompt, yes, no) if belongs else (prompt, no, yes)


def _list(rng: random.Random) -> tuple[str, str, str]:
    """A list that was asked for, and one with a member that does not belong, or with one too few."""
    kinds: dict[str, list[str]] = _facts()["kinds"]
    kind, _ = _member(rng)
    n = rng.randint(2, 5)
    members = rng.sample(kinds[kind], n)
    strangers = [m for k, names in kinds.items() if k != kind for m in names if m not in kinds[kind]]
    wrong = rng.sample([m for m in kinds[kind] if m not in members], n)
    for place in rng.sample(range(n), rng.randint(1, n)):
        wrong[place] = rng.choice(strangers)
    if rng.random() < 0.25:
        wrong = members[:-1]
    written = [_as_list, _as_lines] if rng.random() < 0.5 else [rng.choice((_as_list, _as_lines))] * 2
    rng.shuffle(written)
    number = ("two", "three", "four", "five")[n - 2]
    prompt = rng.choice((f"Name {number} {kind}.", f"Give me a list of {number} {kind}, please."))
    return prompt, written[0](members), written[1](wrong)


def _worked(rng: random.Random) -> tuple[str, str, str]:
    """A worked solution, and one with a changed number in a step that later steps build on."""
    name, thing = rng.choice(_NAMES), rng.choice(_THINGS)
    start, packs, each = rng.randint(5, 60), rng.randint(2, 9), rng.randint(3, 12)
    given = rng.randint(1, start)
    prompt = (
        f"{name} has {start} {thing}. {name} buys {packs} packs with {each} {thing} in each, and then gives "
        f"{given} {thing} to a friend. How many {thing} does {name} have now?"
    )

    def solution(bought: int, all_of_them: int, left: int) -> str:
        return (
            f"{name} buys {packs} * {each} = {bought} {thing}. Together with the {start} from before these "
            f"are {start} + {bought} = {all_of_them}. After giving away {given}, {all_of_them} - {given} = "
            f"{left} {thing} are left. The answer is {left}."
        )

    bought = packs * each
    shift = rng.choice([d for d in range(-9, 10) if d and bought + d > 0])
    place = rng.randrange(3)
    changed = bought + shift * (place == 0)
    total = start + changed + shift * (place == 1)
    left = total - given + shift * (place == 2)
    return prompt, solution(bought, start + bought, start + bought - given), solution(changed, total, left)


def _calculation(rng: random.Random) -> tuple[str, str, str]:
    """The value of an expression, and another number near it."""
    a, b = rng.randint(2, 99), rng.randint(2, 20)
    operator = rng.choice(_OPERATORS)
    value = {"+": a + b, "-": a - b, "*": a * b}[operator]
    other = value + rng.choice((-10, -3, -2, -1, 1, 2, 3, 10))
    said = rng.choice(("{}", "The result is {}.", f"{a} {operator} {b} = {{}}"))
    return f"What is {a} {operator} {b}?", said.format(value), said.format(other)


def _code(rng: random.Random) -> tuple[str, str, str]:
    """A short function, and one with a fault in the line that matters."""
    function = rng.choice(_facts()["functions"])
    return (
        f"Write a Python function that {function['task']}.",
        function["right"],
        rng.choice(function["wrong"]),
    )


def _member(rng: random.Random) -> tuple[str, str]:
    kinds: dict[str, list[str]] = _facts()["kinds"]
    kind = rng.choice(list(kinds))
    return kind, rng.choice(kinds[kind])


def _as_list(members: list[str]) -> str:
    return _capitalized(", ".join(members)) + "."


def _as_lines(members: list[str]) -> str:
    return "\n".join(f"{n}. {_capitalized(m)}" for n, m in enumerate(members, 1))


def _capitalized(text: str) -> str:
    return text[:1].upper() + text[1:]


_MAKERS: dict[str, Callable[[random.Random], tuple[str, str, str]]] = {
    "fact": _fact,
    "membership": _membership,
    "list": _list,
    "worked solution": _worked,
    "calculation": _calculation,
    "code": _code,
}
