# SPDX-License-Identifier: Apache-2.0
"""Judge files that cannot be: each ends in a ConfigError with its file, never in a traceback."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autoj_reward.errors import ConfigError, TemplateError
from autoj_reward.judge.presets import load_spec, preset_names
from autoj_reward.judge.spec import read_text

BASE = 'extends = "general"\nname = "mine"\nmodel = "org/mine"\n'

WRONG = {
    "infinite scale": ("[rating.scale]\nhigh = inf", "rating.scale.high = inf"),
    "scale that is no number": ("[rating.scale]\nlow = nan", "rating.scale.low = nan"),
    "scale of a billion ratings": ("[rating.scale]\nstep = 1e-9", "holds over"),
    "ratings written alike": ("[rating.scale]\nlow = 1000000\nhigh = 1000001\nstep = 0.5", "alike"),
    "integer over 64 bits": (f"[rating.scale]\nhigh = 1{'0' * 400}", "rating.scale.high"),
    "integer of 5,000 digits": (f"context_tokens = 1{'0' * 5000}", "not TOML"),
    "languages that are no texts": ("languages = [5]", "languages"),
    "stop that is no text": ("[sampling]\nstop = [5]", "stop"),
    "negative length": ("[sampling]\nmax_new_tokens = -5", "max_new_tokens"),
    "share above one": ("[sampling]\ntop_p = 7.5", "top_p"),
    "terminators that are no texts": ("[rating]\nterminators = [5]", "terminators"),
    "fields that are no texts": ("[rating]\nfields = {prompt = 5}", "fields"),
    "blocks that are no texts": ("[rating]\nblocks = {rubric = [1]}", "blocks"),
    "spellings that are no texts": ("[comparison]\nalso = {tie = [1]}", "also"),
    "a table where a text is": ("[name2]\nx = 1", "name2"),
    "deep lists": (f"notes = {'[' * 5000}{']' * 5000}", "nested"),
    "deep tables": ("[" + ".".join("a" * 1 for _ in range(40)) + "]", "nested"),
    "pattern that is none": ('[rating]\npattern = "("', "regular expression"),
}


@pytest.mark.parametrize("name", WRONG)
def test_settings_that_cannot_be_are_refused_with_their_key(tmp_path: Path, name: str) -> None:
    text, words = WRONG[name]
    file = tmp_path / "judge.toml"
    file.write_text(f"{BASE}{text}\n")
    raised = error_of(file)
    assert isinstance(raised, ConfigError), raised
    assert words in str(raised)


def error_of(file: Path) -> BaseException | None:
    try:
        load_spec(str(file))
    except BaseException as error:
        return error
    return None


@pytest.mark.parametrize("base", ["5", "[]", "{a = 1}", "true", "1979-05-27", '"."', '"\\u0000"'])
def test_extends_takes_a_name_only(tmp_path: Path, base: str) -> None:
    file = tmp_path / "judge.toml"
    file.write_text(f"extends = {base}\n")
    raised = error_of(file)
    assert isinstance(raised, ConfigError), raised
    assert "extends" in str(raised)


def test_files_that_extend_each_other_without_end_are_refused(tmp_path: Path) -> None:
    for n in range(500):
        (tmp_path / f"{n}.toml").write_text(f'extends = "{n + 1}.toml"\n')
    (tmp_path / "500.toml").write_text('extends = "general"\n')
    raised = error_of(tmp_path / "0.toml")
    assert isinstance(raised, ConfigError), type(raised)
    (tmp_path / "a.toml").write_text('extends = "b.toml"\n')
    (tmp_path / "b.toml").write_text('extends = "a.toml"\n')
    assert "in a circle" in str(error_of(tmp_path / "a.toml"))


def test_translations_that_translate_each_other_are_refused(tmp_path: Path) -> None:
    for own, other in (("en", "zh"), ("zh", "en")):
        (tmp_path / f"{own}.toml").write_text(
            f'{BASE}languages = ["{own}", "{other}"]\n[translations]\n{other} = "{other}.toml"\n'
        )
    raised = error_of(tmp_path / "en.toml")
    assert isinstance(raised, ConfigError), type(raised)
    assert "without end" in str(raised)


@pytest.mark.parametrize(
    "content", [b"\xff\xfe", b'name = "\xe9"', b"\xef\xbb\xbfname = 5", b"x" * (2 << 20)]
)
def test_files_that_are_no_toml_are_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "judge.toml"
    file.write_bytes(content)
    assert isinstance(error_of(file), ConfigError)
    file.unlink()
    file.mkdir()
    assert isinstance(error_of(file), ConfigError)


def test_a_template_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_bytes(b"{prompt} \xff {completion}")
    (tmp_path / "judge.toml").write_text(f'{BASE}[rating]\ntemplate = "t.txt"\n')
    raised = error_of(tmp_path / "judge.toml")
    assert isinstance(raised, ConfigError), raised
    assert "t.txt" in str(raised)


NASTY = st.sampled_from(
    ["inf", "-inf", "nan", "0", "-1", "1e308", "5e-324", "true", '""', '"{x}"', '"\\u0000"', "[]", "{}", "[[]]",
     "[1]", "{a = 1}", "9223372036854775807", "1" + "0" * 30, "1979-05-27", "[nan]", '"general"', "[\"\"]"]
)  # fmt: skip


@given(data=st.data(), preset=st.sampled_from(preset_names()))
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
def test_no_value_of_any_setting_ends_in_a_traceback(data: st.DataObject, preset: str) -> None:
    lines = read_text(f"{preset}.toml", None).splitlines()
    places = [n for n, line in enumerate(lines) if " = " in line and not line.lstrip().startswith("#")]
    for n in data.draw(st.lists(st.sampled_from(places), min_size=1, max_size=3)):
        lines[n] = f"{lines[n].partition(' = ')[0]} = {data.draw(NASTY)}"
    refused_or_read("\n".join(lines).encode())


@given(
    content=st.one_of(
        st.binary(max_size=60), st.text(alphabet="[]{}=.,\"'\\#\n ab1-_:TZ+e", max_size=80).map(str.encode)
    )
)
@settings(max_examples=60)
def test_no_file_ends_in_a_traceback(content: bytes) -> None:
    refused_or_read(content)


def refused_or_read(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "judge.toml"
        file.write_bytes(content)
        with contextlib.suppress(ConfigError, TemplateError):
            assert load_spec(str(file)).fingerprint


def test_the_former_names_of_settings_still_work(tmp_path: Path) -> None:
    path = tmp_path / "judge.toml"
    path.write_text('extends = "mini"\nname = "own"\n[rating]\nlead = "Score: [["\nends = [")"]\n')
    with pytest.warns(DeprecationWarning, match="is now"):
        spec = load_spec(str(path))
    assert spec.rating is not None
    assert spec.rating.verdicts.verdict_prefix == "Score: [["
    assert spec.rating.verdicts.terminators == (")",)
