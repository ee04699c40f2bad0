# SPDX-License-Identifier: Apache-2.0
"""Parse a judge's TOML file: model, wrapper, template, verdict set, sampling."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any

from autoj_reward.engines.checkpoint.memory import Architecture
from autoj_reward.errors import ConfigError, TemplateError
from autoj_reward.judge.added_prompts import added_prompt
from autoj_reward.judge.template import Template
from autoj_reward.judge.verdict import VerdictSet
from autoj_reward.judge.verdicts.lists import ListLayout
from autoj_reward.judge.verdicts.settings import comparison_verdicts, list_layout, rating_verdicts
from autoj_reward.judgments import PREFERENCES
from autoj_reward.toml_file import SettingReader
from autoj_reward.types import ChatWrapper, Mode, PlainWrapper, Price, Sampling, Wrapper

OPTIONAL_FIELDS = frozenset({"rubric", "reference"})
_RATING_FIELDS = frozenset({"prompt", "completion"})
_COMPARISON_FIELDS = frozenset({"prompt", "first", "second"})
_LIST_FIELDS = frozenset({"prompt", "completions"})


@dataclass(frozen=True, kw_only=True)
class JudgingTask:
    """One thing a judge can do: rate, or compare.

    Attributes:
        template: How a request is laid out.
        verdicts: What the judge may say; of a list, the verdicts of one completion.
        listing: For judges that rate several completions in one call; else None.
        with_reference: The template of requests with a reference answer, where it is another one.
    """

    template: Template
    verdicts: VerdictSet
    listing: ListLayout | None = None
    with_reference: Template | None = None

    @property
    def fields(self) -> frozenset[str]:
        """The fields that its templates show."""
        return self.template.fields | (
            frozenset() if self.with_reference is None else self.with_reference.fields
        )

    def template_for(self, *, reference: bool) -> Template:
        """The template of requests with a reference answer, or without one."""
        return self.with_reference if reference and self.with_reference is not None else self.template


@dataclass(frozen=True, slots=True, kw_only=True)
class Thinking:
    """How a reasoning model marks its thinking.

    Attributes:
        opens: Mark that begins it.
        closes: Mark that ends it.
        budget_tokens: Most tokens of thinking; then it is closed for the judge and the critique
            begins. None leaves it to the output's own limit.
        opened_by_template: Whether the chat template already opens it. Engines that render the template find
            that out; it matters for servers that are sent messages.
        empty_block: What a direct verdict is given in place of thinking. Where it is left empty, a block that
            the chat template opens is closed, and one that it shows in an answer without thinking is shown.
    """

    opens: str = "<think>"
    closes: str = "</think>"
    budget_tokens: int | None = None
    opened_by_template: bool = False
    empty_block: str = ""


@dataclass(frozen=True, kw_only=True)
class JudgeSpec:
    """Everything about a judge but its engine. Made from TOML by `load_spec`.

    `source` says where the prompt comes from: repository, path and commit. `languages` names what the model
    knows, the main one first. `translations` are judges of the same model with templates and verdicts in
    another of these languages; without them all requests get the same.
    """

    name: str
    model: str
    description: str = ""
    revision: str | None = None
    licence: str = "unknown"
    parameters: str = "unknown"
    context_tokens: int | None = None
    memory_gib: float | None = None
    architecture: Architecture | None = None
    languages: tuple[str, ...] = ("en",)
    translations: Mapping[str, JudgeSpec] = field(default_factory=dict)
    default_mode: Mode = "critique"
    min_mass: float = 0.1
    wrapper: Wrapper = PlainWrapper()
    direct_wrapper: Wrapper = PlainWrapper()
    sampling: Sampling = Sampling()
    source: str = ""
    thinking: Thinking | None = None
    rating: JudgingTask | None = None
    comparison: JudgingTask | None = None
    engine_options: Mapping[str, Any] = field(default_factory=dict)
    price: Price | None = None
    notes: str = ""

    @functools.cached_property
    def fingerprint(self) -> str:
        """Hash of what shapes the judge's input and the reading of its verdict."""

        def facts(p: JudgingTask | None) -> Any:
            if p is None:
                return None
            verdicts = [
                p.verdicts.texts,
                p.verdicts.verdict_prefix,
                p.verdicts.terminators,
                p.verdicts.end_of_turn,
            ]
            if p.verdicts.assume_ends:
                verdicts.append("ends assumed")
            if p.verdicts.temperature != 1.0:
                verdicts.append(p.verdicts.temperature)
            # What the texts of a plain scale and of the three preferences say by themselves is left out.
            plain = tuple(f"{v:g}" for v in p.verdicts.verdicts if not isinstance(v, str))
            if p.verdicts.further or (p.verdicts.texts != plain and p.verdicts.verdicts != PREFERENCES):
                verdicts.append([*p.verdicts.verdicts, *p.verdicts.further])
            verdicts += [p.verdicts.pattern.pattern, p.verdicts.place, list(p.verdicts.stated.items())]
            verdicts += [p.verdicts.scores.pattern] if p.verdicts.scores is not None else []
            verdicts += [repr(p.listing)] if p.listing is not None else []
            verdicts += [p.with_reference.text] if p.with_reference is not None else []
            verdicts += [dict(p.template.defaults)] if p.template.defaults else []
            return [p.template.text, dict(p.template.aliases), dict(p.template.blocks), verdicts]

        parts = [
            repr(self.wrapper),
            repr(self.direct_wrapper),
            repr(self.thinking),
            facts(self.rating),
            facts(self.comparison),
        ]
        if self.translations:
            parts.append({language: spec.fingerprint for language, spec in self.translations.items()})
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]

    def task_for(self, n_completions: int) -> JudgingTask:
        """The task of rating one completion or comparing two.

        Raises:
            ConfigError: The judge cannot do it.
        """
        task = {1: self.rating, 2: self.comparison}.get(n_completions)
        if task is None:
            raise ConfigError(
                f"judge {self.name!r} does not judge {n_completions} completions at once",
                hint="one is rated by [rating] of the judge's file, two are compared by [comparison]",
            )
        return task

    def in_language(self, language: str | None) -> JudgeSpec:
        """The judge for requests in a language; itself for None, for its main one, and without translations.

        Raises:
            TemplateError: It has translations, and none into this language.
        """
        if language is None or language == self.languages[0] or not self.translations:
            return self
        if language not in self.translations:
            known = ", ".join((self.languages[0], *self.translations))
            raise TemplateError(
                f"judge {self.name!r} has no templates in {language!r}", hint=f"it has {known}"
            )
        return self.translations[language]


def parse_spec(source: Mapping[str, Any], *, origin: str, folder: Path | None = None) -> JudgeSpec:
    """A judge from the contents of a TOML file.

    Args:
        source: The parsed TOML, `extends` already applied.
        origin: The file, for messages.
        folder: Where templates named by the file are looked for first; then among the package's own.

    Raises:
        ConfigError: Settings are unknown, missing or of the wrong kind; lists all of them at once.
        TemplateError: A template does not show the right fields.
    """
    reader = SettingReader(dict(source), origin)
    finish = functools.partial(
        reader.finish,
        "the judge's settings are",
        hint="compare with the judges that ship with the package: autoj-reward judges --show NAME",
    )
    try:
        spec = _spec(reader, folder)
    except (ConfigError, TemplateError):
        # If a setting is wrong, this error may be its consequence.
        finish(with_unknown=False)
        raise
    if spec.rating is None and spec.comparison is None:
        reader.problems.append("neither [rating] nor [comparison] is given")
    finish()
    return spec


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` laid on `base`, table by table.

    `key = false` removes what `base` has there, unless that is true or false; an empty table empties it.
    """
    result = dict(base)
    for key, value in over.items():
        below = result.get(key)
        if value is False and below is not None and not isinstance(below, bool):
            del result[key]
            continue
        both_tables = isinstance(value, Mapping) and isinstance(below, Mapping)
        result[key] = merged(below, value) if both_tables and value else value  # type: ignore[arg-type]
    return result


def _spec(reader: SettingReader, folder: Path | None) -> JudgeSpec:
    wrapper_source = reader.table("wrapper")
    thinking = _thinking(reader.table("thinking"))
    wrapper, direct = _wrappers(wrapper_source, folder, thinking)
    return JudgeSpec(
        name=reader.take("name", str, required=True),
        model=reader.take("model", str, required=True),
        description=reader.take("description", str, ""),
        revision=reader.take("revision", str, None),
        licence=reader.take("licence", str, "unknown"),
        parameters=reader.take("parameters", str, "unknown"),
        source=reader.take("source", str, ""),
        context_tokens=reader.whole("context_tokens", least=1),
        memory_gib=reader.take("memory_gib", (int, float), None),
        architecture=_architecture(reader.table("architecture")),
        languages=reader.texts("languages", ("en",)) or ("en",),
        default_mode=reader.take("default_mode", str, "critique", among=("direct", "critique")),
        min_mass=reader.number("min_mass", 0.1, least=0.0, most=1.0),
        notes=reader.take("notes", str, ""),
        engine_options=reader.take("engine_options", dict, {}),
        price=reader.optional("price", Price),
        wrapper=wrapper,
        direct_wrapper=direct,
        sampling=_sampling(reader.table("sampling")),
        thinking=thinking,
        rating=_task(reader.table("rating"), folder, _RATING_FIELDS, rating_verdicts),
        comparison=_task(reader.table("comparison"), folder, _COMPARISON_FIELDS, comparison_verdicts),
    )


def _wrappers(
    source: SettingReader, folder: Path | None, thinking: Thinking | None
) -> tuple[Wrapper, Wrapper]:
    """The wrapper for critiques, and the one for direct verdicts."""
    kind = source.take("kind", str, "chat", among=("chat", "plain"))
    if kind == "plain":
        text = source.take("text", str, None) or read_text(source.take("file", str, required=True), folder)
        before, mark, after = text.partition("{input}")
        if not mark:
            source.problems.append("[wrapper]: the text has no {input}")
        wrapper = PlainWrapper(before=before, after=after)
        return wrapper, wrapper
    arguments = source.take("arguments", dict, {})
    direct = {**arguments, **source.take("direct_arguments", dict, {})}
    chat = ChatWrapper(
        system=source.take("system", str, None),
        arguments=tuple(sorted(arguments.items())),
        thinking=None if thinking is None else (thinking.opens, thinking.closes),
    )
    return chat, replace(chat, arguments=tuple(sorted(direct.items())))


def _sampling(source: SettingReader) -> Sampling:
    default = Sampling()
    return Sampling(
        max_new_tokens=source.whole("max_new_tokens", default.max_new_tokens, least=1),
        temperature=source.number("temperature", default.temperature, least=0.0),
        top_p=source.number("top_p", default.top_p, least=0.0, most=1.0),
        top_k=source.whole("top_k", default.top_k, least=0),
        repetition_penalty=source.number("repetition_penalty", default.repetition_penalty, least=0.0),
        seed=source.take("seed", int, default.seed),
        stop=source.texts("stop", ()),
    )


def _architecture(source: SettingReader) -> Architecture | None:
    if not source.given:
        return None

    return Architecture(
        n_parameters=source.number("billions", 0.0, least=0.0),
        n_layers=source.whole("layers", least=1, required=True),
        n_heads=source.whole("heads", least=1, required=True),
        n_kv_heads=source.whole("kv_heads", least=1, required=True),
        head_size=source.whole("head_size", least=1, required=True),
        inner_size=source.whole("inner_size", least=1, required=True),
        weight_bytes=source.take("weight_bytes", float, None),
    )


def _thinking(source: SettingReader) -> Thinking | None:
    if not source.given:
        return None
    default = Thinking()
    return Thinking(
        opens=source.take("opens", str, default.opens),
        closes=source.take("closes", str, default.closes),
        budget_tokens=source.whole("budget_tokens", default.budget_tokens, least=0),
        opened_by_template=source.take("opened_by_template", bool, default.opened_by_template),
        empty_block=source.take("empty_block", str, default.empty_block),
    )


def _task(
    source: SettingReader,
    folder: Path | None,
    needed: frozenset[str],
    make_verdicts: Callable[[SettingReader], VerdictSet],
) -> JudgingTask | None:
    if not source.given:
        return None
    name = source.take("template", str, required=True)
    text = source.take("text", str, None)
    template = Template(
        name=name,
        text=text if text is not None else read_text(name, folder),
        aliases=source.text_table("fields"),
        blocks=source.text_table("blocks"),
        defaults=source.text_table("defaults"),
    )
    other = source.take("template_with_reference", str, None)
    with_reference = None if other is None else replace(template, name=other, text=read_text(other, folder))
    if with_reference is not None:
        wanted = needed | {"reference"}
        with_reference.require(needed=wanted, allowed=wanted | OPTIONAL_FIELDS)
    listing = source.table("list") if needed == _RATING_FIELDS else None
    if listing is None or not listing.given:
        template.require(needed=needed, allowed=needed | OPTIONAL_FIELDS)
        return JudgingTask(template=template, verdicts=make_verdicts(source), with_reference=with_reference)
    template.require(needed=_LIST_FIELDS, allowed=_LIST_FIELDS | OPTIONAL_FIELDS)
    layout, verdicts = list_layout(listing, make_verdicts(source))
    return JudgingTask(template=template, verdicts=verdicts, listing=layout)


def read_text(name: str, folder: Path | None) -> str:
    """A template's text, from the judge file's folder, from the package, or as the user added it.

    No newline is changed.

    Raises:
        ConfigError: The file does not exist or cannot be read.
    """
    try:
        if folder is not None and (folder / name).is_file():
            return (folder / name).read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the template {name!r} in {folder} cannot be read: {error}") from error
    if (added := added_prompt(name)) is not None:
        return added
    shipped = resources.files("autoj_reward.judge") / "templates" / name
    if not name or "/" in name or name.startswith(".") or not shipped.is_file():
        raise ConfigError(
            f"the template {name!r} does not exist",
            hint=f"put it beside the judge file{f' in {folder}' if folder else ''}",
        )
    return shipped.read_bytes().decode("utf-8")
