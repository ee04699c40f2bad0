# SPDX-License-Identifier: Apache-2.0
"""distilabel's labelling step `PrometheusEval` in a pipeline on the shared server, with the common prompt and
the common regular expression: its own wants `[RESULT] 5`."""

from __future__ import annotations

import json
import time

STARTED = time.perf_counter()

from common import chat, measure, rating_of, read_task, versions_of  # noqa: E402
from distilabel.models import OpenAILLM  # noqa: E402
from distilabel.pipeline import Pipeline  # noqa: E402
from distilabel.steps import LoadDataFromDicts  # noqa: E402
from distilabel.steps.tasks import PrometheusEval  # noqa: E402


class CommonPrompt(PrometheusEval):  # type: ignore[misc]
    """The peer's own step with the common prompt; its processes unpickle it by name."""

    def format_input(self, input):  # type: ignore[no-untyped-def]
        """The common messages, which went through the pipeline as text."""
        return json.loads(input["generation"])

    def format_output(self, output, input):  # type: ignore[no-untyped-def]
        """The rating, or None."""
        return {"feedback": output, "result": None if output is None else rating_of(output)}


def main() -> None:
    task = read_task()

    def judge(indices):  # type: ignore[no-untyped-def]
        rows = [{"instruction": "", "generation": json.dumps(chat(task, i))} for i in indices]
        # Its cache knows a pipeline by name and steps and not by rows: other rows would get the old answers.
        with Pipeline(name="peers", cache_dir=f"{task['folder']}/{len(rows)}") as pipeline:
            load = LoadDataFromDicts(data=rows, batch_size=64)
            label = CommonPrompt(
                llm=OpenAILLM(
                    model=task["served_model"],
                    base_url=task["url"] + "/v1",
                    api_key=task["api_key"] or "none",
                    generation_kwargs={"max_new_tokens": task["max_new_tokens"], "temperature": 0.0},
                ),
                mode="absolute",
                rubric="helpfulness",
                reference=False,
                input_batch_size=64,
            )
            load >> label
        labelled = pipeline.run(use_cache=True)["default"]["train"]
        return [{"rating": rating} for rating in labelled["result"]]

    measure(
        judge,
        task,
        started=STARTED,
        unreadable="None in the data set, without a reason",
        versions=versions_of("distilabel", "openai"),
    )


if __name__ == "__main__":
    main()
