# SPDX-License-Identifier: Apache-2.0
"""The user's cache and data folders, atomic file writes, and how to install extras."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from pathlib import Path

import platformdirs

from autoj_reward.redact import redact


def cache_home() -> Path:
    """The user's cache folder for this package, or `$AUTOJ_REWARD_HOME`; it may not exist yet."""
    home = os.environ.get("AUTOJ_REWARD_HOME")
    return Path(home) if home else platformdirs.user_cache_path("autoj_reward", appauthor=False)


def data_home() -> Path:
    """The user's data folder for this package, or `$AUTOJ_REWARD_HOME`; it may not exist yet."""
    home = os.environ.get("AUTOJ_REWARD_HOME")
    return Path(home) if home else platformdirs.user_data_path("autoj_reward", appauthor=False)


def private_folder(folder: Path) -> None:
    """Make a folder that only this user can read; restrict the user's default cache folder if it exists.

    Raises:
        OSError: It cannot be made.
    """
    made = not folder.exists()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    own = platformdirs.user_cache_path("autoj_reward", appauthor=False)
    if made or (folder == own and folder.stat().st_uid == os.getuid()):
        folder.chmod(0o700)


def write_whole(path: Path, text: str) -> None:
    """Write a file atomically, readable by this user only; make its folder.

    Raises:
        OSError: It cannot be written; an existing file is unchanged.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, scratch = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(scratch, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(scratch)
        raise


_CHECKOUT = Path(__file__).resolve().parent.parent


def how_to_install(*extras: str) -> str:
    """The command that installs extras: `./setup` in a checkout, else pip with the origin of the package."""
    if (_CHECKOUT / "setup").is_file() and (_CHECKOUT / "uv.lock").is_file():
        return f"`./setup {' '.join(extras)}` in {_CHECKOUT}"
    origin = _origin()
    return f"pip install 'autoj-reward[{','.join(extras)}]{f' @ {origin}' if origin else ''}'"


def _origin() -> str:
    """The file or address that pip installed this package from; empty for an index."""
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        known = json.loads(distribution("autoj-reward").read_text("direct_url.json") or "{}")
    except (PackageNotFoundError, ValueError):
        return ""
    version = known.get("vcs_info", {})
    # A password in an address is not repeated.
    url = redact(str(known.get("url", "")))
    return f"{version['vcs']}+{url}@{version['commit_id']}" if version.get("commit_id") else url
