# SPDX-License-Identifier: Apache-2.0
"""Write output rows: JSON lines as they finish, Parquet at the end, with a run record for resuming.

Every chunk is flushed. JSON lines go straight into the output file. A Parquet file cannot be appended to, so
the fields added to each row wait in `OUT.part.jsonl`, with the number of the row, and become the file after
the last row; so do outputs in which one row becomes several or none. `OUT.run.json` identifies the run: the
same command continues the output, and another one is refused. `OUT.lock` excludes a second writer.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from autoj_reward.errors import ConfigError, DataError
from autoj_reward.json_text import json_text, plain
from autoj_reward.rows.identity import another_run, changed_names, check_same_judge
from autoj_reward.rows.lock import OutputLock
from autoj_reward.rows.parquet import write_folder, write_parquet
from autoj_reward.rows.source import Row

_WHO = ("who", "about", "former")
"""Entries of a record about the judge, which are kept when an output is continued."""

_FORMER = 20
"""Most earlier runs of one output that its record describes."""


def to_json(row: Row) -> bytes:
    """A row as one line of JSON in UTF-8, the line end included.

    Dates become ISO texts, bytes base64, and numbers that are not finite null. Lone surrogates, which UTF-8
    does not have, are escaped.
    """
    try:
        return json_text(row, ensure_ascii=False, default=plain).encode() + b"\n"
    except UnicodeEncodeError:
        return json_text(row, default=plain).encode() + b"\n"


class Output:
    """The output file or folder of a run.

    Args:
        name: A `.jsonl` or `.parquet` file, or `-` for standard output. With `expand` also a name without a
            suffix: a folder that `datasets.load_from_disk` reads, and no `-`.
        run: Identifies this run: an output with an equal dictionary is continued.
        overwrite: Replace an existing file.
        expand: Turns the fields added to a row into the rows of the output.
        notes: More entries for the record of the finished run.

    Attributes:
        n_done: Rows that an interrupted run has already written.
        complete: Whether an earlier run has written all of them.
        record: The record of an earlier run; empty without one.

    Raises:
        ConfigError: The file exists and belongs to another run, or cannot be written.
    """

    def __init__(
        self,
        name: str,
        run: dict[str, Any],
        *,
        overwrite: bool = False,
        expand: Callable[[Row], Iterable[Row]] | None = None,
        notes: Callable[[], Row] = dict,
    ) -> None:
        self.name = name
        self._expand = expand
        self._notes = notes
        self.run: dict[str, Any] = json.loads(json.dumps(run))
        self._file: IO[bytes] | None = None
        self._lock: OutputLock | None = None
        self.n_done = 0
        self.complete = False
        self._who: dict[str, Any] = {}
        self.record: dict[str, Any] = {}
        if name == "-" and expand is None:
            self._file = sys.stdout.buffer
            return
        kinds = (".jsonl", ".parquet") if expand is None else (".jsonl", ".parquet", "")
        if Path(name).suffix not in kinds or name == "-":
            further = "-" if expand is None else "a folder's name without a suffix"
            raise ConfigError(f"the output {name!r} is neither .jsonl nor .parquet nor {further}")
        try:
            # Symbolic links to one file are one output.
            self._path = Path(os.path.realpath(name))
            if self._path.exists() and not (self._path.is_file() or self._path.is_dir()):
                raise ConfigError(
                    f"the output {name} is not a regular file", hint="- writes to standard output"
                )
            self._deferred = Path(name).suffix != ".jsonl" or expand is not None
            self._lines = self._beside(".part.jsonl") if self._deferred else self._path
            self._record = self._beside(".run.json")
            self._scratch = self._beside(".tmp")
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = OutputLock(self._path)
            try:
                if overwrite:
                    self._remove()
                self._resume()
            except BaseException:
                self.close()
                raise
        except OSError as error:
            raise ConfigError(f"the output {name} cannot be written: {error}") from error

    def _beside(self, suffix: str) -> Path:
        return self._path.with_name(self._path.name + suffix)

    def _remove(self) -> None:
        if self._path.is_dir():
            if not self._record.exists():
                raise ConfigError(f"{self.name} is a folder that this command did not write")
            # In one step: a half removed folder would count as finished.
            _clear(self._scratch)
            os.replace(self._path, self._scratch)
        for path in (self._path, self._lines, self._record):
            path.unlink(missing_ok=True)

    def _resume(self) -> None:
        exists = self._path.exists() or self._lines.exists()
        if exists and not self._record.exists():
            raise ConfigError(
                f"{self.name} exists and was not written by this command", hint="--overwrite replaces it"
            )
        if self._record.exists():
            _clear(self._scratch)
        if exists:
            record = self.record = read_record(self._record)
            begun = record.get("complete") or self._path.is_dir() or _size(self._lines) or _size(self._path)
            if begun and changed_names(record["run"], self.run):
                raise another_run(self.name, record["run"], self.run)
            self._who = {key: record[key] for key in _WHO if begun and key in record}
            self.complete = bool(record.get("complete"))
            if self.complete and self._deferred:
                self._lines.unlink(missing_ok=True)
            if not self.complete and self._lines.exists():
                self.n_done = _drop_torn_line(self._lines)
                if self._deferred:
                    for _ in self._additions():
                        pass
        if not self.complete:
            self._write_record(complete=False)
            self._file = open(self._lines, "ab")  # noqa: SIM115 - closed in close()

    def identify(self, who: dict[str, Any], about: dict[str, Any]) -> None:
        """Record the judge, and refuse to continue rows of another judge.

        Args:
            who: Identifies the judge and how it reads verdicts.
            about: Information on this run, which is not compared.

        Raises:
            ConfigError: Another judge wrote the existing rows, or their record does not name its judge.
        """
        if self.name == "-":
            return
        who = json.loads(json.dumps(who))
        if self.n_done or self.complete:
            check_same_judge(self.name, self._who.get("who"), who)
        former = [*self._who.get("former", ()), *([self._who["about"]] if "about" in self._who else ())]
        self._who = {"who": who, "about": about, **({"former": former[-_FORMER:]} if former else {})}
        if self.complete:
            self.amend_record(**self._who)
        else:
            self._write_record(complete=False)

    @property
    def whole_lines(self) -> bool:
        """Whether `done_rows` gives whole rows, and not only the added fields."""
        return self.name != "-" and not self._deferred

    def done_rows(self) -> Iterator[Row]:
        """The rows that an interrupted run has written, or from a part file the fields added to each.

        Raises:
            DataError: A line is not one that such a run writes.
        """
        if self.name == "-" or not self.n_done:
            return
        if self._deferred:
            yield from self._additions()
            return
        with open(self._lines, "rb") as lines:
            for number, line in enumerate(lines, start=1):
                yield self._read(line, number)

    def _additions(self) -> Iterator[Row]:
        """The fields added to each row, in order."""
        with open(self._lines, "rb") as lines:
            for number, line in enumerate(lines, start=1):
                kept = self._read(line, number)
                if kept.get("row") != number or not isinstance(kept.get("added"), dict):
                    raise DataError(
                        f"must hold row {number}, holds row {kept.get('row', 'without a number')}: the file "
                        "was written by two runs, or by a former version",
                        path=str(self._lines), line=number, hint="--overwrite starts again",
                    )  # fmt: skip
                yield kept["added"]

    def _read(self, line: bytes, number: int) -> Row:
        try:
            kept = json.loads(line)
            problem = "not a JSON object"
        except (ValueError, RecursionError) as error:
            kept, problem = None, str(error)
        if isinstance(kept, dict):
            return kept
        raise DataError(
            f"is damaged: {problem}", path=str(self._lines), line=number, hint="--overwrite starts again"
        )

    def write(self, rows: Iterable[tuple[Row, Row]]) -> None:
        """Append finished rows (the input's row, and the fields added to it) and flush them.

        Raises:
            DataError: The disk is full, or the file cannot be written.
        """
        if self._file is None:
            raise ConfigError(f"the output {self.name} is closed")
        only_added = self.name != "-" and self._deferred
        lines = []
        for number, (row, new) in enumerate(rows, start=self.n_done + 1):
            lines.append(to_json({"row": number, "added": new} if only_added else {**row, **new}))
        try:
            self._file.write(b"".join(lines))
            self._file.flush()
            self.n_done += len(lines)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise DataError(f"cannot be written: {error}", path=self.name) from error

    def finish(self, rows: Iterator[Row], summary: dict[str, Any]) -> None:
        """Mark the output complete.

        Args:
            rows: The input's good rows again, for the Parquet file.
            summary: Entries of the run's record.
        """
        self._close_file()
        if self.name == "-":
            return
        try:
            if self._deferred:
                self._write_whole(rows)
            self._write_record(complete=True, **summary, **self._notes())
            if self._deferred:
                self._lines.unlink()
        except OSError as error:
            raise DataError(f"cannot be written: {error}", path=self.name) from error

    def _write_whole(self, rows: Iterator[Row]) -> None:
        _clear(self._scratch)
        self._scratch.mkdir()
        try:
            if self._expand is None:
                whole = self._joined(rows)
            else:
                expand = self._expand
                whole = (row for added in self._additions() for row in expand(added))
            made = self._scratch / "made"
            if self._path.suffix == ".parquet":
                write_parquet(made, whole, self._scratch)
            elif self._path.suffix == ".jsonl":
                with open(made, "wb") as file:
                    file.writelines(to_json(row) for row in whole)
            else:
                write_folder(made, whole, self._scratch)
                # Left by a run that was killed here.
                _clear(self._path)
            os.replace(made, self._path)
        finally:
            _clear(self._scratch)

    def _joined(self, rows: Iterator[Row]) -> Iterator[Row]:
        for added in self._additions():
            if (row := next(rows, None)) is None:
                raise DataError(f"the input of {self.name} lost rows while it was judged")
            yield {**row, **added}
        if next(rows, None) is not None:
            raise DataError(f"the input of {self.name} got more rows while it was judged")

    def close(self) -> None:
        """Close the file and release the lock; a second call does nothing."""
        self._close_file()
        if self._lock is not None:
            self._lock.release()

    def _close_file(self) -> None:
        if self._file is not None and self.name != "-":
            # On a full disk, closing tries the failed write again.
            with contextlib.suppress(OSError):
                self._file.close()
        self._file = None

    def amend_record(self, **known: Any) -> None:
        """Set entries in the record of a finished run."""
        self.record |= known
        self._write_record(**{name: value for name, value in self.record.items() if name != "run"})

    def forget(self) -> None:
        """Remove the record of the run, when its output replaces another one's."""
        self._record.unlink(missing_ok=True)

    def _write_record(self, **known: Any) -> None:
        write_record(self._record, {"run": self.run, **self._who, **known})


def write_record(path: Path, record: Row) -> None:
    """Replace a record in one step."""
    scratch = path.with_suffix(".tmp")
    scratch.write_bytes(to_json(record))
    os.replace(scratch, path)


def read_record(path: Path) -> dict[str, Any]:
    """The record of a run, an object with at least `run`.

    Raises:
        ConfigError: It is damaged.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(record, dict) and isinstance(record.get("run"), dict):
            for part in (record["run"], record.get("who")):
                if isinstance(part, dict) and part.get("overlong") == "cut":
                    part["overlong"] = "truncate"  # its name in records of former versions
            return record
        problem = "it is not the record of a run"
    except (ValueError, RecursionError) as error:
        problem = str(error)
    raise ConfigError(f"the record {path} is damaged: {problem}", hint="--overwrite starts again")


def write_rows(path: str | Path, rows: Iterable[Row]) -> int:
    """Write a JSON lines file, whole or not at all; the number of rows.

    Raises:
        ConfigError: Another run writes it, or it cannot be written.
    """
    target = Path(os.path.realpath(path))
    try:
        if target.exists() and not target.is_file():
            raise ConfigError(f"the output {path} is not a regular file")
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = target.with_name(target.name + ".tmp")
        n = 0
        with OutputLock(target):
            try:
                with open(scratch, "wb") as file:
                    for row in rows:
                        file.write(to_json(row))
                        n += 1
                os.replace(scratch, target)
            finally:
                scratch.unlink(missing_ok=True)
        return n
    except OSError as error:
        raise ConfigError(f"the output {path} cannot be written: {error}") from error


def _drop_torn_line(path: Path) -> int:
    """Remove an incomplete last line, left by a killed run; the number of whole lines."""
    n, end = 0, 0
    with open(path, "rb+") as file:
        for line in file:
            if line.endswith(b"\n"):
                n, end = n + 1, end + len(line)
        file.truncate(end)
    return n


def _clear(path: Path) -> None:
    """Remove a file or a folder, if there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
