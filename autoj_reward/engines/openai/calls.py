# SPDX-License-Identifier: Apache-2.0
"""Translate a judge input into HTTP requests, and the responses into an output."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar

from autoj_reward.engines.logprobs.token_tree import NodeLogprobs, TokenPath, TokenTree
from autoj_reward.engines.logprobs.tokenizer import InjectionSafeTokenizer
from autoj_reward.engines.logprobs.tree_reader import NodeRequest, TreeReader
from autoj_reward.engines.openai.connection import EndpointRejected, MalformedResponse
from autoj_reward.engines.openai.errors import refusal
from autoj_reward.engines.openai.event_loop import together
from autoj_reward.engines.openai.identity import check_said
from autoj_reward.engines.openai.messages import TextReader, messages, prompt_text, verdict_messages
from autoj_reward.engines.openai.probe import Capabilities
from autoj_reward.engines.openai.responses import (
    Answer,
    Step,
    by_id,
    finish_of,
    read_chat,
    read_completion,
    token_names,
    top_node_reading,
)
from autoj_reward.engines.openai.transport import GaveUp, Transport
from autoj_reward.errors import EngineRejected
from autoj_reward.types import (
    ChatWrapper,
    ContinuationQuery,
    Failure,
    FailureReason,
    FinishReason,
    JudgeInput,
    JudgeOutput,
    PlainWrapper,
    Sampling,
    Usage,
)

T = TypeVar("T")
Route = Literal["ids", "text", "chat"]
"""ids: token ids to completions; text: text to completions; chat: messages to chat."""

_VERDICT_TOKENS = 24
"""Most tokens of a verdict that is generated after the forced words."""


@dataclass(frozen=True, slots=True)
class ServerCalls:
    """Answer single inputs; safe to call concurrently.

    Attributes:
        transport: Sends the requests.
        known: Capabilities of the endpoints.
        tokenizer: The model's tokenizer, or None.
    """

    transport: Transport
    known: Capabilities
    tokenizer: InjectionSafeTokenizer | None
    _names: dict[ContinuationQuery, dict[str, int]] = field(default_factory=dict)

    def route(self, item: JudgeInput) -> Route:
        """The API and the form of the prompt to use for an input.

        Raises:
            EngineRejected: The endpoint supports none that fits.
        """
        known = self.known
        if self.tokenizer is not None and known.token_prompts:
            return "ids"
        if known.completions and isinstance(item.wrapper, PlainWrapper):
            return "text"
        if known.chat:
            return "chat"
        raise EngineRejected(
            "the judge needs the model's chat template, and the endpoint offers completions only",
            hint="give the model's tokenizer (tokenizer=FOLDER), or allow api='chat'",
        )

    async def answer(
        self, item: JudgeInput, ids: list[int] | None, tree: TokenTree | None
    ) -> JudgeOutput | Failure:
        """Answer an input; `ids` and `tree` (of its readout) are for the route `ids`.

        Raises:
            EngineError: The endpoints cannot be used at all.
        """
        try:
            if ids is not None and tree is not None:
                if self.known.most_listed:
                    return await self._read_listed(ids, tree)
                return await self._read_top(ids, tree)
            if item.readout is not None:
                return await self._read_text(item, item.readout)
            return await self._write(item, ids)
        except EndpointRejected as error:
            n_chars = sum(len(segment.text) for segment in (*item.body, *item.prefill))
            return refusal(error, n_chars, self.known.context_tokens)
        except GaveUp as error:
            return Failure(reason=FailureReason.ENGINE, detail=str(error))

    async def _complete(self, read: Callable[[Answer], T], **fields: Any) -> T:
        return await self._ask("/completions", fields, lambda answer: read(read_completion(answer)))

    async def _ask(self, path: str, fields: dict[str, Any], read: Callable[[Any], T]) -> T:
        def checked(answer: Any) -> T:
            value = read(answer)
            check_said(self.known, answer)
            return value

        return await self.transport.ask(path, {"model": self.known.model, **fields}, checked)

    async def _chat(self, read: Callable[[Answer], T], item: JudgeInput, **fields: Any) -> T:
        if (limit := fields.pop("max_tokens", None)) is not None:
            fields[self.known.limit_name] = limit
        if isinstance(item.wrapper, ChatWrapper) and item.wrapper.arguments:
            if not self.known.extras:
                raise EngineRejected(
                    f"the judge sets {dict(item.wrapper.arguments)} for the chat template, and the endpoint "
                    "does not accept chat_template_kwargs",
                    hint="remove [wrapper] arguments from the judge, or use vLLM or SGLang",
                )
            fields["chat_template_kwargs"] = dict(item.wrapper.arguments)
        if fields["messages"][-1]["role"] == "assistant" and self.known.kind != "llamacpp":
            fields |= {"continue_final_message": True, "add_generation_prompt": False}
        return await self._ask("/chat/completions", fields, lambda answer: read(read_chat(answer)))

    async def _read_listed(self, ids: list[int], tree: TokenTree) -> JudgeOutput:
        """Read the verdicts exactly, from log-probabilities of chosen ids."""
        reader = TreeReader(tree, self.known.most_listed)
        usage = Usage()
        while due := reader.requests():
            answers = await together([self._node(ids, request) for request in due])
            for request, (tokens, steps, spent) in zip(due, answers, strict=True):
                reader.add(request, tokens, steps)
                usage += spent
        return JudgeOutput(text="", finish_reason="read", reading=reader.reading(), usage=usage)

    async def _node(
        self, ids: list[int], request: NodeRequest
    ) -> tuple[list[int], list[dict[int, float]], Usage]:
        wanted = set(request.listed)

        def read(answer: Answer) -> tuple[list[int], list[dict[int, float]], Usage]:
            steps = [by_id(step, {}) for step in answer.steps]
            tokens = [step.chosen.id for step in answer.steps]
            if not 1 <= len(steps) <= request.n_steps or not all(wanted <= step.keys() for step in steps):
                raise MalformedResponse("log-probabilities of requested ids are missing")
            return [t for t in tokens if t is not None], steps, answer.usage

        optional = {"allowed_token_ids": list(request.allowed)} if request.n_steps > 1 else {}
        return await self._complete(
            read,
            prompt=[*ids, *request.node],
            max_tokens=request.n_steps,
            **self._greedy(read=True),
            logprobs=1,
            logprob_token_ids=list(request.listed),
            return_tokens_as_token_ids=True,
            ignore_eos=True,
            **optional,
        )

    async def _read_top(self, ids: list[int], tree: TokenTree) -> JudgeOutput:
        """Read the verdicts from each node's most probable tokens, with a bound for unlisted ones."""
        if not self.known.top:
            return await self._written_verdict(ids)
        readings: dict[TokenPath, NodeLogprobs] = {}
        usage = Usage()
        names = self._names_of(tree)
        while due := tree.followed(readings):
            answers = await together([self._top(prompt=[*ids, *node]) for node in due])
            for node, (step, spent) in zip(due, answers, strict=True):
                readings[node] = top_node_reading(tree, node, step, names)
                usage += spent
        return JudgeOutput(text="", finish_reason="read", reading=tree.read(readings), usage=usage)

    def _names_of(self, tree: TokenTree) -> dict[str, int]:
        if tree.readout not in self._names:
            assert self.tokenizer is not None
            wanted = {i for node in tree.nodes for i in tree.wanted(node)}
            self._names[tree.readout] = token_names(self.tokenizer, sorted(wanted))
        return self._names[tree.readout]

    async def _top(self, *, prompt: list[int] | str) -> tuple[Step, Usage]:
        return await self._complete(
            _first_step, prompt=prompt, max_tokens=1, logprobs=self.known.top, **self._greedy(read=True)
        )

    async def _chat_top(self, item: JudgeInput, written: str) -> tuple[Step, Usage]:
        return await self._chat(
            _first_step,
            item,
            messages=messages(item, written),
            max_tokens=1,
            logprobs=True,
            top_logprobs=self.known.chat_top,
            **self._greedy(read=True),
        )

    async def _read_text(self, item: JudgeInput, readout: ContinuationQuery) -> JudgeOutput:
        """Read the verdicts by text, or generate one if the endpoint shows no probabilities."""
        text = self.route(item) == "text"
        if not (self.known.top if text else self.known.chat_top and self.known.prefix):
            after_critique = any(not segment.trusted for segment in item.prefill)
            forced = bool(item.prefill) and item.prefill[-1].trusted
            if after_critique and not (forced and (text or self.known.prefix)):
                # The critique gives the point distribution. Forced words after it would need an endpoint that
                # continues an unfinished turn.
                return JudgeOutput(text="", finish_reason="read")
            if text:
                return await self._written_verdict(prompt_text(item))
            return await self._chat_verdict(item, readout)
        reader, usage = TextReader(readout), Usage()
        while due := reader.nodes():
            answers = await together(
                [self._top(prompt=prompt_text(item, n)) if text else self._chat_top(item, n) for n in due]
            )
            for node, (step, spent) in zip(due, answers, strict=True):
                reader.add(node, step)
                usage += spent
        return JudgeOutput(text="", finish_reason="read", reading=reader.reading(), usage=usage)

    async def _written_verdict(self, prompt: list[int] | str) -> JudgeOutput:
        """Generate the verdict after the forced words."""
        return await self._complete(
            _output, prompt=prompt, max_tokens=_VERDICT_TOKENS, stop=["\n"], **self._greedy(read=False)
        )

    async def _chat_verdict(self, item: JudgeInput, readout: ContinuationQuery) -> JudgeOutput:
        """Generate the verdict with chat, after the forced words if the endpoint continues a turn."""
        if self.known.prefix:
            return await self._chat(
                _output,
                item,
                messages=messages(item),
                max_tokens=_VERDICT_TOKENS,
                stop=["\n"],
                **self._greedy(read=False),
            )

        def read(answer: Answer) -> JudgeOutput:
            output = _output(answer)
            return replace(output, text=output.text.lstrip().removeprefix(readout.verdict_prefix))

        # A reasoning model thinks first, so it gets the judge's token limit.
        return await self._chat(
            read,
            item,
            messages=verdict_messages(item, readout),
            max_tokens=item.sampling.max_new_tokens,
            **self._greedy(read=False),
        )

    async def _write(self, item: JudgeInput, ids: list[int] | None) -> JudgeOutput | Failure:
        fields = self._writing_fields(item.sampling, item.sample_index)

        def written(answer: Answer) -> JudgeOutput:
            return _output(answer, item.sampling.max_new_tokens)

        if ids is not None:
            return await self._complete(
                lambda answer: self._decoded(answer, ids, item.sampling), prompt=ids, **fields
            )
        if self.route(item) == "text":
            return await self._complete(written, prompt=prompt_text(item), **fields)
        if item.prefill and not self.known.prefix:
            raise EngineRejected(
                "a thinking budget needs an endpoint that continues an unfinished assistant turn",
                hint="remove [thinking] budget_tokens from the judge, or use vLLM, SGLang or llama.cpp",
            )
        return await self._chat(written, item, messages=messages(item), **fields)

    def _greedy(self, *, read: bool) -> dict[str, float]:
        """The temperature field for greedy decoding.

        With `read`, only listed probabilities matter, which the endpoint's default temperature of 1 leaves
        unchanged.

        Raises:
            EngineRejected: The endpoint always samples.
        """
        least = self.known.least_temperature
        if least is not None:
            return {"temperature": least}
        if read:
            return {}
        raise EngineRejected(
            "the endpoint accepts no temperature near 0, so its text is always sampled",
            hint="--temperature 1 for critiques; for direct verdicts, an endpoint with log-probabilities",
        )

    def _writing_fields(self, sampling: Sampling, draw: int) -> dict[str, Any]:
        drawn = sampling.temperature > 0
        at = {"temperature": sampling.temperature} if drawn else self._greedy(read=False)
        if drawn and self.known.least_temperature is None and sampling.temperature == 1.0:
            # The endpoint's default; it refuses the field.
            at = {}
        fields: dict[str, Any] = {"max_tokens": sampling.max_new_tokens, **at}
        if self.known.extras or (drawn and sampling.top_p < 1.0):
            fields["top_p"] = sampling.top_p if drawn else 1.0
        if self.known.extras:
            # Override the checkpoint's sampling defaults, which servers apply.
            fields["top_k"] = sampling.top_k if drawn and sampling.top_k else -1
            fields["min_p"] = 0.0
            fields["repetition_penalty"] = sampling.repetition_penalty
            if self.known.kind == "llamacpp":
                # llama.cpp's name; it ignores the other.
                fields["repeat_penalty"] = sampling.repetition_penalty
        elif sampling.repetition_penalty != 1.0 or (drawn and sampling.top_k):
            raise EngineRejected(
                "the judge sets top_k or repetition_penalty, and the endpoint accepts neither",
                hint="remove it from the judge's [sampling], or use vLLM, SGLang or llama.cpp",
            )
        stop = list(sampling.stop)
        if self.tokenizer is not None:
            # The template's end of a turn, which servers do not always know.
            if self.known.extras:
                fields["stop_token_ids"] = list(self.tokenizer.turn_end_ids)
                stop += self.tokenizer.turn_end_texts
            else:
                stop += self.tokenizer.turn_end_names
            if self.known.most_listed:
                fields["return_token_ids"] = True
        if stop:
            # Many servers refuse more than four.
            fields["stop"] = stop[: max(4, len(sampling.stop))]
        if drawn and sampling.seed is not None:
            fields["seed"] = sampling.seed + draw
        return fields

    def _decoded(self, answer: Answer, ids: list[int], sampling: Sampling) -> JudgeOutput | Failure:
        """Decode with the local tokenizer if the server gave token ids, so that all engines decode alike."""
        output = _output(answer, sampling.max_new_tokens)
        if self.tokenizer is None:
            return output
        if answer.token_ids is None:
            return replace(output, text=self.tokenizer.with_opening(ids, output.text))
        text, cut = self.tokenizer.decode_turn(ids, answer.token_ids, sampling.stop)
        finish: FinishReason = "stop" if cut else output.finish_reason
        return JudgeOutput(text=text, finish_reason=finish, usage=output.usage)


def _first_step(answer: Answer) -> tuple[Step, Usage]:
    if not answer.steps or not answer.steps[0].listed:
        raise MalformedResponse("log-probabilities are missing, which the endpoint gave before")
    return answer.steps[0], answer.usage


def _output(answer: Answer, limit: int | None = None) -> JudgeOutput:
    """Generated text as an output; `limit` is the requested number of tokens, or None."""
    finish = finish_of(answer.finish, answer.usage.completion_tokens, limit)
    if finish is None or answer.refusal:
        raise EndpointRejected(200, f"ended with {answer.finish!r}: {answer.refusal or answer.text}"[:500])
    return JudgeOutput(text=answer.text, finish_reason=finish, usage=answer.usage, thinking=answer.thinking)
