# SPDX-License-Identifier: Apache-2.0
"""Where things are: which room imports which, and how large rooms and files may be.

`python -m tests.test_house` prints the rooms with their files, lines and imports.
"""

from __future__ import annotations

import ast
import functools
import graphlib
from collections import defaultdict
from pathlib import Path

import pytest

from tests.conftest import REPO

PACKAGE, INTEGRATIONS = REPO / "autoj_reward", REPO / "integrations"

# From the ground up. A room may import rooms that come before it, and only those named here.
ALLOWED: dict[str, set[str]] = {
    "redact": set(),
    "environment": {"redact"},
    "json_text": set(),
    "terminal": set(),
    "identity": set(),
    "statistics": set(),
    "distributions": set(),
    "errors": {"terminal"},
    "criteria": {"distributions", "errors"},
    "types": {"criteria"},
    "judgments": {"criteria", "distributions", "types"},
    "judging": {"criteria", "judgments", "types"},
    "console": {"terminal"},
    "progress": {"console", "terminal"},
    "cache": {"environment", "errors", "json_text", "types"},
    "engines/logprobs": {"errors", "types"},
    "toml_file": {"errors"},
    "engines/checkpoint": {"cache", "environment", "errors"},
    "engines/openai": {
        "engines/checkpoint",
        "engines/logprobs",
        "environment",
        "errors",
        "identity",
        "redact",
        "types",
    },
    "engines/transformers": {
        "engines/checkpoint",
        "engines/logprobs",
        "environment",
        "errors",
        "identity",
        "types",
    },
    "engines/vllm": {
        "engines/checkpoint",
        "engines/logprobs",
        "engines/transformers",
        "errors",
        "identity",
        "types",
    },
    "engines/local_server": {
        "console",
        "engines/checkpoint",
        "engines/openai",
        "engines/vllm",
        "environment",
        "errors",
        "redact",
        "terminal",
        "types",
    },
    "engines": {
        "cache",
        "engines/checkpoint",
        "engines/local_server",
        "engines/logprobs",
        "engines/openai",
        "engines/transformers",
        "engines/vllm",
        "environment",
        "errors",
        "identity",
        "types",
    },
    "testing": {"engines", "types"},
    "judge": {
        "cache",
        "criteria",
        "distributions",
        "engines",
        "engines/checkpoint",
        "engines/logprobs",
        "environment",
        "errors",
        "identity",
        "judgments",
        "toml_file",
        "types",
    },
    "budget": {"engines", "errors", "judge", "judgments", "types"},
    "ranking": {"criteria", "errors", "json_text", "judge", "judgments", "types"},
    "reward": {
        "budget",
        "criteria",
        "engines",
        "errors",
        "judge",
        "judgments",
        "ranking",
        "statistics",
        "types",
    },
    "rows": {
        "budget",
        "criteria",
        "engines",
        "environment",
        "errors",
        "identity",
        "json_text",
        "judge",
        "judgments",
        "progress",
        "ranking",
        "redact",
        "types",
    },
    "autoj": {
        "criteria",
        "engines",
        "engines/checkpoint",
        "environment",
        "errors",
        "judge",
        "judgments",
        "redact",
        "rows",
        "types",
    },
    "monitor": {"errors", "json_text", "judge", "reward", "rows", "statistics", "types"},
    "rescore": {"cache", "criteria", "engines", "errors", "judge", "judgments", "rows", "types"},
    "serve": {"engines", "errors", "judge", "judging", "judgments", "ranking", "reward", "rows", "types"},
    "integrations": {
        "budget",
        "console",
        "engines",
        "engines/openai",
        "environment",
        "errors",
        "json_text",
        "judge",
        "judging",
        "judgments",
        "monitor",
        "ranking",
        "redact",
        "reward",
        "rows",
        "toml_file",
        "types",
    },
    "evaluate": {
        "autoj",
        "environment",
        "errors",
        "judge",
        "judgments",
        "ranking",
        "rows",
        "statistics",
        "types",
    },
    "reporting": {"environment", "errors", "json_text", "judge", "monitor", "ranking", "rows", "statistics"},
    "training": {
        "engines/checkpoint",
        "engines/logprobs",
        "engines/transformers",
        "errors",
        "evaluate",
        "json_text",
        "judge",
        "judgments",
        "progress",
        "rows",
        "statistics",
        "toml_file",
        "types",
    },
    "cli": {
        "criteria",
        "autoj",
        "budget",
        "cache",
        "console",
        "engines",
        "engines/checkpoint",
        "engines/local_server",
        "environment",
        "errors",
        "evaluate",
        "integrations",
        "json_text",
        "judge",
        "judgments",
        "monitor",
        "progress",
        "ranking",
        "redact",
        "reporting",
        "rescore",
        "rows",
        "serve",
        "statistics",
        "terminal",
        "toml_file",
        "training",
        "types",
    },
}

MOST_FILES = {"cli": 25}
MOST_LINES, LEAST_LINES = 400, 20
FACES = ("__init__.py", "__main__.py")


def files() -> list[Path]:
    return sorted([*PACKAGE.rglob("*.py"), *INTEGRATIONS.rglob("*.py")])


def module(path: Path) -> str:
    if path.is_relative_to(INTEGRATIONS):
        parts = ("autoj_reward", "integrations", *path.relative_to(INTEGRATIONS).with_suffix("").parts)
    else:
        parts = path.relative_to(REPO).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module(path): path for path in files()}


def room(name: str) -> str:
    """A module's room: its top folder, one folder deeper in `engines`, or its own name at the top.

    The engines are rooms of their own, because each can be read and changed without the others.
    """
    parts = name.split(".")[1:]
    if not parts:
        return "autoj_reward"
    inside_folder = len(parts) > 2 or (len(parts) == 2 and MODULES.get(name, Path()).name == "__init__.py")
    return "/".join(parts[:2]) if parts[0] == "engines" and inside_folder else parts[0]


def imported(path: Path) -> set[str]:
    """Modules of this package that a file imports, at the top or inside functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            submodules = {f"{node.module}.{alias.name}" for alias in node.names} & MODULES.keys()
            found |= submodules or {node.module}
    return found & MODULES.keys()


@functools.cache
def arrows() -> dict[str, set[str]]:
    """For each room the rooms that it imports; the package's face, which names everything, is left out."""
    found: dict[str, set[str]] = defaultdict(set)
    for name, path in MODULES.items():
        if name not in ("autoj_reward", "autoj_reward.__main__"):
            found[room(name)] |= {room(other) for other in imported(path)} - {room(name), "autoj_reward"}
    return dict(found)


def test_every_room_is_listed() -> None:
    assert set(ALLOWED) == set(arrows())


def test_no_room_imports_itself_in_a_circle() -> None:
    graphlib.TopologicalSorter(arrows()).prepare()


@pytest.mark.parametrize("name", ALLOWED)
def test_imports_point_down(name: str) -> None:
    assert arrows().get(name, set()) <= ALLOWED[name]
    above = list(ALLOWED)[list(ALLOWED).index(name) :]
    assert not ALLOWED[name] & set(above)


@pytest.mark.parametrize("path", [p for p in files() if p.name not in FACES], ids=module)
def test_files_are_of_a_readable_size(path: Path) -> None:
    assert LEAST_LINES <= len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES


def test_no_folder_holds_too_many_files() -> None:
    for folder in {path.parent for path in files()}:
        own = [p for p in folder.glob("*.py") if p.name not in FACES]
        assert len(own) <= MOST_FILES.get(folder.name, 15), folder


if __name__ == "__main__":
    where = arrows()
    for name in [n for n in ALLOWED if n in where]:
        own = [path for other, path in MODULES.items() if room(other) == name]
        lines = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in own)
        print(f"{name:22} {len(own):3} files {lines:6,} lines -> {', '.join(sorted(where[name])) or '-'}")  # noqa: T201
