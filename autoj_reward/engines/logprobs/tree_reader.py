# SPDX-License-Identifier: Apache-2.0
"""Read a token tree exactly with few requests to an engine that decodes.

One request reads a node and, decoding greedily among the tree's tokens, the nodes along the most probable
branch, at one decoded token each. Other branches that matter are further requests, which hit the prefix
cache.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from autoj_reward.engines.logprobs.token_tree import NodeLogprobs, TokenPath, TokenTree
from autoj_reward.errors import EngineContractBroken
from autoj_reward.types import ContinuationLogprobs


@dataclass(frozen=True, slots=True, eq=False)
class NodeRequest:
    """A request for log-probabilities at a node and at those that greedy decoding reaches next.

    Inputs whose trees are at the same point get the same object.

    Attributes:
        node: Token path after the input.
        listed: Ids whose log-probabilities are needed at every step.
        allowed: Ids that decoding may choose; empty for a single step, whose token is not used.
        n_steps: Tokens to decode, at least 1: step 0 reads the node itself.
    """

    node: TokenPath
    listed: tuple[int, ...]
    allowed: tuple[int, ...]
    n_steps: int


@dataclass(slots=True)
class TreeReader:
    """Collects the log-probabilities of one input's verdict tree.

    Args:
        tree: The tree.
        most_listed: Most ids that one request may list.
    """

    tree: TokenTree
    most_listed: int
    _known: dict[TokenPath, dict[int, float]] = field(default_factory=dict)
    _readings: dict[TokenPath, NodeLogprobs] = field(default_factory=dict)

    def requests(self) -> list[NodeRequest]:
        """The next requests, once all earlier ones are answered; empty when the reading is complete."""
        due: list[NodeRequest] = []
        for node in self.tree.followed(self._readings):
            missing = self.tree.wanted(node)
            if known := self._known.get(node):
                missing = tuple(i for i in missing if i not in known)
            due += _requests_at(self.tree, node, missing, self.most_listed)
        return due

    def add(self, request: NodeRequest, tokens: Sequence[int], steps: Iterable[Mapping[int, float]]) -> None:
        """Add the response to a request: from 1 to `n_steps` tokens, and for each the listed ids' log P.

        Raises:
            EngineContractBroken: A listed id has no log-probability.
        """
        node = request.node
        for token, logprobs in zip(tokens, steps, strict=True):
            listed = _listed_at(self.tree, request, node)
            try:
                if len(listed) == len(self.tree.wanted(node)):
                    self._readings[node] = self.tree.read_node(node, logprobs)
                else:
                    self._add_part(node, {i: logprobs[i] for i in listed})
            except KeyError:
                raise EngineContractBroken("the engine left out requested log-probabilities") from None
            node = (*node, token)
            if node not in self.tree.children:
                return

    def _add_part(self, node: TokenPath, part: Mapping[int, float]) -> None:
        known = self._known.setdefault(node, {})
        known.update(part)
        if len(known) == len(self.tree.wanted(node)):
            self._readings[node] = self.tree.read_node(node, known)

    def reading(self) -> ContinuationLogprobs:
        """The probabilities of all verdicts."""
        return self.tree.read(self._readings)


@functools.lru_cache(maxsize=1024)
def _requests_at(
    tree: TokenTree, node: TokenPath, missing: tuple[int, ...], most_listed: int
) -> tuple[NodeRequest, ...]:
    """The requests for ids at a node, of which the first goes on to the nodes below."""
    chunks = [missing[n : n + most_listed] for n in range(0, len(missing), most_listed)]
    below = [n for n in tree.nodes if n[: len(node)] == node]
    steps = max(len(n) for n in below) - len(node) + 1
    inner = list(dict.fromkeys(i for n in below for i in tree.children[n]))
    # Tokens of the nodes below first: terminators can be requested later.
    further = dict.fromkeys([*chunks[0], *inner, *tree.terminators]) if inner else chunks[0]
    first = NodeRequest(node, tuple(further)[:most_listed], tuple(inner), steps)
    return (first, *(NodeRequest(node, tuple(chunk), (), 1) for chunk in chunks[1:]))


@functools.lru_cache(maxsize=4096)
def _listed_at(tree: TokenTree, request: NodeRequest, node: TokenPath) -> tuple[int, ...]:
    """The ids wanted at a node that a request lists."""
    listed = frozenset(request.listed)
    return tuple(i for i in tree.wanted(node) if i in listed)
