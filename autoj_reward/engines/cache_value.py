# SPDX-License-Identifier: Apache-2.0
"""What an engine gave back, as bytes: little-endian on every machine, exact in every bit.

A text keeps its code points (lone surrogates too). A reading keeps its doubles (minus infinity too); its
continuations are those of the readout that asked, and are not written again.
"""

from __future__ import annotations

import struct
from dataclasses import fields
from typing import Any
from zlib import crc32

from autoj_reward.errors import EngineContractBroken, StoreError
from autoj_reward.types import FinishReason, JudgeOutput, PathReading, Reading, Readout, Usage

_HEAD = struct.Struct("<BBIIIII")
"""Format, finish reason, four token counts, and the bytes of the text."""

_FORMAT = 1
_FINISH: tuple[FinishReason, ...] = ("stop", "length", "read")
_THINKS, _READS, _SHIFT = 1, 2, 2
_MOST = 0xFFFF_FFFF


def encode(output: JudgeOutput, readout: Readout | None) -> bytes:
    """An output as bytes.

    Args:
        output: What the engine gave.
        readout: What it was asked to read, or None.

    Raises:
        EngineContractBroken: The reading is of other continuations than those asked for, or of none
            that were asked for.
    """
    text = output.text.encode("utf-8", "surrogatepass")
    flags = _FINISH.index(output.finish_reason) << _SHIFT
    tail = b""
    if output.thinking is not None:
        flags |= _THINKS
        thinking = output.thinking.encode("utf-8", "surrogatepass")
        tail += struct.pack("<I", len(thinking)) + thinking
    if output.reading is not None:
        flags |= _READS
        paths = output.reading.paths
        if readout is None or tuple(p.text for p in paths) != readout.continuations:
            raise EngineContractBroken("the engine read other continuations than it was asked for")
        numbers = [output.reading.unread_prob]
        for path in paths:
            numbers += (path.path_logprob, path.end_logprob)
        tail += struct.pack(f"<{len(numbers)}d", *numbers)
    usage = output.usage
    counts = (usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens, usage.n_requests)
    return _HEAD.pack(_FORMAT, flags, *(min(n, _MOST) for n in counts), len(text)) + text + tail


def decode(value: bytes, readout: Readout | None) -> JudgeOutput:
    """The output again, equal to the one that was encoded.

    Raises:
        StoreError: These are not the bytes of an output, or of one for another readout.
    """
    try:
        known, flags, prompt, cached, completion, n_requests, n_text = _HEAD.unpack_from(value)
        if known != _FORMAT:
            raise StoreError(f"a stored output has format {known}; this version reads {_FORMAT}")
        at = _HEAD.size + n_text
        text = value[_HEAD.size : at].decode("utf-8", "surrogatepass")
        thinking: str | None = None
        if flags & _THINKS:
            (n_thinking,) = struct.unpack_from("<I", value, at)
            at += 4 + n_thinking
            thinking = value[at - n_thinking : at].decode("utf-8", "surrogatepass")
        return JudgeOutput(
            text=text,
            finish_reason=_FINISH[flags >> _SHIFT],
            usage=Usage(
                prompt_tokens=prompt,
                cached_tokens=cached,
                completion_tokens=completion,
                n_requests=n_requests,
            ),
            reading=_reading(value, at, readout) if flags & _READS else None,
            thinking=thinking,
        )
    except (struct.error, IndexError, ValueError) as error:
        raise StoreError(f"a stored output cannot be read: {error}") from error


def _reading(value: bytes, at: int, readout: Readout | None) -> Reading:
    texts = () if readout is None else readout.continuations
    if len(value) - at != 8 * (1 + 2 * len(texts)):
        raise ValueError(f"it does not hold {len(texts)} verdicts")
    unread, *numbers = struct.unpack_from(f"<{1 + 2 * len(texts)}d", value, at)
    paths: list[PathReading] = []
    for text, path_logprob, end_logprob in zip(texts, numbers[::2], numbers[1::2], strict=True):
        # A frozen record's own constructor takes twice as long, and a rating has 19 of these: it was an
        # eighth of a warm judgment.
        path = _new(PathReading)
        _set_text(path, text)
        _set_path_logprob(path, path_logprob)
        _set_end_logprob(path, end_logprob)
        paths.append(path)
    return Reading(paths=tuple(paths), unread_prob=unread)


_new: Any = object.__new__
_set_text, _set_path_logprob, _set_end_logprob = (
    vars(PathReading)[field.name].__set__ for field in fields(PathReading)
)
"""Write the slots of a record that is frozen for everybody else, in the order of its fields."""


def checksum(key: bytes, value: bytes) -> int:
    """CRC-32 of a record: finds torn and damaged ones."""
    return crc32(value, crc32(key))
