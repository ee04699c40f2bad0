# SPDX-License-Identifier: Apache-2.0
"""Rows as published data sets and tools write them, made after their data cards."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Row = dict[str, Any]


def said(role: str, content: str) -> Row:
    return {"role": role, "content": content}


def asked(answer: str, question: str = "Capital of France?") -> list[Row]:
    return [said("user", question), said("assistant", answer)]


def transcript(answer: str) -> str:
    return f"\n\nHuman: Hi\n\nAssistant: Hello.\n\nHuman: Capital of France?\n\nAssistant: {answer}"


def turned(answer: str) -> Row:
    return {
        "conversations": [{"from": "human", "value": "Capital of France?"}, {"from": "gpt", "value": answer}]
    }


@dataclass(frozen=True)
class Shape:
    """A row, the format it has, and how many completions; what people said by the good answer's place."""

    row: Row
    name: str | None
    holds: str
    preference: str | None = None
    gold: tuple[float, ...] | None = None
    extra: Row = field(default_factory=dict)


Q, GOOD, BAD = "Capital of France?", "It is Paris.", "It is Rome."
ONE, TWO, MANY = "one", "two", "many"

SHAPES: dict[str, Shape] = {
    # One completion
    "TRL prompt-completion": Shape({"prompt": Q, "completion": GOOD}, None, ONE),
    "TRL prompt-completion, messages": Shape(
        {"prompt": [said("user", Q)], "completion": [said("assistant", GOOD)]}, None, ONE
    ),
    "TRL unpaired preference": Shape({"prompt": Q, "completion": GOOD, "label": True}, None, ONE),
    "Alpaca": Shape(
        {"instruction": "Name the capital.", "input": "France", "output": GOOD}, "instruction-output", ONE
    ),
    "AlpacaEval's model outputs": Shape(
        {"dataset": "koala", "instruction": Q, "output": GOOD, "generator": "m", "datasplit": "eval"},
        "instruction-output",
        ONE,
    ),
    "Dolly": Shape(
        {"instruction": Q, "context": "France is a country.", "response": GOOD, "category": "open_qa"},
        "instruction-response",
        ONE,
    ),
    "queries and responses": Shape({"query": Q, "response": GOOD}, "query-response", ONE),
    "GSM8K": Shape({"question": Q, "answer": "Paris\n#### 1"}, "question-answer", ONE),
    "OpenOrca": Shape(
        {"id": "flan.1", "system_prompt": "Be brief.", "question": Q, "response": GOOD},
        "question-answer",
        ONE,
    ),
    "HelpSteer 2": Shape(
        {"prompt": Q, "response": GOOD, "helpfulness": 4, "correctness": 4, "verbosity": 1},
        "prompt-response",
        ONE,
    ),
    "BeaverTails": Shape(
        {"prompt": Q, "response": GOOD, "category": {"privacy": False}, "is_safe": True},
        "prompt-response",
        ONE,
    ),
    "Auto-J's critique data": Shape(
        {"scenario": "solving_exam_question_without_math", "prompt": Q, "response": GOOD, "critiques": {}},
        "prompt-response",
        ONE,
    ),
    "TRL messages": Shape({"messages": asked(GOOD)}, "messages", ONE),
    "UltraChat": Shape({"prompt": Q, "prompt_id": "1", "messages": asked(GOOD)}, "messages", ONE),
    "ShareGPT": Shape({"id": "i", **turned(GOOD)}, "sharegpt", ONE),
    "ShareGPT with a system text": Shape({"system": "Be brief.", **turned(GOOD)}, "sharegpt", ONE),
    "lm-eval samples": Shape(
        {
            "doc_id": 0,
            "doc": {"question": Q},
            "arguments": {"gen_args_0": {"arg_0": Q, "arg_1": {"until": ["\n"]}}},
            "resps": [[GOOD]],
            "filtered_resps": [GOOD],
        },
        "lm-eval",
        ONE,
    ),
    # Two completions
    "compare with a label": Shape(
        {"prompt": Q, "first": BAD, "second": GOOD, "label": 1}, None, TWO, "second"
    ),
    "compare with a preference": Shape(
        {"prompt": Q, "first": GOOD, "second": BAD, "preference": "tie"}, None, TWO, "tie"
    ),
    "TRL preference": Shape({"prompt": Q, "chosen": GOOD, "rejected": BAD}, "chosen-rejected", TWO, "first"),
    "TRL preference, messages": Shape(
        {
            "prompt": [said("user", Q)],
            "chosen": [said("assistant", GOOD)],
            "rejected": [said("assistant", BAD)],
        },
        "chosen-rejected",
        TWO,
        "first",
    ),
    "TRL implicit prompt": Shape(
        {"chosen": f"{Q} {GOOD}", "rejected": f"{Q} {BAD}"}, "chosen-rejected-texts", TWO, "first"
    ),
    "TRL implicit prompt, messages": Shape(
        {"chosen": asked(GOOD), "rejected": asked(BAD)}, "chosen-rejected-messages", TWO, "first"
    ),
    "Skywork": Shape(
        {"chosen": asked(GOOD), "rejected": asked(BAD), "source": "offset_bias"},
        "chosen-rejected-messages",
        TWO,
        "first",
    ),
    "UltraFeedback, binarized": Shape(
        {
            "prompt": Q,
            "prompt_id": "1",
            "chosen": asked(GOOD),
            "rejected": asked(BAD),
            "messages": asked(GOOD),
            "score_chosen": 8.0,
            "score_rejected": 3.5,
        },
        "chosen-rejected",
        TWO,
        "first",
    ),
    "Tulu 3": Shape(
        {"id": "1", "source": "if", "prompt": Q, "chosen": asked(GOOD), "rejected": asked(BAD)},
        "chosen-rejected",
        TWO,
        "first",
    ),
    "HH": Shape({"chosen": transcript(GOOD), "rejected": transcript(BAD)}, "hh", TWO, "first"),
    "Orca pairs": Shape(
        {"system": "Be brief.", "question": Q, "chosen": GOOD, "rejected": BAD},
        "chosen-rejected",
        TWO,
        "first",
    ),
    "Argilla's UltraFeedback": Shape(
        {"source": "s", "instruction": Q, "chosen_response": GOOD, "rejected_response": BAD},
        "chosen-response",
        TWO,
        "first",
    ),
    "RewardBench": Shape(
        {
            "prompt": Q,
            "chosen": GOOD,
            "chosen_model": "a",
            "rejected": BAD,
            "rejected_model": "b",
            "subset": "alpacaeval-easy",
            "id": 1,
        },
        "reward-bench",
        TWO,
        "first",
    ),
    "Chatbot Arena": Shape(
        {
            "question_id": "q",
            "model_a": "a",
            "model_b": "b",
            "winner": "model_b",
            "conversation_a": asked(BAD),
            "conversation_b": asked(GOOD),
            "turn": 1,
        },
        "arena",
        TWO,
        "second",
    ),
    "LMSYS's 55,000 battles": Shape(
        {
            "id": 1,
            "prompt": f'["{Q}", "Sure?"]',
            "response_a": f'["{GOOD}", "Yes."]',
            "response_b": f'["{BAD}", null]',
            "winner_model_a": 1,
            "winner_model_b": 0,
            "winner_tie": 0,
        },
        "arena-responses",
        TWO,
        "first",
    ),
    "AlpacaFarm": Shape(
        {"instruction": Q, "input": "", "output_1": BAD, "output_2": GOOD, "preference": 2},
        "alpaca-eval",
        TWO,
        "second",
    ),
    "LLMBar": Shape({"input": Q, "output_1": GOOD, "output_2": BAD, "label": 1}, "alpaca-eval", TWO, "first"),
    "HelpSteer 3": Shape(
        {
            "domain": "general",
            "context": [said("user", Q)],
            "response1": GOOD,
            "response2": BAD,
            "overall_preference": -2,
        },
        "helpsteer",
        TWO,
        "first",
    ),
    "JudgeBench": Shape(
        {"question": Q, "response_A": BAD, "response_B": GOOD, "label": "B>A", "source": "mmlu"},
        "judgebench",
        TWO,
        "second",
    ),
    "PKU-SafeRLHF": Shape(
        {"prompt": Q, "response_0": BAD, "response_1": GOOD, "better_response_id": 1, "safer_response_id": 0},
        "pku-saferlhf",
        TWO,
        "second",
    ),
    "SHP": Shape(
        {"history": Q, "human_ref_A": GOOD, "human_ref_B": BAD, "labels": 1, "score_A": 5, "score_B": 2},
        "shp",
        TWO,
        "first",
    ),
    "WebGPT": Shape(
        {
            "question": {"full_text": Q, "dataset": "eli5"},
            "answer_0": GOOD,
            "answer_1": BAD,
            "score_0": 0.5,
            "score_1": -0.5,
        },
        "webgpt",
        TWO,
        "first",
    ),
    "summaries of Reddit": Shape(
        {"info": {"post": Q, "title": "t"}, "summaries": [{"text": BAD}, {"text": GOOD}], "choice": 1},
        "summarize-from-feedback",
        TWO,
        "second",
    ),
    "Auto-J's pairs": Shape(
        {"scenario": "math_reasoning", "label": 0, "prompt": Q, "response 1": GOOD, "response 2": BAD},
        "autoj-pairwise",
        TWO,
        "first",
    ),
    # Groups
    "rerank": Shape({"prompt": Q, "completions": [GOOD, BAD]}, None, MANY),
    "rerank with gold": Shape(
        {"prompt": Q, "completions": [GOOD, BAD], "gold": [1, 0]}, None, MANY, None, (1, 0)
    ),
    "RewardBench 2": Shape(
        {
            "id": "1",
            "prompt": Q,
            "chosen": [GOOD],
            "rejected": [BAD, "Berlin.", "Oslo."],
            "num_correct": 1,
            "subset": "Factuality",
        },
        "reward-bench-2",
        MANY,
        None,
        (1, 0, 0, 0),
    ),
    "UltraFeedback": Shape(
        {
            "source": "s",
            "instruction": Q,
            "models": ["a", "b"],
            "completions": [
                {"model": "a", "response": GOOD, "overall_score": 8.5},
                {"model": "b", "response": BAD, "overall_score": 2.0},
            ],
        },
        "ultrafeedback",
        MANY,
        None,
        (8.5, 2.0),
    ),
    "Nectar": Shape(
        {
            "prompt": f"\n\nHuman: {Q}\n\nAssistant: ",
            "answers": [
                {"answer": GOOD, "model": "a", "rank": 1.0},
                {"answer": BAD, "model": "b", "rank": 2.0},
            ],
        },
        "nectar",
        MANY,
        None,
        (-1.0, -2.0),
    ),
    "Stack Exchange preferences": Shape(
        {
            "qid": 1,
            "question": Q,
            "answers": [{"text": GOOD, "pm_score": 4}, {"text": BAD, "pm_score": 1}],
        },
        "stack-exchange",
        MANY,
        None,
        (4.0, 1.0),
    ),
    "TruthfulQA": Shape(
        {"question": Q, "best_answer": GOOD, "correct_answers": [GOOD], "incorrect_answers": [BAD]},
        "truthfulqa",
        MANY,
        None,
        (1.0, 0.0),
    ),
    "distilabel": Shape(
        {"instruction": Q, "generations": [GOOD, BAD], "ratings": [5, 1]},
        "generations",
        MANY,
        None,
        (5.0, 1.0),
    ),
    "prompt and responses": Shape({"prompt": Q, "responses": [GOOD, BAD]}, "responses", MANY),
    "Auto-J's selection": Shape(
        {
            "scenario": "math_reasoning",
            "prompt": Q,
            "outputs": {"m": {"outputs": [GOOD, BAD], "gold": [1, 0]}},
        },
        "autoj-selection",
        MANY,
        None,
        (1.0, 0.0),
    ),
}
"""By the data set's name. `name` is None where the rows are our own."""

REFUSED: dict[str, tuple[Row, str]] = {
    "prompts only": ({"prompt": Q}, "nearly rate"),
    "language modelling": ({"text": "The sky is blue."}, "plain texts"),
    "classification": ({"text": "Good film.", "label": 1}, "plain texts"),
    "OpenAssistant": (
        {"message_id": "1", "parent_id": None, "text": "Hi", "role": "prompter"},
        "plain texts",
    ),
    "embedding triplets": ({"anchor": Q, "positive": GOOD, "negative": BAD}, "triplets"),
    "web pages": ({"url": "https://a.example", "content": "a page"}, "documents"),
    "a wrong column": ({"prompt": Q, "anser": GOOD}, "nearly prompt-response"),
    "other case": ({"Prompt": Q, "Completion": GOOD}, "there is 'Prompt'"),
    "a conversation without a reply": ({"messages": [said("user", Q)]}, "no assistant reply"),
    "a conversation that ends with a question": (
        {"messages": [*asked(GOOD), said("user", "Sure?")]},
        "the last message must be the reply",
    ),
    "LIMA's plain lists": ({"conversations": [Q, GOOD]}, "messages[0] must be an object"),
    "lm-eval without texts": ({"arguments": [["Q", " A"]], "resps": [[[-1.5, True]]]}, "generated text"),
}
"""Rows that cannot be rated, and words of the message."""
