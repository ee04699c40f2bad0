# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoj_reward.cache.codec import checksum, decode, encode
from autoj_reward.cache.key import parts_of, readout_of, sampling_of, segments_hash
from autoj_reward.engines.checkpoint.fingerprint import checkpoint_fingerprint, digest_of, engine_facts
from autoj_reward.errors import EngineContractBroken, StoreError
from autoj_reward.types import (
    ChatWrapper,
    ContinuationLogprob,
    ContinuationLogprobs,
    ContinuationQuery,
    JudgeInput,
    JudgeOutput,
    PlainWrapper,
    Sampling,
    Segment,
    Usage,
)
from tests.hostile import hostile_text

READOUT = ContinuationQuery(
    verdict_prefix="Rating: [[", continuations=("1", "2"), terminators=("]",), follow_above=1e-4
)
TEXT = JudgeInput(
    body=(Segment("Judge: ", True), Segment("Paris.")),
    wrapper=ChatWrapper(system="Be fair.", arguments=(("enable_thinking", False),)),
    prefill=(Segment("So, "),),
    sampling=Sampling(temperature=0.7, seed=1, stop=("END",)),
)
READING = replace(TEXT, readout=READOUT)


def key(item: JudgeInput, fingerprint: str = "model-a") -> bytes:
    return parts_of([item], fingerprint)[0].key


def sampled(**changes: Any) -> JudgeInput:
    return replace(TEXT, sampling=replace(TEXT.sampling, **changes))


def read(**changes: Any) -> JudgeInput:
    return replace(READING, readout=replace(READOUT, **changes))


MUST_CHANGE = {
    "a character of the prompt": (TEXT, replace(TEXT, body=(Segment("Judge: ", True), Segment("Paris!")))),
    "a blank": (TEXT, replace(TEXT, body=(Segment("Judge: ", True), Segment("Paris. ")))),
    "a trust mark": (TEXT, replace(TEXT, body=(Segment("Judge: "), Segment("Paris.")))),
    "where trust ends": (TEXT, replace(TEXT, body=(Segment("Judge: P", True), Segment("aris.")))),
    "body to prefill": (TEXT, replace(TEXT, body=TEXT.body + TEXT.prefill, prefill=())),
    "the prefill": (TEXT, replace(TEXT, prefill=(Segment("So "),))),
    "trust of the prefill": (TEXT, replace(TEXT, prefill=(Segment("So, ", True),))),
    "system message": (TEXT, replace(TEXT, wrapper=ChatWrapper(arguments=TEXT.wrapper.arguments))),  # type: ignore[union-attr]
    "chat template argument": (
        TEXT,
        replace(TEXT, wrapper=ChatWrapper(system="Be fair.", arguments=(("enable_thinking", True),))),
    ),
    "kind of wrapper": (TEXT, replace(TEXT, wrapper=PlainWrapper())),
    "plain wrapper": (
        replace(TEXT, wrapper=PlainWrapper(before="[INST]")),
        replace(TEXT, wrapper=PlainWrapper(after="[INST]")),
    ),
    "max_new_tokens": (TEXT, sampled(max_new_tokens=5)),
    "temperature": (TEXT, sampled(temperature=0.8)),
    "greedy or not": (TEXT, sampled(temperature=0.0)),
    "top_p": (TEXT, sampled(top_p=0.9)),
    "top_k": (TEXT, sampled(top_k=5)),
    "repetition penalty": (TEXT, sampled(repetition_penalty=1.1)),
    "seed": (TEXT, sampled(seed=2)),
    "no seed": (TEXT, sampled(seed=None)),
    "stop texts": (TEXT, sampled(stop=("END", "FIN"))),
    "cut of the stop texts": (sampled(stop=("ENDFIN",)), sampled(stop=("END", "FIN"))),
    "sample index": (TEXT, replace(TEXT, sample_index=1)),
    "reading or writing": (TEXT, READING),
    "verdict_prefix": (READING, read(verdict_prefix="Score: [[")),
    "continuations": (READING, read(continuations=("1", "2", "3"))),
    "order of continuations": (READING, read(continuations=("2", "1"))),
    "cut of continuations": (read(continuations=("1 2",)), read(continuations=("1", " 2"))),
    "terminators": (READING, read(terminators=("]", "\n"))),
    "end of turn": (READING, read(end_of_turn=True)),
    "follow_above": (READING, read(follow_above=0.0)),
}


@pytest.mark.parametrize(("one", "other"), MUST_CHANGE.values(), ids=MUST_CHANGE.keys())
def test_inputs_that_can_change_an_answer_change_the_key(one: JudgeInput, other: JudgeInput) -> None:
    assert key(one) != key(other)


MUST_NOT_CHANGE = {
    "cuts between segments of equal trust": (
        TEXT,
        replace(TEXT, body=(Segment("Ju", True), Segment("", False), Segment("dge: ", True), Segment("Par"), Segment("is."))),
    ),
    "empty segments": (TEXT, replace(TEXT, prefill=(Segment("", True), *TEXT.prefill, Segment("")))),
    "sampling of a reading": (READING, replace(READING, sampling=Sampling(temperature=2.0, seed=9))),
    "sample index of a reading": (READING, replace(READING, sample_index=3)),
    "sample index of greedy writing": (sampled(temperature=0.0), replace(sampled(temperature=0.0), sample_index=3)),
    "seed of greedy writing": (sampled(temperature=0.0), sampled(temperature=0.0, seed=7)),
    "top_p and top_k of greedy writing": (sampled(temperature=0.0), sampled(temperature=0.0, top_p=0.5, top_k=3)),
    "whole numbers as floats": (sampled(temperature=1.0), sampled(temperature=1)),
    "order of chat template arguments": (
        replace(TEXT, wrapper=ChatWrapper(arguments=(("a", 1), ("b", 2)))),
        replace(TEXT, wrapper=ChatWrapper(arguments=(("b", 2), ("a", 1)))),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("one", "other"), MUST_NOT_CHANGE.values(), ids=MUST_NOT_CHANGE.keys())
def test_inputs_that_cannot_change_an_answer_keep_the_key(one: JudgeInput, other: JudgeInput) -> None:
    assert key(one) == key(other)


def test_batch_and_order_do_not_matter() -> None:
    items = [TEXT, READING, sampled(seed=3), replace(TEXT, sample_index=1)]
    together = [p.key for p in parts_of(items, "f")]
    assert [p.key for p in parts_of(items[::-1], "f")] == together[::-1]
    assert [parts_of([item], "f")[0].key for item in items] == together


def test_engines_never_share_keys() -> None:
    """lm-eval's cache once served a second model the first one's answers."""
    assert key(TEXT, "model-a") != key(TEXT, "model-b")


def test_two_fine_tunes_of_one_architecture_never_share_keys(tmp_path: Any) -> None:
    """Names, sizes and configuration are equal; only bytes of the weights differ."""
    folders = [tmp_path / name for name in ("one", "two", "copy")]
    for folder, weights in zip(folders, (b"w" * 100, b"w" * 99 + b"v", b"w" * 100), strict=True):
        folder.mkdir()
        (folder / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}')
        (folder / "model.safetensors").write_bytes(weights)
        (folder / "tokenizer.json").write_text("{}")
    one, two, copy = (checkpoint_fingerprint(folder) for folder in folders)
    assert one == copy
    assert key(TEXT, one) != key(TEXT, two)

    def of(**changes: Any) -> bytes:
        known: dict[str, Any] = {"revision": None, "dtype": "float32", "adapter": None, **changes}
        return key(TEXT, digest_of(engine_facts("transformers", str(folders[0]), **known)))

    variants = [
        of(),
        of(dtype="bfloat16"),
        of(adapter=str(folders[1])),
        of(revision="abc"),
        of(quantization="int8"),
    ]
    assert len(set(variants)) == len(variants)


def test_texts_that_differ_in_normalisation_only_have_other_keys() -> None:
    composed, parted = (segments_hash([Segment(text)]) for text in ("é", "e\u0301"))
    assert composed != parted


@given(st.lists(st.tuples(hostile_text, st.booleans()), max_size=6), st.integers(0, 40))
def test_a_cut_anywhere_changes_nothing(runs: list[tuple[str, bool]], place: int) -> None:
    whole = [Segment(text, trusted) for text, trusted in runs]
    cut = [
        part
        for s in whole
        for part in (Segment(s.text[:place], s.trusted), Segment(s.text[place:], s.trusted))
    ]
    assert segments_hash(whole) == segments_hash(cut)


@given(hostile_text, hostile_text)
def test_other_texts_have_other_hashes(one: str, other: str) -> None:
    assert (segments_hash([Segment(one)]) == segments_hash([Segment(other)])) == (one == other)


def test_stored_settings_say_what_was_asked() -> None:
    assert readout_of(parts_of([READING], "f")[0].setup.settings) == READOUT
    assert sampling_of(parts_of([TEXT], "f")[0].setup.settings) == TEXT.sampling
    assert sampling_of(parts_of([READING], "f")[0].setup.settings) is None
    assert readout_of(parts_of([TEXT], "f")[0].setup.settings) is None


texts = st.builds(
    JudgeOutput,
    text=hostile_text,
    finish_reason=st.sampled_from(["stop", "length"]),
    usage=st.builds(Usage, prompt_tokens=st.integers(0, 2**31), completion_tokens=st.integers(0, 9)),
    thinking=st.none() | hostile_text,
)
logprobs = st.floats(max_value=0.0, allow_nan=False)


@given(texts)
def test_texts_come_back_equal(output: JudgeOutput) -> None:
    """Lone surrogates, also where two of them stand side by side, and texts of any length."""
    assert decode(encode(output, None), None) == output


@given(st.lists(st.tuples(hostile_text, logprobs, logprobs), max_size=8), st.floats(0, 1))
def test_readings_come_back_equal_to_the_last_bit(
    paths: list[tuple[str, float, float]], unread: float
) -> None:
    readout = replace(READOUT, continuations=tuple(text for text, _, _ in paths))
    made = tuple(ContinuationLogprob(text=t, path_logprob=p, end_logprob=e) for t, p, e in paths)
    output = JudgeOutput(
        text="", finish_reason="read", reading=ContinuationLogprobs(paths=made, unread_prob=unread)
    )
    assert decode(encode(output, readout), readout) == output


def test_a_reading_of_something_else_is_not_kept() -> None:
    path = ContinuationLogprob(text="9", path_logprob=-math.inf, end_logprob=0.0)
    output = JudgeOutput(text="", finish_reason="read", reading=ContinuationLogprobs(paths=(path,)))
    for readout in (READOUT, None):
        with pytest.raises(EngineContractBroken):
            encode(output, readout)


@given(texts, st.integers(0, 10**6), st.integers(1, 255))
def test_a_changed_byte_changes_the_checksum(output: JudgeOutput, place: int, change: int) -> None:
    value = bytearray(encode(output, None))
    before = checksum(b"key", bytes(value))
    value[place % len(value)] ^= change
    assert checksum(b"key", bytes(value)) != before


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\x01",
        b"\x09" * 40,
        encode(JudgeOutput(text="é" * 9, finish_reason="stop"), None)[:-1] + b"\xff",
    ],
)
def test_bytes_that_are_no_output_are_an_error(value: bytes) -> None:
    with pytest.raises(StoreError):
        decode(value, None)


def test_the_judges_thinking_marks_are_part_of_the_key() -> None:
    """They decide how an opened block is closed before the verdict; a judge got the answers of one without."""
    marks = ChatWrapper(thinking=("<ponder>", "</ponder>"))
    others = ChatWrapper(thinking=("<think>", "</think>"))
    keys = {key(replace(READING, wrapper=wrapper)) for wrapper in (ChatWrapper(), marks, others)}
    assert len(keys) == 3
