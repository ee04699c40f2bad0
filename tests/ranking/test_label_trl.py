# SPDX-License-Identifier: Apache-2.0
"""Files of `label` as `datasets` loads them and as TRL's trainers take them, one real step each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

pytest.importorskip("trl", reason="needs TRL: the trl extra")

from autoj_reward.cli.app import app
from tests.engines.tokenizers import save_random_model, whole_ten

RECORDED = [
    {"contains": [f"mark {n}"], "reading": {str(n): 0.8, str(n - 1): 0.2}} for n in range(9, 1, -1)
] + [{"contains": ["mark"], "reading": {"Response 1": 0.5, "Response 2": 0.3, "Tie": 0.2}}]
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random_model(tmp_path_factory.mktemp("policy"), whole_ten())


def rows(*, chat: bool) -> list[dict[str, Any]]:
    texts = [f"It is so, mark {m}. " for m in (3, 9, 5, 7)] + ["", " \ud800"]
    made: list[dict[str, Any]] = []
    for n in range(4):
        prompt: Any = f"What of {n}? "
        completions: list[Any] = texts
        if chat:
            prompt = [{"role": "user", "content": prompt}]
            completions = [[{"role": "assistant", "content": t}] for t in texts]
        made.append({"prompt": prompt, "completions": completions})
    return made


def labelled(folder: Path, name: str, *options: str, chat: bool = False) -> Path:
    (folder / "recorded.jsonl").write_text("".join(json.dumps(r) + "\n" for r in RECORDED))
    (folder / "in.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows(chat=chat)))
    arguments = ["label", str(folder / "in.jsonl"), "-o", str(folder / name), "--mode", "direct", "-q"]
    engine = ["--engine", f"recorded:{folder / 'recorded.jsonl'}", "--no-cache"]
    CliRunner().invoke(app, [*arguments, *engine, *options], catch_exceptions=False)
    return folder / name


def loaded(path: Path, cache: Path) -> Any:
    import datasets

    if path.is_dir():
        return datasets.load_from_disk(str(path))
    kind = "json" if path.suffix == ".jsonl" else "parquet"
    return datasets.load_dataset(kind, data_files=str(path), split="train", cache_dir=str(cache))


def text(value: Any) -> str:
    return value if isinstance(value, str) else value[-1]["content"]


@pytest.mark.parametrize("chat", [False, True], ids=["standard", "conversational"])
@pytest.mark.parametrize("name", ["out.jsonl", "out.parquet", "out"])
def test_datasets_loads_every_kind_of_output(tmp_path: Path, name: str, chat: bool) -> None:
    found = loaded(labelled(tmp_path, name, "--pairs", "all", chat=chat), tmp_path / "cache")
    # Six pairs of the four that are rated, and each of these over the empty one, which the guard rates lowest.
    assert len(found) == 4 * (6 + 4)
    for row in found:
        assert text(row["chosen"]).strip() != text(row["rejected"]).strip()
        assert row["margin"] > 0
    assert not [p for p in tmp_path.iterdir() if p.name.startswith("out") and ".part" in p.name]


@pytest.mark.parametrize("chat", [False, True], ids=["standard", "conversational"])
def test_a_dpo_and_a_reward_step_run_on_the_file_as_it_is(tmp_path: Path, model: Path, chat: bool) -> None:
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
    from trl import DPOConfig, DPOTrainer, RewardConfig, RewardTrainer

    data = loaded(labelled(tmp_path, "out.jsonl", "--pairs", "all", chat=chat), tmp_path / "cache")
    settings: dict[str, Any] = {
        "output_dir": str(tmp_path / "run"),
        "max_steps": 1,
        "per_device_train_batch_size": 4,
        "report_to": [],
        "use_cpu": True,
        "bf16": False,
        "save_strategy": "no",
        "disable_tqdm": True,
    }
    tokenizer = AutoTokenizer.from_pretrained(model)
    dpo = DPOTrainer(
        AutoModelForCausalLM.from_pretrained(model),
        args=DPOConfig(**settings),
        train_dataset=data,
        processing_class=tokenizer,
    )
    for row in dpo.train_dataset:
        assert row["chosen_ids"] != row["rejected_ids"]
        assert row["chosen_ids"]
    assert dpo.train().training_loss > 0
    reward = RewardTrainer(
        AutoModelForSequenceClassification.from_pretrained(model, num_labels=1),
        args=RewardConfig(**settings),
        train_dataset=data,
        processing_class=tokenizer,
    )
    assert "margin" in next(iter(reward.get_train_dataloader()))
    assert reward.train().training_loss > 0


def test_kto_takes_its_file(tmp_path: Path, model: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import KTOConfig, KTOTrainer

    data = loaded(labelled(tmp_path, "out.jsonl", "--kind", "kto"), tmp_path / "cache")
    assert sorted(set(data["label"])) == [False, True]
    trainer = KTOTrainer(
        AutoModelForCausalLM.from_pretrained(model),
        args=KTOConfig(
            output_dir=str(tmp_path / "run"),
            max_steps=1,
            per_device_train_batch_size=2,
            report_to=[],
            use_cpu=True,
            bf16=False,
            save_strategy="no",
            disable_tqdm=True,
        ),
        train_dataset=data,
        processing_class=AutoTokenizer.from_pretrained(model),
    )
    assert trainer.train().training_loss > 0
