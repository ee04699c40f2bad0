# SPDX-License-Identifier: Apache-2.0
"""Validate the server engine's settings (URLs, API key, tokenizer) before any request."""

from __future__ import annotations

import functools
import ipaddress
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from autoj_reward.engines.checkpoint.fingerprint import read_json
from autoj_reward.engines.logprobs.tokenizer import InjectionSafeTokenizer
from autoj_reward.environment import how_to_install
from autoj_reward.errors import ConfigError
from autoj_reward.redact import remember_secret

_OUR_KEY, _OPENAI_KEY = "AUTOJ_REWARD_API_KEY", "OPENAI_API_KEY"

logger = logging.getLogger("autoj_reward")


def endpoint_urls(endpoints: str | Sequence[str]) -> tuple[str, ...]:
    """Base URLs that include the API's version: `http://host:8000` becomes `http://host:8000/v1`.

    Args:
        endpoints: One URL, several separated by commas or blanks, or a list.

    Raises:
        ConfigError: One is not a URL or holds credentials, or there is none.
    """
    given = endpoints.replace(",", " ").split() if isinstance(endpoints, str) else list(endpoints)
    if any("@" in text for text in given):
        # Not shown, and checked before parsing: a password may hold slashes.
        raise ConfigError(
            "an endpoint URL holds a user name or a password",
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
        raise ConfigError(f"the endpoint {text!r} is not the base URL of an API", hint=hint)
    path = parts.path.rstrip("/") or "/v1"
    return f"{parts.scheme}://{parts.netloc}{path}"


def api_key_or_default(
    given: str | None,
    urls: Sequence[str] = (),
    *,
    variable: str | None = None,
    allow_plain_http: bool = False,
) -> str | None:
    """The API key to send to these URLs, or None.

    The first of: `given`; the environment variable `variable`; `$AUTOJ_REWARD_API_KEY`; `$OPENAI_API_KEY` if
    every URL is https or on this machine.

    Args:
        given: A key.
        urls: Where it would be sent.
        variable: Name of an environment variable that holds the key; it is sent to any URL.
        allow_plain_http: Whether `given` may go over plain http to another machine.

    Raises:
        ConfigError: The key cannot be sent in a header or must not be sent there, or the variable is empty.
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
            raise ConfigError(f"the environment variable {variable} (api_key_env) is empty or not set")
    elif key is None:
        key = os.environ.get(_OUR_KEY) or None
        if key is None and os.environ.get(_OPENAI_KEY):
            if open_to_others:
                _warn_unsent(open_to_others[0])
            else:
                key = os.environ[_OPENAI_KEY]
    if key is not None and not (key.isascii() and key.isprintable() and key.strip() == key):
        raise ConfigError(
            "the API key holds blanks or characters that cannot be sent", hint="does it end in a newline?"
        )
    remember_secret(key)
    return key or None


@functools.cache
def _warn_unsent(url: str) -> None:
    logger.warning(
        "$%s is not sent over plain http to %s; --api-key-env %s sends it", _OPENAI_KEY, url, _OPENAI_KEY
    )


def _is_private(url: str) -> bool:
    """Whether traffic to a URL cannot be read on the way: https, or this machine."""
    parts = urlsplit(url)
    if parts.scheme == "https" or parts.hostname == "localhost":
        return True
    try:
        return ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return False


def load_tokenizer(path: str, revision: str | None) -> InjectionSafeTokenizer:
    """Load a tokenizer, without importing torch if its files allow that.

    Raises:
        ConfigError: It does not exist, or is of a kind that cannot be used.
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
            # The class that `AutoTokenizer` would choose, without seconds of imports.
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
    return InjectionSafeTokenizer(hf, turn_end_ids=ends)


def _json_file(path: str, name: str, revision: str | None) -> dict[str, Any]:
    """A JSON file of a checkpoint, from a folder or the hub; empty if it does not exist."""
    from transformers.utils import cached_file

    file = cached_file(path, name, revision=revision, _raise_exceptions_for_missing_entries=False)
    return {} if file is None else read_json(Path(file))
