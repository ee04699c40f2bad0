# SPDX-License-Identifier: Apache-2.0
"""The inputs of one call on vLLM: sorted, fed, read and written, and followed by what their answers ask for.

Inputs go to vLLM in the order of their texts, as many as its cache holds at a time. Whatever follows from an
answer (a further branch of a verdict, the verdict of a critique) is asked at once and before new inputs: the
batch stays full, and what the answer left in the prefix cache is still there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from autoj_reward.engines.logprobs.batching import shared_length
from autoj_reward.engines.logprobs.context import output_room, too_long
from autoj_reward.engines.logprobs.token_tree import TokenTree, token_tree
from autoj_reward.engines.logprobs.tokenizer import InjectionSafeTokenizer
from autoj_reward.engines.logprobs.tree_reader import NodeRequest, TreeReader
from autoj_reward.engines.vllm.options import MOST_LISTED, reading_parameters, writing_parameters
from autoj_reward.engines.vllm.outputs import listed_logprobs, usage_of
from autoj_reward.engines.vllm.running import RunningRequests
from autoj_reward.types import (
    Failure,
    FailureReason,
    FinishReason,
    Follow,
    JudgeInput,
    JudgeOutput,
    Sampling,
    Usage,
)

_TOKENIZED_AT_ONCE = 64
"""Inputs tokenized before the first of them goes to vLLM, which computes while the next are tokenized."""

_ASSUMED_OUTPUT = 256
"""Tokens of an output, until some have been seen."""

_READING_SHARE, _WRITING_SHARE = 0.5, 0.9
"""Share of the cache for inputs that run at a time. Readings need room for what follows; outputs fill the
cache, and a smaller share would leave the device idle."""


@dataclass(slots=True, eq=False)
class _Job:
    """An input on its way.

    Attributes:
        n: Its place in the call.
        item: The input.
        ids: Its tokens.
        tree: What is read after them; None to write.
        unbegun: The tokens of its wrapper and body without a prefill, if they are known.
        cost: Tokens of the cache that it takes beside those of the input before it.
        n_open: Its requests that vLLM has not answered.
    """

    n: int
    item: JudgeInput
    ids: list[int]
    tree: TokenTree | None
    unbegun: list[int] | None = None
    cost: float = 0.0
    usage: Usage = field(default_factory=Usage)
    reader: TreeReader | None = None
    n_open: int = 0


_Tag = tuple[_Job, NodeRequest | None]
_Asked = tuple[int, JudgeInput, list[int] | None]
"""An input's place in the call, the input, and `_Job.unbegun`."""


class Batch:
    """One call.

    Args:
        running: vLLM's requests.
        tokenizer: The model's.
        context_tokens: Most tokens of input and output together.
        cache_tokens: Tokens that vLLM's cache holds; None if unknown.
        inputs: The inputs.
        follow: What follows from an input's answers; None for nothing.
    """

    def __init__(
        self,
        running: RunningRequests[_Tag],
        tokenizer: InjectionSafeTokenizer,
        *,
        context_tokens: int,
        cache_tokens: int | None,
        inputs: Sequence[JudgeInput],
        follow: Follow | None = None,
    ) -> None:
        self._running = running
        self._tokenizer = tokenizer
        self._context_tokens = context_tokens
        self._inputs = inputs
        self._follow = follow
        self._answers: list[list[JudgeOutput | Failure]] = [[] for _ in inputs]
        share = _READING_SHARE if all(item.readout for item in inputs) else _WRITING_SHARE
        self._room = float("inf") if cache_tokens is None else cache_tokens * share
        self._taken = 0.0
        self._n_written = self._tokens_written = 0
        self._reading: dict[NodeRequest, Any] = {}
        self._writing: dict[tuple[Sampling, int], Any] = {}

    def run(self) -> list[list[JudgeOutput | Failure]]:
        """The answers to every input and to what followed from it."""
        with ThreadPoolExecutor(1) as background:
            return self._run(self._jobs_in_order(background))

    def _run(self, parts: Iterator[list[_Job]]) -> list[list[JudgeOutput | Failure]]:
        waiting: deque[_Job] = deque()
        before: list[int] = []
        done = False
        while True:
            while not done and not waiting and (not self._running or self._taken < self._room):
                part = next(parts, None)
                done = part is None
                waiting += part or ()
            while waiting:
                cost = self._cost(waiting[0], before)
                if self._running and self._taken + cost > self._room:
                    break
                job = waiting.popleft()
                job.cost = cost
                before = job.ids
                self._taken += cost
                self._start(job)
            if not self._running:
                if done and not waiting:
                    return self._answers
                continue
            self._take(self._running.finished())

    def _jobs_in_order(self, background: Executor) -> Iterator[list[_Job]]:
        """Jobs in the order of their texts; while some are run, the next are tokenized in another thread."""
        texts = [_sort_key(item) for item in self._inputs]
        order = sorted(range(len(texts)), key=texts.__getitem__)
        parts = [order[k : k + _TOKENIZED_AT_ONCE] for k in range(0, len(order), _TOKENIZED_AT_ONCE)]
        ahead: deque[Future[list[list[int]]]] = deque()
        for k, part in enumerate(parts):
            for later in parts[len(ahead) + k : k + 2]:
                items = [self._inputs[n] for n in later]
                ahead.append(background.submit(self._tokenizer.encode_inputs, items))
            asked = [(n, self._inputs[n], None) for n in part]
            yield list(self._jobs(asked, ahead.popleft().result()))

    def _jobs(self, asked: Sequence[_Asked], encoded: Sequence[list[int]]) -> Iterator[_Job]:
        """Inputs with their tokens; those that do not fit the context are answered here, and followed."""
        while asked:
            overlong: list[int] = []
            for (n, item, unbegun), ids in zip(asked, encoded, strict=True):
                tree = None if item.readout is None else token_tree(item.readout, self._tokenizer)
                failure = too_long(len(ids), output_room(item, tree), self._context_tokens)
                if failure is None:
                    yield _Job(n, item, ids, tree, unbegun if item.prefill else ids)
                else:
                    self._answers[n].append(failure)
                    overlong.append(n)
            following = zip(overlong, self._following(overlong), strict=True)
            asked = [(n, item, None) for n, item in following if item is not None]
            encoded = self._tokenizer.encode_inputs([item for _, item, _ in asked])

    def _cost(self, job: _Job, before: list[int]) -> float:
        new = len(job.ids) - shared_length(before, job.ids)
        return new + (job.tree.longest + 1 if job.tree else self._expected_output(job.item.sampling))

    def _expected_output(self, sampling: Sampling) -> float:
        seen = self._tokens_written / self._n_written if self._n_written else _ASSUMED_OUTPUT
        return min(sampling.max_new_tokens, seen)

    def _start(self, job: _Job) -> None:
        if job.tree is None:
            sampling, draw = job.item.sampling, job.item.sample_index
            if (sampling, draw) not in self._writing:
                ends = self._tokenizer.turn_end_ids
                parameters = writing_parameters(self._tokenizer.stopping(sampling), draw, ends)
                self._writing[sampling, draw] = parameters
            self._running.add(job.ids, self._writing[sampling, draw], (job, None))
        else:
            job.reader = TreeReader(job.tree, MOST_LISTED)
            self._ask(job, job.reader.requests())

    def _ask(self, job: _Job, due: Sequence[NodeRequest]) -> None:
        job.n_open = len(due)
        for request in due:
            if request not in self._reading:
                self._reading[request] = reading_parameters(request.listed, request.allowed, request.n_steps)
            ids = [*job.ids, *request.node] if request.node else job.ids
            self._running.add(ids, self._reading[request], (job, request))

    def _take(self, finished: Sequence[tuple[_Tag, Any]]) -> None:
        """Take what vLLM finished in a step, and ask all that follows from it together."""
        done: list[_Job] = []
        for (job, request), answer in finished:
            output = self._written(job, answer) if request is None else self._read(job, request, answer)
            if output is not None:
                self._answers[job.n].append(output)
                done.append(job)
        freed = {job.n: job.cost for job in done}
        asked: list[_Asked] = []
        for job, item in zip(done, self._following([job.n for job in done]), strict=True):
            if item is not None:
                same = item.body is job.item.body and item.wrapper == job.item.wrapper
                asked.append((job.n, item, job.unbegun if same else None))
        encoded = self._tokenizer.encode_inputs(
            [item for _, item, _ in asked], [known for _, _, known in asked]
        )
        for following in self._jobs(asked, encoded):
            # What it shares with the answer before is counted already, until the chain ends.
            following.cost = freed.pop(following.n)
            self._start(following)
        self._taken -= sum(freed.values())

    def _following(self, answered: Sequence[int]) -> list[JudgeInput | None]:
        """What follows from the last answer to each of these inputs."""
        if self._follow is None or not answered:
            return [None] * len(answered)
        return self._follow([(n, self._answers[n]) for n in answered])

    def _written(self, job: _Job, answer: Any) -> JudgeOutput | Failure:
        written = answer.outputs[0]
        self._n_written += 1
        self._tokens_written += len(written.token_ids)
        text, cut = self._tokenizer.decode_turn(job.ids, list(written.token_ids), job.item.sampling.stop)
        if written.finish_reason not in ("stop", "length"):
            detail = f"vLLM ended the output with {written.finish_reason!r}"
            return Failure(reason=FailureReason.ENGINE, detail=detail, raw_text=text)
        reason: FinishReason = "stop" if cut or written.finish_reason == "stop" else "length"
        return JudgeOutput(text=text, finish_reason=reason, usage=usage_of(answer))

    def _read(self, job: _Job, request: NodeRequest, answer: Any) -> JudgeOutput | None:
        """The output of a reading, once all its requests are answered."""
        assert job.reader is not None
        read = answer.outputs[0]
        job.reader.add(request, read.token_ids, listed_logprobs(read.logprobs))
        job.usage += usage_of(answer)
        job.n_open -= 1
        if job.n_open:
            return None
        if due := job.reader.requests():
            self._ask(job, due)
            return None
        return JudgeOutput(text="", finish_reason="read", reading=job.reader.reading(), usage=job.usage)


def _sort_key(item: JudgeInput) -> tuple[str, ...]:
    return tuple(segment.text for segment in (*item.body, *item.prefill))
