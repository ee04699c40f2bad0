# SPDX-License-Identifier: Apache-2.0
"""Judge inputs as text or chat messages, for endpoints whose tokenizer is not available.

What untrusted text could say in special tokens is broken up, because such an endpoint would take it for
the real thing. With token ids as a prompt (`server.py`) none of this is needed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from autoj_reward.engines.logprobs.tokenizer import encodable
from autoj_reward.engines.openai.responses import Step, distinct, unlisted_prob
from autoj_reward.types import (
    ChatWrapper,
    ContinuationLogprob,
    ContinuationLogprobs,
    ContinuationQuery,
    JudgeInput,
    PlainWrapper,
    Segment,
)

_SPECIAL = re.compile(
    r"<(?=\|[^<>|\n]{1,40}\|>)|<(?=｜[^<>｜\n]{1,40}｜>)|<(?=/?(?:s|bos|eos|pad|unk|think|start_of_turn|"
    r"end_of_turn|im_start|im_end|eot|tool_call)>)|<(?=</?SYS>>)|\[(?=/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|"
    r"TOOL_CALLS|TOOL_RESULTS|IMG)\])"
)
"""First characters of texts that model families use as special tokens."""

_TOKEN_END = re.compile(r"[>\]]")

_BREAK = "\u200b"
"""Zero-width space: the text looks the same, and is not a special token any more."""

_TURN_ENDS = frozenset(
    {"<|im_end|>", "</s>", "<|eot_id|>", "<|endoftext|>", "<|end|>", "<end_of_turn>", "<eos>"}
)
"""Names of tokens that end a turn; an endpoint lists them by name."""


def plain_text(segments: Sequence[Segment]) -> str:
    """Joined text in which nothing untrusted reads as a special token."""
    text = "".join(s.text for s in segments)
    if any(not s.trusted for s in segments):
        trusted = [s.trusted for s in segments for _ in s.text]

        def broken(match: re.Match[str]) -> str:
            start, end = match.span()
            return match.group() if all(trusted[start : _token_end(text, end)]) else match.group() + _BREAK

        text = _SPECIAL.sub(broken, text)
    return encodable(text)


def _token_end(text: str, start: int) -> int:
    """Where the special token's text ends whose first character ends at `start`."""
    found = _TOKEN_END.search(text, start)
    return found.end() if found else len(text)


def prompt_text(item: JudgeInput, written: str = "") -> str:
    """A plain-wrapped input as one text."""
    assert isinstance(item.wrapper, PlainWrapper)
    frame = (Segment(item.wrapper.before, True), *item.body, Segment(item.wrapper.after, True))
    return plain_text((*frame, *item.prefill)) + written


def messages(item: JudgeInput, written: str = "") -> list[dict[str, str]]:
    """An input as chat messages; the begun assistant turn last, if it has one.

    A plain wrapper is left out: the server's chat template takes its place.
    """
    rows = [{"role": "user", "content": plain_text(item.body)}]
    if isinstance(item.wrapper, ChatWrapper) and item.wrapper.system:
        rows.insert(0, {"role": "system", "content": item.wrapper.system})
    begun = plain_text(item.prefill) + written
    return [*rows, {"role": "assistant", "content": begun}] if begun else rows


def verdict_messages(item: JudgeInput, readout: ContinuationQuery) -> list[dict[str, str]]:
    """A direct question to an endpoint that takes no begun answer: the words are asked for instead."""
    body = plain_text(item.body)
    beginning = readout.verdict_prefix
    ask = f"{body}\n\nWrite no critique now. Answer with the verdict alone, beginning with: {beginning}"
    rows = messages(item)
    before = [row for row in rows if row["role"] == "system"]
    return [*before, {"role": "user", "content": ask}]


@dataclass(slots=True)
class TextReader:
    """What is known of one input's verdicts, read token by token in text.

    A node is what has been written after the input so far. Tokens that continue a verdict lead to
    further nodes; a token may also hold a verdict's last characters and its end together.

    Args:
        readout: What is to be read.
    """

    readout: ContinuationQuery
    _steps: dict[str, Step] = field(default_factory=dict)

    def nodes(self) -> list[str]:
        """Texts after which to ask for the next token; empty when the reading is complete."""
        reached, _ = self._walk()
        return [n for n in reached if n not in self._steps and self._is_followed(n, reached[n])]

    def add(self, node: str, step: Step) -> None:
        """Take in the most probable tokens after a node."""
        self._steps[node] = step

    def reading(self) -> ContinuationLogprobs:
        """The verdicts' probabilities; how each splits into path and end is not known from text."""
        reached, probs = self._walk()
        unread = sum(
            reach * (unlisted_prob(self._steps[node]) if node in self._steps else 1.0)
            for node, reach in reached.items()
        )
        return ContinuationLogprobs(
            paths=tuple(
                ContinuationLogprob(text=c, path_logprob=_log(probs.get(c, 0.0)), end_logprob=0.0)
                for c in self.readout.continuations
            ),
            unread_prob=min(1.0, unread),
        )

    def _is_followed(self, node: str, reach: float) -> bool:
        return node == "" or reach > self.readout.follow_above

    def _walk(self) -> tuple[dict[str, float], dict[str, float]]:
        """Probabilities of having written each node, and of each verdict with its end."""
        reached, probs = {"": 1.0}, dict[str, float]()
        waiting = [""]
        while waiting:
            # Shortest first: whatever leads to a node is shorter, so its probability is complete.
            node = min(waiting, key=len)
            waiting.remove(node)
            step = self._steps.get(node)
            rests = {c: c[len(node) :] for c in self.readout.continuations if c.startswith(node)}
            for token in distinct(step.listed) if step else ():
                prob = reached[node] * math.exp(token.logprob)
                ended = next((c for c in rests if self._ends(c, rests[c], token.text)), None)
                if ended is not None:
                    probs[ended] = probs.get(ended, 0.0) + prob
                elif token.text and any(rest.startswith(token.text) for rest in rests.values()):
                    after = node + token.text
                    if after not in reached:
                        waiting.append(after)
                    reached[after] = reached.get(after, 0.0) + prob
        return reached, probs

    def _ends(self, continuation: str, rest: str, token: str) -> bool:
        if rest == "" and self.readout.end_of_turn and token in _TURN_ENDS:
            return True
        if token == rest and self.readout.assume_ends:
            return sum(c.startswith(continuation) for c in self.readout.continuations) == 1
        return token.startswith(rest) and token[len(rest) :].startswith(self.readout.terminators)


def _log(prob: float) -> float:
    return math.log(min(prob, 1.0)) if prob > 0 else -math.inf
