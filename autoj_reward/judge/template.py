# SPDX-License-Identifier: Apache-2.0
"""Templates: how rubric, prompt and completions are laid out for a judge.

A placeholder is `{name}`. The text is cut into pieces once; values are put between them and are never
looked at again, so braces and delimiters inside a completion are only text. `{{name}}` is the
literal `{name}`.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from autoj_reward.errors import TemplateError
from autoj_reward.types import Segment

_PLACEHOLDER = re.compile(r"\{\{(?P<literal>[A-Za-z_]+)\}\}|\{(?P<name>[A-Za-z_]+)\}")


@dataclass(frozen=True, kw_only=True)
class Template:
    """Text with placeholders.

    Attributes:
        name: For messages.
        text: The template, byte for byte as the model expects it.
        aliases: The template's own placeholder names, and the field each one means.
        blocks: Fields that may be left out: field to text with one `{value}`. With no value the
            placeholder leaves nothing behind.
        defaults: What is shown of fields that are not given.
    """

    name: str
    text: str
    aliases: Mapping[str, str] = field(default_factory=dict)
    blocks: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, str] = field(default_factory=dict)

    @functools.cached_property
    def _pieces(self) -> tuple[tuple[str, str | None], ...]:
        """Literal text, and the field that follows it (None at the end)."""
        pieces: list[tuple[str, str | None]] = []
        literal, position = "", 0
        for match in _PLACEHOLDER.finditer(self.text):
            literal += self.text[position : match.start()]
            position = match.end()
            if match["literal"]:
                literal += "{" + match["literal"] + "}"
                continue
            pieces.append((literal, self.aliases.get(match["name"], match["name"])))
            literal = ""
        return (*pieces, (literal + self.text[position:], None))

    @functools.cached_property
    def fields(self) -> frozenset[str]:
        """Every field the template can show."""
        return frozenset(name for _, name in self._pieces if name is not None)

    @functools.cached_property
    def required(self) -> frozenset[str]:
        """The fields it cannot do without."""
        return self.fields - set(self.blocks) - set(self.defaults)

    def require(self, *, needed: frozenset[str], allowed: frozenset[str]) -> None:
        """Check that the template shows what it must, and nothing that is never given.

        Raises:
            TemplateError: With all missing and unknown fields.
        """
        missing = sorted(needed - self.fields)
        unknown = sorted((self.fields | set(self.blocks)) - allowed)
        unknown += sorted({*self.blocks, *self.defaults} - self.fields - set(unknown))
        if missing or unknown:
            raise TemplateError(
                f"template {self.name!r} does not show the right fields",
                missing=missing,
                unknown=unknown,
                hint=f"it may use {sorted(allowed)}; write a literal brace pair as {{{{name}}}}",
            )

    def check(self, given: frozenset[str]) -> None:
        """Check a set of field names against the template.

        Raises:
            TemplateError: With all missing and unknown fields.
        """
        missing, unknown = sorted(self.required - given), sorted(given - self.fields)
        if missing or unknown:
            raise TemplateError(
                f"template {self.name!r} cannot be filled",
                missing=missing,
                unknown=unknown,
                hint=f"it takes {sorted(self.fields)}",
            )

    def fill(self, values: Mapping[str, str | tuple[Segment, ...]]) -> tuple[Segment, ...]:
        """Put the values in, in one pass; a value that is laid out already is a tuple of pieces.

        Returns:
            Trusted pieces (the template's words) and untrusted ones (the values), none empty.

        Raises:
            TemplateError: With all missing and unknown fields.
        """
        self.check(frozenset(values))
        segments: list[Segment] = []
        for literal, name, before, after in self._layout:
            segments += literal
            if name in self.defaults and name not in values:
                segments += [*before, Segment(self.defaults[name], True), *after]
            if name in values:
                segments += before
                value = values[name]
                if isinstance(value, tuple):
                    segments += value
                elif value:
                    segments.append(Segment(value))
                segments += after
        return tuple(segments)

    @functools.cached_property
    def _layout(self) -> tuple[tuple[list[Segment], str, list[Segment], list[Segment]], ...]:
        """For each piece: its words, the field, and the words of the field's block. Made once and shared."""

        def words(text: str) -> list[Segment]:
            return [Segment(text, True)] if text else []

        parted = [
            (literal, name or "", self.blocks.get(name or "", "{value}").partition("{value}"))
            for literal, name in self._pieces
        ]
        return tuple((words(literal), name, words(b), words(a)) for literal, name, (b, _, a) in parted)
