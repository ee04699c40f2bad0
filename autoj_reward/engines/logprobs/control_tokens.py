# SPDX-License-Identifier: Apache-2.0
"""Tell which control tokens of a row come from trusted text alone.

The offsets of a tokenizer say which characters made a token, and cost a quarter of its time. Most rows do not
need them: their untrusted text does not hold a single character with which a control token's text begins.
"""

from __future__ import annotations

import bisect
import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_MARKUP = re.compile(r"[<>|\[\]{}]")

Piece = tuple[str, bool]
"""Text, and whether it is trusted."""


class ControlTexts:
    """The texts of a tokenizer's control tokens, where nothing but such a text becomes one.

    Args:
        texts: One or more, none of them empty.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = tuple(texts)
        self._first_characters = sorted({text[0] for text in texts})

    def only_trusted(self, row: Sequence[Piece]) -> bool:
        """Whether these texts are in a row's trusted text only; False also if that takes a closer look."""
        before = ""
        for text, trusted in row:
            if trusted:
                before += text
                continue
            if self._goes_on(before) or any(first in text for first in self._first_characters):
                return False
            before = ""
        return True

    def after_last(self, text: str) -> str | None:
        """What follows the last of these texts in a text; None if it holds none, or may end within one."""
        ends = [at + len(own) for own in self._texts if (at := text.rfind(own)) >= 0]
        return text[max(ends) :] if ends and not self._goes_on(text) else None

    @functools.lru_cache(maxsize=256)  # noqa: B019 - lives as long as the tokenizer that owns it
    def _goes_on(self, text: str) -> bool:
        """Whether what comes after a text may complete a control token's text that begins in it."""
        return any(text.endswith(own[:n]) for own in self._texts for n in range(1, len(own)))


def control_texts(
    layout: Mapping[str, Any], control: frozenset[int], ordinary: frozenset[int]
) -> ControlTexts | None:
    """The texts of the control tokens, if nothing but such a text, as it is written, becomes one.

    Args:
        layout: The tokenizer's `tokenizer.json`.
        control: Ids of the control tokens.
        ordinary: Ids of the vocabulary without added tokens.

    Returns:
        None if there are no control tokens, or if one may also come from a normalised text, from the blanks
        around it, from an unknown character or from ordinary pieces, or counts as a whole word only.
    """
    tokens = [t for t in layout["added_tokens"] if t["id"] in control]
    texts = [t["content"] for t in tokens]
    normalised = layout["normalizer"] is not None
    if not all(texts) or any(
        t["lstrip"] or t["rstrip"] or t["single_word"] or (t["normalized"] and normalised) for t in tokens
    ):
        return None
    if layout["model"].get("unk_token") in texts:
        return None
    # Pieces of bytes are the text itself.
    if control & ordinary and (normalised or "ByteLevel" not in str(layout["pre_tokenizer"])):
        return None
    return ControlTexts(texts) if texts else None


def control_ids(layout: Mapping[str, Any]) -> frozenset[int]:
    """Added tokens with a function: special ones, and markup such as `<think>`; not blanks or plain words."""
    return frozenset(t["id"] for t in layout["added_tokens"] if t["special"] or _MARKUP.search(t["content"]))


class Trust:
    """Tells whether a character span of the joined text is entirely trusted."""

    def __init__(self, pieces: Sequence[Piece]) -> None:
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


def places(ids: list[int], token: int) -> Iterator[int]:
    """Where a token stands."""
    n = -1
    for _ in range(ids.count(token)):
        n = ids.index(token, n + 1)
        yield n
