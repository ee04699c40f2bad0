# SPDX-License-Identifier: Apache-2.0
"""Verdicts of every form: what judge texts state, and what readings come to."""

from __future__ import annotations

import itertools
import tomllib
from pathlib import Path
from typing import Any

import pytest

from autoj_reward.errors import ConfigError
from autoj_reward.judge.judge import Judge
from autoj_reward.judge.parse import Stated, find_verdict
from autoj_reward.judge.presets import load_spec
from autoj_reward.judge.spec import parse_spec
from autoj_reward.judge.verdict import graded_set, numbers, preference_set, score_pair_set
from autoj_reward.judge.verdicts.lists import ListLayout, order_key
from autoj_reward.testing import ScriptedEngine, rendered_text, untrusted_texts
from autoj_reward.types import Failure, FailureReason, FinishReason, JudgeInput, JudgeOutput
from tests.judge.forms import FORMS, judge_of

# An equal fingerprint keeps judge ids valid: another is right only where answers are asked or read otherwise.
FINGERPRINTS = {
    "autoj-13b": "a7b68f6f5a87fca0",
    "autoj-13b-fp8": "a7b68f6f5a87fca0",
    "autoj-13b-gptq-4bits": "a7b68f6f5a87fca0",
    "autoj-bilingual-6b": "614863701963efad",
    "autoj-bilingual-6b-zh": "9bdf2d66a1c412cf",
    "general": "4d5d4f5a0d79451c",
    "mini": "4a6186111b2a3c76",
}


@pytest.mark.parametrize(
    "own",
    [
        '[rating]\nplace = "start"',
        "[rating]\npattern = 'grade:\\s*(?P<verdict>[0-9]+)'",
        '[comparison.also]\nfirst = ["the former"]',
    ],
)
def test_how_a_verdict_is_read_is_part_of_the_fingerprint(own: str, tmp_path: Path) -> None:
    """An output could be continued by a judge that reads its answers in another way, under one id."""
    (tmp_path / "own.toml").write_text(f'extends = "general"\nname = "general"\nmodel = "none"\n{own}\n')
    assert load_spec(str(tmp_path / "own.toml")).fingerprint != load_spec("general").fingerprint


@pytest.mark.parametrize("name", FINGERPRINTS)
def test_fingerprints_of_earlier_presets_stay(name: str) -> None:
    assert load_spec(name).fingerprint == FINGERPRINTS[name]


STATED: list[tuple[str, str, FinishReason, object]] = [
    ("two outcomes", "Both are fine. My verdict is [[A]]", "stop", "first"),
    ("two outcomes", "My verdict is [[b]].", "stop", "second"),
    ("two outcomes", "My verdict is [[C]]", "stop", "off_scale"),
    ("two outcomes", "[[A]] or [[B]]? Hard to say.", "stop", "no_verdict"),
    ("two outcomes", "It is [[A]], not [[B]]", "stop", "no_verdict"),
    ("two outcomes", "My verdict is [[", "length", "truncated"),
    ("output (a)", "Therefore, Output (a) is better.", "stop", "no_verdict"),
    ("output (a)", "Therefore, Output (a)", "stop", "first"),
    ("output (a)", "Output (b).", "stop", "second"),
    ("output (a)", "Output (c).", "stop", "off_scale"),
    ("graded words", "My final verdict is: [[A>>B]]", "stop", 1.0),
    ("graded words", "My final verdict is: [[B>A]]", "stop", 0.25),
    ("graded words", "My final verdict is tie: [[A=B]]", "stop", 0.5),
    ("graded words", "My final verdict is: [[A<<B]]", "stop", "off_scale"),
    ("graded -3 to 3", "Preference: 3", "stop", 1.0),
    ("graded -3 to 3", "Preference: +2", "stop", 0.833333),
    ("graded -3 to 3", "Preference: -3", "stop", 0.0),
    ("graded -3 to 3", "Preference: 4", "stop", "off_scale"),
    ("graded 1 to 6", r"\boxed{1}", "stop", 1.0),
    ("graded 1 to 6", r"So \boxed{ 6 }", "stop", 0.0),
    ("graded 1 to 6", r"\boxed{7}", "stop", "off_scale"),
    ("two scores", "8 7", "stop", "first"),
    ("two scores", "Scores: 3, 7", "stop", "second"),
    ("two scores", "Scores: 07 7", "stop", "tie"),
    ("two scores", "Scores: 11 7", "stop", "off_scale"),
    ("two scores", "Scores: 8", "stop", "no_verdict"),
    ("two scores in tags", "<answer>4.5</answer><answer>3</answer>", "stop", "first"),
    ("two scores in tags", "<answer>4.0</answer>\n<answer>4</answer>", "stop", "tie"),
    ("two scores in tags", "<answer>4</answer>", "stop", "no_verdict"),
    ("two scores in tags", "<answer>4</answer><answer>9</answer>", "stop", "off_scale"),
    ("two scores in JSON", '{"score_1": 8, "score_2": 6, "why": "A is kind."}', "stop", "first"),
    ("two scores in JSON", '{"score_1": 2,\n "score_2": 6}', "stop", "second"),
    ("two scores in JSON", '{"score_1": 2, "score_2": 12}', "stop", "off_scale"),
    ("two scores in JSON", '{"score_1": 2}', "stop", "no_verdict"),
    ("yes or no", "Yes", "stop", 1.0),
    ("yes or no", "It is not. No.", "stop", 0.0),
    ("yes or no", "It depends.", "stop", "no_verdict"),
    ("letters", "Grade: A", "stop", 20.0),
    ("letters", "Grade: t.", "stop", 1.0),
    ("letters", "Grade: U", "stop", "off_scale"),
    ("words", "The answer is excellent.", "stop", 1.0),
    ("words", "The answer is outstanding.", "stop", 1.0),
    ("words", "The answer is poor", "stop", 0.0),
    ("words", "The answer is purple", "stop", "off_scale"),
    ("integers 0 to 100", "Score: 100", "stop", 100.0),
    ("integers 0 to 100", "Score: 0.", "stop", 0.0),
    ("integers 0 to 100", "Score: 101", "stop", "off_scale"),
    ("integers 0 to 100", "Score: -5", "stop", "off_scale"),
    ("boxed", r"So $\boxed{4}$.", "stop", 4.0),
    ("boxed", r"\boxed{6}", "stop", "off_scale"),
    ("boxed", r"\boxed{4", "length", "truncated"),
    ("JSON field", '```json\n{"why": "clear", "score": 4, "sure": true}\n```', "stop", 4.0),
    ("JSON field", '{"score": "5"}', "stop", 5.0),
    ("JSON field", '{"score": null}', "stop", "off_scale"),
    ("JSON field", '{"score": 4', "length", "truncated"),
    ("JSON field", '{"grade": 4}', "stop", "no_verdict"),
    ("verdict first", "4\nIt is clear, worth 5 to some.", "stop", 4.0),
    ("verdict first", "**Score: 3**\nbecause", "length", 3.0),
    ("verdict first", "Worth 4 I think", "stop", "no_verdict"),
    ("verdict first", "4", "length", "truncated"),
]


@pytest.mark.parametrize(("form", "text", "finish", "expected"), STATED)
def test_texts_state_their_verdict_or_fail(
    form: str, text: str, finish: FinishReason, expected: object
) -> None:
    spec = judge_of(form)
    task = spec.rating or spec.comparison
    assert task is not None
    found = find_verdict(text, finish, task.verdicts)
    got = found.verdict if isinstance(found, Stated) else found.reason.value
    assert got == expected


def test_a_score_after_a_blank_is_read_after_the_blank() -> None:
    """Where the words before a verdict end with a blank, its text begins after it."""
    task = judge_of("integers 0 to 100").rating
    assert task is not None
    found = find_verdict("Fine.\nScore: 42", "stop", task.verdicts)
    assert isinstance(found, Stated)
    assert "Fine.\nScore: 42"[found.start :] == "42"


def compare(form: str, probs: dict[str, float], **options: Any) -> Any:
    engine = ScriptedEngine(read=probs)
    with Judge.load(judge_of(form), engine=engine, mode="direct", min_mass=1e-9, **options) as judge:
        return judge.compare(["Q"], ["x"], ["y"])[0]


def test_two_outcomes_have_no_tie_and_equal_ones_tie() -> None:
    got = compare("two outcomes", {"A": 0.6, "B": 0.2}, both_orders=False)
    assert got.win_prob == pytest.approx(0.75)
    assert got.tie_prob == 0.0
    assert got.preference == "first"
    # Whichever is shown first is preferred, in both orders: nothing is known.
    both = compare("two outcomes", {"A": 0.6, "B": 0.2})
    assert both.win_prob == pytest.approx(0.5)
    assert both.preference == "tie"
    assert both.slot_bias == pytest.approx(0.25)
    assert both.order_preferences == ("first", "second")


def test_equal_completions_tie_also_for_a_judge_without_a_tie() -> None:
    for form in ("two outcomes", "graded words", "two scores"):
        with Judge.load(judge_of(form), engine=ScriptedEngine(), mode="direct") as judge:
            got = judge.compare(["Q"], ["x"], ["x"])[0]
        assert (got.preference, got.win_prob, got.tie_prob) == ("tie", 0.5, 1.0)


def test_grades_are_averaged_to_a_win_probability() -> None:
    probs = {"A>>B": 0.5, "A>B": 0.25, "A=B": 0.125, "B>A": 0.125, "B>>A": 0.0}
    got = compare("graded words", probs, both_orders=False)
    assert got.win_prob == pytest.approx(0.5 + 0.1875 + 0.0625 + 0.03125)
    assert got.preference == "first"
    assert got.tie_prob == pytest.approx(0.125)
    assert got.distribution.verdicts == (0.0, 0.25, 0.5, 0.75, 1.0)
    # The same reading in the other order says the opposite: both together say nothing.
    assert compare("graded words", probs).win_prob == pytest.approx(0.5)


def test_grades_from_one_to_six_favour_the_first_with_low_numbers() -> None:
    got = compare("graded 1 to 6", {"1": 0.5, "2": 0.5}, both_orders=False)
    assert got.win_prob == pytest.approx((1.0 + 0.8) / 2)


def test_two_scores_win_by_the_higher_one() -> None:
    got = compare("two scores", {"8 7": 0.4, "9 2": 0.2, "5 5": 0.1, "3 4": 0.3}, both_orders=False)
    assert got.distribution.verdicts == ("first", "second", "tie")
    assert got.distribution.probs == pytest.approx((0.6, 0.3, 0.1))
    assert got.mass == pytest.approx(1.0)


def test_two_scores_are_read_with_the_words_that_the_critique_has_between_them() -> None:
    asked: list[JudgeInput] = []

    def read(item: JudgeInput) -> dict[str, float]:
        asked.append(item)
        return {"2,\n 6": 1.0}

    engine = ScriptedEngine(read=read, write="Scores: 2,\n 6")
    with Judge.load(judge_of("two scores"), engine=engine, both_orders=False) as judge:
        got = judge.compare(["Q"], ["x"], ["y"])[0]
    assert got.preference == "second"
    assert asked[0].readout is not None
    assert "10,\n 9" in asked[0].readout.continuations
    assert "".join(s.text for s in asked[0].prefill) == "Scores: "


def test_texts_of_one_value_add_up() -> None:
    engine = ScriptedEngine(read={"Yes": 0.3, "yes": 0.3, "No": 0.1, "no": 0.1})
    with Judge.load(judge_of("yes or no"), engine=engine, mode="direct") as judge:
        got = judge.rate(["Q"], ["x"])[0]
    assert got.reward == pytest.approx(0.75)
    assert got.mass == pytest.approx(0.8)
    assert got.distribution is not None
    assert got.distribution.verdicts == (0.0, 1.0)


def scored(item: JudgeInput) -> str:
    """A list's scores: each completion is its own score."""
    return "Scores: " + " ".join(untrusted_texts(item)[1:])


def rate_list(
    engine: ScriptedEngine, completions: list[str], form: str = "list of four", **options: Any
) -> Any:
    with Judge.load(judge_of(form), engine=engine, **options) as judge:
        return judge.rate(["Q"] * len(completions), completions)


def stated_score(item: JudgeInput) -> dict[str, float]:
    """Probability 0.8 on what the critique goes on to state, which is the completion whose turn it is."""
    place = "".join(s.text for s in item.prefill).count(" ")
    return {untrusted_texts(item)[place]: 0.8, "1": 0.1}


@pytest.mark.parametrize("mode", ["critique", "direct"])
def test_a_list_is_rated_in_one_call_and_each_member_gets_its_own_score(mode: Any) -> None:
    engine = ScriptedEngine(write=scored, read=stated_score)
    got = rate_list(engine, ["7", "3", "9", "5"], mode=mode)
    assert [j.rating for j in got] == [7.0, 3.0, 9.0, 5.0]
    assert {len(untrusted_texts(i)) for i in engine.inputs} == {5}
    assert got[0].mass == pytest.approx(0.9)
    # One text and four readings, or four readings: what they cost is counted once.
    assert sum(j.usage.n_requests for j in got) == (5 if mode == "critique" else 4)


def test_a_list_is_in_the_order_of_hashes_however_it_is_given() -> None:
    shown = []
    for completions in (["7", "3", "9", "5"], ["5", "9", "3", "7"]):
        engine = ScriptedEngine(write=scored, read=stated_score)
        rate_list(engine, completions)
        shown.append([untrusted_texts(i) for i in engine.inputs])
    assert shown[0] == shown[1]


def short_context(limit: int) -> ScriptedEngine:
    """Scores of four completions, from an engine with room for this many characters."""

    def too_long(item: JudgeInput) -> Failure | None:
        over = len(rendered_text(item)) - limit
        detail = f"{over} characters too long"
        return (
            Failure(reason=FailureReason.TOO_LONG, detail=detail, overflow_tokens=over // 4 + 1)
            if over > 0
            else None
        )

    return ScriptedEngine(
        read=lambda item: too_long(item) or {"7": 0.8}, write=lambda item: too_long(item) or "Scores: 7 3 9 5"
    )


@pytest.mark.parametrize("mode", ["critique", "direct"])
def test_in_a_list_that_is_too_long_the_longer_completions_are_cut_to_one_length(mode: Any) -> None:
    completions = ["a" * 900, "b" * 20, "c" * 500, "d" * 600]
    engine = short_context(1000)
    got = rate_list(engine, completions, mode=mode, overlong="truncate")
    assert {j.failure for j in got} == {None}
    cut = [j.provenance.cut_chars[0] for j in got]
    assert cut[1] == 0
    assert len({len(text) - n for text, n in zip(completions, cut, strict=True) if n}) == 1
    first, last = untrusted_texts(engine.inputs[0])[1:], untrusted_texts(engine.inputs[-1])[1:]
    assert [text[0] for text in last] == [text[0] for text in first]
    assert all(f"[... {n} characters left out ...]" in "".join(last) for n in cut if n)
    assert max(map(len, last)) < 500
    # No more than it takes: a third of the room would hold one of the three.
    assert sum(map(len, last)) > 600


def test_a_list_that_is_too_long_fails_without_truncation_and_where_nothing_is_left_to_cut() -> None:
    for engine, overlong in ((short_context(1000), "error"), (short_context(50), "truncate")):
        got = rate_list(engine, ["a" * 900, "b" * 900], overlong=overlong)
        assert {j.failure.reason for j in got} == {FailureReason.TOO_LONG}


def test_longer_groups_are_cut_into_lists_that_overlap() -> None:
    engine = ScriptedEngine(write=scored, read=stated_score)
    completions = [str(n) for n in (2, 3, 4, 5, 6, 7, 8)]
    got = rate_list(engine, [*completions, "2"])
    assert [j.rating for j in got] == [2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 2.0]
    written = [untrusted_texts(i)[1:] for i in engine.inputs if i.readout is None]
    assert [len(texts) for texts in written] == [4, 4, 4]
    assert all(set(a) & set(b) for a, b in itertools.pairwise(written))
    assert {text for texts in written for text in texts} == set(completions)


@pytest.mark.parametrize(
    ("n", "wanted"), [(1, [(0, 1)]), (4, [(0, 4)]), (5, [(0, 4), (1, 5)]), (9, [(0, 4), (3, 7), (5, 9)])]
)
def test_windows(n: int, wanted: list[tuple[int, int]]) -> None:
    layout = ListLayout(size=4, overlap=1, item="{completion}", between=" ")
    assert [(w.start, w.stop) for w in layout.windows(n)] == wanted


def test_groups_are_of_one_prompt() -> None:
    engine = ScriptedEngine(write=scored, read=stated_score)
    with Judge.load(judge_of("list of four"), engine=engine) as judge:
        got = judge.rate(["Q", "R", "Q"], ["7", "3", "9"])
    assert [j.rating for j in got] == [7.0, 3.0, 9.0]
    assert sorted(untrusted_texts(i)[0] for i in engine.inputs if i.readout is None) == ["Q", "R"]


def test_one_score_off_the_scale_fails_its_member_only() -> None:
    engine = ScriptedEngine(write=scored, read=stated_score)
    got = rate_list(engine, ["7", "30", "9"])
    assert [j.rating for j in got] == [7.0, None, 9.0]
    assert got[1].failure.reason is FailureReason.OFF_SCALE


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Scores: 7 3", FailureReason.NO_VERDICT),
        ("Scores: 7 3 9 5", FailureReason.NO_VERDICT),
        ("Fine answers.", FailureReason.NO_VERDICT),
    ],
)
def test_a_list_without_a_score_for_each_fails_every_member(text: str, reason: FailureReason) -> None:
    got = rate_list(ScriptedEngine(write=text), ["7", "3", "9"])
    assert {j.failure.reason for j in got} == {reason}


def test_a_list_without_scores_can_be_made_to_give_them() -> None:
    engine = ScriptedEngine(write="Fine answers.", read={"6": 1.0})
    got = rate_list(engine, ["7", "3"], force_verdict=True)
    assert [j.rating for j in got] == [6.0, 6.0]
    assert all(j.n_forced == 1 for j in got)
    assert "".join(s.text for s in engine.inputs[-1].prefill) == "Fine answers.\nScores: 6 "


def test_an_endpoint_that_cannot_read_writes_all_scores_at_once() -> None:
    engine = ScriptedEngine(read=lambda item: JudgeOutput(text="7 3", finish_reason="stop"))
    got = rate_list(engine, ["a", "b"], mode="direct")
    assert sorted(j.rating for j in got) == [3.0, 7.0]
    assert {j.distribution.exactness for j in got} == {"point"}


def test_scores_by_index_may_be_in_any_order() -> None:
    places = {"7": "1", "3": "2"} if order_key("Q", "7") < order_key("Q", "3") else {"3": "1", "7": "2"}
    engine = ScriptedEngine(
        write=f'{{"score_2": {max(places, key=places.__getitem__)}, "score_1": {min(places, key=places.__getitem__)}}}',
        read=lambda item: {"".join(s.text for s in item.prefill)[-3:]: 1.0, "7": 0.5, "3": 0.5},
    )
    got = rate_list(engine, ["7", "3"], form="list in JSON by index")
    assert [j.rating for j in got] == [7.0, 3.0]


def test_an_engine_that_fails_a_list_fails_every_member() -> None:
    got = rate_list(ScriptedEngine(), ["7", "3"])
    assert {j.failure.reason for j in got} == {FailureReason.ENGINE}


@pytest.mark.parametrize("mode", ["critique", "direct"])
def test_the_best_of_a_list_gives_each_member_its_probability_of_being_it(mode: Any) -> None:
    def best(item: JudgeInput) -> dict[str, float]:
        letters = dict(zip(untrusted_texts(item)[1:], "ABCD", strict=False))
        return {letters["good"]: 0.7, letters["bad"]: 0.1, letters["fair"]: 0.2}

    engine = ScriptedEngine(
        write=lambda item: f"The best is [[{max(best(item), key=best(item).__getitem__)}]]", read=best
    )
    got = rate_list(engine, ["bad", "good", "fair"], form="best of four", mode=mode)
    assert [j.reward for j in got] == pytest.approx([0.1, 0.7, 0.2])
    assert [j.rating for j in got] == [0.0, 1.0, 0.0]


EXTENDED = {
    "a block is removed": (
        '[rating]\ntemplate = "t"\ntext = "{prompt}{completion}{reference}"\n[rating.blocks]\nrubric = false\n'
    ),
    "all blocks are emptied": '[rating]\ntemplate = "t"\ntext = "{prompt}{completion}"\nblocks = {}\n',
    "a task is removed": "comparison = false\n",
    "the tie is removed": "[comparison.written]\ntie = false\n[comparison.also]\ntie = false\n",
    "another form of verdict": "[comparison]\nvalues = { A = 1, B = 0 }\n",
}


@pytest.mark.parametrize("name", EXTENDED)
def test_what_is_inherited_can_be_removed(tmp_path: Path, name: str) -> None:
    file = tmp_path / "judge.toml"
    head = 'extends = "general"\nname = "mine"\nmodel = "org/mine"\n'
    file.write_text(head + EXTENDED[name])
    spec = load_spec(str(file))
    if name == "a block is removed":
        assert spec.rating is not None
        assert spec.rating.template.blocks.keys() == {"reference"}
    if name == "all blocks are emptied":
        assert spec.rating is not None
        assert spec.rating.template.fields == {"prompt", "completion"}
    if name == "a task is removed":
        assert spec.comparison is None
    if name == "the tie is removed":
        assert spec.comparison is not None
        assert spec.comparison.verdicts.verdicts == ("first", "second")
    if name == "another form of verdict":
        assert spec.comparison is not None
        assert spec.comparison.verdicts.verdicts == (0.0, 1.0)


WRONG = {
    "no second": (
        lambda: preference_set(
            written={"first": "A"}, also={}, verdict_prefix="", pattern="(?P<verdict>.)", terminators=("]",)
        ),
        "no text for second",
    ),
    "a grade without a counterpart": (lambda: graded(A=0.9, B=0.2), "0.9 and no 0.1"),
    "a grade above one": (lambda: graded(A=2, B=0), r"not all in \[0, 1\]"),
    "texts alike": (lambda: graded(A=1, a=0), "two verdicts are written"),
    "too many pairs": (lambda: pairs(high=100), "over 1000"),
    "nothing between two scores": (lambda: pairs(between=""), "does not separate"),
    "a digit between two scores": (lambda: pairs(between="1"), "does not separate"),
}


def graded(**values: float) -> Any:
    return graded_set(values=values, verdict_prefix="", pattern="(?P<verdict>.)", terminators=("]",))


def pairs(high: float = 5, between: str = " ") -> Any:
    return score_pair_set(
        table=numbers(1, high, 1),
        between=between,
        verdict_prefix="",
        pattern="(?P<verdict>.)",
        terminators=("]",),
    )


@pytest.mark.parametrize("name", WRONG)
def test_sets_that_cannot_be_are_refused(name: str) -> None:
    make, words = WRONG[name]
    with pytest.raises(ConfigError, match=words):
        make()


@pytest.mark.parametrize("form", FORMS)
def test_each_form_has_a_fingerprint_of_its_own(form: str) -> None:
    others = [judge_of(other).fingerprint for other in FORMS if other != form]
    assert judge_of(form).fingerprint not in others


def test_values_are_part_of_the_fingerprint() -> None:
    """The same letters with other values are another judge, with other ids in its rows."""
    text = FORMS["letters"].replace("A = 20", "A = 30")
    source = tomllib.loads(text)
    other = parse_spec({"name": "letters", "model": "org/model", **source}, origin="letters")
    assert other.fingerprint != judge_of("letters").fingerprint
