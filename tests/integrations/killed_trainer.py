# SPDX-License-Identifier: Apache-2.0
"""GRPO with a judge that has a server of its own: `killed_trainer.py POLICY FOLDER` trains until it is killed."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer

from autoj_reward import Judge, JudgeReward
from autoj_reward.engines.local_server.shared import share_server
from autoj_reward.engines.local_server.state import JudgeFolder
from autoj_reward.types import Failure, JudgeInput, JudgeOutput
from tests.engines.local_server.user_process import stand_in_order
from tests.quality import QualityEngine


class Serving(QualityEngine):
    """Starts the server at its first call, and judges without it."""

    server = None

    def generate(self, inputs: Sequence[JudgeInput]) -> list[JudgeOutput | Failure]:
        if self.server is None:
            self.server = share_server(
                JudgeFolder("trainer"), stand_in_order, start_seconds=60, report=lambda _: None
            )
        sys.stdout.write(json.dumps({"calls": len(self.calls), "owner": self.server.state.owner_pid}) + "\n")
        sys.stdout.flush()
        return super().generate(inputs)


def main() -> None:
    policy, folder = sys.argv[1:]
    reward = JudgeReward(Judge.load("mini", mode="direct", engine=Serving()))
    trainer = GRPOTrainer(
        model=policy,
        reward_funcs=reward,
        args=GRPOConfig(
            output_dir=folder, num_generations=4, per_device_train_batch_size=4, max_steps=100_000,
            max_completion_length=4, use_cpu=True, bf16=False, report_to="none", save_strategy="no",
            disable_tqdm=True, logging_strategy="no",
        ),
        train_dataset=Dataset.from_dict({"prompt": ["Name a prime."]}),
    )  # fmt: skip
    reward.attach(trainer)
    trainer.train()


if __name__ == "__main__":
    main()
