# SPDX-License-Identifier: Apache-2.0
"""The package as a whole: its public names, what importing it costs, and which way its imports point."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import autoj_reward
from tests.conftest import REPO

PACKAGE = REPO / "autoj_reward"

PUBLIC = {
    "Criterion", "Rubric", "Track", "track", "RubricJudgment", "load_rubric", "read_rubric",
    "AllPairs", "AutojRewardError", "Budgeted", "ConfigError", "DataError", "Engine", "EngineContractBroken",
    "EngineError", "EngineRejected", "EngineUnavailable", "Failure", "FailureReason", "Guard", "Judge",
    "JudgeReward", "Knockout", "LabelSettings", "LabelledGroup", "PairJudgment", "Panel", "Pointwise",
    "PreferencePair", "Ranking", "RatingJudgment", "Request", "Ring", "StoreError", "Strategy", "Swiss",
    "TemplateError", "TooManyFailures", "VerdictDistribution", "async_reward", "best_of_n",
    "compare_conversations", "label", "label_dataset", "rank", "to_pandas", "worst_of_n",
}  # fmt: skip

HEAVY = ("torch", "transformers", "vllm", "trl", "peft", "datasets", "pyarrow", "fastapi", "ray", "uvicorn")


def modules() -> list[Path]:
    return sorted(p for p in PACKAGE.rglob("*.py"))


def imported(path: Path, *, at_module_level: bool) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if at_module_level else list(ast.walk(tree))
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


def test_public_names_are_these_and_all_there() -> None:
    assert set(autoj_reward.__all__) == PUBLIC
    for name in PUBLIC:
        assert getattr(autoj_reward, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'Judgement'"):
        autoj_reward.Judgement  # noqa: B018


@pytest.mark.slow
def test_importing_the_package_loads_no_model_library() -> None:
    code = f"import sys, autoj_reward; print(len(sys.modules), {{*{HEAVY!r}}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    n_modules, heavy = done.stdout.split(maxsplit=1)
    assert heavy.strip() == "set()"
    assert int(n_modules) < 200


RUNS_A_MODEL = ("engines/transformers", "training")
"""Rooms whose modules import torch at the top."""


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_only_what_runs_a_model_imports_one(path: Path) -> None:
    """torch at module level belongs to the engine that needs it and to training."""
    if path.relative_to(PACKAGE).as_posix().startswith(RUNS_A_MODEL):
        return
    top = {name.split(".")[0] for name in imported(path, at_module_level=True)}
    assert not top & {"torch", "transformers", "vllm", "trl", "peft"}


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_every_file_names_its_licence(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not text or text.startswith("# SPDX-License-Identifier: Apache-2.0\n")


def test_every_folder_of_the_package_is_installed() -> None:
    listed = tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"][
        "packages"
    ]
    folders = [(PACKAGE, "autoj_reward"), (REPO / "integrations", "autoj_reward.integrations")]
    there = {
        ".".join((name, *path.parent.relative_to(root).parts))
        for root, name in folders
        for path in root.rglob("__init__.py")
    }
    assert there == set(listed)
