# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from autoj_reward.autoj.formats import message_field, validate
from autoj_reward.autoj.training_rows import training_rows
from autoj_reward.cli.app import app
from autoj_reward.errors import ConfigError, DataError, TemplateError
from autoj_reward.judge.presets import load_spec
from autoj_reward.rows.source import open_source
from tests.cli.conftest import read_rows, write_rows

PUBLISHED = {
    "data/test/testdata_pairwise.jsonl": ("autoj-pairwise", 1392),
    "data/test/zh_testdata_pairwise.jsonl": ("autoj-pairwise", 1392),
    "data/test/testdata_critique.jsonl": ("autoj-critique", 232),
    "data/test/zh_testdata_critique.jsonl": ("autoj-critique", 232),
    "data/test/reference_chatgpt_critique.jsonl": ("autoj-output", 232),
    "data/outputs/pairwise_example_output.jsonl": ("autoj-output", 1392),
    "data/outputs/critique_example_output.jsonl": ("autoj-output", 232),
    "data/outputs/gpt-4-Eval_auto-j_vs_chatgpt.jsonl": ("autoj-meta", 232),
    "data/training/single_traindata.jsonl": ("autoj-training", 960),
    "data/training/zh_single_traindata.jsonl": ("autoj-training", 960),
    "data/training/single_independent/noscenario.jsonl": ("autoj-meta", 960),
    "data/training/single_independent/usescenario.jsonl": ("autoj-meta", 960),
    "other_resources/scenario_classifier_data/traindata.jsonl": ("autoj-classifier", 2383),
    "other_resources/scenario_classifier_data/testdata.jsonl": ("autoj-classifier", 623),
}


@pytest.mark.parametrize("path", PUBLISHED)
def test_every_published_file_is_valid_in_a_format_told_from_it(data: Path, path: str) -> None:
    found = validate(open_source(str(data / "auto-j" / path)))
    assert (found.format, found.n_rows) == PUBLISHED[path]
    assert found.problems == ()


def selection(**change: Any) -> dict[str, Any]:
    made = {
        "outputs": [f"answer {n}" for n in range(32)],
        "logprobs": [-float(n) for n in range(32)],
        "finish_reasons": ["stop"] * 32,
        "id": "x",
        "scores": {"autoj": [5.0] * 31 + [None]},
    }
    models = {"llama-2-7b-chat": {**made, **change}, "vicuna-7b-v1.5": made}
    return {"scenario": "chitchat", "prompt": "p", "outputs": models}


OWN = {
    "rate": {"prompt": "p", "completion": [{"role": "assistant", "content": "c"}]},
    "compare": {"prompt": "p", "first": "a", "second": "b"},
    "rerank": {"prompt": [{"role": "user", "content": "p"}], "completions": ["a", "b"]},
    "autoj-selection": selection(),
    "autoj-training": {"usermsg": "m", "target_output": "t", "gt_label": 0, "pred_label": 2},
}


@pytest.mark.parametrize("name", OWN)
def test_files_of_ones_own_are_valid(tmp_path: Path, name: str) -> None:
    found = validate(open_source(str(write_rows(tmp_path / "f.jsonl", [OWN[name]] * 2))))
    assert (found.format, found.problems) == (name, ())
    assert found.notes == ("1 rows repeat another one",)


WRONG = [
    ("compare", {"first": None}, "first"), ("compare", {"scenario": "none"}, "scenario"),
    ("rate", {"completion": []}, "completion"), ("rate", {"completion": [{"role": "user"}]}, "completion"),
    ("rerank", {"completions": []}, "completions"), ("rerank", {"completions": ["a", 1]}, "completions"),
    ("rerank", {"prompt": 1}, "prompt"),
    ("autoj-training", {"gt_label": 3}, "gt_label"), ("autoj-training", {"pred_label": True}, "pred_label"),
    ("autoj-training", {"pred_score": "seven"}, "pred_score"), ("autoj-training", {"target_output": 1}, "target_output"),
    ("autoj-selection", {"outputs": {}}, "outputs"), ("autoj-selection", {"prompt": 1}, "prompt"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "change", "field"), WRONG, ids=[f"{w[0]} {w[2]} {w[1]}"[:40] for w in WRONG]
)
def test_wrong_rows_are_named(tmp_path: Path, name: str, change: dict[str, Any], field: str) -> None:
    path = write_rows(tmp_path / "f.jsonl", [OWN[name], {**OWN[name], **change}])
    (problem,) = validate(open_source(str(path))).problems
    assert (problem.line, problem.field) == (2, field)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"outputs": ["a", 1]}, "outputs.llama-2-7b-chat.outputs"),
        ({"logprobs": [0.0]}, "outputs.llama-2-7b-chat.logprobs"),
        ({"finish_reasons": "stop"}, "outputs.llama-2-7b-chat.finish_reasons"),
        ({"scores": {"autoj": [5.0] * 31}}, "outputs.llama-2-7b-chat.scores.autoj"),
        ({"scores": {"autoj": ["5"] * 32}}, "outputs.llama-2-7b-chat.scores.autoj"),
    ],
)
def test_wrong_selections_are_named(tmp_path: Path, change: dict[str, Any], field: str) -> None:
    path = write_rows(tmp_path / "f.jsonl", [selection(**change)])
    (problem,) = validate(open_source(str(path))).problems
    assert problem.field == field


def test_the_selection_format_is_reranked(tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "in.jsonl", [selection()])
    answers = write_rows(
        tmp_path / "a.jsonl",
        [{"contains": ["answer 7"], "reading": {"9": 1.0}}, {"contains": [], "reading": {"5": 1.0}}],
    )
    out = tmp_path / "out.jsonl"
    arguments = [
        "rerank",
        str(rows),
        "-o",
        str(out),
        "--format",
        "autoj-selection",
        "-q",
        "--critiques",
        "none",
    ]
    arguments += ["--judge", "autoj-13b", "--mode", "direct", "--engine", f"recorded:{answers}"]
    assert CliRunner().invoke(app, arguments, catch_exceptions=False).exit_code == 0
    assert [(row["model"], row["best"]) for row in read_rows(out)] == [
        ("llama-2-7b-chat", 7),
        ("vicuna-7b-v1.5", 7),
    ]


def test_the_command_says_what_is_wrong_and_fails(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "f.jsonl", [OWN["compare"], "not json", {"prompt": "p", "first": "a"}])
    done = CliRunner().invoke(app, ["data", "validate", str(path)])
    assert done.exit_code == 1
    assert "f.jsonl:2: not JSON" in done.stderr
    assert "f.jsonl:3: field 'second'" in done.stderr
    assert "compare, 3 rows, 2 problems" in done.stdout
    report = json.loads(CliRunner().invoke(app, ["data", "validate", str(path), "--json"]).stdout)
    assert [p["line"] for p in report["problems"]] == [2, 3]
    with pytest.raises(ConfigError, match="fits no format"):
        validate(open_source(str(write_rows(tmp_path / "x.jsonl", [{"a": 1}]))))
    with pytest.raises(ConfigError, match="no format 'x'"):
        validate(open_source(str(path)), "x")
    with pytest.raises(DataError, match="no rows"):
        validate(open_source(str(write_rows(tmp_path / "e.jsonl", []))))


def build(
    tmp_path: Path, *rows: dict[str, Any], judge: str = "autoj-13b", language: str | None = None
) -> list[Any]:
    path = write_rows(tmp_path / "in.jsonl", list(rows))
    return list(training_rows(open_source(str(path)), load_spec(judge), language=language))


RATED = {"prompt": "Q?", "completion": "A1", "rating": 6.5, "critique": "Fair.", "scenario": "chitchat"}
PAIR = {"prompt": "Q?", "first": "A1", "second": "A2", "preference": "second", "critique": "The second is."}


def test_training_rows_have_the_published_form(tmp_path: Path) -> None:
    rated, compared = build(tmp_path, RATED, PAIR)
    assert rated["target_output"] == "Fair.\n\nRating: [[6.5]]"
    assert (rated["pred_score"], rated["scenario"]) == ("6.5", "chitchat")
    assert rated["usermsg"].startswith("Write critiques for a submitted response")
    assert compared["target_output"] == "The second is.\n\nSo, the final decision is Response 2"
    assert (compared["gt_label"], compared["pred_label"]) == (1, 1)
    path = write_rows(tmp_path / "made.jsonl", [rated, compared])
    found = validate(open_source(str(path)))
    assert (found.format, found.problems) == ("autoj-training", ())


def test_training_rows_in_chinese(tmp_path: Path) -> None:
    rated, compared = build(tmp_path, RATED, PAIR, judge="autoj-bilingual-6b", language="zh")
    assert rated["target_output"].endswith("评分：[[6.5]]")
    assert compared["target_output"].endswith("最终决定是回应2")
    with pytest.raises(TemplateError, match="'fr'"):
        build(tmp_path, RATED, judge="autoj-bilingual-6b", language="fr")


def test_a_critique_that_states_its_verdict_is_kept_as_it_is(tmp_path: Path) -> None:
    (row,) = build(tmp_path, {**RATED, "critique": "Fair. Rating: [[6.5]]"})
    assert row["target_output"] == "Fair. Rating: [[6.5]]"


@pytest.mark.parametrize(
    ("row", "field"),
    [
        ({**RATED, "critique": "Rating: [[7]]"}, "critique"),
        ({**RATED, "rating": 11}, "rating"), ({**RATED, "rating": "6"}, "rating"), ({**RATED, "rating": True}, "rating"),
        ({**PAIR, "preference": 3}, "preference"), ({**PAIR, "second": ""} | {"second": None}, "second"),
        ({**PAIR, "critique": 1}, "critique"), ({"prompt": "p"}, "first"),
    ],
)  # fmt: skip
def test_rows_that_cannot_train_are_named(tmp_path: Path, row: dict[str, Any], field: str) -> None:
    (problem,) = build(tmp_path, row)
    assert isinstance(problem, DataError)
    assert (problem.line, problem.field) == (1, field)


def test_published_ratings_are_built_again(data: Path, tmp_path: Path) -> None:
    """The published rows, parted and put together again, are the published rows."""
    rows = read_rows(data / "auto-j" / "data" / "training" / "single_traindata.jsonl")
    template = load_spec("autoj-13b").rating.template  # type: ignore[union-attr]
    head, _, rest = template.text.partition("{prompt}")
    middle, _, tail = rest.partition("{response}")
    checked = 0
    for row in rows[:200]:
        message = row[message_field(row)]  # type: ignore[index]
        assert message.startswith(head)
        inner = message.removeprefix(head).removesuffix(tail)
        prompt, mark, completion = inner.partition(middle)
        if not mark or middle in completion:
            continue
        given = {"prompt": prompt, "completion": completion, "rating": float(row["pred_score"])}
        (made,) = build(tmp_path, {**given, "critique": row["target_output"]})
        assert made["usermsg"] == message
        assert made["target_output"] == row["target_output"]
        assert float(made["pred_score"]) == float(row["pred_score"])
        checked += 1
    assert checked > 190


def test_the_command_builds_and_leaves_out(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "in.jsonl", [RATED, {**RATED, "rating": 99}])
    arguments = ["data", "build-train", str(path), "-o", str(tmp_path / "out.jsonl")]
    with pytest.raises(DataError, match="1 of 2 rows"):
        CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert CliRunner().invoke(app, [*arguments, "--skip-bad"], catch_exceptions=False).exit_code == 0
    assert len(read_rows(tmp_path / "out.jsonl")) == 1
