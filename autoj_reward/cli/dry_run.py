# SPDX-License-Identifier: Apache-2.0
"""`--dry-run`: describe what a command would run, without loading a model or using the network."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from autoj_reward.cli.options import JudgeOptions, key_values, typed
from autoj_reward.cli.shared.budget import estimate
from autoj_reward.engines.checkpoint.hub import hub_cache, is_here, is_hub_name
from autoj_reward.engines.factory import default_engine_name, needed_memory
from autoj_reward.judge.description import shown
from autoj_reward.judge.panels.panel import Panel
from autoj_reward.redact import redacted

if TYPE_CHECKING:
    from autoj_reward.judge.judge import Judge
    from autoj_reward.judge.spec import JudgeSpec
    from autoj_reward.rows.run import RowRun


def plan_lines(
    run: RowRun, judge: Judge, options: JudgeOptions, *, measure: int | None = None, quiet: bool = False
) -> Iterator[str]:
    """Describe a run of `rate`, `compare`, `rerank` or `label`, one line for each fact.

    Args:
        run: The run, checked.
        judge: Its judge.
        options: The command's options.
        measure: Judge so many rows, and estimate from them what all rows take; None judges none.
        quiet: Show no progress of that.
    """
    yield from _panel_lines(run, judge) if isinstance(judge, Panel) else _judge_lines(run, judge, options)
    if measure is not None:
        yield f"{'estimate':<12}{estimate(run, judge, measure, quiet=quiet)}"


def _judge_lines(run: RowRun, judge: Judge, options: JudgeOptions) -> list[str]:
    spec, settings = judge.spec, judge.settings
    engine = options.engine or default_engine_name()
    given = {**spec.engine_options, **typed(key_values(options.engine_option, "--engine-option"))}
    who = shown(judge.describe("plan"), settings.sampling.max_new_tokens)
    facts = {
        "judge": f"{spec.name}: {spec.description}",
        "model": _model(spec),
        "weights": who["weights"],
        "size": f"{spec.parameters} parameters",
        "licence": spec.licence,
        "languages": ", ".join(spec.languages),
        "memory": _memory(spec, engine, given),
        "context": f"{spec.context_tokens:,} tokens" if spec.context_tokens else "the model's own",
        "engine": " ".join(redacted([engine, *(f"{key}={value}" for key, value in given.items())])),
        "splits over": _parallel(spec),
        "mode": _mode(judge),
        "template": who["template"],
        "input": f"at most {who['longest input']}"
        if "tokens" in who["longest input"]
        else who["longest input"],
        "would run": run.plan(),
        "note": spec.notes,
    }
    return [f"{name:<12}{text}" for name, text in facts.items() if text]


def _panel_lines(run: RowRun, panel: Panel) -> list[str]:
    """The same of a panel: its rule, and each member's judge, model, engine and mode."""
    spec = panel.panel_spec
    members = {
        f"member {n}": ", ".join(
            [
                f"{m.spec.name}: judge {m.judge.spec.name}",
                _model(m.judge.spec),
                str(m.judge.describe("plan")["engine"].get("engine") or default_engine_name()),
                m.judge.settings.mode,
                f"weight {m.spec.weight:g}",
                *(["compares by ratings"] if m.spec.rates_to_compare else []),
            ]
        )
        for n, m in enumerate(panel.members, start=1)
    }
    rule = f"{spec.rule}; a member that is missing: {spec.on_missing}"
    facts = {"judge": f"{spec.name}: {spec.description}", "rule": rule, **members, "would run": run.plan()}
    return [f"{name:<12}{text}" for name, text in facts.items()]


def _model(spec: JudgeSpec) -> str:
    pinned = "" if spec.revision is None else f" at {spec.revision}"
    if not is_hub_name(spec.model):
        return spec.model + pinned
    where = "is on this machine" if is_here(spec.model) else f"would be downloaded into {hub_cache()}"
    return f"{spec.model}{pinned} ({where})"


def _memory(spec: JudgeSpec, engine: str, given: dict[str, Any]) -> str:
    if engine.startswith(("server", "decisions:", "recorded")):
        return "none here"
    need = needed_memory(engine, spec, given)
    if need is None:
        return "unknown before the model is downloaded"
    return (
        f"about {need.total_gib:.1f} GiB: weights {need.weights_gib:.1f}, one full context "
        f"{need.cache_gib:.1f}, {need.beside_gib:.0f} for the rest"
    )


def _parallel(spec: JudgeSpec) -> str:
    if spec.architecture is None:
        return ""
    sizes = ", ".join(map(str, spec.architecture.parallel_sizes()))
    return f"{sizes} devices (--engine-option tensor_parallel_size=N)"


def _mode(judge: Judge) -> str:
    settings = judge.settings
    if settings.mode == "direct":
        return f"direct; inputs that do not fit: {settings.overlong}"
    written = (
        f"at most {settings.sampling.max_new_tokens:,} tokens, temperature {settings.sampling.temperature:g}"
    )
    without = "forced" if settings.rules.force_verdict else "a failure"
    return (
        f"critique, {settings.n_samples} each: {written}; inputs that do not fit: {settings.overlong}; "
        f"a critique without a verdict: {without}"
    )
