# SPDX-License-Identifier: Apache-2.0
"""Tokenize rendered inputs without letting untrusted text form special tokens.

The text of a special token becomes the token in a trusted segment; in a prompt, a completion or a critique it
becomes ordinary tokens. Otherwise the ids are those of encoding the whole string at once.
"""

from __future__ import annotations

import bisect
import functools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from autoj_reward.engines.logprobs.chat_template import (
    THINKING_MARKS,
    Frame,
    Marks,
    frame_of,
    turn_end_texts,
)
from autoj_reward.errors import ConfigError
from autoj_reward.types import ChatWrapper, JudgeInput, PlainWrapper, Sampling, Segment, Wrapper

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_MARKUP = re.compile(r"[<>|\[\]{}]")

_ENCODED_AT_ONCE = 512
"""Rows encoded per batch, which bounds the memory for their offsets."""


def encodable(text: str) -> str:
    """The text with U+FFFD for every lone surrogate, which tokenizers cannot encode."""
    return text if text.isascii() else _LONE_SURROGATE.sub("\ufffd", text)


class InjectionSafeTokenizer:
    """A Hugging Face tokenizer that keeps untrusted text from becoming special tokens.

    Args:
        tokenizer: A `transformers` tokenizer backed by the `tokenizers` library.
        turn_end_ids: An id or ids that end a turn, besides the end of sequence and what the chat template
            puts after an assistant's turn; a generation configuration's `eos_token_id`.

    Attributes:
        turn_end_ids: All ids that end a turn, including those that begin the next one.
        turn_end_texts: Texts that end a turn, if the template's turn end is not a token.

    Raises:
        ConfigError: The tokenizer is not backed by the `tokenizers` library.
    """

    def __init__(self, tokenizer: Any, *, turn_end_ids: int | Sequence[int] | None = ()) -> None:
        # Not at the top: the server engine works without the tokenizers package.
        from tokenizers import Tokenizer

        backend = getattr(tokenizer, "backend_tokenizer", None)
        if not isinstance(backend, Tokenizer):
            raise ConfigError(
                f"{type(tokenizer).__name__} has no `tokenizers` backend, so special tokens in untrusted "
                "text cannot be told from real ones",
                hint="load the checkpoint's fast tokenizer (a tokenizer.json beside the weights)",
            )
        self.hf = tokenizer
        layout = json.loads(backend.to_str())
        layout["truncation"] = layout["padding"] = None
        self._whole: Tokenizer = Tokenizer.from_str(json.dumps(layout))
        self._control = _control_ids(layout)
        self._dropped = {t["id"]: str(t["content"]) for t in layout["added_tokens"] if t["special"]}
        layout["added_tokens"] = [t for t in layout["added_tokens"] if t["id"] not in self._control]
        self._plain_first = Tokenizer.from_str(json.dumps(layout))
        self._plain_later = Tokenizer.from_str(json.dumps(_without_first_space(layout)))
        self._decoder_kind = "bytes" if "ByteLevel" in json.dumps(layout["decoder"]) else "pieces"
        bos = tokenizer.bos_token_id
        added = tokenizer("", add_special_tokens=True)["input_ids"]
        self._bos = [bos] if bos is not None and bos in added else []
        template_ends, self.turn_end_texts = self._template_ends()
        given = [turn_end_ids] if isinstance(turn_end_ids, int) else turn_end_ids or ()
        ends = {tokenizer.eos_token_id, *given, *template_ends} - {None}
        self.turn_end_ids: tuple[int, ...] = tuple(sorted(ends))
        self._marks: list[Marks] = list(THINKING_MARKS)
        self._shown = self._mark_tokens()

    def _template_ends(self) -> tuple[list[int], tuple[str, ...]]:
        """The chat template's tokens that end an assistant's turn; texts if it has none."""
        last, between = turn_end_texts(self.hf)
        ends = [i for i in self._whole.encode(last, add_special_tokens=False).ids if i in self._control][:1]
        for text in between:
            # A token that begins the next turn ends this one too.
            ends += [i for i in self._whole.encode(text, add_special_tokens=False).ids if i in self._control]
        if ends or not any(between):
            return ends, ()
        text = last.strip() or between[0].strip()
        return [], tuple(f"{blank}{text}" for blank in ("\n", " ")) if text[:1].isalnum() else (text,)

    def _mark_tokens(self) -> dict[int, str]:
        """Special tokens of thinking marks, which decoding would leave out."""
        shown: dict[int, str] = {}
        for marks in self._marks:
            both = [self._whole.encode(mark, add_special_tokens=False).ids for mark in marks]
            if all(any(i in self._dropped for i in ids) for ids in both):
                shown |= {i: self._dropped[i] for ids in both for i in ids if i in self._dropped}
        return shown

    def render(self, judge_input: JudgeInput) -> tuple[Segment, ...]:
        """Wrapper, body and prefill as one row of segments.

        If the chat template opens a thinking block, or leaves the answer's header to the model, a forced
        beginning of the turn comes after an empty block or that header.

        Raises:
            ConfigError: The chat template is missing, or refuses the judge's input.
        """
        frame = self._frame(judge_input.wrapper)
        return (
            Segment(frame.before, True),
            *judge_input.body,
            Segment(frame.after, True),
            *frame.begun(judge_input.prefill),
        )

    def encode_input(self, judge_input: JudgeInput) -> list[int]:
        """Token ids of a judge's input, with the beginning-of-sequence token if the model has one."""
        return self.encode_inputs([judge_input])[0]

    def encode_inputs(self, inputs: Sequence[JudgeInput]) -> list[list[int]]:
        """`encode_input` for many inputs, on all cores."""
        encoded = self.encode_rows([self.render(item) for item in inputs])
        plain = [isinstance(item.wrapper, PlainWrapper) for item in inputs]
        return [
            self._bos + ids if bare and ids[:1] != self._bos else ids
            for ids, bare in zip(encoded, plain, strict=True)
        ]

    def frame(self, wrapper: Wrapper) -> PlainWrapper:
        """The texts that the wrapper puts before and after a body.

        Raises:
            ConfigError: The chat template is missing, or refuses the judge's input.
        """
        frame = self._frame(wrapper)
        return PlainWrapper(before=frame.before, after=frame.after)

    @functools.lru_cache(maxsize=64)  # noqa: B019 - lives as long as the engine that owns it
    def _frame(self, wrapper: Wrapper) -> Frame:
        if isinstance(wrapper, ChatWrapper) and wrapper.thinking and wrapper.thinking not in self._marks:
            self._marks.insert(0, wrapper.thinking)
            self._shown = self._mark_tokens()
        return frame_of(self.hf, wrapper, self._marks)

    def encode(self, segments: Sequence[Segment]) -> list[int]:
        """Token ids of the joined segments, without a beginning-of-sequence token.

        A special token is recognised only if all of its characters are trusted. Lone surrogates become
        U+FFFD.
        """
        return self.encode_rows([segments])[0]

    def encode_rows(self, rows: Sequence[Sequence[Segment]]) -> list[list[int]]:
        """`encode` for many rows of segments, on all cores."""
        ids: list[list[int]] = []
        for start in range(0, len(rows), _ENCODED_AT_ONCE):
            some = rows[start : start + _ENCODED_AT_ONCE]
            pieces = [[(encodable(s.text), s.trusted) for s in row if s.text] for row in some]
            texts = ["".join([piece for piece, _ in own]) for own in pieces]
            encodings = self._whole.encode_batch(texts, add_special_tokens=False)
            ids += map(self._trusting, texts, pieces, encodings)
        return ids

    def _trusting(self, text: str, pieces: Sequence[tuple[str, bool]], encoding: Encoding) -> list[int]:
        """The ids of an encoding; encoded again if untrusted text formed a special token."""
        ids: list[int] = encoding.ids
        if found := self._control.intersection(ids):
            trust = _Trust(pieces)
            # Asked for one by one: the list of all tokens' offsets takes longer than all else here.
            spans = (encoding.token_to_chars(n) for token in found for n in _places(ids, token))
            if not all(span is not None and trust.covers(span) for span in spans):
                return self._encode_split(text, pieces, trust)
        return ids

    def _encode_split(self, text: str, pieces: Sequence[tuple[str, bool]], trust: _Trust) -> list[int]:
        """Encode the text between trusted special tokens without any special tokens."""
        masked = "".join(piece if trusted else "x" * len(piece) for piece, trusted in pieces)
        marks = self._whole.encode(masked, add_special_tokens=False)
        ids: list[int] = []
        position = 0
        for token, (start, end) in zip(marks.ids, marks.offsets, strict=True):
            if token in self._control and trust.covers((start, end)):
                ids += self._encode_plain(text[position:start], first=position == 0)
                ids.append(token)
                position = end
        return ids + self._encode_plain(text[position:], first=position == 0)

    def _encode_plain(self, text: str, *, first: bool) -> list[int]:
        if not text:
            return []
        encoding = (self._plain_first if first else self._plain_later).encode(text, add_special_tokens=False)
        for token, (start, end) in zip(encoding.ids, encoding.offsets, strict=True):
            # Some vocabularies hold a special token's text as an ordinary piece too: split it.
            if token in self._control and end - start > 1:
                cut = start + 1
                return self._encode_plain(text[:cut], first=first) + self._encode_plain(
                    text[cut:], first=False
                )
        return list(encoding.ids)

    @functools.lru_cache(maxsize=256)  # noqa: B019 - lives as long as the engine that owns it
    def continuation_ids(self, lead: str, continuation: str) -> tuple[int, ...]:
        """Ids of `continuation` right after `lead`.

        It is encoded alone if the tokenizer would merge across the boundary, because the judge writes it
        after the lead's last token.
        """
        head = self.encode([Segment(lead)])
        both = self.encode([Segment(lead + continuation)])
        if both[: len(head)] == head and len(both) > len(head):
            return tuple(both[len(head) :])
        return tuple(self._encode_plain(encodable(continuation), first=False))

    def decode_after(self, context: Sequence[int], ids: Sequence[int]) -> str:
        """Text of `ids` after `context`, without special tokens except thinking marks."""
        pieces: list[str] = []
        begin = 0
        for n, token in enumerate(ids):
            if token in self._shown:
                pieces += [
                    self._decode_plain([*context[-8:], *ids[:begin]], ids[begin:n]),
                    self._shown[token],
                ]
                begin = n + 1
        return "".join([*pieces, self._decode_plain([*context[-8:], *ids[:begin]], ids[begin:])])

    def _decode_plain(self, context: Sequence[int], ids: Sequence[int]) -> str:
        """Text of `ids` after `context`, without special tokens.

        Decoded together with the end of the context, because SentencePiece drops a first piece's space.
        """
        tail = [t for t in context[-8:] if t not in self._control]
        both: str = self.hf.decode([*tail, *ids], skip_special_tokens=True)
        head: str = self.hf.decode(tail, skip_special_tokens=True)
        return (
            both[len(head) :] if both.startswith(head) else str(self.hf.decode(ids, skip_special_tokens=True))
        )

    def _opened(self, context: Sequence[int]) -> str:
        """The thinking mark that opens at the end of a context, or an empty string."""
        tail = list(context[-16:])
        text = str(self.hf.decode(tail, skip_special_tokens=False)).rstrip()
        opens = next((m[0] for m in self._marks if text.endswith(m[0]) and m[0] != m[1]), "")
        # If the mark is a special token, its text alone does not count.
        token = self._whole.token_to_id(opens) if opens else None
        return opens if token is None or token not in self._control or token in tail else ""

    def turn_end(self, ids: Sequence[int]) -> int | None:
        """Index of the first token that ends the judge's turn, or None."""
        return next((n for n, token in enumerate(ids) if token in self.turn_end_ids), None)

    def decode_turn(
        self, context: Sequence[int], ids: Sequence[int], stop: Sequence[str]
    ) -> tuple[str, bool]:
        """Text of `ids` after `context`, up to the turn's end or a stop text.

        It begins with the thinking mark that the context opens, if any.

        Returns:
            The text without its end, and whether a stop text ended it.
        """
        text = self.decode_after(context, ids[: self.turn_end(ids)])
        at = min((text.find(s) for s in (*stop, *self.turn_end_texts) if s in text), default=None)
        return self._opened(context) + text[:at], at is not None

    def stopping(self, sampling: Sampling) -> Sampling:
        """Sampling settings that also stop at `turn_end_texts`."""
        if not self.turn_end_texts:
            return sampling
        return replace(sampling, stop=(*sampling.stop, *self.turn_end_texts))

    @property
    def turn_end_names(self) -> tuple[str, ...]:
        """Texts of `turn_end_ids`, and `turn_end_texts`, for servers that stop at texts."""
        return (*map(str, self.hf.convert_ids_to_tokens(list(self.turn_end_ids))), *self.turn_end_texts)

    @functools.lru_cache(maxsize=64)  # noqa: B019 - lives as long as the engine that owns it
    def ids_beginning_with(self, prefixes: tuple[str, ...]) -> tuple[int, ...]:
        """Ids of all ordinary tokens whose text begins with one of the prefixes, sorted."""
        wanted = tuple(p.encode() for p in prefixes)
        return tuple(sorted(i for i, text in self._token_bytes.items() if wanted and text.startswith(wanted)))

    @functools.cached_property
    def _token_bytes(self) -> Mapping[int, bytes]:
        vocabulary = self._whole.get_vocab(with_added_tokens=False)
        to_bytes = _byte_level_bytes if self._decoder_kind == "bytes" else _piece_bytes
        return {i: to_bytes(token) for token, i in vocabulary.items() if i not in self._control}


def _places(ids: list[int], token: int) -> Iterator[int]:
    """Where a token stands."""
    n = -1
    for _ in range(ids.count(token)):
        n = ids.index(token, n + 1)
        yield n


class _Trust:
    """Tells whether a character span of the joined text is entirely trusted."""

    def __init__(self, pieces: Sequence[tuple[str, bool]]) -> None:
        self._ends: list[int] = []
        self._trusted: list[bool] = []
        position = 0
        for text, trusted in pieces:
            position += len(text)
            self._ends.append(position)
            self._trusted.append(trusted)

    def covers(self, span: tuple[int, int]) -> bool:
        start, end = span
        first = bisect.bisect_right(self._ends, start)
        last = bisect.bisect_left(self._ends, end)
        return all(self._trusted[first : last + 1])


def _control_ids(layout: Mapping[str, Any]) -> frozenset[int]:
    """Added tokens with a function: special ones, and markup such as `<think>`; not blanks or plain words."""
    return frozenset(t["id"] for t in layout["added_tokens"] if t["special"] or _MARKUP.search(t["content"]))


def _without_first_space(layout: Mapping[str, Any]) -> Any:
    """The tokenizer's layout for text that is not at the beginning of the string."""

    def change(node: Any) -> Any:
        if isinstance(node, dict):
            changed = {key: change(value) for key, value in node.items()}
            if changed.get("type") == "Metaspace" and changed.get("prepend_scheme") == "first":
                changed["prepend_scheme"] = "never"
            return changed
        return [change(value) for value in node] if isinstance(node, list) else node

    return {**layout, "pre_tokenizer": change(layout["pre_tokenizer"])}


@functools.cache
def _byte_alphabet() -> Mapping[str, int]:
    """GPT-2's byte-level alphabet: printable Latin-1 as itself, the other bytes from U+0100."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    rest = (b for b in range(0x100) if b not in printable)
    return {chr(b): b for b in printable} | {chr(0x100 + n): b for n, b in enumerate(rest)}


def _byte_level_bytes(token: str) -> bytes:
    alphabet = _byte_alphabet()
    if all(c in alphabet for c in token):
        return bytes(alphabet[c] for c in token)
    return token.encode()


def _piece_bytes(token: str) -> bytes:
    if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
        return bytes([int(token[3:5], 16)])
    return token.replace("\u2581", " ").encode()
