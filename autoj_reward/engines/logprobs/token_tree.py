# SPDX-License-Identifier: Apache-2.0
"""Turn a continuation query into a tree of tokens, and sum the answers into probabilities.

P(v) = sum over terminators t of P(path(v) then t). The verdicts' token paths share prefixes (`1`,
`10`, `1.5`), so they form a tree. At every inner node the probability of each child is needed, and
where a verdict ends, that of all terminators together.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from autoj_reward.engines.logprobs.tokenizer import InjectionSafeTokenizer
from autoj_reward.errors import ConfigError
from autoj_reward.types import (
    ContinuationLogprobs,
    ContinuationQuery,
    Failure,
    FailureReason,
    FlatReading,
    JudgeOutput,
)

TokenPath = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class NodeLogprobs:
    """A model's log-probabilities at one node.

    Attributes:
        children: log P(token | node) for the node's children; absent ones were not listed.
        end: log P(any terminator | node), or None if not asked for.
        unlisted_prob: Upper bound of P(absent children and terminators | node), in [0, 1].
    """

    children: Mapping[int, float]
    end: float | None = None
    unlisted_prob: float = 0.0


@dataclass(frozen=True, eq=False)
class TokenTree:
    """The token paths of a readout. One is made for all inputs with that readout, and equal only to itself.

    Attributes:
        readout: The readout.
        paths: Token path of each continuation, in the readout's order.
        nodes: Every prefix of a path, the empty one first, parents before children; the paths themselves
            too, unless the readout has `assume_ends`.
        children: Tokens that may follow each node.
        terminators: Ids that end a verdict.
    """

    readout: ContinuationQuery
    paths: tuple[TokenPath, ...]
    nodes: tuple[TokenPath, ...]
    children: Mapping[TokenPath, tuple[int, ...]]
    terminators: tuple[int, ...]

    def ends(self, node: TokenPath) -> bool:
        """Whether a continuation ends at this node."""
        return node in self._ended

    def wanted(self, node: TokenPath) -> tuple[int, ...]:
        """Ids whose log-probabilities are needed at the node."""
        return self._wanted[node]

    @functools.cached_property
    def longest(self) -> int:
        """Tokens of the longest path."""
        return max(map(len, self.paths))

    @functools.cached_property
    def _ended(self) -> frozenset[TokenPath]:
        return frozenset(self.paths)

    @functools.cached_property
    def _wanted(self) -> dict[TokenPath, tuple[int, ...]]:
        return {n: self.children[n] + (self.terminators if self.ends(n) else ()) for n in self.nodes}

    def read_node(self, node: TokenPath, known: Mapping[int, float]) -> NodeLogprobs:
        """A node's log-probabilities, from those of all the ids that are wanted there."""
        return NodeLogprobs(
            children={i: known[i] for i in self.children[node]},
            end=log_sum_exp([known[i] for i in self.terminators]) if self.ends(node) else None,
        )

    def followed(self, readings: Mapping[TokenPath, NodeLogprobs]) -> list[TokenPath]:
        """Nodes to ask for next: the root, then those with a known parent and P above `follow_above`."""
        reached = self._reached(readings)
        return [
            node
            for node in self.nodes
            if node in reached
            and node not in readings
            and (not node or math.exp(reached[node]) > self.readout.follow_above)
        ]

    def read(self, readings: Mapping[TokenPath, NodeLogprobs]) -> ContinuationLogprobs:
        """Combine the nodes into a reading.

        Its `unread_prob` bounds the mass of nodes that were not asked for and of tokens that were not listed.
        """
        reached = self._reached(readings)
        unread = 0.0
        for node in self.nodes:
            if node in reached:
                known = readings.get(node)
                unread += math.exp(reached[node]) * (1.0 if known is None else known.unlisted_prob)
        numbers = [min(unread, 1.0)]
        for path in self.paths:
            numbers += min(reached.get(path, -math.inf), 0.0), min(self._end(path, readings), 0.0)
        return FlatReading(self.readout.continuations, tuple(numbers))

    def _reached(self, readings: Mapping[TokenPath, NodeLogprobs]) -> dict[TokenPath, float]:
        """log P of the root, and of every child of a node that was read."""
        reached: dict[TokenPath, float] = {(): 0.0}
        for node, below in self._below:
            if (known := readings.get(node)) is not None:
                here = reached.get(node, -math.inf)
                for token, child in below:
                    reached[child] = here + known.children.get(token, -math.inf)
        return reached

    @functools.cached_property
    def _below(self) -> list[tuple[TokenPath, list[tuple[int, TokenPath]]]]:
        """Each node, parents before children, with its children as tokens and as nodes."""
        return [(node, [(i, (*node, i)) for i in self.children[node]]) for node in self.nodes]

    def _end(self, node: TokenPath, readings: Mapping[TokenPath, NodeLogprobs]) -> float:
        if node not in self.children:
            return 0.0
        known = readings.get(node)
        return -math.inf if known is None or known.end is None else known.end


@functools.lru_cache(maxsize=64)
def token_tree(readout: ContinuationQuery, tokenizer: InjectionSafeTokenizer) -> TokenTree:
    """The token tree of a readout's continuations.

    Raises:
        ConfigError: Two continuations have the same tokens, no token can end one, or a terminator also
            continues a verdict, so their probabilities cannot be separated.
    """
    paths = tuple(tuple(tokenizer.continuation_ids(readout.verdict_prefix, c)) for c in readout.continuations)
    if len(set(paths)) < len(paths):
        raise ConfigError(f"two of the verdicts {list(readout.continuations)} have the same tokens")
    ends = set(tokenizer.ids_beginning_with(readout.terminators))
    if readout.end_of_turn:
        ends |= set(tokenizer.turn_end_ids)
    if not ends:
        raise ConfigError(
            f"no token of the vocabulary begins with one of {list(readout.terminators)}",
            hint="name what may follow the verdict in the judge's verdict set",
        )
    inner = {path[:n] for path in paths for n in range(len(path))}
    nodes = sorted(inner if readout.assume_ends else inner | set(paths), key=lambda p: (len(p), p))
    children: dict[TokenPath, tuple[int, ...]] = {
        node: tuple(sorted({p[len(node)] for p in paths if len(p) > len(node) and p[: len(node)] == node}))
        for node in nodes
    }
    for node in nodes:
        if node in paths and (both := ends & set(children[node])):
            raise ConfigError(f"tokens {sorted(both)} both end a verdict and continue another")
    return TokenTree(
        readout=readout,
        paths=paths,
        nodes=tuple(nodes),
        children=children,
        terminators=tuple(sorted(ends)),
    )


def with_numbers(answer: JudgeOutput | Failure) -> JudgeOutput | Failure:
    """The answer, or a failure if its reading holds NaN."""
    if isinstance(answer, JudgeOutput) and answer.reading is not None and answer.reading.holds_nan:
        return not_a_number()
    return answer


def not_a_number() -> Failure:
    """The failure of an input for which the model computes NaN."""
    return Failure(
        reason=FailureReason.ENGINE,
        detail="the model's log-probabilities are not numbers (NaN): its weights or its adapter hold NaN, or "
        "its dtype overflows",
    )


def log_sum_exp(logprobs: Sequence[float]) -> float:
    """log of the sum of probabilities; -inf of none. No log-probability may be +inf or NaN."""
    top = max(logprobs, default=-math.inf)
    return top if top == -math.inf else top + math.log(math.fsum([math.exp(x - top) for x in logprobs]))
