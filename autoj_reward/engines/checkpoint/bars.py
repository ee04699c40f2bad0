# SPDX-License-Identifier: Apache-2.0
"""Keep transformers' progress bars off standard error while a judge's weights are loaded or converted."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any


@contextlib.contextmanager
def without_bars() -> Iterator[None]:
    """Let transformers draw no bar, and give its bars back to the user's own models afterwards.

    Bars of downloads are kept: they are the hub's, and say that minutes will pass. So is that of unpacking a
    GGUF file, which happens once.
    """
    from transformers.utils import logging

    before: list[Any] = [None]

    def hidden(bar: Callable[..., Any], arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
        options = {**options, "disable": True}
        return bar(*arguments, **options) if before[0] is None else before[0](bar, arguments, options)

    before[0] = logging.set_tqdm_hook(hidden)
    try:
        yield
    finally:
        logging.set_tqdm_hook(before[0])
