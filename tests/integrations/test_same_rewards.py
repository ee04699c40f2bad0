# SPDX-License-Identifier: Apache-2.0
"""The same judge, completions and settings give the same number through every trainer's reward.

`python -m tests.integrations.test_same_rewards` prints the table of docs/trl.md.
"""

from __future__ import annotations

import re

import pytest

from autoj_reward import Judge, JudgeReward, Ring, rank
from autoj_reward.integrations.client import JudgeClient
from autoj_reward.integrations.openrlhf import reward_function
from autoj_reward.integrations.verl import compute_score
from autoj_reward.reward.resolution import reward_scale
from autoj_reward.reward.scale import Scale
from tests.conftest import REPO
from tests.quality import QualityEngine

PROMPT = "Name a prime above ten."
COMPLETIONS = [
    "13 is a prime above ten.", "11.", "12.", "17, because only 1 and 17 divide it.", "Bananas are yellow.",
    "I do not know.", "There are many primes above ten: 11, 13, 17 and 19.", "Ask me later.",
]  # fmt: skip
Columns = dict[str, list[float]]


def rewards(scale: Scale, resolution: float | None) -> Columns:
    """Each door's rewards of the completions."""
    from starlette.testclient import TestClient

    from autoj_reward.serve.app import make_app
    from autoj_reward.serve.settings import ServeSettings

    def load() -> Judge:
        return Judge.load("mini", mode="direct", engine=QualityEngine(), guard=True)

    prompts, queries = [PROMPT] * len(COMPLETIONS), [PROMPT + c for c in COMPLETIONS]
    found: Columns = {}
    settings = ServeSettings(drain_seconds=1.0, scale=scale, resolution=resolution)
    with load() as judge, TestClient(make_app(load(), settings)[0], base_url="http://127.0.0.1") as http:
        while http.get("/ready").status_code != 200:
            pass
        found["TRL"] = known(JudgeReward(judge, scale=scale, resolution=resolution)(prompts, COMPLETIONS))
        client = JudgeClient("http://127.0.0.1")
        client._sync = http
        score = compute_score(client, scale=scale, resolution=resolution)
        found["verl"] = [score("data", c, None, {"question": PROMPT})["score"] for c in COMPLETIONS]
        openrlhf = reward_function(client, scale=scale, resolution=resolution)
        found["OpenRLHF"] = openrlhf(queries, prompts, None)["rewards"].tolist()
        body = {"query": queries, "prompts": prompts}
        found["server"] = http.post("/get_reward", json=body).json()["rewards"]
        scaled = reward_scale(judge, "rating", scale, resolution)
        found["rerank"] = list(map(scaled.reward, known(rank(judge, [PROMPT], [COMPLETIONS])[0].rewards)))
        pairwise = JudgeReward(judge, mode="pairwise", scale=scale, resolution=resolution)
        found["TRL, pairwise"] = known(pairwise(prompts, COMPLETIONS))
        (ring,) = rank(judge, [PROMPT], [COMPLETIONS], strategy=Ring())
        scaled = reward_scale(judge, "pairwise", scale, resolution)
        found["rerank, ring"] = list(map(scaled.reward, known(ring.rewards)))
    return found


def known(values: list[float | None]) -> list[float]:
    assert None not in values
    return [v for v in values if v is not None]


@pytest.fixture(scope="module")
def raw() -> Columns:
    pytest.importorskip("fastapi", reason="needs the reward server: the serve extra")
    pytest.importorskip("torch", reason="OpenRLHF takes tensors")
    return rewards("raw", 0.0)


def all_equal(found: Columns) -> None:
    for name in ("verl", "OpenRLHF", "server", "rerank"):
        # OpenRLHF takes float32.
        assert found[name] == pytest.approx(found["TRL"], abs=1e-6), name
    assert found["rerank, ring"] == pytest.approx(found["TRL, pairwise"], abs=1e-9)
    assert len(set(found["TRL"])) > 4


def test_raw_rewards_are_the_same_everywhere(raw: Columns) -> None:
    """verl, OpenRLHF and the server once gave raw ratings, and TRL centred and rounded rewards."""
    all_equal(raw)


def test_rewards_with_default_settings_are_the_same_everywhere(raw: Columns) -> None:
    found = rewards("centred", None)
    all_equal(found)
    assert found["TRL"] == pytest.approx([(r - 5.5) / 4.5 for r in raw["TRL"]], abs=0.012)


def test_the_table_of_the_page(raw: Columns) -> None:
    text = (REPO / "docs" / "trl.md").read_text(encoding="utf-8")
    for i, completion in enumerate(COMPLETIONS):
        (row,) = re.findall(rf"^\| {re.escape(completion)} \|(.*)\|$", text, re.MULTILINE)
        shown = [float(cell) for cell in row.split("|")]
        assert shown == pytest.approx([column[i] for column in raw.values()], abs=5.1e-4)


def table(found: Columns) -> str:
    lines = ["| completion | " + " | ".join(found) + " |", "|---" * (len(found) + 1) + "|"]
    lines += [
        f"| {completion} | " + " | ".join(f"{column[i]:.3f}" for column in found.values()) + " |"
        for i, completion in enumerate(COMPLETIONS)
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(rewards("raw", 0.0)))  # noqa: T201
