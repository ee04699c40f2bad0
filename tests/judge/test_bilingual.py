# SPDX-License-Identifier: Apache-2.0
"""A judge with templates in two languages: each request in its own, all in one batch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given

from autoj_reward import ConfigError, Judge, Request, TemplateError
from autoj_reward.engines.recorded import RecordedEngine, rendered_text
from autoj_reward.judge.messages.language import detect_language
from autoj_reward.judge.parse import Stated, find_verdict
from autoj_reward.judge.presets import load_spec
from autoj_reward.testing import ScriptedEngine
from tests.cli.conftest import read_rows, write_rows
from tests.conftest import REPO
from tests.hostile import hostile_text

if TYPE_CHECKING:
    from autoj_reward.engines.transformers.engine import TransformersEngine

pytest.importorskip("py3langid", reason="needs the bilingual extra")

ANSWERS = [
    {"contains": ["评分：[["], "reading": {"7": 0.5, "8": 0.5}},
    {"contains": ["最终决定是"], "reading": {"回应1": 0.6, "回应2": 0.3, "平局": 0.1}},
    {"contains": ["Rating: [["], "reading": {"3": 1.0}},
    {"contains": ["So, the final decision is"], "reading": {"Response 1": 0.2, "Response 2": 0.8}},
    {"contains": ["用户", "两个"], "text": "第一个更好。\n最终决定是回应1。"},
    {"contains": ["评分"], "text": "还不错。\n评分：[[8]]"},
    {"contains": ["[Response 1]"], "text": "So, the final decision is Response 2"},
    {"contains": [], "text": "Rating: [[3]]"},
]

EN = Request(prompt="Name a prime above ten.", completions=("13",))
ZH = Request(prompt="请说出一个大于十的质数。", completions=("13 是质数。",))
EN_PAIR = Request(prompt="Name a prime above ten.", completions=("13", "12"))
ZH_PAIR = Request(prompt="请说出一个大于十的质数。", completions=("13", "12"))


@pytest.fixture
def engine(tmp_path: Path) -> ScriptedEngine:
    return ScriptedEngine(otherwise=RecordedEngine(write_rows(tmp_path / "answers.jsonl", ANSWERS)))


@pytest.fixture
def judge(engine: ScriptedEngine) -> Iterator[Judge]:
    with Judge.load("autoj-bilingual-6b", engine=engine, mode="direct") as made:
        yield made


def test_one_mixed_batch_gives_what_separate_ones_give(judge: Judge, engine: ScriptedEngine) -> None:
    mixed = [EN, ZH_PAIR, ZH, EN_PAIR, EN]
    together = judge.judge_requests(mixed)
    assert [len(call) for call in engine.calls] == [7]  # one call: three ratings and two pairs in both orders
    assert together == [judge.judge_requests([request])[0] for request in mixed]
    assert [type(j).__name__ for j in together[:2]] == ["RatingJudgment", "PairJudgment"]
    assert [j.reward for j in together] == pytest.approx([3.0, 0.5, 7.5, 0.5, 3.0])
    assert [j.provenance.language for j in together] == ["en", "zh", "zh", "en", "en"]


@pytest.mark.parametrize("mode", ["direct", "critique"])
def test_each_language_has_its_template_and_verdicts(engine: ScriptedEngine, mode: str) -> None:
    with Judge.load("autoj-bilingual-6b", engine=engine, mode=mode, both_orders=False) as judge:  # type: ignore[arg-type]
        english, chinese = judge.compare_requests([EN_PAIR, ZH_PAIR])
        assert (english.preference, chinese.preference) == ("second", "first")
        low, high = judge.rate_requests([EN, ZH])
        assert (low.rating, high.rating) in {(3.0, 7.0), (3.0, 8.0)}


def test_a_request_may_say_its_language(judge: Judge) -> None:
    forced = judge.rate(["13?", "13?"], ["yes", "yes"], languages=["zh", "en"])
    assert [j.expected_rating for j in forced] == pytest.approx([7.5, 3.0])
    with pytest.raises(TemplateError, match="no templates in 'fr'"):
        judge.rate(["13?"], ["yes"], languages=["fr"])
    with pytest.raises(ConfigError, match="1 prompts and 2 languages"):
        judge.rate(["13?"], ["yes"], languages=["zh", "en"])


def test_the_translation_alone_is_a_judge_in_one_language() -> None:
    both, chinese = load_spec("autoj-bilingual-6b"), load_spec("autoj-bilingual-6b-zh")
    assert both.translations["zh"].fingerprint == chinese.fingerprint
    assert not chinese.translations
    assert both.fingerprint not in (chinese.fingerprint, load_spec("autoj-13b").fingerprint)


def test_a_judge_in_one_language_detects_none(tmp_path: Path) -> None:
    engine = RecordedEngine(write_rows(tmp_path / "a.jsonl", ANSWERS))
    with Judge.load("autoj-13b", engine=engine, mode="direct") as judge:
        found = judge.rate(["请说"], ["13"], languages=["zh"])[0]
    assert (found.expected_rating, found.provenance.language) == (3.0, None)


def test_translations_in_a_file_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "zh.toml").write_text('extends = "autoj-bilingual-6b-zh"\nmodel = "m/m"\n', encoding="utf-8")
    own = 'extends = "autoj-13b"\nname = "own"\nmodel = "m/m"\nlanguages = ["en", "zh"]\n[translations]\nzh = "zh.toml"\n'
    (tmp_path / "own.toml").write_text(own, encoding="utf-8")
    assert list(load_spec(str(tmp_path / "own.toml")).translations) == ["zh"]
    (tmp_path / "own.toml").write_text(own.replace('"m/m"', '"m/other"'), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"must be a judge of m/other"):
        load_spec(str(tmp_path / "own.toml"))


TEXTS = [
    ("Write a haiku.", "en"), ("你好", "zh"), ("请优化这段代码。\n#include <iostream>\nint main() {}", "zh"),
    ("Translate into Chinese: hello", "en"), ("把这句话翻译成英文：The dog sleeps.", "zh"), ("为约翰写一篇传记。", "zh"),
    ("", "en"), ("12345", "en"), ("?!", "en"), ("👍", "en"), ("Напиши стихотворение о море и ветре.", "en"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "language"), TEXTS, ids=[t[0][:20] for t in TEXTS])
def test_languages_are_detected(text: str, language: str) -> None:
    assert detect_language(text, ("en", "zh")) == language


@given(hostile_text)
def test_any_text_gets_one_of_the_languages(text: str) -> None:
    assert detect_language(text, ("en", "zh")) in ("en", "zh")


def test_the_languages_of_both_test_sets_are_detected(data: Path) -> None:
    folder = data / "auto-j" / "data" / "test"
    wrong = total = 0
    for name, language in (("testdata_pairwise", "en"), ("zh_testdata_pairwise", "zh")):
        prompts = {row["prompt"] for row in read_rows(folder / f"{name}.jsonl")}
        total += len(prompts)
        wrong += sum(detect_language(prompt, ("en", "zh")) != language for prompt in prompts)
    # Among them two that were left in the other language, or are all code.
    assert wrong <= 0.005 * total


def test_chinese_targets_state_the_ratings_of_their_english_originals(data: Path) -> None:
    folder = data / "auto-j" / "data" / "training"
    spec = load_spec("autoj-bilingual-6b").translations["zh"]
    assert spec.rating is not None
    chinese, english = (
        read_rows(folder / f"{name}.jsonl") for name in ("zh_single_traindata", "single_traindata")
    )
    found = [find_verdict(row["target_output"], "stop", spec.rating.verdicts) for row in chinese]
    stated = [
        (f.verdict, float(row["pred_score"]))
        for f, row in zip(found, english, strict=True)
        if isinstance(f, Stated)
    ]
    assert len(stated) >= 941
    assert all(verdict == original for verdict, original in stated)


def test_all_chinese_pairs_are_laid_out_in_chinese(data: Path, engine: ScriptedEngine) -> None:
    """1,392 pairs in both orders; a recorded answer stands for the model, every failure would be ours.

    Seven of them are a text against itself, which ties by rule.
    """
    path = data / "auto-j" / "data" / "test" / "zh_testdata_pairwise.jsonl"
    rows = read_rows(path)
    with Judge.load("autoj-bilingual-6b", engine=engine, mode="direct") as judge:
        judgments = judge.compare(
            [r["prompt"] for r in rows],
            [r["response 1"] for r in rows],
            [r["response 2"] for r in rows],
            languages=["zh"] * len(rows),
        )
    assert not [j.failure for j in judgments if j.failure is not None]
    assert sum(j.by_rule for j in judgments) == 7
    assert engine.n_inputs == 2 * (1392 - 7)
    assert all(rendered_text(item).endswith("最终决定是") for item in engine.inputs)


@pytest.mark.slow
def test_the_embedded_judge_compares_chinese_pairs(data: Path, mini_float32: TransformersEngine) -> None:
    """A failure here would be ours: the model is given every chance to write a verdict by the low mass."""
    rows = read_rows(data / "auto-j" / "data" / "test" / "zh_testdata_pairwise.jsonl")
    short = sorted(rows, key=lambda row: len(row["prompt"] + row["response 1"] + row["response 2"]))[:4]
    with Judge.load(str(REPO / "examples" / "mini_bilingual.toml"), engine=mini_float32) as judge:
        judgments = judge.compare(
            [r["prompt"] for r in short],
            [r["response 1"] for r in short],
            [r["response 2"] for r in short],
        )
        english = judge.compare(["Name a prime."], ["7"], ["8"])
    assert [j.failure for j in judgments] == [None] * 4
    assert [j.provenance.language for j in (*judgments, *english)] == ["zh"] * 4 + ["en"]
    assert all(0.0 <= (j.win_prob or -1.0) <= 1.0 for j in judgments)
