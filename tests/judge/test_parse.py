# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given

from autoj_reward.judge.parse import Stated, find_verdict
from autoj_reward.judge.presets import load_spec
from autoj_reward.judge.spec import Thinking
from autoj_reward.judge.writing import split_thinking
from autoj_reward.judgments import Verdict
from autoj_reward.types import Failure, FailureReason, FinishReason
from tests.hostile import hostile_text

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
    ("first", PAIR, "So, the final decision is Response 1", "stop", "first"),
    ("second with a stop", PAIR, "So, the final decision is Response 2.", "stop", "second"),
    ("tie", PAIR, "So, the final decision is Tie", "stop", "tie"),
    ("a tie in lower case", PAIR, "so, the final decision is tie.\n", "stop", "tie"),
    ("emphasis on the verdict", PAIR, "the final decision is **Response 2**.", "stop", "second"),
    ("changed its mind", PAIR, "The final decision is Response 1. No: the final decision is Tie.", "stop", "tie"),
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
