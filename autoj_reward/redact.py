# SPDX-License-Identifier: Apache-2.0
"""Remove secrets from records, messages and logs."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "***"
"""Written in place of a secret."""

KEY_VARIABLES = (
    "AUTOJ_REWARD_API_KEY", "AUTOJ_REWARD_TOKEN", "OPENAI_API_KEY", "VLLM_API_KEY", "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
)  # fmt: skip
"""Environment variables whose values are never shown."""

_LEAST_CHARS = 8
"""Shorter values are not looked for in texts: they would be found in ordinary words."""

_SECRET_NAME = re.compile(
    r"(?:^|_)(?:api_?keys?|private_?key|secret_?key|access_?key|secret|password|passwd|authorization|"
    r"proxy_authorization|credentials?|cookie|(?:hf|auth|access|api|bearer|refresh|session|id)_?token)$"
    r"|^(?:token|use_auth_token)$"
)

_ADDRESS = re.compile(r"://[^\s\"'<>]+")
_NAMED = re.compile(
    r"((?:api[_-]?key|password|passwd|secret|(?:hf|auth|access|api)[_-]token|token(?==))"
    r"[\"']?\s{0,3}[=:]\s{0,3}[\"']?)[^\s\"'&,;)}\]]+",
    re.I,
)
_SCHEME = re.compile(r"\b(Bearer|Basic)[ \t]{1,4}[A-Za-z0-9._~+/=-]{6,}", re.I)
_SHAPED = re.compile(r"\b(?:sk|hf|ghp|gho|xox[abp])[-_][A-Za-z0-9_-]{16,}")

_told: set[str] = set()


def remember_secret(value: str | None) -> None:
    """Hide a value in every text from now on."""
    if value and len(value) >= _LEAST_CHARS:
        _told.add(value)


def is_secret_name(name: str) -> bool:
    """Whether a setting of this name holds a secret: `api_key`, `hf_token`; not `max_new_tokens`."""
    return _SECRET_NAME.search(name.lower().replace("-", "_")) is not None


def redact(text: str) -> str:
    """A text without its secrets.

    Hidden are the keys of this process (in the environment, or told with `remember_secret`), user names and
    passwords in addresses, `Authorization` values, values written as `api_key=...` and the like, and what
    has the shape of a well-known key.

    Args:
        text: A message, a log line, a header. Linear in its length.
    """
    given = {os.environ.get(name, "").strip() for name in KEY_VARIABLES}
    known = {value for value in given if len(value) >= _LEAST_CHARS}
    for value in sorted(known | _told, key=len, reverse=True):
        text = text.replace(value, HIDDEN)
    text = _ADDRESS.sub(_without_user, text)
    text = _SCHEME.sub(rf"\1 {HIDDEN}", text)
    text = _NAMED.sub(rf"\1{HIDDEN}", text)
    return _SHAPED.sub(HIDDEN, text)


def redacted(value: Any) -> Any:
    """A copy of nested settings without their secrets: by name, and within texts.

    Args:
        value: Mappings, lists, tuples, texts and other plain values. `KEY=VALUE` texts, as options of a
            command have them, are read by the name before the `=`.

    Returns:
        The same shape; tuples become lists, as JSON has them.
    """
    if isinstance(value, Mapping):
        return {
            key: HIDDEN if item is not None and is_secret_name(str(key)) else redacted(item)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [redacted(item) for item in value]
    if isinstance(value, str):
        name, equals, _ = value.partition("=")
        if equals and is_secret_name(name.lstrip("-")):
            return f"{name}={HIDDEN}"
        return redact(value)
    return value


def _without_user(match: re.Match[str]) -> str:
    """An address without the user and password before its last `@`."""
    before, at, host = match.group().rpartition("@")
    return f"://{HIDDEN}@{host}" if at else before + host
