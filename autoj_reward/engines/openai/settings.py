# SPDX-License-Identifier: Apache-2.0
"""Settings of the server engine, validated before any request."""

from __future__ import annotations

import functools
import ipaddress
import json
import logging
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from autoj_reward.engines.logprobs.tokenizer import InjectionSafeTokenizer
from autoj_reward.engines.openai.retry import RetryPolicy
from autoj_reward.environment import how_to_install
from autoj_reward.errors import ConfigError
from autoj_reward.redact import remember_secret

_OUR_KEY, _OPENAI_KEY = "AUTOJ_REWARD_API_KEY", "OPENAI_API_KEY"

logger = logging.getLogger("autoj_reward")


def endpoint_urls(endpoints: str | Sequence[str]) -> tuple[str, ...]:
    """Addresses up to and with the API's version: `http://host:8000` becomes `http://host:8000/v1`.

    Args:
        endpoints: One address, several in one text with commas or blanks between, or a list.

    Raises:
        ConfigError: One is not a URL, or there is none.
    """
    given = endpoints.replace(",", " ").split() if isinstance(endpoints, str) else list(endpoints)
    if any("@" in text for text in given):
        # Not shown, and looked for before anything is split: a password may hold commas and slashes.
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
        raise ConfigError(f"the endpoint {text!r} is not a URL: {error}", hint=hint) from error
    if wrong or parts.query or parts.fragment:
        raise ConfigError(f"the endpoint {text!r} is not the URL of an API", hint=hint)
    path = parts.path.rstrip("/") or "/v1"
    return f"{parts.scheme}://{parts.netloc}{path}"


def api_key_or_default(
    given: str | None,
    urls: Sequence[str] = (),
    *,
    variable: str | None = None,
    allow_plain_http: bool = False,
) -> str | None:
    """The key to send to some addresses, or None.

    In this order: `given`; that of the environment variable that is named; `$AUTOJ_REWARD_API_KEY`, which is
    for judges; `$OPENAI_API_KEY`, only where all addresses are https or on this machine.

    Args:
        given: A key.
        urls: Where it would go.
        variable: Name of an environment variable that holds the key; it goes to any address.
        allow_plain_http: Whether a given key may go over plain http to another machine.

    Raises:
        ConfigError: It cannot be sent in a header, or is not to be sent there, or the variable is empty.
    """
    open_to_others = [url for url in urls if not _is_private(url)]
    if given is not None and variable is not None:
        raise ConfigError("api_key and api_key_env are both given")
    if given and open_to_others and not allow_plain_http:
        raise ConfigError(
            f"the API key would go over plain http to {open_to_others[0]}, where others can read it",
            hint="use https, or allow it with allow_plain_http=true",
        )
    key = given
    if variable is not None:
        key = os.environ.get(variable)
        if not key:
            raise ConfigError(f"the environment variable {variable}, which is to hold the API key, is empty")
    elif key is None:
        key = os.environ.get(_OUR_KEY) or None
        if key is None and os.environ.get(_OPENAI_KEY):
            if open_to_others:
                _say_unsent(open_to_others[0])
            else:
                key = os.environ[_OPENAI_KEY]
    if key is not None and not (key.isascii() and key.isprintable() and key.strip() == key):
        raise ConfigError(
            "the API key holds characters that no key has", hint="is there a newline at its end?"
        )
    remember_secret(key)
    return key or None


@functools.cache
def _say_unsent(url: str) -> None:
    logger.warning(
        "$%s is not sent over plain http to %s; --api-key-env %s sends it", _OPENAI_KEY, url, _OPENAI_KEY
    )


def _is_private(url: str) -> bool:
    """Whether what goes to an address cannot be read on the way: https, or this machine."""
    parts = urlsplit(url)
    if parts.scheme == "https" or parts.hostname == "localhost":
        return True
    try:
        return ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return False


def checked_policy(*, attempts: int, timeout_seconds: float, retry_seconds: float) -> RetryPolicy:
    """How patient requests are.

    Raises:
        ConfigError: A number is out of range.
    """
    times = {"timeout_seconds": timeout_seconds, "retry_seconds": retry_seconds}
    if attempts < 1 or any(not (t > 0 and math.isfinite(t)) for t in times.values()):
        raise ConfigError(f"attempts = {attempts} is at least 1, and {times} are positive")
    return RetryPolicy(attempts=attempts, timeout_seconds=timeout_seconds, retry_seconds=retry_seconds)


def load_tokenizer(path: str, revision: str | None) -> InjectionSafeTokenizer:
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
    return InjectionSafeTokenizer(
        hf, turn_end_ids=[] if ends is None else ends if isinstance(ends, list) else [ends]
    )


def _json_file(path: str, name: str, revision: str | None) -> dict[str, Any]:
    """One of a checkpoint's small files, from a folder or the hub; empty if it does not exist."""
    from transformers.utils import cached_file

    file = cached_file(path, name, revision=revision, _raise_exceptions_for_missing_entries=False)
    if file is None:
        return {}
    content = json.loads(Path(file).read_text(encoding="utf-8"))
    return content if isinstance(content, dict) else {}
