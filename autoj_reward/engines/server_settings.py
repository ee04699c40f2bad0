# SPDX-License-Identifier: Apache-2.0
"""Settings of a server engine, checked before anything is sent."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from autoj_reward.engines.server_retry import RetryPolicy
from autoj_reward.engines.tokens import TrustedTokenizer
from autoj_reward.errors import ConfigError
from autoj_reward.extras import how_to_install

_KEY_NAMES = ("AUTOJ_REWARD_API_KEY", "OPENAI_API_KEY")


def endpoint_urls(endpoints: str | Sequence[str]) -> tuple[str, ...]:
    """Addresses up to and with the API's version: `http://host:8000` becomes `http://host:8000/v1`.

    Args:
        endpoints: One address, several in one text with commas or blanks between, or a list.

    Raises:
        ConfigError: One is no address, or there is none.
    """
    given = endpoints.replace(",", " ").split() if isinstance(endpoints, str) else list(endpoints)
    if any("@" in text for text in given):
        # Not shown, and looked for before anything is taken apart: a password may hold commas and slashes.
        raise ConfigError(
            "an endpoint's address holds a user name or a password",
            hint="put the key into $AUTOJ_REWARD_API_KEY, or give it as api_key",
        )
    urls = tuple(dict.fromkeys(_url(text) for text in given))
    if not urls:
        raise ConfigError("no endpoint is given", hint="endpoints='http://host:8000'")
    return urls


def _url(text: str) -> str:
    hint = "write it as http://host:8000 or https://host/v1"
    try:
        parts = urlsplit(text.strip())
        wrong = parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0
    except ValueError as error:
        raise ConfigError(f"the endpoint {text!r} is no address: {error}", hint=hint) from error
    if wrong or parts.query or parts.fragment:
        raise ConfigError(f"the endpoint {text!r} is no address of an API", hint=hint)
    path = parts.path.rstrip("/") or "/v1"
    return f"{parts.scheme}://{parts.netloc}{path}"


def api_key_or_default(given: str | None) -> str | None:
    """The key to send: the given one, or that of the environment, or None.

    Raises:
        ConfigError: It cannot be sent in a header.
    """
    key = given if given is not None else next((os.environ[n] for n in _KEY_NAMES if os.environ.get(n)), None)
    if key is not None and not (key.isascii() and key.isprintable() and key.strip() == key):
        raise ConfigError(
            "the API key holds characters that no key has", hint="is there a newline at its end?"
        )
    return key or None


def checked_policy(*, attempts: int, timeout_seconds: float, retry_seconds: float) -> RetryPolicy:
    """How patient requests are.

    Raises:
        ConfigError: A number is out of range.
    """
    times = {"timeout_seconds": timeout_seconds, "retry_seconds": retry_seconds}
    if attempts < 1 or any(not (t > 0 and math.isfinite(t)) for t in times.values()):
        raise ConfigError(f"attempts = {attempts} is at least 1, and {times} are positive")
    return RetryPolicy(attempts=attempts, timeout_seconds=timeout_seconds, retry_seconds=retry_seconds)


def load_tokenizer(path: str, revision: str | None) -> TrustedTokenizer:
    """A tokenizer without its model, and where its files allow that without importing torch.

    Raises:
        ConfigError: There is none, or it is of a kind that cannot be used.
    """
    try:
        from transformers import PreTrainedTokenizerFast
    except ImportError as error:
        raise ConfigError(
            "a tokenizer needs the package transformers",
            hint=f"{how_to_install('transformers')}, or tokenizer='none' to send text",
        ) from error
    try:
        settings = _json_file(path, "tokenizer_config.json", revision)
        if settings.get("tokenizer_class") in ("TokenizersBackend", "PreTrainedTokenizerFast"):
            # What `AutoTokenizer` would choose; naming it spares seconds of imports in a mere client.
            hf: Any = PreTrainedTokenizerFast.from_pretrained(path, revision=revision)
        else:
            from transformers import AutoTokenizer

            hf = AutoTokenizer.from_pretrained(path, revision=revision)
        ends = _json_file(path, "generation_config.json", revision).get("eos_token_id")
    except (OSError, ValueError, ImportError) as error:
        raise ConfigError(
            f"cannot load the tokenizer {path!r}: {error}",
            hint="tokenizer=FOLDER of the served model's checkpoint, or tokenizer='none' to send text",
        ) from error
    return TrustedTokenizer(
        hf, turn_end_ids=[] if ends is None else ends if isinstance(ends, list) else [ends]
    )


def _json_file(path: str, name: str, revision: str | None) -> dict[str, Any]:
    """One of a checkpoint's small files, from a folder or the hub; empty where there is none."""
    from transformers.utils import cached_file

    file = cached_file(path, name, revision=revision, _raise_exceptions_for_missing_entries=False)
    if file is None:
        return {}
    content = json.loads(Path(file).read_text(encoding="utf-8"))
    return content if isinstance(content, dict) else {}
