# SPDX-License-Identifier: Apache-2.0
"""Load judges by name: shipped presets, any model, or a TOML file."""

from __future__ import annotations

import reprlib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from importlib import resources
from pathlib import Path
from typing import Any

from autoj_reward.errors import ConfigError
from autoj_reward.judge.added_prompts import added_prompt, prompt_hashes
from autoj_reward.judge.panels.spec import read_panel
from autoj_reward.judge.spec import JudgeSpec, merged, parse_spec
from autoj_reward.judge.verdicts.settings import FORMS
from autoj_reward.toml_file import read_toml

_GENERAL = "general"
_FORMER_KEYS = {"lead": "verdict_prefix", "ends": "terminators"}
_MOST_EXTENDED = 16
"""Files that extend each other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingPreset:
    """A preset whose prompt the user has not added yet; `source` says where the prompt is."""

    name: str
    model: str
    description: str
    licence: str
    source: str

    def error(self) -> ConfigError:
        """What to do before this judge can be used."""
        return ConfigError(
            f"the preset {self.name!r} ships without its prompt, for which its publisher gives no licence",
            hint=f"get the prompt ({self.source}), and run: autoj-reward judges add FILE",
        )


def preset_names() -> list[str]:
    """Names of the judges that ship with the package and have their prompt, sorted."""
    return sorted(_all_names() - waiting_presets().keys())


def waiting_presets() -> dict[str, WaitingPreset]:
    """The presets whose prompt does not ship with the package and was not added, by name."""
    prompts = [name for name in prompt_hashes() if added_prompt(name) is None]
    found = {}
    for name in [prompt.removesuffix(".txt").replace("_", "-") for prompt in prompts]:
        with resources.as_file(_folder() / f"{name}.toml") as file:
            source = read_toml(file)
        found[name] = WaitingPreset(**{f.name: source[f.name] for f in fields(WaitingPreset)})
    return found


def _all_names() -> set[str]:
    return {p.name.removesuffix(".toml") for p in _folder().iterdir() if p.name.endswith(".toml")}


def list_presets() -> list[JudgeSpec]:
    """The judges that ship with the package and have their prompt, by name."""
    return [load_spec(name) for name in preset_names()]


def load_spec(name_or_path: str) -> JudgeSpec:
    """Find a judge.

    Args:
        name_or_path: A preset's name (`mini`), the hub name of a preset's model (`GAIR/autoj-13b`), a
            TOML file, or any other model: a checkpoint folder or a hub name, which is judged with the
            general template and the model's own chat template.

    Raises:
        ConfigError: The file is wrong, nothing has that name, or the preset's prompt was not added; says what
            there is, or what to add.
        TemplateError: The file's template does not show the right fields.
    """
    return _load(name_or_path, ())


def _load(name_or_path: str, above: tuple[str, ...]) -> JudgeSpec:
    """A judge that is a translation of those above."""
    if len(above) > _MOST_EXTENDED:
        raise ConfigError(f"judge files translate each other without end: {' -> '.join(above)}")
    if name_or_path.endswith(".toml"):
        path = Path(name_or_path)
        own = read_toml(path, what="the judge file")
        if own.get("kind") == "panel":
            return read_panel(
                own, origin=str(path), folder=path.parent, load=lambda name: _load(name, (*above, str(path)))
            )
        named = own.get("translations")
        source = _extended(own, path.parent)
        made = _translated(source, str(path), path.parent, (*above, str(path)))
        if isinstance(named, Mapping) and (lost := sorted(named.keys() - made.translations.keys())):
            raise ConfigError(
                f"{path}: [translations] names {', '.join(lost)}, which languages = "
                f"{list(made.languages)} does not name after its first",
                hint="languages = ['en', 'zh'] for a judge whose own templates are English",
            )
        return made
    for waiting in waiting_presets().values():
        if name_or_path in (waiting.name, waiting.model):
            raise waiting.error()
    names = preset_names()
    if name_or_path in names:
        return _preset(name_or_path)
    for name in names:
        if _preset(name).model == name_or_path:
            return _preset(name)
    if Path(name_or_path).is_dir() or name_or_path.count("/") == 1:
        name = Path(name_or_path).name if Path(name_or_path).is_dir() else name_or_path
        return replace(_preset(_GENERAL), name=name, model=name_or_path)
    raise ConfigError(
        f"no judge {name_or_path!r} was found",
        hint=f"presets: {', '.join(names)}; or a checkpoint folder, a hub name ORG/MODEL, or a file.toml",
    )


def _preset(name: str) -> JudgeSpec:
    path = _folder() / f"{name}.toml"
    with resources.as_file(path) as file:
        return _translated(_extended(read_toml(file), None), f"preset {name}", None, ())


def _translated(
    source: Mapping[str, Any], origin: str, folder: Path | None, above: tuple[str, ...]
) -> JudgeSpec:
    """The judge with its translations: `[translations] zh = "PRESET or file.toml"`."""
    named = source.get("translations", {})
    own = {key: value for key, value in source.items() if key != "translations"}
    spec = parse_spec(own, origin=origin, folder=folder)
    if not isinstance(named, Mapping) or not all(isinstance(value, str) for value in named.values()):
        raise ConfigError(f"{origin}: [translations] must map languages to judges")
    translations = {}
    for language, judge in named.items():
        # A translation that extends this judge inherits the table; it is a judge in one language.
        if language == spec.languages[0] or language not in spec.languages:
            continue
        beside = folder is not None and (folder / judge).is_file()
        found = _load(str(folder / judge) if beside and folder is not None else judge, above)
        if found.model != spec.model or found.languages[0] != language:
            raise ConfigError(
                f"{origin}: the translation {judge!r} must be a judge of {spec.model} in {language}, "
                f"is one of {found.model} in {found.languages[0]}"
            )
        others = ("wrapper", "direct_wrapper", "sampling", "thinking", "min_mass")
        if differing := [name for name in others if getattr(found, name) != getattr(spec, name)]:
            raise ConfigError(
                f"{origin}: the translation {judge!r} has settings of its own that would have no effect: "
                f"{', '.join(differing)}",
                hint="only templates and verdicts of a translation are used; make the rest the same",
            )
        translations[language] = found
    return replace(spec, translations=translations)


def _extended(source: dict[str, Any], folder: Path | None, seen: tuple[str, ...] = ()) -> Mapping[str, Any]:
    """The file laid on what it extends, as far up as that goes."""
    _take_former_keys(source)
    base = source.pop("extends", None)
    if base is None:
        return source
    if not isinstance(base, str):
        raise ConfigError(f"extends = {reprlib.repr(base)} must be the name of a preset or a file")
    if len(seen) >= _MOST_EXTENDED:
        raise ConfigError(f"judge files extend each other {_MOST_EXTENDED} deep: {' -> '.join(seen)}")
    if base in seen:
        raise ConfigError(f"judge files extend each other in a circle: {' -> '.join((*seen, base))}")
    if base in preset_names():
        with resources.as_file(_folder() / f"{base}.toml") as file:
            below = read_toml(file)
    elif folder is not None and (folder / base).is_file():
        below = read_toml(folder / base)
    else:
        if base in (waiting := waiting_presets()):
            raise waiting[base].error()
        raise ConfigError(f"extends = {base!r}: no such preset or file", hint=", ".join(preset_names()))
    lower = _extended(below, folder, (*seen, base))
    wrapper = source.get("wrapper")
    if isinstance(wrapper, Mapping) and "kind" in wrapper:
        # Another kind of wrapper has other settings: it replaces those below, it does not add to them.
        lower = {key: value for key, value in lower.items() if key != "wrapper"}
    if "model" in source:
        # Another model has other sizes.
        lower = {key: value for key, value in lower.items() if key not in ("architecture", "memory_gib")}
    return merged(_without_replaced(lower, source), source)


def _without_replaced(lower: Mapping[str, Any], source: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a file extends, without the templates that it replaces, and the verdicts of another form."""
    result = dict(lower)
    for task, forms in FORMS.items():
        own, below = source.get(task), lower.get(task)
        if isinstance(own, Mapping) and isinstance(below, Mapping):
            if {"template", "text"} & own.keys():
                # Another template takes the place of the text below, and of the template with a reference.
                texts = ("text", "template_with_reference")
                below = result[task] = {key: value for key, value in below.items() if key not in texts}
            new = [form for form in forms if form[0] in own and own[form[0]] is not False]
            if new and not any(form[0] in below for form in new):
                of_forms = {key for form in forms for key in form}
                result[task] = {key: value for key, value in below.items() if key not in of_forms}
    return result


def _take_former_keys(source: dict[str, Any]) -> None:
    """Give settings of a judge file that have an old name their present one, with a warning."""
    for task in ("rating", "comparison"):
        table = source.get(task)
        for former, present in _FORMER_KEYS.items():
            if isinstance(table, dict) and former in table and present not in table:
                warnings.warn(f"[{task}] {former} is now {present}", DeprecationWarning, stacklevel=2)
                table[present] = table.pop(former)


def _folder() -> Any:
    return resources.files("autoj_reward.judge") / "templates"
