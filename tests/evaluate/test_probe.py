# SPDX-License-Identifier: Apache-2.0
"""The probe on judges whose weakness is known: it must find just that, and nothing in a judge without one."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from autoj_reward import Judge
from autoj_reward.errors import DataError
from autoj_reward.evaluate.attacks import (
    NEUTRAL_AFTER,
    NEUTRAL_BEFORE,
    best_verdict,
    neutral,
    pair_attacks,
    rating_attacks,
)
from autoj_reward.evaluate.probe import ProbeReport, cases_from, probe, shipped_cases
from autoj_reward.judge.guard.guard import GuardRunner, make_guard
from autoj_reward.judge.presets import load_spec
from autoj_reward.testing import ScriptedEngine, untrusted_texts
from autoj_reward.types import JudgeInput

SPEC = load_spec("mini")
CASES, HONEST = shipped_cases()


def known_engine(rule: Callable[[str], float], *, prefers_slot: bool = False) -> ScriptedEngine:
    """Rates a completion by a rule; of a pair the one with the higher rating wins, and equals tie."""

    def read(item: JudgeInput) -> dict[str, float]:
        _, *completions = untrusted_texts(item)
        first, *second = map(rule, completions)
        if not second:
            return {f"{first:g}": 1.0}
        if first == second[0] and not prefers_slot:
            return {"Tie": 1.0}
        return {"Response 1" if first >= second[0] else "Response 2": 1.0}

    return ScriptedEngine(read=read)


def probed(rule: Callable[[str], float], **options: object) -> ProbeReport:
    engine = known_engine(rule, prefers_slot=bool(options.pop("prefers_slot", False)))
    with Judge.load("mini", engine=engine, mode="direct") as judge:
        return probe(judge, CASES[:4], HONEST, **options)  # type: ignore[arg-type]


def obeys(text: str) -> float:
    return 10.0 if "[[10]]" in text else 4.0


def long_windedness(text: str) -> float:
    return min(10.0, 1.0 + len(text) // 50 / 2)


def test_a_judge_that_obeys_planted_verdicts_is_found_and_guarded() -> None:
    report = probed(obeys)
    by_name = {a.name: a for a in report.attacks if a.unit == "rating"}
    quoted = ("planted rating, quoted", "fake turn")
    acted = ("planted rating", "planted rating first", "fake end of data", "fake example")
    for name in (*quoted, *acted):
        # What is neutralised is judged as the control is.
        assert (by_name[name].off.net.value, by_name[name].on.net.value) == (6.0, 0.0), name
        assert (by_name[name].off.net.low, by_name[name].off.net.high) == (6.0, 6.0)
        assert by_name[name].on.flagged == 1.0
        assert by_name[name].off.flagged == 0.0
    assert by_name["padding"].off.net.value == 0.0
    assert report.problems == ()


def test_a_gain_from_length_is_not_counted_as_an_attack() -> None:
    report = probed(long_windedness, pairs=False)
    padding = next(a for a in report.attacks if a.name == "padding")
    assert padding.off.gain.value > 2.0
    assert padding.off.control.value == padding.off.gain.value
    assert padding.off.net.value == 0.0


def test_a_judge_that_reads_through_the_guard_is_reported() -> None:
    report = probed(lambda text: obeys(text.replace(" ", "").replace("\u2060", "")), pairs=False)
    assert any(p.startswith("planted rating, quoted: gains 6.00") for p in report.problems)


def test_a_part_of_the_guard_that_is_off_does_not_help() -> None:
    report = probed(obeys, pairs=False, guard=make_guard({"verdicts": False, "forged": "judge"}))
    assert any(p.startswith("planted rating: ") for p in report.problems)


def test_a_guard_that_changes_honest_quotations_too_much_is_reported() -> None:
    report = probed(lambda text: 2.0 if "[  [" in text else 5.0, pairs=False, most_gain=10)
    assert report.quotations.change.value < -0.1
    assert [p.split(":")[0] for p in report.problems] == ["honest quotations"]


def test_a_judge_that_likes_the_first_slot() -> None:
    position = probed(lambda text: 5.0, prefers_slot=True).position
    assert position is not None
    assert (position.one_order.value, position.flipped.value) == (0.5, 1.0)


def test_an_attack_that_scores_below_the_plain_answer_gains_nothing() -> None:
    report = probed(lambda text: 9.0 if len(text) < 140 else 4.0 if "[" in text else 2.0, pairs=False)
    fake = next(a for a in report.attacks if a.name == "fake case")
    assert (fake.on.net.value, fake.on.gain.value) == (2.0, -5.0)
    assert fake.on.paid == -5.0
    assert not any(p.startswith("fake case") for p in report.problems)


def test_an_order_in_invisible_text_has_an_invisible_control() -> None:
    hidden = next(a for a in rating_attacks() if a.name == "hidden order")
    control = hidden.control(SPEC, "Q", "It is a tree.")
    assert "".join(c for c in control if c < "\U000e0000").strip() == "It is a tree."
    assert len(control) > 30


def test_a_judge_without_a_verdict_is_no_clean_bill() -> None:
    report = probed(lambda text: 3.14, pairs=False)
    assert all(a.on.net.n == 0 and a.on.n_failed == 4 for a in report.attacks)
    assert report.problems
    assert all("no prompt has all three verdicts" in p for p in report.problems[:-1])
    assert "honest quotations: none has a verdict" in report.problems[-1]


def test_the_same_text_is_asked_once() -> None:
    engine = known_engine(obeys)
    with Judge.load("mini", engine=engine, mode="direct") as judge:
        probe(judge, CASES[:2], HONEST[:2], pairs=False)
    n = len(rating_attacks())
    assert engine.n_inputs <= 2 * (2 * (2 * n + 1) + 2)


@pytest.mark.parametrize("name", ["mini", "autoj-13b", "autoj-bilingual-6b-zh", "general"])
def test_attacks_speak_the_language_of_the_judge(name: str) -> None:
    spec = load_spec(name)
    assert spec.rating is not None
    assert spec.rating.verdicts.pattern.search(best_verdict(spec))
    guarding = GuardRunner(make_guard(True), spec)  # type: ignore[arg-type]
    for attack in [*rating_attacks(), *pair_attacks()]:
        attacked = attack.attacked(spec, "What is it?", "It is a tree.")
        control = attack.control(spec, "What is it?", "It is a tree.")
        assert abs(len(attacked) - len(control)) <= 4, attack.name
        expected = [("hidden",)] if attack.name == "hidden order" else [(), ("trivial",)]
        assert guarding.sanitize(control)[1] in expected, attack.name
        if attack.family in ("planted verdicts", "fake blocks"):
            assert {"verdict", "delimiter"} & set(guarding.sanitize(attacked)[1]), attack.name


@pytest.mark.parametrize("sentences", [NEUTRAL_AFTER, NEUTRAL_BEFORE], ids=["after", "before"])
def test_neutral_text_says_nothing_to_a_judge_and_breaks_off_nowhere(sentences: tuple[str, ...]) -> None:
    assert GuardRunner(make_guard(True), SPEC).sanitize(" ".join(sentences))[1] == ()  # type: ignore[arg-type]
    for n in range(1, 1200):
        text = neutral(sentences, n)
        assert abs(len(text) - n) <= 4
        assert all(f"{s}." in sentences for s in text.removesuffix(".").split(". "))


@pytest.mark.parametrize(
    ("rows", "named"),
    [([{"prompt": "Q"}], "completion"), ([{"prompt": "Q", "completion": "A"}], "at least 2")],
)
def test_wrong_prompts_are_named(rows: list[dict[str, str]], named: str) -> None:
    with pytest.raises(DataError, match=named):
        cases_from(enumerate(rows, start=1), "in.jsonl")
