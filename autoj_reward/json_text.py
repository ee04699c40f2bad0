# SPDX-License-Identifier: Apache-2.0
"""Values for formats that hold less than Python: JSON without NaN, text without lone surrogates."""

from __future__ import annotations

import base64
import datetime
import json
import math
from typing import Any


def json_text(value: Any, *, indent: int | None = None, ensure_ascii: bool = True, **options: Any) -> str:
    """A value as JSON text.

    Args:
        value: What `json.dumps` takes.
        indent: As for `json.dumps`.
        ensure_ascii: As for `json.dumps`.
        **options: Further ones of `json.dumps`.
    """
    try:
        return json.dumps(value, indent=indent, ensure_ascii=ensure_ascii, allow_nan=False, **options)
    except ValueError:
        value = finite(value)
        return json.dumps(value, indent=indent, ensure_ascii=ensure_ascii, allow_nan=False, **options)


def finite(value: Any) -> Any:
    """The value with None in the place of every number that is not finite."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    return [finite(item) for item in value] if isinstance(value, list | tuple) else value


def without_surrogates(text: str) -> str:
    """The text with U+FFFD in the place of each lone surrogate; two that make a character become it."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def plain(value: Any) -> Any:
    """`default` of `json.dumps`: dates become ISO texts, bytes base64, and anything else a text."""
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return str(value)
