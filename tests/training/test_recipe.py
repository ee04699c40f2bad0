# SPDX-License-Identifier: Apache-2.0
"""Real steps on a tiny random model: a run, an interrupted run, and what comes out."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from autoj_reward.cli.app import app
from autoj_reward.errors import ConfigError
from autoj_reward.rows.source import read_rows
from autoj_reward.training.calibration import labelled_rows
from autoj_reward.training.config import TrainConfig, load_config
from autoj_reward.training.data import load_corpus, prompt_key
from autoj_reward.training.recipe import plan_stages, train
from autoj_reward.training.run_settings import keep_settings

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = load_file(str(folder / "adapter_model.safetensors"))
    return found


def test_a_run_leaves_an_adapter_measures_and_losses(config: TrainConfig) -> None:
    folder = train(config)
    output = Path(config.output)
    assert folder == output / "adapter"
    trained = weights(folder)
    assert {t.dtype for t in trained.values()} == {torch.bfloat16}
    assert any(t.abs().max() > 0 for name, t in trained.items() if "lora_B" in name)
    measures = [json.loads(line) for line in (output / "measures.jsonl").read_text().splitlines()]
    assert [m["stage"] for m in measures] == ["crossed", "pairs"]
    assert "rating other_prompt" in measures[0]
    assert "comparison human" not in measures[0]
    assert "comparison human" in measures[1]
    losses = [json.loads(line) for line in (output / "losses.jsonl").read_text().splitlines()]
    assert losses[0]["loss"] > 0


def test_an_interrupted_run_goes_on_to_the_same_weights(config: TrainConfig, tmp_path: Path) -> None:
    """A checkpoint in the middle of a stage, and a finished stage before it, are both taken up."""
    whole = weights(train(config))
    stopped = dataclasses.replace(config, output=str(tmp_path / "again"))
    train(stopped)
    output = Path(stopped.output)
    shutil.rmtree(output / "adapter")
    shutil.rmtree(output / "stage-2-pairs")
    # As a kill in the first stage leaves it: a checkpoint, and no adapter.
    shutil.rmtree(output / "stage-1-crossed")
    keep = dataclasses.replace(stopped, stages=stopped.stages[:1])
    _interrupt_after_checkpoint(keep)
    assert list((output / "stage-1-crossed").glob("checkpoint-*"))
    assert not (output / "stage-1-crossed" / "adapter").exists()
    resumed = weights(train(stopped))
    assert resumed.keys() == whole.keys()
    for name in whole:
        torch.testing.assert_close(resumed[name], whole[name], msg=name)


def _interrupt_after_checkpoint(config: TrainConfig) -> None:
    """Train in a process of its own that ends itself like a kill, right after a checkpoint."""
    import subprocess
    import sys
    import textwrap

    program = textwrap.dedent(
        """
        import os, pickle, sys
        from transformers import TrainerCallback
        from autoj_reward.training import recipe, trainer

        class Kill(TrainerCallback):
            def on_save(self, args, state, control, **_):
                os._exit(9)

        class Killed(trainer.VerdictTrainer):
            def train(self, *a, **k):
                self.add_callback(Kill())
                return super().train(*a, **k)

        recipe.VerdictTrainer = Killed
        recipe.train(pickle.load(sys.stdin.buffer))
        """
    )
    import pickle

    done = subprocess.run(
        [sys.executable, "-c", program], input=pickle.dumps(config), capture_output=True, check=False
    )
    assert done.returncode == 9, done.stderr.decode()


def test_a_folder_begun_with_other_settings_is_refused(config: TrainConfig) -> None:
    train(dataclasses.replace(config, stages=config.stages[:1]))
    with pytest.raises(ConfigError, match="begun with other settings: seed changed"):
        train(dataclasses.replace(config, seed=4))


def test_a_stage_ends_once_it_is_learnt(config: TrainConfig) -> None:
    """With a goal that any model reaches, the first measure is the last."""
    first = dataclasses.replace(config.stages[0], measure_every=2, until={"rating other_prompt": 0.0})
    train(dataclasses.replace(config, stages=(first,)))
    lines = (Path(config.output) / "measures.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [2, 2]


def test_a_plan_names_what_would_be_trained_on(config: TrainConfig) -> None:
    plans, dropped = plan_stages(config)
    assert [p.name for p in plans] == ["crossed", "pairs"]
    assert plans[0].kinds == {"crossed_ratings": 24}
    assert plans[0].longest <= config.stages[0].max_tokens
    assert dropped == {"excluded prompt": 2}


def test_held_out_rows_are_written_for_calibration(config_file: Path, tmp_path: Path) -> None:
    target = tmp_path / "held_out.jsonl"
    call = ["train-judge", str(config_file), "--held-out", str(target)]
    done = CliRunner().invoke(app, call)
    assert done.exit_code == 0, done.output
    corpus = load_corpus(load_config(config_file))
    rows = labelled_rows(read_rows(target))
    assert {prompt_key(r.prompt) for r in rows} == corpus.held_out.prompts
    assert not {prompt_key(r.prompt) for r in rows} & corpus.train.prompts
    assert [r.label for r in rows] == [
        *(r.rating for r in corpus.held_out.rated),
        *(p.preference for p in corpus.held_out.pairs),
    ]
    with pytest.raises(ConfigError, match="exists already"):
        CliRunner().invoke(app, call, catch_exceptions=False)


def test_rows_of_another_split_are_not_called_held_out(config_file: Path, tmp_path: Path) -> None:
    config = load_config(config_file)
    folder = Path(config.output) / "stage-1-crossed"
    keep_settings(dataclasses.replace(config, seed=77), config.stages[0], folder, write=True)
    call = ["train-judge", str(config_file), "--held-out", str(tmp_path / "rows.jsonl")]
    with pytest.raises(ConfigError, match="another split: seed changed"):
        CliRunner().invoke(app, call, catch_exceptions=False)
    assert not (tmp_path / "rows.jsonl").exists()


@pytest.mark.parametrize(
    "name", ["train_mini.toml", "train_mini_cpu.toml", "train_small.toml", "train_small_cpu.toml"]
)
def test_the_embedded_judges_recipes_can_be_planned(
    data: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A twentieth of them. Their data hold half points, which the judge's own scale does not."""
    monkeypatch.setenv("AUTOJ_REWARD_DATA", str(data))
    recipe = load_config(Path(__file__).parents[2] / "examples" / name)
    stages = [
        dataclasses.replace(stage, examples={kind: max(8, n // 20) for kind, n in stage.examples.items()})
        for stage in recipe.stages
    ]
    plans, _ = plan_stages(dataclasses.replace(recipe, stages=tuple(stages)))
    for plan, stage in zip(plans, stages, strict=True):
        assert set(plan.kinds) == set(stage.examples)
        assert plan.longest <= stage.max_tokens


def test_a_stage_without_examples_is_said(config: TrainConfig) -> None:
    short = dataclasses.replace(config.stages[0], max_tokens=20)
    with pytest.raises(ConfigError, match="no examples of at most 20 tokens"):
        plan_stages(dataclasses.replace(config, stages=(short,)))


def test_a_model_that_is_not_there_is_said(config: TrainConfig, tmp_path: Path) -> None:
    judge = tmp_path / "judge.toml"
    judge.write_text(f'extends = "general"\nname = "x"\nmodel = "{tmp_path / "nowhere"}"\n')
    with pytest.raises(ConfigError, match=r"cannot load the judge model|cannot load the tokenizer"):
        train(config)


def test_the_command_trains_and_says_where_the_adapter_is(config_file: Path, tmp_path: Path) -> None:
    runner = CliRunner()
    plan = runner.invoke(app, ["train-judge", str(config_file), "--plan"])
    assert plan.exit_code == 0, plan.output
    assert "24 crossed_ratings" in plan.stdout
    assert not (tmp_path / "out").exists()
    done = runner.invoke(app, ["train-judge", str(config_file), "--output", str(tmp_path / "else")])
    assert done.exit_code == 0, done.output
    assert str(tmp_path / "else" / "adapter") in done.stderr
    adapter = json.loads((tmp_path / "else" / "adapter" / "adapter_config.json").read_text())
    assert adapter["r"] == 4
