# SPDX-License-Identifier: Apache-2.0
"""Which secrets are hidden in records and messages, and which texts are not."""

from __future__ import annotations

import pytest

from autoj_reward.redact import is_secret_name, redact, redacted, remember_secret
from tests.pumping import worst


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("server:http://user:hunter2@host:1/v1", "server:http://***@host:1/v1"),
        ("http://u:p@ss/w@host", "http://***@host"),
        ("Authorization: Bearer abcdef123456", "Authorization: Bearer ***"),
        ("proxy says basic dXNlcjpwYXNz", "proxy says basic ***"),
        ("api_key=abc,dtype=float32", "api_key=***,dtype=float32"),
        ('{"api_key": "abc", "n": 1}', '{"api_key": "***", "n": 1}'),
        ("GET /x?token=abc&n=1", "GET /x?token=***&n=1"),
        ("Incorrect API key provided: sk-abcdefghijklmnop1234", "Incorrect API key provided: ***"),
        ("a token: of respect; max_new_tokens=5", "a token: of respect; max_new_tokens=5"),
        ("http://host:8000/v1 and https://other/x?a=b", "http://host:8000/v1 and https://other/x?a=b"),
    ],
)
def test_secrets_in_a_text(text: str, shown: str) -> None:
    assert redact(text) == shown
    assert redact(shown) == shown


def test_keys_of_this_process_are_hidden_whatever_stands_around_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "environment-key\n")
    remember_secret("told-to-an-engine")
    assert redact("no such key environment-key, told-to-an-engine!") == "no such key ***, ***!"


@pytest.mark.parametrize("name", ["api_key", "API-KEY", "openai_api_key", "hf_token", "password", "token"])
def test_names_of_secrets(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name", ["max_new_tokens", "pad_token", "end_token", "tokenizer", "key", "api_key_env"]
)
def test_names_that_only_look_like_it(name: str) -> None:
    assert not is_secret_name(name)


def test_nested_settings_keep_their_shape() -> None:
    given = {
        "engine_option": ["api_key=x", "dtype=float32", "--hf-token=y"],
        "engine": "server:http://u:p@host",
        "options": {"api_key": "x", "n": 1, "none": None, "headers": {"Authorization": "Bearer x"}},
        "pair": (1, 2.5),
    }
    assert redacted(given) == {
        "engine_option": ["api_key=***", "dtype=float32", "--hf-token=***"],
        "engine": "server:http://***@host",
        "options": {"api_key": "***", "n": 1, "none": None, "headers": {"Authorization": "***"}},
        "pair": [1, 2.5],
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    "piece", ["://", "a://b@", "api_key=", "Bearer ", "sk-", "token ", "api_key   ", "\"'", "@"]
)
def test_hostile_texts_cost_time_in_proportion_to_their_length(piece: str) -> None:
    assert worst(lambda n: piece * (n // len(piece)), redact) is None
