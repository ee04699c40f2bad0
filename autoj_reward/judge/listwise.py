# SPDX-License-Identifier: Apache-2.0
"""Rate the completions of one prompt together: lists of them in one call, a verdict for each member.

Requests of one prompt (and rubric, reference, language) are a group. Equal completions are shown once. The
group is put in the order of its members' hashes and cut into lists; a member that is in several lists has
the average of its verdicts. Its failures are its own: one score off the scale leaves the others. If the
settings allow it, the longer completions of a list that does not fit the context are cut to one length.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from autoj_reward.engines import Engine
from autoj_reward.judge.generation import Turn, ask, usage_of, write
from autoj_reward.judge.messages.truncate import MOST_CUTS, truncate_evenly
from autoj_reward.judge.parse import Stated, find_scores, find_verdict
from autoj_reward.judge.requests import PreparedRequest
from autoj_reward.judge.samples import WITHOUT_VERDICT, MeteredSample, overflow_tokens, read_sample
from autoj_reward.judge.settings import JudgeSettings
from autoj_reward.judge.spec import JudgeSpec, JudgingTask
from autoj_reward.judge.verdict import VerdictSet
from autoj_reward.judge.verdicts.lists import order_key
from autoj_reward.judgments import Sample
from autoj_reward.types import Failure, JudgeInput, Segment, Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class _List:
    """One call: its input, and the requests of each completion that it shows.

    `context` holds the template's other fields, `texts` the completions as they are shown, and `cut_chars`
    the characters cut from each.
    """

    members: tuple[tuple[int, ...], ...]
    task: JudgingTask
    item: JudgeInput
    context: Mapping[str, str]
    texts: Sequence[str]
    cut_chars: Sequence[int]

    @property
    def is_choice(self) -> bool:
        """Whether the verdict names the best member."""
        return self.task.listing is not None and self.task.listing.best

    @property
    def leads(self) -> list[str]:
        """The words before each verdict that is read."""
        assert self.task.listing is not None
        n = 1 if self.is_choice else len(self.members)
        return self.task.listing.leads(self.task.verdicts, n)

    @property
    def verdicts(self) -> VerdictSet:
        """What is read at each place: a score, or which member is the best."""
        assert self.task.listing is not None
        own = self.task.verdicts
        return self.task.listing.choice(own, len(self.members)) if self.is_choice else own

    def truncated(self, overflow: int) -> _List:
        """The list with its longer completions cut by this many tokens together."""
        assert self.task.listing is not None
        texts, cut_chars = truncate_evenly(self.texts, overflow, self.cut_chars)
        shown: dict[str, str | tuple[Segment, ...]] = {
            **self.context,
            "completions": self.task.listing.body(texts),
        }
        return replace(
            self,
            item=replace(self.item, body=self.task.template.fill(shown)),
            texts=texts,
            cut_chars=cut_chars,
        )


def judge_lists(
    requests: Sequence[PreparedRequest], spec: JudgeSpec, settings: JudgeSettings, engine: Engine
) -> list[list[MeteredSample]]:
    """All samples of every request. A list's tokens are counted once, on its first member."""
    lists = _lists(requests, spec, settings)
    read = _read_directly if settings.mode == "direct" else _read_critiques
    results = read(lists, spec, settings, engine)
    for _ in range(MOST_CUTS if settings.overlong == "truncate" else 0):
        overlong = {i: tokens for i, (found, _) in enumerate(results) if (tokens := overflow_tokens(found))}
        if not overlong:
            break
        for i, tokens in overlong.items():
            lists[i] = lists[i].truncated(tokens)
        for i, result in zip(
            overlong, read([lists[i] for i in overlong], spec, settings, engine), strict=True
        ):
            results[i] = result
    samples: list[list[MeteredSample]] = [[] for _ in requests]
    for one, (found, usage) in zip(lists, results, strict=True):
        by_member = _shares(found[0], one) if one.is_choice else found
        spent = usage
        for same, sample, cut in zip(one.members, by_member, one.cut_chars, strict=True):
            for request in same:
                samples[request].append(MeteredSample(sample, spent, cut))
                spent = Usage()
    return samples


def _lists(requests: Sequence[PreparedRequest], spec: JudgeSpec, settings: JudgeSettings) -> list[_List]:
    groups: dict[tuple[object, ...], dict[str, list[int]]] = {}
    for i, prepared in enumerate(requests):
        key = (*sorted(prepared.context().items()), prepared.language)
        groups.setdefault(key, {}).setdefault(str(prepared.request.completions[0]), []).append(i)
    wrapper = spec.direct_wrapper if settings.mode == "direct" else spec.wrapper
    lists: list[_List] = []
    for group in groups.values():
        shared = requests[next(iter(group.values()))[0]]
        layout, context = shared.task.listing, shared.context()
        assert layout is not None
        texts = sorted(group, key=lambda text, prompt=context["prompt"]: order_key(prompt, text))  # type: ignore[misc]
        for window in layout.windows(len(texts)):
            own = [texts[n] for n in window]
            body = shared.task.template.fill(context | {"completions": layout.body(own)})
            lists += [
                _List(
                    members=tuple(tuple(group[text]) for text in own),
                    task=shared.task,
                    item=JudgeInput(body=body, wrapper=wrapper, sampling=settings.sampling, sample_index=k),
                    context=context,
                    texts=own,
                    cut_chars=[0] * len(own),
                )
                for k in range(settings.n_samples)
            ]
    return lists


def _read_directly(
    lists: Sequence[_List], spec: JudgeSpec, settings: JudgeSettings, engine: Engine
) -> list[tuple[list[Sample], Usage]]:
    empty = (Segment(spec.thinking.empty_block, True),) if spec.thinking and spec.thinking.empty_block else ()
    starts = {i: (*empty, Segment(one.leads[0], True)) for i, one in enumerate(lists)}
    samples = {i: [Sample() for _ in one.leads] for i, one in enumerate(lists)}
    usages = _read_in_turn(lists, starts, samples, settings, engine)
    return [(samples[i], usages[i]) for i in range(len(lists))]


def _read_critiques(
    lists: Sequence[_List], spec: JudgeSpec, settings: JudgeSettings, engine: Engine
) -> list[tuple[list[Sample], Usage]]:
    """Let the judge write, then read each score at its place, or all in turn where they are forced."""
    turns = write([one.item for one in lists], engine, spec.thinking)
    samples: dict[int, list[Sample]] = {}
    places: dict[tuple[int, int], JudgeInput] = {}
    forced: dict[int, tuple[Segment, ...]] = {}
    for i, (one, turn) in enumerate(zip(lists, turns, strict=True)):
        found = _stated(turn, one)
        lost = all(isinstance(s, Failure) and s.reason in WITHOUT_VERDICT for s in found)
        if settings.rules.force_verdict and turn.failure is None and lost:
            forced[i] = turn.closed_with(one.leads[0])
        samples[i] = [_written(turn, stated) for stated in found]
        for k, stated in enumerate(found):
            if isinstance(stated, Stated):
                places[i, k] = _asked(one, k, turn.up_to(stated.start), settings)
    usages = [turn.usage for turn in turns]
    for (i, k), answer in zip(places, ask(engine, list(places.values())), strict=True):
        usages[i] += usage_of(answer)
        samples[i][k] = read_sample(answer, samples[i][k], lists[i].verdicts, settings.rules)
    closed = {i: [replace(s, failure=None) for s in samples[i]] for i in forced}
    for i, usage in _read_in_turn(lists, forced, closed, settings, engine).items():
        usages[i] += usage
        samples[i] = [
            replace(read, forced=True) if read.distribution is not None else was
            for read, was in zip(closed[i], samples[i], strict=True)
        ]
    return [(samples[i], usages[i]) for i in range(len(lists))]


def _stated(turn: Turn, one: _List) -> list[Stated | Failure]:
    """What the turn states for each verdict; one failure for all where none is found."""
    if turn.failure is not None:
        found: Stated | list[Stated | Failure] | Failure = turn.failure
    elif one.verdicts.scores is None:
        found = find_verdict(turn.critique, turn.finish_reason, one.verdicts)
    else:
        found = find_scores(turn.critique, turn.finish_reason, one.verdicts, one.leads)
    return found if isinstance(found, list) else [found] * len(one.leads)


def _written(turn: Turn, stated: Stated | Failure) -> Sample:
    return Sample(
        critique=turn.critique,
        thinking=turn.thinking,
        stated=None if isinstance(stated, Failure) else stated.verdict,
        failure=stated if isinstance(stated, Failure) else None,
        finish_reason=turn.finish_reason,
    )


def _read_in_turn(
    lists: Sequence[_List],
    starts: Mapping[int, tuple[Segment, ...]],
    samples: dict[int, list[Sample]],
    settings: JudgeSettings,
    engine: Engine,
) -> dict[int, Usage]:
    """Read each list's verdicts one after the other, the most probable one of each written before the next.

    Args:
        lists: The lists.
        starts: By list what the judge has written up to its first verdict.
        samples: By list a sample for each verdict; distributions and failures are put in.
        settings: How verdicts are read.
        engine: Reads them.

    Returns:
        By list the tokens spent.
    """
    usages = dict.fromkeys(starts, Usage())
    prefills = dict(starts)
    for k in range(max((len(lists[i].leads) for i in starts), default=0)):
        asked = {i: _asked(lists[i], k, prefills[i], settings) for i in prefills if k < len(lists[i].leads)}
        for i, answer in zip(asked, ask(engine, list(asked.values())), strict=True):
            one = lists[i]
            usages[i] += usage_of(answer)
            if isinstance(answer, Failure):
                samples[i][k:] = [replace(s, failure=answer) for s in samples[i][k:]]
                del prefills[i]
            elif answer.reading is None:
                # An endpoint that cannot read wrote on, all verdicts at once.
                turn = Turn(critique=one.leads[0] + answer.text, finish_reason=answer.finish_reason)
                samples[i] = [
                    _point(was, s, one) for was, s in zip(samples[i], _stated(turn, one), strict=True)
                ]
                del prefills[i]
            else:
                samples[i][k] = read_sample(answer, samples[i][k], one.verdicts, settings.rules)
                written = max(answer.reading.paths, key=lambda path: path.prob).text
                prefills[i] = (*prefills[i], Segment(written + "".join(one.leads[k + 1 : k + 2]), True))
    return usages


def _asked(one: _List, k: int, prefill: tuple[Segment, ...], settings: JudgeSettings) -> JudgeInput:
    """The input that reads a list's verdict k."""
    own = replace(one.verdicts, verdict_prefix=one.leads[k])
    return replace(one.item, prefill=prefill, readout=own.readout(follow_above=settings.rules.follow_above))


def _point(sample: Sample, stated: Stated | Failure, one: _List) -> Sample:
    if isinstance(stated, Failure):
        return replace(sample, failure=stated)
    return replace(sample, distribution=one.verdicts.point(stated.verdict))


def _shares(choice: Sample, one: _List) -> list[Sample]:
    """The choice of the best as a sample for each member: its probability of being the best."""
    read, n = choice.distribution, len(one.members)
    return [
        replace(
            choice,
            stated=None if choice.stated is None else float(choice.stated == place),
            distribution=None
            if read is None
            else replace(read, verdicts=(0.0, 1.0), probs=(1.0 - read.probs[place], read.probs[place])),
        )
        for place in range(n)
    ]
