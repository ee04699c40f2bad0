# SPDX-License-Identifier: Apache-2.0
"""From rendered text to token ids, without letting untrusted text speak in special tokens.

A special token's text inside a trusted segment is the token; inside a prompt, a completion or a
critique it is a run of ordinary tokens. Apart from that the ids are those of encoding the whole
string at once: joints between segments leave no trace.
"""

from __future__ import annotations

import bisect
import functools
import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from autoj_reward.errors import ConfigError
from autoj_reward.types import ChatWrapper, JudgeInput, PlainWrapper, Segment, Wrapper

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

_BODY_MARK = "autojrewardbodyq7zk"
"""Stands for the body while a chat template is applied; plain letters, so no template changes it."""

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_MARKUP = re.compile(r"[<>|\[\]{}]")

_ENCODED_AT_ONCE = 512
"""Rows whose tokens' places are in memory together, some hundred bytes each."""


def encodable(text: str) -> str:
    """The text with every lone surrogate replaced by U+FFFD, which is what a tokenizer is given.

    Lone surrogates have no UTF-8 form; JSON escapes can still carry them in.
    """
    return _LONE_SURROGATE.sub("\ufffd", text)


class TrustedTokenizer:
    """A Hugging Face tokenizer that keeps special tokens and untrusted text apart.

    Args:
        tokenizer: A `transformers` tokenizer backed by the `tokenizers` library.
        turn_end_ids: Ids that end a turn besides the tokenizer's own end of sequence.

    Raises:
        ConfigError: The tokenizer is not backed by the `tokenizers` library.
    """

    def __init__(self, tokenizer: Any, *, turn_end_ids: Sequence[int] = ()) -> None:
        # Not at the top: a server can be asked by text where no tokenizer library is installed.
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
        layout["added_tokens"] = [t for t in layout["added_tokens"] if t["id"] not in self._control]
        self._plain_first = Tokenizer.from_str(json.dumps(layout))
        self._plain_later = Tokenizer.from_str(json.dumps(_without_first_space(layout)))
        self._decoder_kind = "bytes" if "ByteLevel" in json.dumps(layout["decoder"]) else "pieces"
        bos = tokenizer.bos_token_id
        added = tokenizer("", add_special_tokens=True)["input_ids"]
        self._bos = [bos] if bos is not None and bos in added else []
        ends = {tokenizer.eos_token_id, *turn_end_ids} - {None}
        self.turn_end_ids: tuple[int, ...] = tuple(sorted(ends))

    def render(self, judge_input: JudgeInput) -> tuple[Segment, ...]:
        """Wrapper, body and prefill as one row of segments.

        Raises:
            ConfigError: The wrapper asks for a chat template that the tokenizer cannot apply.
        """
        frame = self.frame(judge_input.wrapper)
        return (
            Segment(frame.before, True),
            *judge_input.body,
            Segment(frame.after, True),
            *judge_input.prefill,
        )

    def encode_input(self, judge_input: JudgeInput) -> list[int]:
        """Token ids of a judge's input, beginning of sequence included where the model has one."""
        return self.encode_inputs([judge_input])[0]

    def encode_inputs(self, inputs: Sequence[JudgeInput]) -> list[list[int]]:
        """The same for many inputs, on all cores."""
        encoded = self.encode_rows([self.render(item) for item in inputs])
        plain = [isinstance(item.wrapper, PlainWrapper) for item in inputs]
        return [
            self._bos + ids if bare and ids[:1] != self._bos else ids
            for ids, bare in zip(encoded, plain, strict=True)
        ]

    def frame(self, wrapper: Wrapper) -> PlainWrapper:
        """What the wrapper puts before and after a body; a chat template is applied once."""
        return wrapper if isinstance(wrapper, PlainWrapper) else self._chat_frame(wrapper)

    @functools.lru_cache(maxsize=64)  # noqa: B019 - lives as long as the engine that owns it
    def _chat_frame(self, wrapper: ChatWrapper) -> PlainWrapper:
        if not getattr(self.hf, "chat_template", None):
            raise ConfigError(
                "the model has no chat template, and its judge asks for one",
                hint="give the judge a plain wrapper: [wrapper] kind = 'plain'",
            )
        messages = [{"role": "user", "content": _BODY_MARK}]
        if wrapper.system is not None:
            messages.insert(0, {"role": "system", "content": wrapper.system})
        text = self.hf.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True, **dict(wrapper.arguments)
        )
        before, mark, after = text.partition(_BODY_MARK)
        if not mark or _BODY_MARK in after:
            raise ConfigError(
                f"the chat template shows the user's turn {text.count(_BODY_MARK)} times, not once",
                hint="give the judge a plain wrapper, or other chat-template arguments",
            )
        return PlainWrapper(before=before, after=after)

    def encode(self, segments: Sequence[Segment]) -> list[int]:
        """Token ids of the segments' joined text, with no beginning of sequence added.

        Special tokens stand for themselves only where all of their characters are trusted. Lone
        surrogates are encoded as U+FFFD.
        """
        return self.encode_rows([segments])[0]

    def encode_rows(self, rows: Sequence[Sequence[Segment]]) -> list[list[int]]:
        """`encode` for many rows of segments, on all cores."""
        ids: list[list[int]] = []
        for start in range(0, len(rows), _ENCODED_AT_ONCE):
            some = rows[start : start + _ENCODED_AT_ONCE]
            pieces = [[(encodable(s.text), s.trusted) for s in row if s.text] for row in some]
            texts = ["".join(piece for piece, _ in own) for own in pieces]
            encodings = self._whole.encode_batch(texts, add_special_tokens=False)
            ids += map(self._trusting, texts, pieces, encodings)
        return ids

    def _trusting(self, text: str, pieces: Sequence[tuple[str, bool]], encoding: Encoding) -> list[int]:
        """The ids of an encoding, if no special token in it is a policy's; otherwise encoded anew without."""
        ids: list[int] = encoding.ids
        control = [n for n, token in enumerate(ids) if token in self._control]
        if control:
            trust, offsets = _Trust(pieces), encoding.offsets
            if not all(trust.covers(offsets[n]) for n in control):
                return self._encode_split(text, pieces, trust)
        return ids

    def _encode_split(self, text: str, pieces: Sequence[tuple[str, bool]], trust: _Trust) -> list[int]:
        """Encode with the real special tokens cut out first, and none possible in the rest."""
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
            # Some vocabularies hold a special token's text as an ordinary piece too: cut through it.
            if token in self._control and end - start > 1:
                cut = start + 1
                return self._encode_plain(text[:cut], first=first) + self._encode_plain(
                    text[cut:], first=False
                )
        return list(encoding.ids)

    @functools.lru_cache(maxsize=256)  # noqa: B019 - lives as long as the engine that owns it
    def continuation_ids(self, lead: str, continuation: str) -> tuple[int, ...]:
        """Ids of `continuation` as it is written right after `lead`.

        Where the tokenizer would merge across the joint, the continuation is encoded apart: the
        judge writes it after the lead's last token, so no merge can happen there.
        """
        head = self.encode([Segment(lead)])
        both = self.encode([Segment(lead + continuation)])
        if both[: len(head)] == head and len(both) > len(head):
            return tuple(both[len(head) :])
        return tuple(self._encode_plain(encodable(continuation), first=False))

    def decode_after(self, context: Sequence[int], ids: Sequence[int]) -> str:
        """Text of `ids` as it stands after `context`, special tokens left out.

        Decoded together with the last of the context, because SentencePiece drops the space of a
        first piece.
        """
        tail = [t for t in context[-8:] if t not in self._control]
        both: str = self.hf.decode([*tail, *ids], skip_special_tokens=True)
        head: str = self.hf.decode(tail, skip_special_tokens=True)
        return (
            both[len(head) :] if both.startswith(head) else str(self.hf.decode(ids, skip_special_tokens=True))
        )

    def turn_end(self, ids: Sequence[int]) -> int | None:
        """Place of the first token that ends the judge's turn; None where none does."""
        return next((n for n, token in enumerate(ids) if token in self.turn_end_ids), None)

    def decode_turn(
        self, context: Sequence[int], ids: Sequence[int], stop: Sequence[str]
    ) -> tuple[str, bool]:
        """What the judge wrote in `ids` after `context`, up to its turn's end or a stop text.

        Returns:
            The text, neither end in it, and whether a stop text cut it.
        """
        text = self.decode_after(context, ids[: self.turn_end(ids)])
        at = min((text.find(s) for s in stop if s in text), default=None)
        return text[:at], at is not None

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


class _Trust:
    """Which character spans of the joined text are trusted from end to end."""

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
    """Added tokens that steer a model: the special ones, and markup such as `<think>` that some
    models add as ordinary. Runs of blanks and plain words are left to be what they are."""
    return frozenset(t["id"] for t in layout["added_tokens"] if t["special"] or _MARKUP.search(t["content"]))


def _without_first_space(layout: Mapping[str, Any]) -> Any:
    """The tokenizer as it treats text that is not at the string's start."""

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
    """Byte-level BPE's printable stand-ins: printable Latin-1 stands for itself, the other bytes for
    U+0100 onwards, in order (Radford et al. 2019)."""
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
