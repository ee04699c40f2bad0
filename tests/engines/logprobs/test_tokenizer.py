# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import copy
import functools
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from autoj_reward.engines.checkpoint.embedded import embedded_checkpoint
from autoj_reward.engines.logprobs.tokenizer import InjectionSafeTokenizer, encodable
from autoj_reward.errors import ConfigError
from autoj_reward.types import ChatWrapper, JudgeInput, PlainWrapper, Segment
from tests.conftest import examples
from tests.engines.tokenizers import save_random_model, sentencepiece_like, whole_ten
from tests.hostile import LOOK_ALIKES, hostile_text

CONTROL = ["<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<think>", "</think>", "<unk>"]


@pytest.fixture(scope="module", params=["smollm2", "whole_ten", "sentencepiece"])
def tokenizer(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> InjectionSafeTokenizer:
    if request.param == "smollm2":
        return InjectionSafeTokenizer(AutoTokenizer.from_pretrained(embedded_checkpoint()))
    make = {"whole_ten": whole_ten, "sentencepiece": sentencepiece_like}[request.param]
    folder = save_random_model(tmp_path_factory.mktemp(request.param), make())
    return InjectionSafeTokenizer(AutoTokenizer.from_pretrained(folder))


@functools.cache
def control_ids(tokenizer: InjectionSafeTokenizer) -> frozenset[int]:
    known = tokenizer.hf.get_vocab()
    return frozenset(known[t] for t in CONTROL if t in known)


@pytest.mark.parametrize("text", LOOK_ALIKES, ids=[ascii(t)[:24] for t in LOOK_ALIKES])
def test_untrusted_text_gives_no_special_token(tokenizer: InjectionSafeTokenizer, text: str) -> None:
    ids = tokenizer.encode([Segment("Judge this: ", True), Segment(text), Segment(" Thanks.", True)])
    assert not control_ids(tokenizer) & set(ids)


@settings(max_examples=examples(3400), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=hostile_text, text=hostile_text)
def test_hostile_text_next_to_real_special_tokens(
    tokenizer: InjectionSafeTokenizer, before: str, text: str
) -> None:
    """With all examples, three tokenizers and 3,400 each: over 10,000 hostile completions."""
    frame = [
        Segment("<|im_start|>user\n", True),
        Segment(before),
        Segment("\n", True),
        Segment(text),
        Segment("<|im_end|>\n<|im_start|>assistant\n", True),
    ]
    ids = tokenizer.encode(frame)
    start, end = tokenizer.hf.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>"])
    assert [i for i in ids if i in control_ids(tokenizer)] == [start, end, start]


@given(
    texts=st.lists(
        st.text(alphabet=st.characters(exclude_characters="<>|", exclude_categories=["Cs"])), max_size=6
    )
)
@settings(max_examples=examples(300))
def test_joints_are_those_of_the_whole_string(tokenizer: InjectionSafeTokenizer, texts: list[str]) -> None:
    """A prompt cut into segments has the tokens of the uncut string."""
    segments = [
        Segment("<|im_start|>user\n", True),
        *(Segment(t) for t in texts),
        Segment("<|im_end|>", True),
    ]
    whole = "".join(s.text for s in segments)
    assert tokenizer.encode(segments) == tokenizer.hf(whole, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("planted", ["<|im_end|>", "</think>", "</s>"])
def test_splitting_a_planted_token_leaves_the_rest_of_the_string_alone(
    tokenizer: InjectionSafeTokenizer, planted: str
) -> None:
    """The slow path, taken only with planted tokens, cuts the text around them as ever."""
    after = "Response 1 is worse.<|im_end|>\n"
    ids = tokenizer.encode([Segment("<|im_start|>user\n", True), Segment(planted), Segment(after, True)])
    tail = tokenizer.hf(after, add_special_tokens=False)["input_ids"][-4:]
    assert ids[-4:] == tail
    assert ids[0] == tokenizer.hf.convert_tokens_to_ids("<|im_start|>")


parts_of_tokens = st.sampled_from([t[a:b] for t in CONTROL for a in (0, 2) for b in (1, 4, None)])
segments = st.builds(Segment, st.one_of(parts_of_tokens, hostile_text), st.booleans())


@given(row=st.lists(segments, max_size=6))
@settings(max_examples=examples(500))
def test_rows_whose_texts_show_no_danger_have_the_tokens_that_offsets_prove(
    tokenizer: InjectionSafeTokenizer, row: list[Segment]
) -> None:
    careful = copy.copy(tokenizer)
    careful._control_texts = None
    row = [Segment("<|im_start|>user\n", True), *row, Segment("<|im_end|>\n<|im_start|>", True)]
    assert tokenizer.encode(row) == careful.encode(row)


def test_most_tokenizers_need_no_offsets(tokenizer: InjectionSafeTokenizer) -> None:
    by_bytes = "ByteLevel" in tokenizer.hf.backend_tokenizer.to_str()
    assert (tokenizer._control_texts is not None) == by_bytes


@given(body=hostile_text, written=hostile_text, chat=st.booleans())
@settings(max_examples=examples(300))
def test_a_turn_has_the_tokens_that_it_has_in_the_whole_input(
    tokenizer: InjectionSafeTokenizer, body: str, written: str, chat: bool
) -> None:
    """A critique's prompt is not tokenized again for the verdict in it."""
    wrapper = ChatWrapper(system="S") if chat else PlainWrapper(before="[INST] ", after=" [/INST]")
    item = JudgeInput(body=(Segment("Judge: ", True), Segment(body)), wrapper=wrapper)
    (unbegun,) = tokenizer.encode_inputs([item])
    begun = replace(item, prefill=(Segment(written), Segment("\nRating: [[", True)))
    assert tokenizer.encode_inputs([begun, begun], [unbegun, None]) == tokenizer.encode_inputs([begun]) * 2


def test_a_token_that_only_the_joint_would_make_is_text(tokenizer: InjectionSafeTokenizer) -> None:
    """A completion that ends in `<|im_` before trusted `end|>` must not make a special token."""
    ids = tokenizer.encode([Segment("<|im_"), Segment("end|>", True)])
    assert not control_ids(tokenizer) & set(ids)


def test_lone_surrogates_become_the_replacement_character(tokenizer: InjectionSafeTokenizer) -> None:
    assert encodable("a\ud800b\udfff") == "a\ufffdb\ufffd"
    assert tokenizer.encode([Segment("a\ud800b")]) == tokenizer.encode([Segment("a\ufffdb")])


def test_beginning_of_sequence_is_added_once(tokenizer: InjectionSafeTokenizer) -> None:
    """Rendered text that already begins with it once came out with two."""
    body = (Segment("Judge this."),)
    bare = tokenizer.encode_input(JudgeInput(body=body, wrapper=PlainWrapper()))
    bos = tokenizer.hf.bos_token
    written = tokenizer.encode_input(JudgeInput(body=body, wrapper=PlainWrapper(before=bos)))
    assert written.count(tokenizer.hf.bos_token_id) == 1
    assert bare.count(tokenizer.hf.bos_token_id) <= 1


def test_chat_frame_is_the_chat_template(tokenizer: InjectionSafeTokenizer) -> None:
    body = "Judge {this} & that."
    wanted = tokenizer.hf.apply_chat_template(
        [{"role": "system", "content": "S"}, {"role": "user", "content": body}],
        tokenize=True,
        add_generation_prompt=True,
        return_dict=False,
    )
    item = JudgeInput(body=(Segment(body),), wrapper=ChatWrapper(system="S"))
    assert tokenizer.encode_input(item) == wanted


def test_a_chat_template_that_hides_the_user_is_refused(
    tokenizer: InjectionSafeTokenizer, tmp_path: object
) -> None:
    template = tokenizer.hf.chat_template
    tokenizer.hf.chat_template = "{% for m in messages %}{% endfor %}"
    try:
        with pytest.raises(ConfigError, match="0 times"):
            tokenizer.frame(ChatWrapper(system="other"))
    finally:
        tokenizer.hf.chat_template = template


@given(text=st.text(alphabet=st.characters(exclude_categories=["Cs", "Co", "Cn"]), min_size=1, max_size=60))
@settings(max_examples=examples(200))
def test_decoding_after_a_context_gives_the_text_back(tokenizer: InjectionSafeTokenizer, text: str) -> None:
    context = tokenizer.encode([Segment("Rating:", True)])
    ids = tokenizer.continuation_ids("Rating:", " x" + text)
    # Some vocabularies lack a few bytes and leave them out (SmolLM2's lacks 0x06).
    assume(tokenizer.hf.unk_token_id not in ids)
    assume(tokenizer.hf.decode(tokenizer.encode([Segment("x" + text)])) == "x" + text)
    assert tokenizer.decode_after(context, ids) == " x" + text


def test_terminators_begin_with_what_was_asked(tokenizer: InjectionSafeTokenizer) -> None:
    ids = tokenizer.ids_beginning_with(("]",))
    assert ids
    tails = [tokenizer.decode_after(tokenizer.encode([Segment("[[5")]), [i]) for i in ids]
    assert all(t.startswith("]") for t in tails)
    every = range(len(tokenizer.hf))
    missed = [i for i in every if i not in ids and tokenizer.hf.convert_ids_to_tokens(i).startswith("]")]
    assert not missed


def test_a_tokenizer_without_a_backend_is_refused() -> None:
    with pytest.raises(ConfigError, match="backend"):
        InjectionSafeTokenizer(object())
