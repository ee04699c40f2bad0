# SPDX-License-Identifier: Apache-2.0
"""slime's remote reward protocol: `POST /remote_rm`."""

from __future__ import annotations

from typing import Any

from autoj_reward.judge.judge import Judge
from autoj_reward.judge.messages.chat_markup import answer_of, exchange_of
from autoj_reward.serve.schema import RemoteRmBody, invalid, requests_of
from autoj_reward.serve.settings import ServeSettings
from autoj_reward.types import Request


def remote_rm_request(body: RemoteRmBody, judge: Judge, settings: ServeSettings) -> Request:
    """Make the rating request of a sample.

    Raises:
        Refusal: The prompt is neither a text nor messages, or the response is not a text (422).
    """
    if not isinstance(body.response, str):
        raise invalid("must be a text", "response")
    if isinstance(body.prompt, str):
        asked, answer = exchange_of(body.prompt, body.response, settings.end_tokens)
    else:
        asked, answer = body.prompt, answer_of(body.response, settings.end_tokens)
    row: dict[str, Any] = {"prompt": asked, "completion": answer}
    if settings.labels_as_references and body.label is not None:
        row["reference"] = str(body.label)
    return requests_of("rate", [row], judge, most=1)[0][0]
