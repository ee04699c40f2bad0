# SPDX-License-Identifier: Apache-2.0
r"""Regular expressions of one's own that no text can keep busy: every repeat gets a limit.

A judge's file names the pattern of its verdict, and that pattern is put to what policies and judges write.
A repeat without a limit takes time with the square of the text's length, or worse: `Rating:\s*` on a
hundred thousand blanks. What a verdict needs is short, so each such repeat ends after 64.
"""

from __future__ import annotations

import re

from autoj_reward.errors import ConfigError

_LIMIT = 64
"""More blanks, digits or marks than any verdict has around it."""

_PIECE = re.compile(
    r"(?P<escaped>\\.)"
    r"|(?P<set>\[\^?\]?(?:[^\]\\]|\\.)*+(?:\]|\Z))"
    r"|(?P<comment>\(\?#[^)]*+(?:\)|\Z))"
    r"|(?P<opens>\()"
    r"|(?P<closes>\))"
    r"|(?P<repeat>(?:[*+]|\{(?P<least>\d*),(?P<most>\d*)\})(?P<kind>[?+]?))"
    r"|(?P<other>.)",
    re.DOTALL,
)


_CLASSES = "AZbBdDsSwW"
"""Letters that stand for a kind of character or a place after a backslash."""


def bounded(pattern: str) -> str:
    """The pattern with every `*`, `+` and `{n,}` limited.

    Raises:
        ConfigError: It repeats something that itself repeats more than a few times, which takes time beyond
            all measure.
    """
    written: list[str] = []
    # For each open group whether it holds a long repeat; and whether what was read last does.
    groups, last = [False], False
    for piece in _PIECE.finditer(pattern):
        text = piece[0]
        if piece["opens"]:
            groups.append(False)
        elif piece["closes"]:
            last = groups.pop() if len(groups) > 1 else False
            groups[-1] |= last
        elif piece["repeat"]:
            least, most = _span(piece)
            if last and most > 1 + least and most > 2:
                raise ConfigError(
                    f"the verdict pattern {pattern!r} repeats at {piece.start()} what itself repeats",
                    hint="a text can keep such a pattern busy for hours; write one of the two out",
                )
            if most > 8:
                groups[-1] = True
            text = f"{{{least},{most}}}{piece['kind']}"
            last = False
        else:
            last = False
        written.append(text)
    return "".join(written)


def held_text(pattern: re.Pattern[str]) -> str:
    """The longest ASCII text that whatever a bounded pattern finds holds, case aside; empty if none is sure.

    Only what stands outside of groups, sets and alternatives counts.
    """
    runs, depth = [""], 0
    for piece in _PIECE.finditer(pattern.pattern):
        text = piece[0]
        if piece["opens"]:
            depth += 1
        elif piece["closes"]:
            depth -= 1
        elif depth:
            continue
        elif text in ("|", "{"):
            # `{` may begin an exact number of times.
            return ""
        elif piece["escaped"] and text[1].isalnum() and text[1] not in _CLASSES:
            # A character by its number, whose digits follow, or a group again.
            return ""
        elif piece["repeat"] or text == "?":
            least = 0 if text == "?" else _span(piece)[0]
            runs[-1] = runs[-1] if least else runs[-1][:-1]
        elif text.isascii() and (
            not text[1].isalnum() if piece["escaped"] else piece["other"] and text not in ".^$"
        ):
            runs[-1] += text[-1]
            continue
        runs.append("")
    return "" if pattern.flags & re.VERBOSE else max(runs, key=len)


def _span(repeat: re.Match[str]) -> tuple[int, int]:
    """Least and most times of a repeat."""
    mark = repeat["repeat"][0]
    if mark != "{":
        return int(mark == "+"), _LIMIT
    least = int(repeat["least"] or 0)
    return least, int(repeat["most"]) if repeat["most"] else least + _LIMIT
