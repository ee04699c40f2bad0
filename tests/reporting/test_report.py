# SPDX-License-Identifier: Apache-2.0
"""The report shows what the run's file says: figures are counted again here, the slow way."""

from __future__ import annotations

import json
import math
import re
import statistics
from html.parser import HTMLParser
from importlib import resources
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoj_reward.errors import ConfigError, DataError
from autoj_reward.reporting.against_gold import _best_of
from autoj_reward.reporting.build import build_report
from autoj_reward.reporting.charts import ticks
from autoj_reward.reporting.escaping import shown
from autoj_reward.reporting.page import embedded_json, page
from autoj_reward.reporting.parts import (
    Answer,
    Bars,
    Cards,
    Case,
    Chart,
    Facts,
    Grid,
    Histogram,
    Lines,
    Listing,
    Part,
    Report,
)
from autoj_reward.statistics import spearman
from tests.hostile import hostile_text


def write(path: Path, rows: list[dict[str, Any]], record: dict[str, Any] | None = None) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    if record is not None:
        Path(f"{path}.run.json").write_text(json.dumps(record))
    return str(path)


def rated(rating: float | None, **more: Any) -> dict[str, Any]:
    known = rating is not None
    return {
        "prompt": "Q", "completion": "A", "rating": rating, "expected_rating": rating, "reward": rating,
        "critique": "So so." if known else "cut", "mass": 0.9 if known else None,
        "entropy": 0.5 if known else None, "mode": "critique", "cut_chars": 0, "flags": None,
        "failure": None if known else {"reason": "truncated", "detail": "x"}, **more,
    }  # fmt: skip


RATES = [
    rated(7.0, gold=1, kind="a", flags=["verdict"]), rated(3.0, gold=0, kind="b", flags=[]),
    rated(None, gold=1, kind="b", flags=[]), rated(8.5, gold=1, kind="a", flags=["verdict", "hidden"]),
    rated(7.0, gold=0, kind="a", flags=[]),
]  # fmt: skip
ABOUT = {
    "date": "2030-01-02T03:04:05+00:00", "command_line": ["/bin/autoj-reward", "rate", "in put.jsonl"],
    "judge": {
        "judge": "mini", "judge_id": "abc", "model": "embedded:mini", "mode": "critique",
        "scale": [float(n) for n in range(1, 11)], "engine": {"engine": "transformers", "dtype": "float32"},
    },
    "versions": {"autoj-reward": "1.2"}, "machine": {"system": "Linux", "gpus": ["H100"]},
}  # fmt: skip
RECORD = {
    "run": {"command": "rate", "judge": "mini", "mode": "critique"}, "about": ABOUT, "complete": True, "rows": 5, "judgments": 5,
    "seconds": 2.5, "prompt_tokens": 1000, "cached_tokens": 400, "completion_tokens": 50, "from_cache": 3, "asked": 7,
}  # fmt: skip


def test_rate(tmp_path: Path) -> None:
    report = build_report(write(tmp_path / "r.jsonl", RATES, RECORD), gold="gold", group="kind")
    known = [r["rating"] for r in RATES if r["rating"] is not None]
    assert report.part("overview").facts["without a verdict"] == "1 (20.0%)"
    assert sum(report.part("rewards").series["judgments"]) == len(known)
    assert f"mean {statistics.mean(known):.3f}" in report.part("rewards").says
    ratings = report.part("ratings")
    counts = dict(zip(ratings.names, ratings.series["judgments"], strict=True))
    assert {name: n for name, n in counts.items() if n} == {"3": 1, "7": 2, "8.5": 1}
    assert list(counts) == ["1", "2", "3", "4", "5", "6", "7", "8", "8.5", "9", "10"]
    assert report.part("rewards").edges == [float(n) for n in range(1, 11)]
    assert "probability 0.17" in report.part("ratings").says
    assert list(report.part("failures").series["judgments"]) == [1]
    assert dict(zip(report.part("flags").labels, report.part("flags").series["judgments"], strict=True)) == {
        "verdict": 2, "hidden": 1,
    }  # fmt: skip
    assert report.part("groups").series["expected rating"] == [pytest.approx(7.5), pytest.approx(3.0)]
    assert report.part("groups").axis == (1.0, 10.0)
    cost = report.part("cost").facts
    assert (cost["judgments a second"], cost["tokens written"], cost["answers from the cache"]) == (
        "2.00",
        "50",
        "3",
    )
    loaded = dict(RECORD, loading_seconds=1.5)
    cost = build_report(write(tmp_path / "loaded.jsonl", RATES, loaded)).part("cost").facts
    assert (cost["judgments a second"], cost["wall time"]) == ("5.00", "2.5 s, 1.5 s of it loading")
    assert [case.line for case in report.part("failed").cases] == [3]
    assert sum(report.part("calibration").n) == 4


def test_the_head_says_who_judged_when_and_how(tmp_path: Path) -> None:
    report = build_report(write(tmp_path / "r.jsonl", RATES, RECORD))
    assert report.about == {
        "judge": "mini, id abc", "model": "embedded:mini, float32", "mode": "critique", "engine": "transformers",
        "versions": "autoj-reward 1.2", "date": "2030-01-02T03:04:05+00:00",
        "command": "autoj-reward rate 'in put.jsonl'", "machine": "Linux, H100",
    }  # fmt: skip
    html = page(report)
    assert all(shown(value) in html for value in report.about.values())
    # Records of earlier versions say less.
    old = {**RECORD, "about": None}
    about = build_report(write(tmp_path / "r.jsonl", RATES, old)).about
    assert about == {"judge": "mini", "mode": "critique", "command": "rate"}


def test_rows_to_browse_are_whole_and_limited(tmp_path: Path) -> None:
    long = "x" * 100_500
    rows = [rated(float(n % 9 + 1), prompt=f"Q{n}", kind="a") for n in range(30)]
    rows += [rated(None, prompt="late"), rated(5.0, completion=long, flags=["hidden"])]
    path = write(tmp_path / "r.jsonl", [{"kind": "b", **row} for row in rows])
    part = build_report(path, group="kind", most_rows=12).part("rows")
    assert len(part.cases) == 12
    # Failures and other rows of the lists are there before the first rows of the file.
    assert part.cases[-1].prompt == "late"
    assert part.cases[-1].kinds == ["failed"]
    whole = build_report(path, group="kind").part("rows")
    assert [case.line for case in whole.cases] == list(range(1, 33))
    assert whole.says.startswith("All 32 rows")
    assert whole.cases[-1].kinds == ["flagged"]
    assert whole.cases[-1].answers[0].text == "x" * 100_000 + "\n[… 500 more characters are in the file]"
    assert "rows" not in [p.id for p in build_report(path, most_rows=0).parts]
    # The texts to browse are on the page, and not a second time among its figures.
    assert "Q29" not in json.dumps(build_report(path).as_record()["parts"][-1])


def test_a_ranking_to_browse_is_side_by_side_in_its_order(tmp_path: Path) -> None:
    path = write(tmp_path / "k.jsonl", [group([3.0, 9.0, 5.0, None], [])])
    (case,) = build_report(path).part("rows").cases
    assert [(a.title, a.text) for a in case.answers] == [
        ("1. completion 2", "c1"), ("2. completion 3", "c2"), ("3. completion 1", "c0"), ("4. completion 4", "c3"),
    ]  # fmt: skip
    assert case.values["spread"] == 6.0
    assert case.kinds == ["failed"]


def test_texts_are_found_in_the_columns_that_the_record_names(tmp_path: Path) -> None:
    row = {**rated(3.0), "question": "Why?", "answer": "So."}
    del row["prompt"], row["completion"]
    record = {**RECORD, "run": {"command": "rate", "columns": {"prompt": "question", "completion": "answer"}}}
    (case,) = build_report(write(tmp_path / "r.jsonl", [row], record)).part("rows").cases
    assert (case.prompt, case.answers[0].text) == ("Why?", "So.")


@pytest.mark.parametrize(
    "record", [None, {**RECORD, "run": {"command": "compare", "format": "autoj-pairwise"}}]
)
def test_texts_of_published_formats_are_found(tmp_path: Path, record: dict[str, Any] | None) -> None:
    row = {
        "prompt": "Why?",
        "response 1": "So.",
        "response 2": "Or so.",
        "win_prob": 0.7,
        "preference": "first",
    }
    (case,) = build_report(write(tmp_path / "c.jsonl", [row], record)).part("rows").cases
    assert (case.prompt, [a.text for a in case.answers]) == ("Why?", ["So.", "Or so."])


def test_compare(tmp_path: Path) -> None:
    rows = [
        {"prompt": "Q", "first": "a", "second": "b", "preference": p, "win_prob": w, "tie_prob": 0.1, "reward": w,
         "flipped": f, "slot_bias": s, "label": g, "scenario": c, "critique": None, "failure": None}
        for p, w, f, s, g, c in [
            ("first", 0.9, False, 0.1, 0, "x"), ("second", 0.2, True, 0.3, 0, "x"), ("tie", 0.5, False, 0.0, 2, "y"),
        ]
    ]  # fmt: skip
    report = build_report(write(tmp_path / "c.jsonl", rows), gold="label", group="scenario")
    assert report.part("preferences").series["pairs"] == [1, 1, 1]
    assert report.part("agreement").labels == ["all pairs", "x", "y"]
    assert report.part("agreement").series["agreement"] == pytest.approx([2 / 3, 0.5, 1.0])
    # One pair has no interval: its width of zero would look like certainty.
    assert report.part("agreement").low["agreement"] == [pytest.approx(0.0), 0.0, None]
    assert "gains +0.133" in report.part("position").says
    assert "33.3% of the decisions" in report.part("position").says
    # |0.9 - 1|, |0.2 - 1|, |0.5 - 0.5|, each alone in its bin.
    assert f"is {0.9 / 3:.3f}" in report.part("calibration").says


def group(rewards: list[float | None], gold: list[float]) -> dict[str, Any]:
    order = sorted(range(len(rewards)), key=lambda i: -(rewards[i] if rewards[i] is not None else -math.inf))
    ranking = [
        {"index": i, "critique": None, **{k: v for k, v in rated(rewards[i]).items() if k != "prompt"}}
        for i in order
    ]
    return {
        "prompt": "Q",
        "completions": [f"c{i}" for i in range(len(rewards))],
        "ranking": ranking,
        "gold": gold,
    }


def test_rerank_gold_against_n_is_the_mean_over_all_subsets(tmp_path: Path) -> None:
    rows = [
        group([3.0, 9.0, 5.0, None], [0.0, 1.0, 0.5, 0.9]),
        group([1.0, 2.0, 3.0, 4.0], [1.0, 0.0, 0.0, 1.0]),
    ]
    part = build_report(write(tmp_path / "k.jsonl", rows), gold="gold").part("gold")
    for n, value in zip(part.x, part.series["judge"], strict=True):
        means = []
        for row in rows:
            places = [e["index"] for e in row["ranking"]]
            chosen = [min(s, key=places.index) for s in combinations(range(4), int(n))]
            means.append(statistics.mean(row["gold"][i] for i in chosen))
        assert value == pytest.approx(statistics.mean(means))
    assert part.series["oracle"][-1] == 1.0
    assert part.series["random"] == pytest.approx([statistics.mean([0.6, 0.5])] * 4)


def test_rerank_shows_what_was_picked_where_it_matters_most(tmp_path: Path) -> None:
    rows = [
        group([3.0, 9.0, 5.0, None], []),
        group([4.0, 4.5], []),
        group([None, 2.0], []),
        group([2.0, 2.0], []),
        group([1.0, 9.5], []),
    ]
    part = build_report(write(tmp_path / "k.jsonl", rows)).part("picks")
    assert [(case.line, case.values["gap"]) for case in part.cases] == [(5, 8.5), (1, 6.0), (2, 0.5)]
    best, worst = part.cases[1].answers
    assert (best.title, best.text, best.facts["rating"]) == ("Best: completion 2", "c1", "9")
    assert (worst.title, worst.text, worst.facts["rating"]) == ("Worst: completion 1", "c0", "3")


@given(gold=st.lists(st.floats(0, 1), min_size=1, max_size=6), n=st.integers(1, 6))
def test_best_of_counts_subsets(gold: list[float], n: int) -> None:
    n = min(n, len(gold))
    expected = statistics.mean(gold[min(s)] for s in combinations(range(len(gold)), n))
    assert _best_of(gold, n) == pytest.approx(expected)


def test_label_files_of_both_kinds(tmp_path: Path) -> None:
    pairs = [{"prompt": "Q", "chosen": "long one", "rejected": "no", "margin": 2.0, "win_prob": 0.9},
             {"prompt": "Q", "chosen": [{"role": "assistant", "content": "a"}], "rejected": "bb", "margin": 1.0}]  # fmt: skip
    record = {"run": {"command": "label"}, "groups": 5, "data_rows": 2, "dropped": {"tie": 1, "margin": 2}}
    report = build_report(write(tmp_path / "dpo.jsonl", pairs, record))
    assert report.kind == "label"
    assert report.part("dropped").labels == ["margin", "tie"]
    assert report.part("dropped").series == {"pairs": [2, 1]}
    assert "longer one in 50.0%" in report.part("lengths").says
    assert sum(report.part("margins").series["judgments"]) == 2
    kto = [
        {"prompt": "Q", "completion": "a", "label": True},
        {"prompt": "Q", "completion": "b", "label": False},
    ]
    assert build_report(write(tmp_path / "kto.jsonl", kto)).part("labels").series["rows"] == [1, 1]


def test_evaluate_and_probe_files(tmp_path: Path) -> None:
    score = {"percent": 54.96, "low": 52.0, "high": 57.5, "n": 1392}
    evaluated = {
        "overall": {"agreement": score, "consistency": None}, "groups": {"Code": {"agreement": score}}, "baselines": {},
        "n_unreadable": 2, "tie_share": {"judge": 0.04, "people": 0.27}, "hard_flips": {"n": 176, "for_second_slot": 121},
    }  # fmt: skip
    (tmp_path / "e.json").write_text(json.dumps(evaluated))
    report = build_report(str(tmp_path / "e.json"))
    assert report.part("agreement").series["agreement"] == [54.96, 54.96]
    assert report.part("overview").facts["hard flips"].startswith("176")
    with pytest.raises(KeyError):
        report.part("consistency")
    net = {"net": {"value": 0.25, "low": 0.1, "high": 0.4}}
    # An attack that gets less than the plain answer gains nothing, whatever the neutral text got.
    below = {"net": {"value": 0.45, "low": 0.1, "high": 0.9}, "gain": {"value": -1.0}}
    no_gain = {
        "name": "praise",
        "unit": "rating",
        "off": net,
        "on": {"net": {"value": 0.5, "low": 0.0, "high": 1.0}},
    }
    probed = {"judge": "mini", "mode": "direct", "n_prompts": 3, "quotations": {"change": {"value": 0.01}},
              "attacks": [{"name": "planted", "unit": "rating", "off": {"net": {"value": 5.0}}, "on": net}, no_gain,
                          {"name": "list", "unit": "rating", "off": net, "on": below}],
              "limits": {"rating": 0.3}, "problems": ["praise gains"]}  # fmt: skip
    (tmp_path / "p.json").write_text(json.dumps(probed))
    part = build_report(str(tmp_path / "p.json")).part("attacks-rating")
    assert part.labels == ["praise", "list", "planted"]
    assert part.series == {"guard off": [0.25, 0.25, 5.0], "guard on": [0.5, 0.45, 0.25]}
    assert part.low == {"guard off": [0.1, 0.1, None], "guard on": [0.0, 0.1, 0.1]}
    assert part.limits == {"limit 0.3": 0.3}
    assert "1 of 3 attacks gain more than the limit of 0.3" in part.says


@pytest.mark.parametrize(
    ("rows", "options", "named"),
    [
        ([{"a": 1}], {}, "not an output of"),
        ([], {}, "no rows"),
        ([rated(3.0)], {"gold": "truth"}, "'truth'"),
        ([rated(3.0, truth="good")], {"gold": "truth"}, "must be a number"),
        ([group([1.0, 2.0], [1.0])], {"gold": "gold"}, "list of 2 numbers"),
    ],
)
def test_wrong_input_is_named(tmp_path: Path, rows: list[Any], options: dict[str, str], named: str) -> None:
    with pytest.raises(DataError, match=named):
        build_report(write(tmp_path / "x.jsonl", rows), **options)


def test_finished_figures_take_no_gold(tmp_path: Path) -> None:
    (tmp_path / "e.json").write_text("{}")
    with pytest.raises(ConfigError, match="for rows"):
        build_report(str(tmp_path / "e.json"), gold="x")
    with pytest.raises(DataError, match="not an output of evaluate"):
        build_report(str(tmp_path / "e.json"))


class Checked(HTMLParser):
    """Collects what a page loads, its ids, its tables and its JSON; fails on elements that do not nest."""

    VOID = frozenset({"meta", "link", "rect", "line", "circle", "polyline", "polygon", "br", "input"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []
        self.ids: list[str] = []
        self.scripts: list[dict[str, str | None]] = []
        self.cells: list[str] = []
        self.json = ""
        self.code: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.loads += [
            v
            for k, v in attrs
            if k in ("src", "href", "action", "data") and v and not v.startswith(("#", "data:"))
        ]
        self.ids += [given["id"]] if given.get("id") else []
        self.scripts += [given] if tag == "script" else []
        assert not any(k.startswith("on") for k in given)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            if self.scripts[-1].get("type"):
                self.json += data
            else:
                self.code.append(data)
        if self.open and self.open[-1] == "td":
            self.cells.append(data)


def checked(report: Report) -> Checked:
    html = page(report)
    html.encode("utf-8")
    parser = Checked()
    parser.feed(html)
    parser.close()
    assert parser.open == []
    assert parser.loads == []
    assert len(parser.ids) == len(set(parser.ids))
    assert [s.get("type") for s in parser.scripts] == ["application/json", None]
    assert parser.code == [(resources.files("autoj_reward.reporting") / "page.js").read_text()]
    return parser


def test_the_page_holds_the_figures_and_loads_nothing(tmp_path: Path) -> None:
    report = build_report(write(tmp_path / "r.jsonl", RATES, RECORD), gold="gold", group="kind")
    parser = checked(report)
    assert json.loads(parser.json) == json.loads(embedded_json(report.as_record()))
    for part in report.parts:
        if isinstance(part, Bars | Histogram | Lines):
            for value in (v for column in part.series.values() for v in column):
                assert (f"{value:.4g}" if isinstance(value, float) else f"{value:,}") in parser.cells


def test_a_page_about_failures_only(tmp_path: Path) -> None:
    checked(build_report(write(tmp_path / "r.jsonl", [rated(None), rated(None)])))


@given(text=hostile_text)
def test_hostile_text_stays_text(text: str) -> None:
    parts: list[Part]
    evil = text + "</script><script>alert(1)</script><img src=x onerror=y>"
    parts = [
        Facts(id="f", title=evil, facts={evil: evil}),
        Listing(id="l", title="L", says=evil, columns=["a", evil], rows=[[1, evil]]),
        Bars(
            id="b", title=evil, says=evil, x_label=evil, y_label=evil, labels=[evil],
            series={evil: [1.0], "z": [None]}, limits={evil: 0.5}, unit=evil,
        ),
        Histogram(
            id="h", title=evil, says=evil, x_label=evil, y_label=evil, edges=[0.0, 1.0], series={evil: [3]},
            names=[evil], marks={evil: 0.5},
        ),
        Lines(
            id="n", title=evil, says=evil, x_label=evil, y_label=evil, x=[0.0, 1.0], series={evil: [1.0, 2.0]},
            low={evil: [0.5, 1.5]}, high={evil: [1.5, None]}, marks={evil: 1.0},
        ),
        Grid(id="g", title=evil, says=evil, x_label=evil, y_label=evil, columns=[evil], rows=[evil], cells=[[2]]),
        *(Cards(id=style, title=evil, says=evil, cases=[case(evil)], style=style) for style in ("open", "folded", "browse")),
    ]  # fmt: skip
    checked(Report(kind=evil, source=evil, parts=parts, about={evil: evil}))


def case(evil: str) -> Case:
    answer = Answer(title=evil, facts={evil: evil}, text=evil * 9, notes={evil: evil})
    return Case(
        line=1, title=evil, prompt=evil, answers=[answer], notes={evil: evil}, group=evil, kinds=["failed"],
        values={"reward": 1.0, "spread": float("nan"), "entropy": None},
    )  # fmt: skip


def test_text_that_turns_a_line_around_does_not_turn_the_page_around() -> None:
    assert shown("a\u202eb\x00c\ud800") == "ab\ufffdc\ufffd"
    assert shown("می\u200cخواهم 👨\u200d👩") == "می\u200cخواهم 👨\u200d👩"


@given(low=st.floats(-1e6, 1e6), width=st.floats(0, 1e6))
def test_ticks_hold_the_values(low: float, width: float) -> None:
    marks = ticks(low, low + width)
    assert 2 <= len(marks) <= 9
    slack = 1e-6 * max(abs(low), width, 1.0)
    assert marks[0] <= low + slack
    assert marks[-1] >= low + width - slack


@pytest.mark.parametrize(
    ("pairs", "value"),
    [([(1, 2), (2, 4), (3, 8)], 1.0), ([(1, 3), (2, 2), (3, 1)], -1.0), ([(1, 1), (2, 1)], math.nan),
     ([(1, 1), (2, 2), (2, 3), (3, 2)], 0.5), ([], math.nan)],
)  # fmt: skip
def test_spearman(pairs: list[tuple[float, float]], value: float) -> None:
    first, second = np.array(pairs, dtype=float).reshape(-1, 2).T
    assert spearman(first, second) == pytest.approx(value, nan_ok=True)


@pytest.mark.slow
def test_images_show_every_chart(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs matplotlib: the extra `report`")
    from autoj_reward.reporting.images import write_images

    report = build_report(write(tmp_path / "r.jsonl", RATES), gold="gold", group="kind")
    names = write_images(report, tmp_path / "png")
    assert names == [f"{p.id}.png" for p in report.parts if isinstance(p, Chart)]
    assert all((tmp_path / "png" / n).read_bytes().startswith(b"\x89PNG") for n in names)


@pytest.mark.slow
def test_images_take_dollar_signs_and_surrogates_as_text(tmp_path: Path) -> None:
    """A group named `$\\foo$` was read as a formula and stopped the command."""
    pytest.importorskip("matplotlib", reason="needs matplotlib: the extra `report`")
    from autoj_reward.reporting.images import write_images

    evil = "$\\foo$ \ud800"
    bars = Bars(
        id="b",
        title=evil,
        says=evil,
        x_label=evil,
        y_label=evil,
        labels=[evil],
        series={evil: [1.0], "z": [None]},
    )
    grid = Grid(
        id="g", title=evil, says=evil, x_label=evil, y_label=evil, columns=[evil], rows=[evil], cells=[[1]]
    )
    lines = Lines(
        id="l", title=evil, says=evil, x_label=evil, y_label=evil, x=[], series={evil: []}, diagonal=True
    )
    try:
        names = write_images(Report(kind="rate", source=evil, parts=[bars, lines, grid]), tmp_path)
    except (ValueError, UnicodeError) as error:
        pytest.fail(f"drawing failed: {error}")
    assert names == ["b.png", "l.png", "g.png"]


@pytest.mark.parametrize("name", ["page.css", "page.js"])
def test_style_and_script_name_no_address(name: str) -> None:
    text = (resources.files("autoj_reward.reporting") / name).read_text()
    assert not re.search(r"url\(|@import|http|fetch|innerHTML|eval", text)
