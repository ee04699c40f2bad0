# SPDX-License-Identifier: Apache-2.0
"""A row's rubric, reference and language reach the judge through every command and route."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from autoj_reward import Judge
from autoj_reward.cli.app import app
from autoj_reward.testing import ScriptedEngine
from tests.conftest import REPO
from tests.quality import refusing_engine

BILINGUAL = str(REPO / "examples" / "mini_bilingual.toml")


def bodies(engine: ScriptedEngine) -> list[str]:
    """The whole texts that an engine was asked."""
    return ["".join(segment.text for segment in item.body) for item in engine.inputs]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> ScriptedEngine:
    engine = refusing_engine()
    monkeypatch.setattr("autoj_reward.judge.judge.choose_engine", lambda *_, **__: engine)
    return engine


GROUP = {"prompt": "Name a prime.", "completions": ["7", "8"], "language": "zh"}
PAIR = {"prompt": "Name a prime.", "first": "7", "second": "8", "language": "zh"}
ONE = {"prompt": "Name a prime.", "completion": "7", "language": "zh"}
COMMANDS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "rate": (ONE, ["rate"]),
    "compare": (PAIR, ["compare"]),
    "rerank": (GROUP, ["rerank", "--critiques", "none"]),
    "rerank, all pairs": (GROUP, ["rerank", "--critiques", "none", "--strategy", "all_pairs"]),
    "rerank, knockout": (GROUP, ["rerank", "--critiques", "none", "--strategy", "knockout"]),
    "label": (GROUP, ["label"]),
    "label, all pairs": (GROUP, ["label", "--strategy", "all_pairs"]),
    "label, pairs": (PAIR, ["label"]),
}


def chinese(body: str) -> bool:
    return any("\u4e00" <= c <= "\u9fff" for c in body)


@pytest.mark.parametrize(("row", "arguments"), COMMANDS.values(), ids=COMMANDS)
def test_commands_keep_the_language(
    row: dict[str, Any],
    arguments: list[str],
    asked: ScriptedEngine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.jsonl").write_text(json.dumps(row) + "\n")
    command, *options = arguments
    done = CliRunner().invoke(
        app, [command, "in.jsonl", "-o", "out.jsonl", "--judge", BILINGUAL, "--no-cache", *options]
    )
    assert bodies(asked), done.output
    assert all(map(chinese, bodies(asked)))


ROUTES = {"/v1/rate": ONE, "/v1/compare": PAIR, "/v1/rank": GROUP}


def post(path: str, row: dict[str, Any], judge: Judge) -> Any:
    pytest.importorskip("fastapi", reason="needs the reward server: the serve extra")
    from starlette.testclient import TestClient

    from autoj_reward.serve.app import make_app
    from autoj_reward.serve.settings import ServeSettings

    app = make_app(judge, ServeSettings(drain_seconds=1.0))[0]
    with TestClient(app, base_url="http://127.0.0.1") as client:
        until = time.monotonic() + 60.0
        while (ready := client.get("/ready")).status_code != 200:
            assert ready.status_code == 503, ready.text
            assert time.monotonic() < until, "the judge is not loaded in time"
        return client.post(path, json={"rows": [row]})


@pytest.mark.parametrize("path", ROUTES)
def test_routes_keep_the_language(path: str, asked: ScriptedEngine) -> None:
    answer = post(path, ROUTES[path], Judge.load(BILINGUAL, mode="direct"))
    assert answer.status_code == 200, answer.text
    # What a server is loaded with counts as well.
    assert any("7" in body for body in bodies(asked))
    assert all(chinese(body) for body in bodies(asked) if "Name a prime." in body)


@pytest.mark.parametrize("path", ROUTES)
def test_a_language_that_a_judge_does_not_know_is_refused_by_routes(path: str, asked: ScriptedEngine) -> None:
    answer = post(path, ROUTES[path], Judge.load("mini", mode="direct"))
    assert answer.status_code == 422
    assert answer.json()["error"]["where"] == "rows[0].language"
    assert (
        post(path, {**ROUTES[path], "language": "en"}, Judge.load("mini", mode="direct")).status_code == 200
    )


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("field", ["rubric", "reference"])
def test_routes_keep_rubric_and_reference(
    path: str, field: str, asked: ScriptedEngine, tmp_path: Path
) -> None:
    (tmp_path / "rate.txt").write_text(f"Prompt: {{prompt}} One: {{completion}} More: {{{field}}}")
    (tmp_path / "compare.txt").write_text(f"Prompt: {{prompt}} A: {{first}} B: {{second}} More: {{{field}}}")
    taking = tmp_path / "taking.toml"
    taking.write_text(
        'name = "taking"\nextends = "mini"\n'
        '[rating]\ntemplate = "rate.txt"\n[comparison]\ntemplate = "compare.txt"\n'
    )
    row = {k: v for k, v in ROUTES[path].items() if k != "language"} | {field: "Only what is true."}
    answer = post(path, row, Judge.load(str(taking), mode="direct"))
    assert answer.status_code == 200, answer.text
    found = [body for body in bodies(asked) if "Name a prime." in body]
    assert found
    assert all("Only what is true." in body for body in found)


CALLS: dict[str, Callable[[Judge], object]] = {}


def python(name: str) -> Callable[[Callable[[Judge], object]], Callable[[Judge], object]]:
    def keep(function: Callable[[Judge], object]) -> Callable[[Judge], object]:
        CALLS[name] = function
        return function

    return keep


@python("requests of a ranking by comparisons")
def _ranked(judge: Judge) -> object:
    from autoj_reward.ranking.rank import rank_requests
    from autoj_reward.ranking.registry import choose_strategy
    from autoj_reward.types import Request

    group = [Request(prompt="Name a prime.", completions=(c,), language="zh") for c in ("7", "8")]
    return rank_requests(judge, [group], strategy=choose_strategy("all_pairs", None))


@python("a ranking's languages")
def _languages(judge: Judge) -> object:
    from autoj_reward.ranking.rank import rank

    return rank(judge, ["Name a prime."], [["7", "8"]], languages=["zh"])


@python("labels' languages")
def _labelled(judge: Judge) -> object:
    from autoj_reward.ranking.label import label

    return label(judge, ["Name a prime."], [["7", "8"]], languages=["zh"])


@python("the best of N")
def _best(judge: Judge) -> object:
    from autoj_reward.ranking.rank import best_of_n

    return best_of_n(judge, ["Name a prime."], [["7", "8"]], languages=["zh"])


@python("a reward's column")
def _column(judge: Judge) -> object:
    from autoj_reward.integrations.trl import JudgeReward

    reward = JudgeReward(judge, language_column="lang", max_failures=1.0, trainer="grpo")
    return reward(["Name a prime."] * 2, ["7", "8"], lang=["zh", "zh"])


@python("a pairwise reward's column")
def _pairwise(judge: Judge) -> object:
    from autoj_reward.integrations.trl import JudgeReward

    reward = JudgeReward(judge, mode="pairwise", language_column="lang", max_failures=1.0, trainer="grpo")
    return reward(["Name a prime."] * 2, ["7", "8"], lang=["zh", "zh"])


@pytest.mark.parametrize("name", CALLS)
def test_calls_keep_the_language(name: str, asked: ScriptedEngine) -> None:
    CALLS[name](Judge.load(BILINGUAL, mode="direct"))
    assert bodies(asked)
    assert all(map(chinese, bodies(asked)))
