# SPDX-License-Identifier: Apache-2.0
"""Training data: read rows, split by prompt, tokenize with a loss mask.

The prompts of excluded files and the held-out prompts are kept out of training here.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autoj_reward.engines.logprobs.tokenizer import InjectionSafeTokenizer
from autoj_reward.errors import ConfigError, DataError
from autoj_reward.judge.messages.text import completion_text, prompt_text
from autoj_reward.judge.parse import Stated, find_verdict
from autoj_reward.judge.presets import load_spec
from autoj_reward.judge.spec import JudgeSpec, JudgingTask
from autoj_reward.judge.template import Template
from autoj_reward.judge.verdict import VerdictSet
from autoj_reward.judgments import Preference, Verdict
from autoj_reward.rows.source import read_rows
from autoj_reward.training.config import DataFile, TrainConfig
from autoj_reward.types import JudgeInput, Segment

IGNORED = -100
"""Label of a token that carries no loss."""

_PROMPT_FIELDS = ("prompt", "question", "instruction", "source")


@dataclass(frozen=True, slots=True, kw_only=True)
class RatedRow:
    """A completion with its rating and critique. `origin` is file:line."""

    prompt: str
    completion: str
    rating: float
    critique: str
    origin: str
    translation: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairRow:
    """Two completions and which one people, or another judge, preferred. `origin` is file:line."""

    prompt: str
    first: str
    second: str
    preference: Preference
    origin: str
    critique: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Rows of one side of the split."""

    rated: tuple[RatedRow, ...]
    pairs: tuple[PairRow, ...]

    def labelled(self, spec: JudgeSpec) -> Iterator[dict[str, Any]]:
        """Its rows as `autoj-reward calibrate`, `rate` and `compare` read them, labels included.

        Args:
            spec: The judge, on whose scale ratings are given, as in training.
        """
        for rated in self.rated if spec.rating is not None else ():
            rating = on_scale(rated.rating, spec.task_for(1).verdicts)
            yield {"prompt": rated.prompt, "completion": rated.completion, "rating": rating}
        for pair in self.pairs:
            yield {
                "prompt": pair.prompt,
                "first": pair.first,
                "second": pair.second,
                "preference": pair.preference,
            }

    @property
    def prompts(self) -> frozenset[str]:
        """Their prompts, as keys."""
        rows: tuple[RatedRow | PairRow, ...] = (*self.rated, *self.pairs)
        return frozenset(prompt_key(r.prompt) for r in rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """All rows, split by prompt.

    Attributes:
        train: For training.
        held_out: For measures and calibration.
        dropped: How many rows were left out, by reason.
    """

    train: Part
    held_out: Part
    dropped: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One training example.

    Attributes:
        prompt: The prompt.
        completions: One (rating) or two (comparison).
        verdict: The right verdict.
        critique: The judge's whole output, verdict included; empty for a direct example, where the words
            before the verdict are given.
        kind: Which kind of example, for logs.
        origin: Where it came from.
        unit: Examples of one unit follow each other, in one step if its size allows, so that the model learns
            from their difference. Empty for a single one.
    """

    prompt: str
    completions: tuple[str, ...]
    verdict: Verdict
    kind: str
    origin: str
    critique: str = ""
    unit: str = ""


def prompt_key(prompt: str) -> str:
    """The prompt without differences of case and blanks, for comparing prompts."""
    return " ".join(prompt.casefold().split())


def load_corpus(config: TrainConfig) -> Corpus:
    """Read the files, leave out the excluded prompts, and split the rest by prompt.

    A hash of the prompt and the seed decides its side, so all rows of a prompt are on the same side.

    Raises:
        DataError: A file or row is wrong.
    """
    excluded = {key for path in config.exclude for key in prompts_of(path)}
    dropped: Counter[str] = Counter()
    sides: dict[bool, tuple[list[RatedRow], list[PairRow]]] = {False: ([], []), True: ([], [])}
    for row in (r for file in config.files for r in _read_file(file)):
        key = prompt_key(row.prompt)
        texts = (row.completion,) if isinstance(row, RatedRow) else (row.first, row.second)
        if key in excluded or not all(t.strip() for t in texts):
            dropped["excluded prompt" if key in excluded else "empty completion"] += 1
            continue
        rated, pairs = sides[is_held_out(row.prompt, share=config.held_out, seed=config.seed)]
        if isinstance(row, RatedRow):
            rated.append(row)
        else:
            pairs.append(row)
    parts = {side: Part(rated=tuple(rated), pairs=tuple(pairs)) for side, (rated, pairs) in sides.items()}
    return Corpus(train=parts[False], held_out=parts[True], dropped=dropped)


def is_held_out(prompt: str, *, share: float, seed: int) -> bool:
    """Whether a prompt belongs to the held-out part."""
    digest = hashlib.sha256(f"{seed}\0{prompt_key(prompt)}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8]) / 2**64 < share


def prompts_of(path: str) -> frozenset[str]:
    """Keys of all prompts of a file.

    Raises:
        DataError: A row has no prompt.
    """
    keys = set()
    for n, row in read_rows(path):
        prompt = next((row[f] for f in _PROMPT_FIELDS if isinstance(row.get(f), str | list | dict)), None)
        if prompt is None:
            raise DataError(f"no prompt: none of {', '.join(_PROMPT_FIELDS)}", path=path, line=n)
        try:
            keys.add(prompt_key(prompt_text(prompt)))
        except ConfigError as error:
            raise DataError(str(error), path=path, line=n) from None
    return frozenset(keys)


def _read_file(file: DataFile) -> Iterator[RatedRow | PairRow]:
    if file.kind == "pairs":
        yield from _read_pairs(file.path)
        return
    spec = load_spec("autoj-13b")
    task = spec.rating if file.kind == "auto-j-ratings" else spec.comparison
    assert task is not None  # the preset has both
    translations = _translations(file)
    for n, row in read_rows(file.path):
        message = row.get("usrmsg", row.get("usermsg"))
        target = row.get("target_output")
        if not isinstance(message, str) or not isinstance(target, str):
            raise DataError("usrmsg (or usermsg) and target_output are needed", path=file.path, line=n)
        values = unfill(task.template, message)
        if values is None:
            raise DataError(
                "usrmsg does not follow Auto-J's template", path=file.path, line=n, field="usrmsg"
            )
        stated = find_verdict(target, "stop", task.verdicts)
        if not isinstance(stated, Stated):
            raise DataError(stated.detail, path=file.path, line=n, field="target_output")
        origin = f"{Path(file.path).name}:{n}"
        if file.kind == "auto-j-ratings":
            yield RatedRow(
                prompt=values["prompt"],
                completion=values["completion"],
                rating=float(stated.verdict),
                critique=target.strip(),
                origin=origin,
                translation=translations.get(n, ""),
            )
        else:
            yield PairRow(
                prompt=values["prompt"],
                first=values["first"],
                second=values["second"],
                preference=stated.verdict,  # type: ignore[arg-type]
                origin=origin,
                critique=target.strip(),
            )


def _translations(file: DataFile) -> dict[int, str]:
    """Completions of the same rows in another language, by line."""
    if not file.translations:
        return {}
    task = load_spec(file.translations_judge).rating
    if task is None:
        raise ConfigError(f"judge {file.translations_judge!r} does not rate")
    found = {}
    for n, row in read_rows(file.translations):
        values = unfill(task.template, str(row.get("usrmsg", row.get("usermsg", ""))))
        if values is not None:
            found[n] = values["completion"]
    return found


def _read_pairs(path: str) -> Iterator[PairRow]:
    preferences: dict[Any, Preference] = {0: "first", 1: "second", 2: "tie"}
    for n, row in read_rows(path):
        names = ("prompt", "response_a", "response_b")
        if not all(name in row for name in names) or row.get("label") not in preferences:
            raise DataError(
                "prompt, response_a, response_b and label (0, 1 or 2) are needed", path=path, line=n
            )
        prompt, first, second = (_shown(row, name, path, n) for name in names)
        yield PairRow(
            prompt=prompt,
            first=first,
            second=second,
            preference=preferences[row["label"]],
            origin=f"{Path(path).name}:{n}",
        )


def _shown(row: dict[str, Any], name: str, path: str, line: int) -> str:
    """A prompt or completion in the form that a judge is shown."""
    try:
        return prompt_text(row[name]) if name == "prompt" else completion_text(row[name])
    except ConfigError as error:
        raise DataError(str(error), path=path, line=line, field=name) from None


def unfill(template: Template, text: str) -> dict[str, str] | None:
    """The values that a template was filled with; None if the text does not follow it.

    Each literal is searched from the left, the last one from the right, because completions may quote the
    template.
    """
    marks = {name: f"\0{name}\0" for name in template.required}
    joined = "".join(s.text for s in template.fill(marks))
    first, *rest = joined.split("\0")
    names, literals = rest[::2], rest[1::2]
    if not text.startswith(first):
        return None
    values: dict[str, str] = {}
    position = len(first)
    for name, literal in zip(names[:-1], literals[:-1], strict=True):
        end = text.find(literal, position)
        if end < 0:
            return None
        values[name] = text[position:end]
        position = end + len(literal)
    # Trailing blanks were stripped from some published rows.
    last = literals[-1].rstrip()
    end = len(text.rstrip()) - len(last) if last else len(text)
    if end < position or not text.startswith(last, end):
        return None
    return {**values, names[-1]: text[position:end]}


def encode(
    examples: Sequence[Example], spec: JudgeSpec, tokenizer: InjectionSafeTokenizer
) -> list[dict[str, list[int]]]:
    """Tokens of examples, in the form in which the judge reads and writes them.

    A direct example is the judge's input with the forced prefix; the loss is on the verdict, its terminator
    and the end of the turn. In a critique example it is on everything that the judge writes.

    Returns:
        `input_ids` and `labels` of equal length; labels are `IGNORED` on the input.
    """
    # Of several tokens that end a turn, the one that the chat template writes.
    end = tokenizer.turn_end_ids[:1] if tokenizer.hf.eos_token_id is None else (tokenizer.hf.eos_token_id,)
    given = tokenizer.encode_inputs([_input_of(e, spec) for e in examples])
    # Encoded separately, because the judge writes after the input's last token: no merge crosses it.
    written = tokenizer.encode_rows([[Segment(e.critique)] for e in examples])
    encoded = []
    for example, before, critique in zip(examples, given, written, strict=True):
        task = spec.task_for(len(example.completions))
        prefix = task.verdicts.verdict_prefix
        ids = critique or tokenizer.continuation_ids(prefix, closed(example.verdict, task))
        target = [*ids, *end]
        encoded.append({"input_ids": before + target, "labels": [IGNORED] * len(before) + target})
    return encoded


def _input_of(example: Example, spec: JudgeSpec) -> JudgeInput:
    """The judge's input, which for a direct example includes the words before the verdict."""
    task = spec.task_for(len(example.completions))
    names = ("completion",) if len(example.completions) == 1 else ("first", "second")
    body = task.template.fill(
        {"prompt": example.prompt, **dict(zip(names, example.completions, strict=True))}
    )
    if example.critique:
        return JudgeInput(body=body, wrapper=spec.wrapper)
    prefix = (Segment(task.verdicts.verdict_prefix, True),)
    return JudgeInput(body=body, wrapper=spec.direct_wrapper, prefill=prefix)


def closed(verdict: Verdict, task: JudgingTask) -> str:
    """A verdict as it is written after the prefix, with what closes it; ratings as in `on_scale`."""
    verdicts = task.verdicts
    own = verdict if isinstance(verdict, str) else on_scale(verdict, verdicts)
    text = verdicts.text_of(own)
    return text if verdicts.end_of_turn else text + verdicts.closing


def on_scale(rating: float, verdicts: VerdictSet) -> float:
    """A rating of 1 to 10, as Auto-J gives them, as the nearest one on the judge's own scale."""
    own = [v for v in verdicts.verdicts if not isinstance(v, str)]
    low, high = min(own), max(own)
    wanted = low + (rating - 1.0) / 9.0 * (high - low)
    return min(own, key=lambda v: abs(v - wanted))
