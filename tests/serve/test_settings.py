# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from autoj_reward.errors import ConfigError
from autoj_reward.serve.settings import ServeSettings, is_loopback, read_token

TOKEN = "0123456789abcdef-token"


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.7", False),
        ("localhost.example.org", False),
        ("", False),
    ],
)
def test_loopback(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.7", "judge.example.org"])
def test_an_address_that_others_reach_needs_a_token(host: str) -> None:
    with pytest.raises(ConfigError, match="no token") as refused:
        ServeSettings(host=host)
    assert "AUTOJ_REWARD_TOKEN" in refused.value.hint
    assert ServeSettings(host=host, token=TOKEN).token == TOKEN


@pytest.mark.parametrize("token", ["short", "", "zeichenkettemitumläuten"])
def test_a_weak_token_is_refused(token: str) -> None:
    with pytest.raises(ConfigError, match="token"):
        ServeSettings(token=token)


def test_a_token_is_not_shown_with_the_settings() -> None:
    assert TOKEN not in repr(ServeSettings(token=TOKEN))


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_batch": 0},
        {"at_once": 0},
        {"window_seconds": -1.0},
        {"deadline_seconds": 0.0},
        {"failure_reward": float("nan")},
        {"max_completions": 50, "max_waiting": 49},
    ],
    ids=lambda w: ",".join(w),
)
def test_settings_that_cannot_work_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        ServeSettings(**wrong)


def test_where_the_token_comes_from(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f" {TOKEN} \nand a remark\n", encoding="utf-8")
    assert read_token(file, {"AUTOJ_REWARD_TOKEN": "other"}) == TOKEN
    assert read_token(None, {"AUTOJ_REWARD_TOKEN": f"{TOKEN}\n"}) == TOKEN
    assert read_token(None, {"AUTOJ_REWARD_TOKEN": " "}) is None
    file.write_text("\n")
    for unusable in (file, tmp_path / "nowhere"):
        with pytest.raises(ConfigError, match="token file"):
            read_token(unusable, {})
