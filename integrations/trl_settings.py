# SPDX-License-Identifier: Apache-2.0
"""A reward described by the environment, for trainers that are started from the command line."""

from __future__ import annotations

import inspect
import os
from pathlib import Path

from autoj_reward.errors import ConfigError
from autoj_reward.integrations.trl import JudgeReward
from autoj_reward.toml_file import read_toml

_FILE = "AUTOJ_REWARD_CONFIG"
_REPLACED = {"AUTOJ_REWARD_JUDGE": "judge", "AUTOJ_REWARD_ENGINE": "engine"}


def reward_from_environment() -> JudgeReward:
    """Make the reward that environment variables describe.

    * `AUTOJ_REWARD_CONFIG`: a TOML file whose settings are the arguments of `JudgeReward`, those of
      `Judge.load` among them.
    * `AUTOJ_REWARD_JUDGE`, `AUTOJ_REWARD_ENGINE`: instead of the file's `judge` and `engine`, or without a
      file.

    Raises:
        ConfigError: No judge is named, the file cannot be read, or a setting is wrong; names the file.
    """
    file = os.environ.get(_FILE)
    settings = read_toml(Path(file), what=f"the settings in ${_FILE}") if file else {}
    settings |= {key: value for name, key in _REPLACED.items() if (value := os.environ.get(name))}
    if not isinstance(settings.get("judge"), str):
        raise ConfigError(
            f"{file or 'the environment'} names no judge",
            hint=f"set $AUTOJ_REWARD_JUDGE, or ${_FILE} to a TOML file with judge = 'NAME'",
        )
    try:
        return JudgeReward(**settings)
    except ConfigError as error:
        if not file:
            raise
        raise ConfigError(f"{file}: {error.args[0]}", hint=error.hint) from error
    except TypeError as error:
        known = ", ".join(sorted(inspect.signature(JudgeReward.__init__).parameters.keys() - {"self"}))
        raise ConfigError(
            f"{file or 'the environment'}: a setting has the wrong type: {error}",
            hint=f"the settings: {known}",
        ) from error
