# SPDX-License-Identifier: Apache-2.0
"""Load untrusted YAML: mappings and text only, with `!include` inside one folder and limits on size.

Refused, each with its place: every tag but `!include`, anchors and aliases (a few lines of them can
stand for gigabytes), documents beside the first, a key given twice, an include that leaves the root by
`..`, an absolute path or a symbolic link, includes in a circle, and files that are too large, too deep
or too many.
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
"""Of one file, those within includes counted: files that include others ten times each grow as bombs do."""
_MOST_DEPTH = 50
_MOST_CHAINED = 8
"""Files within files within files."""


class YamlFiles:
    """Loads YAML files and what they include.

    Args:
        root: Paths of `!include` begin here; nothing outside is read.
    """

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()

    def load(self, path: Path) -> Any:
        """A file's content: dictionaries, lists and texts. A number, a date and `yes` are texts too.

        Raises:
            DataError: The file cannot be read or holds what is refused; names file and line.
        """
        return _Reading(self._root).read(path, ())


class _Reading:
    """One file with its includes."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._n_includes = 0

    def read(self, path: Path, above: tuple[Path, ...]) -> Any:
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
            _check_events(text, path)
            node = _Loader(text).get_single_node()
        except yaml.YAMLError as error:
            raise _wrong(str(getattr(error, "problem", None) or error), error, path) from error
        return None if node is None else self._value(node, path, (*above, real))

    def _value(self, node: yaml.Node, path: Path, files: tuple[Path, ...]) -> Any:
        if node.tag == "!include":
            return self._include(node, path, files)
        if not node.tag.startswith("tag:yaml.org,2002:") or node.tag.rpartition(":")[2] not in _PLAIN:
            raise _at(node, f"holds the tag {node.tag}, which is refused: only !include is known", path)
        if isinstance(node, yaml.MappingNode):
            found: dict[str, Any] = {}
            for key, value in node.value:
                name = self._value(key, path, files)
                if not isinstance(name, str):
                    raise _at(key, "has a name that is not a text", path)
                if name in found:
                    raise _at(key, f"names {name!r} twice", path)
                found[name] = self._value(value, path, files)
            return found
        if isinstance(node, yaml.SequenceNode):
            return [self._value(item, path, files) for item in node.value]
        return node.value

    def _include(self, node: yaml.Node, path: Path, files: tuple[Path, ...]) -> Any:
        if not isinstance(node, yaml.ScalarNode) or not node.value or "\0" in node.value:
            raise _at(node, "!include takes one path", path)
        self._n_includes += 1
        if self._n_includes > _MOST_INCLUDES:
            raise _at(node, f"includes more than {_MOST_INCLUDES} files", path)
        if len(files) > _MOST_CHAINED:
            raise _at(node, f"is included {_MOST_CHAINED} files deep and includes another", path)
        target = (self._root / node.value).resolve()
        if not target.is_relative_to(self._root):
            raise _at(node, f"!include {node.value!r} leaves the root {self._root}", path)
        if not target.is_file():
            raise _at(
                node, f"!include {node.value!r}: there is no such file under {self._root}", path,
                hint="paths begin at the root of the checkout: --criteria-root FOLDER",
            )  # fmt: skip
        return self.read(target, files)


_PLAIN = frozenset({"map", "seq", "str"})


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """Parses; no plain text becomes a number, a date or a boolean."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - PyYAML's own name and form


def _check_events(text: str, path: Path) -> None:
    """Refuse aliases and depth while the text is parsed: the whole of a deep one would take minutes."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        mark = event.start_mark
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise DataError(
                "holds an anchor or alias, which is refused", path=str(path), line=mark.line + 1,
                hint="write the entries out, or put them in a file and !include it",
            )  # fmt: skip
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _MOST_DEPTH:
            raise DataError(f"is nested more than {_MOST_DEPTH} deep", path=str(path), line=mark.line + 1)


def _at(node: yaml.Node, message: str, path: Path, hint: str = "") -> DataError:
    return DataError(message, path=str(path), line=node.start_mark.line + 1, hint=hint)


def _wrong(message: str, error: yaml.YAMLError, path: Path) -> DataError:
    mark = getattr(error, "problem_mark", None)
    return DataError(f"is not YAML: {message}", path=str(path), line=None if mark is None else mark.line + 1)
