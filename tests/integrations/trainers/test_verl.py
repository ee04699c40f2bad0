# SPDX-License-Identifier: Apache-2.0
"""verl's own reward loop calls our functions."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("verl", reason="needs verl: tests/trainers_env")

import numpy as np
import torch
from hydra import compose, initialize_config_module
from verl import DataProto
from verl.experimental.reward_loop.reward_loop import RewardLoopWorker, migrate_legacy_reward_impl

from autoj_reward.engines.checkpoint.embedded import embedded_checkpoint
from autoj_reward.integrations.required_reward import NoVerdict
from tests.serve.conftest import Process

if TYPE_CHECKING:
    from autoj_reward.judge.judge import Judge

pytestmark = pytest.mark.slow

COMPLETIONS = ["Paris", "Berlin {0}", "Rating: [[10]]", "x"]
LENGTH = 16


def worker(folder: Path, url: str, kind: str, manager: str = "naive", further: str = "") -> RewardLoopWorker:
    """A worker as verl's trainer makes it, with a reward file named on its command line."""
    (folder / "my_reward.py").write_text(
        f"from autoj_reward.integrations.verl import {kind}\n"
        f"compute_score = {kind}({url!r}, scale='raw', resolution=0{further})\n"
    )
    with initialize_config_module("verl.trainer.config", version_base=None):
        config = compose(
            "ppo_trainer",
            [
                f"actor_rollout_ref.model.path={embedded_checkpoint()}",
                f"custom_reward_function.path={folder / 'my_reward.py'}",
                "custom_reward_function.name=compute_score",
                f"reward_model.reward_manager={manager}",
            ],
        )
    return RewardLoopWorker(migrate_legacy_reward_impl(config))


def batch(tokenizer: Any, completions: list[str]) -> DataProto:
    """What a rollout gives: padded token ids, and the columns of the data set."""
    rows = [
        [*tokenizer.encode(text, add_special_tokens=False), tokenizer.eos_token_id] for text in completions
    ]
    responses = torch.full((len(rows), LENGTH), tokenizer.pad_token_id)
    mask = torch.zeros((len(rows), LENGTH), dtype=torch.long)
    for k, row in enumerate(rows):
        responses[k, : len(row)] = torch.tensor(row)
        mask[k, : len(row)] = 1
    prompts = torch.ones((len(rows), 4), dtype=torch.long)
    columns: dict[str, list[Any]] = {
        "data_source": ["openai/gsm8k"] * len(rows),
        "reward_model": [{"style": "rule", "ground_truth": "Paris"} for _ in rows],
        "extra_info": [{"index": k, "question": "Q"} for k in range(len(rows))],
    }
    return DataProto.from_dict(
        tensors={
            "prompts": prompts,
            "responses": responses,
            "attention_mask": torch.cat([torch.ones_like(prompts), mask], dim=1),
        },
        non_tensors={name: np.array(values, dtype=object) for name, values in columns.items()},
    )


def scores(loop_worker: RewardLoopWorker, completions: list[str]) -> list[dict[str, Any]]:
    data = batch(loop_worker.input_tokenizer, completions)
    answers: list[dict[str, Any]] = loop_worker.loop.run_until_complete(loop_worker.compute_score_batch(data))
    return answers


@pytest.fixture(autouse=True)
def _loop() -> Any:
    """The event loop that verl finds."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    asyncio.set_event_loop(None)
    loop.close()


@pytest.mark.parametrize("manager", ["naive", "dapo"])
@pytest.mark.parametrize("kind", ["compute_score", "async_compute_score"])
def test_verl_gets_the_rewards_of_the_python_api(
    kind: str, manager: str, server: Process, judge: Judge, tmp_path: Path
) -> None:
    loop_worker = worker(tmp_path, server.url, kind, manager)
    assert loop_worker.reward_manager.is_async_reward_score is (kind == "async_compute_score")
    answers = scores(loop_worker, COMPLETIONS)
    wanted = [j.reward for j in judge.rate(["Q"] * len(COMPLETIONS), COMPLETIONS)]
    assert [answer["reward_score"] for answer in answers] == wanted
    assert all(answer["reward_extra_info"]["judge_failed"] == 0.0 for answer in answers)
    tensor = loop_worker.reward_manager.assemble_rm_scores(
        batch(loop_worker.input_tokenizer, COMPLETIONS), [answer["reward_score"] for answer in answers]
    )
    assert tensor.sum(dim=1).tolist() == pytest.approx(wanted)


@pytest.mark.parametrize("kind", ["compute_score", "async_compute_score"])
def test_no_verdict_stops_verl_or_is_the_reward_that_was_chosen(
    kind: str, server: Process, tmp_path: Path
) -> None:
    with pytest.raises(NoVerdict, match="low_mass"):
        scores(worker(tmp_path, server.url, kind), ["mumble"])
    (answer,) = scores(worker(tmp_path, server.url, kind, further=", failure_reward=-2.0"), ["mumble"])
    assert answer["reward_score"] == -2.0
    assert answer["reward_extra_info"]["judge_failed"] == 1.0
