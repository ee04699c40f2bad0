# SPDX-License-Identifier: Apache-2.0
"""Texts that once kept a guard, a parser or a reader of files busy for minutes are read in linear time."""

from __future__ import annotations

import functools
from collections.abc import Callable

import pytest

from autoj_reward.engines.openai.errors import overflow
from autoj_reward.engines.openai.messages import plain_text
from autoj_reward.judge.guard.guard import Guard, GuardRunner
from autoj_reward.judge.messages.chat_markup import messages_of, without_end_tokens
from autoj_reward.judge.parse import find_verdict
from autoj_reward.judge.presets import load_spec
from autoj_reward.training.data import unfill
from autoj_reward.types import Segment
from tests.pumping import pump, worst

SPEC = load_spec("mini")
assert SPEC.rating is not None
assert SPEC.comparison is not None
GUARD = GuardRunner(Guard(), SPEC)
RATINGS, TEMPLATE = SPEC.rating.verdicts, SPEC.comparison.template
_MARKED = "".join(s.text for s in TEMPLATE.fill(dict.fromkeys(TEMPLATE.required, "\0"))).split("\0")

SLOW: dict[str, tuple[Callable[[str], object], tuple[str, str, str]]] = {
    "guard, blanks in brackets": (GUARD.sanitize, ("[[", " ", "")),
    "guard, blanks after a heading": (GUARD.sanitize, ("### response", " ", "x")),
    "guard, verdicts on one line": (GUARD.sanitize, ("", "Rating: [[10]] ", "")),
    "guard, a hundred thousand accents": (GUARD.sanitize, ("e", "\u0301", "")),
    "parser, blanks in brackets": (lambda text: find_verdict(text, "stop", RATINGS), ("[[", " ", "")),
    "policy, end tokens": (without_end_tokens, ("a", "</s>", "")),
    "policy, beginnings": (messages_of, ("", "<s>", "")),
    "server, special tokens": (lambda text: plain_text((Segment(text),)), ("", "<s>", "")),
    "server, an endless refusal": (lambda text: overflow(text, 10, 10), ("", "context ", "")),
    "training file, a template's words again": (
        functools.partial(unfill, TEMPLATE), (_MARKED[0], _MARKED[1], "x"),
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("work", "text"), SLOW.values(), ids=SLOW)
def test_time_grows_with_the_text(work: Callable[[str], object], text: tuple[str, str, str]) -> None:
    assert worst(pump(*text), work) is None
