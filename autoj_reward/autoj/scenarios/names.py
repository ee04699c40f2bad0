# SPDX-License-Identifier: Apache-2.0
"""Auto-J's scenario names, their groups, and what its classifier may answer."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from importlib import resources
from types import MappingProxyType
from typing import Any

DEFAULT = "default"
"""A classifier's answer when it is uncertain."""

NO_GROUP = "Other"
"""Group of labels that are not on the leaderboard: `default`, `peer_review`, `rejecting`."""


@functools.cache
def scenario_groups() -> Mapping[str, str]:
    """The 58 scenarios and the group of each, in the leaderboard's order."""
    return MappingProxyType({name: group for group, names in _known()["groups"].items() for name in names})


def classifier_labels() -> tuple[str, ...]:
    """The scenario classifier's labels: 60 names in alphabetical order, then `default`."""
    return (*_known()["classifier_labels"], DEFAULT)


def group_of(label: str) -> str:
    """The group of a classifier's label; `Other` for labels that are not on the leaderboard."""
    return scenario_groups().get(label, NO_GROUP)


@functools.cache
def _known() -> dict[str, Any]:
    text = (resources.files("autoj_reward.autoj.scenarios") / "scenarios.json").read_text(encoding="utf-8")
    known: dict[str, Any] = json.loads(text)
    return known
