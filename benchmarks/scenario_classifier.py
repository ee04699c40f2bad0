# SPDX-License-Identifier: Apache-2.0
"""Which small scenario classifier is best, how well does it do, and how fast is it?

Features and models are compared by five-fold cross-validation on the training rows alone. The one that ships
(hashed words that occur in at least two rows; `model.held_out_accuracy` is its cross-validation) is then
trained on all of them and scored on the published test rows. `--write FILE` keeps it.

    python benchmarks/scenario_classifier.py --write autoj_reward/scenarios/classifier.npz
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from groups import data_folder
from report import publish, show
from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer, TfidfVectorizer
from sklearn.model_selection import StratifiedKFold
from sklearn.naive_bayes import ComplementNB
from sklearn.neighbors import NearestCentroid
from sklearn.pipeline import make_pipeline, make_union
from sklearn.svm import LinearSVC

from autoj_reward.evaluate.scenario import evaluate_scenarios, read_labelled_queries
from autoj_reward.scenarios.embedded import EmbeddedClassifier, save_model
from autoj_reward.scenarios.features import TOKENS, shortened
from autoj_reward.scenarios.training import nearest_centroid, train

FOLDER = Path("auto-j") / "other_resources" / "scenario_classifier_data"


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


def whole(query: str) -> str:
    return query


VARIANTS: dict[str, tuple[Callable[[], Any], Callable[[], Any], Callable[[str], str]]] = {
    "words, SVM, whole query": (words, lambda: LinearSVC(C=0.5), whole),
    "words, SVM": (words, lambda: LinearSVC(C=0.5), shortened),
    "words, SVM, C=2": (words, lambda: LinearSVC(C=2.0), shortened),
    "words, balanced SVM": (words, lambda: LinearSVC(C=0.5, class_weight="balanced"), shortened),
    "words, naive Bayes": (words, lambda: ComplementNB(alpha=0.3), shortened),
    "words, nearest centroid": (words, NearestCentroid, shortened),
    "characters, SVM": (characters, lambda: LinearSVC(C=0.5), shortened),
    "words and characters, SVM": (
        lambda: make_union(words(), characters()),
        lambda: LinearSVC(C=0.5),
        shortened,
    ),
    "hashed words 2^14, SVM": (lambda: hashed(14), lambda: LinearSVC(C=0.5), shortened),
    "hashed words 2^15, SVM": (lambda: hashed(15), lambda: LinearSVC(C=0.5), shortened),
    "hashed words 2^16, SVM": (lambda: hashed(16), lambda: LinearSVC(C=0.5), shortened),
}


def compared(queries: list[str], labels: list[str]) -> list[dict[str, Any]]:
    wanted = np.array(labels)
    folds = list(StratifiedKFold(5, shuffle=True, random_state=0).split(wanted, wanted))
    rows = []
    for name, (features, model, cut) in VARIANTS.items():
        texts, started, right = [cut(q) for q in queries], time.perf_counter(), []
        for on, off in folds:
            make, fitted = features(), model()
            fitted.fit(make.fit_transform([texts[i] for i in on]), wanted[on])
            right.append(fitted.predict(make.transform([texts[i] for i in off])) == wanted[off])
        accuracy = float(np.concatenate(right).mean())
        rows.append(
            {"variant": name, "accuracy": accuracy, "seconds": round(time.perf_counter() - started, 1)}
        )
        show(rows[-1:])
    return rows


def per_minute(classifier: EmbeddedClassifier, queries: list[str]) -> float:
    classifier.classify(queries[:64])
    started = time.perf_counter()
    classifier.classify(queries)
    return 60 * len(queries) / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", type=Path, help="keep the classifier there")
    parser.add_argument("--no-variants", action="store_true", help="train and score only")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    folder = data_folder() / FOLDER
    queries, labels = read_labelled_queries(folder / "traindata.jsonl")
    test_queries, test_labels = read_labelled_queries(folder / "testdata.jsonl")
    variants = None if arguments.no_variants else compared(queries, labels)
    model = train(queries, labels)
    scratch = tempfile.TemporaryDirectory()
    path = arguments.write or Path(scratch.name) / "scenario_classifier.npz"
    save_model(model, path)
    classifier = EmbeddedClassifier(path)
    answers = [a.scenario for a in classifier.classify(test_queries)]
    centroid = nearest_centroid(queries, labels, test_queries)
    report = evaluate_scenarios(test_labels, answers, others={"nearest centroid": centroid}).as_dict()
    speed = per_minute(classifier, test_queries)
    print(f"test accuracy {report['overall']}, {speed:,.0f} prompts a minute, {path.stat().st_size:,} bytes")
    publish(
        "scenario_classifier",
        "how often is a small classifier right about the scenario, and how fast is it?",
        {
            **({} if variants is None else {"variants": variants}),
            "model": {**model.facts, "sharpness": model.sharpness, "min_prob": model.min_prob},
            "bytes": path.stat().st_size,
            "test": {name: report[name] for name in ("overall", "same_group", "groups", "baselines")},
            "prompts_per_minute": round(speed),
        },
    )


if __name__ == "__main__":
    main()
