# SPDX-License-Identifier: Apache-2.0
"""The budget of a command: a clear end, with everything kept, and an estimate before it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from autoj_reward.cli import main
from autoj_reward.errors import BudgetSpent, ConfigError
from tests.cli.conftest import RATINGS, Run, read_rows, write_rows

ANSWERS = [{**line, "prompt_tokens": 50} for line in RATINGS]
PRICED = 'extends = "mini"\nname = "priced"\n[price]\ninput = 2.0\noutput = 8.0\n'


@pytest.fixture
def rows(tmp_path: Path, recorded: list[str]) -> str:
    write_rows(tmp_path / "recorded.jsonl", ANSWERS)
    (tmp_path / "priced.toml").write_text(PRICED)
    write_rows(tmp_path / "in.jsonl", [{"prompt": "Q", "completion": f"Paris {n}"} for n in range(6)])
    return "in.jsonl"


def test_a_spent_budget_ends_a_run_that_the_same_command_continues(
    run: Run, tmp_path: Path, rows: str
) -> None:
    command = ["rate", rows, "-o", "out.jsonl", "--chunk", "2", "--no-cache"]
    with pytest.raises(BudgetSpent, match=r"100 of 100 tokens; 2 of 6 rows are in out.jsonl"):
        run(*command, "--most-tokens", "100")
    assert len(read_rows(tmp_path / "out.jsonl")) == 2
    with pytest.raises(BudgetSpent, match=r"4 of 6 rows"):
        run(*command, "--most-tokens", "60")
    assert run(*command, "--most-tokens", "100000").exit_code == 0
    assert [r["completion"] for r in read_rows(tmp_path / "out.jsonl")] == [f"Paris {n}" for n in range(6)]
    again = run(*command, "--most-tokens", "1")
    assert again.exit_code == 0
    assert "is finished" in again.stderr


def test_money_is_counted_by_the_prices_of_the_judges_file(run: Run, rows: str) -> None:
    command = ["rate", rows, "-o", "out.jsonl", "--chunk", "2", "--no-cache"]
    with pytest.raises(BudgetSpent, match=r"0.0002 of 0.00015 cost"):
        run(*command, "--judge", "priced.toml", "--most-cost", "0.00015")
    with pytest.raises(ConfigError, match="judge 'mini' has no prices"):
        run("rate", rows, "-o", "other.jsonl", "--most-cost", "1")


def test_the_exit_status_is_4(
    run: Run,
    rows: str,
    recorded: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = [
        "rate",
        rows,
        "-o",
        "out.jsonl",
        "--most-tokens",
        "1",
        "--chunk",
        "1",
        "--no-cache",
        *recorded,
    ]
    monkeypatch.setattr("sys.argv", ["autoj-reward", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 4
    assert "the same call with a new budget continues" in capsys.readouterr().err


def test_an_estimate_is_of_all_rows_from_some(run: Run, tmp_path: Path, rows: str) -> None:
    command = ["rate", rows, "-o", "out.jsonl", "--no-cache", "--judge", "priced.toml"]
    text = run(*command, "--dry-run", "--measure", "2").stdout
    assert "estimate    300 tokens in prompts, 0 written, " in text
    assert "a cost of 0.0006 (from 2 rows" in text
    assert not (tmp_path / "out.jsonl").exists()
    with pytest.raises(ConfigError, match="--measure is given without --dry-run"):
        run(*command, "--measure", "2")


def test_what_is_left_is_shown_while_it_runs(tmp_path: Path, run: Run, rows: str) -> None:
    from autoj_reward import Judge
    from autoj_reward.budget import Budget
    from autoj_reward.rows.fields import row_format
    from autoj_reward.rows.run import RowRun
    from autoj_reward.rows.tasks import rate_task

    with Judge.load("mini", engine=f"recorded:{tmp_path / 'recorded.jsonl'}") as judge:
        task = rate_task(judge, row_format("rate", None, {}))
        made = RowRun(
            str(tmp_path / rows), task, str(tmp_path / "o.jsonl"), judge, budget=Budget(tokens=1000)
        )
        made.check()
        made.run()
        assert made._spent is not None
        assert made._spent.left() == "700 of 1,000 tokens left"
        assert json.loads((tmp_path / "o.jsonl").read_text().splitlines()[0])["rating"] == 9.0


PAIRS = [
    {"prompt": f"Q{n}", "first": "Paris", "second": "Berlin", "preference": "first" if n % 3 else "second"}
    for n in range(70)
]


def test_evaluate_pairwise_stops_and_the_cache_continues_it(run: Run, tmp_path: Path, rows: str) -> None:
    """64 pairs are judged at a time; what they cost is not paid for again."""
    write_rows(tmp_path / "pairs.jsonl", PAIRS)
    command = ["evaluate", "pairwise", "pairs.jsonl", "--by-rating", "--cache", "a.sqlite", "--json"]
    with pytest.raises(BudgetSpent, match=r"64 of 70 are judged, and the cache keeps the answers"):
        run(*command, "--most-tokens", "100")
    for option in ("--no-cache", "--refresh"):
        with pytest.raises(ConfigError, match=f"a budget with {option}"):
            run(*command[:-3], option, "--most-tokens", "100")
    assert json.loads(run(*command, "--most-tokens", "1").stdout)["overall"]["n"] == 70


def test_calibrate_has_one_budget_for_ratings_and_comparisons(run: Run, tmp_path: Path, rows: str) -> None:
    ratings = [{"prompt": f"Q{n}", "completion": "Paris", "rating": 8 + n % 2} for n in range(20)]
    write_rows(tmp_path / "labelled.jsonl", [*ratings, *PAIRS[:20]])
    command = ["calibrate", "labelled.jsonl", "--cache", "a.sqlite"]
    with pytest.raises(BudgetSpent, match=r"0 of 20 are judged"):
        run(*command, "--most-tokens", "1000")


def test_evaluate_selection_stops_between_strategies(run: Run, tmp_path: Path, rows: str) -> None:
    group = {"prompt": "Q", "completions": ["Paris", "Berlin", "mumble"], "gold": [1, 0, 0]}
    write_rows(tmp_path / "groups.jsonl", [group])
    command = ["evaluate", "selection", "groups.jsonl", "--n", "2,3", "--strategies", "pointwise"]
    with pytest.raises(BudgetSpent, match=r"stopped in step N = 3: pointwise"):
        run(*command, "--cache", "a.sqlite", "--most-tokens", "100")


def test_evaluate_selection_stops_within_a_strategy(run: Run, tmp_path: Path, rows: str) -> None:
    """Sixteen groups are judged at a time."""
    groups = [{"prompt": f"Q{n}", "completions": ["Paris", "Berlin"], "gold": [1, 0]} for n in range(40)]
    write_rows(tmp_path / "groups.jsonl", groups)
    command = ["evaluate", "selection", "groups.jsonl", "--n", "2", "--strategies", "pointwise"]
    with pytest.raises(BudgetSpent, match=r"1,600 of 100 tokens; stopped in step N = 2: pointwise"):
        run(*command, "--cache", "a.sqlite", "--most-tokens", "100")


def test_a_budget_is_refused_where_no_judge_is_asked(run: Run, tmp_path: Path, rows: str) -> None:
    write_rows(tmp_path / "pairs.jsonl", PAIRS)
    write_rows(tmp_path / "cases.jsonl", [])
    for command in (
        ("pairwise", "pairs.jsonl", "--predictions", "p.jsonl"),
        ("critique", "cases.jsonl", "--comparisons", "c.jsonl"),
    ):
        with pytest.raises(ConfigError, match="this call asks none"):
            run("evaluate", *command, "--most-tokens", "9", judge=False)


def test_one_budget_is_for_one_judge(run: Run, tmp_path: Path) -> None:
    write_rows(tmp_path / "cases.jsonl", [])
    with pytest.raises(ConfigError, match="a budget is for one judge"):
        run(
            "evaluate", "critique", "cases.jsonl", "--critic", "mini", "--reference", "r.jsonl",
            "--most-tokens", "9",
        )  # fmt: skip


def test_rubrics_make_has_a_budget_and_an_estimate(run: Run, tmp_path: Path, rows: str) -> None:
    answer = {"contains": [], "text": '[{"text": "Names it.", "weight": 2}]', "prompt_tokens": 50}
    write_rows(tmp_path / "recorded.jsonl", [answer])
    write_rows(tmp_path / "prompts.jsonl", [{"prompt": f"Q{n}"} for n in range(4)])
    command = ["rubrics", "make", "prompts.jsonl", "-o", "made.jsonl", "--no-cache", "--chunk", "2"]
    with pytest.raises(BudgetSpent, match=r"2 of 4 rows are in made.jsonl"):
        run(*command, "--most-tokens", "60")
    assert "estimate: 200 tokens in prompts" in run(*command, "--dry-run", "--measure", "1").stdout


def test_classify_and_clusters_refuse_a_budget(run: Run, tmp_path: Path, rows: str) -> None:
    with pytest.raises(ConfigError, match="classify has no budget"):
        run("classify", rows, "-o", "c.jsonl", "--most-tokens", "5", judge=False)
    with pytest.raises(ConfigError, match="no worker of a cluster knows what others have spent"):
        run("rate", rows, "-o", "out", "--ray", "local", "--most-tokens", "5")
