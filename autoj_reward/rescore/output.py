# SPDX-License-Identifier: Apache-2.0
"""Rescore an output file: find the engine that answered its rows, replay the answers, count the changes."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from autoj_reward.cache.store import JudgmentStore
from autoj_reward.criteria.rubric import Rubric
from autoj_reward.engines.replay import ReplayEngine
from autoj_reward.errors import ConfigError, DataError
from autoj_reward.judge.description import judge_id
from autoj_reward.judge.judge import Judge
from autoj_reward.rescore.cache import Aggregation, Report
from autoj_reward.rescore.rows import (
    critiques_of,
    is_by_criteria,
    judge_on,
    kind_of,
    mode_of,
    rescore_rows,
)
from autoj_reward.rows.fields import find_format
from autoj_reward.rows.output import read_record
from autoj_reward.rows.records import RowItem
from autoj_reward.rows.source import Row, chunked, open_source, read_rows
from autoj_reward.rows.tasks import taken_fields
from autoj_reward.types import Mode

_CHUNK = 512
_PROBED = 64
"""Rows that are tried to find the engine whose answers an output holds."""


def first_row(source: str) -> Row:
    """The first row of an output of `rate`, `compare` or `rerank`.

    Raises:
        DataError: It has no rows, cannot be read, or another command wrote it.
    """
    _, first = next(read_rows(source), (0, None))
    if first is None:
        raise DataError("has no rows", path=source)
    kind_of(first, source)
    return first


def mode_to_read(first: Row, wanted: str | None, source: str) -> Mode | None:
    """The mode in which an output was judged; None if neither its rows nor the caller say.

    Raises:
        ConfigError: Another mode was asked for.
    """
    mode = mode_of(first)
    if None not in (mode, wanted) and mode != wanted:
        raise ConfigError(
            f"--mode {wanted}: the rows of {source} were judged in {mode} mode, and stay so",
            hint="leave --mode out; another mode is another judgment, which rate, compare and rerank make",
        )
    return mode or cast("Mode | None", wanted)


class OutputRescore:
    """One output file, and the judge that reads its rows again.

    Args:
        source: The file.
        judge: The new judge; its engine is not asked.
        store: The cache with the answers; None reads the critiques in the rows.
        aggregation: How draws become one distribution.
        fingerprint: Beginning of the engine's fingerprint; None takes that of the output's record, or else
            the one whose answers fit.
        format_name: As for `row_format`.
        columns: As for `row_format`.
        rubric_of: Gives a rubric for rows without one.
        limit: The first rows only; None for all.

    Attributes:
        report: Counts of the rows that `rows` has given so far.
        n_kept: Rows that are unchanged, because the cache does not hold them.

    Raises:
        DataError: No command whose rows are rescored wrote the file.
    """

    def __init__(
        self,
        source: str,
        judge: Judge,
        *,
        store: JudgmentStore | None,
        aggregation: Aggregation = "mean",
        fingerprint: str | None = None,
        format_name: str | None = None,
        columns: dict[str, str] | None = None,
        rubric_of: Callable[[Row, str], str | Rubric | None] | None = None,
        limit: int | None = None,
    ) -> None:
        self._limit = limit
        self.report = Report()
        self.n_kept = 0
        self._source = source
        self._judge = judge
        self._store = store
        self._aggregation = aggregation
        self._fingerprint = fingerprint or _recorded(source)
        self._kind = kind_of(first_row(source), source)
        _, found = find_format(open_source(source), (self._kind,), format_name, columns or {})
        self._fields = replace(found, rubric_of=rubric_of)
        task = judge.spec.comparison if self._kind == "compare" else judge.spec.rating
        self._taken = taken_fields(judge.spec, task)

    def rows(self) -> Iterator[Row]:
        """The output's rows with their new judgments.

        Raises:
            ConfigError: The cache answers none of the first rows, or those of several engines fit equally.
            DataError: A row cannot be read, or was judged in another mode.
        """
        on_cache: Judge | None = None
        for chunk in chunked(self._items(), _CHUNK):
            if self._store is None:
                wanted, replaying = self._on_critiques(chunk)
            else:
                on_cache = on_cache or self._on_cache(self._store, chunk[:_PROBED])
                wanted, replaying = chunk, on_cache
            done = {
                id(item): result
                for item, result in zip(wanted, rescore_rows(wanted, self._kind, replaying), strict=True)
            }
            for item in chunk:
                row, change = done.get(id(item), (item.row, None))
                if change is None:
                    self.n_kept += 1
                else:
                    self.report.add(change)
                yield row

    def _items(self) -> Iterator[RowItem]:
        mode = self._judge.settings.mode
        for line, row in itertools.islice(read_rows(self._source), self._limit):
            if mode_of(row) not in (None, mode):
                raise DataError(
                    f"was judged in {mode_of(row)} mode, and the first row in {mode} mode",
                    path=self._source,
                    line=line,
                    field="mode",
                    hint="rescore the outputs of different runs one by one",
                )
            requests = self._fields.requests(row, optional=self._taken)
            if is_by_criteria(row) and not isinstance(requests[0].rubric, Rubric):
                raise DataError(
                    "was judged by criteria, and the row has no rubric of criteria",
                    path=self._source,
                    line=line,
                    field=self._fields.rubric,
                    hint="give --column rubric=NAME, or --criteria, as the run that wrote it had",
                )
            yield RowItem(line, row, requests)

    def _on_critiques(self, chunk: list[RowItem]) -> tuple[list[RowItem], Judge]:
        """The rows with a critique, and the judge on an engine that returns these critiques."""
        # Rows hold the critique without reasoning.
        spec = replace(self._judge.spec, thinking=None)
        bare = Judge(spec, replace(self._judge.settings, mode="critique"), self._judge.engine)
        kept, engine = critiques_of(chunk, self._kind, bare)
        return kept, judge_on(bare, engine, aggregation=self._aggregation)

    def _on_cache(self, store: JudgmentStore, items: list[RowItem]) -> Judge:
        """The judge on the stored answers of the engine that fit most of the rows."""
        points = self._judge.settings.mode == "critique"
        known = sorted({s.engine for s in store.setups().values()})
        begins = self._fingerprint
        named = _named(known, items, self._judge) if begins is None else []
        engines: list[ReplayEngine] = []
        for name in named or [name for name in known if name.startswith(begins or "")]:
            engine = ReplayEngine(store, name, points=points)
            list(rescore_rows(items, self._kind, judge_on(self._judge, engine, aggregation="mean")))
            engines.append(engine)
        best = max((engine.n_replayed for engine in engines), default=0)
        if not best:
            raise ConfigError(
                f"the cache {store.path} answers none of the first {len(items)} rows",
                hint="give the options of the run that wrote them, or --critiques; `autoj-reward cache "
                "explain` says what differs",
            )
        equal = [engine for engine in engines if engine.n_replayed == best]
        if len(equal) > 1:
            raise ConfigError(
                f"the cache {store.path} holds answers of {len(equal)} engines to these rows, which do not "
                "say whose they are",
                hint="--fingerprint with one of " + ", ".join(e.fingerprint[:16] for e in equal),
            )
        engine = ReplayEngine(store, equal[0].fingerprint, points=points)
        return judge_on(self._judge, engine, aggregation=self._aggregation)


def _recorded(source: str) -> str | None:
    """The fingerprint of the engine that judged an output, from the record beside it."""
    path = Path(f"{os.path.realpath(source)}.run.json")
    found: Any = read_record(path).get("who") if path.is_file() else None
    name = found.get("engine fingerprint") if isinstance(found, dict) else None
    return name if isinstance(name, str) else None


def _named(known: Sequence[str], items: Sequence[RowItem], judge: Judge) -> list[str]:
    """The engines whose judge id is in the rows, if the judge's template and sampling are theirs."""
    ids = {item.row.get("judge_id") for item in items}
    return [name for name in known if judge_id(judge.spec, judge.settings, name) in ids]
