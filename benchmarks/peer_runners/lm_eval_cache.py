# SPDX-License-Identifier: Apache-2.0
"""lm-eval's `CachingLM` over its `local-chat-completions` on the shared server, with the common prompt."""

from __future__ import annotations

from common import chat, measure_cache, rating_of, read_task, versions_of
from lm_eval.api.instance import Instance
from lm_eval.api.model import CachingLM
from lm_eval.models.openai_completions import LocalChatCompletion

task = read_task()


def open_cache(model, max_new_tokens):  # type: ignore[no-untyped-def]
    endpoint = LocalChatCompletion(
        base_url=task["url"] + "/v1/chat/completions", model=model, num_concurrent=64
    )
    lm = CachingLM(endpoint, task["cache"])
    # Its own default stops at an empty line when none is named; the others stop at the turn's end.
    settings = {"max_gen_toks": max_new_tokens, "temperature": 0.0, "until": ["<|im_end|>"]}

    def run(indices):  # type: ignore[no-untyped-def]
        requests = [
            Instance("generate_until", {}, (endpoint.apply_chat_template(chat(task, i)), settings), i)
            for i in indices
        ]
        return [{"rating": rating_of(text)} for text in lm.generate_until(requests)]

    return run


measure_cache(
    open_cache, task,
    where="SQLite (sqlitedict); by messages and settings of the request, without the model",
    versions=versions_of("lm_eval", "sqlitedict"),
)  # fmt: skip
