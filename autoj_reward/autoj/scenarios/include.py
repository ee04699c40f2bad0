# SPDX-License-Identifier: Apache-2.0
"""Load untrusted YAML: mappings and text only, with `!include` inside one folder and limits on size.

Errors, each with file and line: any tag but `!include`, anchors and aliases (a few lines can expand to
gigabytes), further documents, duplicate keys, includes that leave the root by `..`, an absolute path or a
symbolic link, circular includes, and too large, too deep or too many files.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from autoj_reward.environment import how_to_install
from autoj_reward.errors import ConfigError, DataError

try:
    import yaml
except ImportError as error:
    raise ConfigError(
        "scenario criteria need the package PyYAML", hint=how_to_install("scenarios")
    ) from error

_MOST_BYTES = 1 << 20
_MOST_INCLUDES = 200
"""Includes of one file, nested ones counted: files that include ten others each grow exponentially."""
_MOST_DEPTH = 50
_MOST_CHAINED = 8
"""Nested includes."""


def load_yaml(path: Path, root: Path) -> Any:
    """Load a file as dictionaries, lists and texts; numbers, dates and `yes` are texts too.

    `root` is the base folder of `!include` paths; nothing outside is read.

    Raises:
        DataError: The file cannot be read or is refused; names file and line.
    """
    return _read(path, root.resolve(), [], ())


def _read(path: Path, root: Path, included: list[Path], above: tuple[Path, ...]) -> Any:
    real = path.resolve()
    if real in above:
        circle = " -> ".join(p.name for p in (*above[above.index(real) :], real))
        raise DataError(f"files include each other in a circle: {circle}", path=str(path))
    try:
        if real.stat().st_size > _MOST_BYTES:
            raise DataError(f"is larger than {_MOST_BYTES >> 20} MiB", path=str(path))
        text = real.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot be read: {error}", path=str(path)) from error
    try:
        return _Loader(text, path, root, included, (*above, real)).get_single_data()
    except yaml.YAMLError as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
        line = None if mark is None else mark.line + 1
        raise DataError(f"is not YAML: {problem or error}", path=str(path), line=line) from error


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """Loads one file without converting texts to numbers, dates or booleans."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - PyYAML's own name and form

    def __init__(
        self, text: str, path: Path, root: Path, included: list[Path], files: tuple[Path, ...]
    ) -> None:
        super().__init__(text)
        self._path, self._root, self._included, self._files = path, root, included, files
        self._depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Refuse aliases and deep nesting before composing, which would take minutes for a deep file."""
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            hint = "write the entries out, or put them in a file and !include it"
            raise self._wrong(event, "holds an anchor or alias, which is refused", hint)
        self._depth += 1
        if self._depth > _MOST_DEPTH and isinstance(event, yaml.CollectionStartEvent):
            raise self._wrong(event, f"is nested more than {_MOST_DEPTH} deep")
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        """Construct mappings, lists and texts only, instead of PyYAML's constructors."""
        kind = node.tag.removeprefix("tag:yaml.org,2002:")
        if node.tag == "!include":
            return self._include(node)
        if kind == "str":
            return node.value
        if kind == "seq":
            return [self.construct_object(item) for item in node.value]
        if kind != "map":
            raise self._wrong(node, f"holds the tag {node.tag}, which is refused: only !include is known")
        found: dict[str, Any] = {}
        for key, value in node.value:
            name = self.construct_object(key)
            if not isinstance(name, str):
                raise self._wrong(key, "has a name that is not a text")
            if name in found:
                raise self._wrong(key, f"names {name!r} twice")
            found[name] = self.construct_object(value)
        return found

    def _include(self, node: Any) -> Any:
        if not isinstance(node, yaml.ScalarNode) or not node.value or "\0" in node.value:
            raise self._wrong(node, "!include takes one path")
        target = (self._root / node.value).resolve()
        self._included.append(target)
        if len(self._included) > _MOST_INCLUDES:
            raise self._wrong(node, f"includes more than {_MOST_INCLUDES} files")
        if len(self._files) > _MOST_CHAINED:
            raise self._wrong(node, f"is included {_MOST_CHAINED} files deep and includes another")
        if not target.is_relative_to(self._root):
            raise self._wrong(node, f"!include {node.value!r} leaves the root {self._root}")
        if not target.is_file():
            hint = "paths begin at the root of the checkout: --criteria-root FOLDER"
            raise self._wrong(
                node, f"!include {node.value!r}: there is no such file under {self._root}", hint
            )
        return _read(target, self._root, self._included, self._files)

    def _wrong(self, where: Any, message: str, hint: str = "") -> DataError:
        return DataError(message, path=str(self._path), line=where.start_mark.line + 1, hint=hint)
