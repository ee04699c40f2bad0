# SPDX-License-Identifier: Apache-2.0
"""One rubric of criteria from a file, for all rows that have none."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from autoj_reward.criteria.readers import load_rubric
from autoj_reward.criteria.rubric import Rubric


class FileRubric:
    """Gives every row the rubric of a file.

    Args:
        path: A file as for `load_rubric`.
        criteria_per_call: Instead of the file's own; None keeps it.

    Raises:
        DataError: The file cannot be read, or holds no rubric of criteria.
    """

    each = True
    """Criteria are judged by themselves, which every judge that rates does."""

    def __init__(self, path: Path, criteria_per_call: int | None = None) -> None:
        rubric = load_rubric(path)
        given = criteria_per_call is not None
        self.rubric = replace(rubric, criteria_per_call=criteria_per_call) if given else rubric

    @property
    def fingerprint(self) -> str:
        """Hash of the rubric."""
        text = repr(self.rubric)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]

    def __call__(self, row: Mapping[str, Any], prompt: str) -> Rubric:
        """The file's rubric."""
        return self.rubric
