# SPDX-License-Identifier: Apache-2.0
"""A judge that is changed on disk is another judge, however it was changed: its answers come from no other judge."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autoj_reward.errors import ConfigError
from autoj_reward.judge.judge import Judge
from tests.engines.swapping import (
    how,
    rated,
    ratings,
    save_adapter,
    save_judge,
    swap_adapter,
    swap_chat_template,
    swap_tokenizer,
    swap_weights,
)

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_judge(tmp_path / "judge")


@pytest.fixture(autouse=True)
def _settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of a test are a moment old, and would be hashed each time: the worse case is an old file."""
    with contextlib.suppress(ImportError):
        monkeypatch.setattr("autoj_reward.engines.checkpoint.file_hash._SETTLED_NS", 0)


def check_swap(
    model: Path, change: Callable[[], object], cache: Path, **options: Any
) -> tuple[list[float | None], list[float | None]]:
    """Ratings before and after a change; those through the cache are those of the judge that is there."""
    before = ratings(model, cache=cache, **options)
    assert ratings(model, cache=cache, **options) == before
    change()
    after = ratings(model, cache=cache, **options)
    assert after == pytest.approx(ratings(model, **options), abs=1e-6)
    return before, after


@pytest.mark.parametrize("keep_times", [False, True])
def test_weights_replaced_in_place_with_their_times_kept_are_another_judge(
    folder: Path, tmp_path: Path, keep_times: bool
) -> None:
    """The remembered hash of a file of the same size, time and inode served the old model's answers."""
    time.sleep(0.02)
    before, after = check_swap(
        folder, lambda: swap_weights(folder, 1, keep_times=keep_times), tmp_path / "a.sqlite"
    )
    assert before != pytest.approx(after, abs=1e-3)


def test_an_adapter_replaced_in_place_is_another_judge(folder: Path, tmp_path: Path) -> None:
    adapter = save_adapter(tmp_path / "lora", folder, seed=1)
    before, after = check_swap(
        folder,
        lambda: swap_adapter(adapter, folder, 2, keep_times=True),
        tmp_path / "a.sqlite",
        adapter=str(adapter),
    )
    assert before != pytest.approx(after, abs=1e-3)


def test_a_lora_folder_is_another_judge_when_its_base_model_changes(folder: Path, tmp_path: Path) -> None:
    """Only the adapter's own files were in the key."""
    adapter = save_adapter(tmp_path / "lora", folder, seed=1)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(folder / name, adapter / name)
    before, after = check_swap(
        adapter, lambda: swap_weights(folder, 1, keep_times=True), tmp_path / "a.sqlite"
    )
    assert before != pytest.approx(after, abs=1e-3)


@pytest.mark.parametrize("swap", [swap_tokenizer, swap_chat_template])
def test_another_tokenizer_or_chat_template_is_another_judge(
    folder: Path, tmp_path: Path, swap: Callable[..., None]
) -> None:
    before, after = check_swap(folder, lambda: swap(folder, 3, keep_times=True), tmp_path / "a.sqlite")
    assert before != after


def test_a_link_that_leads_to_another_folder_is_another_judge(folder: Path, tmp_path: Path) -> None:
    other = save_judge(tmp_path / "other", seed=1)
    link = tmp_path / "link"
    link.symlink_to(folder)

    def turn() -> None:
        link.unlink()
        link.symlink_to(other)

    before, after = check_swap(link, turn, tmp_path / "a.sqlite")
    assert before != pytest.approx(after, abs=1e-3)
    assert after == pytest.approx(ratings(other), abs=1e-6)


def test_weights_overwritten_under_a_running_judge_do_not_reach_it(folder: Path) -> None:
    """On a CPU, weights that need no conversion stayed mapped to their file, and changed with it."""
    with Judge.load(str(folder), **how()) as judge:
        before = judge.rate(["Name a prime."], ["7"])[0].expected_rating
        swap_weights(folder, 1, keep_times=False)
        assert judge.rate(["Name a prime."], ["7"])[0].expected_rating == pytest.approx(before, abs=1e-9)


def test_weights_that_change_while_they_are_loaded_are_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoModelForCausalLM

    load = AutoModelForCausalLM.from_pretrained

    def slowly(*args: Any, **options: Any) -> Any:
        model = load(*args, **options)
        swap_weights(folder, 1, keep_times=True)
        return model

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", slowly)
    with pytest.raises(ConfigError, match="changed while it was loaded: model weights"):
        rated(lambda: Judge.load(str(folder), **how()))
