# SPDX-License-Identifier: Apache-2.0
"""Rows of RewardBench 2, JudgeBench, RM-Bench, RMB and PPE, as published, to items."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from pathlib import PurePath
from typing import Any

from autoj_reward.evaluate.benchmarks.items import item_row, text, texts
from autoj_reward.rows.fields import RowProblem
from autoj_reward.rows.source import Row

TIES = "Ties"
"""RewardBench 2's subset of prompts with several right completions, which is scored by ratings."""

_PPE_SETS = {"mmlu": "MMLU-Pro", "math": "MATH", "gpqa": "GPQA", "ifeval": "IFEval", "mbpp": "MBPP-Plus"}
_PPE_FLAGS = {
    "hard_prompt": "hard prompts",
    "easy_prompt": "easy prompts",
    "if_prompt": "instruction following",
    "is_code": "code",
    "math_prompt": "math",
    "is_refusal": "refusals",
}


def read_rewardbench_2(row: Row, source: str) -> Row:
    """`allenai/reward-bench-2`: `id`, `subset`, `prompt`, `chosen` and `rejected` (lists of texts).

    Raises:
        RowProblem: A field is missing or wrong.
    """
    chosen, rejected = texts(row, "chosen"), texts(row, "rejected")
    subset, id_ = text(row, "subset"), str(row.get("id"))
    if subset.lower() == TIES.lower():
        subset = TIES
        kind, _, number = id_.partition(":")
        if kind not in ("ref", "tied") or not number:
            raise RowProblem("must be ref:N or tied:N in the subset Ties", "id")
    elif len(chosen) != 1:
        raise RowProblem(f"must hold one text outside the subset Ties, holds {len(chosen)}", "chosen")
    n = len(chosen)
    return item_row(
        id=id_,
        subsets=[subset],
        prompt=text(row, "prompt"),
        completions=[*chosen, *rejected],
        gold=[1.0] * n + [0.0] * len(rejected),
        pairs=list(product(range(n), range(n, n + len(rejected)))),
    )


def read_judgebench(row: Row, source: str) -> Row:
    """`ScalerLab/JudgeBench`: `pair_id`, `source`, `question`, `response_A`, `response_B`, `label`.

    Raises:
        RowProblem: A field is missing or wrong.
    """
    label = row.get("label")
    if label not in ("A>B", "B>A"):
        raise RowProblem(f"must be A>B or B>A, is {label!r}", "label")
    names = ("mmlu-pro", "livebench-reasoning", "livebench-math", "livecodebench")
    source_name = text(row, "source")
    return item_row(
        id=str(row.get("pair_id")),
        subsets=[next((n for n in names if source_name.startswith(n)), source_name)],
        prompt=text(row, "question"),
        completions=[text(row, "response_A"), text(row, "response_B")],
        gold=[1.0, 0.0] if label == "A>B" else [0.0, 1.0],
        pairs=[(0, 1)],
        as_published=True,
    )


def read_rm_bench(row: Row, source: str) -> Row:
    """`THU-KEG/RM-Bench`: `id`, `prompt`, `domain`, `chosen` and `rejected`, three texts each.

    The three are concise, detailed, and detailed with Markdown. A file of one domain has no `domain`; its
    name (`chat_filtered.json`) says which.

    Raises:
        RowProblem: A field is missing or wrong.
    """
    domain = text(row, "domain") if "domain" in row else PurePath(source).stem.partition("_")[0]
    known = ("chat", "code", "math", "safety")
    name = next((d for d in known if domain.startswith(d)), None)
    if name is None:
        raise RowProblem(f"must begin with {', '.join(known)}, is {domain!r}", "domain")
    return item_row(
        id=str(row.get("id")),
        subsets=[name],
        prompt=text(row, "prompt"),
        completions=[*texts(row, "chosen", 3), *texts(row, "rejected", 3)],
        gold=[1.0] * 3 + [0.0] * 3,
        pairs=list(product(range(3), range(3, 6))),
    )


def read_rmb(row: Row, source: str) -> Row:
    """RMB's files: `conversation_input`, `category_path`, and either `chosen` and `reject`, or `bon_best` and
    `loser_list`.

    Raises:
        RowProblem: A field is missing or wrong.
    """
    path = text(row, "category_path").split("/")
    kinds = {"Pairwise_set": "pairs", "BoN_set": "best of n"}
    if len(path) < 3 or path[0] not in kinds or path[1] not in ("Helpfulness", "Harmlessness"):
        raise RowProblem(
            "must be Pairwise_set or BoN_set, then Helpfulness or Harmlessness, then a category",
            "category_path",
        )
    best, losers = (
        ("bon_best", row.get("loser_list")) if path[0] == "BoN_set" else ("chosen", [row.get("reject")])
    )
    if not isinstance(losers, list) or not losers:
        raise RowProblem("must be a list of at least one answer", "loser_list")
    answers = [_answer(row.get(best), best), *(_answer(loser, "loser_list") for loser in losers)]
    kind = f"{kinds[path[0]]}, {path[1].lower()}"
    return item_row(
        id=str(row.get("bon_uid", row.get("pair_uid"))),
        subsets=[kind, f"{kind}: {path[2]}"],
        prompt=_turns(row.get("conversation_input")),
        completions=answers,
        gold=[1.0] + [0.0] * len(losers),
        pairs=[(0, n + 1) for n in range(len(losers))],
    )


def read_ppe(row: Row, source: str) -> Row | None:
    """PPE's human preferences (`winner`) and its five sets of verified answers (`scores`).

    Returns:
        None for a pair on which people tied, and for answers that are all right or all wrong: PPE counts
        neither.

    Raises:
        RowProblem: A field is missing or wrong.
    """
    return _ppe_human(row) if "winner" in row else _ppe_correctness(row, source)


def _ppe_human(row: Row) -> Row | None:
    winner = text(row, "winner")
    if winner.startswith("tie"):
        return None
    if winner not in ("model_a", "model_b"):
        raise RowProblem(f"must be model_a, model_b or a tie, is {winner!r}", "winner")
    language = row.get("language")
    flags = [name for field, name in _PPE_FLAGS.items() if row.get(field)]
    if isinstance(language, str):
        flags.append("English" if language == "English" else "other languages")
    return item_row(
        id=str(row.get("question_id")),
        subsets=["human preference", *(f"human preference: {name}" for name in flags)],
        prompt=text(row, "prompt"),
        completions=[text(row, "response_1"), text(row, "response_2")],
        gold=[1.0, 0.0] if winner == "model_a" else [0.0, 1.0],
        pairs=[(0, 1)],
        as_published=True,
    )


def _ppe_correctness(row: Row, source: str) -> Row | None:
    scores, pairs = row.get("scores"), row.get("sampled_conflict_pairs")
    if not isinstance(scores, list) or not all(isinstance(s, bool | int | float) for s in scores):
        raise RowProblem(
            "must be a list of true and false; rows of human preferences have a winner", "scores"
        )
    places = range(len(scores))
    if not isinstance(pairs, list) or not all(
        isinstance(pair, list) and len(pair) == 2 and all(isinstance(i, int) and i in places for i in pair)
        for pair in pairs
    ):
        raise RowProblem("must be a list of pairs of places in scores", "sampled_conflict_pairs")
    used = sorted({i for pair in pairs for i in pair})
    kept = [(used.index(i), used.index(j)) for i, j in pairs if scores[i] != scores[j]]
    if not kept:
        return None
    name = PurePath(source).name.lower()
    subset = next((title for mark, title in _PPE_SETS.items() if mark in name), PurePath(source).stem)
    return item_row(
        id=str(row.get("question_id")),
        subsets=[f"correctness: {subset}"],
        prompt=text(row, "prompt"),
        completions=[text(row, f"response_{i + 1}") for i in used],
        gold=[float(scores[i]) for i in used],
        pairs=kept,
        as_published=True,
    )


def _answer(value: Any, name: str) -> str:
    if not isinstance(value, Mapping):
        raise RowProblem("must hold an answer", name)
    return text(value, "answer")


def _turns(value: Any) -> list[dict[str, str]]:
    if not isinstance(value, list) or not value or not all(isinstance(turn, dict) for turn in value):
        raise RowProblem("must be a list of messages", "conversation_input")
    return [{"role": text(turn, "role"), "content": text(turn, "content")} for turn in value]
