# SPDX-License-Identifier: Apache-2.0
"""What docs/trl.md says is there, and the README's training script trains."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autoj_reward import Judge, JudgeReward
from autoj_reward.engines.local_server.engine import LocalServerEngine
from autoj_reward.integrations.trl_judges import PairwiseJudge, RankJudge
from autoj_reward.reward.metrics import failure_metrics
from tests.conftest import REPO
from tests.integrations.test_judge_reward import Log, reward

DOCS = (REPO / "docs" / "trl.md").read_text(encoding="utf-8")
CODE = re.findall(r"^```python\n(.*?)^```$", DOCS, re.MULTILINE | re.DOTALL)
CALLABLES: dict[str, Callable[..., Any]] = {
    "JudgeReward": JudgeReward.__init__,
    "PairwiseJudge": PairwiseJudge.__init__,
    "RankJudge": RankJudge.__init__,
}


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:benchmarks|examples|tests)/[\w./]+)`", DOCS))))
def test_files_are_there(path: str) -> None:
    assert (REPO / path).exists()


def calls() -> list[ast.Call]:
    pieces = [*CODE, *re.findall(r"`([A-Za-z_.]+\([^`]*\))`", DOCS)]
    nodes = [node for piece in pieces for node in ast.walk(ast.parse(piece)) if isinstance(node, ast.Call)]
    return [n for n in nodes if isinstance(n.func, ast.Name) and n.func.id in CALLABLES]


def test_arguments_exist() -> None:
    assert len(calls()) > 6
    options = {*inspect.signature(Judge.load).parameters, *inspect.signature(LocalServerEngine).parameters}
    for call in calls():
        assert isinstance(call.func, ast.Name)
        known = set(inspect.signature(CALLABLES[call.func.id]).parameters) | options
        assert {k.arg for k in call.keywords} <= known


def test_imports_exist() -> None:
    for code in CODE:
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("autoj_reward"):
                if node.module == "autoj_reward.integrations.trl_ppo":
                    pytest.importorskip("torch")
                module = importlib.import_module(str(node.module))
                for alias in node.names:
                    assert hasattr(module, alias.name)


def test_metrics_are_named() -> None:
    log = Log()
    log(reward(), ["P"] * 3, ["q=4", "q=70", "mumble"])
    assert failure_metrics([])["failure_share"] == 0.0
    for name in log.metrics:
        short = name.removeprefix("judge_rating/").split("/")[0]
        assert f"`{short}" in DOCS


@pytest.mark.slow
def test_the_readme_trains(tmp_path: Path, tiny_policy: Path) -> None:
    """Its lines as they are, but for the models, the data set and the number of steps."""
    text = (REPO / "README.md").read_text(encoding="utf-8")
    code = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)[0]
    for given, here in (
        ('"autoj-13b", engine="vllm-server", memory_share=0.4', '"mini", engine="transformers"'),
        ("Qwen/Qwen3-0.6B", str(tiny_policy)),
    ):
        assert given in code
        code = code.replace(given, here)
    before = f"""
import functools, trl
from datasets import Dataset
dataset = Dataset.from_dict({{"prompt": ["Name a prime.", "Say hello."]}})
settings = trl.GRPOConfig({str(tmp_path)!r}, max_steps=1, num_generations=2, per_device_train_batch_size=2,
    max_completion_length=8, use_cpu=True, bf16=False, report_to=[], save_strategy="no", disable_tqdm=True)
trl.GRPOTrainer = functools.partial(trl.GRPOTrainer, args=settings)
"""
    after = "print('step', trainer.state.global_step, 'failures', reward.fill)"
    done = subprocess.run(
        [sys.executable, "-c", before + code + after],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "step 1 failures none" in done.stdout
