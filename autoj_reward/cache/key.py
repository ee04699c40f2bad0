# SPDX-License-Identifier: Apache-2.0
"""The cache key: everything that can change an engine's output, and nothing else.

In the key: the version of this layout, the engine's fingerprint (weights, tokenizer, chat template, adapter,
dtype, quantisation), the rendered input with its trust marks, the wrapper, and either sampling settings and
draw or the readout. Token ids follow from these, so a hit needs no tokenizer. Not in the key: the parser, the
verdict set's meaning, calibration and aggregation (applied to stored outputs), library versions, batch size
and order.

A key has two halves of 16 bytes. The first is the hash of the body (`JudgeInput.body`), so that everything
about one text is adjacent in the store; the second is the hash of the rest, such as engine, prefill and draw,
computed from stored hashes, so that the key of a reading can be found from the critique it follows.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from typing import Any, NamedTuple

from autoj_reward.types import (
    ChatWrapper,
    ContinuationQuery,
    JudgeInput,
    PlainWrapper,
    Sampling,
    Segment,
    Wrapper,
)

KEY_VERSION = 1
"""Incremented when equal inputs get other keys than before."""

HALF = 16
"""Bytes of each half of a key, and of every hash in it."""


@dataclass(frozen=True, kw_only=True)
class Setup:
    """The part that many keys share: engine, wrapper and settings.

    Attributes:
        engine: The engine's fingerprint.
        wrapper: Canonical JSON of the wrapper.
        settings: Canonical JSON of the sampling settings or of the readout.
    """

    engine: str
    wrapper: bytes
    settings: bytes

    @cached_property
    def digest(self) -> bytes:
        """16-byte hash of the three."""
        return _hash(_framed([b"%d" % KEY_VERSION, text_bytes(self.engine), self.wrapper, self.settings]))

    @cached_property
    def number(self) -> int:
        """The digest's first 8 bytes: its id in the store."""
        return int.from_bytes(self.digest[:8], "little", signed=True)

    def described(self) -> dict[str, Any]:
        """Engine, wrapper and settings as one flat dictionary, for people."""
        parts: dict[str, Any] = {"engine": self.engine}
        for group, source in (("wrapper", self.wrapper), ("settings", self.settings)):
            for name, value in json.loads(source.decode("utf-8", "surrogatepass")).items():
                parts[f"{group}.{name}"] = value
        return parts


class Parts(NamedTuple):
    """The parts of a key.

    `key` is 32 bytes; `prefill` the 16-byte hash of what the judge had already written; `draw` which of
    K draws it is, 0 for greedy writing and for readings.
    """

    key: bytes
    setup: Setup
    prefill: bytes
    draw: int


def parts_of(inputs: Sequence[JudgeInput], fingerprint: str) -> list[Parts]:
    """The keys of inputs, in order.

    Args:
        inputs: B inputs.
        fingerprint: Of the engine that is to answer.
    """
    # Inputs of one call share these objects; each is hashed once, by its id while `inputs` lives.
    setups: dict[tuple[int, int], Setup] = {}
    hashes: dict[int, bytes] = {}
    result: list[Parts] = []
    for item in inputs:
        asked = item.sampling if item.readout is None else item.readout
        place = (id(item.wrapper), id(asked))
        setup = setups.get(place)
        if setup is None:
            settings = sampling_json(item.sampling) if item.readout is None else readout_json(item.readout)
            setup = setups[place] = Setup(
                engine=fingerprint, wrapper=wrapper_json(item.wrapper), settings=settings
            )
        prefill = hashes.get(id(item.prefill))
        if prefill is None:
            prefill = hashes[id(item.prefill)] = segments_hash(item.prefill)
        body = hashes.get(id(item.body))
        if body is None:
            body = hashes[id(item.body)] = segments_hash(item.body)
        # Greedy decoding gives the same text for every draw.
        written = item.readout is None and item.sampling.temperature > 0
        draw = item.sample_index if written else 0
        result.append(Parts(body + rest_hash(setup.digest, prefill, draw), setup, prefill, draw))
    return result


def rest_hash(setup: bytes, prefill: bytes, draw: int) -> bytes:
    """The second half of a key."""
    return blake2b(setup + prefill + draw.to_bytes(8, "little"), digest_size=HALF).digest()


def segments_hash(segments: Sequence[Segment]) -> bytes:
    """Hash of a text with its trust marks; adjacent segments of equal trust count as one."""
    # Each run of equal trust: a mark, its length in characters, and the text.
    pieces: list[str] = []
    run, marked = "", False
    for segment in segments:
        text, trusted = segment.text, segment.trusted
        if trusted is marked:
            run += text
        elif text:
            if run:
                pieces.append(f"{'t' if marked else 'u'}{len(run)}:")
                pieces.append(run)
            run, marked = text, trusted
    if run:
        pieces.append(f"{'t' if marked else 'u'}{len(run)}:")
        pieces.append(run)
    return _hash("".join(pieces).encode("utf-8", "surrogatepass"))


def wrapper_json(wrapper: Wrapper) -> bytes:
    """A wrapper as canonical JSON."""
    if isinstance(wrapper, PlainWrapper):
        return canonical_json({"kind": "plain", "before": wrapper.before, "after": wrapper.after})
    assert isinstance(wrapper, ChatWrapper)
    known = {"kind": "chat", "system": wrapper.system, "arguments": dict(wrapper.arguments)}
    # They decide how a thinking block that the chat template opens is closed.
    marks = {} if wrapper.thinking is None else {"thinking": list(wrapper.thinking)}
    return canonical_json(known | marks)


def sampling_json(sampling: Sampling) -> bytes:
    """Sampling settings as canonical JSON; at temperature 0 without those that only affect sampling."""
    greedy = {
        "kind": "text",
        "max_new_tokens": int(sampling.max_new_tokens),
        "temperature": float(sampling.temperature),
        "repetition_penalty": float(sampling.repetition_penalty),
        "stop": list(sampling.stop),
    }
    if sampling.temperature == 0:
        return canonical_json({**greedy, "temperature": 0.0})
    draws = {"top_p": float(sampling.top_p), "top_k": int(sampling.top_k), "seed": sampling.seed}
    return canonical_json(greedy | draws)


def readout_json(readout: ContinuationQuery) -> bytes:
    """A readout as canonical JSON."""
    return canonical_json(
        {
            "kind": "reading",
            "lead": readout.verdict_prefix,
            "continuations": list(readout.continuations),
            "end_prefixes": list(readout.terminators),
            "end_of_turn": bool(readout.end_of_turn),
            "follow_above": float(readout.follow_above),
            "assume_ends": bool(readout.assume_ends),
        }
    )


def readout_of(settings: bytes) -> ContinuationQuery | None:
    """The readout in stored settings, or None if they are sampling settings."""
    known = json.loads(settings.decode("utf-8", "surrogatepass"))
    if known.pop("kind") != "reading":
        return None
    # Names of the first version of the key.
    known["verdict_prefix"] = known.pop("lead")
    known["terminators"] = tuple(known.pop("end_prefixes"))
    return ContinuationQuery(**{**known, "continuations": tuple(known["continuations"])})


def sampling_of(settings: bytes) -> Sampling | None:
    """The sampling settings in stored settings, or None if they are a readout."""
    known = json.loads(settings.decode("utf-8", "surrogatepass"))
    if known.pop("kind") != "text":
        return None
    return Sampling(**{**known, "stop": tuple(known["stop"])})


def canonical_json(value: Any) -> bytes:
    """JSON that is equal for equal values; lone surrogates are kept."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=repr)
    return text_bytes(text)


def text_bytes(text: str) -> bytes:
    """UTF-8 that keeps lone surrogates."""
    return text.encode("utf-8", "surrogatepass")


def _framed(pieces: Sequence[bytes]) -> bytes:
    return b"".join(b"%d:%b" % (len(piece), piece) for piece in pieces)


def _hash(content: bytes) -> bytes:
    return blake2b(content, digest_size=HALF).digest()
