# SPDX-License-Identifier: Apache-2.0
"""Judgments by criteria are read again from the cache, each criterion by itself, and aggregated by their rule."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from autoj_reward import Judge
from autoj_reward.cache.store import JudgmentStore
from autoj_reward.cli.app import app
from autoj_reward.engines.cached import CachedEngine
from autoj_reward.errors import ConfigError, DataError
from autoj_reward.rows.fields import row_format
from autoj_reward.rows.records import RowItem
from autoj_reward.rows.tasks import rate_task, rerank_task
from autoj_reward.testing import ScriptedEngine, untrusted_texts
from tests.cli.conftest import read_rows, write_rows
from tests.criteria.conftest import COLOURS, RED, read

ROW = {"prompt": "What colour?", "completion": "It is red."}
GROUP = {"prompt": "What colour?", "completions": ["It is green.", "It is red."]}
Rescore = Callable[..., dict[str, Any]]


@pytest.fixture
def cached(engine: ScriptedEngine, tmp_path: Path) -> CachedEngine:
    return CachedEngine(engine, JudgmentStore(tmp_path / "a.sqlite"))


@pytest.fixture
def rescore(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rescore:
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> dict[str, Any]:
        done = CliRunner().invoke(
            app, ["rescore", *arguments, "--json", "--cache", "a.sqlite"], catch_exceptions=False
        )
        report: dict[str, Any] = json.loads(done.stdout)
        return report

    return call


def judged(path: Path, judge: Judge, rows: list[dict[str, Any]], kind: Any = "rate") -> list[dict[str, Any]]:
    """Rows as the command of that name writes them."""
    layout = row_format(kind, None, {})
    items = [RowItem(n, row, layout.requests(row)) for n, row in enumerate(rows, start=1)]
    task = rate_task(judge, layout) if kind == "rate" else rerank_task(judge, layout, critiques="none")
    made = [{**i.row, **done.added} for i, done in zip(items, task.judge(items), strict=True)]
    write_rows(path, made)
    return made


def direct(cached: CachedEngine, **options: Any) -> Judge:
    return Judge.load("mini", engine=cached, mode="direct", **options)


@pytest.mark.parametrize("per_call", [1, None])
@pytest.mark.parametrize("kind", ["rate", "rerank"])
def test_the_same_reading_changes_nothing(
    rescore: Rescore, cached: CachedEngine, tmp_path: Path, kind: str, per_call: int | None
) -> None:
    rubric = {"criteria": COLOURS, "criteria_per_call": per_call}
    rows = [{**GROUP, "rubric": rubric}] if kind == "rerank" else [{**ROW, "rubric": rubric}, ROW]
    made = judged(tmp_path / "out.jsonl", direct(cached), rows, kind)
    said = rescore("out.jsonl", "-o", "new.jsonl")
    assert (said["n"], said["n_kept"], said["n_numbers_changed"]) == (len(rows), 0, 0)
    assert read_rows(tmp_path / "new.jsonl") == made


def test_other_weights_are_applied_to_the_same_answers(
    rescore: Rescore, cached: CachedEngine, tmp_path: Path
) -> None:
    (made,) = judged(tmp_path / "out.jsonl", direct(cached), [{**ROW, "rubric": COLOURS}])
    write_rows(tmp_path / "out.jsonl", [{**made, "rubric": [{**COLOURS[0], "weight": 1}, COLOURS[1]]}])
    said = rescore("out.jsonl", "-o", "new.jsonl")
    assert (said["n"], said["n_kept"]) == (1, 0)
    (new,) = read_rows(tmp_path / "new.jsonl")
    assert new["score"] == pytest.approx(0.9 - 0.2)
    assert [c["weight"] for c in new["criteria"]] == [1, -1]


def test_a_row_stays_as_it_was_if_the_cache_lacks_one_of_its_criteria(
    rescore: Rescore, cached: CachedEngine, tmp_path: Path
) -> None:
    """Nothing is aggregated without the criterion, as it is for one that failed."""
    rows = [{**ROW, "rubric": COLOURS}, {**ROW, "rubric": COLOURS[:1]}]
    made = judged(tmp_path / "out.jsonl", direct(cached), rows)
    made[0]["rubric"] = [*COLOURS, {"text": "It is blue."}]
    write_rows(tmp_path / "out.jsonl", made)
    said = rescore("out.jsonl", "-o", "new.jsonl")
    assert (said["n"], said["n_kept"]) == (1, 1)
    assert read_rows(tmp_path / "new.jsonl") == made


def test_another_least_mass_changes_single_criteria(rescore: Rescore, tmp_path: Path) -> None:
    def doubtful(item: Any) -> dict[str, float]:
        """Half of the probability is outside the verdicts of the criterion about green."""
        share = 0.5 if "green" in untrusted_texts(item)[-1] else 1.0
        return {text: share * prob for text, prob in read(item).items()}

    cached = CachedEngine(ScriptedEngine(read=doubtful), JudgmentStore(tmp_path / "a.sqlite"))
    (made,) = judged(tmp_path / "out.jsonl", direct(cached), [{**ROW, "rubric": COLOURS}])
    assert made["score"] == pytest.approx(RED)
    rescore("out.jsonl", "-o", "new.jsonl", "--min-mass", "0.8")
    (new,) = read_rows(tmp_path / "new.jsonl")
    assert [c["failure"] and c["failure"]["reason"] for c in new["criteria"]] == [None, "low_mass"]
    assert new["score"] == pytest.approx(0.9)


def test_the_draws_of_each_criterion_vote(rescore: Rescore, tmp_path: Path) -> None:
    """Red: Yes, Yes, No; green: No, No, Yes. The votes are 2/3 and 1/3, whatever each draw's doubt."""

    def says_yes(item: Any, draw: int) -> bool:
        return ("red" in untrusted_texts(item)[-1]) is (draw < 2)

    def write(item: Any) -> str:
        k = item.sample_index
        return f"Draw {k}. Verdict: [[{'Yes' if says_yes(item, k) else 'No'}]]"

    def doubt(item: Any) -> dict[str, float]:
        written = "".join(segment.text for segment in item.prefill)
        prob = 0.6 if says_yes(item, int(written[len("Draw ")])) else 0.4
        return {"Yes": prob, "No": 1 - prob}

    cached = CachedEngine(ScriptedEngine(read=doubt, write=write), JudgmentStore(tmp_path / "a.sqlite"))
    judge = Judge.load("mini", engine=cached, mode="critique", n_samples=3, temperature=1.0)
    (made,) = judged(tmp_path / "out.jsonl", judge, [{**ROW, "rubric": COLOURS}])
    options = ("--samples", "3", "--temperature", "1.0")
    rescore("out.jsonl", "-o", "same.jsonl", *options)
    assert read_rows(tmp_path / "same.jsonl") == [made]
    rescore("out.jsonl", "-o", "new.jsonl", *options, "--aggregation", "vote")
    (new,) = read_rows(tmp_path / "new.jsonl")
    assert [c["score"] for c in new["criteria"]] == pytest.approx([2 / 3, 1 / 3])
    assert new["score"] == pytest.approx((2 * 2 / 3 - 1 / 3) / 2)
    assert new["expected_rating"] == pytest.approx(1 + 9 * new["score"])
    # Fewer draws than are asked for now are no answer.
    assert rescore("out.jsonl", "--samples", "4", "--temperature", "1.0")["n_kept"] == 1


def test_criteria_of_a_file_have_to_be_given_again(
    rescore: Rescore, cached: CachedEngine, tmp_path: Path
) -> None:
    (made,) = judged(tmp_path / "out.jsonl", direct(cached), [{**ROW, "rubric": COLOURS}])
    direct(cached).rate([ROW["prompt"]], [ROW["completion"]])  # the cache also holds a plain rating
    del made["rubric"]
    write_rows(tmp_path / "out.jsonl", [made])
    with pytest.raises(DataError, match=r"out.jsonl:1: field 'rubric': was judged by criteria"):
        rescore("out.jsonl", "-o", "new.jsonl")
    (tmp_path / "rubric.json").write_text(json.dumps({"criteria": COLOURS}))
    assert rescore("out.jsonl", "-o", "new.jsonl", "--criteria", "rubric.json")["n"] == 1
    assert read_rows(tmp_path / "new.jsonl") == [made]


def test_critiques_about_criteria_are_not_read_from_rows(rescore: Rescore, tmp_path: Path) -> None:
    engine = ScriptedEngine(read=read, write="Verdict: [[Yes]]")
    cached = CachedEngine(engine, JudgmentStore(tmp_path / "a.sqlite"))
    judge = Judge.load("mini", engine=cached, mode="critique")
    judged(tmp_path / "out.jsonl", judge, [{**ROW, "rubric": COLOURS[:1]}])
    with pytest.raises(ConfigError, match="line 1 was judged by criteria"):
        rescore("out.jsonl", "--critiques")


@pytest.mark.parametrize("mode", ["direct", "critique"])
def test_a_whole_cache_is_read_without_its_criteria(rescore: Rescore, tmp_path: Path, mode: Any) -> None:
    """The verdict `4` on a criterion is not read as a rating of 4."""

    engine = ScriptedEngine(read={"4": 1.0}, write="Verdict 1: [[4]]\nVerdict 2: [[4]]\nVerdict: [[4]]")
    cached = CachedEngine(engine, JudgmentStore(tmp_path / "a.sqlite"))
    judge = Judge.load("mini", engine=cached, mode=mode)
    one = [{"text": "It is red.", "scale": [1, 5]}]
    two = {"criteria": [*one, {"text": "It is short.", "scale": [1, 5]}], "criteria_per_call": None}
    made = judged(tmp_path / "out.jsonl", judge, [{**ROW, "rubric": one}, ROW, {**ROW, "rubric": two}])
    assert [row.get("score") for row in made] == [0.75, None, 0.75]
    assert rescore()["n"] == 1
