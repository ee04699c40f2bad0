# SPDX-License-Identifier: Apache-2.0
"""Serialise engine outputs to bytes: little-endian, bit-exact.

Lone surrogates and infinities are kept. A reading's continuations are not stored: they are those of the
readout.
"""

from __future__ import annotations

import struct
from zlib import crc32

from autoj_reward.errors import EngineContractBroken, StoreError
from autoj_reward.types import (
    ContinuationLogprobs,
    ContinuationQuery,
    FinishReason,
    FlatReading,
    JudgeOutput,
    Usage,
)

_HEAD = struct.Struct("<BBIIIII")
"""Format, finish reason, four token counts, and the bytes of the text."""

_FORMAT = 1
_FINISH: tuple[FinishReason, ...] = ("stop", "length", "read")
_THINKS, _READS, _SHIFT = 1, 2, 2
_MOST = 0xFFFF_FFFF


def encode(output: JudgeOutput, readout: ContinuationQuery | None) -> bytes:
    """An output as bytes; `readout` is that of the input.

    Raises:
        EngineContractBroken: The reading has other continuations than the readout.
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
            raise EngineContractBroken("the engine's reading has other continuations than were asked for")
        numbers = [output.reading.unread_prob]
        for path in paths:
            numbers += (path.path_logprob, path.end_logprob)
        tail += struct.pack(f"<{len(numbers)}d", *numbers)
    usage = output.usage
    counts = (usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens, usage.n_requests)
    return _HEAD.pack(_FORMAT, flags, *(min(n, _MOST) for n in counts), len(text)) + text + tail


def decode(value: bytes, readout: ContinuationQuery | None) -> JudgeOutput:
    """Inverse of `encode`.

    Raises:
        StoreError: These are not the bytes of an output for this readout.
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


def _reading(value: bytes, at: int, readout: ContinuationQuery | None) -> ContinuationLogprobs:
    texts = () if readout is None else readout.continuations
    if len(value) - at != 8 * (1 + 2 * len(texts)):
        raise ValueError(f"it does not hold {len(texts)} verdicts")
    return FlatReading(texts, struct.unpack_from(f"<{1 + 2 * len(texts)}d", value, at))


def checksum(key: bytes, value: bytes) -> int:
    """CRC-32 of a record."""
    return crc32(value, crc32(key))
