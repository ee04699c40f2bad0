# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from click.testing import Result
from typer.testing import CliRunner

from autoj_reward.cache.store import JudgmentStore
from autoj_reward.cli.cache import app
from autoj_reward.engines.cached import CachedEngine
from autoj_reward.engines.recorded import RecordedEngine
from autoj_reward.errors import ConfigError, DataError, StoreError
from autoj_reward.judge.judge import Judge
from tests.cli.conftest import RATINGS, write_rows
from tests.engines.drawing import DrawingEngine
from tests.engines.test_cached import READOUT, question

Cache = Callable[..., Result]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A cache of two engines: 6 texts and 4 readings of one, one text of the other."""
    store = JudgmentStore(tmp_path / "a.sqlite")
    items = [question(str(n)) for n in range(5)] + [question(str(n), readout=READOUT) for n in range(4)]
    CachedEngine(DrawingEngine("one" * 10), store).generate([*items, question("lone \ud800 surrogate")])
    CachedEngine(DrawingEngine("two" * 10), store).generate([question("0")])
    store.close()
    return tmp_path / "a.sqlite"


@pytest.fixture
def cache(path: Path) -> Cache:
    """Run a cache command on it; errors made for people are raised."""

    def call(*arguments: str, on: Path = path) -> Result:
        return CliRunner().invoke(app, [*arguments, "--cache", str(on)], catch_exceptions=False)

    return call


def damage(path: Path) -> None:
    store = JudgmentStore(path)
    with store.database.writing() as connection:
        connection.execute("UPDATE judgments SET value = value || x'00' WHERE id = 3")
    store.close()


def test_stats(cache: Cache) -> None:
    table = cache("stats").stdout
    assert "DrawingEngine" in table
    assert re.search(r"oneoneone.* 6 .* 4 ", table)
    known = json.loads(cache("stats", "--json").stdout)
    assert [(e["n_texts"], e["n_readings"]) for e in known["engines"]] == [(6, 4), (1, 0)]


def test_commands_do_not_make_a_cache(cache: Cache, tmp_path: Path) -> None:
    for command in (
        ["stats"],
        ["verify"],
        ["prune", "--max-size", "1kB"],
        ["export", str(tmp_path / "x.parquet")],
    ):
        with pytest.raises(ConfigError, match="there is no cache"):
            cache(*command, on=tmp_path / "none.sqlite")
    assert not (tmp_path / "none.sqlite").exists()


def test_verify_finds_names_and_drops_what_is_damaged(cache: Cache, path: Path) -> None:
    assert "11 judgments, 0 damaged" in cache("verify").stdout
    damage(path)
    result = cache("verify")
    assert result.exit_code == 1
    assert "checksum does not fit" in result.stdout
    assert "11 judgments, 1 damaged, removed" in cache("verify", "--drop").stdout
    assert "10 judgments, 0 damaged" in cache("verify").stdout


def test_verify_finds_a_key_that_is_not_its_own(cache: Cache, path: Path) -> None:
    """A record under another model's setup: its bytes are whole, and it would answer the wrong question."""
    store = JudgmentStore(path)
    (other,) = [n for n, s in store.setups().items() if s.engine.startswith("two")]
    with store.database.writing() as connection:
        connection.execute("UPDATE judgments SET setup = ? WHERE id = 1", (other,))
    store.close()
    result = cache("verify")
    assert result.exit_code == 1
    assert "does not fit engine, settings and draw" in result.stdout


def test_prune(cache: Cache) -> None:
    assert "1 judgments" in cache("prune", "--model", "twotwo", "--dry-run").stdout
    assert "11 judgments" in cache("verify").stdout
    assert "1 judgments" in cache("prune", "--model", "twotwo").stdout
    assert "0 judgments" in cache("prune", "--older-than", "1h").stdout
    assert "10 judgments" in cache("prune", "--max-size", "0").stdout
    for wrong in (["--older-than", "soon"], ["--max-size", "3 parsecs"], []):
        with pytest.raises(ConfigError):
            cache("prune", *wrong)


def test_export_and_import_are_exact(cache: Cache, path: Path, tmp_path: Path) -> None:
    cache("export", str(tmp_path / "out.parquet"))
    assert (
        "11 new judgments" in cache("import", str(tmp_path / "out.parquet"), on=tmp_path / "b.sqlite").stdout
    )
    again = cache("import", str(tmp_path / "out.parquet"), on=tmp_path / "b.sqlite").stdout
    assert "0 new judgments" in again
    assert "11 known before" in again
    assert list(JudgmentStore(path).records()) == list(JudgmentStore(tmp_path / "b.sqlite").records())


def test_an_export_can_be_read_by_people(cache: Cache, tmp_path: Path) -> None:
    cache("export", str(tmp_path / "out.parquet"))
    rows = pq.read_table(tmp_path / "out.parquet").to_pylist()
    texts = [row["text"] for row in rows if row["continuations"] is None]
    assert any(text.endswith("Judge: lone \ufffd surrogate") for text in texts)
    reading = next(row for row in rows if row["continuations"])
    assert reading["continuations"] == ["1", "2", "10"]
    assert reading["path_logprobs"][1] == float("-inf")
    assert reading["unread_prob"] == 0.25


def test_a_damaged_judgment_is_not_exported_as_if_it_were_whole(
    cache: Cache, path: Path, tmp_path: Path
) -> None:
    damage(path)
    with pytest.raises(StoreError, match="is damaged"):
        cache("export", str(tmp_path / "out.parquet"))
    assert not (tmp_path / "out.parquet").exists()


def test_files_that_are_no_export_are_not_imported(cache: Cache, path: Path, tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_text("no")
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        cache("import", str(tmp_path / "x.parquet"))
    import pyarrow as pa

    pq.write_table(pa.table({"key": [b"k"]}), tmp_path / "y.parquet")
    with pytest.raises(DataError, match="not an export of a cache"):
        cache("import", str(tmp_path / "y.parquet"))


def test_an_import_leaves_damaged_rows_out(cache: Cache, tmp_path: Path) -> None:
    cache("export", str(tmp_path / "out.parquet"))
    table = pq.read_table(tmp_path / "out.parquet")
    rows = table.to_pylist()
    rows[0]["value"] = rows[0]["value"][:-1]
    rows[1]["engine"] = "another"
    rows[2]["key"] = None
    import pyarrow as pa

    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), tmp_path / "out.parquet")
    said = cache("import", str(tmp_path / "out.parquet"), on=tmp_path / "b.sqlite").stdout
    assert "8 new judgments" in said
    assert "3 damaged" in said


def test_merge(cache: Cache, path: Path, tmp_path: Path) -> None:
    store = JudgmentStore(tmp_path / "b.sqlite")
    mine = CachedEngine(DrawingEngine("one" * 10), store).generate([question("4"), question("mine")])
    said = cache("merge", str(path), on=tmp_path / "b.sqlite").stdout
    assert "10 new judgments" in said
    assert "1 known before" in said
    # The first write wins here as everywhere.
    assert CachedEngine(DrawingEngine("one" * 10), store).generate([question("4"), question("mine")]) == mine
    assert "DrawingEngine" in cache("stats", on=tmp_path / "b.sqlite").stdout
    with pytest.raises(ConfigError, match="would be merged into"):
        cache("merge", str(path))
    with pytest.raises(ConfigError, match="no cache"):
        cache("merge", str(tmp_path / "none.sqlite"))


def test_merge_takes_what_is_whole_out_of_a_damaged_file(cache: Cache, tmp_path: Path) -> None:
    path = tmp_path / "big.sqlite"
    store = JudgmentStore(path)
    CachedEngine(DrawingEngine(), store).generate([question(f"{n} " + "x" * 3000) for n in range(200)])
    store.close()
    content = bytearray(path.read_bytes())
    # Pages in the middle of the values: two of them are lost.
    for page in (40, 60):
        content[page * 8192 : (page + 1) * 8192] = b"\xff" * 8192
    path.write_bytes(content)
    said = cache("merge", str(path), on=tmp_path / "b.sqlite").stdout
    found = re.search(r"(\d+) new judgments.* (\d+) damaged", said)
    assert found, said
    assert int(found[1]) >= 180
    assert "0 damaged" in cache("verify", on=tmp_path / "b.sqlite").stdout


# explain


@pytest.fixture
def judged(tmp_path: Path, recorded: list[str]) -> tuple[Path, str, list[str]]:
    """A cache with the direct rating of one row, the engine's fingerprint, and the engine's options."""
    engine = RecordedEngine(recorded[1].removeprefix("recorded:"))
    path = tmp_path / "judged.sqlite"
    judge = Judge.load("mini", engine=CachedEngine(engine, JudgmentStore(path)))
    judge.rate(["Capital of France?"], ["Paris"])
    write_rows(
        tmp_path / "in.jsonl",
        [
            {"prompt": "Capital of France?", "completion": "Paris"},
            {"prompt": "Capital of France?", "completion": "Paris!"},
            {"prompt": "Q", "first": "a", "second": "b"},
        ],
    )
    assert RATINGS
    return path, str(tmp_path / "in.jsonl"), recorded


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--row", "1"], ["reading", "hit"]),
        (["--row", "2"], ["reading", "miss", "text: here"]),
        (["--row", "3"], ["reading", "miss", "text: here"]),
        (["--row", "1", "--mode", "critique"], ["text", "miss"]),
        (["--row", "1", "--fingerprint", "other"], ["miss", "engine: here", "other", "recorded:"]),
    ],
    ids=["hit", "another completion", "a comparison", "another mode", "another engine"],
)
def test_explain(
    judged: tuple[Path, str, list[str]], cache: Cache, options: list[str], said: list[str]
) -> None:
    path, rows, engine = judged
    out = cache("explain", rows, *options, *engine, on=path).stdout
    for words in said:
        assert words in out


def test_explain_names_the_settings_that_differ(tmp_path: Path, cache: Cache, judged: Any) -> None:
    path, rows, engine = judged
    judge = Judge.load(
        "mini", engine=CachedEngine(RecordedEngine(engine[1][9:]), JudgmentStore(path)), mode="critique"
    )
    judge.rate(["Capital of France?"], ["Paris"])
    out = cache("explain", rows, "--mode", "critique", "--max-new-tokens", "7", *engine, on=path).stdout
    assert re.search(r"settings.max_new_tokens: here 7, stored \d+", out)
    assert "prefill" not in out


def test_explain_names_a_row_that_is_not_there(cache: Cache, judged: Any) -> None:
    path, rows, engine = judged
    with pytest.raises(DataError, match="no row 9"):
        cache("explain", rows, "--row", "9", *engine, on=path)
