# SPDX-License-Identifier: Apache-2.0
"""Download published data files of one commit and check them against their git blob ids.

A file is written as `NAME.part` and renamed when its id is right. A broken transfer resumes where it stopped,
also in the next call. Complete files are not downloaded again.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import httpx

from autoj_reward.errors import ConfigError, DataError, EngineUnavailable
from autoj_reward.redact import redact

_TRIES = 5
_TIMEOUT = httpx.Timeout(30.0, connect=10.0)
_READ_BYTES = 1 << 20
_MOST_BYTES = 8 << 30
"""Size limit of a file whose size is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedFile:
    """A file of a repository.

    `path` is relative to the repository, `blob` is Git's blob id, `n_bytes` is None if not known.
    """

    path: str
    blob: str
    n_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """A named set of files to download.

    `url` has the fields `{repository}` (owner and name), `{commit}` and `{path}`.
    """

    name: str
    repository: str
    commit: str
    url: str
    licence: str
    files: tuple[PublishedFile, ...]

    def chosen(self, patterns: Sequence[str]) -> list[PublishedFile]:
        """The files whose path or name matches a pattern (`*.jsonl`); all without patterns.

        Raises:
            ConfigError: A pattern matches no file.
        """
        for pattern in patterns:
            if not any(_fits(f.path, pattern) for f in self.files):
                names = ", ".join(f.path for f in self.files if "criteria" not in f.path)
                raise ConfigError(f"{self.name} has no file {pattern!r}", hint=f"it has {names} and criteria")
        return [f for f in self.files if not patterns or any(_fits(f.path, p) for p in patterns)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """A file after a fetch: whether it was `there` already, and how many bytes were transferred."""

    file: PublishedFile
    path: Path
    there: bool
    n_transferred: int


def load_catalogue(name: str) -> Catalogue:
    """Load a catalogue of the package.

    Raises:
        ConfigError: The name is unknown.
    """
    folder = resources.files("autoj_reward.autoj")
    known = sorted(p.name.removesuffix(".json") for p in folder.iterdir() if p.name.endswith(".json"))
    if name not in known:
        raise ConfigError(f"there is no data {name!r} to fetch", hint=f"known: {', '.join(known)}")
    read: dict[str, Any] = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    files = tuple(
        PublishedFile(path=f["path"], blob=f["blob"], n_bytes=f["bytes"]) for f in read.pop("files")
    )
    return Catalogue(**read, files=files)


def blob_id(path: Path) -> str:
    """Git's blob id of a file, 40 hexadecimal digits."""
    # Git uses SHA-1. Here it guards against accidents only; TLS guards the transport.
    digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with open(path, "rb") as file:
        while chunk := file.read(_READ_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def fetch(
    catalogue: Catalogue,
    folder: str | Path,
    *,
    patterns: Sequence[str] = (),
    base_url: str | None = None,
    report: Callable[[Fetched], None] = lambda fetched: None,
    pause_seconds: float = 1.0,
) -> list[Fetched]:
    """Download a catalogue's files into a folder, keeping their paths.

    Proxies are taken from HTTPS_PROXY and the like.

    Args:
        catalogue: The files.
        folder: The target folder; made if it does not exist.
        patterns: Download only files that match one; empty for all.
        base_url: A mirror: `{base_url}/{path}` instead of the catalogue's URL.
        report: Called after each file.
        pause_seconds: Pause before the second attempt; doubled for each further one.

    Returns:
        One entry for each file.

    Raises:
        ConfigError: A pattern matches nothing, or the folder cannot be written.
        EngineUnavailable: The server cannot be reached, or transfers keep breaking; partial files are kept.
        DataError: A downloaded file has the wrong id, or another file has its name.
    """
    files = catalogue.chosen(patterns)
    done = []
    with httpx.Client(timeout=_TIMEOUT, follow_redirects=True) as client:
        for file in files:
            target = Path(folder) / file.path
            if base_url is not None:
                url = f"{base_url.rstrip('/')}/{file.path}"
            else:
                url = catalogue.url.format(
                    repository=catalogue.repository, commit=catalogue.commit, path=file.path
                )
            try:
                done.append(_fetch_one(client, file, url, target, pause_seconds))
            except OSError as error:
                raise ConfigError(f"{target} cannot be written: {error}") from error
            report(done[-1])
    return done


def _fetch_one(
    client: httpx.Client, file: PublishedFile, url: str, target: Path, pause_seconds: float
) -> Fetched:
    if target.is_file() and blob_id(target) == file.blob:
        return Fetched(file=file, path=target, there=True, n_transferred=0)
    if target.exists():
        raise DataError(
            f"exists and is not the published file ({file.blob})", path=str(target),
            hint="move it, or name another folder: existing files are not overwritten",
        )  # fmt: skip
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    n_transferred = 0
    resumed = part.exists() and part.stat().st_size > 0
    for attempt in range(_TRIES):
        if attempt:
            time.sleep(pause_seconds * 2 ** (attempt - 1))
        before = part.stat().st_size if part.exists() else 0
        try:
            complete = _transfer(client, url, part, file.n_bytes or _MOST_BYTES)
        except httpx.HTTPStatusError as error:
            status = error.response.status_code
            if status < 500 and status not in (408, 429):
                raise EngineUnavailable(
                    f"{redact(url)} answers {status} {error.response.reason_phrase}", hint=_hint(target)
                ) from error
            complete, problem = False, f"answers {status}"
        except httpx.ConnectError as error:
            raise EngineUnavailable(
                f"{redact(url)} cannot be reached: {error}", hint=_hint(target)
            ) from error
        except httpx.HTTPError as error:
            complete, problem = False, f"{type(error).__name__}: {error}"
        else:
            problem = "the transfer ended early"
        n_transferred += max(0, (part.stat().st_size if part.exists() else 0) - before)
        if not complete:
            continue
        found = blob_id(part)
        if found == file.blob:
            os.replace(part, target)
            return Fetched(file=file, path=target, there=False, n_transferred=n_transferred)
        part.unlink()
        if resumed:
            # The older partial file may have been of another file: start again.
            resumed = False
            continue
        raise DataError(
            f"has the id {found}, not {file.blob}: it is not the published file", path=redact(url),
            hint="a proxy or mirror may have changed it; it was deleted",
        )  # fmt: skip
    raise EngineUnavailable(
        f"{redact(url)}: {problem}, {_TRIES} times", hint=f"run the same call again to continue {part}"
    )


def _transfer(client: httpx.Client, url: str, part: Path, most: int) -> bool:
    """Append to a partial file; return whether it is complete."""
    have = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with client.stream("GET", url, headers=headers) as response:
        if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE and have:
            # The partial file is complete or too long; its id will show which.
            return True
        response.raise_for_status()
        if response.headers.get("Content-Encoding", "identity").strip().lower() not in ("", "identity"):
            raise httpx.RemoteProtocolError("the server sent a compressed response, which was not asked for")
        appended = response.status_code == httpx.codes.PARTIAL_CONTENT
        if appended and not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            raise httpx.RemoteProtocolError("the server sent another range than was asked for")
        expected = response.headers.get("Content-Length")
        received = 0
        with open(part, "ab" if appended else "wb") as out:
            # Without a chunk size, so that nothing received before a break is lost.
            for chunk in response.iter_raw():
                out.write(chunk)
                received += len(chunk)
                if received + (have if appended else 0) > most:
                    # Longer than the file; its id will be wrong.
                    return True
    return expected is None or received == int(expected)


def _hint(target: Path) -> str:
    return (
        "behind a proxy, set HTTPS_PROXY; or download the file elsewhere, put it at "
        f"{target}, and run this again, which then only checks it"
    )


def _fits(path: str, pattern: str) -> bool:
    return fnmatch.fnmatch(path, pattern) or fnmatch.fnmatch(path.rpartition("/")[2], pattern)
