# SPDX-License-Identifier: Apache-2.0
"""llm-verifier's `select` with criteria on the shared server.

Each comparison and criterion is asked in a critique at temperature 1, and then once for each of the two
letters. A call that the server refuses is a tie and is not told, so refusals are counted by the server.
"""

from __future__ import annotations

import os
import time

STARTED = time.perf_counter()

import llm_verifier  # noqa: E402
from common import measure_picks, read_task, versions_of  # noqa: E402

COUNTS = ("calls", "input_tokens", "cached_input_tokens", "output_tokens")
task = read_task()
os.environ["OPENAI_BASE_URL"] = task["url"] + "/v1"


def pick(prompt, completions):  # type: ignore[no-untyped-def]
    result = llm_verifier.select(
        prompt,
        completions,
        criteria=task["criteria"],
        n_evaluations=task["evaluations"],
        model=task["served_model"],
        progress=False,
    )
    return result.index


def told():  # type: ignore[no-untyped-def]
    usage = llm_verifier.token_usage()
    return {name: usage[name] for name in COUNTS}


measure_picks(
    pick,
    task,
    started=STARTED,
    how=f"a pivot tournament, each criterion {task['evaluations']} times, the letters after a critique",
    versions=versions_of("llm-verifier", "openai"),
    told=told,
)
