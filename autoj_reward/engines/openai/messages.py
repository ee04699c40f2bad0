# SPDX-License-Identifier: Apache-2.0
"""Judge inputs as text or chat messages, for endpoints whose tokenizer is not available.

Special tokens in untrusted text are broken up with zero-width spaces, because the endpoint would parse them.
Prompts of token ids do not need this.
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
    r"<(?=\|[^<>|\n]{1,40}\|>)|<(?=\|[a-zA-Z_]{1,40}>)|<(?=[a-zA-Z_]{1,40}\|>)|<(?=｜[^<>｜\n]{1,40}｜>)|"
    r"<(?=/?(?:s|bos|eos|pad|unk|sop|think|thinking|thought|reasoning|seed:think|start_of_turn|end_of_turn|"
    r"im_start|im_end|eot|tool_call)>)|<(?=</?SYS>>)|\[(?=/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|"
    r"TOOL_CALLS|TOOL_RESULTS|IMG|THINK|gMASK)\])|◁(?=/?think▷)"
)
"""First character of a text that some model family uses as a special token."""

_TOKEN_END = re.compile(r"[>\]▷]")

_BREAK = "\u200b"
"""Zero-width space: the text looks the same and no longer is a special token."""

_TURN_ENDS = frozenset(
    {"<|im_end|>", "</s>", "<|eot_id|>", "<|endoftext|>", "<|end|>", "<end_of_turn>", "<eos>"}
)
"""Texts under which endpoints list the tokens that end a turn."""


def plain_text(segments: Sequence[Segment]) -> str:
    """The joined text, with special tokens in untrusted parts broken up."""
    text = "".join(s.text for s in segments)
    if any(not s.trusted for s in segments):
        trusted = [s.trusted for s in segments for _ in s.text]

        def broken(match: re.Match[str]) -> str:
            start, end = match.span()
            return match.group() if all(trusted[start : _token_end(text, end)]) else match.group() + _BREAK

        text = _SPECIAL.sub(broken, text)
    return encodable(text)


def _token_end(text: str, start: int) -> int:
    """End of the special token whose first character ends at `start`."""
    found = _TOKEN_END.search(text, start)
    return found.end() if found else len(text)


def prompt_text(item: JudgeInput, written: str = "") -> str:
    """A plain-wrapped input as one text."""
    assert isinstance(item.wrapper, PlainWrapper)
    frame = (Segment(item.wrapper.before, True), *item.body, Segment(item.wrapper.after, True))
    return plain_text((*frame, *item.prefill)) + written


def messages(item: JudgeInput, written: str = "") -> list[dict[str, str]]:
    """An input as chat messages; an unfinished assistant turn comes last.

    A plain wrapper is left out: the server's chat template replaces it.
    """
    rows = [{"role": "user", "content": plain_text(item.body)}]
    if isinstance(item.wrapper, ChatWrapper) and item.wrapper.system:
        rows.insert(0, {"role": "system", "content": item.wrapper.system})
    begun = plain_text(item.prefill) + written
    return [*rows, {"role": "assistant", "content": begun}] if begun else rows


def verdict_messages(item: JudgeInput, readout: ContinuationQuery) -> list[dict[str, str]]:
    """A direct question for the verdict, for endpoints that continue no unfinished turn."""
    ask = "Write no critique now. Answer with the verdict alone, beginning with: " + readout.verdict_prefix
    system = [row for row in messages(item) if row["role"] == "system"]
    return [*system, {"role": "user", "content": f"{plain_text(item.body)}\n\n{ask}"}]


@dataclass(slots=True)
class TextReader:
    """Read one input's verdicts from lists of most probable tokens, matched by text.

    A node is the text after the input so far. Tokens that continue a verdict lead to further nodes; one token
    may hold both a verdict's last characters and its terminator.
    """

    readout: ContinuationQuery
    _steps: dict[str, Step] = field(default_factory=dict)

    def nodes(self) -> list[str]:
        """Texts whose next token to ask for; empty when the reading is complete."""
        reached, _ = self._walk()
        return [n for n in reached if n not in self._steps and self._is_followed(n, reached[n])]

    def add(self, node: str, step: Step) -> None:
        """Add the most probable tokens after a node."""
        self._steps[node] = step

    def reading(self) -> ContinuationLogprobs:
        """The verdicts' probabilities; text does not tell how each splits into path and end."""
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
        """Probabilities of each node, and of each verdict with its terminator."""
        reached, probs = {"": 1.0}, dict[str, float]()
        waiting = [""]
        while waiting:
            # Shortest first: all texts that lead to a node are shorter, so its probability is complete.
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
