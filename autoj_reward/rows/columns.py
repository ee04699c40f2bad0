# SPDX-License-Identifier: Apache-2.0
"""Find the Arrow type of each column of JSON rows, and write mixed columns as JSON text.

JSON lines may hold a number in one row and a text in the next, an object without fields, or an integer of 80
digits. No Parquet column does. Such a column is written as JSON text in every row, and marked, so that our
readers give the original values back.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from autoj_reward.json_text import json_text, plain

_MARK = {"autoj_reward": "json"}
"""Metadata of a column whose texts are JSON."""
_MOST_FIELDS = 1024
"""Fields of one object type: a mapping with another key in each row would make as many columns."""
_MOST_DEPTH = 32
_EXACT = 1 << 53
"""Integers up to here are exact as 64-bit floats."""


class Shape:
    """The type that holds all values added so far; null fits every type.

    Attributes:
        kind: `null`, `mixed`, `list`, `struct`, `bool`, `int`, `float`, `str`, or an Arrow type.
        size: Largest absolute value of the integers.
        below: The shape of a list's items (under the name ""), or of a struct's fields.
    """

    __slots__ = ("below", "kind", "size")

    def __init__(self) -> None:
        self.kind: Any = "null"
        self.size = 0
        self.below: dict[str, Shape] = {}

    def add(self, value: Any, depth: int = 0) -> None:
        """Widen the shape to hold a value."""
        if value is None or self.kind == "mixed":
            return
        kind = _kind(value)
        if depth > _MOST_DEPTH or (kind == "struct" and not value):
            self._mix()
        elif kind == "int":
            self.size = max(self.size, abs(value) - (value < 0))
            self._be("int")
        elif kind == "list":
            self._be("list")
            items = self._field("")
            for item in value:
                items.add(item, depth + 1)
            if items.kind == "mixed":
                self._mix()
        elif kind == "struct":
            self._be("struct")
            for name, item in value.items():
                below = self._field(name)
                below.add(item, depth + 1)
                if below.kind == "mixed" or len(self.below) > _MOST_FIELDS:
                    self._mix()
                    return
        else:
            self._be(kind)
        if self.kind in ("int", "float") and self.size > ((1 << 63) - 1 if self.kind == "int" else _EXACT):
            self._mix()

    def arrow(self) -> Any:
        """The `pyarrow.DataType`: text if all values are null, and for `mixed`."""
        import pyarrow as pa

        if self.kind == "list":
            return pa.list_(self._field("").arrow())
        if self.kind == "struct":
            return pa.struct([pa.field(name, below.arrow()) for name, below in self.below.items()])
        known = {"bool": pa.bool_(), "int": pa.int64(), "float": pa.float64()}
        return known.get(self.kind, pa.string()) if isinstance(self.kind, str) else self.kind

    def _field(self, name: str) -> Shape:
        return self.below.setdefault(name, Shape())

    def _be(self, kind: Any) -> None:
        if self.kind in ("null", kind):
            self.kind = kind
        elif {self.kind, kind} == {"int", "float"}:
            self.kind = "float"
        elif isinstance(kind, str) or isinstance(self.kind, str):
            self._mix()
        else:
            self._widen(kind)

    def _widen(self, kind: Any) -> None:
        """Unify Arrow types, such as decimals of several precisions or times of several units."""
        import pyarrow as pa

        try:
            both = [pa.schema([("x", self.kind)]), pa.schema([("x", kind)])]
            self.kind = pa.unify_schemas(both, promote_options="permissive").field(0).type
        except pa.ArrowException:
            self._mix()

    def _mix(self) -> None:
        self.kind, self.below = "mixed", {}


class Columns:
    """The columns of a file, found by adding all of its rows."""

    def __init__(self) -> None:
        self._shapes: dict[str, Shape] = {}

    def add(self, row: Mapping[str, Any]) -> None:
        """Widen the columns to hold a row."""
        for name, value in row.items():
            self._shapes.setdefault(name, Shape()).add(value)

    @property
    def as_json(self) -> list[str]:
        """Names of the columns that no Arrow type holds."""
        return [name for name, shape in self._shapes.items() if shape.kind == "mixed"]

    def schema(self) -> Any:
        """The `pyarrow.Schema`; columns of JSON text are marked."""
        import pyarrow as pa

        marked = set(self.as_json)
        return pa.schema(
            [
                pa.field(name, shape.arrow(), metadata=_MARK if name in marked else None)
                for name, shape in self._shapes.items()
            ]
        )

    def table(self, rows: Iterable[Mapping[str, Any]], schema: Any) -> Any:
        """Rows as a `pyarrow.Table` of the schema."""
        import pyarrow as pa

        texts = self.as_json
        made = [
            {**row, **{n: json_text(row[n], default=plain) for n in texts if row.get(n) is not None}}
            for row in rows
        ]
        return pa.Table.from_pylist(made, schema=schema)


def json_columns(schema: Any) -> list[str]:
    """Columns of a `pyarrow.Schema` that are marked as JSON text."""
    return [f.name for f in schema if f.metadata and f.metadata.get(b"autoj_reward") == b"json"]


def read_back(row: dict[str, Any], texts: Iterable[str]) -> dict[str, Any]:
    """A row with its columns of JSON text parsed.

    Raises:
        ValueError: A text is not JSON.
    """
    return row | {name: json.loads(row[name]) for name in texts if isinstance(row.get(name), str)}


def _kind(value: Any) -> Any:
    for kind, name in _KINDS:
        if isinstance(value, kind):
            return name
    import pyarrow as pa

    try:
        return pa.scalar(value).type
    except (pa.ArrowException, ValueError, TypeError, OverflowError):
        return "mixed"


_KINDS: tuple[tuple[Any, str], ...] = (
    (str, "str"), (bool, "bool"), (int, "int"), (float, "float"), (dict, "struct"), (list | tuple, "list"),
)  # fmt: skip
