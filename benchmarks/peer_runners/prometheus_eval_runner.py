# SPDX-License-Identifier: Apache-2.0
"""prometheus-eval's `absolute_grade` on the shared server, with the common prompt and regular expression.

Its own parser wants `[RESULT] 5` and up to 5; with that every output of this judge would be asked for ten
times more. Its client is the one that respects the limit of tokens: `AsyncLiteLLM` drops all parameters, and
sends 100 requests a minute.
"""

from __future__ import annotations

import time

STARTED = time.perf_counter()

import prometheus_eval.judge  # noqa: E402
import prometheus_eval.utils  # noqa: E402
from common import measure, rating_of, read_task, versions_of  # noqa: E402
from prometheus_eval.litellm import LiteLLM  # noqa: E402

task = read_task()


def parse_output(output, mode):  # type: ignore[no-untyped-def]
    """A critique and its rating, or twice None, in the place of the peer's."""
    rating = None if output is None else rating_of(output)
    return (None, None) if rating is None else (output, rating)


prometheus_eval.judge.ABS_SYSTEM_PROMPT = task["system"]
prometheus_eval.utils.parse_output = parse_output
grader = prometheus_eval.judge.PrometheusEval(
    model=LiteLLM(f"openai/{task['served_model']}", api_base=task["url"] + "/v1"),
    absolute_grade_template="{response}",
)
PARAMETERS = {"max_tokens": task["max_new_tokens"], "temperature": 0.0}


def judge(indices):  # type: ignore[no-untyped-def]
    bodies = [task["bodies"][i] for i in indices]
    _, scores = grader.absolute_grade(
        instructions=[""] * len(bodies), responses=bodies, rubric="", reference_answers=[""] * len(bodies),
        params=dict(PARAMETERS),
    )  # fmt: skip
    return [{"rating": score} for score in scores]


measure(
    judge, task, started=STARTED, one_by_one=True,
    unreadable="asks again, up to ten times, also where the answer is the same each time; then None",
    versions=versions_of("prometheus-eval", "litellm"),
)  # fmt: skip
