# SPDX-License-Identifier: Apache-2.0
"""Blocks without a cluster: cut, judged in any order, gone on with; and the actor's code called by hand."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from autoj_reward.errors import ConfigError, DataError
from autoj_reward.integrations.ray import BlockJudge, BlockTask, RaySettings, _pool
from autoj_reward.judge.judge import Judge
from autoj_reward.judge.messages.text import prompt_text
from autoj_reward.judge.panels.panel import Panel
from autoj_reward.rows.blocks import Blocks, added_schema, with_fields
from autoj_reward.rows.fields import row_format
from autoj_reward.rows.parquet import write_parquet
from autoj_reward.rows.tasks import compare_task, rate_task

RUN = {"command": "rate", "input": "abc"}
ANSWERS = [
    {"contains": ["Paris"], "reading": {"9": 0.6, "8": 0.4}},
    {"contains": ["mumble"], "reading": {"5": 0.0001}},
    {"contains": ["Response 1"], "reading": {"Response 1": 0.5, "Response 2": 0.3, "Tie": 0.2}},
    {"contains": [], "reading": {"5": 0.75, "6": 0.25}},
]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """23 rows, in row groups that do not fit the blocks."""
    rows = [
        {"id": k, "prompt": "Q", "completion": "mumble" if k % 5 == 4 else f"Paris {k}"} for k in range(23)
    ]
    path = tmp_path / "in.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=7)
    return path


@pytest.fixture
def task(tmp_path: Path) -> Callable[..., BlockTask]:
    recorded = tmp_path / "recorded.jsonl"
    recorded.write_text("".join(json.dumps(a) + "\n" for a in ANSWERS), encoding="utf-8")

    def make(blocks: Blocks, kind: Any = "rate", work: Any = rate_task) -> BlockTask:
        return BlockTask(
            blocks=blocks,
            judge={"name_or_path": "mini", "mode": "direct", "engine": f"recorded:{recorded}"},
            make_work=partial(work, row_format=row_format(kind, None, {})),
            schema=added_schema(kind),
        )

    return make


def ids(folder: Path) -> list[list[int]]:
    return [pq.read_table(part)["id"].to_pylist() for part in sorted(folder.glob("part-*.parquet"))]


def test_blocks_are_cut_by_row_number_whatever_the_row_groups(source: Path, tmp_path: Path) -> None:
    blocks = Blocks(tmp_path / "out", RUN, block_rows=10)
    assert blocks.deal(source, leave_out={1, 12}) == [0, 1, 2]
    assert [blocks.read(n)["id"].to_pylist() for n in range(3)] == [
        [1, 2, 3, 4, 5, 6, 7, 8, 9, 10], [12, 13, 14, 15, 16, 17, 18, 19, 20, 21], [22],
    ]  # fmt: skip


def test_the_actor_makes_the_rows_that_one_machine_makes(source: Path, tmp_path: Path, task: Any) -> None:
    blocks = Blocks(tmp_path / "out", RUN, block_rows=10)
    pending = blocks.deal(source)
    actor = BlockJudge(pickle.loads(pickle.dumps(task(blocks))))
    done = [
        pickle.loads(bytes.fromhex(d)) for n in reversed(pending) for d in actor({"block": [n]})["summary"]
    ]
    assert sum(d.n_judgments for d in done) == 23
    assert sum(d.failures["low_mass"] for d in done) == 4
    blocks.finish({"rows": 23})
    assert sorted(p.name for p in blocks.folder.iterdir()) == [
        "_run.json", "part-00000.parquet", "part-00001.parquet", "part-00002.parquet",
    ]  # fmt: skip
    with Judge.load(**task(blocks).judge) as judge:
        rows = pq.read_table(source).to_pylist()
        rewards = [j.reward for j in judge.rate([r["prompt"] for r in rows], [r["completion"] for r in rows])]
    table = pq.read_table(blocks.folder)
    assert table["id"].to_pylist() == list(range(23))
    assert table["reward"].to_pylist() == rewards
    assert table["failure"].to_pylist()[4]["reason"] == "low_mass"
    assert table["failure"].to_pylist()[0] is None


def test_compare_has_its_fields(tmp_path: Path, task: Any) -> None:
    pq.write_table(
        pa.Table.from_pylist([{"prompt": "Q", "first": "A", "second": "B"}]), tmp_path / "in.parquet"
    )
    blocks = Blocks(tmp_path / "out", RUN, block_rows=10)
    blocks.deal(tmp_path / "in.parquet")
    BlockJudge(task(blocks, "compare", compare_task))({"block": [0]})
    (row,) = pq.read_table(blocks.folder).to_pylist()
    assert row["win_prob"] == pytest.approx(0.5)
    assert row["order_preferences"] == ["first", "second"]


def test_a_run_goes_on_with_the_blocks_that_are_left(source: Path, tmp_path: Path, task: Any) -> None:
    blocks = Blocks(tmp_path / "out", RUN, block_rows=5)
    assert blocks.deal(source) == [0, 1, 2, 3, 4]
    BlockJudge(task(blocks))({"block": [1, 3]})
    # Killed while it dealt: a block is missing, and a scratch file is left.
    (blocks.folder / "_blocks" / "00004.parquet").unlink()
    blocks.close()
    again = Blocks(tmp_path / "out", RUN, block_rows=5)
    assert not again.complete
    assert again.deal(source) == [0, 2, 4]
    assert again.read(1) is None
    assert again.read(4)["id"].to_pylist() == [20, 21, 22]
    BlockJudge(task(again))({"block": [0, 2, 4]})
    again.finish({})
    assert ids(again.folder) == [list(range(k, min(k + 5, 23))) for k in range(0, 23, 5)]
    again.close()
    assert Blocks(tmp_path / "out", RUN, block_rows=5).complete


def test_a_block_that_was_written_before_its_worker_died_is_not_judged_again(
    source: Path, tmp_path: Path, task: Any
) -> None:
    blocks = Blocks(tmp_path / "out", RUN, block_rows=50)
    blocks.deal(source)
    actor = BlockJudge(task(blocks))
    actor({"block": [0]})
    before = blocks.part(0).stat().st_mtime_ns
    assert pickle.loads(bytes.fromhex(actor({"block": [0]})["summary"][0])).n_judgments == 0
    assert blocks.part(0).stat().st_mtime_ns == before


def test_another_run_or_a_folder_of_something_else_is_refused(
    source: Path, tmp_path: Path, task: Any
) -> None:
    begun = Blocks(tmp_path / "out", RUN, block_rows=5)
    begun.deal(source)
    BlockJudge(task(begun))({"block": [1]})
    with pytest.raises(ConfigError, match="this process"):
        Blocks(tmp_path / "out", RUN, block_rows=5)
    begun.close()
    with pytest.raises(ConfigError, match="another input"):
        Blocks(tmp_path / "out", {**RUN, "input": "def"}, block_rows=5)
    with pytest.raises(ConfigError, match="another block_rows"):
        Blocks(tmp_path / "out", RUN, block_rows=6)
    replaced = Blocks(tmp_path / "out", RUN, block_rows=6, overwrite=True)
    assert len(replaced.deal(source)) == 4
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("x")
    for overwrite in (False, True):
        with pytest.raises(ConfigError, match="no record of a run"):
            Blocks(tmp_path / "precious", RUN, block_rows=5, overwrite=overwrite)
    assert (tmp_path / "precious" / "file").read_text() == "x"
    with pytest.raises(ConfigError, match="is a file"):
        Blocks(source, RUN, block_rows=5)


def test_a_late_worker_of_another_run_does_not_fill_a_block(source: Path, tmp_path: Path, task: Any) -> None:
    """Its driver was killed, the folder is another run's by now: its part took the place of that run's."""
    former = Blocks(tmp_path / "out", RUN, block_rows=10)
    former.deal(source)
    late = BlockJudge(pickle.loads(pickle.dumps(task(former))))
    former.close()
    now = Blocks(tmp_path / "out", {**RUN, "temperature": 1.0}, block_rows=10, overwrite=True)
    assert now.deal(source) == [0, 1, 2]
    late({"block": [1]})
    (now.folder / "_part-00001.x.tmp").touch()
    now.close()
    again = Blocks(tmp_path / "out", {**RUN, "temperature": 1.0}, block_rows=10)
    assert again.deal(source) == [0, 1, 2]
    judge = BlockJudge(task(again))
    judge({"block": [0, 1, 2]})
    assert again.deal(source) == []
    late._task.blocks.write(2, pq.read_table(again.part(2)))
    with pytest.raises(DataError, match="1 parts were replaced by workers of another run"):
        again.finish({})
    assert not (again.folder / "_part-00001.x.tmp").exists()


def test_a_start_that_failed_before_its_first_block_claims_nothing(source: Path, tmp_path: Path) -> None:
    Blocks(tmp_path / "out", RUN, block_rows=5).deal(source)
    other = Blocks(tmp_path / "out", {**RUN, "input": "def"}, block_rows=6)
    assert other.deal(source) == [0, 1, 2, 3]
    assert other.read(3)["id"].to_pylist() == [18, 19, 20, 21, 22]


def test_a_worker_that_does_not_see_the_folder_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="block 7 does not exist") as missing:
        Blocks(tmp_path / "out", RUN, block_rows=5).read(7)
    assert "all of them see" in missing.value.hint


def test_own_fields_are_replaced_and_types_are_those_of_the_schema() -> None:
    schema = added_schema("rate")
    table = pa.table({"id": [1, 2], "reward": ["old", "old"]})
    added = [
        dict.fromkeys(schema.names),
        {**dict.fromkeys(schema.names), "critique": "\ud800", "reward": 2.0},
    ]
    merged = with_fields(table, added, schema)
    assert merged.schema.field("reward").type == pa.float64()
    assert merged.schema.field("failure").type == schema.field("failure").type
    assert merged["critique"].to_pylist() == [None, "\ufffd"]
    assert merged["id"].to_pylist() == [1, 2]


@pytest.mark.parametrize(
    ("cluster", "settings", "pool"),
    [
        ({"CPU": 8.0}, {}, (8, {"num_cpus": 1.0})),
        ({"CPU": 8.0}, {"cpus": 3.0}, (2, {"num_cpus": 3.0})),
        ({"CPU": 8.0, "GPU": 4.0}, {}, (4, {"num_gpus": 1.0})),
        ({"CPU": 8.0, "GPU": 4.0}, {"gpus": 2.0}, (2, {"num_gpus": 2.0})),
        ({"CPU": 8.0, "GPU": 4.0}, {"gpus": 0.0}, (8, {"num_cpus": 1.0})),
        ({"CPU": 8.0, "GPU": 4.0}, {"workers": 3}, (3, {"num_gpus": 1.0})),
        ({"CPU": 64.0}, {}, (10, {"num_cpus": 1.0})),
    ],
)
def test_workers_are_what_the_cluster_has_room_for(cluster: Any, settings: Any, pool: Any) -> None:
    assert _pool(cluster, RaySettings(address="auto", **settings), 10) == pool


@pytest.mark.parametrize("settings", [{"workers": 9}, {"cpus": 9.0}, {"gpus": 1.0}])
def test_a_cluster_without_room_is_said(settings: Any) -> None:
    with pytest.raises(ConfigError, match="room for"):
        _pool({"CPU": 8.0}, RaySettings(address="auto", **settings), 10)


def test_columns_of_json_are_read_back_as_on_one_machine(tmp_path: Path, task: Any) -> None:
    """A worker showed the judge the JSON text of a prompt, quotes and all."""
    talk = [{"role": "user", "content": "Paris?"}]
    rows = [{"prompt": 'What is "Paris"?', "completion": "4"}, {"prompt": talk, "completion": "6"}]
    (tmp_path / "scratch").mkdir()
    write_parquet(tmp_path / "in.parquet", iter(rows), tmp_path / "scratch")
    blocks = Blocks(tmp_path / "out", RUN, block_rows=10)
    blocks.deal(tmp_path / "in.parquet")
    shown: list[str] = []

    def spying(judge: Judge, row_format: Any) -> Any:
        made = rate_task(judge, row_format)

        def judged(items: Any) -> Any:
            shown.extend(prompt_text(item.requests[0].prompt) for item in items)
            return made.judge(items)

        return replace(made, judge=judged)

    BlockJudge(task(blocks, work=spying))._judge_block(0)
    assert shown == ['What is "Paris"?', "Paris?"]


def test_a_panels_members_have_their_columns(tmp_path: Path, task: Any) -> None:
    """They were lost, and columns of these names in the input stayed beside the new rewards."""
    row = {"prompt": "Q", "completion": "Paris", "agreement": 0.123, "members": "of a former run"}
    table = pa.Table.from_pylist([row])
    with Judge.load(**task(Blocks(tmp_path / "out", RUN, block_rows=10)).judge) as judge:
        panel = Panel([judge, judge])
        added = panel.rate(["Q"], ["Paris"])[0].to_dict()
    (one,) = with_fields(table, [added], added_schema("rate", panel=True)).to_pylist()
    assert one["agreement"] == 1.0
    assert [m["value"] for m in one["members"]] == [added["expected_rating"]] * 2
