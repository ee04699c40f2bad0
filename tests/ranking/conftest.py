# SPDX-License-Identifier: Apache-2.0
"""The judge that reads the quality written into a completion, as a fixture."""

from __future__ import annotations

from tests.quality import engine, judge

__all__ = ["engine", "judge"]
