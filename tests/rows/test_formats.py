# SPDX-License-Identifier: Apache-2.0
"""Files as they are published: recognised, read right, or refused with the name of the nearest format."""

from __future__ import annotations

import csv
import gzip
import json
import pickle
import re
from pathlib import Path
from typing import Any

import pytest

from autoj_reward.autoj.formats import validate
from autoj_reward.errors import ConfigError, DataError
from autoj_reward.judge.judge import Judge
from autoj_reward.judge.messages.text import completion_text, prompt_text
from autoj_reward.rows.fields import RowProblem, find_format, row_format
from autoj_reward.rows.formats.detect import nearest
from autoj_reward.rows.formats.table import PUBLISHED
from autoj_reward.rows.labels import gold_of, read_labelled
from autoj_reward.rows.preferences import label_task, layout_of
from autoj_reward.rows.records import RunSettings
from autoj_reward.rows.run import RowRun
from autoj_reward.rows.source import DatasetRows, open_source
from autoj_reward.rows.tasks import compare_task, rate_task, rerank_task
from autoj_reward.testing import ScriptedEngine, untrusted_texts
from tests.conftest import REPO
from tests.rows.shapes import BAD, GOOD, REFUSED, SHAPES, Q, Shape

KINDS: dict[str, Any] = {"one": ("rate",), "two": ("compare", "rerank"), "many": ("rerank",)}


def answers(item: Any) -> dict[str, float]:
    """Prefers what says Paris."""
    texts = untrusted_texts(item)[1:]
    if len(texts) == 1:
        return {"9" if "Paris" in texts[0] else "2": 1.0}
    verdicts = item.readout.continuations
    return {verdicts[0 if "Paris" in texts[0] else 1]: 1.0}


@pytest.fixture(scope="module")
def judge() -> Judge:
    return Judge.load("mini", engine=ScriptedEngine(read=answers), mode="direct")


def written(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("title", SHAPES)
def test_rows_are_recognised_and_read_right(title: str) -> None:
    shape = SHAPES[title]
    for kind in KINDS[shape.holds]:
        source = DatasetRows("rows", [shape.row])
        _, found = find_format(source, (kind,), None, {})
        assert found.name == shape.name
        for row in found.expand(shape.row):
            parts = found.parts(row)
            assert Q in prompt_text(parts.prompt) or "France" in prompt_text(parts.prompt)
            texts = [completion_text(text) for text in parts.completions]
            assert any("Paris" in text for text in texts)
            assert not any(Q in text for text in texts)
            assert [r.completions for r in found.requests(row)]


@pytest.mark.parametrize("title", [t for t, s in SHAPES.items() if s.holds != "one"])
def test_what_people_said_is_read(title: str, tmp_path: Path) -> None:
    shape = SHAPES[title]
    [one] = read_labelled(written(tmp_path / "in.jsonl", [shape.row])).rows
    assert one.parts.preference == shape.preference
    if shape.gold is not None:
        assert one.parts.gold == shape.gold
    gold = gold_of(one.parts)
    if gold is not None and shape.preference != "tie":
        best = completion_text(one.parts.completions[gold.index(max(gold))])
        assert "Paris" in best


def tasks(shape: Shape, judge: Judge, source: Any) -> list[Any]:
    if shape.holds == "one":
        _, fields = find_format(source, ("rate",), None, {})
        return [rate_task(judge, fields)]
    made = []
    if shape.holds == "two":
        made.append(compare_task(judge, find_format(source, ("compare",), None, {})[1]))
    made.append(rerank_task(judge, find_format(source, ("rerank",), None, {})[1], critiques="none"))
    _, fields = find_format(source, ("rerank", "compare"), None, {})
    first = next(fields.expand(shape.row))
    made.append(label_task(judge, fields, layout=layout_of(first, fields)))
    return made


@pytest.mark.parametrize("title", SHAPES)
def test_every_command_that_makes_sense_judges_them(title: str, tmp_path: Path, judge: Judge) -> None:
    """Through the whole run: check, judge, write, with the columns kept."""
    shape = SHAPES[title]
    path = written(tmp_path / "in.jsonl", [shape.row])
    for task in tasks(shape, judge, open_source(path)):
        out = tmp_path / f"{task.label}.jsonl"
        run = RowRun(path, task, str(out), judge, settings=RunSettings())
        assert run.check().problems == []
        run.run()
        [row] = [json.loads(line) for line in out.read_text().splitlines()]
        if task.label == "rate":
            assert (row["rating"], row["exactness"]) == (9, "exact")
        elif task.label == "compare":
            assert shape.preference in (row["preference"], "tie")
        elif task.label == "rerank":
            assert row["ranking"][0]["rating"] == 9
            assert "Paris" in completion_text(row["best_completion"])
        else:
            data = row["rows"][0]
            assert "Paris" in json.dumps(data["chosen"])
            assert data["source"]["exactness"] == "exact"
            assert not {"label", "messages", "completions"} & data.keys()
            assert all(
                data[k] == shape.row[k] for k in shape.row.keys() & {"id", "subset", "source_name", "turn"}
            )
            continue
        assert {k: row[k] for k in shape.row if k not in ("outputs", *task.added_fields)} == {
            k: v for k, v in shape.row.items() if k not in ("outputs", *task.added_fields)
        }


@pytest.mark.parametrize("title", REFUSED)
def test_other_rows_are_refused_with_the_nearest_format(title: str, tmp_path: Path, judge: Judge) -> None:
    row, words = REFUSED[title]
    path = written(tmp_path / "in.jsonl", [row] * 7)
    _, fields = find_format(open_source(path), ("rate",), None, {})
    run = RowRun(path, rate_task(judge, fields), str(tmp_path / "out.jsonl"), judge)
    problems: list[DataError] = []
    run._listener.bad_rows = problems.extend  # type: ignore[method-assign, assignment]
    with pytest.raises(DataError) as error:
        run.check()
    assert words in f"{error.value} {problems[0]}"
    assert "7 of 7 rows cannot be read" in str(error.value)
    assert str(error.value).count(json.dumps(row, ensure_ascii=False)) == 5


@pytest.mark.parametrize(
    ("title", "kind", "words"),
    [
        ("RewardBench", "rate", "compare, rerank and label read them"),
        ("HH", "rate", "the rows are hh"),
        ("Alpaca", "compare", "rate reads them"),
        ("RewardBench 2", "compare", "rerank and label read them"),
        ("rerank", "rate", "the rows are rerank"),
        ("UltraFeedback, binarized", "rate", "the rows are chosen-rejected"),
    ],
)
def test_a_format_of_another_command_is_named(title: str, kind: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        find_format(DatasetRows("rows", [SHAPES[title].row]), (kind,), None, {})


def test_chosen_and_rejected_without_a_common_beginning_need_a_prompt() -> None:
    row = {"chosen": "Paris.", "rejected": "Rome."}
    _, found = find_format(DatasetRows("rows", [row]), ("compare",), None, {})
    with pytest.raises(Exception, match="needs a field prompt"):
        found.parts(row)


def test_an_implicit_prompt_tears_no_word_apart() -> None:
    row = {"chosen": "The sky is blue.", "rejected": "The sky is black."}
    _, found = find_format(DatasetRows("rows", [row]), ("compare",), None, {})
    parts = found.parts(row)
    assert (parts.prompt, *parts.completions) == ("The sky is", " blue.", " black.")


def test_a_preference_of_a_judge_is_not_taken_for_that_of_people(tmp_path: Path) -> None:
    row = {"prompt": Q, "first": GOOD, "second": BAD, "preference": "first", "win_prob": 0.9}
    [one] = read_labelled(written(tmp_path / "in.jsonl", [row])).rows
    assert one.parts.preference is None
    [one] = read_labelled(
        written(tmp_path / "in.jsonl", [{**row, "human": "tie"}]), columns={"label": "human"}
    ).rows
    assert one.parts.preference == "tie"


def test_formats_are_sent_to_other_processes() -> None:
    """Ray's workers get them; a scripted reader would not arrive."""
    for known in PUBLISHED:
        assert pickle.loads(pickle.dumps(known)).name == known.name


@pytest.mark.parametrize(
    "title", ["Alpaca", "HelpSteer 3", "ShareGPT", "RewardBench 2", "HH", "Chatbot Arena"]
)
def test_published_files_are_validated(title: str, tmp_path: Path) -> None:
    row, name = SHAPES[title].row, SHAPES[title].name
    good = validate(open_source(written(tmp_path / "in.jsonl", [row])))
    assert (good.format, good.problems) == (name, ())
    broken = dict.fromkeys(row, 5)
    bad = validate(open_source(written(tmp_path / "in.jsonl", [row, broken])), name)
    assert [p.line for p in bad.problems] == [2]


def test_the_documentation_lists_every_format() -> None:
    text = (REPO / "docs" / "files.md").read_text(encoding="utf-8")
    assert [known.name for known in PUBLISHED if f"| `{known.name}` | {known.about} |" not in text] == []


ROWS = [
    {"prompt": Q, "completion": GOOD, "n": "1"},
    {"prompt": "2 + 2, and\n3?", "completion": 'a "4"', "n": None},
]


@pytest.mark.parametrize("suffix", ["jsonl", "json", "csv", "tsv", "semicolon.csv"])
@pytest.mark.parametrize("packed", [False, True])
def test_containers_hold_the_same_rows(suffix: str, packed: bool, tmp_path: Path) -> None:
    path = tmp_path / f"in.{suffix}"
    if suffix == "jsonl":
        written(path, ROWS)
    elif suffix == "json":
        path.write_text(json.dumps(ROWS, indent=2), encoding="utf-8")
    else:
        with open(path, "w", newline="", encoding="utf-8") as file:
            delimiter = {"csv": ",", "tsv": "\t"}.get(suffix, ";")
            writer = csv.DictWriter(file, list(ROWS[0]), delimiter=delimiter)
            writer.writeheader()
            writer.writerows(ROWS)
    if packed:
        packed_path = path.with_name(path.name + ".gz")
        packed_path.write_bytes(gzip.compress(path.read_bytes()))
        path = packed_path
    assert [row for _, row in open_source(str(path)).rows()] == ROWS


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.json", '[{"prompt": "Q"}, {"prompt": ', "item 2"),
        ("a.json", '[{"prompt": "Q"} {"prompt": "R"}]', "a comma or ] is missing"),
        ("a.json", '[{"prompt": "Q"}] x', "text follows"),
        ("a.json", '[{"a": 1, "a": 2}]', "the key 'a' is given twice"),
        ("a.csv", "", "no header line"),
        ("a.csv", "a,a\n1,2\n", "two columns 'a'"),
        ("a.csv", 'a,b\n"1,2\n', "cannot be read as a table"),
        ("a.csv", "é,b\n", "cannot be read as a table in UTF-8"),
    ],
)
def test_a_broken_container_is_an_error_of_the_file(name: str, text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(text.encode("latin-1" if "é" in text else "utf-8"))
    with pytest.raises(DataError, match=words.replace("]", r"\]")):
        list(open_source(str(tmp_path / name)).rows())


def test_a_table_row_with_too_many_cells_is_a_bad_row(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("prompt,completion\nQ,A\nQ,A,B\n\nR,S\n")
    rows = dict(open_source(str(tmp_path / "a.csv")).rows())
    assert rows[2] == {"prompt": "Q", "completion": "A"}
    assert isinstance(rows[3], DataError)
    assert "3 cells" in str(rows[3])
    assert rows[5] == {"prompt": "R", "completion": "S"}


@pytest.mark.parametrize(
    ("row", "kind", "words", "option"),
    [
        ({"prompt": Q, "chosne": GOOD, "rejected": BAD}, "compare", "chosen-rejected ", "chosen=chosne"),
        ({"prompt": Q, "Chosen": GOOD, "reject": BAD}, "rerank", "no rejected (there is 'reject')", "reject"),
        ({"chosn": GOOD, "rejected": BAD}, "compare", "nearly chosen-rejected-texts", "chosen=chosn"),
        ({"question": Q, "awnser": GOOD}, "rate", "nearly question-answer", "answer=awnser"),
        ({"prompt": Q, "completion_s": [GOOD, BAD]}, "rerank", "nearly rerank", "completions=completion_s"),
        ({"instrution": Q, "output": GOOD}, "rate", "nearly instruction-output", "instruction=instrution"),
    ],
)
def test_misspelt_names_count_for_the_nearest_format(row: Any, kind: Any, words: str, option: str) -> None:
    near = nearest(row, (kind,))
    assert words in f"{near.says} "
    assert option in near.option("")
    columns = dict(c.removeprefix("--column ").split("=") for c in near.option("").split(" --column "))
    _, found = find_format(DatasetRows("rows", [row]), (kind,), None, columns)
    parts = found.parts(row)
    texts = [completion_text(text) for text in parts.completions]
    assert all(text.endswith(end) for text, end in zip(texts, ("Paris.", "Rome."), strict=False))
    _, without = find_format(DatasetRows("rows", [row]), (kind,), None, {})
    with pytest.raises(RowProblem, match="is missing") as problem:
        without.parts(row)
    assert set(str(problem.value.field).split("|")) & set(columns)


def test_fields_of_published_formats_can_be_renamed() -> None:
    row = {"prompt": Q, "winner": GOOD, "rejected": BAD}
    _, found = find_format(DatasetRows("rows", [row]), ("compare",), None, {"chosen": "winner"})
    assert found.name == "chosen-rejected"
    assert found.parts(row).preference == "first"
    assert pickle.loads(pickle.dumps(found)).parts(row) == found.parts(row)
    again = row_format("compare", "chosen-rejected", {"chosen": "winner"})
    assert (again.parts(row), again.fields) == (found.parts(row), found.fields)
    assert "winner" in found.fields


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"x": "chosen"}, "x=chosen the names are the wrong way round.*: chosen=x"),
        ({"question": "prompt"}, "question=prompt the names are the wrong way round.*: prompt=question"),
        ({"choosen": "x"}, "reads no field 'choosen'.*did you mean chosen=x?"),
        ({"banana": "x"}, "reads no field 'banana'.*its fields are prompt, first, second"),
        ({"banana": "rejected"}, "reads no field 'banana'.*'rejected' is read by its own name"),
        ({"rejected": "worse"}, "the rows have no field 'worse' .in rejected=worse.*question, rejected, x"),
    ],
)
def test_columns_the_wrong_way_round_are_said(columns: dict[str, str], words: str) -> None:
    row = {"question": Q, "x": GOOD, "rejected": BAD}
    with pytest.raises(ConfigError) as error:
        find_format(DatasetRows("rows", [row]), ("compare",), None, columns)
    assert re.search(words, str(error.value), re.DOTALL)


@pytest.mark.parametrize(
    "row",
    [
        {"instruction": "Translate.", "input": "the dog", "chosen": "der Hund", "rejected": "Hund"},
        {"instruction": "Translate.", "input": "the dog", "responses": ["der Hund", "Hund"]},
        {"instruction": "Translate.", "input": "the dog", "output_1": "der Hund", "output_2": "Hund"},
        {
            "instruction": "Translate.", "input": "the dog",
            "completions": [{"response": "der Hund"}, {"response": "Hund"}],
        },
    ],
)  # fmt: skip
def test_an_instruction_has_its_input_in_every_format(row: Any) -> None:
    """Some formats dropped the input, which is most of the prompt."""
    _, fields = find_format(DatasetRows("rows", [row]), ("compare", "rerank"), None, {})
    assert prompt_text(fields.parts(row).prompt) == "Translate.\n\nthe dog"


def test_an_input_that_is_the_prompt_is_there_once() -> None:
    row = {"input": "Name a prime.", "output_1": "7", "output_2": "8"}
    _, fields = find_format(DatasetRows("rows", [row]), ("compare",), None, {})
    assert fields.parts(row).prompt == "Name a prime."


@pytest.mark.parametrize("prompt", [{}, {"prompt": "Hi"}])
def test_a_system_message_beside_conversations_is_kept(prompt: dict[str, str]) -> None:
    talk = [[{"role": "user", "content": "Hi"}, {"role": "assistant", "content": t}] for t in ("Ho", "Hu")]
    row = {"system": "Be brief.", "chosen": talk[0], "rejected": talk[1], **prompt}
    _, fields = find_format(DatasetRows("rows", [row]), ("compare",), None, {})
    assert fields.parts(row).prompt[0] == {"role": "system", "content": "Be brief."}


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "p", "completions": ["good", "ungraded"], "gold": [9.0, float("nan")]},
        {"prompt": "p", "response1": "a", "response2": "b", "overall_preference": float("nan")},
    ],
)
def test_a_label_that_is_no_number_is_no_label(row: Any, tmp_path: Path) -> None:
    """NaN made the other completion the worse one."""
    with pytest.raises(DataError):
        list(read_labelled(write_json(tmp_path / "in.jsonl", row)).rows)


def test_scores_that_are_no_numbers_say_nothing(tmp_path: Path) -> None:
    row = {"question": "q", "answer_0": "a", "answer_1": "b", "score_0": float("nan"), "score_1": 1.0}
    (one,) = read_labelled(write_json(tmp_path / "in.jsonl", row)).rows
    assert one.parts.preference is None


def test_a_named_column_of_gold_counts_in_every_format(tmp_path: Path) -> None:
    row = {"instruction": "i", "generations": ["a", "b"], "ratings": [1, 2], "mine": [9, 3]}
    (one,) = read_labelled(write_json(tmp_path / "in.jsonl", row), columns={"gold": "mine"}).rows
    assert one.parts.gold == (9.0, 3.0)


def test_a_named_label_that_would_have_no_effect_is_refused(tmp_path: Path) -> None:
    row = {"prompt": "p", "response_0": "a", "response_1": "b", "better_response_id": 0, "mine": 1}
    path = write_json(tmp_path / "in.jsonl", row)
    with pytest.raises(ConfigError, match="--column label=mine has no effect"):
        read_labelled(path, columns={"label": "mine"})


def write_json(path: Path, row: Any) -> str:
    path.write_text(json.dumps(row) + "\n")
    return str(path)
