# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from autoj_reward.autoj.pairs import Decision, LabelledPair, read_decisions, read_pairs
from autoj_reward.autoj.scenarios.names import scenario_groups
from autoj_reward.cli.app import app
from autoj_reward.errors import ConfigError, DataError
from autoj_reward.evaluate.pairwise import compare_judges, evaluate_pairs
from autoj_reward.evaluate.predictions import compare_pairs, decision_of
from autoj_reward.judge.judge import Judge
from autoj_reward.testing import ScriptedEngine
from tests.cli.conftest import write_rows

# Agreement, consistency and accuracy in one order, as published with Auto-J's outputs.
PUBLISHED = {
    "Summarization": (45.83, 73.61, 56.94),
    "Exam Questions": (38.89, 69.44, 41.67),
    "Code": (47.50, 75.83, 54.17),
    "Rewriting": (49.17, 74.17, 57.50),
    "Creative Writing": (59.72, 87.04, 63.43),
    "Functional Writing": (61.67, 81.67, 68.33),
    "General Communication": (55.21, 92.36, 57.29),
    "NLP Tasks": (57.58, 86.36, 62.12),
}


def test_the_published_figures_come_out_to_the_digit(data: Path) -> None:
    folder = data / "auto-j" / "data"
    arguments = ["--data", str(folder / "test" / "testdata_pairwise.jsonl")]
    arguments += ["--predictions", str(folder / "outputs" / "pairwise_example_output.jsonl")]
    arguments += ["--swapped", str(folder / "outputs" / "pairwise_exchange_example_output.jsonl")]
    result = CliRunner().invoke(app, ["evaluate", "pairwise", *arguments, "--json"], catch_exceptions=False)
    report = json.loads(result.stdout)
    names = ("agreement", "consistency", "one_order")
    shown = {group: tuple(scores[n]["percent"] for n in names) for group, scores in report["groups"].items()}
    assert shown == PUBLISHED
    overall = {n: score["percent"] for n, score in report["overall"].items() if n not in ("n", "kappa")}
    assert overall == {
        "agreement": 54.96,
        "consistency": 83.41,
        "one_order": 59.99,
        "swapped_order": 60.63,
        "combined": 61.85,
        "decided": 78.90,
        "decided_both": 73.21,
    }
    assert report["overall"]["n"] == 1392
    # People prefer the longer one in 71.8% of what they decided, Auto-J the second slot in 52.7%.
    assert report["longer_wins"]["percent"] == 71.77
    assert report["second_slot"]["percent"] == 52.72
    assert round(report["tie_share"]["people"] * 1392) == 373
    assert report["overall"]["decided"]["n"] == 1019
    assert report["baselines"]["always first"]["one_order"]["percent"] == 37.36
    assert report["hard_flips"] == {"n": 176, "for_second_slot": 121}
    assert round(report["tie_share"]["judge"] * 1392) == 57
    table = CliRunner().invoke(app, ["evaluate", "pairwise", *arguments], catch_exceptions=False).stdout
    assert "54.96" in table
    assert "83.41" in table


def pair(preference: str, first: str = "aa", second: str = "b") -> LabelledPair:
    return LabelledPair(
        prompt="p",
        first=first,
        second=second,
        preference=preference,
        scenario="chitchat",
        group="G",  # type: ignore[arg-type]
    )


def test_an_unreadable_decision_is_wrong_and_no_tie() -> None:
    """A parser that maps 'no verdict' to a label would count it as a tie, or as a win."""
    report = evaluate_pairs(
        [pair("tie"), pair("first")],
        [Decision(given=None, swapped="tie"), Decision(given="first", swapped="first")],
    )
    assert report.n_unreadable == 1
    assert report.overall.agreement is not None
    assert report.overall.agreement.value == 0.5
    assert report.overall.one_order.value == 0.5
    assert report.tie_share[0] == 0.0


def test_kappa_is_of_the_decisions_that_agreement_counts() -> None:
    labels = ["first", "first", "second", "tie", "second"]
    decided = [
        ("first", "first"),
        ("first", "second"),
        ("second", "second"),
        ("first", "first"),
        (None, "tie"),
    ]
    decisions = [Decision(given=given, swapped=swapped) for given, swapped in decided]  # type: ignore[arg-type]
    # Both orders say first, -, second, first, -: 2 of 5 are right, chance is (2 * 2 + 1 * 2) / 25.
    report = evaluate_pairs([pair(label) for label in labels], decisions)
    assert report.overall.kappa == pytest.approx((2 / 5 - 6 / 25) / (1 - 6 / 25))
    # One order says first, first, second, first, -: 3 of 5 are right, chance is (3 * 2 + 1 * 2) / 25.
    one = evaluate_pairs([pair(label) for label in labels], [Decision(given=d.given) for d in decisions])
    assert one.overall.kappa == pytest.approx((3 / 5 - 8 / 25) / (1 - 8 / 25))
    assert one.baselines["always tie"].kappa == pytest.approx(0.0)
    assert evaluate_pairs([pair("first")], [Decision(given="first")]).overall.kappa is None


def test_averaged_decisions_count_as_combined() -> None:
    decision = Decision(given="first", swapped="second", averaged="second")
    report = evaluate_pairs([pair("second")], [decision])
    assert report.overall.combined is not None
    assert report.overall.combined.value == 1.0


@pytest.mark.parametrize("label", ["first", "second"])
def test_a_judge_that_cannot_tell_agrees_with_no_side(label: str) -> None:
    """Files of chosen and rejected have the same label in every row."""
    pairs = [replace(pair(label), first=f"{n}", second=f"not {n}") for n in range(4)]
    engine = ScriptedEngine(read={"Response 1": 0.4, "Response 2": 0.4, "Tie": 0.2})
    judge = Judge.load("autoj-13b", engine=engine, mode="direct", both_orders=True)
    report = evaluate_pairs(pairs, [decision_of(j, True) for j in compare_pairs(judge, pairs)])
    assert report.overall.agreement is not None
    assert report.overall.agreement.value == 0.0
    assert report.overall.one_order.value == 0.0


def test_compare_output_is_read_with_both_orders(tmp_path: Path) -> None:
    rows = [
        {"order_preferences": ["first", "tie"], "preference": "first"},
        {"order_preferences": None, "preference": None},
    ]
    path = write_rows(tmp_path / "out.jsonl", rows)
    assert read_decisions(path) == [
        Decision(given="first", swapped="tie", averaged="first"),
        Decision(given=None, swapped=None, averaged=None),
    ]
    with pytest.raises(ConfigError, match="both orders already"):
        read_decisions(path, path)


@pytest.mark.parametrize("value", [3, -1, None, "first", True, 0.5], ids=repr)
def test_a_wrong_decision_is_named(tmp_path: Path, value: object) -> None:
    path = write_rows(tmp_path / "out.jsonl", [{"output": 1}, {"output": value}])
    with pytest.raises(DataError, match=r"out.jsonl:2: field 'output'"):
        read_decisions(path)


def test_swapped_decisions_are_mapped_back(tmp_path: Path) -> None:
    given = write_rows(tmp_path / "a.jsonl", [{"output": n} for n in (0, 1, 2)])
    swapped = write_rows(tmp_path / "b.jsonl", [{"output": n} for n in (1, 1, 2)])
    assert [(d.given, d.swapped) for d in read_decisions(given, swapped)] == [
        ("first", "first"), ("second", "first"), ("tie", "tie")
    ]  # fmt: skip


def test_lengths_must_agree(tmp_path: Path) -> None:
    given = write_rows(tmp_path / "a.jsonl", [{"output": 0}])
    swapped = write_rows(tmp_path / "b.jsonl", [{"output": 0}] * 2)
    with pytest.raises(DataError, match="has 2 rows"):
        read_decisions(given, swapped)
    with pytest.raises(DataError, match="2 pairs and 1 decisions"):
        evaluate_pairs([pair("tie")] * 2, [Decision(given="tie")])


@pytest.mark.parametrize(
    ("change", "field"),
    [({"scenario": "none"}, "scenario"), ({"label": 3}, "label"), ({"response 1": None}, "response 1")],
    ids=["scenario", "label", "response"],
)
def test_a_wrong_pair_is_named(tmp_path: Path, change: dict[str, object], field: str) -> None:
    row = {"scenario": "chitchat", "label": 0, "prompt": "p", "response 1": "a", "response 2": "b"}
    path = write_rows(tmp_path / "pairs.jsonl", [{**row, **change}])
    with pytest.raises(DataError, match=f"pairs.jsonl:1: field '{field}'"):
        read_pairs(path)


def test_there_are_58_scenarios_in_8_groups() -> None:
    groups = scenario_groups()
    assert (len(groups), len(set(groups.values()))) == (58, 8)


def test_decisions_in_one_order_are_read_back_as_they_were(tmp_path: Path) -> None:
    """Files of one order have no `order_preferences`: every decision in them was read as unreadable."""
    pairs = [pair("first"), pair("second"), pair("tie")]
    rows = [{"preference": p.preference, "order_preferences": None, "win_prob": 0.5} for p in pairs]
    decisions = read_decisions(write_rows(tmp_path / "d.jsonl", rows))
    assert [(d.given, d.swapped) for d in decisions] == [("first", None), ("second", None), ("tie", None)]
    report = evaluate_pairs(pairs, decisions)
    assert (report.overall.one_order.value, report.n_unreadable) == (1.0, 0)


def test_pairs_of_one_prompt_are_no_independent_evidence() -> None:
    """Eight answers to a prompt make 28 pairs, which are right and wrong together."""
    right = [Decision(given="first", swapped="first")] * 28
    wrong = [Decision(given="second", swapped="second")] * 28
    many = [replace(pair("first"), prompt=f"p{n}") for n in range(12) for _ in range(28)]
    one = [replace(pair("first"), prompt=f"p{n}") for n in range(12)]
    of_many = evaluate_pairs(many, right * 7 + wrong * 5).overall.agreement
    of_one = evaluate_pairs(one, right[:7] + wrong[:5]).overall.agreement
    assert of_many is not None
    assert of_one is not None
    assert of_many.value == of_one.value
    assert of_many.high - of_many.low == pytest.approx(of_one.high - of_one.low, abs=0.09)
    # One prompt more is one piece of evidence, not 28.
    test = compare_judges(many, right * 7 + wrong * 5, right * 6 + wrong * 6)["agreement"]
    assert (test.only_first, test.only_second, test.p_value) == (1, 0, 1.0)
    assert test.difference.low == 0.0


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (["--swapped", "x.jsonl"], "--swapped"),
        (["--against-swapped", "x.jsonl"], "--against-swapped"),
        (["--predictions", "d.jsonl", "-o", "o.jsonl"], "-o"),
        (["--by-rating", "--one-order"], "--one-order"),
        (["--predictions", "d.jsonl", "--by-rating"], "--by-rating"),
    ],
)
def test_options_without_effect_are_refused(options: list[str], name: str, tmp_path: Path) -> None:
    source = str(
        write_rows(tmp_path / "in.jsonl", [{"prompt": "p", "first": "a", "second": "b", "label": 0}])
    )
    with pytest.raises(ConfigError, match=f"^{name} has no effect"):
        CliRunner().invoke(app, ["evaluate", "pairwise", source, *options], catch_exceptions=False)
