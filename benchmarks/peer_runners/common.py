# SPDX-License-Identifier: Apache-2.0
"""What every runner keeps to; the standard library alone, because it runs in each peer's environment.

A runner is started with the files TASK and OUT. TASK holds `model` (a folder), `dtype`, `system` (the judge's
system message), `bodies` (the filled judge template of each judgment, the same for all), `pairs` (prompt and
completion), `max_new_tokens`, `context`, and for a peer on a server `url`, `served_model` and `other_model`
(another name of the same model). It judges and writes what it saw: `measure` for speed, `measure_cache` for
what a response cache answers. For `measure_picks` the task holds `groups` (prompt, completions and their
gold) and `criteria` (texts by name) in the place of bodies and pairs.
"""

from __future__ import annotations

import http.client
import json
import re
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Judge = Callable[[Sequence[int]], "list[dict[str, Any]]"]
"""Judges the rows with these indices; for each `rating` (None where unreadable) and, where the peer tells,
`tokens` written, `requests` made, and `failure`, why there is no rating."""

Open = Callable[[str, int], Judge]
"""Opens the peer anew on its one cache file, for a served model's name and a limit of tokens."""

Pick = Callable[[str, "list[str]"], "int | None"]
"""Picks the best completion of a prompt: its index, or None where nothing could be read."""

_RATING = re.compile(r"\[\[\s*(\d+(?:\.\d+)?)\s*\]\]")
_MORE_TOKENS = 8
_WARM_PASSES = 5
_FEW = 4


def rating_of(text: str) -> float | None:
    """The regular expression people write: the first number in double brackets."""
    found = _RATING.search(text)
    return float(found.group(1)) if found else None


def read_task() -> dict[str, Any]:
    """The task of this runner."""
    task: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    return task


def chat(task: dict[str, Any], i: int) -> list[dict[str, str]]:
    """Row i as messages, as the judge's own wrapper has them."""
    user = {"role": "user", "content": task["bodies"][i]}
    return [{"role": "system", "content": task["system"]}, user] if task.get("system") else [user]


def measure(
    judge: Judge,
    task: dict[str, Any],
    *,
    started: float,
    unreadable: str,
    versions: dict[str, str],
    one_by_one: bool = False,
) -> None:
    """Judge row 0, then all others, then those again; write the seconds of each.

    Args:
        judge: Judges rows.
        task: The task.
        started: `time.perf_counter()` at the runner's first line.
        unreadable: What the peer does with an output that it cannot read, in words.
        versions: Of the packages that matter.
        one_by_one: Whether it takes one row after the other, so that a few tell its warm rate.
    """
    rows = range(1, len(task["bodies"]))
    few = rows[:_FEW] if one_by_one else rows
    judge([0])
    first = time.perf_counter()
    before = seen_by_server(task)
    start = time.perf_counter()
    answers = judge(rows)
    cold = time.perf_counter()
    after = seen_by_server(task)
    restart = time.perf_counter()
    again = judge(few)
    warm = time.perf_counter()
    if (len(answers), len(again)) != (len(rows), len(few)):
        raise SystemExit(f"{len(rows)} rows were given, {len(answers)} and then {len(again)} came back")
    if task.get("url"):
        counts = {name: after[name] - before[name] for name in ("requests", "tokens")}
    else:
        counts = {name: sum(a[name] for a in answers) for name in ("requests", "tokens")}
    write(
        {
            "n": len(rows),
            "n_warm": len(few),
            "first_seconds": first - started,
            "cold_seconds": cold - start,
            "warm_seconds": warm - restart,
            "n_unreadable": sum(a["rating"] is None for a in answers),
            **counts,
            "same_when_warm": sum(a["rating"] == b["rating"] for a, b in zip(answers, again, strict=False)),
            "unreadable": unreadable,
            "versions": versions,
        }
    )


def measure_cache(open_cache: Open, task: dict[str, Any], *, where: str, versions: dict[str, str]) -> None:
    """What a response cache answers without the server, counted by the server; write it.

    All rows but row 0, which is too long for the server, are judged cold, by a second object on the same
    cache, and warm; then under another model's name; then with a higher limit of tokens; then all of them
    with row 0, twice.

    Args:
        open_cache: Opens the peer on its cache.
        task: The task.
        where: Where the peer keeps its answers and what it knows them by, in words.
        versions: Of the packages that matter.
    """
    rows, limit = range(1, len(task["bodies"])), task["max_new_tokens"]
    model, other = task["served_model"], task["other_model"]
    judge = open_cache(model, limit)
    cold = counted(judge, rows, task)
    start = time.perf_counter()
    judge = open_cache(model, limit)
    opened = counted(judge, rows, task)
    reopened = time.perf_counter() - start
    passes = [counted(judge, rows, task) for _ in range(_WARM_PASSES)]
    other_asked = counted(open_cache(other, limit), rows, task)["requests"]
    more_asked = counted(open_cache(model, limit + _MORE_TOKENS), rows, task)["requests"]
    failed = [counted(open_cache(model, limit), [0, *rows], task) for _ in range(2)]
    write(
        {
            "n": len(rows),
            "cold_per_second": len(rows) / cold["seconds"],
            "warm_per_second": len(rows) / statistics.median(p["seconds"] for p in passes),
            "reopened_seconds": reopened,
            "requests_cold": cold["requests"],
            "requests_warm": opened["requests"] + sum(p["requests"] for p in passes),
            "requests_other_model": other_asked,
            "requests_more_tokens": more_asked,
            "refused_row": [f["answer"] for f in failed],
            "refused_row_asked": [f["refused"] for f in failed],
            "rows_answered_beside_it": [f["beside"] for f in failed],
            "rows_readable": cold["beside"],
            "where": where,
            "versions": versions,
        }
    )


def measure_picks(
    pick: Pick,
    task: dict[str, Any],
    *,
    started: float,
    how: str,
    versions: dict[str, str],
    told: Callable[[], Any] = dict,
) -> None:
    """Pick from every group, one after the other; write gold, seconds, and what the server counted.

    The first group is not counted. A group without a pick has the mean gold of its completions.

    Args:
        pick: Picks from one group.
        task: The task.
        started: `time.perf_counter()` at the runner's first line.
        how: How the peer comes to its pick, in words.
        versions: Of the packages that matter.
        told: What the peer itself says that it has spent since the first group.
    """
    first, *groups = task["groups"]
    pick(first["prompt"], first["completions"])
    ready = time.perf_counter()
    before, told_before = seen_by_server(task), told()
    start = time.perf_counter()
    picks = [pick(group["prompt"], group["completions"]) for group in groups]
    seconds = time.perf_counter() - start
    after, told_after = seen_by_server(task), told()
    golds = [group["gold"] for group in groups]
    means = [statistics.mean(gold) for gold in golds]
    write(
        {
            "n": len(groups),
            "gold": statistics.mean(
                mean if i is None else gold[i] for i, gold, mean in zip(picks, golds, means, strict=True)
            ),
            "gold_of_any": statistics.mean(means),
            "gold_of_best": statistics.mean(map(max, golds)),
            "n_without_pick": sum(i is None for i in picks),
            "picks": picks,
            **{name: after[name] - before[name] for name in after},
            "told": {name: value - told_before[name] for name, value in told_after.items()},
            "pick_seconds": seconds,
            "first_seconds": ready - started,
            "how": how,
            "versions": versions,
        }
    )


def counted(judge: Judge, rows: Sequence[int], task: dict[str, Any]) -> dict[str, Any]:
    """One call over rows: its seconds, what reached the server, and what came back."""
    before = seen_by_server(task)
    start = time.perf_counter()
    try:
        answers = dict(zip(rows, judge(rows), strict=True))
        ratings = {i: a["rating"] for i, a in answers.items()}
        answer = answers[0].get("failure") or f"rating {ratings[0]}" if 0 in answers else ""
    except Exception as error:  # What a peer raises is a finding.
        ratings, answer = {}, f"the whole call raised {type(error).__name__}"
    seconds = time.perf_counter() - start
    after = seen_by_server(task)
    return {
        "seconds": seconds,
        "requests": after["requests"] - before["requests"],
        "refused": after["refused"] - before["refused"],
        "beside": sum(r is not None for i, r in ratings.items() if i != 0),
        "answer": answer,
    }


def seen_by_server(task: dict[str, Any]) -> dict[str, int]:
    """What vLLM's server has counted so far: requests answered, tokens written, calls refused."""
    if not task.get("url"):
        return {}
    connection = http.client.HTTPConnection(task["url"].partition("://")[2], timeout=60)
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    connection.close()
    return {
        "requests": count_of(lines, "vllm:request_success_total"),
        "tokens": count_of(lines, "vllm:generation_tokens_total"),
        "prompt_tokens": count_of(lines, "vllm:prompt_tokens_total"),
        "cached_tokens": count_of(lines, "vllm:prefix_cache_hits_total"),
        "refused": count_of(lines, "http_requests_total", 'status="4xx"'),
    }


def count_of(lines: Sequence[str], name: str, label: str = "") -> int:
    """The sum of a counter over its labels, in Prometheus' text format."""
    return sum(
        int(float(x.split()[-1])) for x in lines if x.startswith((name + "{", name + " ")) and label in x
    )


def write(measured: dict[str, Any]) -> None:
    """Write what was measured, for `peers.py`."""
    Path(sys.argv[2]).write_text(json.dumps(measured), encoding="utf-8")


def versions_of(*packages: str) -> dict[str, str]:
    """Installed versions of packages, where they are installed."""
    import importlib.metadata

    found = {}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
