# SPDX-License-Identifier: Apache-2.0
"""Read data sets of the Hugging Face hub, and put an output there.

`HF_ENDPOINT` names another hub, `HF_TOKEN` the key, as for `huggingface_hub`. The hub is asked once whether
it has the data set, so that a machine without a network says so at once instead of trying again and again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from autoj_reward.environment import how_to_install
from autoj_reward.errors import ConfigError, DataError
from autoj_reward.rows.containers.objects import Row

_SECONDS = 20.0
"""How long the first answer of the hub may take."""


def import_datasets(name: str) -> Any:
    """The package `datasets`, which reads the data set of that name.

    Raises:
        ConfigError: It is not installed.
    """
    try:
        import datasets
    except ImportError as error:
        raise ConfigError(
            f"{name!r} is a data set, and the package datasets is not installed",
            hint=how_to_install("data"),
        ) from error
    return datasets


class HubRows:
    """Rows of one split of a data set, read while they arrive.

    Raises:
        ConfigError: The package `datasets` is not installed, the hub cannot be reached, or it has no such
            data set or split.
    """

    def __init__(self, name: str, *, split: str) -> None:
        datasets = import_datasets(name)
        self.name = f"{name} ({split})"
        try:
            _api().dataset_info(name, timeout=_SECONDS)
            self._rows = datasets.load_dataset(name, split=split, streaming=True)
        except Exception as error:  # of the HTTP library that this version of huggingface_hub has
            raise _explained(f"the data set {name!r} cannot be loaded", error, split=split) from error

    def rows(self) -> Iterator[tuple[int, Row | DataError]]:
        """Number (from 1) and row.

        Raises:
            DataError: The hub stopped answering.
        """
        rows = enumerate(self._rows, start=1)
        while True:
            try:
                number, row = next(rows, (0, None))
            except Exception as error:
                raise DataError(f"cannot be read from the hub: {error}", path=self.name) from error
            if row is None:
                return
            yield number, dict(row)


def create_dataset(name: str) -> str:
    """Create a private data set on the hub, unless it exists; its address.

    Raises:
        ConfigError: The name is not ORG/NAME, the hub cannot be reached, or it refuses.
    """
    if name.count("/") != 1 or not all(name.split("/")):
        raise ConfigError(f"--push-to-hub {name!r} is not ORG/NAME")
    try:
        return str(_api().create_repo(name, repo_type="dataset", private=True, exist_ok=True))
    except Exception as error:
        raise _explained(f"the data set {name!r} cannot be created", error) from error


def push_file(path: Path, name: str) -> str:
    """Put a finished output on the hub as the split `train`; the commit's address.

    Raises:
        ConfigError: The hub cannot be reached, or refuses.
    """
    try:
        done = _api().upload_file(
            path_or_fileobj=path,
            path_in_repo=f"data/train{path.suffix}",
            repo_id=name,
            repo_type="dataset",
            commit_message=f"Add {path.name}",
        )
    except Exception as error:
        raise _explained(f"{path} cannot be put into {name}", error) from error
    return str(getattr(done, "commit_url", done))


def _api() -> Any:
    try:
        import huggingface_hub
    except ImportError as error:
        raise ConfigError(
            "the package huggingface_hub is not installed", hint=how_to_install("data")
        ) from error
    return huggingface_hub.HfApi()


def _explained(what: str, error: Exception, *, split: str | None = None) -> ConfigError:
    """The error for people: why the hub did not do it, and what to do."""
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled, RepositoryNotFoundError

    if isinstance(error, ConfigError):
        return error
    if isinstance(error, OfflineModeIsEnabled):
        return ConfigError(f"{what}: HF_HUB_OFFLINE is set", hint="unset it, or give a file")
    if isinstance(error, RepositoryNotFoundError):
        return ConfigError(
            f"{what}: the hub has no such data set, or it is private",
            hint="HF_TOKEN gives access to private ones",
        )
    if isinstance(error, HfHubHTTPError):
        return ConfigError(f"{what}: {error}", hint="HF_TOKEN must allow it: hf auth login")
    if isinstance(error, ValueError | KeyError) and split is not None:
        return ConfigError(f"{what}: {error}", hint="is the split right? --split NAME")
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    return ConfigError(
        f"{what}: {endpoint} cannot be reached ({error})",
        hint="give a file, or a folder that datasets saved; HF_ENDPOINT names another hub",
    )
