# SPDX-License-Identifier: Apache-2.0
"""How to get what an optional part needs."""

from __future__ import annotations

from pathlib import Path

_CHECKOUT = Path(__file__).resolve().parent.parent


def how_to_install(*extras: str) -> str:
    """What installs extras: `./setup` for who runs a checkout, pip for who installed a package."""
    if (_CHECKOUT / "setup").is_file() and (_CHECKOUT / "uv.lock").is_file():
        return f"`./setup {' '.join(extras)}` in {_CHECKOUT}"
    return f"pip install 'autoj-reward[{','.join(extras)}]'"
