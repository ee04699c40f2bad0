# SPDX-License-Identifier: Apache-2.0
"""Write JSON without NaN, and text without lone surrogates."""

from __future__ import annotations

import base64
import datetime
import json
import math
from typing import Any


def json_text(value: Any, **options: Any) -> str:
    """`json.dumps`, with null for numbers that are not finite."""
    try:
        return json.dumps(value, allow_nan=False, **options)
    except ValueError:
        return json.dumps(finite(value), allow_nan=False, **options)


def finite(value: Any) -> Any:
    """The value with None instead of numbers that are not finite."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    return [finite(item) for item in value] if isinstance(value, list | tuple) else value


def without_surrogates(text: str) -> str:
    """The text with U+FFFD instead of lone surrogates; surrogate pairs become their character."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def plain(value: Any) -> Any:
    """`default` for `json.dumps`: dates become ISO texts, bytes base64, anything else its `str`."""
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return str(value)
