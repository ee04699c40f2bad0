# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest

from autoj_reward.autoj.scenarios.criteria import load_criteria
from autoj_reward.autoj.scenarios.embedded import EmbeddedClassifier
from autoj_reward.autoj.scenarios.names import classifier_labels, group_of, scenario_groups
from autoj_reward.autoj.scenarios.rubrics import ScenarioRubrics
from autoj_reward.errors import ConfigError, DataError
from autoj_reward.rows.fields import RowProblem

ENTRY = "  clear:\n    content: The answer is clear.\n    weight: 4\n    type: style\n"
PLAIN = "own:\n" + ENTRY


def folder_with(path: Path, **files: str) -> Path:
    for name, text in files.items():
        file = path / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return path


def test_all_published_sets_load_and_render(data: Path) -> None:
    sets = load_criteria(data / "auto-j")
    assert list(sets) == sorted(scenario_groups())
    assert sum(len(s.criteria) for s in sets.values()) == 705
    for found in sets.values():
        assert list(found.by_type()) == [
            t for t in ("basic", "content", "format", "style") if t in found.by_type()
        ]
        rubric = found.rubric()
        assert all(f"- {c.name} [{c.weight}]: {c.content}" in rubric for c in found.criteria)
    coding = sets["code_generation"]
    assert {c.type for c in coding.criteria} == {"basic"}  # all of it comes from one included file
    assert load_criteria(data / "auto-j" / "other_resources" / "scenario_criteria" / "specials") == sets


def test_a_folder_of_ones_own_includes_from_its_root(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    folder_with(shared, basics=ENTRY.replace("\n  ", "\n").removeprefix("  "))
    sets = folder_with(tmp_path / "sets", chitchat='base:\n  !include "shared/basics.yaml"\n' + PLAIN)
    found = load_criteria(sets, root=tmp_path)["chitchat"]
    assert [(c.name, c.weight, c.type) for c in found.criteria] == [("clear", 4, "style")] * 2
    with pytest.raises(DataError, match=r"chitchat.yaml:2: !include .* no such file") as caught:
        load_criteria(sets)
    assert "--criteria-root" in caught.value.hint


def test_texts_stay_texts(tmp_path: Path) -> None:
    """YAML's own reading makes `no` a boolean and a date of digits, and loses what was written."""
    folder_with(tmp_path, x="own:\n  no:\n    content: 2020-01-01\n    weight: 1\n    type: basic\n")
    (criterion,) = load_criteria(tmp_path)["x"].criteria
    assert (criterion.name, criterion.content) == ("no", "2020-01-01")


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a]\nc: [*b, *b, *b, *b, *b]\n"
HOSTILE = [
    ("python object", "own: !!python/object/apply:os.system ['true']\n", "tag"),
    ("unknown tag", "own: !other x\n", "tag !other"),
    ("binary", "own: !!binary aGk=\n", "tag"),
    ("anchor bomb", BOMB, "anchor"),
    ("merge key", "base: &b\n" + ENTRY + "own:\n  <<: *b\n", "anchor"),
    ("absolute include", 'own: !include "/etc/passwd"\n', "leaves the root"),
    ("include upwards", 'own: !include "../secret.yaml"\n', "leaves the root"),
    ("include through a link", 'own: !include "link.yaml"\n', "leaves the root"),
    ("include of itself", 'own: !include "x.yaml"\n', "circle: x.yaml -> x.yaml"),
    ("include of a folder", 'own: !include "."\n', "no such file"),
    ("include of a list", "own: !include [a, b]\n", "one path"),
    ("two documents", PLAIN + "---\n" + PLAIN, "not YAML"),
    ("not YAML", "own: [\n", "not YAML"),
    ("control characters", "own: \x07\n", "not YAML"),
    ("a key twice", "own:\n" + ENTRY + ENTRY, "'clear' twice"),
    ("deep", "a: " + "[" * 60 + "]" * 60 + "\n", "deep"),
    ("very deep", "a: " + "[" * 100_000, "deep"),
    ("large", "# " + "x" * (1 << 20) + "\n" + PLAIN, "larger"),
    ("empty", "", "no criteria"),
    ("a list", "- a\n", "no criteria"),
    ("a text for a section", "own: words\n", "must hold content"),
    ("no weight", "own:\n  clear:\n    content: c\n    type: style\n", "weight"),
    ("weight zero", PLAIN.replace("4", "0"), "weight"),
    ("unknown type", PLAIN.replace("style", "taste"), "type"),
    ("unknown field", PLAIN + "    colour: red\n", "colour"),
    ("empty content", PLAIN.replace("The answer is clear.", '" "'), "empty"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), [h[1:] for h in HOSTILE], ids=[h[0] for h in HOSTILE])
def test_hostile_and_wrong_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    folder_with(tmp_path, secret=PLAIN)
    sets = folder_with(tmp_path / "sets", x=text)
    (sets / "link.yaml").symlink_to(tmp_path / "secret.yaml")
    with pytest.raises(DataError, match=message) as caught:
        load_criteria(sets)
    assert "x.yaml" in str(caught.value)


def test_a_circle_of_files_is_found(tmp_path: Path) -> None:
    folder_with(tmp_path, a='own: !include "b.yaml"\n', b='own: !include "a.yaml"\n')
    with pytest.raises(DataError, match=r"circle: a.yaml -> b.yaml -> a.yaml"):
        load_criteria(tmp_path)


def test_includes_that_multiply_are_stopped(tmp_path: Path) -> None:
    """Ten files that include the next one ten times each would read it 10^9 times."""
    for n in range(5):
        lines = "".join(f's{k}: !include "f{n + 1}.yaml"\n' for k in range(10))
        folder_with(tmp_path, **{f"f{n}": lines})
    folder_with(tmp_path, f5=PLAIN)
    with pytest.raises(DataError, match="more than 200 files"):
        load_criteria(tmp_path)


def test_a_long_chain_of_includes_is_stopped(tmp_path: Path) -> None:
    for n in range(12):
        folder_with(tmp_path, **{f"g{n:02}": f'own: !include "g{n + 1:02}.yaml"\n'})
    with pytest.raises(DataError, match="files deep"):
        load_criteria(tmp_path)


def test_missing_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no folder"):
        load_criteria(tmp_path / "none")
    with pytest.raises(ConfigError, match=r"no \.yaml files"):
        load_criteria(tmp_path)
    folder_with(tmp_path, x=PLAIN)
    with pytest.raises(ConfigError, match="for includes"):
        load_criteria(tmp_path, root=tmp_path / "none")


def test_the_classifier_knows_60_names_and_default() -> None:
    labels = classifier_labels()
    assert (len(labels), labels[-1]) == (61, "default")
    assert set(scenario_groups()) <= set(labels)
    assert {label for label in labels if group_of(label) == "Other"} == {
        "default",
        "peer_review",
        "rejecting",
    }


@pytest.mark.parametrize("scenario", ["Chitchat", "no such"])
def test_a_scenario_that_does_not_exist_is_a_bad_row(scenario: str, data: Path) -> None:
    """Its row was judged without criteria."""
    rubrics = ScenarioRubrics(load_criteria(data / "auto-j"), EmbeddedClassifier)
    with pytest.raises(RowProblem, match="is not a scenario"):
        rubrics({"scenario": scenario}, "How are you?")
    assert rubrics({"scenario": "chitchat"}, "How are you?")
    assert rubrics({"scenario": ""}, "How are you?") == rubrics({}, "How are you?")
