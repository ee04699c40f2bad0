# SPDX-License-Identifier: Apache-2.0
"""alpaca_eval's annotator with its annotations file, on the shared server, with the common prompt.

A rating in place of its preferences: `BaseAnnotatorJSON`, which its `PairwiseAnnotator` is made of, and its
own `regex_parser`.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

from alpaca_eval.annotators.base import BaseAnnotatorJSON
from common import measure_cache, read_task, versions_of

task = read_task()
FOLDER = Path(task["folder"]) / "judge"
TURN = "<|im_start|>{role}\n{content}\n<|im_end|>\n"


def open_cache(model, max_new_tokens):  # type: ignore[no-untyped-def]
    template = "".join(
        TURN.format(role=role, content=content)
        for role, content in (("system", task["system"]), ("user", "{body}"))
    )
    config = {
        "prompt_template": "judge/prompt.txt",
        "fn_completions": "openai_completions",
        "completions_kwargs": {
            "model_name": model,
            "max_tokens": max_new_tokens,
            "temperature": 0.0,
            "num_procs": 64,
            "openai_api_base": task["url"] + "/v1",
        },
        "fn_completion_parser": "regex_parser",
        "completion_parser_kwargs": {
            "outputs_to_match": {n: rf"\[\[\s*{n}(?:\.0)?\s*\]\]" for n in range(1, 11)}
        },
        "batch_size": 1,
    }
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / "prompt.txt").write_text(template, encoding="utf-8")
    # JSON is YAML too. The annotations go beside it, as its own judges have them.
    (FOLDER / "configs.yaml").write_text(json.dumps({"judge": config}), encoding="utf-8")
    annotator = BaseAnnotatorJSON(
        primary_keys=["body"], annotators_config="judge", base_dir=str(FOLDER.parent)
    )

    def run(indices):  # type: ignore[no-untyped-def]
        annotated = annotator([{"body": task["bodies"][i]} for i in indices])
        ratings = [row["annotation"] for row in annotated]
        return [{"rating": None if r is None or math.isnan(r) else r} for r in ratings]

    return run


measure_cache(
    open_cache, task,
    where="JSON beside the judge's settings, written whole each time; by the row and the judge's name",
    versions=versions_of("alpaca-eval"),
)  # fmt: skip
