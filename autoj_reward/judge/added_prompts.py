# SPDX-License-Identifier: Apache-2.0
"""Prompts that do not ship with the package, because their publishers give no licence for them.

`templates/NAME.txt.sha256` holds the hash of such a prompt. Its text is the user's own copy, which
`autoj-reward judges add` checks and keeps in the user's data folder.
"""

from __future__ import annotations

import hashlib
from importlib import resources
from pathlib import Path

from autoj_reward.environment import data_home, write_whole
from autoj_reward.errors import ConfigError

_MARK = ".sha256"
_MOST_BYTES = 1 << 20


def prompt_hashes() -> dict[str, str]:
    """The templates whose text the user adds: their file names and the SHA-256 of their text."""
    folder = resources.files("autoj_reward.judge") / "templates"
    return {
        path.name.removesuffix(_MARK): path.read_text(encoding="utf-8").strip()
        for path in folder.iterdir()
        if path.name.endswith(_MARK)
    }


def added_prompt(name: str) -> str | None:
    """The text of a template that the user has added; None if it is none of these, or not added.

    Raises:
        ConfigError: The copy in the data folder cannot be read, or was changed.
    """
    expected = prompt_hashes().get(name)
    path = _copy_of(name)
    if expected is None or not path.is_file():
        return None
    try:
        text = path.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the prompt {path} cannot be read: {error}", hint=_again(path)) from error
    if _hash(text) != expected:
        raise ConfigError(f"the prompt {path} was changed since it was added", hint=_again(path))
    return text


def add_prompt(file: Path) -> tuple[str, Path]:
    """Keep the user's copy of a prompt, a plain text or a Jinja template with `{{name}}` for `{name}`.

    Returns:
        The template's file name, and where the copy is.

    Raises:
        ConfigError: The file cannot be read, or its text is no prompt that a preset waits for.
        OSError: The copy cannot be written.
    """
    try:
        with file.open("rb") as opened:
            text = opened.read(_MOST_BYTES).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} cannot be read: {error}") from error
    # Jinja drops the last line break.
    text = text.replace("\r\n", "\n").replace("{{", "{").replace("}}", "}").rstrip("\n")
    found = _hash(text)
    hashes = prompt_hashes()
    name = next((name for name, expected in hashes.items() if expected == found), None)
    if name is None:
        wanted = ", ".join(f"{expected} ({name})" for name, expected in sorted(hashes.items()))
        raise ConfigError(
            f"{file} is not a prompt that a preset waits for: its text has the SHA-256 {found}, not {wanted}",
            hint="take the file that `autoj-reward judges` names, from the commit that it names, unchanged",
        )
    path = _copy_of(name)
    write_whole(path, text)
    return name, path


def _copy_of(name: str) -> Path:
    return data_home() / "prompts" / name


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _again(path: Path) -> str:
    return f"remove {path}, and add the prompt again: autoj-reward judges add FILE"
