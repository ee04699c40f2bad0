# SPDX-License-Identifier: Apache-2.0
"""The same messages become the same judge input at every entry point that takes messages."""

from __future__ import annotations

import asyncio
import functools
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from autoj_reward import Judge
from autoj_reward.cli.app import app
from tests.quality import QualityEngine

CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Oslo"}'}}
PROMPT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [{"type": "text", "text": "How warm "}, {"type": "text", "text": "is it?"}]},
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "c1", "content": "4 degrees"},
    {"role": "user", "content": "And in Bergen?"},
]
FIRST = [
    {
        "role": "assistant", "content": None, "reasoning_content": "I have to look.",
        "tool_calls": [{"function": {"name": "weather", "arguments": {"city": "Bergen"}}}],
    },
    {"role": "tool", "name": "weather", "content": "7 degrees"},
    {"role": "assistant", "content": "<think>\nEasy.\n</think>\n\nIt is 7 degrees. q=8"},
]  # fmt: skip
SECOND = [{"from": "gpt", "value": "<think>\nNo idea.\n</think>\n\nI cannot know that. q=2"}]

SHOWN = {
    "prompt": "System: Be brief.\n\nUser: How warm is it?\n\n"
    'Assistant: [calls weather({"city": "Oslo"})]\n\nTool (weather): 4 degrees\n\nUser: And in Bergen?',
    "first": 'Assistant: [calls weather({"city": "Bergen"})]\n\nTool (weather): 7 degrees\n\n'
    "Assistant: It is 7 degrees. q=8",
    "second": "I cannot know that. q=2",
}
RATED = {(SHOWN["prompt"], SHOWN["first"]), (SHOWN["prompt"], SHOWN["second"])}
COMPARED = {
    (SHOWN["prompt"], SHOWN["first"], SHOWN["second"]),
    (SHOWN["prompt"], SHOWN["second"], SHOWN["first"]),
}


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> QualityEngine:
    """The engine of every judge that a test loads."""
    made = QualityEngine()
    monkeypatch.setattr("autoj_reward.judge.judge.choose_engine", lambda *_, **__: made)
    return made


def judge() -> Judge:
    return Judge.load("mini", mode="direct")


def command(folder: Path, rows: list[dict[str, Any]], *arguments: str) -> None:
    (folder / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert done.exit_code == 0, done.output


def rate(_: Path) -> None:
    judge().rate([PROMPT, PROMPT], [FIRST, SECOND])


def rate_command(folder: Path) -> None:
    rows = [{"prompt": PROMPT, "completion": c} for c in (FIRST, SECOND)]
    command(folder, rows, "rate", "in.jsonl", "-o", "out.jsonl", "--no-cache")


def rerank_command(folder: Path) -> None:
    command(
        folder, [{"prompt": PROMPT, "completions": [FIRST, SECOND]}],
        "rerank", "in.jsonl", "-o", "out.jsonl", "--no-cache", "--critiques", "none",
    )  # fmt: skip


def label_command(folder: Path) -> None:
    command(
        folder, [{"prompt": PROMPT, "completions": [FIRST, SECOND]}],
        "label", "in.jsonl", "-o", "out.jsonl", "--no-cache",
    )  # fmt: skip


def calibrate_command(folder: Path) -> None:
    from autoj_reward.training.calibration import judge_labelled, labelled_rows

    rows = [{"prompt": PROMPT, "completion": c, "rating": 5} for c in (FIRST, SECOND)]
    judge_labelled(judge(), labelled_rows(enumerate(rows, start=1)))


def probe_cases(_: Path) -> None:
    from autoj_reward.evaluate.probe import cases_from

    rows = [{"prompt": PROMPT, "completion": c} for c in (FIRST, SECOND)]
    cases = cases_from(enumerate(rows, start=1), "in.jsonl")
    judge().rate([c.prompt for c in cases], [c.answer for c in cases])


def ray_rows(folder: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    import pyarrow as pa

    from autoj_reward.integrations.ray import BlockJudge, BlockTask
    from autoj_reward.rows.blocks import Blocks, added_schema
    from autoj_reward.rows.fields import row_format
    from autoj_reward.rows.tasks import rate_task

    # A table's column holds one type, and null for the fields that a message lacks.
    asked = [*PROMPT[:1], {"role": "user", "content": "How warm is it?"}, *PROMPT[2:]]
    for name, completion in (("a", FIRST), ("b", [{"role": "assistant", "content": SECOND[0]["value"]}])):
        pq.write_table(
            pa.Table.from_pylist([{"prompt": asked, "completion": completion}]), folder / f"{name}.parquet"
        )
        blocks = Blocks(folder / f"out-{name}", {"command": "rate"}, block_rows=10)
        blocks.deal(folder / f"{name}.parquet")
        make = functools.partial(_ray_work, rate_task, row_format("rate", None, {}))
        task = BlockTask(
            blocks=blocks, judge={"name_or_path": "mini", "mode": "direct"}, make_work=make,
            schema=added_schema("rate"),
        )  # fmt: skip
        BlockJudge(task)({"block": [0]})


def _ray_work(make_work: Any, fields: Any, judge: Judge) -> Any:
    return make_work(judge, fields)


def served(folder: Path) -> Any:
    pytest.importorskip("fastapi", reason="needs the reward server: the serve extra")
    from starlette.testclient import TestClient

    from autoj_reward.serve.app import make_app
    from autoj_reward.serve.settings import ServeSettings

    app = make_app(judge(), ServeSettings(drain_seconds=1.0))[0]
    client = TestClient(app, base_url="http://127.0.0.1")
    client.__enter__()
    until = time.monotonic() + 60.0
    while (ready := client.get("/ready")).status_code != 200:
        assert ready.status_code == 503, ready.text
        assert time.monotonic() < until, "the judge is not loaded in time"
    return client


def asked(path: str, *rows: dict[str, Any]) -> Callable[[Path], None]:
    def door(folder: Path) -> None:
        client = served(folder)
        answer = client.post(path, json={"rows": list(rows)})
        client.__exit__(None, None, None)
        assert answer.status_code == 200, answer.text

    return door


def through_client(folder: Path) -> None:
    from autoj_reward.integrations.client import JudgeClient

    client = JudgeClient("http://127.0.0.1")
    client._sync = served(folder)
    client.rewards([PROMPT, PROMPT], [FIRST, SECOND])


def trl(_: Path) -> None:
    from autoj_reward.integrations.trl import JudgeReward

    JudgeReward(judge())([PROMPT, PROMPT], [FIRST, SECOND])


def trl_by_name(_: Path) -> None:
    from autoj_reward.integrations.trl import JudgeReward

    JudgeReward("mini", judge_mode="direct")([PROMPT, PROMPT], [FIRST, SECOND])


def trl_async(_: Path) -> None:
    from autoj_reward.integrations.trl import JudgeReward, async_reward

    asyncio.run(async_reward(JudgeReward(judge()))([PROMPT, PROMPT], [FIRST, SECOND]))


def trl_pairwise(_: Path) -> None:
    from autoj_reward.integrations.trl import JudgeReward

    JudgeReward(judge(), mode="pairwise")([PROMPT, PROMPT], [FIRST, SECOND])


def former_judge(_: Path) -> None:
    from autoj_reward.integrations.trl_judges import PairwiseJudge

    PairwiseJudge(judge()).judge([PROMPT], [[FIRST, SECOND]])


def compare(_: Path) -> None:
    judge().compare([PROMPT], [FIRST], [SECOND])


def compare_command(folder: Path) -> None:
    rows = [{"prompt": PROMPT, "first": FIRST, "second": SECOND}]
    command(folder, rows, "compare", "in.jsonl", "-o", "out.jsonl", "--no-cache")


def knockout(_: Path) -> None:
    from autoj_reward.ranking.rank import rank
    from autoj_reward.ranking.registry import choose_strategy

    rank(judge(), [PROMPT], [[FIRST, SECOND]], strategy=choose_strategy("knockout", None))


def confirmed_labels(_: Path) -> None:
    from autoj_reward.ranking.label import label
    from autoj_reward.ranking.pair_rules import LabelSettings

    label(judge(), [PROMPT], [[FIRST, SECOND]], settings=LabelSettings(confirm=True))


def evaluate_pairs(folder: Path) -> None:
    from autoj_reward.autoj.pairs import read_pairs
    from autoj_reward.evaluate.predictions import compare_pairs

    row = {"prompt": PROMPT, "response 1": FIRST, "response 2": SECOND, "label": 0}
    (folder / "pairs.jsonl").write_text(json.dumps(row) + "\n")
    compare_pairs(judge(), read_pairs(folder / "pairs.jsonl"))


RATING = [
    rate, rate_command, rerank_command, label_command, calibrate_command, probe_cases, ray_rows, trl,
    trl_by_name, trl_async, through_client,
]  # fmt: skip
COMPARING = [
    compare, compare_command, knockout, confirmed_labels, evaluate_pairs, trl_pairwise, former_judge,
]  # fmt: skip
ROUTES = {
    "/v1/rate": [{"prompt": PROMPT, "completion": c} for c in (FIRST, SECOND)],
    "/v1/rank": [{"prompt": PROMPT, "completions": [FIRST, SECOND]}],
    "/v1/compare": [{"prompt": PROMPT, "first": FIRST, "second": SECOND}],
}


@pytest.mark.parametrize("door", [*RATING, *COMPARING], ids=lambda door: door.__name__)
def test_every_door_shows_the_same_text(
    door: Callable[[Path], None], engine: QualityEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    door(tmp_path)
    seen = {texts for texts in engine.asked if len(texts) == (2 if door in RATING else 3)}
    assert seen == (RATED if door in RATING else COMPARED)


@pytest.mark.parametrize("path", ROUTES)
def test_every_route_shows_the_same_text(path: str, engine: QualityEngine, tmp_path: Path) -> None:
    asked(path, *ROUTES[path])(tmp_path)
    assert set(engine.asked) == (COMPARED if path == "/v1/compare" else RATED)


def test_training_rows_hold_the_same_text(tmp_path: Path) -> None:
    from autoj_reward.autoj.training_rows import training_rows
    from autoj_reward.judge.presets import load_spec
    from autoj_reward.rows.source import open_source

    row = {"prompt": PROMPT, "first": FIRST, "second": SECOND, "preference": "first", "critique": "Good."}
    (tmp_path / "in.jsonl").write_text(json.dumps(row) + "\n")
    (made,) = training_rows(open_source(str(tmp_path / "in.jsonl")), load_spec("autoj-13b"))
    assert isinstance(made, dict)
    assert all(text in made["usermsg"] for text in SHOWN.values())


CHATML = "<|im_start|>{role}\n{text}<|im_end|>\n"
QUERY = "".join(
    CHATML.format(role=role, text=text)
    for role, text in (("system", "Be brief."), ("user", "And in Bergen?"))
)
ANSWER = (
    "<think>\nI have to look.\n</think>\n\n"
    '<tool_call>\n{"name": "weather", "arguments": {"city": "Bergen"}}\n</tool_call><|im_end|>\n'
    "<|im_start|>tool\n7 degrees<|im_end|>\n<|im_start|>assistant\n<think>\nEasy.\n</think>\n\n"
    "It is 7 degrees. q=8<|im_end|>\n"
)
ONE_STRING = (
    "System: Be brief.\n\nUser: And in Bergen?",
    'Assistant: <tool_call>\n{"name": "weather", "arguments": {"city": "Bergen"}}\n</tool_call>\n\n'
    "Tool: 7 degrees\n\nAssistant: It is 7 degrees. q=8",
)


def get_reward(folder: Path) -> None:
    prompt = QUERY + "<|im_start|>assistant\n"
    answer = served(folder).post("/get_reward", json={"query": [prompt + ANSWER], "prompts": [prompt]})
    assert answer.status_code == 200, answer.text


def get_reward_of_an_opened_block(folder: Path) -> None:
    """The chat template has opened the reasoning at the end of the prompt."""
    prompt = QUERY + "<|im_start|>assistant\n<think>\n"
    query = prompt + ANSWER.removeprefix("<think>\n")
    answer = served(folder).post("/get_reward", json={"query": [query], "prompts": [prompt]})
    assert answer.status_code == 200, answer.text


def openrlhf_file(folder: Path) -> None:
    pytest.importorskip("torch")
    from autoj_reward.integrations.client import JudgeClient
    from autoj_reward.integrations.openrlhf import reward_function

    client = JudgeClient("http://127.0.0.1")
    client._sync = served(folder)
    prompt = QUERY + "<|im_start|>assistant\n"
    reward_function(client)([prompt + ANSWER], [prompt], [None])


def verl(folder: Path) -> None:
    from autoj_reward.integrations.client import JudgeClient
    from autoj_reward.integrations.verl import compute_score

    client = JudgeClient("http://127.0.0.1")
    client._sync = served(folder)
    asked = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "And in Bergen?"}]
    compute_score(client)("source", ANSWER, None, {"question": asked})


@pytest.mark.parametrize(
    "door", [get_reward, get_reward_of_an_opened_block, openrlhf_file, verl], ids=lambda door: door.__name__
)
def test_doors_of_one_string_show_the_policys_rendering(
    door: Callable[[Path], None], engine: QualityEngine, tmp_path: Path
) -> None:
    door(tmp_path)
    assert set(engine.asked) == {ONE_STRING}


REASONED = "<think>\n6 + 7\n</think>\n\n13 is a prime. q=7"


def reasoning_doors() -> Iterator[tuple[str, Callable[[Judge, Path, pytest.MonkeyPatch], None]]]:
    def by_rate(judge: Judge, *_: Any) -> None:
        judge.rate(["Name a prime."], [REASONED])

    def by_trl(judge: Judge, *_: Any) -> None:
        from autoj_reward.integrations.trl import JudgeReward

        JudgeReward(judge)(["Name a prime."], [REASONED])

    def by_rank(judge: Judge, *_: Any) -> None:
        from autoj_reward.ranking.rank import rank

        rank(judge, ["Name a prime."], [[REASONED]])

    def by_route(judge: Judge, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("tests.test_entry_points.judge", lambda: judge)
        asked("/v1/rate", {"prompt": "Name a prime.", "completion": REASONED})(folder)

    def by_get_reward(judge: Judge, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("tests.test_entry_points.judge", lambda: judge)
        body = {"query": ["Name a prime." + REASONED + "</s>"], "prompts": ["Name a prime."]}
        assert served(folder).post("/get_reward", json=body).status_code == 200

    for door in (by_rate, by_trl, by_rank, by_route, by_get_reward):
        yield door.__name__, door


DOORS = dict(reasoning_doors())


@pytest.mark.parametrize("door", DOORS)
def test_reasoning_is_left_out_by_every_door(
    door: str, engine: QualityEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    DOORS[door](judge(), tmp_path, monkeypatch)
    assert set(engine.asked) == {("Name a prime.", "13 is a prime. q=7")}


@pytest.mark.parametrize("door", DOORS)
def test_reasoning_is_kept_by_every_door_where_the_judge_keeps_it(
    door: str, engine: QualityEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    DOORS[door](Judge.load("mini", mode="direct", reasoning="keep"), tmp_path, monkeypatch)
    assert set(engine.asked) == {("Name a prime.", REASONED)}


def test_a_template_that_opens_the_block_is_an_option_of_every_command(
    engine: QualityEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [{"prompt": "Name a prime.", "completion": REASONED.removeprefix("<think>\n")}]
    command(
        tmp_path, rows, "rate", "in.jsonl", "-o", "out.jsonl", "--no-cache", "--reasoning", "strip_opened"
    )
    assert set(engine.asked) == {("Name a prime.", "13 is a prime. q=7")}
