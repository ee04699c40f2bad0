# SPDX-License-Identifier: Apache-2.0
"""Hints that say how to install an extra fit the way the package was installed."""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path
from typing import Any

import pytest

from autoj_reward import environment
from autoj_reward.environment import how_to_install

WHEEL = {"url": "file:///tmp/autoj_reward-0.1.0-py3-none-any.whl", "archive_info": {}}
GIT = {"url": "https://me:secret@example.org/a.git", "vcs_info": {"vcs": "git", "commit_id": "c0ffee"}}


class Installed:
    """A distribution of which pip kept the origin."""

    def __init__(self, origin: Any) -> None:
        self._text = None if origin is None else json.dumps(origin)

    def read_text(self, name: str) -> str | None:
        assert name == "direct_url.json"
        return self._text


@pytest.mark.parametrize(
    ("origin", "command"),
    [
        (None, "pip install 'autoj-reward[mini,trl]'"),
        (WHEEL, f"pip install 'autoj-reward[mini,trl] @ {WHEEL['url']}'"),
        (GIT, "pip install 'autoj-reward[mini,trl] @ git+https://***@example.org/a.git@c0ffee'"),
    ],
    ids=["index", "wheel", "git"],
)
def test_pip_installs_extras_from_where_the_package_came_from(
    origin: Any, command: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(environment, "_CHECKOUT", tmp_path)
    monkeypatch.setattr(importlib.metadata, "distribution", lambda name: Installed(origin))
    assert how_to_install("mini", "trl") == command


def test_a_checkout_has_setup() -> None:
    assert how_to_install("mini").startswith("`./setup mini` in /")
