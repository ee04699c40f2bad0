# SPDX-License-Identifier: Apache-2.0
"""The formats that are recognised: their names, their fields, and who reads a row's parts.

A format is recognised by its fields. The table is tried in its order: what names more, and what people
preferred, comes before what names less.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from autoj_reward.rows.containers.objects import Row
from autoj_reward.rows.formats import published, readers
from autoj_reward.rows.formats.conversations import is_messages, is_transcript
from autoj_reward.rows.formats.parts import Reader, unpacked
from autoj_reward.rows.formats.readers import LETTERS, NUMBERED, OWN_WORDS

Holds = Literal["one", "two", "many"]
"""How many completions of a prompt a row holds."""

PROMPTS = "prompt|question|instruction|query|input"


def as_it_is(row: Row) -> Iterator[Row]:
    """The row itself: most formats hold one group in a row."""
    yield row


def _any(row: Mapping[str, Any]) -> bool:
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownFormat:
    """A format of rows.

    Attributes:
        name: For `--format` and messages.
        about: Data sets and tools that write it.
        holds: How many completions of a prompt.
        marks: Fields that a row of it has; `a|b` is either.
        read: Reads a row's parts.
        fits: Whether a row with these fields is of it.
        expand: Splits a row of a file that holds several groups.
    """

    name: str
    about: str
    holds: Holds
    marks: tuple[str, ...]
    read: Reader
    fits: Callable[[Mapping[str, Any]], bool] = field(default=_any)
    expand: Callable[[Row], Iterator[Row]] = field(default=as_it_is)

    def matches(self, row: Mapping[str, Any]) -> bool:
        """Whether a row has the fields, with values, and fits."""
        return not self.missing(row) and self.fits(row)

    def missing(self, row: Mapping[str, Any]) -> list[str]:
        """The marks that a row does not have."""
        return [m for m in self.marks if all(row.get(name) is None for name in m.split("|"))]


def _both(row: Mapping[str, Any], test: Callable[[Any], bool]) -> bool:
    return all(test(unpacked(row.get(name))) for name in ("chosen", "rejected"))


def _of_lists(row: Mapping[str, Any]) -> bool:
    return _both(row, lambda v: isinstance(v, list) and not is_messages(v))


def _of_transcripts(row: Mapping[str, Any]) -> bool:
    return _both(row, is_transcript)


def _of_texts_or_messages(row: Mapping[str, Any]) -> bool:
    return _both(row, lambda v: isinstance(v, str) or is_messages(v))


def _of_conversations(row: Mapping[str, Any]) -> bool:
    return _both(row, is_messages)


def _of_texts(row: Mapping[str, Any]) -> bool:
    return _both(row, lambda v: isinstance(v, str))


def _outputs_of_models(row: Mapping[str, Any]) -> bool:
    return isinstance(row.get("outputs"), dict)


def _no_objects(row: Mapping[str, Any]) -> bool:
    """Whether `completions` are no objects other than messages, as UltraFeedback has them."""
    return is_messages(row["completions"]) or not _list_in("completions", dict, row)


def _list_in(name: str, kind: type, row: Mapping[str, Any]) -> bool:
    value = unpacked(row.get(name))
    return isinstance(value, list) and bool(value) and all(isinstance(v, kind) for v in value)


def _group(
    name: str,
    about: str,
    prompt: str,
    completions: str,
    kind: type,
    text: str = "",
    grade: str = "",
    **more: Any,
) -> KnownFormat:
    read = (
        partial(readers.objects, prompt=prompt, completions=completions, text=text, grade=grade, **more)
        if text
        else partial(readers.many, prompt=prompt, completions=completions, **more)
    )
    return KnownFormat(
        name=name, about=about, holds="many", marks=(prompt, completions), read=read,
        fits=partial(_list_in, completions, kind),
    )  # fmt: skip


def _pair(name: str, about: str, marks: tuple[str, ...], read: Reader, **more: Any) -> KnownFormat:
    return KnownFormat(name=name, about=about, holds="two", marks=marks, read=read, **more)


def _one(name: str, about: str, prompt: str, completion: str, **more: Any) -> KnownFormat:
    return KnownFormat(
        name=name, about=about, holds="one", marks=(prompt, completion),
        read=partial(readers.one, prompt=prompt, completion=completion, **more),
    )  # fmt: skip


OWN = {
    "rate": KnownFormat(
        name="rate", about="prompt and completion, as TRL's unpaired preferences", holds="one",
        marks=("prompt", "completion"), read=partial(readers.one, prompt="prompt", completion="completion"),
    ),
    "compare": _pair(
        "compare", "two completions, and perhaps what people preferred", ("prompt", "first", "second"),
        partial(readers.own_two, prompt="prompt", first="first", second="second"),
    ),
    "rerank": KnownFormat(
        name="rerank", about="a list of completions, and perhaps a number for each", holds="many",
        marks=("prompt", "completions"), fits=_no_objects,
        read=partial(readers.many, prompt="prompt", completions="completions"),
    ),
}  # fmt: skip
"""Our own formats, by the command that is made for them."""

PUBLISHED: tuple[KnownFormat, ...] = (
    KnownFormat(
        name="autoj-selection", about="Auto-J's testdata_selection.jsonl", holds="many",
        marks=("prompt", "outputs"), fits=_outputs_of_models, expand=published.by_model,
        read=partial(readers.many, prompt="prompt", completions="completions"),
    ),
    _pair(
        "autoj-pairwise", "Auto-J's testdata_pairwise.jsonl", ("prompt", "response 1", "response 2"),
        partial(
            readers.two, prompt="prompt", first="response 1", second="response 2", label="label",
            words=OWN_WORDS,
        ),
    ),
    KnownFormat(
        name="reward-bench-2", about="RewardBench 2 and RM-Bench: lists of right and of wrong answers",
        holds="many", marks=("prompt", "chosen", "rejected"), fits=_of_lists,
        read=partial(readers.right_and_wrong, prompt="prompt", right="chosen", wrong="rejected"),
    ),
    _pair(
        "reward-bench", "RewardBench", ("prompt", "chosen", "rejected", "subset|chosen_model"),
        partial(readers.preferred, prompt="prompt"), fits=_of_texts_or_messages,
    ),
    _pair(
        "hh", "HH: chosen and rejected transcripts of Human and Assistant", ("chosen", "rejected"),
        readers.preferred, fits=_of_transcripts,
    ),
    _pair(
        "chosen-rejected", "TRL, UltraFeedback, Tulu, Orca pairs: a prompt, chosen and rejected",
        (PROMPTS, "chosen", "rejected"),
        partial(readers.preferred, prompt=PROMPTS, system="system|system_prompt"),
        fits=_of_texts_or_messages,
    ),
    _pair(
        "chosen-rejected-messages", "TRL, Skywork: conversations that begin with the same prompt",
        ("chosen", "rejected"), readers.preferred, fits=_of_conversations,
    ),
    _pair(
        "chosen-rejected-texts", "TRL: texts that begin with the same prompt", ("chosen", "rejected"),
        readers.preferred, fits=_of_texts,
    ),
    _pair(
        "chosen-response", "Argilla: chosen_response and rejected_response",
        (PROMPTS, "chosen_response", "rejected_response"),
        partial(
            readers.preferred_fields, prompt=PROMPTS, chosen="chosen_response", rejected="rejected_response"
        ),
    ),
    _pair(
        "arena", "Chatbot Arena and MT-Bench: two conversations and the winner",
        ("conversation_a", "conversation_b"), published.arena_conversations,
    ),
    _pair(
        "arena-responses", "LMSYS's arena of 55,000 battles", ("prompt", "response_a", "response_b"),
        published.arena_responses,
    ),
    _pair(
        "judgebench", "JudgeBench", ("question", "response_A", "response_B"),
        partial(
            readers.two, prompt="question", first="response_A", second="response_B", label="label",
            words=LETTERS,
        ),
    ),
    _pair(
        "alpaca-eval", "AlpacaEval, AlpacaFarm and LLMBar: output_1 and output_2",
        ("instruction|input", "output_1", "output_2"),
        partial(
            readers.two, prompt="instruction|input", beside="input", first="output_1", second="output_2",
            label="preference|label", words=NUMBERED,
        ),
    ),
    _pair(
        "helpsteer", "HelpSteer 2 and 3 preferences",
        (
            "context|prompt", "response1|response_1", "response2|response_2",
            "overall_preference|preference_strength",
        ),
        published.helpsteer,
    ),
    _pair("pku-saferlhf", "PKU-SafeRLHF", ("prompt", "response_0", "response_1"), published.safe_rlhf),
    _pair(
        "shp", "Stanford Human Preferences", ("history", "human_ref_A", "human_ref_B"),
        partial(
            readers.two, prompt="history", first="human_ref_A", second="human_ref_B", label="labels",
            words={1: "first", 0: "second"},
        ),
    ),
    _pair("webgpt", "WebGPT's comparisons", ("question", "answer_0", "answer_1"), published.webgpt),
    _pair(
        "summarize-from-feedback", "OpenAI's comparisons of summaries", ("info", "summaries"),
        published.summaries,
    ),
    _group(
        "ultrafeedback", "UltraFeedback before pairs were made", "instruction|prompt", "completions", dict,
        text="response|text", grade="overall_score|fine-grained_score",
    ),
    _group(
        "nectar", "Nectar: ranked answers", "prompt", "answers", dict, text="answer", grade="rank", sign=-1.0
    ),
    _group(
        "stack-exchange", "questions with several scored answers", "question", "answers", dict,
        text="text|body", grade="pm_score|score",
    ),
    KnownFormat(
        name="truthfulqa", about="TruthfulQA: correct and incorrect answers", holds="many",
        marks=("question", "correct_answers", "incorrect_answers"),
        read=partial(
            readers.right_and_wrong, prompt="question", right="correct_answers", wrong="incorrect_answers"
        ),
    ),
    _group("generations", "distilabel: generations and ratings", PROMPTS, "generations", str),
    _group("responses", "a prompt and a list of responses", PROMPTS, "responses", str),
    _group("outputs", "a prompt and a list of outputs", PROMPTS, "outputs", str),
    _group("answers", "a question and a list of answers", PROMPTS, "answers", str),
    _group("candidates", "a prompt and a list of candidates", PROMPTS, "candidates", str),
    KnownFormat(
        name="lm-eval", about="samples that lm-eval logs with --log_samples", holds="one",
        marks=("arguments", "resps"), read=published.lm_eval,
    ),
    _one(
        "instruction-output", "Alpaca; AlpacaEval's model outputs", "instruction", "output", beside="input"
    ),
    _one(
        "instruction-response", "Dolly", "instruction", "response|generation|completion",
        beside="context|input",
    ),
    _one("query-response", "queries and responses", "query", "response|answer|output|completion"),
    _one(
        "question-answer", "GSM8K, OpenOrca and other answered questions", "question",
        "answer|response|output|completion|best_answer", system="system_prompt|system",
    ),
    _one("prompt-response", "HelpSteer, BeaverTails, Auto-J's critique data", "prompt",
         "response|output|answer|generation|generated_text"),
    _one("input-output", "inputs and outputs", "input", "output|response|completion",
         system="system_prompt|system"),
    KnownFormat(
        name="messages", about="OpenAI's and TRL's conversations: the last reply is judged", holds="one",
        marks=("messages",), read=partial(readers.conversation, names="messages"),
    ),
    KnownFormat(
        name="sharegpt", about="ShareGPT's conversations: the last reply is judged", holds="one",
        marks=("conversations|conversation",),
        read=partial(readers.conversation, names="conversations|conversation"),
    ),
    _one("autoj-critique", "Auto-J's testdata_critique.jsonl", "prompt", "response"),
)  # fmt: skip
"""Formats of published data sets, in the order in which they are tried."""

NOT_JUDGED: tuple[tuple[tuple[str, ...], str], ...] = (
    (
        ("message_id", "parent_id"),
        "single messages of conversation trees (OpenAssistant): join the messages of a conversation first",
    ),
    (("anchor|query", "positive|pos"), "triplets for embeddings: they hold no completions to judge"),
    (("text",), "plain texts (language modelling): a prompt and what answers it must be two fields"),
    (("url|html|content",), "documents: a prompt and what answers it must be two fields"),
)
"""Fields of rows that are no format's and cannot be judged, and why."""


def known_formats() -> tuple[KnownFormat, ...]:
    """All formats, ours first."""
    return (*OWN.values(), *PUBLISHED)
