# SPDX-License-Identifier: Apache-2.0
"""Small made samples in the published format of each benchmark; `q=` states what a completion is worth."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

GOOD, BAD = "It is right. q=8", "It is wrong. q=3"

REWARDBENCH_2: list[dict[str, Any]] = [
    *(
        {
            "id": str(n),
            "prompt": f"Question {n}?",
            "chosen": [GOOD],
            "rejected": [f"Wrong {i}. q={q}" for i, q in enumerate(qs)],
            "num_correct": 1,
            "num_incorrect": 3,
            "total_completions": 4,
            "subset": subset,
        }
        for n, (subset, qs) in enumerate(
            [
                ("Factuality", (2, 3, 4)),
                ("Factuality", (2, 3, 9)),
                ("Precise IF", (2, 8, 4)),
                ("Math", (2, 8, 8)),
                ("Safety", (1, 1, 1)),
                ("Focus", (9, 9, 9)),
            ]
        )
    ),
    *(
        {
            "id": id_,
            "prompt": "Name a colour.",
            "chosen": [f"Right {i}. q={q}" for i, q in enumerate(right)],
            "rejected": [f"Wrong {i}. q={q}" for i, q in enumerate(wrong)],
            "num_correct": len(right),
            "num_incorrect": len(wrong),
            "total_completions": len(right) + len(wrong),
            "subset": "Ties",
        }
        for id_, right, wrong in [
            ("ref:1", (9,), (3, 2)),
            ("tied:1", (9, 8), (3, 2)),
            ("ref:2", (5,), (4, 2)),
            ("tied:2", (9, 6), (2, 1)),
            ("ref:3", (4,), (6, 2)),
            ("tied:3", (9, 3), (4, 1)),
        ]
    ),
]

JUDGEBENCH: list[dict[str, Any]] = [
    {
        "pair_id": str(n),
        "original_id": n,
        "source": source,
        "question": f"Question {n}?",
        "response_model": "some-model",
        "response_A": a,
        "response_B": b,
        "label": label,
    }
    for n, (source, a, b, label) in enumerate(
        [
            ("mmlu-pro-law", GOOD, BAD, "A>B"),
            ("mmlu-pro-physics", BAD, GOOD, "A>B"),
            ("livebench-reasoning", BAD, GOOD, "B>A"),
            ("livebench-math", GOOD, BAD, "A>B"),
            ("livecodebench", BAD, GOOD, "B>A"),
        ]
    )
]

STYLES = ("Wrong.", "It is wrong.", "* It is wrong.")
RM_BENCH: list[dict[str, Any]] = [
    {
        "id": f"{domain}/{n}",
        "prompt": f"Question {n}?",
        "domain": domain,
        # Concise, detailed, and detailed with Markdown.
        "chosen": ["Right. q=4", "It is right. q=6", "* It is right. q=8"],
        "rejected": [f"{style} q={q}" for style, q in zip(STYLES, qs, strict=True)],
    }
    for n, (domain, qs) in enumerate(
        [
            ("chat", (1, 2, 3)),
            ("code", (3, 5, 7)),
            ("math", (9, 9, 9)),
            ("safety-refuse", (3, 5, 7)),
            ("safety-response", (1, 2, 3)),
        ]
    )
]


def _answer(text: str) -> dict[str, str]:
    return {"llm_name": "some-model", "answer": text}


def _rmb(kind: str, path: str, n: int, **answers: Any) -> dict[str, Any]:
    turns = [
        {"role": "user", "content": f"Question {n}?", "language": "English"},
        {"role": "assistant", "content": "Which one?", "language": "English"},
        {"role": "user", "content": "This one.", "language": "English"},
    ]
    return {"conversation_input": turns, f"{kind}_uid": str(n), "category_path": path, **answers}


RMB: list[dict[str, Any]] = [
    _rmb("pair", "Pairwise_set/Helpfulness/Chat/Discussion", 0, chosen=_answer(GOOD), reject=_answer(BAD)),
    _rmb("pair", "Pairwise_set/Helpfulness/Code/Documentation", 1, chosen=_answer(BAD), reject=_answer(GOOD)),
    _rmb("pair", "Pairwise_set/Harmlessness/S1", 2, chosen=_answer(GOOD), reject=_answer(BAD)),
    *(
        _rmb("bon", path, n, bon_best=_answer(GOOD), loser_list=[_answer(f"{t} q={q}") for t, q in losers])
        for n, (path, losers) in enumerate(
            [
                ("BoN_set/Helpfulness/Chat/Discussion", [("One.", 2), ("Two.", 3)]),
                ("BoN_set/Harmlessness/S1", [("One.", 2), ("Two.", 9), ("Three.", 1)]),
                ("BoN_set/Harmlessness/multi", [("One.", 2), ("Two.", 4)]),
                ("BoN_set/Harmlessness/multi", [("One.", 5), ("Two.", 4)]),
            ],
            start=3,
        )
    ),
]

PPE_HUMAN: list[dict[str, Any]] = [
    {
        "question_id": str(n),
        "model_a": "model-1",
        "model_b": "model-2",
        "winner": winner,
        "language": language,
        "hard_prompt": n == 0,
        "easy_prompt": n == 1,
        "if_prompt": False,
        "is_code": n == 0,
        "math_prompt": False,
        "is_refusal": False,
        "prompt": f"Question {n}?",
        "response_1": a,
        "response_2": b,
    }
    for n, (winner, language, a, b) in enumerate(
        [
            ("model_a", "English", GOOD, BAD),
            ("model_b", "German", BAD, GOOD),
            ("model_a", "English", BAD, GOOD),
            ("tie", "English", GOOD, BAD),
            ("tie (bothbad)", "English", GOOD, BAD),
        ]
    )
]


def ppe_correctness(*quality_of: tuple[int, ...]) -> list[dict[str, Any]]:
    """Rows with four answers of 32, the first two right, and two conflicting pairs."""
    return [
        {
            "question_id": str(n),
            "model_name": "some-model",
            "prompt": f"Question {n}?",
            "scores": [True, True, False, False],
            "sampled_conflict_pairs": [[0, 2], [3, 1]],
            **{f"response_{i + 1}": f"Answer {i}. q={q}" for i, q in enumerate(qs)},
        }
        for n, qs in enumerate(quality_of)
    ]


def write_array(path: Path, rows: list[dict[str, Any]]) -> Path:
    """A JSON file with one array."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


def write_all(folder: Path) -> dict[str, list[str]]:
    """Every benchmark as published in a folder: what `--data` names for each."""

    def lines(name: str, rows: list[dict[str, Any]]) -> str:
        path = folder / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return str(path)

    for row in RMB:
        write_array(folder / "rmb" / f"{row['category_path']}.json", _same_path(row))
    return {
        "rewardbench-2": [lines("rewardbench_2.jsonl", REWARDBENCH_2)],
        "judgebench": [lines("judgebench.jsonl", JUDGEBENCH)],
        "rm-bench": [str(write_array(folder / "total_dataset.json", RM_BENCH))],
        "rmb": [str(folder / "rmb")],
        "ppe": [
            lines("human.jsonl", PPE_HUMAN),
            lines("PPE-MMLU-Pro-Best-of-K.jsonl", ppe_correctness((8, 7, 2, 3))),
            lines("PPE-MATH-Best-of-K.jsonl", ppe_correctness((8, 7, 9, 3))),
            lines("PPE-GPQA-Best-of-K.jsonl", ppe_correctness((1, 2, 9, 3))),
            lines("PPE-IFEval-Best-of-K.jsonl", ppe_correctness((8, 7, 2, 3), (8, 7, 9, 3))),
            lines("PPE-MBPP-Plus-Best-of-K.jsonl", ppe_correctness((8, 7, 2, 3))),
        ],
    }


def _same_path(row: dict[str, Any]) -> list[dict[str, Any]]:
    return [other for other in RMB if other["category_path"] == row["category_path"]]
