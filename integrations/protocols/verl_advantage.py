# SPDX-License-Identifier: Apache-2.0
"""GRPO's advantage for verl, with a mask over groups that hold a failed judgment.

    export VERL_USE_EXTERNAL_MODULES=autoj_reward.integrations.protocols.verl_advantage
    python -m verl.trainer.main_ppo algorithm.adv_estimator=grpo_masked ...

A failed judgment is a reward that is not a number: `compute_score(..., failure_reward=float("nan"))`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from verl.trainer.ppo.core_algos import compute_grpo_outcome_advantage, register_adv_est


@register_adv_est("grpo_masked")  # type: ignore[untyped-decorator, unused-ignore]
def grpo_masked(
    token_level_rewards: torch.Tensor,
    response_mask: torch.Tensor,
    index: np.ndarray,
    config: Any = None,
    **_: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    """GRPO's advantages; 0 for every completion of a group in which a judgment failed.

    Args:
        token_level_rewards: (B, T); a failed completion has NaN at one of its tokens.
        response_mask: (B, T), 0 or 1.
        index: (B,), the group of each completion.
        config: verl's `algorithm` settings, for `norm_adv_by_std_in_grpo`.

    Returns:
        Advantages and returns, (B, T) each, which are equal.
    """
    failed = token_level_rewards.isnan().any(dim=-1).cpu().numpy()
    kept = torch.from_numpy(~np.isin(index, index[failed])).to(token_level_rewards.device)
    by_std = True if config is None else config.get("norm_adv_by_std_in_grpo", True)
    advantages, _returns = compute_grpo_outcome_advantage(
        token_level_rewards.nan_to_num(0.0), response_mask, index, norm_adv_by_std_in_grpo=by_std
    )
    advantages = advantages * kept.unsqueeze(-1)
    return advantages, advantages
