# SPDX-License-Identifier: Apache-2.0
"""`rubrics make`: let a judge write a rubric of criteria for each prompt."""

from __future__ import annotations

import contextlib
from dataclasses import asdict

from autoj_reward.cli.options import CacheOptions, JudgeOptions, RowOptions, key_values, with_options
from autoj_reward.cli.run import Source, Target, finish, load_judge
from autoj_reward.cli.shared.grammar import command, command_group
from autoj_reward.errors import ConfigError

app = command_group("Rubrics of criteria, for the rubric column of other commands.")


@command(app)
@with_options(JudgeOptions, CacheOptions, RowOptions)
def make(
    source: Source, output: Target, *, judging: JudgeOptions, caching: CacheOptions, rows: RowOptions
) -> None:
    """Write criteria for each row's "prompt", from it and from a "reference" if there is one.

    The judge has to be able to write JSON: an instruct model, or an endpoint. Adds to each row: rubric (a
    list of name, text, weight, essential; null with a failure), n_criteria, judge_id, failure. Equal prompts
    are asked once, and criteria with one text are kept once.
    """
    from autoj_reward.cli.run_display import RunDisplay
    from autoj_reward.cli.shared.budget import estimate
    from autoj_reward.rows.check import refuse_same_file
    from autoj_reward.rows.fields import RowFormat
    from autoj_reward.rows.run import RowRun
    from autoj_reward.rows.source import open_source
    from autoj_reward.rows.tasks import rubrics_task

    refuse_same_file(source, output)
    rows.spending.check(dry_run=rows.dry_run, on_cluster=False)
    columns = key_values(rows.column, "--column")
    if unknown := sorted(set(columns) - {"prompt"}) or ([rows.format_name] if rows.format_name else []):
        raise ConfigError(f"rubrics make has no fields or formats {unknown}", hint="--column prompt=FIELD")
    if judging.mode == "direct" or judging.samples != 1:
        raise ConfigError("rubrics make writes once: leave out --mode direct and --samples")
    options = {**asdict(judging), "mode": "critique"}
    judge = load_judge(JudgeOptions(**options), caching.for_judge(again=rows.retry_failed))
    with contextlib.closing(judge):
        run = RowRun(
            open_source(source, split=rows.split, limit=rows.limit),
            rubrics_task(judge, RowFormat(prompt=columns.get("prompt", "prompt"), completions=())),
            output,
            judge,
            identity={**{k: v for k, v in options.items() if v is not None}, "columns": columns},
            settings=rows.for_run(default_chunk=64),
            listener=RunDisplay("rubrics", output, quiet=rows.quiet, overlong=judge.settings.overlong),
            budget=rows.spending.budget(),
        )
        checked = run.check()
        if rows.dry_run:
            import typer

            typer.echo(f"would write criteria for {checked.n_rows:,} prompts by {judge.spec.name}")
            if rows.spending.measure is not None:
                typer.echo(f"estimate: {estimate(run, judge, rows.spending.measure, quiet=rows.quiet)}")
        else:
            finish(run, rows)
