# SPDX-License-Identifier: Apache-2.0
"""Download published data files from one commit and check them against their git blob ids.

A file is written beside its place as `NAME.part` and moved there when its id is right. A transfer that
breaks continues where it stopped; so does the next call. Complete files are not fetched again.
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
"""Of a file whose size is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedFile:
    """A file of a repository.

    Attributes:
        path: Within the repository.
        blob: Git's id of its content: the SHA-1 of `blob SIZE`, a zero byte and the content.
        n_bytes: Its size, or None where it is not known.
    """

    path: str
    blob: str
    n_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """What can be fetched under one name.

    Attributes:
        name: For the command.
        repository: Owner and name.
        commit: 40 hexadecimal digits.
        url: With `{repository}`, `{commit}` and `{path}`.
        licence: Of the data, in words.
        files: The files.
    """

    name: str
    repository: str
    commit: str
    url: str
    licence: str
    files: tuple[PublishedFile, ...]

    def chosen(self, patterns: Sequence[str]) -> list[PublishedFile]:
        """The files whose path or name fits one of the patterns (`*.jsonl`); all of them for none.

        Raises:
            ConfigError: A pattern fits no file.
        """
        for pattern in patterns:
            if not any(_fits(f.path, pattern) for f in self.files):
                names = ", ".join(f.path for f in self.files if "criteria" not in f.path)
                raise ConfigError(f"{self.name} has no file {pattern!r}", hint=f"it has {names} and criteria")
        return [f for f in self.files if not patterns or any(_fits(f.path, p) for p in patterns)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """One file after a fetch: whether it was `there` already, or how many bytes were transferred."""

    file: PublishedFile
    path: Path
    there: bool
    n_transferred: int


def load_catalogue(name: str) -> Catalogue:
    """A catalogue that comes with the package.

    Raises:
        ConfigError: There is none of that name.
    """
    folder = resources.files("autoj_reward.autoj")
    known = sorted(p.name.removesuffix(".json") for p in folder.iterdir() if p.name.endswith(".json"))
    if name not in known:
        raise ConfigError(f"there is no data {name!r} to fetch", hint=f"there is {', '.join(known)}")
    read: dict[str, Any] = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    files = tuple(
        PublishedFile(path=f["path"], blob=f["blob"], n_bytes=f["bytes"]) for f in read.pop("files")
    )
    return Catalogue(**read, files=files)


def blob_id(path: Path) -> str:
    """Git's id of a file's content, 40 hexadecimal digits."""
    # SHA-1 is what git names content by; it guards against accidents here, beside the transport's own seal.
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
    """Fetch a catalogue's files into a folder, under their own paths.

    Proxies are taken from HTTPS_PROXY and the like.

    Args:
        catalogue: What.
        folder: Where; made if it is not there.
        patterns: Only files that fit; none for all.
        base_url: A mirror: `{base_url}/{path}` instead of the catalogue's address.
        report: Called after each file.
        pause_seconds: Before the second try; doubled for each further one.

    Returns:
        One entry for each file.

    Raises:
        ConfigError: A pattern fits nothing, or the folder cannot be written.
        EngineUnavailable: The files cannot be reached, or transfers keep breaking; what came is kept.
        DataError: A file's content is not what it was at the commit, or another file is in its place.
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
            f"is there and is not the published file ({file.blob})", path=str(target),
            hint="move it away, or name another folder: nothing here is overwritten",
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
            # The beginning was of an older transfer, perhaps of another file: once more from the start.
            resumed = False
            continue
        raise DataError(
            f"has the id {found}, not {file.blob}: it is not the published file", path=redact(url),
            hint="a proxy or mirror may have changed it; nothing was kept",
        )  # fmt: skip
    raise EngineUnavailable(
        f"{redact(url)}: {problem}, {_TRIES} times", hint=f"run the same call again to continue {part}"
    )


def _transfer(client: httpx.Client, url: str, part: Path, most: int) -> bool:
    """Append to a partial file; whether all of it is there now."""
    have = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with client.stream("GET", url, headers=headers) as response:
        if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE and have:
            # Nothing is left to come, or there is too much here already: the id will tell.
            return True
        response.raise_for_status()
        if response.headers.get("Content-Encoding", "identity").strip().lower() not in ("", "identity"):
            raise httpx.RemoteProtocolError("the server sent a compressed file, which was not asked for")
        appended = response.status_code == httpx.codes.PARTIAL_CONTENT and _starts_at(response, have)
        if response.status_code == httpx.codes.PARTIAL_CONTENT and not appended:
            raise httpx.RemoteProtocolError("the server sent another range than was asked for")
        expected = response.headers.get("Content-Length")
        received = 0
        with open(part, "ab" if appended else "wb") as out:
            # As it comes: pieces of a set size would lose what came before a break.
            for chunk in response.iter_raw():
                out.write(chunk)
                received += len(chunk)
                if received + (have if appended else 0) > most:
                    # More than the file has: the id will tell, and the disk is not filled.
                    return True
    return expected is None or received == int(expected)


def _starts_at(response: httpx.Response, have: int) -> bool:
    return str(response.headers.get("Content-Range", "")).startswith(f"bytes {have}-")


def _hint(target: Path) -> str:
    return (
        "without a direct way out, set HTTPS_PROXY; or fetch the file elsewhere, put it at "
        f"{target}, and run this again: it is checked, not fetched"
    )


def _fits(path: str, pattern: str) -> bool:
    return fnmatch.fnmatch(path, pattern) or fnmatch.fnmatch(path.rpartition("/")[2], pattern)
