# SPDX-License-Identifier: Apache-2.0
"""The embedded judge's weights: the adapter of the package, merged once into the plain checkpoint."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from autoj_reward.engines.checkpoint import embedded
from autoj_reward.engines.checkpoint.convert import made_once
from autoj_reward.engines.checkpoint.embedded import (
    EMBEDDED_MODEL,
    MINI_MODEL,
    mini_checkpoint,
    resolve_model,
)
from autoj_reward.errors import ConfigError
from autoj_reward.judge.judge import Judge

torch = pytest.importorskip("torch", reason="needs the mini extra")


@pytest.mark.slow
def test_the_merged_checkpoint_is_the_base_model_with_the_adapter() -> None:
    """Up to one rounding to bfloat16: next-token probabilities differ by less than the adapter changes."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    adapter = Path(embedded.__file__).parent.parent / "adapters" / "mini"
    tokenizer = AutoTokenizer.from_pretrained(resolve_model(MINI_MODEL))
    ids = tokenizer(
        "[Query]: Name a prime.\n***\n[Response]: 13\n***\nRating: [[", return_tensors="pt"
    ).input_ids

    def probs(model: torch.nn.Module) -> torch.Tensor:
        with torch.inference_mode():
            return model(input_ids=ids).logits[0, -1].softmax(-1)

    merged = AutoModelForCausalLM.from_pretrained(resolve_model(MINI_MODEL), dtype=torch.float32)
    base = AutoModelForCausalLM.from_pretrained(resolve_model(EMBEDDED_MODEL), dtype=torch.float32)
    plain = probs(base)
    adapted = probs(PeftModel.from_pretrained(base, str(adapter)).eval())

    assert (probs(merged) - adapted).abs().max() < 0.02
    assert (plain - adapted).abs().max() > 0.1


def test_the_checkpoints_say_what_ends_a_turn() -> None:
    from transformers import AutoTokenizer, GenerationConfig

    for model, ends in ((EMBEDDED_MODEL, ["<|im_end|>"]), (MINI_MODEL, ["<|im_end|>", "<|im_start|>"])):
        tokenizer = AutoTokenizer.from_pretrained(resolve_model(model))
        assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|im_end|>")
        found = GenerationConfig.from_pretrained(resolve_model(model)).eos_token_id
        assert tokenizer.convert_ids_to_tokens(found if isinstance(found, list) else [found]) == ends


@pytest.mark.slow
def test_its_critiques_end_in_a_verdict() -> None:
    prompts = ["Name three rivers in Africa.", "What is bread made of?"]
    good = ["The Nile, the Congo and the Niger are rivers in Africa.", "Bread is made of flour and water."]
    with Judge.load("mini", engine="transformers", mode="critique", cache=False) as judge:
        written = [*judge.rate(prompts, good), *judge.compare(prompts, good, good[::-1])]
    samples = [sample for judgment in written for sample in judgment.samples]
    assert {sample.finish_reason for sample in samples} == {"stop"}
    assert all(sample.stated is not None and sample.distribution is not None for sample in samples)


def test_the_folder_is_named_by_the_adapter_and_made_once() -> None:
    folder = mini_checkpoint()
    before = (folder / "model.safetensors").stat().st_mtime_ns
    assert mini_checkpoint() == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == before
    assert not [p for p in folder.parent.iterdir() if p.name.startswith(folder.name + ".") and p.is_dir()]


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    folder = tmp_path / "weights"

    def fails(scratch: Path) -> None:
        (scratch / "half.safetensors").write_bytes(b"half")
        raise OSError("no space left on device")

    with pytest.raises(ConfigError, match="no space left") as raised:
        made_once(folder, fails, 300)
    assert "AUTOJ_REWARD_HOME" in str(raised.value)
    assert not folder.exists()
    assert [p.name for p in tmp_path.iterdir()] == ["weights.lock"]


@pytest.mark.slow
def test_processes_that_ask_at_once_make_it_once(tmp_path: Path) -> None:
    program = (
        "import os, sys, time\n"
        "from pathlib import Path\n"
        "from autoj_reward.engines.checkpoint.convert import made_once\n"
        "def make(scratch):\n"
        "    time.sleep(0.3)\n"
        "    (scratch / 'made').write_text(str(os.getpid()))\n"
        "folder = made_once(Path(sys.argv[1]) / 'weights', make, 1)\n"
        "print((folder / 'made').read_text())\n"
    )
    askers = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=os.environ
        )
        for _ in range(4)
    ]
    answers = {asker.communicate(timeout=60)[0] for asker in askers}
    assert len(answers) == 1
    assert answers != {""}
