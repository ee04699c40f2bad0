# SPDX-License-Identifier: Apache-2.0
"""Wrong arguments are refused at once, with their place: a text for a list, an empty completion, an unknown option."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from autoj_reward import ConfigError, Judge
from autoj_reward.cli.app import app
from autoj_reward.ranking.conversations import compare_conversations
from autoj_reward.ranking.label import label
from autoj_reward.ranking.rank import best_of_n, rank, worst_of_n
from tests.quality import QualityEngine

ANSWERED = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]


def reward(judge: Judge, *arguments: Any, **columns: Any) -> object:
    from autoj_reward.integrations.trl import JudgeReward

    return JudgeReward(judge)(*arguments, **columns)


def client(_: Judge, *arguments: Any) -> object:
    from autoj_reward.integrations.client import JudgeClient

    return JudgeClient("http://127.0.0.1:9", patience_seconds=0.1).rewards(*arguments)


def sent(_: Judge, *arguments: Any) -> object:
    from autoj_reward.integrations.client import JudgeClient

    return JudgeClient("http://127.0.0.1:9", patience_seconds=0.1).rate(*arguments)


def ranked(judge: Judge, *arguments: Any) -> object:
    from autoj_reward.integrations.trl_judges import RankJudge

    return RankJudge(judge).judge(*arguments)


WRONG: dict[str, tuple[Callable[..., object], tuple[Any, ...], str]] = {
    "best of a text": (best_of_n, (["a?"], "1"), "groups is one text; give a list"),
    "worst of a text": (worst_of_n, ("a?", ["1", "2"]), "prompts is one text"),
    "rank, groups of texts": (rank, (["a?"], ["12"]), r"groups\[0\] is one text"),
    "rank, one text of groups": (rank, (["a?"], "1"), "groups is one text"),
    "rank, a group that is null": (rank, (["a?"], [None]), r"groups\[0\] must be a list, is null"),
    "rank, a completion that is null": (rank, (["a?"], [["1", None]]), "group 0, completion 1: completion: .* null"),
    "label, groups of texts": (label, (["a?"], ["12"]), r"groups\[0\] is one text"),
    "label, a number": (label, (["a?"], [["1", 2]]), "completion 1: completion: must be a text or a list .* a number"),
    "rate, a text": (Judge.rate, ("a?", "1"), "prompts is one text"),
    "rate, null": (Judge.rate, (["a?"], [None]), "completion: must be a text or a list of chat messages, is null"),
    "rate, null for all": (Judge.rate, (["a?"], None), "completions must be a list, is null"),
    "rate, the second": (Judge.rate, (["a?", "b?"], ["1", 2]), "request 1: completion: .* a number"),
    "rate, an object": (Judge.rate, ({"a?": 1}, ["1"]), "prompts must be a list, is an object"),
    "rate, prompts of bytes": (Judge.rate, ([b"a?"], ["1"]), "prompt: .* is bytes"),
    "compare, a text": (Judge.compare, (["a?"], "1", ["2"]), "first completions is one text"),
    "compare, null": (Judge.compare, (["a?"], ["1"], [None]), "second: must be a text .* null"),
    "conversations, a text": (compare_conversations, ("a", [ANSWERED]), "firsts is one text"),
    "conversations of texts": (compare_conversations, (["a"], [ANSWERED]), "conversations 0: must be"),
    "conversations, null": (compare_conversations, ([ANSWERED], [None]), "conversations 0: must be .* null"),
    "reward, a text": (reward, ("a?", ["1", "2"]), "prompts is one text"),
    "reward, null": (reward, (["a?"], [None]), r"completions\[0\]: must be a text or a list of chat messages, is null"),
    "client, a text": (client, ("a?", ["1", "2"]), "prompts is one text"),
    "client, a row that is none": (sent, (["a?"],), r"rows\[0\] must be an object, is a text"),
    "client, bytes": (sent, ([{"prompt": b"a?", "completion": "1"}],), r"rows\[0\] cannot be written as JSON"),
    "former judge, a text": (ranked, ("a?", ["1", "2"]), "prompts is one text"),
    "former judge, null": (ranked, (["a?"], [None]), "completions of prompt 0 must be a list"),
}  # fmt: skip


@pytest.mark.parametrize(("function", "arguments", "problem"), WRONG.values(), ids=WRONG)
def test_wrong_lists_are_refused_with_their_place(
    function: Callable[..., object], arguments: tuple[Any, ...], problem: str
) -> None:
    engine = QualityEngine()
    try:
        function(Judge.load("mini", mode="direct", engine=engine), *arguments)
    except ConfigError as error:
        said: str | None = str(error)
    except Exception as error:
        said = f"a {type(error).__name__}"
    else:
        said = None
    assert said is not None
    assert not engine.asked
    assert re.search(problem, said), said


@pytest.mark.parametrize("name", ["rubrics", "references", "languages"])
def test_a_text_for_a_list_of_further_fields(name: str) -> None:
    judge = Judge.load("mini", mode="direct", engine=QualityEngine())
    with pytest.raises(ConfigError, match=f"{name} is one text"):
        judge.rate(["a?"], ["1"], **{name: "x"})  # type: ignore[arg-type]
    with pytest.raises(
        ConfigError, match=rf"{name[:-1]}(: must|s\[0\]: a rubric must) be a text.* is (a number|3)"
    ):
        judge.rate(["a?"], ["1"], **{name: [3]})  # type: ignore[arg-type]


ENGINES = ["transformers", "vllm", "vllm-server", "server:http://127.0.0.1:9", "recorded:answers.jsonl"]


@pytest.mark.parametrize("engine", ENGINES)
def test_an_option_that_an_engine_does_not_have_is_refused_before_any_work(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if engine.startswith("vllm") and importlib.util.find_spec("vllm") is None:
        pytest.skip("needs vLLM")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "answers.jsonl").write_text('{"contains": [], "reading": {"5": 1.0}}\n')
    (tmp_path / "in.jsonl").write_text('{"prompt": "a?", "completion": "1"}\n')
    arguments = [
        "rate",
        "in.jsonl",
        "-o",
        "out.jsonl",
        "--engine",
        engine,
        "--engine-option",
        "foo=1",
        "--dry-run",
    ]
    done = CliRunner().invoke(app, arguments)
    assert isinstance(done.exception, ConfigError), done.output
    assert "has no option foo" in str(done.exception)
    assert not (tmp_path / "out.jsonl").exists()


def test_a_misspelt_option_is_told_the_right_one() -> None:
    with pytest.raises(
        ConfigError, match=r"no option dtpye \(dtpye: did you mean dtype\?\)\n.*adapter, batch_tokens"
    ):
        Judge.load("mini", engine="transformers", dtpye="float32")


@pytest.mark.parametrize("name", ["transformers", "vllm", "vllm-server"])
def test_the_known_options_are_the_engines_own(name: str) -> None:
    import inspect

    from autoj_reward.engines.option_names import OWN_OPTIONS

    if name == "transformers":
        from autoj_reward.engines.transformers.engine import TransformersEngine as Engine
    elif name == "vllm":
        from autoj_reward.engines.vllm.engine import VLLMEngine as Engine
    else:
        from autoj_reward.engines.local_server.engine import LocalServerEngine as Engine
    own = [p.name for p in inspect.signature(Engine).parameters.values() if p.kind is p.KEYWORD_ONLY]
    assert sorted(own) == sorted(OWN_OPTIONS[name])
