# SPDX-License-Identifier: Apache-2.0
"""Score completions with a scalar reward model (`transformers` sequence classification)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from autoj_reward.autoj.pairs import LabelledPair, Scores
from autoj_reward.environment import how_to_install
from autoj_reward.errors import ConfigError
from autoj_reward.judge.messages.text import completion_text, prompt_text

_BATCH = 8


def score_pairs(
    model: str, pairs: Sequence[LabelledPair], *, device: str | None = None, max_tokens: int | None = None
) -> list[Scores]:
    """A reward model's scores of both completions of each pair.

    The prompt and the completion are a user's and an assistant's turn in the tokenizer's chat template;
    without one they are a text pair, as sequence classification models take them.

    Args:
        model: Folder or hub name of a sequence classification model with one output.
        pairs: B pairs.
        device: A torch device; None picks a GPU if the machine has one.
        max_tokens: Longer inputs lose their end; None is the model's own limit.

    Returns:
        B pairs of scores; None where the model gave no finite number.

    Raises:
        ConfigError: The model cannot be loaded, or has more than one output.
    """
    try:
        import torch
        from transformers import AutoModelForSequenceClassification, AutoTokenizer
    except ImportError as error:
        raise ConfigError(
            "a reward model needs the package transformers", hint=how_to_install("transformers")
        ) from error
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(model)
        scorer: Any
        scorer, info = AutoModelForSequenceClassification.from_pretrained(model, output_loading_info=True)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"cannot load the reward model {model!r}: {error}",
            hint="without a hub, give the folder of a downloaded checkpoint",
        ) from error
    if scorer.config.num_labels != 1:
        raise ConfigError(f"{model!r} has {scorer.config.num_labels} outputs; a reward model has one")
    if info["missing_keys"]:
        raise ConfigError(
            f"the checkpoint of {model!r} has no {min(info['missing_keys'])}, so its scores would be random",
            hint="a model that writes is a judge: give it with --judge",
        )
    scorer = scorer.eval()
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    # Decoder models find the end of each row by the padding token.
    scorer.config.pad_token_id = tokenizer.pad_token_id
    scorer.config.get_text_config().pad_token_id = tokenizer.pad_token_id
    scorer = scorer.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    # A configuration with a part for images has the limit in its text part. Some models count their
    # positions from 2: the tokenizer's own limit may be the smaller one.
    stated = getattr(scorer.config.get_text_config(), "max_position_embeddings", None) or 2048
    limit = max_tokens or min(stated, tokenizer.model_max_length)
    texts = [(prompt_text(p.prompt), completion_text(c)) for p in pairs for c in (p.first, p.second)]
    order = sorted(range(len(texts)), key=lambda i: len(texts[i][0]) + len(texts[i][1]))
    scores: list[float | None] = [None] * len(texts)
    with torch.inference_mode():
        for start in range(0, len(order), _BATCH):
            places = order[start : start + _BATCH]
            batch = _encoded(tokenizer, [texts[i] for i in places], limit).to(scorer.device)
            for i, value in zip(places, scorer(**batch).logits[:, 0].float().tolist(), strict=True):
                scores[i] = value if abs(value) != float("inf") and value == value else None
    return list(zip(scores[::2], scores[1::2], strict=True))


def _encoded(tokenizer: Any, texts: Sequence[tuple[str, str]], limit: int) -> Any:
    options = {"padding": True, "truncation": True, "max_length": limit, "return_tensors": "pt"}
    if getattr(tokenizer, "chat_template", None) is None:
        return tokenizer([p for p, _ in texts], [c for _, c in texts], **options)
    turns = [[{"role": "user", "content": p}, {"role": "assistant", "content": c}] for p, c in texts]
    rendered = [tokenizer.apply_chat_template(t, tokenize=False) for t in turns]
    # The template has set the special tokens already.
    return tokenizer(rendered, add_special_tokens=False, **options)
