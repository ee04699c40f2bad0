# SPDX-License-Identifier: Apache-2.0
"""Words that readers of English find odd stay out of code, help, messages and pages."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.conftest import REPO

UNUSUAL = re.compile(
    r"\b(anew|apart(?! from)|by lot|in vain|left aside|nobody|set aside|talk round|under way|where there|whoever)\b",
    re.IGNORECASE,
)
# To be rewritten: folders that still have such words. None may join them.
TO_REWRITE: set[str] = set()


def folder_of(path: Path) -> str:
    parts = path.relative_to(REPO).parts
    return "/".join(parts[: min(2, len(parts) - 1)]) or "."


def unusual(folder: str) -> list[str]:
    """Every unusual word in a folder's code and pages, with its file."""
    return [
        f"{path.relative_to(REPO)}: {word}"
        for path in FILES[folder]
        # Words that belong together may be on two lines, also of a comment.
        for word in UNUSUAL.findall(re.sub(r"[\s#]+", " ", path.read_text(encoding="utf-8")))
    ]


PAGES = ("README.md", "CONTRIBUTING.md", "benchmarks/LOG.md")
FILES: dict[str, list[Path]] = {}
for _path in sorted(
    [
        *(p for p in (REPO / "autoj_reward").rglob("*") if p.suffix in (".md", ".py", ".toml")),
        *(REPO / "docs").glob("*.md"),
        *(p for p in (REPO / "examples").rglob("*") if p.suffix in (".py", ".toml")),
        *(REPO / "integrations").rglob("*.py"),
        *(p for p in (REPO / "tests").rglob("*.py") if p != Path(__file__)),
        *(REPO / page for page in PAGES),
    ]
):
    FILES.setdefault(folder_of(_path), []).append(_path)


@pytest.mark.parametrize("folder", [f for f in FILES if f not in TO_REWRITE])
def test_words_are_usual(folder: str) -> None:
    assert unusual(folder) == []
