# SPDX-License-Identifier: Apache-2.0
"""Read a token tree exactly with few requests to an engine that decodes.

One request reads a node and, decoding greedily among the tree's tokens, the nodes along the most probable
branch, at one decoded token each. Other branches that matter are further requests, which hit the prefix
cache.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from autoj_reward.engines.logprobs.token_tree import NodeLogprobs, TokenPath, TokenTree, log_sum_exp
from autoj_reward.errors import EngineContractBroken
from autoj_reward.types import ContinuationLogprobs


@dataclass(frozen=True, slots=True)
class NodeRequest:
    """A request for log-probabilities at a node and at those that greedy decoding reaches next.

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

    def requests(self) -> list[NodeRequest]:
        """The next requests; empty when the reading is complete."""
        return [
            request for node in self.tree.followed(self._readings()) for request in self._requests_at(node)
        ]

    def add(self, request: NodeRequest, tokens: Sequence[int], steps: Sequence[Mapping[int, float]]) -> None:
        """Add the response to a request: from 1 to `n_steps` tokens, and for each the listed ids' log P.

        Raises:
            EngineContractBroken: A listed id has no log-probability.
        """
        node, listed = request.node, set(request.listed)
        for token, logprobs in zip(tokens, steps, strict=True):
            wanted = listed & set(self.tree.wanted(node))
            if not wanted <= logprobs.keys():
                raise EngineContractBroken("the engine left out requested log-probabilities")
            self._known.setdefault(node, {}).update({i: logprobs[i] for i in wanted})
            node = (*node, token)
            if node not in self.tree.children:
                return

    def reading(self) -> ContinuationLogprobs:
        """The probabilities of all verdicts."""
        return self.tree.read(self._readings())

    def _requests_at(self, node: TokenPath) -> list[NodeRequest]:
        known = self._known.get(node, {})
        missing = [i for i in self.tree.wanted(node) if i not in known]
        chunks = [missing[n : n + self.most_listed] for n in range(0, len(missing), self.most_listed)]
        below = [n for n in self.tree.nodes if n[: len(node)] == node]
        steps = max(len(n) for n in below) - len(node) + 1
        inner = list(dict.fromkeys(i for n in below for i in self.tree.children[n]))
        # Tokens of the nodes below first: terminators can be requested later.
        further = dict.fromkeys([*chunks[0], *inner, *self.tree.terminators]) if inner else chunks[0]
        first = NodeRequest(node, tuple(further)[: self.most_listed], tuple(inner), steps)
        return [first, *(NodeRequest(node, tuple(chunk), (), 1) for chunk in chunks[1:])]

    def _readings(self) -> dict[TokenPath, NodeLogprobs]:
        """The nodes whose log-probabilities are complete."""
        readings: dict[TokenPath, NodeLogprobs] = {}
        for node, known in self._known.items():
            if all(i in known for i in self.tree.wanted(node)):
                readings[node] = NodeLogprobs(
                    children={i: known[i] for i in self.tree.children[node]},
                    end=log_sum_exp([known[i] for i in self.tree.terminators])
                    if self.tree.ends(node)
                    else None,
                )
        return readings
