# SPDX-License-Identifier: Apache-2.0
"""Parse the TOML file of a training run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, get_args

from autoj_reward.errors import ConfigError
from autoj_reward.toml_file import SettingReader, read_toml

FileKind = Literal["auto-j-ratings", "auto-j-comparisons", "pairs"]

Flaw = Literal["other_prompt", "cut_off", "repeated", "emptied", "wrong_language", "padded", "identical"]
"""How a completion was degraded; `identical` is the same text twice, which is a tie."""

FLAWS: tuple[Flaw, ...] = get_args(Flaw)
MEASURED_FLAWS: tuple[Flaw, ...] = tuple(flaw for flaw in FLAWS if flaw != "identical")
"""Those that a judge can get wrong: equal texts tie by a rule, for which no judge is asked."""

ExampleKind = Literal[
    "crossed_ratings",
    "contrast_ratings",
    "contrast_comparisons",
    "contrast_rating_critiques",
    "contrast_comparison_critiques",
    "correctness_ratings",
    "correctness_comparisons",
    "pair_ratings",
    "pair_comparisons",
    "pair_critiques",
    "ratings",
    "rating_critiques",
]
"""Kinds of example: from contrast made from data, from right and wrong completions made here, from people's
pairs, or from rated completions."""

EXAMPLE_KINDS: tuple[ExampleKind, ...] = get_args(ExampleKind)


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFile:
    """A file of training data.

    Attributes:
        kind: auto-j-ratings and auto-j-comparisons: Auto-J's training format (`usrmsg` or `usermsg`,
            `target_output`). pairs: `prompt`, `response_a`, `response_b`, `label` (0, 1, or 2 for a tie).
        path: JSON lines, or JSON lines compressed with gzip.
        translations: For ratings, the same rows in another language, in the same order: their
            completions serve as completions in the wrong language. Empty for none.
        translations_judge: The judge whose template the translations were filled into.
    """

    kind: FileKind
    path: str
    translations: str = ""
    translations_judge: str = "autoj-bilingual-6b-zh"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lora:
    """The adapter's shape.

    Attributes:
        r: Rank.
        alpha: Scale; updates are multiplied by alpha / r.
        dropout: In [0, 1).
        targets: `all-linear`, or module names.
    """

    r: int = 32
    alpha: int = 32
    dropout: float = 0.0
    targets: str | tuple[str, ...] = "all-linear"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One step of the curriculum.

    Attributes:
        name: Unique; names its folder.
        examples: How many examples of each kind.
        learning_rate: Peak; falls along a cosine.
        batch_size: Examples of one step on one device.
        accumulate: Batches of one step.
        epochs: Passes over the stage's examples.
        max_tokens: Longer examples are left out.
        measure_every: Steps between evaluations on held-out prompts; 0 evaluates at the end only.
        measures: What is evaluated, as `rating other_prompt` or `comparison human`: a protocol and a
            kind of case (a flaw or `human`). Empty evaluates everything.
        until: Measures and the shares that they have to reach; the stage ends early once all have.
        flaws: Shares of the flaws in contrast ratings and comparisons; empty takes a fixed mix.
        final_share: Learning rate at the stage's end as a share of the peak, in [0, 1].
        balance_lengths: Take as many of people's pairs where the shorter completion is preferred as pairs
            where the longer one is, a unit of one each, so that length does not predict the label. Ties and
            pairs of equal length are left out.
    """

    name: str
    examples: Mapping[str, int]
    learning_rate: float = 5e-4
    batch_size: int = 8
    accumulate: int = 1
    epochs: float = 1.0
    max_tokens: int = 768
    measure_every: int = 0
    measures: tuple[str, ...] = ()
    until: Mapping[str, float] = field(default_factory=dict)
    flaws: Mapping[str, float] = field(default_factory=dict)
    final_share: float = 0.1
    balance_lengths: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """A whole run.

    Attributes:
        judge: The judge to train: a preset, a TOML file, a model's hub name, or its folder (`/...`, `./...`,
            `../...`, `~...`, `$...`).
        output: Folder for checkpoints, logs and the finished adapter.
        files: Training data.
        stages: The curriculum, in order.
        exclude: Files whose prompts must not be trained on (field `prompt`, `question`,
            `instruction` or `source`).
        seed: For the choice and order of examples and the adapter's first weights.
        held_out: Share of prompts kept out of training, in (0, 0.5].
        measure_cases: Held-out pairs of each kind that are evaluated.
        measure_chars: Most characters of such a pair, its prompt included.
        lora: The adapter's shape.
        autocast: `bfloat16` or `none`. Weights are float32 under it.
        save_every: Steps between checkpoints.
        keep_checkpoints: How many checkpoints of a stage are kept.
        threads: CPU threads; 0 leaves them to torch.
    """

    judge: str
    output: str
    files: tuple[DataFile, ...]
    stages: tuple[Stage, ...]
    exclude: tuple[str, ...] = ()
    seed: int = 0
    held_out: float = 0.1
    measure_cases: int = 40
    measure_chars: int = 700
    lora: Lora = field(default_factory=Lora)
    autocast: str = "bfloat16"
    save_every: int = 50
    keep_checkpoints: int = 2
    threads: int = 0


def load_config(path: str | Path, *, output: str | Path | None = None) -> TrainConfig:
    """Read a run's settings.

    `$NAME` in a path is taken from the environment; a relative path is relative to the file.

    Args:
        path: The TOML file.
        output: Instead of the file's output folder; relative to the working folder.

    Raises:
        ConfigError: The file cannot be read, or settings are unknown, missing or of the wrong kind.
    """
    path = Path(path)
    source = read_toml(path, what="the training file")
    if output is not None:
        source["output"] = str(Path(output).absolute())
    reader = SettingReader(source, str(path))
    config: TrainConfig | None = reader.record(TrainConfig)
    reader.problems += _wrong(config) if config is not None else []
    reader.finish(f"the training file {path} is", hint="examples/train_mini.toml is a complete one")
    assert config is not None
    # Absolute, so that a run can be resumed from any working folder.
    return _with_paths(config, path.parent.absolute())


def _wrong(config: TrainConfig) -> list[str]:
    """Problems of settings whose types are right."""
    problems = []
    names = [s.name for s in config.stages]
    if not names or len(set(names)) < len(names):
        problems.append("stages: at least one is needed, and their names must be unique")
    if not config.files:
        problems.append("files: at least one is needed")
    if not 0 < config.held_out <= 0.5:
        problems.append(f"held_out = {config.held_out} is not in (0, 0.5]")
    least = {
        "seed": 0, "measure_cases": 0, "measure_chars": 1, "save_every": 1, "keep_checkpoints": 1,
        "threads": 0,
    }  # fmt: skip
    problems += [
        f"{name} = {getattr(config, name)} is below {n}"
        for name, n in least.items()
        if getattr(config, name) < n
    ]
    if config.autocast not in ("bfloat16", "none"):
        problems.append(f"autocast = {config.autocast!r} is neither bfloat16 nor none")
    for stage in config.stages:
        unknown = sorted(set(stage.examples) - set(EXAMPLE_KINDS))
        if unknown:
            problems.append(
                f"stage {stage.name}: {unknown} are not kinds of example: {', '.join(EXAMPLE_KINDS)}"
            )
        problems += _wrong_names(stage)
        problems += [
            f"stage {stage.name}: {name} holds a number below 0"
            for name in ("examples", "until", "flaws")
            if any(number < 0 for number in getattr(stage, name).values())
        ]
        if not 0 <= stage.final_share <= 1:
            problems.append(f"stage {stage.name}: final_share = {stage.final_share} is not in [0, 1]")
        if stage.max_tokens < 1 or stage.measure_every < 0:
            problems.append(f"stage {stage.name}: max_tokens is above 0, measure_every at least 0")
        if stage.batch_size < 1 or stage.accumulate < 1 or stage.learning_rate <= 0 or stage.epochs <= 0:
            problems.append(f"stage {stage.name}: batch_size, accumulate, learning_rate, epochs are above 0")
    if config.lora.r < 1 or not 0 <= config.lora.dropout < 1:
        problems.append("[lora]: r is at least 1, dropout in [0, 1)")
    return problems


def _wrong_names(stage: Stage) -> list[str]:
    problems = []
    if unknown := sorted(set(stage.flaws) - set(FLAWS)):
        problems.append(f"stage {stage.name}: {unknown} are not flaws: {', '.join(FLAWS)}")
    cases = (*MEASURED_FLAWS, "human")
    known = {f"{protocol} {case}" for protocol in ("rating", "comparison") for case in cases}
    if unknown := sorted({*stage.measures, *stage.until} - known):
        problems.append(f"stage {stage.name}: {unknown} are not measures, such as `rating other_prompt`")
    if stage.measures and (unread := sorted(set(stage.until) - set(stage.measures))):
        problems.append(f"stage {stage.name}: until waits for {unread}, which are not among its measures")
    if stage.until and not stage.measure_every:
        problems.append(f"stage {stage.name}: until needs measure_every")
    return problems


def _with_paths(config: TrainConfig, base: Path) -> TrainConfig:
    def at(path: str) -> str:
        expanded = os.path.expanduser(os.path.expandvars(path))
        if "$" in expanded:
            raise ConfigError(f"the path {path!r} names a variable that is not set", hint="export it first")
        return str(base / expanded)

    files = tuple(
        replace(f, path=at(f.path), translations=at(f.translations) if f.translations else "")
        for f in config.files
    )
    is_path = config.judge.endswith(".toml") or config.judge.startswith(("/", "./", "../", "~", "$"))
    judge = at(config.judge) if is_path else config.judge
    exclude = tuple(map(at, config.exclude))
    return replace(config, judge=judge, output=at(config.output), files=files, exclude=exclude)
