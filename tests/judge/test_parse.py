# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoj_reward.judge.generation import split_thinking
from autoj_reward.judge.parse import Stated, find_verdict
from autoj_reward.judge.presets import load_spec
from autoj_reward.judge.spec import Thinking
from autoj_reward.judge.verdict import preference_set
from autoj_reward.judge.verdicts.stated import key_in
from autoj_reward.judgments import Verdict
from autoj_reward.types import Failure, FailureReason, FinishReason
from tests.conftest import examples
from tests.hostile import hostile_text
from tests.pumping import worst

EN, ZH = load_spec("autoj-13b"), load_spec("autoj-bilingual-6b-zh")
assert EN.rating is not None
assert EN.comparison is not None
assert ZH.rating is not None
assert ZH.comparison is not None
RATING, PAIR = EN.rating.verdicts, EN.comparison.verdicts
ZH_RATING, ZH_PAIR = ZH.rating.verdicts, ZH.comparison.verdicts

CASES: list[tuple[str, object, str, FinishReason, Verdict | str]] = [
    ("plain", RATING, "Good.\n\nRating: [[7]]", "stop", 7.0),
    ("half point", RATING, "Rating: [[6.5]]", "stop", 6.5),
    ("ten", RATING, "Rating: [[10]]", "stop", 10.0),
    ("one", RATING, "Rating: [[1]]", "stop", 1.0),
    ("written 7.0", RATING, "Rating: [[7.0]]", "stop", 7.0),
    ("written 07", RATING, "Rating: [[07]]", "stop", 7.0),
    ("blanks inside", RATING, "Rating: [[ 7 ]]", "stop", 7.0),
    ("trailing full stop and blank", RATING, "Rating: [[4]]. ", "stop", 4.0),
    ("emphasis", RATING, "**Rating: [[8]]**", "stop", 8.0),
    ("quoted", RATING, '"Rating: [[8]]".\n', "stop", 8.0),
    ("without the word", RATING, "I give it [[3]]", "stop", 3.0),
    ("the last one counts", RATING, "At first [[9]], but then:\nRating: [[2]]", "stop", 2.0),
    ("repeated", RATING, "Rating: [[5]]\nRating: [[5]]", "stop", 5.0),
    ("concluded at the limit", RATING, "Rating: [[5]]", "length", 5.0),
    ("planted and cut off", RATING, "It says 'Rating: [[10]]', which is", "length", "truncated"),
    ("planted and none of its own", RATING, "It says 'Rating: [[10]]', a trick.", "stop", "no_verdict"),
    ("quoted in the middle, concluded later", RATING, "It begs for [[10]]. No. Rating: [[2]]", "stop", 2.0),
    ("cut in the verdict", RATING, "Rating: [[1", "length", "truncated"),
    ("cut before the verdict", RATING, "Rating: [[", "length", "truncated"),
    ("none", RATING, "A fine text.", "stop", "no_verdict"),
    ("empty", RATING, "", "stop", "no_verdict"),
    ("off the scale", RATING, "Rating: [[11]]", "stop", "off_scale"),
    ("zero", RATING, "Rating: [[0]]", "stop", "off_scale"),
    ("negative", RATING, "Rating: [[-3]]", "stop", "off_scale"),
    ("between half points", RATING, "Rating: [[7.25]]", "stop", "off_scale"),
    ("a fraction", RATING, "Rating: [[7/10]]", "stop", "off_scale"),
    ("the template's own word", RATING, "Rating: [[rating]]", "stop", "off_scale"),
    ("not a number", RATING, "Rating: [[nan]]", "stop", "off_scale"),
    ("infinite", RATING, "Rating: [[1e9]]", "stop", "off_scale"),
    ("full-width digit", RATING, "Rating: [[７]]", "stop", 7.0),
    ("Arabic digit", RATING, "Rating: [[٧]]", "stop", 7.0),
    ("full-width brackets", RATING, "Rating: ［［7］］", "stop", "no_verdict"),
    ("out of a bracketed scale", RATING, "Rating: [[7]] out of [[10]]", "stop", 7.0),
    ("out of a plain scale", RATING, "Rating: [[7]] out of 10.", "stop", 7.0),
    ("over ten", RATING, "**Rating: [[7]]/10**", "stop", 7.0),
    ("with its scale", RATING, "Rating: [[3]] (scale [[1]] to [[10]])", "stop", 3.0),
    ("with its scale in words", RATING, "Rating: [[3]] on a scale from [[1]] to [[10]].", "stop", 3.0),
    ("with its scale in the next line", RATING, "Rating: [[3]]\n(on a scale of [[1]] to [[10]])", "stop", 3.0),
    ("Chinese, with its scale", ZH_RATING, "评分：[[6]]（满分[[10]]分）", "stop", 6.0),
    ("without the word, with a scale", RATING, "Final score: [[7]] out of [[10]]", "stop", "no_verdict"),
    ("scale cut off", RATING, "Rating: [[7]] out of [[1", "length", "truncated"),
    ("a range", RATING, "Rating: [[7-8]]", "stop", "off_scale"),
    ("a range of two", RATING, "Rating: [[7]]-[[8]]", "stop", "no_verdict"),
    ("or", RATING, "Rating: [[3]] or [[5]]", "stop", "no_verdict"),
    ("an arrow", RATING, "Rating: [[3]] -> [[5]]", "stop", "no_verdict"),
    ("not one but the other", RATING, "Rating: not [[5]] but [[6]]", "stop", "no_verdict"),
    ("not one but the other, without the word", RATING, "I give not [[5]] but [[6]]", "stop", "no_verdict"),
    ("two leads in a line", RATING, "Rating: [[3]] for style. Rating: [[5]]", "stop", "no_verdict"),
    ("the same twice in a line", RATING, "Rating: [[5]], so Rating: [[5.0]]", "stop", 5.0),
    ("a lead for each aspect", RATING, "Style Rating: [[3]]\nFacts Rating: [[9]]\nRating: [[5]]", "stop", 5.0),
    ("a list without leads", RATING, "- style [[3]]\n- facts [[9]]\nI give it [[5]]", "stop", 5.0),
    ("emphasis inside the lead", RATING, "**Rating**: [[8]] out of [[10]]", "stop", 8.0),
    ("quoted at a cut", RATING, 'It says "Rating: [[10]]', "length", "truncated"),
    ("quoted at a cut, a line of its own", RATING, 'It says:\n"Rating: [[10]]', "length", "truncated"),
    ("quoted at a cut, opened above", RATING, 'It says:\n"I am good.\nRating: [[10]]', "length", "truncated"),
    ("quoted at a cut, typographic", RATING, "It says “Rating: [[10]]", "length", "truncated"),
    ("quoted at a cut, in a block", RATING, "It ends:\n> Rating: [[10]]", "length", "truncated"),
    ("quoted at a cut, in a fence", RATING, "It ends:\n```\nRating: [[10]]", "length", "truncated"),
    ("told at a cut", RATING, "It claims a Rating: [[10]]", "length", "truncated"),
    ("quoted in a sentence at the end", RATING, 'It just says "Rating: [[10]]".', "stop", "no_verdict"),
    ("quoted with apostrophes", RATING, "It's a trick that says 'Rating: [[10]]'.", "stop", "no_verdict"),
    ("quoted after a pause", RATING, 'My verdict: "Rating: [[8]]".', "stop", 8.0),
    ("in a fence of its own", RATING, "Fine.\n```\nRating: [[8]]\n```", "stop", 8.0),
    ("an inch is no quotation", RATING, 'A 5" pipe is meant.\nRating: [[8]]', "stop", 8.0),
    ("an apostrophe is no quotation", RATING, "It's the users' choice. Rating: [[8]]", "length", 8.0),
    ("after a sentence, at the limit", RATING, "It is good. Overall Rating: [[5]]", "length", 5.0),
    ("a heading at the limit", RATING, "### Rating: [[5]]", "length", 5.0),
    ("first", PAIR, "So, the final decision is Response 1", "stop", "first"),
    ("second with a stop", PAIR, "So, the final decision is Response 2.", "stop", "second"),
    ("tie", PAIR, "So, the final decision is Tie", "stop", "tie"),
    ("a tie in lower case", PAIR, "so, the final decision is tie.\n", "stop", "tie"),
    ("emphasis on the verdict", PAIR, "the final decision is **Response 2**.", "stop", "second"),
    ("changed its mind", PAIR, "The final decision is Response 1.\nNo: the final decision is Tie.", "stop", "tie"),
    ("two decisions in a line", PAIR, "The final decision is Tie. No: the final decision is Response 1.", "stop", "no_verdict"),
    ("either", PAIR, "The final decision is Response 1 or Response 2", "stop", "no_verdict"),
    ("a tie of both", PAIR, "The final decision is Tie, Response 1 and Response 2 are equal", "stop", "no_verdict"),
    ("decision in quotes of its own", PAIR, '"So, the final decision is Response 1."', "stop", "first"),
    ("decision quoted in a sentence", PAIR, 'It ends in "So, the final decision is Response 1"', "stop", "no_verdict"),
    ("decision quoted at a cut", PAIR, '"So, the final decision is Response 1', "length", "truncated"),
    ("decision at the limit", PAIR, "Both err.\n\nSo, the final decision is Response 2", "length", "second"),
    ("planted decision, cut off", PAIR, "It claims the final decision is Response 1, yet", "length", "truncated"),
    ("a third response", PAIR, "So, the final decision is Response 3", "stop", "off_scale"),
    ("neither", PAIR, "Both are fine.", "stop", "no_verdict"),
    ("Chinese, ASCII colon", ZH_RATING, "很好。\n评分:[[7]]", "stop", 7.0),
    ("Chinese, full-width colon", ZH_RATING, "很好。\n评分：[[6.5]]", "stop", 6.5),
    ("Chinese, other word and a blank", ZH_RATING, "打分： [[8]]。", "stop", 8.0),
    ("Chinese first", ZH_PAIR, "最终决定是回应1", "stop", "first"),
    ("Chinese second, blanks", ZH_PAIR, "所以，最终决定是 回应 2。", "stop", "second"),
    ("Chinese tie", ZH_PAIR, "最终决定是平局。", "stop", "tie"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("verdicts", "text", "finish", "expected"), [c[1:] for c in CASES], ids=[c[0] for c in CASES]
)
def test_verdicts(verdicts: object, text: str, finish: FinishReason, expected: Verdict | str) -> None:
    found = find_verdict(text, finish, verdicts)  # type: ignore[arg-type]
    if isinstance(found, Stated):
        assert found.verdict == expected
        assert text[: found.start] + text[found.start :] == text
    else:
        assert found.reason.value == expected
        assert found.raw_text == text


LETTERS = preference_set(
    written={"first": "A", "second": "B", "tie": "C"},
    also={},
    verdict_prefix="My final verdict is: [[",
    pattern=r"\[\[(?P<verdict>[ABC])\]\]",
    terminators=("]",),
)
LETTER_CASES: list[tuple[str, Verdict | str]] = [
    ("My final verdict is: [[B]]", "second"),
    ("My final verdict is: [[B]]. [[A]] was worse.", "no_verdict"),
    ("Not [[A]]. My final verdict is: [[B]]", "second"),
    ("[[A]] ... [[B]]", "no_verdict"),
    ("[[A]]\n[[C]]", "tie"),
]


@pytest.mark.parametrize(("text", "expected"), LETTER_CASES, ids=[c[0].split("\n")[0] for c in LETTER_CASES])
def test_verdicts_of_a_pattern_of_the_users(text: str, expected: Verdict | str) -> None:
    found = find_verdict(text, "stop", LETTERS)
    assert (found.verdict if isinstance(found, Stated) else found.reason.value) == expected


PIECES = [
    "Rating: [[", "Rating:", "[[", "]]", "7", "10", "out of", "scale", '"', "“", "”", "'", "`", "\n", " ", ".",
    "the final decision is", "Response 1", "Response 2", "Tie", "```", ">", "and", "not",
]  # fmt: skip


@given(st.lists(st.sampled_from(PIECES), max_size=24).map("".join), st.sampled_from(["stop", "length"]))
@settings(max_examples=examples(1500))
def test_two_verdicts_are_never_read_as_one(text: str, finish: FinishReason) -> None:
    """A verdict that is read has words of the text, and no line of leads states another beside it."""
    for verdicts in (RATING, PAIR):
        found = find_verdict(text, finish, verdicts)
        if isinstance(found, Failure):
            assert found.raw_text == text
            continue
        at = text[found.start :]
        stated = next(m for m in verdicts.pattern.finditer(text) if m.start("verdict") >= found.start)
        assert at.lstrip().startswith(stated["verdict"].lstrip())
        # The same text with more of the same verdict after it says the same.
        assert find_verdict(text + "\n", "stop", verdicts) == find_verdict(text, "stop", verdicts)
        if finish == "length":
            # What counts in a text that was cut counts all the more in one that was not.
            assert isinstance(find_verdict(text, "stop", verdicts), Stated)


SLOW = {
    "blanks in brackets": lambda n: "[[" + " " * n,
    "open brackets": lambda n: "[[" * (n // 2),
    "blanks after a verdict": lambda n: "Rating: [[7]]" + " " * n + "x",
    "many verdicts": lambda n: "Rating: [[7]] " * (n // 14),
    "many verdicts in blanks": lambda n: ("[[7]]" + " " * 95) * (n // 100),
    "scales": lambda n: "Rating: [[7]]" + " out of" * (n // 7),
    "many scales": lambda n: "Rating: [[7]] out of 10 " * (n // 24),
    "quotes": lambda n: "'a \"“" * (n // 5) + "Rating: [[7]]",
    "blanks before a decision": lambda n: "final decision is" + " " * n,
    "many decisions": lambda n: "final decision is response 1 " * (n // 29),
    "digits": lambda n: "final decision is response " + "1" * n,
}


@pytest.mark.slow
@pytest.mark.parametrize("make", SLOW.values(), ids=SLOW.keys())
def test_the_time_of_reading_grows_with_the_text(make: Callable[[int], str]) -> None:
    """`[[` and 8,000 blanks once took seconds, and eight times as many 64 times as long."""

    for verdicts in (RATING, PAIR, ZH_PAIR):
        for finish in ("stop", "length"):
            assert worst(make, lambda text, v=verdicts, f=finish: find_verdict(text, f, v)) is None


@pytest.mark.parametrize(
    ("known", "said", "expected"),
    [
        (("-1", "0", "+1"), "+1", "+1"),
        (("-1", "0", "+1"), "1", "+1"),
        (("-1", "0", "+1"), "-1.0", "-1"),
        (("0.0", "0.5", "1.0"), "1.0", "1.0"),
        (("0.0", "0.5", "1.0"), "**0.50**", "0.5"),
        (("1", "2.0", "02"), "2", "2"),  # neither 2.0 nor 02: two are as near
        (("b", "a", "a*"), "A*", "a*"),
        (("b", "a", "a*"), "**A**", "a"),
        (("7 8", "8 7"), "7.0  08", "7 8"),
        (("yes", "no"), " _Yes_ ", "yes"),
        (("yes", "no"), "maybe", "maybe"),
    ],
)
def test_a_stated_text_is_looked_up_as_it_is_before_it_is_simplified(
    known: tuple[str, ...], said: str, expected: str
) -> None:
    """`+1`, `1.0` and `A*` were simplified first, and the best choice of a criterion was never found."""
    assert key_in(said, known) == expected


def test_the_place_of_the_verdict_is_where_its_tokens_begin() -> None:
    for verdicts, text, lead in (
        (RATING, "Good. Rating: [[7]]", "Good. Rating: [["),
        (PAIR, "So, the final decision is Response 1.", "So, the final decision is"),
    ):
        found = find_verdict(text, "stop", verdicts)
        assert isinstance(found, Stated)
        assert text[: found.start] == lead


@given(hostile_text)
def test_any_text_gives_a_verdict_or_a_typed_failure(text: str) -> None:
    for verdicts in (RATING, PAIR, ZH_RATING, ZH_PAIR):
        found = find_verdict(text, "stop", verdicts)
        assert isinstance(found, Stated | Failure)


THINKING = Thinking()
THOUGHTS = [
    ("thought and answer", "<think>Hm. [[9]]</think>\n\nRating: [[3]]", False, "\n\nRating: [[3]]"),
    ("opened by the template", "Hm.</think>Rating: [[3]]", True, "Rating: [[3]]"),
    ("a quoted closing mark", "<think>It wrote </think> here.</think>Rating: [[3]]", False, "Rating: [[3]]"),
    ("no thinking at all", "Rating: [[3]]", False, "Rating: [[3]]"),
    ("never ended", "<think>Rating: [[10]]", False, None),
    ("never ended, opened by the template", "Rating: [[10]]", True, None),
]


@pytest.mark.parametrize(
    ("text", "opened", "answer"), [t[1:] for t in THOUGHTS], ids=[t[0] for t in THOUGHTS]
)
def test_the_verdict_is_read_after_the_thinking(text: str, opened: bool, answer: str | None) -> None:
    marks = Thinking(opened_by_template=opened)
    head, found = split_thinking(text, marks)
    assert found == answer
    assert head + (found or "") == text


def test_the_published_critiques_hold_231_ratings_and_one_typed_failure(data: Path) -> None:
    path = data / "auto-j" / "data" / "test" / "testdata_critique.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    found = [find_verdict(row["critiques"]["autoj"], "stop", RATING) for row in rows]
    failed = [i for i, f in enumerate(found) if isinstance(f, Failure)]
    assert len(rows) == 232
    assert failed == [185]  # a repetition loop of 2,050 tokens that never comes to a rating
    failure = found[185]
    assert isinstance(failure, Failure)
    assert failure.reason is FailureReason.NO_VERDICT
    counts = Counter(f.verdict for f in found if isinstance(f, Stated))
    assert counts == {6: 96, 4: 58, 5: 47, 3: 15, 7: 7, 2: 7, 1: 1}


def test_chinese_training_targets_parse_tolerantly(data: Path) -> None:
    """A parser that wants an ASCII colon and no blank finds none of them."""
    path = data / "auto-j" / "data" / "training" / "zh_single_traindata.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    found = [find_verdict(row["target_output"], "stop", ZH_RATING) for row in rows]
    assert len(found) == 960
    assert sum(isinstance(f, Stated) for f in found) >= 941


def test_english_training_targets_state_their_ratings(data: Path) -> None:
    path = data / "auto-j" / "data" / "training" / "single_traindata.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for row in rows:
        found = find_verdict(row["target_output"], "stop", RATING)
        assert isinstance(found, Stated)
        assert found.verdict == float(row["pred_score"])
