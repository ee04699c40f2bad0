# SPDX-License-Identifier: Apache-2.0
"""Presets of judges that others publish: their prompts byte for byte, and what their outputs state."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from autoj_reward.errors import ConfigError
from autoj_reward.judge.judge import Judge
from autoj_reward.judge.parse import Stated, find_verdict
from autoj_reward.judge.presets import list_presets, load_spec, preset_names
from autoj_reward.rows.fields import row_format
from autoj_reward.rows.records import RowItem
from autoj_reward.rows.tasks import rate_task
from autoj_reward.testing import ScriptedEngine, rendered_text
from autoj_reward.types import ChatWrapper, JudgeInput, PlainWrapper, Request
from tests.judge.upstream_prompts import (
    COMPLETION,
    FIRST,
    PROMPT,
    REFERENCE,
    RUBRIC,
    SECOND,
    Rendered,
    hash_of,
    upstream,
)

# As `python -m tests.judge.upstream_prompts FOLDER` prints them, at the commits that the presets name.
PINNED = {
    ("m-prometheus", "rating"): "6422a692354e6d11183ea6a62842b2ed0a63053d83aeb19bb2a45b4d7491dbcb",
    (
        "m-prometheus-relative",
        "comparison",
    ): "3bbd822b79e1eba74206e90cf865976ad0e8c68773b8cb90c6cbbdfcd093036c",
    ("prometheus-2", "rating"): "327ee91ff1163e9ec65abb23303c0658591de66528b8c1be5e90be40d2f99144",
    ("prometheus-2", "comparison"): "373edeaab6f155d62bc166a3fa5a4ed8a5eca80213af5301710cff47fa649371",
    (
        "m-prometheus",
        "rating + reference",
    ): "85fa68cc5ea3b860b4c2313106e8b03fdfa1aa44aa0c60705ac11ebb0d2fa905",
    (
        "m-prometheus-relative",
        "comparison + reference",
    ): "ee9f78bfbd6a4c2d37c9a6d46073c7c5011776fc89a4a35032b7f97fa33fa8ef",
    (
        "prometheus-2",
        "rating + reference",
    ): "680626184b5664acd46419052083f4131f6d4f732c9b0c4aa6f9cc52559b186b",
    (
        "prometheus-2",
        "comparison + reference",
    ): "6ca248fab16eb77540b6d8fc90feb1b0a36d3eb3691e4697416be9cde0cfb6da",
    ("rewardbench", "comparison"): "39fe8afc08b58bc18949bf9068f72a77230a73b19cb1d4d8cb3a0203db15228e",
    ("rewardbench-ratings", "rating"): "d0d8db450b8f2187daaa9d4dd12f87f2015eb1a563499540a259e213a3b470c6",
    ("selene", "comparison"): "bb2ae83de96b7315b2fcad4626ffcd5e6c9b37b32282c1d81e0e42b6056d8625",
    ("selene", "rating"): "fabfb18e32b3012d8af108b38e8b025e75293356f833483085aaba3c79408335",
    ("selene", "rating + reference"): "44d93054d7d512545a69780d7f20f8895cd6b897d943a8391360d7eb2a629183",
    ("rm-r1", "comparison"): "86b0492a69ac6b9b4775908d0a047fdd012e7656db04e23324e0897fc77fc04f",
    ("rm-r1-reasoning", "comparison"): "e20dc9ced4cdb2c5610a4c9f0b86874c87781b7b1ca3a885b96a9df559d2d856",
    ("flow-judge", "rating + reference"): "28825eee10ddc38b9f9a57ebf6c30b6613620ecf263b33c9989e59ecad76c133",
    ("compassjudger", "comparison"): "8bd5c84dce1853e5e252213be5b4edfd726041e4364e61af4eb7ce05fd824ef7",
    ("arena-hard", "comparison"): "f6bc8eeccf00875b1386a67f246e3afb1021f31ec002127671aa4586a9df8041",
    ("qwen3-reranker", "rating"): "8816d91639c6ac852ec9c000bd5d9e7d1daed3190b67ce978c8a0ec6a953f37e",
    ("llm-verifier", "comparison"): "5a96e923351521941420313e2d181f94eaebe80e9ca5d4191591de7b1017b0a9",
}

BY_THE_USER = {"skywork-critic"}
"""Presets whose prompt the user adds; see test_added_prompts."""


def rendered(preset: str, task: str) -> Rendered:
    """What a judge is shown: through the whole pipeline, up to its engine."""
    spec = load_spec(preset)
    kind = task.split(" ")[0]
    own = spec.rating if kind == "rating" else spec.comparison
    assert own is not None
    request = Request(
        prompt=PROMPT,
        completions=(COMPLETION,) if kind == "rating" else (FIRST, SECOND),
        reference=REFERENCE if task.endswith("reference") else None,
        rubric=RUBRIC if "rubric" in own.template.fields else None,
    )
    engine = ScriptedEngine(write="", read={})
    with Judge.load(spec, engine=engine, both_orders=False) as judge:
        judge.judge_requests([request])
    shown = engine.inputs[0]
    body = "".join(s.text for s in shown.body)
    if isinstance(shown.wrapper, PlainWrapper):
        return None, shown.wrapper.before + body + shown.wrapper.after
    assert isinstance(shown.wrapper, ChatWrapper)
    return shown.wrapper.system, body


@pytest.mark.parametrize(("preset", "task"), PINNED)
def test_prompts_are_byte_for_byte_those_of_their_publishers(preset: str, task: str) -> None:
    assert hash_of(rendered(preset, task)) == PINNED[preset, task]


def test_pinned_prompts_are_what_the_publishers_code_renders() -> None:
    folder = os.environ.get("AUTOJ_REWARD_UPSTREAM")
    if not folder:
        pytest.skip(
            "needs checkouts of the publishers' repositories: name their folder in $AUTOJ_REWARD_UPSTREAM"
        )
    assert {key: hash_of(value) for key, value in upstream(Path(folder)).items()} == PINNED


def test_every_published_preset_names_its_licence_and_source_and_is_pinned() -> None:
    published = {p.name for p in list_presets() if p.source} - BY_THE_USER
    assert published == {preset for preset, _ in PINNED}
    for spec in list_presets():
        if spec.source:
            assert "commit " in spec.source
            assert spec.licence != "unknown"


# What the publishers' own parsers are tested with, their published outputs, and outputs made by hand.
STATED: list[tuple[str, str, object]] = [
    ("prometheus-2", "Reference (Score 5) two results [RESULT] 3", 3.0),
    ("prometheus-2", "Reference (Score 5) not results", "no_verdict"),
    ("prometheus-2", "Excellent. [RESULT] 5 out of 5", 5.0),
    ("prometheus-2", "Poor performance. [RESULT] score of 1", 1.0),
    ("prometheus-2", "Good job. [Result] 3", 3.0),
    ("prometheus-2", "Needs improvement. [Result] Score: 2", 2.0),
    ("prometheus-2", "Well done. [Result] Result: 4", 4.0),
    ("prometheus-2", "Average. [Result] 4/5", 4.0),
    ("prometheus-2", "Good job. (Score 5)", 5.0),
    ("prometheus-2", "Good job. [Score 4]", 4.0),
    ("prometheus-2", "Good job. score: 3", 3.0),
    ("prometheus-2", "Good job. score of 1", 1.0),
    ("prometheus-2", "Good job. [RESULT] (5)", 5.0),
    ("prometheus-2", "The score is definitely not 3.", "no_verdict"),
    ("prometheus-2", "I rate this a perfect 10!", "no_verdict"),
    ("prometheus-2", "Score: 2.5", "off_scale"),
    ("prometheus-2", "Result: A", "no_verdict"),
    ("prometheus-2", "Off the scale. [RESULT] 7", "off_scale"),
    ("prometheus-2 comparison", "[Response B is not better. [RESULT] A", "first"),
    ("prometheus-2 comparison", "Result A or B, not results", "no_verdict"),
    ("prometheus-2 comparison", "Response A is better. [RESULT] A", "first"),
    ("prometheus-2 comparison", "Prefer Response B. [RESULT] B", "second"),
    ("prometheus-2 comparison", "Feedback: Both responses are similar... [Response B]", "second"),
    ("prometheus-2 comparison", "Feedback: Both responses are clear... [Result] Response B", "second"),
    ("prometheus-2 comparison", "Feedback: Both responses are clear... Response B Response A", "no_verdict"),
    ("prometheus-2 comparison", "Feedback: Both responses are clear... [RESULT: B]", "second"),
    ("prometheus-2 comparison", "Feedback: Both responses are clear...Response A. [RESULT] B", "second"),
    ("prometheus-2 comparison", "After careful consideration, I select Response B.", "no_verdict"),
    ("prometheus-2 comparison", "Both responses have their merits.", "no_verdict"),
    ("prometheus-2 comparison", "Response C is clearly superior.", "no_verdict"),
    ("m-prometheus", "La traduction est fidèle. [RESULT] 4", 4.0),
    ("m-prometheus", "La traduction est fidèle. [RESULT] quatre", "no_verdict"),
    ("m-prometheus-relative", "A resposta B é mais completa. [RESULT] B", "second"),
    ("m-prometheus-relative", "A resposta B é mais completa.", "no_verdict"),
    ("selene", "**Reasoning:** It meets the rubric.\n\n**Result:** 4", 4.0),
    ("selene", "**Reasoning:** It meets the rubric.\n\n**Result:** 6", "off_scale"),
    ("selene", "**Reasoning:** It meets the rubric.", "no_verdict"),
    ("selene comparison", "**Reasoning:** A is brief.\n\n**Result:** B", "second"),
    ("selene comparison", "**Reasoning:** A is brief.\n\n**Result:** A.", "first"),
    ("selene comparison", "**Reasoning:** A is brief.\n\n**Result:** neither", "no_verdict"),
    ("rewardbench", "Both explain it, and A is shorter.\n\n[[A]]", "first"),
    ("rewardbench", "My final verdict is [[B]].", "second"),
    ("rewardbench", "My final verdict is [[C]]", "off_scale"),
    ("rewardbench", "Neither [[A]] nor [[B]]", "no_verdict"),
    (
        "rewardbench-ratings",
        "The response balances depth and clarity without overwhelming the reader, making it\n    highly relevant "
        "and helpful.\n\n9",
        9.0,
    ),
    ("rewardbench-ratings", "It has 3 mistakes.\n\n10", 10.0),
    ("rewardbench-ratings", "I rate it 8/10", "no_verdict"),
    ("rewardbench-ratings", "Fair.\n\n11", "off_scale"),
    ("rewardbench-ratings", "Fair.\n\n7.5", "off_scale"),
    ("arena-hard", "my final verdict is [[A>B]]", 0.75),
    ("arena-hard", "verdict: [[A>>B]]", 1.0),
    ("arena-hard", "close call, [[A=B]]", 0.5),
    ("arena-hard", "[[B>>A]]", 0.0),
    ("arena-hard", "[[B>A]]", 0.25),
    ("arena-hard", "first: [[A>B]] then again [[A>B]]", 0.75),
    ("arena-hard", "[[A>B]] ... [[B>A]]", "no_verdict"),
    ("arena-hard", "my verdict: [[A=]]", "off_scale"),
    ("arena-hard", "lots of text but no verdict", "no_verdict"),
    ("rm-r1", "Chatbot B provides no additional value beyond the basic information.\n</eval>\n\n<answer>[[A]]</answer>\n", "first"),
    ("rm-r1", "<eval>...</eval>\n\n<answer>[[B]]</answer>", "second"),
    ("rm-r1", "<answer>[[A]]</answer> <answer>[[B]]</answer>", "no_verdict"),
    ("rm-r1", "<answer>[[A/B]]</answer>", "no_verdict"),
    (
        "rm-r1-reasoning",
        "In contrast, Chatbot B's response is brief and lacks the depth necessary for a complete understanding of the "
        "detailing process.\n\n<answer>[[A]]</answer>\n",
        "first",
    ),
    ("rm-r1-reasoning", "<answer>[[D]]</answer>", "off_scale"),
    ("flow-judge", "<feedback>Test feedback</feedback>\n<score>1</score>", 1.0),
    ("flow-judge", "<feedback>Good job!</feedback><score>5</score>", 5.0),
    ("flow-judge", "<feedback>\nGood.\n</feedback>\n<score>\n3\n</score>", 3.0),
    ("flow-judge", "<feedback>Good job!</feedback><score>9</score>", "off_scale"),
    ("flow-judge", "<feedback>Good job!</feedback>", "no_verdict"),
    ("compassjudger", '{\n  "Choice": "Model A"\n}', "first"),
    ("compassjudger", 'Both try.\n```json\n{"Choice": "[Model B]"}\n```', "second"),
    ("compassjudger", '{\n  "Choice": "Model C"\n}', "off_scale"),
    ("compassjudger", "Model A", "no_verdict"),
    ("qwen3-reranker", "yes", 1.0),
    ("qwen3-reranker", "no", 0.0),
    ("qwen3-reranker", "maybe", "no_verdict"),
    ("yes-no", "Yes.", 1.0),
    ("yes-no", "No", 0.0),
    ("yes-no", "Perhaps.", "no_verdict"),
    ("llm-verifier", "It ran the tests.\n<score_A> C </score_A>\n<score_B> Q </score_B>", "first"),
    ("llm-verifier", "<score_A>T</score_A>\n<score_B>S</score_B>", "second"),
    ("llm-verifier", "<score_A> b </score_A>\n<score_B> B </score_B>", "tie"),
    ("llm-verifier", "<score_A> Z </score_A>\n<score_B> B </score_B>", "off_scale"),
    ("llm-verifier", "<score_A> B </score_A>", "no_verdict"),
]  # fmt: skip


@pytest.mark.parametrize(("case", "text", "expected"), STATED)
def test_outputs_state_their_verdict_or_fail(case: str, text: str, expected: object) -> None:
    preset, _, task = case.partition(" ")
    spec = load_spec(preset)
    own = spec.comparison if task or spec.rating is None else spec.rating
    assert own is not None
    found = find_verdict(text, "stop", own.verdicts)
    got = found.verdict if isinstance(found, Stated) else found.reason.value
    assert got == expected


def test_every_preset_has_a_right_and_a_wrong_output() -> None:
    cases = {case for case, _, _ in STATED}
    earlier = {
        "autoj-13b",
        "autoj-13b-fp8",
        "autoj-13b-gptq-4bits",
        "autoj-bilingual-6b",
        "autoj-bilingual-6b-zh",
    }
    assert {c.partition(" ")[0] for c in cases} == set(preset_names()) - earlier - {
        "general",
        "general-1.5b",
        "mini",
        "small",
    } - BY_THE_USER
    failures = ("no_verdict", "off_scale")
    for case in cases:
        expected = [e for c, _, e in STATED if c == case]
        assert {e in failures for e in expected} == {True, False}, case


@pytest.mark.parametrize("preset", ["prometheus-2", "selene"])
def test_rows_without_a_rubric_are_judged_by_the_default_one(preset: str) -> None:
    engine = ScriptedEngine(write="")
    with Judge.load(preset, engine=engine) as judge:
        judge.rate([PROMPT], [COMPLETION])
    shown = "".join(s.text for s in engine.inputs[0].body)
    assert "[Does the model provide relevant and useful responses" in shown


def test_the_reranker_reads_one_token_at_the_end_of_its_prompt() -> None:
    def read(item: JudgeInput) -> dict[str, float]:
        assert item.readout is not None
        assert item.readout.assume_ends
        assert item.prefill == ()
        return {"yes": 0.6, "no": 0.2}

    with Judge.load("qwen3-reranker", engine=ScriptedEngine(read=read)) as judge:
        assert judge.rate([PROMPT], [COMPLETION])[0].reward == pytest.approx(0.75)


def test_another_template_replaces_all_that_it_is_below(tmp_path: Path) -> None:
    """A base's own text, or its template with a reference, was used in place of the file's template."""
    base = 'extends = "general"\nname = "b"\n[rating]\ntext = "BASE {prompt} {completion} {rubric} {reference}"\n'
    (tmp_path / "base.toml").write_text(base)
    (tmp_path / "own.txt").write_text("OWN {prompt} {completion} {rubric} {reference}")
    for below in ("base.toml", "prometheus-2"):
        own = f'extends = "{below}"\nname = "o"\n[rating]\ntemplate = "own.txt"\n'
        (tmp_path / "own.toml").write_text(own)
        task = load_spec(str(tmp_path / "own.toml")).rating
        assert task is not None
        assert all(task.template_for(reference=r).text.startswith("OWN") for r in (False, True))


def test_rows_give_their_reference_to_a_judge_with_a_template_for_it() -> None:
    """Only `Judge.rate(references=...)` showed it; the commands left it out."""
    engine = ScriptedEngine(read={"5": 1.0})
    judge = Judge.load("prometheus-2", engine=engine, mode="direct")
    fields = row_format("rate", None, {})
    task = rate_task(judge, fields)
    row = {"prompt": "p", "completion": "c", "reference": "REFERENCE", "rubric": "Is it right?"}
    task.judge([RowItem(1, row, fields.requests(row, optional=task.optional))])
    assert "REFERENCE" in rendered_text(engine.inputs[0])


@pytest.mark.parametrize(
    ("main", "other", "said"),
    [
        ("", "", "names zh, which languages"),
        ('languages = ["en", "zh"]', '[wrapper]\nkind = "chat"\nsystem = "x"', "no effect: wrapper, direct_"),
        ('languages = ["en", "zh"]', "[sampling]\nmax_new_tokens = 7", "no effect: sampling"),
        ('languages = ["en", "zh"]', "min_mass = 0.5", "no effect: min_mass"),
    ],
)
def test_translations_that_would_be_ignored_are_refused(
    main: str, other: str, said: str, tmp_path: Path
) -> None:
    own = 'extends = "general"\nmodel = "none"\n'
    (tmp_path / "zh.toml").write_text(f'{own}name = "z"\nlanguages = ["zh"]\n{other}\n')
    (tmp_path / "en.toml").write_text(f'{own}name = "e"\n{main}\n[translations]\nzh = "zh.toml"\n')
    with pytest.raises(ConfigError, match=said):
        load_spec(str(tmp_path / "en.toml"))
