# SPDX-License-Identifier: Apache-2.0
"""A generative LLM judge as a reward: batched, cached, calibrated, and honest about failure."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from autoj_reward.engines import Engine
    from autoj_reward.errors import (
        AutojRewardError,
        ConfigError,
        DataError,
        EngineContractBroken,
        EngineError,
        EngineRejected,
        EngineUnavailable,
        StoreError,
        TemplateError,
        TooManyFailures,
    )
    from autoj_reward.judge.judge import Judge
    from autoj_reward.judgments import PairJudgment, RatingJudgment, VerdictDistribution
    from autoj_reward.reward.rank import Ranking, best_of_n, rank
    from autoj_reward.types import Failure, FailureReason, Request

__version__ = "0.1.0"

_HOMES = {
    "autoj_reward.engines": ("Engine",),
    "autoj_reward.errors": (
        "AutojRewardError",
        "ConfigError",
        "DataError",
        "EngineContractBroken",
        "EngineError",
        "EngineRejected",
        "EngineUnavailable",
        "StoreError",
        "TemplateError",
        "TooManyFailures",
    ),
    "autoj_reward.judge.judge": ("Judge",),
    "autoj_reward.judgments": ("PairJudgment", "RatingJudgment", "VerdictDistribution"),
    "autoj_reward.reward.rank": ("Ranking", "best_of_n", "rank"),
    "autoj_reward.types": ("Failure", "FailureReason", "Request"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "AutojRewardError",
    "ConfigError",
    "DataError",
    "Engine",
    "EngineContractBroken",
    "EngineError",
    "EngineRejected",
    "EngineUnavailable",
    "Failure",
    "FailureReason",
    "Judge",
    "PairJudgment",
    "Ranking",
    "RatingJudgment",
    "Request",
    "StoreError",
    "TemplateError",
    "TooManyFailures",
    "VerdictDistribution",
    "best_of_n",
    "rank",
]


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used, so that importing the package stays cheap."""
    if name in _HOME_OF:
        value = getattr(importlib.import_module(_HOME_OF[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
