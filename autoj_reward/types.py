# SPDX-License-Identifier: Apache-2.0
"""The records that move through the pipeline: requests, judge inputs, engine outputs.

Sizes in docstrings: B requests, G completions of one prompt, K samples of one request, V verdicts.
All records are frozen; no stage changes what it was given.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

Message = Mapping[str, Any]
"""One chat message: `role` and `content`, and whatever else the trainer keeps beside them."""

Text = str | Sequence[Message]
"""A prompt or completion: plain text, or a list of chat messages (see `judge/messages` for their shapes)."""

Mode = Literal["direct", "critique"]
"""direct: force the words before the verdict and read it; critique: let the judge write first."""

FinishReason = Literal["stop", "length", "read"]
"""stop: the judge ended its turn; length: cut at the token limit; read: nothing was generated."""


class FailureReason(enum.StrEnum):
    """Why a judgment has no verdict. A closed set."""

    TRUNCATED = "truncated"
    """The output was cut at the token limit before it concluded."""
    NO_VERDICT = "no_verdict"
    """The output ended without a verdict."""
    OFF_SCALE = "off_scale"
    """The output ends with a verdict that is not on the judge's scale."""
    LOW_MASS = "low_mass"
    """Too little probability fell inside the verdict set for it to mean anything."""
    TOO_LONG = "too_long"
    """The input does not fit the judge's context."""
    ENGINE = "engine"
    """The engine failed on this input, after retries."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why one request has no verdict, with what the judge wrote.

    Attributes:
        reason: One of the closed set.
        detail: One sentence for a person.
        raw_text: The judge's output as far as there was one.
        overflow_tokens: For `too_long`: how many tokens over the limit, at least 1. Otherwise 0.
    """

    reason: FailureReason
    detail: str
    raw_text: str = ""
    overflow_tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One thing to judge: a prompt with one completion (rate) or two (compare).

    Attributes:
        prompt: What the policy was asked; text, or chat messages (several turns are laid out as text).
        completions: One or two completions, as text or as the policy's messages.
        rubric: The standard of quality in words, for judges whose template takes one.
        reference: A reference answer, for judges whose template takes one.
        language: Language code, for judges that have templates in several; None: found out.
        metadata: Anything of the caller's; kept, never read.
    """

    prompt: Text
    completions: tuple[Text, ...]
    rubric: str | None = None
    reference: str | None = None
    language: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def paired_with(self, other: Request) -> Request:
        """This request's completion against another's, by what this one is judged by.

        Args:
            other: A request of the same prompt.
        """
        return replace(self, completions=(*self.completions, *other.completions))


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of a judge's input.

    In a trusted piece (ours, or the model's chat template) a special token's text is the special
    token. In an untrusted one (prompt, completion, critique) the same characters are just text.
    """

    text: str
    trusted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainWrapper:
    """Literal text around the filled template, such as Llama-2's `[INST] ` and ` [/INST]`.

    The tokenizer's own beginning-of-sequence token is added, once.
    """

    before: str = ""
    after: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatWrapper:
    """The model's own chat template around the filled template, as one user turn.

    Attributes:
        system: A system message; None or an empty one is none.
        arguments: Keyword arguments of the chat template (`enable_thinking`), as sorted items.
        thinking: The judge's own marks that open and close thinking, for marks that are not known anyway.
    """

    system: str | None = None
    arguments: tuple[tuple[str, Any], ...] = ()
    thinking: tuple[str, str] | None = field(default=None, repr=False)


Wrapper = PlainWrapper | ChatWrapper


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How an engine writes.

    Attributes:
        max_new_tokens: Most tokens to write, at least 1.
        temperature: 0 is greedy.
        top_p: Nucleus probability in (0, 1].
        top_k: Most likely tokens to sample from; 0 is all.
        repetition_penalty: 1.0 is none.
        seed: Seed of sample 0; sample k uses seed + k. None draws fresh ones.
        stop: Texts that end the output; they are not part of it.
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
    """What to read where a verdict is due, instead of writing.

    For each continuation c the engine returns log P(c, then any terminator), given the input. The
    terminators are the vocabulary's tokens that begin with one of `terminators` and, with
    `end_of_turn`, the tokens that end the judge's turn.

    Attributes:
        verdict_prefix: The words right before the verdict, already at the end of the input's prefill.
            They fix how the continuations are cut into tokens.
        continuations: The verdicts as the judge would write them, all different.
        terminators: First characters of the tokens that may follow.
        end_of_turn: Whether the end of the turn may follow.
        follow_above: Branches whose probability is at or below this are not followed; their mass is
            reported as unread. 0 follows all.
        assume_ends: Take the end of a continuation that begins no other for granted: P(c) is then the
            probability of its tokens alone, and no request is spent on what follows them.
    """

    verdict_prefix: str
    continuations: tuple[str, ...]
    terminators: tuple[str, ...]
    end_of_turn: bool = False
    follow_above: float = 0.0
    assume_ends: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeInput:
    """What an engine gets: a rendered input, to write on from, or (with `readout`) to read at.

    Attributes:
        body: The filled template.
        wrapper: What goes around the body.
        prefill: What the judge has already written of its turn: forced words, or its own critique.
        sampling: How to write. Ignored with a readout.
        readout: What to read instead of writing, or None.
        sample_index: Which of K draws this is; draw 0 is the first.
    """

    body: tuple[Segment, ...]
    wrapper: Wrapper
    prefill: tuple[Segment, ...] = ()
    sampling: Sampling = Sampling()
    readout: ContinuationQuery | None = None
    sample_index: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens spent, by the engine's own count.

    `cached_tokens` of the prompt tokens were served from a prefix cache. `n_requests` counts engine
    requests (a reading that follows branches may need several).
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
class EngineStats:
    """Where an engine's answers came from so far.

    Attributes:
        n_cached: Answers from a cache.
        n_asked: Answers that a model was asked for.
        usage: What the model spent on them.
    """

    n_cached: int = 0
    n_asked: int = 0
    usage: Usage = Usage()

    @property
    def cached_share(self) -> float | None:
        """Share of the answers that came from a cache, in [0, 1]; None before the first answer."""
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
    """One continuation as the engine read it.

    Attributes:
        text: The continuation.
        path_logprob: log P(its tokens), at most 0; -inf where none of it was seen.
        end_logprob: log P(a terminator | its tokens), at most 0; -inf where it was not followed, 0 where
            it was taken for granted.
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
    """What an engine read at one place.

    Attributes:
        paths: One for each continuation asked for, in that order.
        unread_prob: Upper bound, in [0, 1], of the verdict mass that was not read: branches not
            followed, or tokens that the endpoint did not list.
    """

    paths: tuple[ContinuationLogprob, ...]
    unread_prob: float = 0.0

    @property
    def probs(self) -> list[float]:
        """P(each continuation, then a terminator), in [0, 1], in the same order."""
        return [path.prob for path in self.paths]

    @property
    def holds_nan(self) -> bool:
        """Whether a number in it is none, which a broken model or adapter gives."""
        return math.isnan(sum(self.probs)) or math.isnan(self.unread_prob)


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeOutput:
    """What an engine gives back for one input.

    Attributes:
        text: What the judge wrote after the prefill; empty for a reading. Thinking marks are in it, also one
            that the chat template had opened.
        finish_reason: Why it ended.
        usage: Tokens spent.
        reading: The reading asked for. None for text, and for endpoints that cannot read.
        thinking: The reasoning part, if a server returns it separately.
    """

    text: str
    finish_reason: FinishReason
    usage: Usage = Usage()
    reading: ContinuationLogprobs | None = None
    thinking: str | None = None
