# SPDX-License-Identifier: Apache-2.0
"""verl's own reward loop calls our functions."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import math
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("verl", reason="needs verl: tests/trainers_env")

import numpy as np
import torch
import uvicorn
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf
from verl import DataProto
from verl.experimental.reward_loop.reward_loop import RewardLoopWorker, migrate_legacy_reward_impl
from verl.experimental.reward_loop.router.naive_router import NaiveRouter
from verl.trainer.ppo.ray_trainer import compute_advantage

from autoj_reward.engines.checkpoint.embedded import EMBEDDED_MODEL, embedded_checkpoint, resolve_model
from autoj_reward.engines.openai.settings import load_tokenizer
from autoj_reward.errors import ConfigError
from autoj_reward.integrations.required_reward import NoVerdict
from autoj_reward.judge.judge import Judge
from autoj_reward.types import Segment
from tests.engines.openai.faulty_server import Model, faulty_server
from tests.serve.conftest import Process

pytestmark = pytest.mark.slow

COMPLETIONS = ["Paris", "Berlin {0}", "Rating: [[10]]", "x"]
LENGTH = 16


def worker(
    folder: Path, judge: str, kind: str, manager: str = "naive", further: str = "", address: str | None = None
) -> RewardLoopWorker:
    """A worker as verl's trainer makes it, with a reward file named on its command line.

    With an address verl hosts the judge.
    """
    (folder / "my_reward.py").write_text(
        f"from autoj_reward.integrations.verl import {kind}\n"
        f"compute_score = {kind}({judge!r}, scale='raw', resolution=0{further})\n"
    )
    hosted = ["reward.reward_model.enable=True", f"reward.reward_model.model_path={embedded_checkpoint()}"]
    with initialize_config_module("verl.trainer.config", version_base=None):
        config = compose(
            "ppo_trainer",
            [
                f"actor_rollout_ref.model.path={embedded_checkpoint()}",
                f"custom_reward_function.path={folder / 'my_reward.py'}",
                "custom_reward_function.name=compute_score",
                f"reward_model.reward_manager={manager}",
                *(hosted if address else []),
            ],
        )
    return RewardLoopWorker(migrate_legacy_reward_impl(config), address)


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


@contextlib.contextmanager
def router(url: str) -> Iterator[str]:
    """The address of verl's own router before a server."""
    server = uvicorn.Server(
        uvicorn.Config(NaiveRouter(worker_urls=[url]).app, host="127.0.0.1", port=0, log_level="warning")
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        thread.join(0.05)
    host, port = server.servers[0].sockets[0].getsockname()
    yield f"{host}:{port}"
    server.should_exit = True
    thread.join()


@pytest.mark.parametrize("kind", ["hosted_compute_score", "async_hosted_compute_score"])
def test_the_judge_that_verl_hosts_gives_the_rewards_of_the_python_api(kind: str, tmp_path: Path) -> None:
    """verl's worker passes the address of its router and the judge's tokenizer; the served model is a formula."""
    tokenizer = load_tokenizer(resolve_model(EMBEDDED_MODEL), None)
    (digits, ends) = (
        [tokenizer.encode([Segment(text)])[0] for text in texts] for texts in ("23456789", "].")
    )
    model = Model(digits=tuple(digits), ends=tuple(ends), half=30, n_vocab=49152)
    with faulty_server(model) as (url,), router(url) as address:
        judge = Judge.load("mini", mode="direct", engine=f"server:{url}", guard=True)
        wanted = [j.reward for j in judge.rate(["Q"] * len(COMPLETIONS), COMPLETIONS)]
        judge.close()
        assert len(set(wanted)) == len(COMPLETIONS)
        loop_worker = worker(tmp_path, "mini", kind, further=", mode='direct'", address=address)
        assert loop_worker.reward_manager.is_async_reward_score is kind.startswith("async")
        answers = scores(loop_worker, COMPLETIONS)
        assert [answer["reward_score"] for answer in answers] == pytest.approx(wanted)
        loop_worker = worker(tmp_path, "mini", kind)
        with pytest.raises(ConfigError, match="verl passes no reward_router_address"):
            scores(loop_worker, COMPLETIONS)


@pytest.mark.parametrize("by_std", [True, False])
def test_a_failed_judgment_masks_its_group(by_std: bool) -> None:
    """verl finds the advantage by its name; other groups have that of its own GRPO."""
    importlib.import_module("autoj_reward.integrations.protocols.verl_advantage")
    rewards = torch.zeros(6, 3)
    rewards[:, 1] = torch.tensor([1.0, math.nan, 3.0, 5.0, 2.0, 2.5])
    index = np.array(["a", "a", "a", "b", "b", "b"], dtype=object)
    mask = torch.tensor([[1, 1, 0]] * 6)

    def advantages(name: str) -> torch.Tensor:
        data = DataProto.from_dict(
            tensors={"token_level_rewards": rewards.clone(), "response_mask": mask},
            non_tensors={"uid": index},
        )
        settings = OmegaConf.create({"norm_adv_by_std_in_grpo": by_std})
        found = compute_advantage(data, name, norm_adv_by_std_in_grpo=by_std, config=settings)
        return found.batch["advantages"]

    masked, plain = advantages("grpo_masked"), advantages("grpo")
    assert masked[:3].tolist() == [[0.0] * 3] * 3
    assert plain[:3].isnan().any()
    assert masked[3:].tolist() == plain[3:].tolist()
    assert masked[3:, :2].abs().min() > 0.0
