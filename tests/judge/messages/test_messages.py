# SPDX-License-Identifier: Apache-2.0
"""Chat messages of every common shape, as the judge is shown them; by what reaches the engine."""

from __future__ import annotations

from typing import Any

import pytest

from autoj_reward import ConfigError, Judge
from tests.quality import QualityEngine


def shown(prompt: Any, completion: Any, **settings: Any) -> tuple[str, ...]:
    """Prompt and completion as they reach the engine."""
    engine = QualityEngine()
    Judge.load("mini", mode="direct", engine=engine, **settings).rate([prompt], [completion])
    (texts,) = engine.asked
    return texts


def call(name: str, arguments: Any, **further: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "arguments": arguments}, **further}


def said(*tool_calls: Any, content: Any = None, **further: Any) -> list[dict[str, Any]]:
    return [{"role": "assistant", "content": content, "tool_calls": list(tool_calls), **further}]


ADDS = '[calls add({"a": 6})]'

COMPLETIONS: dict[str, tuple[Any, str]] = {
    "a text": ("13", "13"),
    "one message": ([{"role": "assistant", "content": "13"}], "13"),
    "a message that is not in a list": ({"role": "assistant", "content": "13"}, "13"),
    "messages in an object": ({"messages": [{"role": "assistant", "content": "13"}]}, "13"),
    "a call and no content": (said(call("add", {"a": 6})), ADDS),
    "a call with arguments in JSON text": (said(call("add", '{"a":6}')), ADDS),
    "a call with arguments that are no JSON": (said(call("add", "{a:6")), "[calls add({a:6)]"),
    "a call with a key that is there twice": (said(call("add", '{"a":1,"a":2}')), '[calls add({"a":1,"a":2})]'),
    "a call without arguments": (said(call("now", None)), "[calls now()]"),
    "a call beside words": (said(call("add", {"a": 6}), content="Let me see."), f"Let me see.\n{ADDS}"),
    "calls side by side": (
        [
            *said(call("add", {"a": 6}, id="x"), call("add", {"a": 7}, id="y")),
            {"role": "tool", "tool_call_id": "y", "content": "8"},
            {"role": "tool", "tool_call_id": "x", "content": "7"},
        ],
        'Assistant: [calls add({"a": 6}) #1]\n[calls add({"a": 7}) #2]\n\nTool (add #2): 8\n\nTool (add #1): 7',
    ),
    "the former function_call": (
        [{"role": "assistant", "content": None, "function_call": {"name": "add", "arguments": '{"a": 6}'}},
         {"role": "function", "name": "add", "content": "13"}],
        f"Assistant: {ADDS}\n\nTool (add): 13",
    ),
    "a refusal": ([{"role": "assistant", "content": None, "refusal": "I must not."}], "I must not."),
    "a refusal as a part": (
        [{"role": "assistant", "content": [{"type": "refusal", "refusal": "I must not."}]}], "I must not."
    ),
    "speech with its words": (
        [{"role": "assistant", "content": None, "audio": {"id": "a", "transcript": "Hello."}}], "Hello."
    ),
    "parts of text": (
        [{"role": "assistant", "content": [{"type": "output_text", "text": "1"}, "3"]}], "13"
    ),
    "content of white space": ([{"role": "assistant", "content": " \n"}], " \n"),
    "a name": ([{"role": "assistant", "content": "13", "name": "Ada"}], "Assistant (Ada): 13"),
    "several turns": (
        [*said(call("add", {"a": 6}, id="x")), {"role": "tool", "content": "13", "tool_call_id": "x"},
         {"role": "assistant", "content": "It is 13."}],
        f"Assistant: {ADDS}\n\nTool (add): 13\n\nAssistant: It is 13.",
    ),
    "ShareGPT": ([{"from": "gpt", "value": "13"}], "13"),
    "ShareGPT's calls": (
        [{"from": "function_call", "value": '{"name": "add", "arguments": {"a": 6}}'},
         {"from": "observation", "value": "13"}, {"from": "gpt", "value": "It is 13."}],
        f"Assistant: {ADDS}\n\nTool: 13\n\nAssistant: It is 13.",
    ),
    "Anthropic": (
        [{"role": "assistant", "content": [
            {"type": "thinking", "thinking": "hm", "signature": "s"}, {"type": "text", "text": "Let me see."},
            {"type": "tool_use", "id": "x", "name": "add", "input": {"a": 6}}]},
         {"role": "user", "content": [
             {"type": "tool_result", "tool_use_id": "x", "content": [{"type": "text", "text": "13"}]},
             {"type": "text", "text": "So?"}]},
         {"role": "assistant", "content": "It is 13."}],
        f"Assistant: Let me see.\n{ADDS}\n\nTool (add): 13\n\nUser: So?\n\nAssistant: It is 13.",
    ),
    "Gemini": (
        [{"role": "model", "parts": [{"text": "hm", "thought": True}, {"functionCall": {"name": "add", "args": {"a": 6}}}]},
         {"role": "user", "parts": [{"functionResponse": {"name": "add", "response": {"sum": 13}}}]},
         {"role": "model", "parts": [{"text": "It is 13."}]}],
        f'Assistant: {ADDS}\n\nTool (add): {{"sum": 13}}\n\nAssistant: It is 13.',
    ),
    "items of OpenAI's responses": (
        [{"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]},
         {"type": "function_call", "name": "add", "arguments": '{"a": 6}', "call_id": "x"},
         {"type": "function_call_output", "call_id": "x", "output": "13"},
         {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "It is 13."}]}],
        f"Assistant: {ADDS}\n\nTool (add): 13\n\nAssistant: It is 13.",
    ),
    "reasoning beside the answer": (
        [{"role": "assistant", "content": "13", "reasoning_content": "6 + 7", "reasoning": "6 + 7"}], "13"
    ),
    "null in the place of fields": (
        [{"role": "assistant", "content": "13", "tool_calls": None, "name": None, "reasoning": None}], "13"
    ),
    "notes beside the message": ([{"role": "assistant", "content": "13", "weight": 1, "id": "m"}], "13"),
}  # fmt: skip


@pytest.mark.parametrize(("completion", "text"), COMPLETIONS.values(), ids=COMPLETIONS)
def test_completions(completion: Any, text: str) -> None:
    assert shown("Q", completion) == ("Q", text)


PROMPTS: dict[str, tuple[Any, str]] = {
    "one user": ([{"role": "user", "content": "Q"}], "Q"),
    "one user with a name": ([{"role": "user", "content": "Q", "name": "Ada"}], "User (Ada): Q"),
    "a developer": (
        [{"role": "developer", "content": "D"}, {"role": "user", "content": "Q"}], "Developer: D\n\nUser: Q"
    ),
    "a role of one's own": (
        [{"role": "critic", "content": "C"}, {"role": "user", "content": "Q"}], "critic: C\n\nUser: Q"
    ),
    "ShareGPT": ([{"from": "system", "value": "S"}, {"from": "human", "value": "Q"}], "System: S\n\nUser: Q"),
    "ShareGPT, one": ([{"from": "human", "value": "Q"}], "Q"),
    "a call in the history": (
        [{"role": "user", "content": "P"}, *said(call("add", {"a": 6})), {"role": "user", "content": "Q"}],
        f"User: P\n\nAssistant: {ADDS}\n\nUser: Q",
    ),
    "a system beside the messages": (
        {"system": "S", "messages": [{"role": "user", "content": "Q"}]}, "System: S\n\nUser: Q"
    ),
    "reasoning in the history": (
        [{"role": "user", "content": "P"}, {"role": "assistant", "content": "<think>hm</think>A"},
         {"role": "user", "content": "Q"}],
        "User: P\n\nAssistant: A\n\nUser: Q",
    ),
    "a text is never touched": ("<think>hm</think>Q", "<think>hm</think>Q"),
}  # fmt: skip


@pytest.mark.parametrize(("prompt", "text"), PROMPTS.values(), ids=PROMPTS)
def test_prompts(prompt: Any, text: str) -> None:
    assert shown(prompt, "13") == (text, "13")


REFUSED: dict[str, tuple[Any, str]] = {
    "null": (None, "completion: must be a text or a list of chat messages, is null"),
    "a number": (13, "is a number"),
    "bytes": (b"13", "is bytes"),
    "no messages": ([], "is an empty list"),
    "a list of texts": (["13"], r"messages\[0\] must be an object with role and content, is a text"),
    "no role": ([{"content": "13"}], r"messages\[0\] has no role; it has 'content'"),
    "no content": ([{"role": "assistant", "text": "13"}], r"messages\[0\] has no content; it has 'role', 'text'"),
    "two contents": ([{"role": "assistant", "content": "1", "value": "3"}], "both content and value"),
    "two speakers": ([{"role": "assistant", "from": "human", "value": "3"}], "two speakers"),
    "content in bytes": ([{"role": "assistant", "content": b"13"}], r"messages\[0\].content .* is bytes"),
    "content that is a number": ([{"role": "assistant", "content": 13}], r"messages\[0\].content .* a number"),
    "a picture": (
        [{"role": "assistant", "content": [{"type": "text", "text": "Look:"}, {"type": "image_url", "image_url": {}}]}],
        r"messages\[0\].content\[1\] is a part of type 'image_url'",
    ),
    "Gemini's picture": (
        [{"role": "model", "parts": [{"inlineData": {}}]}], r"messages\[0\].parts\[0\] is a part without a type"
    ),
    "speech without words": ([{"role": "assistant", "content": None, "audio": {"id": "a"}}], "without a transcript"),
    "a picture among a tool's results": (
        [{"role": "assistant", "content": ""}, {"role": "tool", "content": [{"type": "image"}]}],
        r"messages\[1\].content\[0\] is a part of type 'image'",
    ),
    "a call without a name": (said({"function": {"arguments": "{}"}}), r"tool_calls\[0\] has no name"),
    "a refusal that is no text": ([{"role": "assistant", "content": "", "refusal": 1}], "refusal must be a text"),
    "no assistant": ([{"role": "user", "content": "13"}], "no assistant message"),
    "fields beside the messages": ({"messages": [{"role": "assistant", "content": "1"}], "tools": []}, "'tools' beside"),
}  # fmt: skip


@pytest.mark.parametrize(("completion", "problem"), REFUSED.values(), ids=REFUSED)
def test_messages_that_cannot_be_shown_are_refused_with_their_place(completion: Any, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        shown("Q", completion)


@pytest.mark.parametrize(
    "completion",
    [
        [{"role": "assistant", "content": None}],
        [{"role": "assistant", "content": []}],
        [{"role": "assistant", "content": "<think>6 + 7"}],
        [{"role": "assistant", "content": "", "reasoning": "6 + 7"}],
        "<think>6 + 7",
    ],
)
def test_a_policy_that_only_thought_has_answered_nothing(completion: Any) -> None:
    judge = Judge.load("mini", mode="direct", engine=QualityEngine(), guard=True)
    (judgment,) = judge.rate(["Q"], [completion])
    assert judgment.flags == (("empty",),)


def test_the_place_of_a_wrong_request_is_said() -> None:
    judge = Judge.load("mini", mode="direct", engine=QualityEngine())
    with pytest.raises(ConfigError, match=r"request 1: prompt: messages\[0\] has no role"):
        judge.rate(["Q", [{}]], ["A", "B"])


def test_kept_reasoning_is_shown_in_one_form() -> None:
    inline = [{"role": "assistant", "content": "<think>\n6 + 7\n</think>\n\n13"}]
    with pytest.raises(ConfigError, match="none of strip, strip_opened, keep"):
        shown("Q", "13", reasoning="drop")
    for completion in (
        inline,
        inline[0]["content"],
        [{"role": "assistant", "content": "13", "reasoning_content": "6 + 7"}],
        [{"role": "assistant", "content": [{"type": "thinking", "thinking": "6 + 7"}, {"type": "text", "text": "13"}]}],
        [{"role": "model", "parts": [{"text": "6 + 7", "thought": True}, {"text": "13"}]}],
    ):  # fmt: skip
        assert shown("Q", completion, reasoning="keep")[1] == "<think>\n6 + 7\n</think>\n\n13"
        assert shown("Q", completion)[1] == "13"


def test_a_tool_call_is_no_empty_answer() -> None:
    engine = QualityEngine()
    judge = Judge.load("mini", mode="direct", engine=engine, guard=True)
    (judgment,) = judge.compare(["Q"], [said(call("add", {"q": "q=9"}))], ["I cannot know that. q=2"])
    assert judgment.flags[0] == ()
    assert judgment.preference == "first"


def test_calls_that_differ_are_different_completions() -> None:
    from autoj_reward.ranking.label import label
    from autoj_reward.ranking.rank import rank

    group = [said(call("add", {"q": f"q={n}"})) for n in (3, 8)]
    judge = Judge.load("mini", mode="direct", engine=QualityEngine())
    assert rank(judge, ["Q"], [group])[0].best == 1
    (labelled,) = label(judge, ["Q"], [group])
    assert [(p.chosen, p.rejected) for p in labelled.pairs] == [(1, 0)]
    assert not labelled.dropped


def test_conversations_that_differ_in_calls_are_compared() -> None:
    from autoj_reward.ranking.conversations import compare_conversations

    engine = QualityEngine()
    judge = Judge.load("mini", mode="direct", engine=engine)
    first, second = (
        [
            {"from": "human", "value": "Q"},
            *said(call("add", {"a": n}, id="x"), reasoning_content="hm"),
            {"role": "tool", "tool_call_id": "x", "content": f"q={n}"},
            {"from": "gpt", "value": "Done."},
        ]
        for n in (8, 3)
    )
    (judgment,) = compare_conversations(judge, [first], [second])
    assert judgment.preference == "first"
    assert ("Q", *(f'Assistant: [calls add({{"a": {n}}})]\n\nTool (add): q={n}\n\nAssistant: Done.' for n in (8, 3))) in (
        engine.asked
    )  # fmt: skip
