# SPDX-License-Identifier: Apache-2.0
"""No text keeps a regular expression busy: all of them are found in the syntax tree, and each is attacked.

Time is CPU time: at 8 times the length less than 16 times as long, or under 20 ms at 200,000 characters.
Besides the text written here for each, every repeat of every pattern is run on with what it takes.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable

import pytest

from autoj_reward.errors import ConfigError
from autoj_reward.judge.guard.imitations import imitations_of
from autoj_reward.judge.presets import load_spec, preset_names
from autoj_reward.judge.spec import JudgeSpec, parse_spec
from autoj_reward.judge.verdict import SCORE
from autoj_reward.judge.verdicts.bounded_regex import bounded
from tests.pumping import pump, sites, slow

HOSTILE: dict[str, list[tuple[str, str, str]]] = {
    "bounded_regex._PIECE": [("[", "\\a", ""), ("(?#", "a", ""), ("a{", "1", ""), ("", "[", ""), ("", "(?#", "")],
    "cache._number": [("1", "1", "!"), ("1.", "1", "!"), ("1", " ", "!")],
    "loading._SCALAR": [("", "a", ""), ("", "For", ""), ("", "Sequence", "")],
    "contrast._SENTENCE": [("", "a", ""), ("", ". ", "a"), ("a", ".", "a"), ("a.", " ", "a")],
    "critiques._CHOICE": [("", " ", "x"), ("", "\n", "D")],
    "degenerate._OPENINGS": [("", "ok ", "!?x"), ("let's solve", " the problem", "x"), ("", "解答", "x")],
    "dtype.cpu_dtype": [("flags", " ", "x"), ("", "flags\n", ""), ("", "\n", "")],
    "fingerprint._COMMIT": [("", "a", "g")],
    "file_hash._NOTE": [("", "a", "g"), ("a" * 64 + " ", "a", "g")],
    "folding._FOLDED": [("", "é", "a"), ("", "aé", "")],
    "formats._SCORE": [("", "1", ""), ("1.", "1", "")],
    "gold._CALCULATOR": [("", "<<", ""), ("<<", "a", ""), ("", "<<1+1=2>", "")],
    "guard._DIGITS": [("", "1", ""), ("a", "1", "b")],
    "guard._SMUGGLED": [("", "\ufe0f", "a"), ("\U0001f3f4", "\U000e0061", ""), ("", "\U0001f3f4\U000e0061", "")],
    "guard._SUSPECT": [("", "a", "\x00")],
    "guard._TOUCHING": [("", "[", " "), ("a", " ", "a"), ("", "a ", ""), ("[", " ", "[")],
    "imitations._lead_pattern": [("", "a", "["), ("", "1", "")],
    "imitations._mark_pattern": [("", "a", "["), ("", "[", "")],
    "imitations._mark_words": [("", "1", ""), ("", "a1", ""), ("", "[", "a")],
    "imitations._trusted_texts": [("{", "a", ""), ("", "{a", ""), ("", "{", "")],
    "imitations.marks": [("[", "a", ""), ("", "[a", ""), ("", "[", "]")],
    "state._CONTROL": [("\x1b[", "1", ""), ("", "\x1b[", ""), ("", "\x1b[1;", "")],
    "monitor._WORD": [("", "a", "_"), ("", "_", ""), ("", "的", "")],
    "parse._APOSTROPHE": [("", " '", ""), ("", "'", "a"), ("a", "'a", "")],
    "parse._CLOSING_APOSTROPHE": [("", "'a", ""), ("", "'", "a")],
    "parse._INTRODUCES": [("", "so ", "x"), ("so,", " ", "x"), ("", "the", "x")],
    "parse._SCALE": [("/", "1", "x"), ("", " out of", "x"), ("out", " ", "of"), ("of ", "the scale ", "x")],
    "parse._CLOSING": [("", " ", "a"), ("", "]*", "a")],
    "stated._NUMBER": [("", "1", "x"), ("1.", "1", "x")],
    "chat_markup._FAMILIES": [("<|im_start|>", "a", ""), ("", "<|im_start|>user\n", ""), ("<|im_start|>u\n", "<", "")],
    "chat_markup._FAMILIES#2": [("", "<|start_header_id|>", ""), ("<|start_header_id|>", "a", "")],
    "chat_markup._FAMILIES#3": [("", "<start_of_turn>", ""), ("<start_of_turn>u\n", "<end_of_turn", "")],
    "chat_markup._FAMILIES#4": [("", "<|user|>\n", ""), ("<|user|>\n", "<|end|", "")],
    "chat_markup._LLAMA2": [("[INST] ", "[/INST] ", "x"), ("<s>", " ", ""), ("[INST]", " ", "[/INST]x")],
    "readers._TAGGED": [("a", " ", ""), ("a", "[", ""), ("a", "[Principle] ", "x"), ("", " ", "")],
    "redact._ADDRESS": [("", "://", ""), ("", ":/", ""), ("://", "a", " ")],
    "redact._NAMED": [("", "password", ""), ("", "api_key = ", ""), ("password=", "a", ""), ("token", " ", "")],
    "redact._SCHEME": [("", "Bearer ", ""), ("Basic ", "a", "!"), ("", "Basic  a", "")],
    "redact._SECRET_NAME": [("", "_token", "s"), ("", "api_key", ""), ("", "_", "")],
    "redact._SHAPED": [("", "sk-", ""), ("sk-", "a", ""), ("", "sk-sk_", "")],
    "identity._DATED": [("", "-1", "x"), ("-preview", "-1234", "")],
    "errors._LIMIT": [("", "context ", ""), ("limit", " ", ""), ("", "1", ""), ("", "size size", "")],
    "errors._TOO_LONG": [("", "exceeds ", ""), ("exceed ", "a", ""), ("", "too ", "")],
    "errors.overflow": [("", "1", ""), ("", "12 cha ", "")],
    "messages._SPECIAL": [("", "<|", ""), ("<|", "a", ""), ("", "</", ""), ("", "[", "")],
    "messages._TOKEN_END": [("", "<", ""), ("", "[", "")],
    "small_copy._INDEXES": [("", "a", ""), ("", "_", ""), ("", "layer", "")],
    "small_copy._REACHES": [("", "a", ""), ("", "_", ""), ("", "window", "")],
    "template._PLACEHOLDER": [("{", "a", ""), ("{{", "a", "}"), ("", "{", ""), ("", "{{a}", "")],
    "tokenizer._LONE_SURROGATE": [("", "a", "\ud800"), ("", "\ud800", "")],
    "control_tokens._MARKUP": [("", "a", ""), ("", "-", "<")],
    "trl_trainer.trl_version": [("", "1", ""), ("", "1.", "")],
}  # fmt: skip
"""For each pattern that is written out, by file and name: (before, repeated, after)."""

AT_RUN_TIME: dict[str, list[tuple[str, str, str]]] = {
    "imitations._compiled": [
        ("### response", " ", "x"), ("[[", " ", ""), ("[[1", " ", "/x"), ("", "[[", ""), ("", "[end of the ", ""),
        ("", "<|", ""), ("", "rating ", ""), ("rating", " ", ""), ("rating is ", "(", ""), ("", "[", ""),
        ("answer 1 is ", "a ", ""), ("answer 1", " ", "is"), ("answer a is a", " ", "b"), ("", "* ", "x"),
        ("", "***\n", ""), ("", "ignore ", ""), ("", "give ", ""), ("", "this answer ", ""), ("", "the final ", ""),
        ("", ">", "x"), ("@@", " ", ""), ("", "@ ", ""), ("points", " ", ">"), ("", "points awarded ", ""),
    ],
    "verdict.compile_pattern": [
        ("[[", " ", ""), ("[[", "1", ""), ("", "[[", ""), ("", "[[1 ", ""), ("final decision is", " ", ""),
        ("", "final decision is ", ""), ("final", " ", ""), ("final decision is response", " ", ""),
        ("final decision is response 1", "1", "x"), ("最终决定是回应", "一", "x"), ("points", " ", ""), ("points", "a", ""),
    ],
}  # fmt: skip
"""For patterns that are made at run time, from templates and judges' files."""

FORMER = {
    "rating": (r"\[\[[ \t]*(?P<verdict>[^\[\]\n]{1,24}?)[ \t]*\]\]", ("[[", " ", "")),
    "heading": (r"^#{2,6}[ \t]*(?:instruction|response)s?[ \t]*\d?[ \t]*:", ("### response", " ", "")),
    "refusal": (r"context|exceeds? .*(?:length|size|tokens)|n_ctx", ("", "exceed ", "")),
    "calculator": (r"<<.*?>>", ("", "<<", "")),
    "sentence": (r"[^.!?\n]*[.!?\n]+\s*", ("", "a", "")),
    "brackets": (r"[\[({<]*\Z", ("", "[", "x")),
    "head": (r"[^\W\d_].*[^\w\s:.,]|[^\w\s:.,].*[^\W\d_]", ("", "a", "")),
}
"""Patterns as they were, and text that took seconds."""

ALL = {s.name: s for s in sites("autoj_reward", "integrations")}
WRITTEN = {name: s for name, s in ALL.items() if s.pattern is not None}


def mine(pattern: str) -> JudgeSpec:
    """A judge of one's own, with marks of its own and a careless pattern."""
    rating = {
        "template": "t",
        "text": "@@ task @@\n{prompt}\n*** candidate ***\n{completion}\n------\n[Stop] {{now}}\nPoints?",
        "verdict_prefix": "Points >> ",
        "pattern": pattern,
        "terminators": ["\n"],
    }
    return parse_spec({"name": "mine", "model": "m", "rating": rating}, origin="test")


@functools.cache
def made_at_run_time() -> dict[str, list[re.Pattern[str]]]:
    specs = [load_spec(name) for name in preset_names()]
    specs += [mine(r"points\s*(?:>>|are)?\s*(?P<verdict>\d+)\s*$"), mine(r"points.*?(?P<verdict>\d+)[^\n]*!")]
    found: dict[str, list[re.Pattern[str]]] = {
        "imitations._compiled": [],
        "verdict.compile_pattern": [re.compile(SCORE)],
    }
    for patterns in map(imitations_of, specs):
        sought = (*patterns.delimiters, *patterns.verdicts, *patterns.instructions, *patterns.heads)
        found["imitations._compiled"] += [s.pattern for s in sought]
        made = [p for v in patterns.stated for p in (v.pattern, v.scores) if p is not None]
        found["verdict.compile_pattern"] += made
    return {name: list({(p.pattern, p.flags): p for p in own}.values()) for name, own in found.items()}


def test_every_pattern_of_the_package_has_its_hostile_text() -> None:
    assert set(WRITTEN) == set(HOSTILE), "give each new pattern the text that would keep it busy longest"
    assert set(ALL) - set(WRITTEN) == set(AT_RUN_TIME)


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE)
def test_a_pattern_takes_no_more_time_than_its_text_is_long(name: str) -> None:
    site = WRITTEN[name]
    assert site.pattern is not None
    assert slow(site.pattern, site.methods, [pump(*own) for own in HOSTILE[name]]) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", AT_RUN_TIME)
def test_a_pattern_made_from_a_judge_takes_no_more_time_either(name: str) -> None:
    own = [pump(*parts) for parts in AT_RUN_TIME[name]]
    patterns = made_at_run_time()[name]
    assert len(patterns) > 5
    assert [line for p in patterns for line in slow(p, ["finditer"], own)] == []


@pytest.mark.slow
@pytest.mark.parametrize(("pattern", "text"), FORMER.values(), ids=FORMER)
def test_the_measure_finds_the_patterns_that_were_slow(pattern: str, text: tuple[str, str, str]) -> None:
    compiled = re.compile(pattern, re.MULTILINE)
    assert slow(compiled, ["finditer"], [pump(*text)], further=False)


@pytest.mark.slow
@pytest.mark.parametrize("pattern", [p for p, _ in FORMER.values()])
def test_a_pattern_of_ones_own_is_limited(pattern: str) -> None:
    """In a judge's file the same patterns are fast: each of their repeats has an end."""
    compiled = re.compile(bounded(pattern), re.MULTILINE)
    texts: list[Callable[[int], str]] = [pump(*text) for _, text in FORMER.values()]
    assert slow(compiled, ["finditer"], texts, further=False) == []


@pytest.mark.parametrize(
    ("given", "limited"),
    [
        (r"a*b+c{2,}d{,3}e{4}f?", r"a{0,64}b{1,64}c{2,66}d{0,3}e{4}f?"),
        (r"[*+\]]+?\*\+", r"[*+\]]{1,64}?\*\+"),
        (r"(?P<verdict>\d+(?:\.\d+)?)\s*+", r"(?P<verdict>\d{1,64}(?:\.\d{1,64})?)\s{0,64}+"),
        (r"a{x}(?#b*)", r"a{x}(?#b*)"),
    ],
)
def test_repeats_of_a_pattern_get_a_limit(given: str, limited: str) -> None:
    assert bounded(given) == limited
    re.compile(limited)


@pytest.mark.parametrize("pattern", [r"(?:a+)+", r"(?P<verdict>(?:\w*\s)*)", r"(a|b*){2,}"])
def test_a_pattern_that_no_limit_helps_is_refused(pattern: str) -> None:
    with pytest.raises(ConfigError, match="repeats at"):
        bounded(pattern)
