# SPDX-License-Identifier: Apache-2.0
"""A generative LLM judge as a reward: batched, cached, calibrated, with explicit failures."""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

from autoj_reward.terminal import PrintableFilter

if TYPE_CHECKING:
    from autoj_reward.criteria.readers import load_rubric, read_rubric
    from autoj_reward.criteria.rubric import Criterion, Rubric
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
    from autoj_reward.integrations.trl import JudgeReward, async_reward
    from autoj_reward.judge.guard.guard import Guard
    from autoj_reward.judge.judge import Judge
    from autoj_reward.judge.panels.panel import Panel
    from autoj_reward.judgments import PairJudgment, RatingJudgment, RubricJudgment, VerdictDistribution
    from autoj_reward.ranking.budgeted import Budgeted
    from autoj_reward.ranking.conversations import compare_conversations
    from autoj_reward.ranking.label import label
    from autoj_reward.ranking.orders import Ranking
    from autoj_reward.ranking.pair_rules import LabelledGroup, LabelSettings, PreferencePair
    from autoj_reward.ranking.rank import best_of_n, rank, worst_of_n
    from autoj_reward.ranking.strategies import AllPairs, Knockout, Pointwise, Ring, Strategy, Swiss
    from autoj_reward.ranking.tables import to_pandas
    from autoj_reward.ranking.track import Track, track
    from autoj_reward.rows.preferences import label_dataset
    from autoj_reward.types import Failure, FailureReason, Request

__version__ = "0.1.0"

for _name in ("autoj_reward", "autoj_reward.training"):
    logging.getLogger(_name).addFilter(PrintableFilter())

_HOMES = {
    "autoj_reward.criteria.readers": ("load_rubric", "read_rubric"),
    "autoj_reward.criteria.rubric": ("Criterion", "Rubric"),
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
    "autoj_reward.integrations.trl": ("JudgeReward", "async_reward"),
    "autoj_reward.judge.guard.guard": ("Guard",),
    "autoj_reward.judge.judge": ("Judge",),
    "autoj_reward.judge.panels.panel": ("Panel",),
    "autoj_reward.judgments": ("PairJudgment", "RatingJudgment", "RubricJudgment", "VerdictDistribution"),
    "autoj_reward.ranking.budgeted": ("Budgeted",),
    "autoj_reward.ranking.conversations": ("compare_conversations",),
    "autoj_reward.ranking.label": ("label",),
    "autoj_reward.ranking.orders": ("Ranking",),
    "autoj_reward.ranking.pair_rules": ("LabelSettings", "LabelledGroup", "PreferencePair"),
    "autoj_reward.ranking.rank": ("best_of_n", "rank", "worst_of_n"),
    "autoj_reward.ranking.strategies": (
        "AllPairs",
        "Knockout",
        "Pointwise",
        "Ring",
        "Strategy",
        "Swiss",
    ),
    "autoj_reward.ranking.tables": ("to_pandas",),
    "autoj_reward.ranking.track": ("Track", "track"),
    "autoj_reward.rows.preferences": ("label_dataset",),
    "autoj_reward.types": ("Failure", "FailureReason", "Request"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "AllPairs",
    "AutojRewardError",
    "Budgeted",
    "ConfigError",
    "Criterion",
    "DataError",
    "Engine",
    "EngineContractBroken",
    "EngineError",
    "EngineRejected",
    "EngineUnavailable",
    "Failure",
    "FailureReason",
    "Guard",
    "Judge",
    "JudgeReward",
    "Knockout",
    "LabelSettings",
    "LabelledGroup",
    "PairJudgment",
    "Panel",
    "Pointwise",
    "PreferencePair",
    "Ranking",
    "RatingJudgment",
    "Request",
    "Ring",
    "Rubric",
    "RubricJudgment",
    "StoreError",
    "Strategy",
    "Swiss",
    "TemplateError",
    "TooManyFailures",
    "Track",
    "VerdictDistribution",
    "async_reward",
    "best_of_n",
    "compare_conversations",
    "label",
    "label_dataset",
    "load_rubric",
    "rank",
    "read_rubric",
    "to_pandas",
    "track",
    "worst_of_n",
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
