# SPDX-License-Identifier: Apache-2.0
"""Keys and passwords given to a command reach no file and no message."""

from __future__ import annotations

from pathlib import Path

import pytest

from autoj_reward.errors import ConfigError, EngineError
from tests.cli.conftest import Run, write_rows

SECRET = "hunter2-hunter2"


def written(folder: Path) -> str:
    return "".join(p.read_text(errors="replace") for p in folder.rglob("*") if p.is_file())


def test_a_key_given_as_an_engine_option_is_not_in_the_record(run: Run, tmp_path: Path) -> None:
    write_rows(tmp_path / "in.jsonl", [{"prompt": "Q", "completion": "A"}])
    options = [f"api_key={SECRET}", "attempts=1", "tokenizer=none", "model=m"]
    with pytest.raises(EngineError):
        run(
            "rate", "in.jsonl", "-o", "out.jsonl", "--engine", "server:http://127.0.0.1:9",
            *[part for option in options for part in ("--engine-option", option)],
            judge=False,
        )  # fmt: skip
    assert "model=m" in (tmp_path / "out.jsonl.run.json").read_text()
    assert SECRET not in written(tmp_path)


@pytest.mark.parametrize(
    "address", ["http://user:{}@127.0.0.1:9", "http://user:{}/x@127.0.0.1:9", "http://user:{},x@127.0.0.1:9"]
)
def test_an_address_with_a_password_is_refused_before_anything_is_written(
    run: Run, tmp_path: Path, address: str
) -> None:
    write_rows(tmp_path / "in.jsonl", [{"prompt": "Q", "completion": "A"}])
    with pytest.raises(ConfigError, match="holds a user name or a password") as error:
        run(
            "rate", "in.jsonl", "-o", "out.jsonl", "--engine", f"server:{address.format(SECRET)}", judge=False
        )
    assert SECRET not in str(error.value)
    assert SECRET not in written(tmp_path)
    assert not (tmp_path / "out.jsonl.run.json").exists()


def test_a_plan_shows_no_key(run: Run, tmp_path: Path) -> None:
    write_rows(tmp_path / "in.jsonl", [{"prompt": "Q", "completion": "A"}])
    engine = ["--engine", "server:http://127.0.0.1:9", "--engine-option", f"api_key={SECRET}"]
    done = run("rate", "in.jsonl", "-o", "out.jsonl", "--dry-run", *engine, judge=False)
    assert "http://127.0.0.1:9" in done.stdout
    assert SECRET not in done.stdout
