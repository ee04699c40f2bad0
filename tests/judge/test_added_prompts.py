# SPDX-License-Identifier: Apache-2.0
"""A preset whose prompt does not ship: it waits for the user's copy, and takes that one only."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from autoj_reward.cli.app import app
from autoj_reward.errors import ConfigError
from autoj_reward.judge import added_prompts, presets
from autoj_reward.judge.added_prompts import add_prompt
from autoj_reward.judge.judge import Judge
from autoj_reward.judge.parse import Stated, find_verdict
from autoj_reward.judge.presets import load_spec, preset_names
from autoj_reward.testing import ScriptedEngine
from tests.judge.test_presets import rendered
from tests.judge.upstream_prompts import FIRST, PROMPT, SECOND, skywork_critic

# The real prompt has no licence that would let it lie here: a made one takes its place, with its own hash.
JINJA = "Which is better?\r\n{{input}}\n\nA: {{response_a}}\nB: {{response_b}}\n"
TEXT = "Which is better?\n{input}\n\nA: {response_a}\nB: {response_b}"


@pytest.fixture
def made_prompt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's file with the made prompt, and a data folder with nothing in it."""
    monkeypatch.setenv("AUTOJ_REWARD_HOME", str(tmp_path / "home"))
    hashes = {"skywork_critic.txt": hashlib.sha256(TEXT.encode()).hexdigest()}
    for module in (added_prompts, presets):
        monkeypatch.setattr(module, "prompt_hashes", lambda: hashes)
    file = tmp_path / "prompt.jinja2"
    file.write_bytes(JINJA.encode())
    return file


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, arguments, catch_exceptions=False)


@pytest.mark.parametrize("name", ["skywork-critic", "Skywork/Skywork-Critic-Llama-3.1-8B", "extended"])
def test_without_its_prompt_a_preset_says_what_to_get_and_the_command(
    made_prompt: Path, tmp_path: Path, name: str
) -> None:
    if name == "extended":
        name = str(tmp_path / "mine.toml")
        Path(name).write_text('extends = "skywork-critic"\nname = "mine"\nmodel = "org/mine"\n')
    with pytest.raises(ConfigError, match=r"ScalerLab/JudgeBench, .*commit 12a499c.*judges add FILE"):
        load_spec(name)
    assert "skywork-critic" not in preset_names()


def test_after_judges_add_it_is_a_judge_by_name(made_prompt: Path) -> None:
    assert json.loads(run("judges", "--json").stdout)[-1]["needs_prompt"]
    assert "autoj-reward judges add FILE" in " ".join(run("judges").stdout.split())
    assert "skywork_critic.txt" in run("judges", "add", str(made_prompt)).stderr
    assert "skywork-critic" in preset_names()
    assert not any("needs_prompt" in one for one in json.loads(run("judges", "--json").stdout))
    engine = ScriptedEngine(read={"A": 0.6, "B": 0.2})
    with Judge.load("skywork-critic", engine=engine, both_orders=False) as judge:
        got = judge.compare([PROMPT], [FIRST], [SECOND])[0]
    assert got.win_prob == pytest.approx(0.75)
    shown = "".join(s.text for s in engine.inputs[0].body)
    assert shown == TEXT.format(input=PROMPT, response_a=FIRST, response_b=SECOND)


def test_its_file_is_shown_before_and_after(made_prompt: Path) -> None:
    before = run("judges", "--show", "skywork-critic").stdout
    add_prompt(made_prompt)
    assert run("judges", "--show", "skywork-critic").stdout == before


def test_another_text_is_refused(made_prompt: Path) -> None:
    made_prompt.write_text(JINJA.replace("better", "worse"))
    with pytest.raises(ConfigError, match=r"its text has the SHA-256 .*skywork_critic\.txt"):
        add_prompt(made_prompt)
    with pytest.raises(ConfigError, match="cannot be read"):
        add_prompt(made_prompt.parent / "missing.txt")


def test_a_copy_that_was_changed_is_refused(made_prompt: Path) -> None:
    _, kept = add_prompt(made_prompt)
    kept.write_text(TEXT + " ")
    with pytest.raises(ConfigError, match="was changed since it was added"):
        load_spec("skywork-critic")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[[A]]", "first"),
        ("[[B]]", "second"),
        ("My verdict: [[B]].", "second"),
        ("[[C]]", "off_scale"),
        ("A", "no_verdict"),
        ("[[A]] or [[B]]", "no_verdict"),
    ],
)
def test_its_outputs_state_a_verdict_or_fail(made_prompt: Path, text: str, expected: str) -> None:
    add_prompt(made_prompt)
    own = load_spec("skywork-critic").comparison
    assert own is not None
    found = find_verdict(text, "stop", own.verdicts)
    assert (found.verdict if isinstance(found, Stated) else found.reason.value) == expected


def test_the_published_prompt_is_rendered_as_its_publishers_code_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = os.environ.get("AUTOJ_REWARD_UPSTREAM")
    if not folder:
        pytest.skip("needs a checkout ScalerLab/JudgeBench in a folder that $AUTOJ_REWARD_UPSTREAM names")
    monkeypatch.setenv("AUTOJ_REWARD_HOME", str(tmp_path))
    root = Path(folder) / "ScalerLab" / "JudgeBench"
    add_prompt(root / "utils" / "templates" / "skywork_critic_prompt.jinja2")
    assert rendered("skywork-critic", "comparison") == skywork_critic(root)
