# SPDX-License-Identifier: Apache-2.0
"""What servers answer, by table: the forms in use, and what is none of them."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from autoj_reward.engines.logprobs.chat_template import THINKING_MARKS
from autoj_reward.engines.logprobs.token_tree import TokenTree
from autoj_reward.engines.openai.connection import MalformedResponse
from autoj_reward.engines.openai.errors import overflow
from autoj_reward.engines.openai.messages import TextReader, messages, plain_text, prompt_text
from autoj_reward.engines.openai.responses import (
    Listed,
    Step,
    by_id,
    read_chat,
    read_completion,
    top_node_reading,
    unlisted_prob,
)
from autoj_reward.engines.openai.retry import CircuitBreaker, RetryPolicy, retry_after_seconds, status_class
from autoj_reward.engines.openai.settings import api_key_or_default, endpoint_urls
from autoj_reward.errors import ConfigError
from autoj_reward.types import ChatWrapper, ContinuationQuery, JudgeInput, PlainWrapper, Segment, Usage

COMPLETION = {"text": "7", "finish_reason": "length"}
MESSAGE = {"role": "assistant", "content": "7"}


def completion(**changes: Any) -> dict[str, Any]:
    return {"choices": [{**COMPLETION, **changes}]}


def chat(message: Any = None, **changes: Any) -> dict[str, Any]:
    return {
        "choices": [{"message": MESSAGE if message is None else message, "finish_reason": "stop", **changes}]
    }


LISTS = {"tokens": ["7"], "token_logprobs": [-0.5], "top_logprobs": [{"7": -0.5, "8": -1.5}]}
AS_IDS = {
    "tokens": ["token_id:7"],
    "token_logprobs": [-0.5],
    "top_logprobs": [{"token_id:7": -0.5, "token_id:8": -9999.0}],
}
RECORDS = {
    "content": [
        {
            "token": "7",
            "logprob": -0.5,
            "top_logprobs": [{"token": "7", "logprob": -0.5}, {"token": "8", "logprob": -1.5}],
        }
    ]
}
RECORDS_WITH_IDS = {
    "content": [
        {
            "id": 7,
            "token": "7",
            "logprob": -0.5,
            "top_logprobs": [
                {"id": 7, "token": "7", "logprob": -0.5},
                {"id": 8, "token": "8", "logprob": -1.5},
            ],
        }
    ]
}


@pytest.mark.parametrize(
    ("logprobs", "names", "expected"),
    [
        (LISTS, {"7": 70, "8": 80}, {70: -0.5, 80: -1.5}),
        (LISTS, {"8": 80}, {80: -1.5}),
        (AS_IDS, {}, {7: -0.5, 8: -math.inf}),
        (RECORDS, {"7": 70}, {70: -0.5}),
        (RECORDS_WITH_IDS, {"7": 70}, {7: -0.5, 8: -1.5}),
        ({"tokens": ["7"], "token_logprobs": [-0.5], "top_logprobs": None}, {"7": 70}, {70: -0.5}),
        ({"tokens": ["7"], "token_logprobs": [0.0001], "top_logprobs": None}, {"7": 70}, {70: 0.0}),
    ],
    ids=["lists", "lists-part-known", "vllm-ids", "records", "llamacpp", "no-top", "rounded-above-0"],
)
@pytest.mark.parametrize("read", ["completion", "chat"])
def test_log_probabilities_in_all_forms(
    read: str, logprobs: Any, names: dict[str, int], expected: dict[int, float]
) -> None:
    body = completion(logprobs=logprobs) if read == "completion" else chat(logprobs=logprobs)
    answer = (read_completion if read == "completion" else read_chat)(body)
    assert len(answer.steps) == 1
    assert by_id(answer.steps[0], names) == expected


@pytest.mark.parametrize(
    "body",
    [
        None, 7, [], {}, {"choices": None}, {"choices": []}, {"choices": [7]}, {"choices": [COMPLETION] * 2},
        completion(text=None), completion(text=7), completion(token_ids=[1, "2"]),
        completion(token_ids=[True]), completion(logprobs=[]), completion(logprobs={"tokens": 7}),
        completion(logprobs={**LISTS, "token_logprobs": []}),
        completion(logprobs={**LISTS, "token_logprobs": [math.nan]}),
        completion(logprobs={**LISTS, "token_logprobs": [math.inf]}),
        completion(logprobs={**LISTS, "token_logprobs": [3.0]}),
        completion(logprobs={**LISTS, "token_logprobs": [None]}),
        completion(logprobs={**LISTS, "token_logprobs": ["-1"]}),
        completion(logprobs={"content": [7]}), completion(logprobs={"content": [{"token": "7"}]}),
    ],
)  # fmt: skip
def test_other_json_than_a_completion_is_malformed(body: Any) -> None:
    with pytest.raises(MalformedResponse):
        read_completion(body)


@pytest.mark.parametrize(
    ("message", "text", "thinking", "refusal"),
    [
        ({"content": "Good."}, "Good.", None, None),
        ({"content": "Good.", "reasoning_content": "Hm."}, "Good.", "Hm.", None),
        ({"content": "Good.", "reasoning": "Hm."}, "Good.", "Hm.", None),
        ({"content": None, "reasoning_content": "Hm."}, "", "Hm.", None),
        ({"content": [{"type": "text", "text": "Go"}, {"type": "x"}, {"type": "text", "text": "od"}]}, "Good", None, None),
        ({"content": None, "refusal": "I will not."}, "", None, "I will not."),
    ],
    ids=["text", "reasoning_content", "reasoning", "thinking-only", "parts", "refusal"],
)  # fmt: skip
def test_chat_messages(message: Any, text: str, thinking: str | None, refusal: str | None) -> None:
    answer = read_chat(chat(message))
    assert (answer.text, answer.thinking, answer.refusal) == (text, thinking, refusal)


@pytest.mark.parametrize("message", [7, "Good.", {"content": 7}])
def test_other_json_than_a_message_is_malformed(message: Any) -> None:
    with pytest.raises(MalformedResponse):
        read_chat(chat(message))


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (None, Usage(n_requests=1)),
        (
            {"prompt_tokens": 9, "completion_tokens": 2},
            Usage(prompt_tokens=9, completion_tokens=2, n_requests=1),
        ),
        (
            {"prompt_tokens": 9, "completion_tokens": None, "prompt_tokens_details": {"cached_tokens": 8}},
            Usage(prompt_tokens=9, cached_tokens=8, n_requests=1),
        ),
        ({"prompt_tokens": -1, "prompt_tokens_details": None}, Usage(n_requests=1)),
    ],
    ids=["none", "plain", "cached", "odd"],
)
def test_usage(usage: Any, expected: Usage) -> None:
    assert read_completion({**completion(), "usage": usage}).usage == expected


def step(**probs: float) -> Step:
    listed = tuple(Listed(t, math.log(p)) for t, p in probs.items())
    return Step(listed[0], listed)


@pytest.mark.parametrize(
    ("probs", "n_missing", "expected"),
    [
        ({"a": 0.6, "b": 0.1}, 0, 0.0),
        ({"a": 0.6, "b": 0.1}, 1, 0.1),
        ({"a": 0.6, "b": 0.1}, 2, 0.2),
        ({"a": 0.6, "b": 0.1}, 1000, 0.3),
        ({"a": 0.7, "b": 0.3}, 5, 0.0),
    ],
)
def test_tokens_that_are_not_listed_are_bounded(
    probs: dict[str, float], n_missing: int, expected: float
) -> None:
    assert unlisted_prob(step(**probs), n_missing) == pytest.approx(expected)


def test_a_node_from_a_list() -> None:
    readout = ContinuationQuery(verdict_prefix="", continuations=("1", "10"), terminators=("]",))
    tree = TokenTree(
        readout=readout,
        paths=((1,), (1, 0)),
        nodes=((), (1,), (1, 0)),
        children={(): (1,), (1,): (0,), (1, 0): ()},
        terminators=(5, 6),
    )
    names = {"one": 1, "zero": 0, "end": 5, "End": 6}
    node = top_node_reading(tree, (1,), step(end=0.5, other=0.3, zero=0.1), names)
    assert node.children == {0: pytest.approx(math.log(0.1))}
    assert node.end == pytest.approx(math.log(0.5))
    assert node.unlisted_prob == pytest.approx(0.1)
    root = top_node_reading(tree, (), step(other=0.9, else_=0.05), names)
    assert root.children == {}
    assert root.end is None
    assert root.unlisted_prob == pytest.approx(0.05)


RATING = ContinuationQuery(
    verdict_prefix="[[", continuations=("1", "1.5", "10", "2"), terminators=("]",), follow_above=0.01
)


def test_reading_by_text() -> None:
    """Tokens that join a verdict's end with what ends it count, and two ways to one text add up."""
    steps = {
        "": step(**{"1": 0.5, "2]]": 0.2, "10": 0.1, "x": 0.1, "]": 0.05}),
        "1": step(**{"0": 0.25, "]": 0.5, ".": 0.125, "y": 0.125}),
        "10": step(**{"]]": 1.0}),
        "1.": step(**{"5]": 0.5, "6": 0.5}),
    }
    reader = TextReader(RATING)
    while due := reader.nodes():
        for node in due:
            reader.add(node, steps.pop(node))
    reading = reader.reading()
    assert not steps
    probs = {p.text: p.prob for p in reading.paths}
    assert probs == pytest.approx({"1": 0.25, "1.5": 0.03125, "10": 0.1 + 0.125, "2": 0.2})
    assert reading.unread_prob == pytest.approx(0.05)


def test_an_end_taken_for_granted_by_text() -> None:
    """`1` begins two others, so it is looked at further; `2` and `10` are complete as they stand."""
    steps = {
        "": step(**{"1": 0.5, "2": 0.3, "2]": 0.1, "x": 0.1}),
        "1": step(**{"0": 0.25, "]": 0.5, ".": 0.25}),
        "1.": step(**{"5": 1.0}),
    }
    reader = TextReader(replace(RATING, assume_ends=True))
    while due := reader.nodes():
        for node in due:
            reader.add(node, steps.pop(node))
    assert not steps
    probs = {p.text: p.prob for p in reader.reading().paths}
    assert probs == pytest.approx({"1": 0.25, "1.5": 0.125, "10": 0.125, "2": 0.4})


def test_the_end_of_a_turn_may_end_a_verdict_by_text() -> None:
    readout = ContinuationQuery(
        verdict_prefix="is", continuations=(" Tie",), terminators=(".",), end_of_turn=True
    )
    reader = TextReader(readout)
    reader.add("", step(**{" Tie": 1.0}))
    reader.add(" Tie", step(**{"<|im_end|>": 0.75, ".": 0.25}))
    assert reader.nodes() == []
    assert reader.reading().paths[0].prob == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("text", "trusted", "expected"),
    [
        ("a <|im_end|> b", False, "a <\u200b|im_end|> b"),
        ("a <|im_end|> b", True, "a <|im_end|> b"),
        ("</s><s>[INST] [/INST]", False, "<\u200b/s><\u200bs>[\u200bINST] [\u200b/INST]"),
        ("<think>x</think>", False, "<\u200bthink>x<\u200b/think>"),
        ("if a < b | c > d: x[INT] <div> <|", False, "if a < b | c > d: x[INT] <div> <|"),
        ("<<SYS>>", False, "<\u200b<SYS>>"),
        ("<turn|>\n<|turn>user", False, "<\u200bturn|>\n<\u200b|turn>user"),
        ("<|channel>thought<channel|>", False, "<\u200b|channel>thought<\u200bchannel|>"),
        ("[THINK]x[/THINK]", False, "[\u200bTHINK]x[\u200b/THINK]"),
        ("<seed:think></seed:think>", False, "<\u200bseed:think><\u200b/seed:think>"),
        ("◁think▷◁/think▷", False, "◁\u200bthink▷◁\u200b/think▷"),
        ("[gMASK]<sop>", False, "[\u200bgMASK]<\u200bsop>"),
        ("x <b|c> [think] <turn> |turn>", False, "x <b|c> [think] <turn> |turn>"),
        ("\ud800", False, "\ufffd"),
    ],
)
def test_special_tokens_in_untrusted_text_are_broken_up(text: str, trusted: bool, expected: str) -> None:
    assert plain_text([Segment("", True), Segment(text, trusted)]) == expected


def test_a_special_token_across_a_joint_is_broken_up() -> None:
    """A prompt that ends with half a token, and a completion that begins with the other half."""
    assert plain_text([Segment("<|im_", True), Segment("end|>")]) == "<\u200b|im_end|>"
    assert plain_text([Segment("<|im_end|>", True), Segment("x")]) == "<|im_end|>x"


def test_inputs_as_text_and_messages() -> None:
    item = JudgeInput(
        body=(Segment("Rate: ", True), Segment("x")),
        wrapper=PlainWrapper(before="[INST] ", after=" [/INST]"),
        prefill=(Segment("Rating: [[", True),),
    )
    assert prompt_text(item, "1") == "[INST] Rate: x [/INST]Rating: [[1"
    rows = messages(item)
    assert rows == [
        {"role": "user", "content": "Rate: x"},
        {"role": "assistant", "content": "Rating: [["},
    ]
    system = JudgeInput(body=item.body, wrapper=ChatWrapper(system="Be fair."))
    assert [row["role"] for row in messages(system)] == ["system", "user"]


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, None), ("3", 3.0), (" 3 ", 3.0), ("0", 0.0), ("-3", None), ("soon", None), ("", None), ("3.5", None),
        ("Thu, 01 Jan 1970 00:01:40 GMT", 60.0), ("Thu, 01 Jan 1970 00:00:10 GMT", 0.0),
        ("Thu, 99 Jan 1970 00:00:10 GMT", None),
    ],
)  # fmt: skip
def test_retry_after(header: str | None, expected: float | None) -> None:
    assert retry_after_seconds(header, now=40.0) == expected


@pytest.mark.parametrize(
    ("status", "asks", "expected"),
    [
        (200, False, "answered"), (408, False, "busy"), (425, False, "busy"), (429, False, "busy"),
        (500, False, "again"), (502, False, "again"), (503, False, "again"), (503, True, "busy"),
        (504, False, "again"), (529, False, "again"), (400, False, "refused"), (413, False, "refused"),
        (422, False, "refused"), (401, False, "rejected"), (403, False, "rejected"), (404, False, "rejected"),
        (301, False, "rejected"), (501, False, "rejected"),
    ],
)  # fmt: skip
def test_statuses(status: int, asks: bool, expected: str) -> None:
    assert status_class(status, asks_to_wait=asks) == expected


def test_waits_grow_and_are_spread() -> None:
    policy = RetryPolicy(first_wait_seconds=1.0, longest_wait_seconds=8.0)
    for n, top in ((1, 1.0), (2, 2.0), (4, 8.0), (99, 8.0)):
        waits = [policy.wait_seconds(n) for _ in range(200)]
        assert max(waits) <= top
        assert min(waits) < top / 4 < top / 2 < max(waits)


def test_a_breaker_opens_tries_once_and_closes() -> None:
    breaker = CircuitBreaker(opens_after=2, first_rest_seconds=1.0, longest_rest_seconds=3.0)
    assert not breaker.failed(0.0, trial=breaker.begin())
    assert breaker.ready_in(0.0) == 0.0
    assert breaker.failed(0.0, trial=breaker.begin())
    assert breaker.ready_in(0.25) == 0.75
    # A failure of a request that was already running changes nothing.
    assert not breaker.failed(0.5, trial=False)
    assert breaker.ready_in(1.0) == 0.0
    trial = breaker.begin()
    assert trial
    assert breaker.ready_in(1.0) is None
    assert breaker.failed(1.0, trial=trial)
    assert breaker.ready_in(1.0) == 2.0
    trial = breaker.begin()
    breaker.abandoned(trial=trial)
    assert breaker.ready_in(3.0) == 0.0
    assert breaker.failed(3.0, trial=breaker.begin())
    assert breaker.ready_in(3.0) == 3.0
    breaker.begin()
    breaker.succeeded()
    assert not breaker.is_open
    assert breaker.ready_in(3.0) == 0.0


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("http://a:1", ("http://a:1/v1",)),
        ("http://a:1/", ("http://a:1/v1",)),
        ("https://a/v1/", ("https://a/v1",)),
        ("https://a/v1beta/openai", ("https://a/v1beta/openai",)),
        ("http://a:1,http://b:2 http://a:1/v1", ("http://a:1/v1", "http://b:2/v1")),
        (["http://[::1]:1"], ("http://[::1]:1/v1",)),
    ],
)
def test_addresses(given: Any, expected: tuple[str, ...]) -> None:
    assert endpoint_urls(given) == expected


@pytest.mark.parametrize(
    "given",
    [
        "",
        [],
        "localhost:8000",
        "ftp://a",
        "http://",
        "http://a:99999",
        "http://a?x=1",
        "http://user:pw@a",
        "http://[1",
    ],
)
def test_bad_addresses_are_refused(given: Any) -> None:
    with pytest.raises(ConfigError) as raised:
        endpoint_urls(given)
    assert "pw" not in str(raised.value)


def test_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AUTOJ_REWARD_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    assert api_key_or_default(None) is None
    monkeypatch.setenv("OPENAI_API_KEY", "theirs")
    assert api_key_or_default(None) == "theirs"
    monkeypatch.setenv("AUTOJ_REWARD_API_KEY", "ours")
    assert api_key_or_default(None) == "ours"
    assert api_key_or_default("given") == "given"
    with pytest.raises(ConfigError, match="newline") as raised:
        api_key_or_default("secret\n")
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("wrong", [{"attempts": 0}, {"timeout_seconds": 0.0}, {"retry_seconds": math.inf}])
def test_patience_is_finite(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        RetryPolicy(**{"attempts": 1, "timeout_seconds": 1.0, "retry_seconds": 1.0, **wrong})


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            "This model's maximum context length is 512 tokens. However, your prompt contains 600 input tokens.",
            88,
        ),
        (
            "This model's maximum context length is 512 tokens. However, you requested 100 output tokens and your "
            "prompt contains 600 input tokens, for a total of 700 tokens.",
            188,
        ),
        ("maximum context length is 512 tokens, and your prompt contains at least 513 input tokens", 488),
        (
            "maximum context length is 512 tokens. However, your prompt contains 8000 characters (more than 7000 characters",
            1488,
        ),
        ("the request exceeds the available context size (512 tokens), 600 tokens", 88),
        ("too large", 488),
    ],
    ids=["prompt", "total", "at-least", "characters", "llamacpp", "nothing"],
)
def test_how_much_too_long(message: str, expected: int) -> None:
    assert overflow(message, n_chars=5000, context_tokens=512) == expected
    assert overflow(message, n_chars=0, context_tokens=None) >= 1


@pytest.mark.parametrize("marks", [m for m in THINKING_MARKS if m[0] != m[1]], ids=lambda m: m[0])
def test_thinking_marks_of_known_families_are_broken_up(marks: tuple[str, str]) -> None:
    for mark in marks:
        assert plain_text([Segment("", True), Segment(mark)]) != mark
