# SPDX-License-Identifier: Apache-2.0
"""Tokenize rendered inputs without letting untrusted text form special tokens.

The text of a special token becomes the token in a trusted segment; in a prompt, a completion or a critique it
becomes ordinary tokens. Otherwise the ids are those of encoding the whole string at once.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from autoj_reward.engines.logprobs.chat_template import (
    THINKING_MARKS,
    Frame,
    Marks,
    frame_of,
    turn_end_texts,
)
from autoj_reward.engines.logprobs.control_tokens import Piece, Trust, control_ids, control_texts, places
from autoj_reward.errors import ConfigError
from autoj_reward.types import ChatWrapper, JudgeInput, PlainWrapper, Sampling, Segment, Wrapper

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")

_ENCODED_AT_ONCE = 512
"""Rows encoded per batch, which bounds the memory for their offsets."""


def encodable(text: str) -> str:
    """The text with U+FFFD for every lone surrogate, which tokenizers cannot encode."""
    try:
        # Much faster than a search.
        text.encode()
    except UnicodeEncodeError:
        return _LONE_SURROGATE.sub("\ufffd", text)
    return text


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
        self._control = control_ids(layout)
        self._dropped = {t["id"]: str(t["content"]) for t in layout["added_tokens"] if t["special"]}
        ordinary = frozenset(self._whole.get_vocab(with_added_tokens=False).values())
        self._control_texts = control_texts(layout, self._control, ordinary)
        layout["added_tokens"] = [t for t in layout["added_tokens"] if t["id"] not in self._control]
        later = _without_first_space(layout)
        self._plain_first = Tokenizer.from_str(json.dumps(layout))
        self._plain_later = Tokenizer.from_str(json.dumps(later))
        self._first_differs = bool(later != layout)
        self._decoder_kind = "bytes" if "ByteLevel" in json.dumps(layout["decoder"]) else "pieces"
        bos = tokenizer.bos_token_id
        added = tokenizer("", add_special_tokens=True)["input_ids"]
        self._bos = [bos] if bos is not None and bos in added else []
        template_ends, self.turn_end_texts = self._template_ends()
        given = [turn_end_ids] if isinstance(turn_end_ids, int) else turn_end_ids or ()
        ends = {tokenizer.eos_token_id, *given, *template_ends} - {None}
        self.turn_end_ids: tuple[int, ...] = tuple(sorted(ends))
        self._turn_ends = frozenset(ends)
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

    def encode_inputs(
        self, inputs: Sequence[JudgeInput], unbegun: Sequence[list[int] | None] | None = None
    ) -> list[list[int]]:
        """`encode_input` for many inputs, on all cores.

        Args:
            inputs: N inputs.
            unbegun: For each the ids of the same wrapper and body without a prefill, where they are known;
                else None. What comes before the prefill is then not encoded again, if a control token parts
                the two.
        """
        heads: list[list[int]] = []
        rows: list[tuple[Segment, ...]] = []
        for item, known in zip(inputs, unbegun or [None] * len(inputs), strict=True):
            begins = None if known is None else self._turn_begins(item.wrapper)
            if known is None or begins is None:
                heads.append([])
                rows.append(self.render(item))
            else:
                last = next(n for n in range(len(known), 0, -1) if known[n - 1] in self._control)
                heads.append(known[:last])
                rows.append((Segment(begins, True), *self._frame(item.wrapper).begun(item.prefill)))
        plain = [isinstance(item.wrapper, PlainWrapper) for item in inputs]
        return [
            self._bos + head + ids if bare and (head or ids)[:1] != self._bos else head + ids
            for head, ids, bare in zip(heads, self.encode_rows(rows), plain, strict=True)
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
        own = wrapper.thinking if isinstance(wrapper, ChatWrapper) else None
        if own and own not in self._marks:
            self._marks.insert(0, own)
            self._shown = self._mark_tokens()
        # Another judge's marks, which decoding shows too, are none of this one's.
        return frame_of(self.hf, wrapper, [own, *THINKING_MARKS] if own else THINKING_MARKS)

    @functools.lru_cache(maxsize=64)  # noqa: B019 - lives as long as the engine that owns it
    def _turn_begins(self, wrapper: Wrapper) -> str | None:
        """The text between the wrapper's last control token and the judge's turn: its tokens are its own.

        None if there is no such token, or if text has other tokens where it comes first.
        """
        if self._control_texts is None or self._first_differs:
            return None
        return self._control_texts.after_last(self._frame(wrapper).after)

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
            known = self._control_texts
            sure = [known is not None and known.only_trusted(own) for own in pieces]
            parts = {
                wanted: [t for t, ok in zip(texts, sure, strict=True) if ok is wanted]
                for wanted in (True, False)
            }
            fast = iter(self._whole.encode_batch_fast(parts[True], add_special_tokens=False))
            with_offsets = iter(self._whole.encode_batch(parts[False], add_special_tokens=False))
            ids += [
                next(fast).ids if ok else self._trusting(text, own, next(with_offsets))
                for text, own, ok in zip(texts, pieces, sure, strict=True)
            ]
        return ids

    def _trusting(self, text: str, pieces: Sequence[Piece], encoding: Encoding) -> list[int]:
        """The ids of an encoding; encoded again if untrusted text formed a special token."""
        ids: list[int] = encoding.ids
        if found := self._control.intersection(ids):
            trust = Trust(pieces)
            # Asked for one by one: the list of all tokens' offsets takes longer than all else here.
            spans = (encoding.token_to_chars(n) for token in found for n in places(ids, token))
            if not all(span is not None and trust.covers(span) for span in spans):
                return self._encode_split(text, pieces, trust)
        return ids

    def _encode_split(self, text: str, pieces: Sequence[Piece], trust: Trust) -> list[int]:
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
        for n in () if self._shown.keys().isdisjoint(ids) else range(len(ids)):
            if ids[n] in self._shown:
                pieces += [
                    self._decode_plain([*context[-8:], *ids[:begin]], ids[begin:n]),
                    self._shown[ids[n]],
                ]
                begin = n + 1
        return "".join([*pieces, self._decode_plain([*context[-8:], *ids[:begin]], ids[begin:])])

    def _decode_plain(self, context: Sequence[int], ids: Sequence[int]) -> str:
        """Text of `ids` after `context`, without special tokens.

        Decoded together with the end of the context, because SentencePiece drops a first piece's space.
        """
        tail = tuple(t for t in context[-8:] if t not in self._control)
        both: str = self.hf.decode([*tail, *ids], skip_special_tokens=True)
        head = self._text_of(tail, True)
        return (
            both[len(head) :] if both.startswith(head) else str(self.hf.decode(ids, skip_special_tokens=True))
        )

    @functools.lru_cache(maxsize=256)  # noqa: B019 - lives as long as the engine that owns it
    def _text_of(self, tail: tuple[int, ...], without_special: bool) -> str:
        """Text of a context's last tokens, which are the same for all inputs of a judge."""
        return str(self.hf.decode(list(tail), skip_special_tokens=without_special))

    def _opened(self, context: Sequence[int]) -> str:
        """The thinking mark that opens at the end of a context, or an empty string."""
        tail = tuple(context[-16:])
        text = self._text_of(tail, False).rstrip()
        opens = next((m[0] for m in self._marks if text.endswith(m[0]) and m[0] != m[1]), "")
        # If the mark is a special token, its text alone does not count.
        token = self._whole.token_to_id(opens) if opens else None
        return opens if token is None or token not in self._control or token in tail else ""

    def with_opening(self, context: Sequence[int], text: str) -> str:
        """A turn's text, decoded elsewhere, with the thinking mark that its context opens."""
        opened = self._opened(context)
        return text if text.lstrip().startswith(opened) else opened + text

    def turn_end(self, ids: Sequence[int]) -> int | None:
        """Index of the first token that ends the judge's turn, or None."""
        if self._turn_ends.isdisjoint(ids):
            return None
        return next(n for n, token in enumerate(ids) if token in self._turn_ends)

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
