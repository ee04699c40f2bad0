# SPDX-License-Identifier: Apache-2.0
"""Reading a tree by decoding ahead gives what asking every node gives."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoj_reward.engines.logprobs.token_tree import NodeLogprobs, TokenPath, TokenTree, log_sum_exp
from autoj_reward.engines.logprobs.tree_reader import NodeRequest, TreeReader
from autoj_reward.errors import EngineContractBroken
from autoj_reward.types import ContinuationLogprobs, ContinuationQuery

VOCABULARY = 40
ENDS = tuple(range(20, 35))


def tree_of(paths: Iterable[TokenPath], follow_above: float = 0.0, *, assume_ends: bool = False) -> TokenTree:
    ordered = tuple(sorted(set(paths)))
    inner = {p[:n] for p in ordered for n in range(len(p))}
    nodes = tuple(sorted(inner if assume_ends else inner | set(ordered), key=lambda p: (len(p), p)))
    readout = ContinuationQuery(
        verdict_prefix="",
        continuations=tuple(map(str, ordered)),
        terminators=("]",),
        follow_above=follow_above,
        assume_ends=assume_ends,
    )
    children = {
        node: tuple(sorted({p[len(node)] for p in ordered if len(p) > len(node) and p[: len(node)] == node}))
        for node in nodes
    }
    return TokenTree(readout=readout, paths=ordered, nodes=nodes, children=children, terminators=ENDS)


class Model:
    """A language model as a table: log P(token | path), drawn once for each path."""

    def __init__(self, seed: int, sharpness: float) -> None:
        self.seed, self.sharpness = seed, sharpness
        self.n_requests = 0

    def logprobs(self, path: TokenPath) -> list[float]:
        draw = random.Random(f"{self.seed} {path}")
        logits = [draw.gauss(0, self.sharpness) for _ in range(VOCABULARY)]
        total = log_sum_exp(logits)
        return [x - total for x in logits]

    def answer(self, request: NodeRequest) -> tuple[list[int], list[dict[int, float]]]:
        """Greedy decoding from the request's node, as vLLM does it."""
        self.n_requests += 1
        node, tokens, steps = request.node, [], []
        for _ in range(request.n_steps):
            known = self.logprobs(node)
            steps.append({i: known[i] for i in request.listed})
            tokens.append(max(request.allowed or range(VOCABULARY), key=known.__getitem__))
            node = (*node, tokens[-1])
        return tokens, steps


def read(tree: TokenTree, model: Model, most_listed: int) -> ContinuationLogprobs:
    reader = TreeReader(tree, most_listed)
    for _ in range(50):
        requests = reader.requests()
        if not requests:
            return reader.reading()
        assert all(len(r.listed) <= most_listed for r in requests)
        for request in requests:
            reader.add(request, *model.answer(request))
    raise AssertionError("the reader never came to an end")


paths = st.sets(st.lists(st.integers(0, 9), min_size=1, max_size=4).map(tuple), min_size=1, max_size=12)


@given(paths, st.integers(0, 10**6), st.floats(0.1, 6), st.integers(10, 60))
def test_every_node_is_read_exactly(
    paths: set[TokenPath], seed: int, sharpness: float, most_listed: int
) -> None:
    tree, model = tree_of(paths), Model(seed, sharpness)
    got = read(tree, model, most_listed)
    known = {node: model.logprobs(node) for node in tree.nodes}
    whole = tree.read(
        {
            node: NodeLogprobs(
                children={i: known[node][i] for i in tree.children[node]},
                end=log_sum_exp([known[node][i] for i in ENDS]) if tree.ends(node) else None,
            )
            for node in tree.nodes
        }
    )
    assert got.unread_prob == 0.0
    assert [p.prob for p in got.paths] == pytest.approx([p.prob for p in whole.paths])


@given(paths, st.integers(0, 10**6), st.floats(1e-4, 0.3))
def test_paths_that_are_not_followed_are_bounded(
    paths: set[TokenPath], seed: int, follow_above: float
) -> None:
    whole = read(tree_of(paths), Model(seed, 3.0), 128)
    part = read(tree_of(paths, follow_above), Model(seed, 3.0), 128)
    missing = sum(p.prob for p in whole.paths) - sum(p.prob for p in part.paths)
    assert -1e-9 <= missing <= part.unread_prob + 1e-9


def test_a_sure_verdict_is_one_request() -> None:
    """A direct verdict costs one prefill: its own end used to be asked for in a second request."""
    tree = tree_of([(1,), (1, 0), (1, 2, 5), (7,), (7, 2, 5)], follow_above=0.5)
    assert len(TreeReader(tree, 128).requests()) == 1
    model = Model(0, 40.0)
    read(tree, model, 128)
    assert model.n_requests == 1


@given(paths, st.integers(0, 10**6))
def test_only_ends_that_could_go_on_are_asked_for(paths: set[TokenPath], seed: int) -> None:
    model = Model(seed, 2.0)
    whole = read(tree_of(paths), model, 128)
    tree = tree_of(paths, assume_ends=True)
    for every, part, path in zip(whole.paths, read(tree, model, 128).paths, tree.paths, strict=True):
        goes_on = any(p != path and p[: len(path)] == path for p in paths)
        assert part.path_logprob == pytest.approx(every.path_logprob)
        assert part.end_logprob == pytest.approx(every.end_logprob if goes_on else 0.0)


def test_a_verdict_of_which_none_is_the_beginning_of_another_is_one_request() -> None:
    """However unsure the judge is: no branch is left to follow."""
    model = Model(1, 0.5)
    got = read(tree_of([(n,) for n in range(1, 10)], assume_ends=True), model, 128)
    assert model.n_requests == 1
    assert got.unread_prob == 0.0


def test_more_terminators_than_a_request_lists_are_asked_in_parts() -> None:
    tree, model = tree_of([(1,), (2,)]), Model(3, 1.0)
    got = read(tree, model, 10)
    ends = log_sum_exp([model.logprobs((1,))[i] for i in ENDS])
    assert got.paths[0].end_logprob == pytest.approx(ends)
    assert math.isfinite(got.paths[1].end_logprob)


def test_a_missing_log_probability_is_not_taken_for_zero() -> None:
    reader = TreeReader(tree_of([(1,), (2,)]), 128)
    (request,) = reader.requests()
    with pytest.raises(EngineContractBroken):
        reader.add(request, [1], [{1: -0.5}])
