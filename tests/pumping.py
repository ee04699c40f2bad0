# SPDX-License-Identifier: Apache-2.0
"""Find every regular expression of the package, and build text that makes a bad one slow."""

from __future__ import annotations

import ast
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from re import _compiler, _parser  # type: ignore[attr-defined]
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
_CALLS = {"compile", "search", "match", "fullmatch", "sub", "subn", "split", "findall", "finditer"}
_ALPHABET = " \t\nab1:*#[](<{|_-'\"=/>.,的\x00é"
"""What a class of characters is tried with."""

LONGEST = 200_000
FAST_SECONDS = 0.02
MOST_GROWTH = 16.0
_ENOUGH_SECONDS = 0.04
_MOST_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Site:
    """A call of the `re` module: `file.scope`, the pattern where it is written out, and how it is used."""

    name: str
    pattern: re.Pattern[str] | None
    methods: frozenset[str]


def sites(*folders: str) -> list[Site]:
    """Every use of `re` in the folders, by file and enclosing name."""
    found: list[Site] = []
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            text = path.read_text(encoding="utf-8")
            if not re.search(r"\b(re|regex)\b", text):
                continue
            tree = ast.parse(text)
            assert "re" not in {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}, path
            others = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
            assert "regex" not in others, path
            seen: dict[str, int] = {}
            for scope, call in _calls(tree):
                name = f"{path.stem}.{scope}"
                seen[name] = seen.get(name, 0) + 1
                numbered = name if seen[name] == 1 else f"{name}#{seen[name]}"
                assert isinstance(call.func, ast.Attribute)
                found.append(Site(numbered, _written_out(call), _methods(tree, scope, call.func.attr)))
    return found


def _calls(tree: ast.Module) -> Iterator[tuple[str, ast.Call]]:
    def walk(node: ast.AST, scope: str) -> Iterator[tuple[str, ast.Call]]:
        for child in ast.iter_child_nodes(node):
            inner = scope
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                inner = f"{scope}.{child.name}".lstrip(".")
            elif isinstance(child, ast.Assign | ast.AnnAssign) and not scope:
                target = child.targets[0] if isinstance(child, ast.Assign) else child.target
                inner = ast.unparse(target)
            if (
                isinstance(child, ast.Call)
                and isinstance(child.func, ast.Attribute)
                and isinstance(child.func.value, ast.Name)
                and child.func.value.id == "re"
                and child.func.attr in _CALLS
            ):
                yield scope, child
            yield from walk(child, inner)

    return walk(tree, "")


def _written_out(call: ast.Call) -> re.Pattern[str] | None:
    """The pattern of a call whose arguments are constants."""
    flags = [a for a in call.args[1:] if ast.unparse(a).startswith("re.")]
    flags += [k.value for k in call.keywords if k.arg == "flags"]
    try:
        text = ast.literal_eval(call.args[0])
    except ValueError:
        return None
    named = [getattr(re, name) for f in flags for name in re.findall(r"re\.([A-Z]+)", ast.unparse(f))]
    text = text.decode() if isinstance(text, bytes) else text
    return re.compile(text, sum(named))


def _methods(tree: ast.Module, scope: str, called: str) -> frozenset[str]:
    """How the pattern is used: by the call itself, or wherever the compiled constant's name stands."""
    if called != "compile":
        return frozenset({called})
    used = {
        n.func.attr
        for n in ast.walk(tree)
        if isinstance(n, ast.Call)
        and isinstance(n.func, ast.Attribute)
        and isinstance(n.func.value, ast.Name)
        and n.func.value.id == scope
    }
    return frozenset(used & _CALLS) or frozenset({"finditer"})


def worst(text_of: Callable[[int], str], run: Callable[[str], object]) -> str | None:
    """How time grows with length, where it grows too much: CPU time, n against 8n.

    Fine is what takes less than 20 ms at 200,000 characters, or less than 16 times the time at 8 times the
    length. A first look is one run at each length; what looks bad is run seven times.
    """
    n = 3_125
    while (long := _seconds(text_of(n), run, times=1)) < _ENOUGH_SECONDS and n < LONGEST:
        n *= 8
    if n == LONGEST and long < FAST_SECONDS:
        return None
    short = _seconds(text_of(n // 8), run, times=1)
    if long < MOST_GROWTH / 2 * short:
        return None
    # In turns, so that a processor that slows down for a while slows both.
    for _ in range(6):
        short = min(short, _seconds(text_of(n // 8), run, times=3))
        if long < _MOST_SECONDS:
            long = min(long, _seconds(text_of(n), run, times=1))
    if n == LONGEST and long < FAST_SECONDS:
        return None
    if long < MOST_GROWTH * short:
        return None
    return f"{short * 1e3:.2f} ms at {n // 8:,} characters, {long * 1e3:.1f} ms at {n:,}"


def _seconds(text: str, run: Callable[[str], object], *, times: int) -> float:
    taken = []
    for _ in range(times):
        began = time.process_time()
        run(text)
        taken.append(time.process_time() - began)
    return min(taken)


def runner(pattern: re.Pattern[str], method: str) -> Callable[[str], object]:
    """A pattern put to work in one way, through the whole text."""
    if method in ("search", "match", "fullmatch"):
        return getattr(pattern, method)  # type: ignore[no-any-return]
    return lambda text: sum(1 for _ in pattern.finditer(text))


def pumps(pattern: re.Pattern[str]) -> list[Callable[[int], str]]:
    """Hostile texts made from a pattern: each of its long repeats run on, with all that comes before it."""
    tree = _parser.parse(pattern.pattern, pattern.flags & ~re.DEBUG)
    texts: dict[tuple[str, str, str], None] = {}
    for before, bodies in _repeats(tree, "", pattern.flags):
        for body in bodies:
            for end in ("", "\x00"):
                texts[before, body, end] = None
        if before:
            texts["", before, ""] = None
            texts["", before + bodies[0] * 30, ""] = None
    return [pump(*parts) for parts in texts]


def pump(before: str, body: str, end: str) -> Callable[[int], str]:
    return lambda n: before + body * ((n - len(before)) // len(body)) + end


def _repeats(tree: Any, before: str, flags: int) -> Iterator[tuple[str, list[str]]]:
    """Each repeat without a small limit: a text that leads to it, and texts that it repeats."""
    for op, value in tree:
        kind = str(op)
        if kind in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
            _, most, item = value
            if most >= 20 and (bodies := _bodies(item, flags)):
                yield before, bodies
            yield from _repeats(item, before, flags)
        else:
            for part in _parts(kind, value):
                yield from _repeats(part, before, flags)
        before += _sample(op, value)


def _parts(kind: str, value: Any) -> Sequence[Any]:
    if kind == "BRANCH":
        return value[1]  # type: ignore[no-any-return]
    if kind == "SUBPATTERN":
        return [value[3]]
    if kind == "ATOMIC_GROUP":
        return [value]
    return [value[1]] if kind in ("ASSERT", "ASSERT_NOT") else []


def _bodies(item: Any, flags: int) -> list[str]:
    """A sample of what is repeated, and single characters that it takes."""
    compiled = _compiler.compile(item, flags & ~re.DEBUG)
    sample = "".join(_sample(op, value) for op, value in item)
    single = [c for c in _ALPHABET if compiled.fullmatch(c)][:5]
    return list(dict.fromkeys([*([sample] if sample else []), *single]))


def _sample(op: Any, value: Any) -> str:
    """A short text that a piece of a pattern takes."""
    kind = str(op)
    if kind == "LITERAL":
        return chr(value)
    if kind == "ANY":
        return "a"
    if kind in ("IN", "NOT_LITERAL"):
        taken = _parser.SubPattern(_parser.State(), [(op, value)])
        one = _compiler.compile(taken, 0)
        return next((c for c in (*"a1 :*[", *map(chr, range(1, 0x3000))) if one.fullmatch(c)), "")
    if kind in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
        least, _, item = value
        return "".join(_sample(*inner) for inner in item) * least
    parts = () if kind.startswith("ASSERT") else _parts(kind, value)[:1]
    return "".join(_sample(*inner) for part in parts for inner in part)


def slow(
    pattern: re.Pattern[str],
    methods: Iterable[str],
    own: Sequence[Callable[[int], str]],
    *,
    further: bool = True,
) -> list[str]:
    """Where a pattern's time grows faster than its text, one line for each; `further` adds `pumps`."""
    texts = (*own, *(pumps(pattern) if further else ()))
    return [
        f"{pattern.pattern[:80]!r}.{method} on {text_of(60)[:60]!r}: {worse}"
        for method in sorted(methods)
        for text_of in texts
        if (worse := worst(text_of, runner(pattern, method)))
    ]
