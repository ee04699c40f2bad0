# SPDX-License-Identifier: Apache-2.0
"""What is trained on: the split, what is kept out, and examples token by token."""

from __future__ import annotations

import dataclasses
import gzip
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from transformers import AutoTokenizer

from autoj_reward.engines.logprobs.tokenizer import InjectionSafeTokenizer
from autoj_reward.errors import DataError
from autoj_reward.judge.presets import load_spec
from autoj_reward.judge.spec import JudgeSpec
from autoj_reward.judge.verdict import preference_set
from autoj_reward.rows.source import read_rows
from autoj_reward.training.config import Stage, TrainConfig
from autoj_reward.training.curriculum import stage_examples
from autoj_reward.training.data import (
    IGNORED,
    Example,
    Part,
    RatedRow,
    encode,
    is_held_out,
    load_corpus,
    on_scale,
    prompt_key,
    prompts_of,
    unfill,
)
from tests.conftest import examples
from tests.hostile import hostile_text
from tests.training.conftest import pair_rows, write_rows


@pytest.fixture(scope="module")
def spec(tiny_model: Path) -> JudgeSpec:
    return dataclasses.replace(load_spec("general"), model=str(tiny_model))


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> InjectionSafeTokenizer:
    return InjectionSafeTokenizer(AutoTokenizer.from_pretrained(tiny_model), turn_end_ids=[4])


def test_prompts_are_on_one_side_only_and_excluded_ones_on_none(config: TrainConfig) -> None:
    corpus = load_corpus(config)
    assert corpus.train.pairs
    assert corpus.held_out.pairs
    assert not corpus.train.prompts & corpus.held_out.prompts
    excluded = prompts_of(config.exclude[0])
    assert len(excluded) == 2
    assert not excluded & (corpus.train.prompts | corpus.held_out.prompts)
    assert corpus.dropped == {"excluded prompt": 2}
    assert len(corpus.train.pairs) + len(corpus.held_out.pairs) == 58


def test_the_side_follows_from_the_prompt_and_the_seed() -> None:
    prompts = [f"prompt {i}" for i in range(2000)]
    sides = [is_held_out(p, share=0.1, seed=1) for p in prompts]
    assert 140 < sum(sides) < 260
    assert sides == [is_held_out(f"  {p.upper()}\n", share=0.1, seed=1) for p in prompts]
    assert sides != [is_held_out(p, share=0.1, seed=2) for p in prompts]


def test_rows_that_share_a_prompt_go_to_the_same_side(config: TrainConfig, tmp_path: Path) -> None:
    rows = pair_rows(30)
    write_rows(
        tmp_path / "pairs.jsonl", rows + [{**r, "prompt": r["prompt"].replace(" ", "  ")} for r in rows]
    )
    corpus = load_corpus(dataclasses.replace(config, exclude=()))
    assert len(corpus.train.pairs) + len(corpus.held_out.pairs) == 60
    assert not corpus.train.prompts & corpus.held_out.prompts


def test_empty_completions_are_left_out(config: TrainConfig, tmp_path: Path) -> None:
    rows = pair_rows(20)
    rows[0]["response_a"] = " \n"
    write_rows(tmp_path / "pairs.jsonl", rows)
    assert load_corpus(config).dropped["empty completion"] == 1


def test_gzip_and_plain_files_read_the_same(tmp_path: Path) -> None:
    rows = pair_rows(5)
    plain = write_rows(tmp_path / "a.jsonl", rows)
    with gzip.open(tmp_path / "a.jsonl.gz", "wb") as file:
        file.write(plain.read_bytes())
    assert list(read_rows(str(plain))) == list(read_rows(str(tmp_path / "a.jsonl.gz")))


@pytest.mark.parametrize(
    "row, said",
    [
        ({"prompt": "p", "response_a": "a", "response_b": "b"}, "label"),
        ({"prompt": "p", "response_a": "a", "response_b": "b", "label": 3}, "label"),
        ({"prompt": None, "response_a": "a", "response_b": "b", "label": 1}, "prompt"),
    ],
    ids=["no label", "unknown label", "no prompt"],
)
def test_a_wrong_row_is_named_by_line(
    config: TrainConfig, tmp_path: Path, row: dict[str, object], said: str
) -> None:
    write_rows(tmp_path / "pairs.jsonl", [pair_rows(1)[0], row])
    with pytest.raises(DataError, match=said) as caught:
        load_corpus(config)
    assert caught.value.line == 2


def test_lines_that_are_not_json_objects(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("[1]\n")
    with pytest.raises(DataError, match="a int, not a JSON object"):
        list(read_rows(str(tmp_path / "a.jsonl")))
    (tmp_path / "a.jsonl").write_text("{\n")
    with pytest.raises(DataError, match="not JSON"):
        list(read_rows(str(tmp_path / "a.jsonl")))


AUTOJ = load_spec("autoj-13b")


@settings(max_examples=examples(300))
@given(prompt=hostile_text, completion=hostile_text)
def test_unfill_undoes_fill(prompt: str, completion: str) -> None:
    """Where filling leaves one reading only; a prompt that quotes the template has several."""
    assert AUTOJ.rating is not None
    template = AUTOJ.rating.template
    text = "".join(s.text for s in template.fill({"prompt": prompt, "completion": completion}))
    values = unfill(template, text)
    assert values is not None
    again = "".join(s.text for s in template.fill(values))
    assert again == text
    if "[Response]" not in prompt and "[END DATA]" not in completion:
        assert values == {"prompt": prompt, "completion": completion}


def test_unfill_refuses_other_text() -> None:
    rating = load_spec("autoj-13b").rating
    assert rating is not None
    assert unfill(rating.template, "Write critiques for something else.") is None


@pytest.mark.parametrize(
    "completions, verdict, written",
    [
        (("Good.",), 6.0, "6]]"),
        (("Good.",), 10.0, "10]]"),
        (("A.", "B."), "second", " Answer 2"),
        (("A.", "A."), "tie", " Tie"),
    ],
    ids=["6", "10", "second", "tie"],
)
def test_a_direct_example_carries_loss_on_the_verdict_alone(
    spec: JudgeSpec,
    tokenizer: InjectionSafeTokenizer,
    completions: tuple[str, ...],
    verdict: float,
    written: str,
) -> None:
    example = Example(prompt="P <|im_end|>", completions=completions, verdict=verdict, kind="", origin="")
    [encoded] = encode([example], spec, tokenizer)
    ids, labels = encoded["input_ids"], encoded["labels"]
    assert len(ids) == len(labels)
    target = [label for label in labels if label != IGNORED]
    assert labels == [IGNORED] * (len(ids) - len(target)) + target
    assert ids[-len(target) :] == target
    assert tokenizer.hf.decode(target[:-1]) == written
    assert target[-1] == tokenizer.hf.eos_token_id
    given = tokenizer.hf.decode(ids[: -len(target)])
    assert given.endswith("Rating: [[" if len(completions) == 1 else "The final decision is")
    # Only the wrapper's own turn ends are special tokens; the prompt's is text.
    assert ids[: -len(target)].count(4) == 1


def test_a_direct_example_is_what_the_engine_will_read(
    spec: JudgeSpec, tokenizer: InjectionSafeTokenizer
) -> None:
    """The target follows a path of the very tree that readouts follow."""
    from autoj_reward.engines.logprobs.token_tree import token_tree

    assert spec.rating is not None
    tree = token_tree(spec.rating.verdicts.readout(), tokenizer)
    for rating in (1.0, 6.5, 10.0):
        example = Example(prompt="P", completions=("C.",), verdict=rating, kind="", origin="")
        target = [label for label in encode([example], spec, tokenizer)[0]["labels"] if label != IGNORED]
        path = tree.paths[spec.rating.verdicts.verdicts.index(rating)]
        assert tuple(target[: len(path)]) == tuple(path)
        assert target[len(path)] in tree.terminators


@pytest.mark.parametrize(
    "scale, rating, own",
    [
        ([1.0, 1.5, 2.0, 10.0], 1.5, 1.5),
        (range(1, 11), 6.5, 6.0),
        (range(1, 11), 10.0, 10.0),
        (range(1, 6), 6.0, 3.0),
        (range(1, 6), 10.0, 5.0),
        ([0.0, 1.0], 7.0, 1.0),
    ],
    ids=["own", "half point", "highest", "1 to 5", "highest of 5", "two"],
)
def test_ratings_are_brought_onto_the_judges_scale(scale: Any, rating: float, own: float) -> None:
    ratings = load_spec("mini").rating
    assert ratings is not None
    verdicts = dataclasses.replace(ratings.verdicts, verdicts=tuple(map(float, scale)))
    assert on_scale(rating, verdicts) == own


def test_a_critique_example_carries_loss_on_all_that_is_written(
    spec: JudgeSpec, tokenizer: InjectionSafeTokenizer
) -> None:
    example = Example(
        prompt="P",
        completions=("C.",),
        verdict=3.0,
        kind="",
        origin="",
        critique="It is short.\n\nRating: [[3]]",
    )
    labels = [label for label in encode([example], spec, tokenizer)[0]["labels"] if label != IGNORED]
    assert tokenizer.hf.decode(labels[:-1]) == "It is short.\n\nRating: [[3]]"
    assert labels[-1] in tokenizer.turn_end_ids


def stage(**examples: int) -> Stage:
    return Stage(name="s", examples=examples, max_tokens=4000)


def test_pairs_come_in_both_orders_next_to_each_other(config: TrainConfig, spec: JudgeSpec) -> None:
    part = load_corpus(config).train
    examples = stage_examples(stage(pair_comparisons=20, contrast_comparisons=20), part, spec, seed=1)
    other = {"first": "second", "second": "first", "tie": "tie"}
    assert len(examples) == 40
    for a, b in zip(examples[::2], examples[1::2], strict=True):
        assert a.unit == b.unit
        assert a.completions == b.completions[::-1]
        assert b.verdict == other[a.verdict]  # type: ignore[index]


def test_crossed_ratings_tell_nothing_but_what_belongs_together(config: TrainConfig, spec: JudgeSpec) -> None:
    examples = stage_examples(stage(crossed_ratings=24), load_corpus(config).train, spec, seed=1)
    assert len(examples) == 24
    for start in range(0, 24, 4):
        unit = examples[start : start + 4]
        assert len({e.unit for e in unit}) == 1
        for key in (lambda e: e.prompt, lambda e: e.completions):
            for value in {key(e) for e in unit}:
                assert sorted(e.verdict for e in unit if key(e) == value) == [1.0, 6.0]


@pytest.mark.parametrize("kind", ["pair_ratings", "pair_comparisons"])
def test_balanced_pairs_prefer_the_longer_as_often_as_the_shorter(
    config: TrainConfig, spec: JudgeSpec, kind: str
) -> None:
    balanced = dataclasses.replace(stage(**{kind: 16}), balance_lengths=True)
    part = load_corpus(config).train
    pairs = tuple(dataclasses.replace(p, first=p.first + " And more of it.") for p in part.pairs)
    part = dataclasses.replace(part, pairs=pairs)
    examples = stage_examples(balanced, part, spec, seed=1)
    assert len(examples) == 16
    longer = {(p.prompt, max(p.first, p.second, key=len)) for p in part.pairs}
    units: dict[str, list[bool]] = {}
    for example in examples:
        if kind == "pair_ratings":
            if example.verdict == 7.0:
                units.setdefault(example.unit, []).append((example.prompt, example.completions[0]) in longer)
        elif example.verdict == "first":
            best = example.completions[0]
            units.setdefault(example.unit, []).append((example.prompt, best) in longer)
    assert all(sorted(unit) == [False, True] for unit in units.values())


@pytest.mark.parametrize("kind", ["correctness_ratings", "correctness_comparisons"])
def test_a_right_and_a_wrong_completion_are_one_unit(config: TrainConfig, spec: JudgeSpec, kind: str) -> None:
    examples = stage_examples(stage(**{kind: 24}), load_corpus(config).train, spec, seed=1)
    assert len(examples) == 24
    verdicts = {8.0, 2.0} if kind == "correctness_ratings" else {"first", "second"}
    for start in range(0, 24, 2):
        pair = examples[start : start + 2]
        assert len({e.unit for e in pair}) == 1
        assert {e.verdict for e in pair} == verdicts


def test_identical_completions_are_ties(config: TrainConfig, spec: JudgeSpec) -> None:
    only = dataclasses.replace(stage(contrast_comparisons=10), flaws={"identical": 1.0})
    examples = stage_examples(only, load_corpus(config).train, spec, seed=1)
    assert {e.verdict for e in examples} == {"tie"}
    assert all(e.completions[0] == e.completions[1] for e in examples)


@pytest.mark.parametrize("brackets", [False, True])
def test_critiques_end_in_the_verdict_they_are_labelled_with(
    config: TrainConfig, spec: JudgeSpec, brackets: bool
) -> None:
    from autoj_reward.judge.parse import Stated, find_verdict

    if brackets:
        assert spec.comparison is not None
        letters = preference_set(
            written={"first": "A", "second": "B", "tie": "C"},
            also={},
            verdict_prefix="My decision: [[",
            pattern=r"\[\[(?P<verdict>[ABC])\]\]",
            terminators=("]",),
            end_of_turn=False,
        )
        spec = dataclasses.replace(spec, comparison=dataclasses.replace(spec.comparison, verdicts=letters))
    part = load_corpus(config).train
    wanted = stage(contrast_rating_critiques=20, contrast_comparison_critiques=20, pair_critiques=20)
    examples = stage_examples(wanted, part, spec, seed=1)
    assert len(examples) == 60
    for example in examples:
        protocol = spec.rating if len(example.completions) == 1 else spec.comparison
        assert protocol is not None
        found = find_verdict(example.critique, "stop", protocol.verdicts)
        assert isinstance(found, Stated), example.critique
        assert found.verdict == example.verdict


def test_the_same_seed_draws_the_same_examples(config: TrainConfig, spec: JudgeSpec) -> None:
    part = load_corpus(config).train
    wanted = stage(contrast_ratings=20, pair_ratings=10)
    assert stage_examples(wanted, part, spec, seed=1) == stage_examples(wanted, part, spec, seed=1)
    assert stage_examples(wanted, part, spec, seed=1) != stage_examples(wanted, part, spec, seed=2)


def test_auto_j_ratings_are_read_and_contaminated_prompts_stay_out(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """105 of the 960 published examples share a prompt with Auto-J's pairwise test."""
    from autoj_reward.training.config import load_config

    monkeypatch.setenv("AUTOJ_REWARD_DATA", str(data))
    config = load_config(Path(__file__).resolve().parent.parent.parent / "examples" / "train_mini.toml")
    corpus = load_corpus(config)
    tested = set()
    for path in config.exclude:
        tested |= prompts_of(path)
    assert not tested & (corpus.train.prompts | corpus.held_out.prompts)
    rated = len(corpus.train.rated) + len(corpus.held_out.rated)
    pairs = data / "auto-j" / "data" / "test" / "testdata_pairwise.jsonl"
    contaminated = prompts_of(str(pairs))
    everything = load_corpus(dataclasses.replace(config, exclude=()))
    shared = [
        r
        for r in (*everything.train.rated, *everything.held_out.rated)
        if prompt_key(r.prompt) in contaminated
    ]
    # The published count is of equal texts; another three differ in case or blanks.
    assert len(shared) == 108
    assert rated <= 960 - 108


def test_held_out_ratings_are_on_the_judges_scale(config: TrainConfig, tmp_path: Path) -> None:
    """They were on Auto-J's scale, so a temperature fitted to them was of other labels than training's."""
    (tmp_path / "five.toml").write_text(
        'extends = "mini"\nname = "five"\n[rating.scale]\nlow = 1\nhigh = 5\nstep = 1\n'
    )
    five = load_spec(str(tmp_path / "five.toml"))
    part = Part(
        rated=tuple(
            RatedRow(prompt="p", completion="c", rating=r, critique="", origin="") for r in (1, 5.5, 10)
        ),
        pairs=(),
    )
    assert [row["rating"] for row in part.labelled(five)] == [1.0, 3.0, 5.0]
    assert [row["rating"] for row in part.labelled(load_spec("autoj-13b"))] == [1.0, 5.5, 10.0]
