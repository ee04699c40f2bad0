# SPDX-License-Identifier: Apache-2.0
"""Remove secrets from records, messages and logs."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "***"
"""Replaces a secret."""

KEY_VARIABLES = (
    "AUTOJ_REWARD_API_KEY", "AUTOJ_REWARD_TOKEN", "OPENAI_API_KEY", "VLLM_API_KEY", "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
)  # fmt: skip
"""Environment variables that hold secrets."""

_LEAST_CHARS = 8
"""Shorter values are not searched for, because they occur in ordinary words."""

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

_remembered: set[str] = set()


def remember_secret(value: str | None) -> None:
    """Redact a value in all later texts."""
    if value and len(value) >= _LEAST_CHARS:
        _remembered.add(value)


def is_secret_name(name: str) -> bool:
    """Whether a setting of this name holds a secret: `api_key`, `hf_token`; not `max_new_tokens`."""
    return _SECRET_NAME.search(name.lower().replace("-", "_")) is not None


def redact(text: str) -> str:
    """Replace the secrets in a text; takes time linear in its length.

    These are the keys of this process (in the environment, or given to `remember_secret`), user names and
    passwords in URLs, `Authorization` values, values of `api_key=...` and the like, and keys of well-known
    forms.
    """
    given = {os.environ.get(name, "").strip() for name in KEY_VARIABLES}
    known = {value for value in given if len(value) >= _LEAST_CHARS}
    for value in sorted(known | _remembered, key=len, reverse=True):
        text = text.replace(value, HIDDEN)
    text = _ADDRESS.sub(_without_user, text)
    text = _SCHEME.sub(rf"\1 {HIDDEN}", text)
    text = _NAMED.sub(rf"\1{HIDDEN}", text)
    return _SHAPED.sub(HIDDEN, text)


def redacted(value: Any) -> Any:
    """Copy nested settings with secrets replaced, by the setting's name and within texts.

    Args:
        value: Mappings, lists, tuples, texts and other plain values. A `KEY=VALUE` text counts as a setting.

    Returns:
        The same structure; tuples become lists.
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
    """A URL without the user and password before its last `@`."""
    before, at, host = match.group().rpartition("@")
    return f"://{HIDDEN}@{host}" if at else before + host
