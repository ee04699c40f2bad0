# SPDX-License-Identifier: Apache-2.0
"""Frozen records of the pipeline: requests, judge inputs, engine outputs.

Sizes in docstrings: B requests, G completions of one prompt, K samples of one request, V verdicts.
"""

from __future__ import annotations

import enum
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from autoj_reward.criteria.rubric import Rubric

Message = Mapping[str, Any]
"""One chat message: `role`, `content` and any other fields."""

Text = str | Sequence[Message]
"""A prompt or completion: plain text, or a list of chat messages (see `judge/messages` for their shapes)."""

Rubrics = Sequence[str | Rubric | Mapping[str, Any] | Sequence[Any] | None]
"""B rubrics: texts, a `Rubric`, what `read_rubric` makes one of, or None."""

Mode = Literal["direct", "critique"]
"""direct: force the words before the verdict and read its probabilities; critique: the judge writes first."""

FinishReason = Literal["stop", "length", "read"]
"""stop: the judge ended its turn; length: token limit; read: nothing was generated."""


class FailureReason(enum.StrEnum):
    """Why a judgment has no verdict."""

    TRUNCATED = "truncated"
    """The output reached the token limit before a verdict."""
    NO_VERDICT = "no_verdict"
    """The output ended without a verdict."""
    OFF_SCALE = "off_scale"
    """The output's verdict is not on the judge's scale."""
    LOW_MASS = "low_mass"
    """The verdict set has too little probability to be meaningful."""
    TOO_LONG = "too_long"
    """The input does not fit the judge's context."""
    ENGINE = "engine"
    """The engine failed on this input, after retries."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why one request has no verdict.

    Attributes:
        reason: The reason.
        detail: One sentence for people.
        raw_text: The judge's output; empty without one.
        overflow_tokens: For `too_long`: tokens over the limit, at least 1. Otherwise 0.
    """

    reason: FailureReason
    detail: str
    raw_text: str = ""
    overflow_tokens: int = 0

    def to_dict(self) -> dict[str, str]:
        """Reason and detail as plain texts."""
        return {"reason": self.reason.value, "detail": self.detail}


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One thing to judge: a prompt with one completion (rate) or two (compare).

    Attributes:
        prompt: The policy's prompt, as text or chat messages (several turns are formatted as text).
        completions: One or two completions, as text or chat messages.
        rubric: The standard in words, for judges whose template takes one; or a `Rubric` of criteria, each
            of which gets a verdict of its own from any judge that rates. Where two completions are compared,
            it is shown in words.
        reference: A reference answer, for judges whose template takes one.
        language: Language code, for judges with templates in several languages; None detects it.
        metadata: The caller's data; kept, never read.
    """

    prompt: Text
    completions: tuple[Text, ...]
    rubric: str | Rubric | None = None
    reference: str | None = None
    language: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def paired_with(self, other: Request) -> Request:
        """A comparison of this request's completion with another's, with this one's other fields."""
        return replace(self, completions=(*self.completions, *other.completions))


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of a judge's input.

    In trusted text (templates) a special token's text becomes that token; in untrusted text (prompt,
    completion, critique) it stays plain characters.
    """

    text: str
    trusted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainWrapper:
    """Literal text around the filled template, such as Llama-2's `[INST] ` and ` [/INST]`.

    The tokenizer's beginning-of-sequence token is added once.
    """

    before: str = ""
    after: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatWrapper:
    """The model's own chat template around the filled template, as one user turn.

    Attributes:
        system: A system message; None or empty for none.
        arguments: Keyword arguments of the chat template (`enable_thinking`), as sorted items.
        thinking: Marks that open and close the judge's thinking, if they are not well-known ones.
    """

    system: str | None = None
    arguments: tuple[tuple[str, Any], ...] = ()
    thinking: tuple[str, str] | None = field(default=None, repr=False)


Wrapper = PlainWrapper | ChatWrapper


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """Sampling parameters.

    Attributes:
        max_new_tokens: Most new tokens, at least 1.
        temperature: 0 is greedy.
        top_p: Nucleus probability in (0, 1].
        top_k: Number of most likely tokens to sample from; 0 is all.
        repetition_penalty: 1.0 is none.
        seed: Seed of sample 0; sample k uses seed + k. None is random.
        stop: Texts that end the output; not part of it.
    """

    max_new_tokens: int = 1024
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    repetition_penalty: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ContinuationQuery:
    """Asks for the probabilities of continuations instead of text.

    For each continuation c the engine returns log P(c, then any terminator), given the input. Terminators
    are the tokens that begin with one of `terminators` and, with `end_of_turn`, those that end the turn.

    Attributes:
        verdict_prefix: The words right before the verdict, at the end of the input's prefill. They determine
            how continuations are tokenized.
        continuations: The verdicts as the judge would write them, all different.
        terminators: First characters of the tokens that may follow.
        end_of_turn: Whether the end of the turn may follow.
        follow_above: Branches of at most this probability are not followed; their mass is reported as
            unread. 0 follows all.
        assume_ends: Assume the end of a continuation that is no prefix of another: P(c) is then the
            probability of its tokens alone, which saves a request.
    """

    verdict_prefix: str
    continuations: tuple[str, ...]
    terminators: tuple[str, ...]
    end_of_turn: bool = False
    follow_above: float = 0.0
    assume_ends: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeInput:
    """An engine's input: continue it with text, or with `readout` return probabilities.

    Attributes:
        body: The filled template.
        wrapper: The text around the body.
        prefill: The beginning of the judge's turn: forced words, or its own critique.
        sampling: Sampling parameters; ignored with a readout.
        readout: The continuations to read, or None to write.
        sample_index: Index of this draw, from 0 to K - 1.
    """

    body: tuple[Segment, ...]
    wrapper: Wrapper
    prefill: tuple[Segment, ...] = ()
    sampling: Sampling = Sampling()
    readout: ContinuationQuery | None = None
    sample_index: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens spent, by the engine's count.

    `cached_tokens` is the part of the prompt tokens from a prefix cache. `n_requests` counts engine requests;
    a reading may need several.
    """

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    n_requests: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            cached_tokens=self.cached_tokens + other.cached_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
            n_requests=self.n_requests + other.n_requests,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What a model's tokens cost, per million.

    Attributes:
        input: Tokens in prompts, in any currency.
        output: Tokens written.
        cached_input: Tokens in prompts that were in the endpoint's prefix cache; None costs as much as input.
    """

    input: float
    output: float
    cached_input: float | None = None

    def of(self, usage: Usage) -> float:
        """What this usage costs."""
        cached = self.input if self.cached_input is None else self.cached_input
        fresh = usage.prompt_tokens - usage.cached_tokens
        read = fresh * self.input + usage.cached_tokens * cached
        return (read + usage.completion_tokens * self.output) / 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineStats:
    """An engine's answers so far.

    Attributes:
        n_cached: Answers from the cache.
        n_asked: Answers from the model.
        usage: Tokens that the model spent on them.
    """

    n_cached: int = 0
    n_asked: int = 0
    usage: Usage = Usage()

    @property
    def cached_share(self) -> float | None:
        """Share of answers from the cache, in [0, 1]; None before the first answer."""
        n_all = self.n_cached + self.n_asked
        return self.n_cached / n_all if n_all else None

    def __add__(self, other: EngineStats) -> EngineStats:
        return EngineStats(
            n_cached=self.n_cached + other.n_cached,
            n_asked=self.n_asked + other.n_asked,
            usage=self.usage + other.usage,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ContinuationLogprob:
    """One continuation's log-probabilities.

    Attributes:
        text: The continuation.
        path_logprob: log P(its tokens), at most 0; -inf if not seen.
        end_logprob: log P(a terminator | its tokens), at most 0; -inf if not followed, 0 if assumed.
    """

    text: str
    path_logprob: float
    end_logprob: float

    @property
    def prob(self) -> float:
        """P(the continuation, then a terminator), in [0, 1]."""
        return math.exp(self.path_logprob + self.end_logprob)


@dataclass(frozen=True, slots=True, kw_only=True)
class ContinuationLogprobs:
    """The log-probabilities of a query's continuations.

    Attributes:
        paths: One for each continuation, in the query's order.
        unread_prob: Upper bound, in [0, 1], of the verdict mass that was not read: branches not followed, or
            tokens that the endpoint did not list.
    """

    paths: tuple[ContinuationLogprob, ...]
    unread_prob: float = 0.0

    @property
    def probs(self) -> list[float]:
        """P(each continuation, then a terminator), in [0, 1], in the same order."""
        return [path.prob for path in self.paths]

    @property
    def holds_nan(self) -> bool:
        """Whether it holds NaN, which a broken model or adapter gives."""
        return math.isnan(sum(self.probs)) or math.isnan(self.unread_prob)


class FlatReading(ContinuationLogprobs):
    """A reading that creates its paths only when they are read; equal to and pickled as a plain reading.

    Args:
        texts: N continuations.
        numbers: 1 + 2 N: `unread_prob`, then `path_logprob` and `end_logprob` of each continuation.
    """

    __slots__ = ("_numbers", "_texts")
    _numbers: tuple[float, ...]
    _texts: tuple[str, ...]

    def __init__(self, texts: tuple[str, ...], numbers: tuple[float, ...]) -> None:
        # Frozen, and without the base's constructor: `paths` is a property here.
        object.__setattr__(self, "_texts", texts)
        object.__setattr__(self, "_numbers", numbers)
        object.__setattr__(self, "unread_prob", numbers[0])

    @property
    def paths(self) -> tuple[ContinuationLogprob, ...]:
        texts, numbers = self._texts, self._numbers
        return tuple(
            ContinuationLogprob(text=text, path_logprob=path, end_logprob=end)
            for text, path, end in zip(texts, numbers[1::2], numbers[2::2], strict=True)
        )

    @property
    def probs(self) -> list[float]:
        numbers = self._numbers
        return [math.exp(path + end) for path, end in zip(numbers[1::2], numbers[2::2], strict=True)]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ContinuationLogprobs):
            return NotImplemented
        return (self.paths, self.unread_prob) == (other.paths, other.unread_prob)

    def __hash__(self) -> int:
        return hash((self.paths, self.unread_prob))

    def __repr__(self) -> str:
        return repr(ContinuationLogprobs(paths=self.paths, unread_prob=self.unread_prob))

    def __reduce__(self) -> tuple[object, ...]:
        plain = functools.partial(ContinuationLogprobs, paths=self.paths, unread_prob=self.unread_prob)
        return plain, ()


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeOutput:
    """An engine's output for one input.

    Attributes:
        text: The text after the prefill; empty for a reading. It includes thinking marks, also an opening
            mark of the chat template.
        finish_reason: Why it ended.
        usage: Tokens spent.
        reading: The requested probabilities; None for text, and for endpoints that cannot give them.
        thinking: The reasoning, if a server returns it separately.
    """

    text: str
    finish_reason: FinishReason
    usage: Usage = Usage()
    reading: ContinuationLogprobs | None = None
    thinking: str | None = None


Answered = tuple[int, Sequence[JudgeOutput | Failure]]
"""An input's place in a call, and all its answers so far, at least one."""

Follow = Callable[[Sequence[Answered]], list[JudgeInput | None]]
"""What an engine is asked next about each of some inputs of a call; None ends a chain. It may be called again
with the same answers, and then says the same."""
