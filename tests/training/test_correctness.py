# SPDX-License-Identifier: Apache-2.0
"""Right and wrong completions made for training: what they state, and that length does not give them away."""

from __future__ import annotations

import re
import statistics
from pathlib import Path

import pytest

from autoj_reward.rows.source import read_rows
from autoj_reward.training.correctness import Correctness, make_correctness
from tests.conftest import REPO

N = 600


@pytest.fixture(scope="module")
def cases() -> list[Correctness]:
    return make_correctness(N, seed=3)


def test_a_seed_draws_the_same_cases_of_each_kind(cases: list[Correctness]) -> None:
    assert make_correctness(N, seed=3) == cases
    assert make_correctness(N, seed=4) != cases
    kinds = [c.kind for c in cases]
    assert {kinds.count(kind) for kind in set(kinds)} == {N // 6}


def test_the_right_completion_is_another_text(cases: list[Correctness]) -> None:
    assert all(c.right.strip() and c.wrong.strip() and c.right != c.wrong for c in cases)


def test_length_does_not_tell_which_is_right(cases: list[Correctness]) -> None:
    shares = [
        0.5 if len(c.right) == len(c.wrong) else float(len(c.right) > len(c.wrong))
        for c in cases
        if c.kind != "membership"
    ]
    assert statistics.fmean(shares) == pytest.approx(0.5, abs=0.08)


def test_calculations_are_right_and_wrong(cases: list[Correctness]) -> None:
    for case in (c for c in cases if c.kind == "calculation"):
        a, operator, b = re.search(r"(\d+) ([-+*]) (\d+)", case.prompt).groups()  # type: ignore[union-attr]
        value = {"+": int(a) + int(b), "-": int(a) - int(b), "*": int(a) * int(b)}[operator]
        said = [int(re.findall(r"-?\d+", text.split("=")[-1])[-1]) for text in (case.right, case.wrong)]
        assert said[0] == value != said[1]


def test_worked_solutions_hold_every_step_or_break_one(cases: list[Correctness]) -> None:
    def holds(text: str) -> bool:
        steps = re.findall(r"(\d+) ([-+*]) (\d+) = (-?\d+)", text)
        assert len(steps) == 3
        done = {"+": int.__add__, "-": int.__sub__, "*": int.__mul__}
        return all(done[o](int(a), int(b)) == int(value) for a, o, b, value in steps)

    worked = [c for c in cases if c.kind == "worked solution"]
    assert all(holds(c.right) and not holds(c.wrong) for c in worked)


def test_functions_do_what_the_prompt_asks_or_not() -> None:
    inputs = {
        "larger": (3, 5), "is_even": (4,), "count_vowels": ("Read me",), "reverse": ([3, 1, 2],),
        "mean": ([1, 2, 6],), "last": ([1, 2, 3],), "fahrenheit": (10,), "unique": ([1, 2, 1],),
        "factorial": (4,), "is_palindrome": ("anna",), "squares": (3,), "merge": ({"a": 1, "b": 1}, {"b": 2}),
    }  # fmt: skip
    wanted = {
        "larger": 5, "is_even": True, "count_vowels": 3, "reverse": [2, 1, 3], "mean": 3, "last": 3,
        "fahrenheit": 50, "unique": [1, 2], "factorial": 24, "is_palindrome": True, "squares": [1, 4, 9],
        "merge": {"a": 1, "b": 2},
    }  # fmt: skip

    def result(source: str) -> object:
        names: dict[str, object] = {}
        exec(source, names)
        name = next(n for n in names if n != "__builtins__")
        try:
            return names[name](*inputs[name]), wanted[name]  # type: ignore[operator]
        except IndexError:
            return None, wanted[name]

    code = {(c.right, c.wrong) for c in make_correctness(3000, seed=5) if c.kind == "code"}
    assert len(code) == 24
    for right, wrong in code:
        got, expected = result(right)  # type: ignore[misc]
        assert got == expected, right
        got, expected = result(wrong)  # type: ignore[misc]
        assert got != expected, wrong


def _grams(text: str, n: int = 8) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.casefold())
    return {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}


def test_no_eight_words_in_a_row_are_from_the_examples(cases: list[Correctness]) -> None:
    made = set().union(*(_grams(" ".join((c.prompt, c.right, c.wrong))) for c in cases))
    for _, row in read_rows(str(REPO / "examples" / "completions.jsonl")):
        assert not made & set().union(*map(_grams, (row["prompt"], *row["completions"])))


@pytest.mark.slow
def test_no_eight_words_in_a_row_are_from_a_test_set(cases: list[Correctness], data: Path) -> None:
    made = set().union(*(_grams(" ".join((c.prompt, c.right, c.wrong))) for c in cases))
    files = (
        "auto-j/data/test/testdata_pairwise.jsonl", "truthfulqa_bon/truthfulqa_bon.jsonl",
        "bartscore_summeval/summeval_bon.jsonl", "humaneval_codegen16b/humaneval_codegen16b_bon100.jsonl",
        "gsm8k_solutions/example_model_solutions.jsonl", "alpaca_eval_bon32/alpaca_eval_bon32.jsonl.gz",
    )  # fmt: skip
    for name in files:
        for _, row in read_rows(str(data / name)):
            texts = (v for v in row.values() if isinstance(v, str))
            assert not made & set().union(*map(_grams, texts)), (name, row)
