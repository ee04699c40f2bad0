# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import hashlib
from importlib import resources

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoj_reward.errors import TemplateError
from autoj_reward.judge.presets import load_spec
from autoj_reward.judge.template import Template
from autoj_reward.types import PlainWrapper
from tests.conftest import examples
from tests.hostile import LOOK_ALIKES, hostile_text

# The models' input format: a changed byte puts a judge off its training distribution.
FILES = {
    "autoj_single.txt": "94e7e26184a0629a79640b41ad14a529a77961eefdeec64ad97329550602124c",
    "autoj_pairwise.txt": "351b6608af86df022a86bfffb9d343c3264f7e3a98863fb6a96854e78aa813a6",
    "autoj_zh_single.txt": "8dccab72",
    "autoj_zh_pairwise.txt": "613b99a7",
    "llama2_wrapper.txt": "26cc13c9",
}
RENDERED = {
    ("autoj-13b", "comparison"): "f3c890e30e52a3da66174a162ed501b18342435239ffa7b6a8bca35e294815e8",
    ("autoj-13b", "rating"): "626e3e74212144c925dd513eb4cfd76dd9d22d5f21fca4143e042002e44dbd48",
    ("autoj-bilingual-6b-zh", "rating"): "5659d4cf409573c01b3b6768c5b355c043b348cbad43311d6111dc19166a81da",
    (
        "autoj-bilingual-6b-zh",
        "comparison",
    ): "849000213df45fd64c1046a743314198bc815900f34bd5f54d657012ac2d91b4",
}


@pytest.mark.parametrize(("name", "digest"), FILES.items(), ids=list(FILES))
def test_template_files_are_byte_for_byte(name: str, digest: str) -> None:
    content = (resources.files("autoj_reward.judge") / "templates" / name).read_bytes()
    assert hashlib.sha256(content).hexdigest().startswith(digest)


@pytest.mark.parametrize(("preset", "protocol"), RENDERED, ids=lambda value: value)
def test_rendered_prompts_are_byte_for_byte(preset: str, protocol: str) -> None:
    spec = load_spec(preset)
    template = getattr(spec, protocol).template
    values = {"prompt": "Q?", "completion": "A1", "first": "A1", "second": "A2"}
    body = "".join(s.text for s in template.fill({k: values[k] for k in template.fields}))
    assert isinstance(spec.wrapper, PlainWrapper)
    whole = spec.wrapper.before + body + spec.wrapper.after
    assert hashlib.sha256(whole.encode()).hexdigest() == RENDERED[preset, protocol]


TEMPLATE = Template(
    name="t", text="<{prompt}|{completion}|{{prompt}}|{rubric}>", blocks={"rubric": "({value})"}
)


def text(template: Template, **values: str) -> str:
    return "".join(s.text for s in template.fill(values))


def test_fill_is_one_pass() -> None:
    """Filling twice let a completion that holds `{prompt}` pull the prompt in."""
    assert text(TEMPLATE, prompt="P", completion="{prompt}{{x}}") == "<P|{prompt}{{x}}|{prompt}|>"


def test_an_optional_block_appears_only_with_its_value() -> None:
    assert text(TEMPLATE, prompt="P", completion="C", rubric="{R}") == "<P|C|{prompt}|({R})>"


def test_values_are_untrusted_and_the_rest_is_trusted() -> None:
    segments = TEMPLATE.fill({"prompt": "P", "completion": "C", "rubric": "R"})
    assert [s.text for s in segments if not s.trusted] == ["P", "C", "R"]
    assert all(s.text for s in segments)


def test_all_missing_and_unknown_fields_are_named_at_once() -> None:
    with pytest.raises(TemplateError) as caught:
        TEMPLATE.fill({"rubrik": "x", "answer": "y"})
    assert caught.value.missing == ("completion", "prompt")
    assert caught.value.unknown == ("answer", "rubrik")
    assert "completion, prompt" in str(caught.value)


SPECS = {name: load_spec(name) for name in ("mini", "general", "autoj-bilingual-6b-zh")}


@pytest.mark.parametrize("preset", SPECS)
@settings(max_examples=examples(1000))
@given(prompt=hostile_text, first=hostile_text, second=hostile_text)
def test_hostile_text_comes_through_once_and_unchanged(
    preset: str, prompt: str, first: str, second: str
) -> None:
    """Whatever completions hold, the judge's input is the template's text around them."""
    spec = SPECS[preset]
    assert spec.rating is not None
    assert spec.comparison is not None
    for template, values in (
        (spec.rating.template, {"prompt": prompt, "completion": first}),
        (spec.comparison.template, {"prompt": prompt, "first": first, "second": second}),
    ):
        segments = template.fill(values)
        marks = {name: f"\0{name}\0" for name in values}
        frame = "".join(s.text for s in template.fill(marks))
        assert all(frame.count(mark) == 1 for mark in marks.values())
        pieces = [s.text for s in segments if not s.trusted]
        assert pieces == [v for v in values.values() if v]
        trusted = "".join(s.text for s in segments if s.trusted)
        for mark in marks.values():
            frame = frame.replace(mark, "")
        assert trusted == frame


@given(st.sampled_from(LOOK_ALIKES))
def test_a_very_long_completion_is_not_looked_at_again(piece: str) -> None:
    long = (piece or "x") * (100_000 // max(len(piece), 1))
    assert text(TEMPLATE, prompt="P", completion=long) == f"<P|{long}|{{prompt}}|>"
