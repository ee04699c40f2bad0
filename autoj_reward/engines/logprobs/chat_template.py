# SPDX-License-Identifier: Apache-2.0
"""Find a chat template's texts around messages, its turn end and its thinking marks.

Everything is found by rendering a short conversation, nothing from a model's name.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from autoj_reward.errors import ConfigError
from autoj_reward.types import ChatWrapper, PlainWrapper, Segment, Wrapper

Marks = tuple[str, str]
"""Opening and closing mark of a thinking block."""

_HARMONY = "<|channel|>final<|message|>"

THINKING_MARKS: tuple[Marks, ...] = (
    ("<think>", "</think>"),
    ("[THINK]", "[/THINK]"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<seed:think>", "</seed:think>"),
    ("◁think▷", "◁/think▷"),
    ("<|channel>thought", "<channel|>"),
    ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant" + _HARMONY),
    # The same model without thinking: its answer still has a header.
    (_HARMONY, _HARMONY),
)
"""Marks of known model families; a judge may name others."""

_BODY = "autojrewardbodyq7zk"
"""Placeholder of a message; plain letters, which no template changes."""
_ANSWER = "autojrewardanswerq7zk"
_NEXT = "autojrewardnextq7zk"


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """The text around a body, and at the beginning of the judge's turn.

    Attributes:
        before: Before the body.
        after: After the body, up to where the judge writes.
        opened: The thinking mark that is open there, or an empty string.
        answers: Text between that point and an answer without thinking: the end of an opened block, an empty
            block, or the answer's header. Often empty.
        answered: A text that shows that a begun turn already contains `answers`.
    """

    before: str
    after: str
    opened: str = ""
    answers: str = ""
    answered: str = ""

    def begun(self, prefill: Sequence[Segment]) -> tuple[Segment, ...]:
        """A begun turn as it follows the frame.

        `answers` is inserted before forced words (a verdict's prefix), and before the judge's own text only
        if that leaves a block of the frame open.
        """
        if not prefill:
            return ()
        segments = [s for s in prefill if s.text]
        if self.opened and segments and segments[0].trusted and segments[0].text.startswith(self.opened):
            first = segments[0].text.removeprefix(self.opened)
            segments[0] = Segment(first, True)
        done = bool(self.answered) and any(s.trusted and self.answered in s.text for s in segments)
        forced = bool(segments) and segments[0].trusted
        if self.answers and not done and (self.opened or forced):
            segments.insert(0, Segment(self.answers, True))
        return tuple(s for s in segments if s.text)


def frame_of(hf: Any, wrapper: Wrapper, marks: Sequence[Marks]) -> Frame:
    """The frame of a wrapper, from the tokenizer's chat template if the wrapper uses it.

    Raises:
        ConfigError: The tokenizer has no chat template, or the template refuses the wrapper's input.
    """
    if isinstance(wrapper, PlainWrapper):
        return _with_answers(Frame(before=wrapper.before, after=wrapper.after), "", marks)
    if not getattr(hf, "chat_template", None):
        raise ConfigError(
            "the model has no chat template, and its judge needs one",
            hint="give the judge a plain wrapper: [wrapper] kind = 'plain'",
        )
    text = _rendered(hf, wrapper)
    before, mark, after = text.partition(_BODY)
    if not mark or _BODY in after:
        raise ConfigError(
            f"the chat template renders the user's turn {text.count(_BODY)} times, not once",
            hint="give the judge a plain wrapper, or other chat-template arguments",
        )
    if not _shows(before, wrapper.system):
        raise ConfigError(
            "the chat template does not render the system message",
            hint='remove it from the judge: [wrapper] system = "", or give the judge a plain wrapper',
        )
    begins = _apply(hf, wrapper, [_BODY, _ANSWER], ask=False) or ""
    header = begins.partition(_BODY)[2].partition(_ANSWER)
    return _with_answers(Frame(before=before, after=after), header[0] if header[1] else "", marks)


def turn_end_texts(hf: Any) -> tuple[str, tuple[str, ...]]:
    """The texts that a chat template puts after an assistant's turn.

    Returns:
        The end of a conversation's last turn, and the texts between a turn and the next one's content. Both
        are empty without a template or if it renders no such turns; the second also if a turn has several
        parts with headers.
    """
    if not getattr(hf, "chat_template", None):
        return "", ()
    wrapper = ChatWrapper()
    last = _apply(hf, wrapper, [_BODY, _ANSWER], ask=False)
    more = _apply(hf, wrapper, [_BODY, _ANSWER, _NEXT], ask=False)
    ends = (last or "").rpartition(_ANSWER)[2] if last and _ANSWER in last else ""
    between = (more or "").rpartition(_ANSWER)[2].rpartition(_NEXT)
    if not more or _ANSWER not in more or not between[1]:
        return ends, ()
    try:
        frame = frame_of(hf, wrapper, THINKING_MARKS)
    except ConfigError:
        return ends, ()
    has_parts = bool(frame.answers) and frame.answered not in {closes for _, closes in THINKING_MARKS[:-2]}
    return ends, () if has_parts else (between[0],)


def check_chat_template(
    model: str, revision: str | None, wrappers: Iterable[Wrapper], *, trust_remote_code: bool = False
) -> None:
    """Render a judge's wrappers before its model is loaded, which can take minutes.

    A tokenizer that cannot be loaded is ignored here; the engine raises the error.

    Raises:
        ConfigError: The model has no chat template, or the template refuses a wrapper's input.
    """
    chats = dict.fromkeys(w for w in wrappers if isinstance(w, ChatWrapper))
    if not chats:
        return
    from transformers import AutoTokenizer

    try:
        hf = AutoTokenizer.from_pretrained(model, revision=revision, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, ImportError):
        return
    for wrapper in chats:
        frame_of(hf, wrapper, THINKING_MARKS)


def marks_of(text: str, marks: Iterable[Marks]) -> Marks | None:
    """The marks whose opening mark begins a text, leading blanks ignored; None without one."""
    begun = text.lstrip()
    return next((m for m in marks if begun.startswith(m[0])), None)


def _with_answers(frame: Frame, header: str, marks: Sequence[Marks]) -> Frame:
    """The frame with `opened`, `answers` and `answered`; `header` begins a whole turn after the same body."""
    end = frame.after.rstrip()
    opened = next((m for m in marks if end.endswith(m[0])), None)
    # Some templates end the frame with a line break that a turn without thinking lacks.
    answers = next(
        (header.removeprefix(start) for start in (frame.after, end) if start and header.startswith(start)), ""
    )
    if not answers.strip():
        answers = f"\n{opened[1]}\n\n" if opened else ""
        if opened and not frame.after.endswith("\n"):
            answers = f"\n{answers}"
    if not answers:
        return frame
    closing = next((closes for _, closes in marks if closes in answers), answers.strip())
    return replace(frame, opened=opened[0] if opened else "", answers=answers, answered=closing)


def _shows(text: str, system: str | None) -> bool:
    """Whether a system message is in a text, ignoring white space; true for None."""
    return "".join((system or "").split()) in "".join(text.split())


def _rendered(hf: Any, wrapper: ChatWrapper) -> str:
    text = _apply(hf, wrapper, [_BODY], ask=True)
    if text is not None:
        return text
    try:
        # Render again for the error.
        return _template(hf, wrapper, [_BODY], ask=True, parts=False)
    except Exception as error:
        alone = replace(wrapper, system=None)
        if wrapper.system and _apply(hf, alone, [_BODY], ask=True) is not None:
            hint = 'remove the system message from the judge: [wrapper] system = ""'
        elif isinstance(hf.chat_template, dict):
            hint = "name one in the judge: [wrapper] arguments = { chat_template = 'NAME' }; it has "
            hint += ", ".join(sorted(hf.chat_template))
        else:
            hint = (
                "give the judge a plain wrapper: [wrapper] kind = 'plain', or fix the model's chat template"
            )
        said = " ".join(str(error).split())[:500] or type(error).__name__
        raise ConfigError(
            f"the model's chat template refuses the judge's input: {said}", hint=hint
        ) from error


def _apply(hf: Any, wrapper: ChatWrapper, turns: Sequence[str], *, ask: bool) -> str | None:
    """A rendered conversation, if possible with its last turn; None if the template raises.

    Templates of vision models need content in parts.
    """
    shown = None
    for parts in (False, True):
        try:
            text = _template(hf, wrapper, turns, ask=ask, parts=parts)
        except Exception:  # noqa: S112 - a template is a foreign program and may raise anything
            continue
        if turns[-1] in text and _shows(text, wrapper.system):
            return text
        shown = text if shown is None else shown
    return shown


def _template(hf: Any, wrapper: ChatWrapper, turns: Sequence[str], *, ask: bool, parts: bool) -> str:
    def content(text: str) -> Any:
        return [{"type": "text", "text": text}] if parts else text

    roles = itertools.cycle(("user", "assistant"))
    messages = [{"role": role, "content": content(text)} for role, text in zip(roles, turns, strict=False)]
    if wrapper.system:
        messages.insert(0, {"role": "system", "content": content(wrapper.system)})
    arguments = dict(wrapper.arguments)
    text: str = hf.apply_chat_template(messages, tokenize=False, add_generation_prompt=ask, **arguments)
    return text
