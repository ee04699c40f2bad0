# SPDX-License-Identifier: Apache-2.0
"""Fuzzing with a time limit for each input, and with the rule that only our own errors are raised.

Bounded here; `AUTOJ_REWARD_FUZZ=20000 pytest tests/fuzz` runs each target that many times.
"""

from __future__ import annotations

import contextlib
import os
import signal
import tomllib
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from autoj_reward.engines.openai.messages import plain_text
from autoj_reward.errors import AutojRewardError
from autoj_reward.judge.generation import split_thinking
from autoj_reward.judge.guard.folding import fold, places
from autoj_reward.judge.guard.guard import Guard, GuardRunner
from autoj_reward.judge.messages.chat_markup import messages_of, without_end_tokens
from autoj_reward.judge.messages.text import completion_text, prompt_text
from autoj_reward.judge.parse import find_verdict
from autoj_reward.judge.presets import load_spec
from autoj_reward.judge.spec import parse_spec
from autoj_reward.reporting.escaping import shown
from autoj_reward.types import Segment

pytestmark = pytest.mark.slow

FUZZ = settings(
    max_examples=int(os.environ.get("AUTOJ_REWARD_FUZZ", "300")),
    suppress_health_check=list(HealthCheck),
)
SLOW = settings(FUZZ, phases=[Phase.explicit, Phase.reuse, Phase.generate])
"""A slow text is not made shorter: that would take as long again for each try."""
N_CHARS = 8_000
MOST_SECONDS = 1.0
"""CPU time for 8,000 characters: honest text takes some milliseconds. A text that takes longer is stopped."""

_PIECES = (
    "[[", "]]", "[", "(", "<", "<<", "<|", "|>", "### response", "## score", "rating", "Rating: [[", "score is ",
    "final decision is", "final", "response 1", "is ", "10", "1", "***\n", "[END DATA]\n", "@", "</s>", "<s>",
    "<|im_start|>user\n", "<|im_end|>", "[INST]", "[/INST]", "<think>", "</think>", "ignore ", "give ", "评分", "：",
    "the ", "\n", " ", "\t", "_", "*", "a", ".", "-", "=", "\u200b", "\u0301", "\ufdfa", "\ud800", "\U000e0041", "\ufe0f",
)  # fmt: skip
SPECS = [load_spec(name) for name in ("mini", "autoj-bilingual-6b", "general")]
GUARDS = [GuardRunner(Guard(), spec) for spec in SPECS]
SETS = [p.verdicts for spec in SPECS for p in (spec.rating, spec.comparison) if p is not None]

_OPENERS = ("[[", "Rating: [[", "<|", "(", "### response", "final decision is", "***\n")
_BLANKS = (" ", "\t", "\n")
pumped = st.builds(
    lambda before, body, after: before + body * (N_CHARS // len(body)) + after,
    st.one_of(st.sampled_from(_OPENERS), st.sampled_from(("", *_PIECES))),
    st.one_of(st.sampled_from(_BLANKS), st.sampled_from(("a", "1", "*")), st.sampled_from(_PIECES)),
    st.sampled_from(("", "x", "]]", "\n")),
)
"""A long run of one piece after another: half of the beginnings open something, a third of the runs are blank."""

TARGETS: dict[str, Callable[[str], object]] = {
    "guard": lambda text: [g.sanitize(text) for g in GUARDS],
    "parser": lambda text: [find_verdict(text, "stop", verdicts) for verdicts in SETS],
    "folding": lambda text: (fold(text), places(text)),
    "policy text": lambda text: (messages_of(text), without_end_tokens(text)),
    "thinking": lambda text: SPECS[0].thinking and split_thinking(text, SPECS[0].thinking),
    "server text": lambda text: plain_text((Segment("a", True), Segment(text))),
    "page": shown,
}


@contextlib.contextmanager
def stopped(text: str) -> Iterator[None]:
    """Stop the block, and fail, once it has taken `MOST_SECONDS` of CPU time. The `re` module can be stopped."""

    def stop(*_: object) -> None:
        raise AssertionError(
            f"over {MOST_SECONDS} s for {len(text)} characters: {text[:20]!r} ... {text[-5:]!r}"
        )

    former = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, MOST_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, former)


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_no_text_takes_long(target: Callable[[str], object]) -> None:
    @SLOW
    @given(text=pumped)
    def run(text: str) -> None:
        with stopped(text):
            target(text)

    run()


_values = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.just(10**400),
        st.just(float("inf")), st.just(float("nan")), st.just("("), st.just("(?P<verdict>a{99999999999})"),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=3)),
    max_leaves=6,
)  # fmt: skip


def _judge_file() -> dict[str, Any]:
    source = resources.files("autoj_reward.judge") / "templates" / "autoj-13b.toml"
    return tomllib.loads(source.read_text(encoding="utf-8"))


def _places(table: dict[str, Any], above: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = []
    for key, value in table.items():
        found.append((*above, key))
        found += _places(value, (*above, key)) if isinstance(value, dict) else []
    return found


_PLACES = [
    *_places(_judge_file()),
    ("extends",),
    ("rating", "scale", "high"),
    ("rating", "scale", "step"),
    ("thinking",),
]


@FUZZ
@given(place=st.sampled_from(_PLACES), value=_values)
def test_a_judges_file_with_anything_in_it_is_read_or_refused_by_an_error_of_ours(
    place: tuple[str, ...], value: Any
) -> None:
    source = _judge_file()
    table = source
    for key in place[:-1]:
        table = table.setdefault(key, {})
    table[place[-1]] = value
    try:
        spec = parse_spec(source, origin="fuzz.toml", folder=Path("/nonexistent"))
    except AutojRewardError:
        return
    except Exception as error:
        pytest.fail(f"{'.'.join(place)} = {value!r} ends in a traceback: {error!r}")
    GuardRunner(Guard(), spec).sanitize("Rating: [[10]]")


_message = st.dictionaries(
    st.sampled_from(["role", "content", "name", "tool_calls", "from", "value"]), _values, max_size=4
)


@FUZZ
@given(messages=st.lists(_message, max_size=3))
def test_messages_of_any_shape_become_text_or_an_error_of_ours(messages: list[dict[str, Any]]) -> None:
    for door in (prompt_text, completion_text):
        try:
            assert isinstance(door(messages), str)
        except AutojRewardError:
            continue
