# SPDX-License-Identifier: Apache-2.0
"""Where this package keeps what it makes: converted weights, judgments, logs."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def cache_home() -> Path:
    """The user's cache folder for this package, or `$AUTOJ_REWARD_HOME`; it may not exist yet."""
    home = os.environ.get("AUTOJ_REWARD_HOME")
    return Path(home) if home else platformdirs.user_cache_path("autoj_reward", appauthor=False)
