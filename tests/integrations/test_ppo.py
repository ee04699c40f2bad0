# SPDX-License-Identifier: Apache-2.0
"""PPO, where the installed TRL has it (the `ppo` extra): tests/ppo_env makes such an environment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from autoj_reward import ConfigError, DataError, Judge, JudgeReward
from autoj_reward.integrations.trl_trainer import has_ppo
from tests.integrations.conftest import PROMPTS
from tests.quality import QualityEngine, quality

pytest.importorskip("trl", reason="needs TRL: ./setup mini trl")
HAS_PPO = has_ppo()
needs_ppo = pytest.mark.skipif(not HAS_PPO, reason="needs TRL 1.12 with PPOTrainer: tests/ppo_env")

pytestmark = pytest.mark.filterwarnings(
    "ignore::FutureWarning", "ignore::UserWarning", "ignore::DeprecationWarning"
)


def ppo_reward(**options: Any) -> JudgeReward:
    engine = QualityEngine(failing=options.pop("failing", frozenset()))
    judge = Judge.load("mini", mode="direct", engine=engine)
    return JudgeReward(
        judge, **{"scale": "raw", "resolution": 0, "n_retries": 0, "trainer": "ppo", **options}
    )


@pytest.mark.skipif(HAS_PPO, reason="this TRL has PPOTrainer")
def test_without_ppo_the_extra_is_named(tiny_policy: Path) -> None:
    from transformers import AutoTokenizer

    from autoj_reward.integrations.trl_ppo import JudgeRewardModel, ppo_classes

    for ask in (
        ppo_classes,
        lambda: JudgeRewardModel(ppo_reward(), AutoTokenizer.from_pretrained(tiny_policy)),
    ):
        with pytest.raises(ConfigError, match=r"removed after TRL 1.12(.|\n)*autoj-reward\[ppo\]"):
            ask()


@needs_ppo
@pytest.mark.ppo
@pytest.mark.parametrize("chat", [True, False], ids=["chat", "text"])
def test_ppo_steps(chat: bool, tiny_policy: Path, tmp_path: Path) -> None:
    """Chat prompts hold the tokenizer's padding after every turn; plain ones are of many lengths."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

    from autoj_reward.integrations.trl_ppo import JudgeRewardModel, ppo_classes

    config_class, trainer_class = ppo_classes()
    tokenizer = AutoTokenizer.from_pretrained(tiny_policy, padding_side="left")
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    prompts: list[Any] = [[{"role": "user", "content": p}] for p in PROMPTS] if chat else PROMPTS

    def encoded(row: Any) -> Any:
        if not chat:
            return {"input_ids": tokenizer(row["prompt"])["input_ids"]}
        text = tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True, tokenize=False)
        return {"input_ids": tokenizer(text, add_special_tokens=False)["input_ids"]}

    rows = Dataset.from_dict({"prompt": prompts}).map(encoded)
    reward = ppo_reward(failing=frozenset({2}))
    module = JudgeRewardModel(reward, tokenizer, rows)
    policy = AutoModelForCausalLM.from_pretrained(tiny_policy)
    trainer = trainer_class(
        args=config_class(
            output_dir=str(tmp_path), per_device_train_batch_size=4, gradient_accumulation_steps=1,
            total_episodes=8, num_ppo_epochs=1, num_mini_batches=1, response_length=8, report_to="none",
            local_rollout_forward_batch_size=4, learning_rate=1e-3, use_cpu=True, bf16=False, stop_token="eos",
            missing_eos_penalty=None, num_sample_generations=0, save_strategy="no", logging_steps=1,
        ),
        processing_class=tokenizer,
        model=policy,
        ref_model=AutoModelForCausalLM.from_pretrained(tiny_policy),
        reward_model=module,
        value_model=AutoModelForSequenceClassification.from_pretrained(tiny_policy, num_labels=1),
        train_dataset=rows.select_columns("input_ids"),
    )  # fmt: skip
    reward.attach(trainer)
    assert reward.fill == "running_mean"
    before = [p.detach().clone() for p in policy.parameters()]
    trainer.train()
    assert any(not (a == b).all() for a, b in zip(before, policy.parameters(), strict=True))
    reports = reward.take_reports()
    assert len(reports) == 2
    seen = [row for report in reports for row in report.rows]
    assert sorted({row.prompt for row in seen}) == sorted(PROMPTS)
    known = [row.raw for row in seen[:4] if row.raw is not None]
    failed = seen[2]
    assert failed.reason == "engine"
    assert failed.reward == pytest.approx(sum(known) / 3)
    for row in seen:
        assert row is failed or row.reward == pytest.approx(quality(row.completion))
    logged = [h["objective/scores"] for h in trainer.state.log_history if "objective/scores" in h]
    means = [sum(r.reward or 0.0 for r in report.rows) / 4 for report in reports]
    assert logged == pytest.approx(means, rel=1e-4)


@needs_ppo
@pytest.mark.ppo
def test_rows_come_back_as_they_were(tiny_policy: Path) -> None:
    import torch
    from transformers import AutoTokenizer
    from trl.experimental.utils import get_reward

    from autoj_reward.integrations.trl_ppo import JudgeRewardModel

    tokenizer = AutoTokenizer.from_pretrained(tiny_policy, padding_side="left")
    chats = [[{"role": "user", "content": p}] for p in PROMPTS[:2]]
    texts = [tokenizer.apply_chat_template(c, add_generation_prompt=True, tokenize=False) for c in chats]
    ids = [tokenizer(t, add_special_tokens=False)["input_ids"] for t in texts]
    rows = [
        {"prompt": c, "input_ids": i, "answer": str(n)}
        for n, (c, i) in enumerate(zip(chats, ids, strict=True))
    ]
    reward = ppo_reward()
    module = JudgeRewardModel(reward, tokenizer, rows)
    width = max(len(i) for i in ids)
    pad = tokenizer.pad_token_id
    answers = [tokenizer(f"It is q={n}, {{so}}.")["input_ids"] for n in (3, 8)]
    longest = max(len(a) for a in answers)
    whole = torch.tensor(
        [
            [pad] * (width - len(i)) + i + a + [pad] * (longest - len(a) + 2)
            for i, a in zip(ids, answers, strict=True)
        ]
    )
    _, scores, _ = get_reward(module, whole, pad, width)
    assert scores.tolist() == [3.0, 8.0]
    (report,) = reward.take_reports()
    assert [(r.prompt, r.completion) for r in report.rows] == [
        (PROMPTS[0], "It is q=3, {so}."),
        (PROMPTS[1], "It is q=8, {so}."),
    ]
    whole[1, width - 1] = 99
    with pytest.raises(DataError, match="row 1 of PPO's batch"):
        get_reward(module, whole, pad, width)


@needs_ppo
@pytest.mark.ppo
def test_wrong_rewards_for_ppo(tiny_policy: Path) -> None:
    from transformers import AutoTokenizer

    from autoj_reward.integrations.trl_ppo import JudgeRewardModel

    tokenizer = AutoTokenizer.from_pretrained(tiny_policy)
    rows = [{"prompt": "P", "input_ids": [5, 6]}]
    with pytest.raises(ConfigError, match="trainer='ppo'"):
        JudgeRewardModel(ppo_reward(trainer=None), tokenizer, rows)
    with pytest.raises(ConfigError, match="row 0 has no 'prompt'"):
        JudgeRewardModel(ppo_reward(), tokenizer, [{"input_ids": [5, 6]}])
