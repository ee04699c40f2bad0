# SPDX-License-Identifier: Apache-2.0
"""How well does the embedded scenario classifier do, and how fast is it?

The variant that ships (hashed words that occur in at least two rows) is trained on all published training
rows and scored on the published test rows; `model.held_out_accuracy` is its five-fold cross-validation.
`--write FILE` keeps it. scenario_variants.py says why it is this one.

    python benchmarks/scenario_classifier.py --write autoj_reward/autoj/scenarios/classifier.npz
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from pathlib import Path

from groups import data_folder
from report import publish

from autoj_reward.autoj.scenarios.embedded import EmbeddedClassifier, save_model
from autoj_reward.autoj.scenarios.training import nearest_centroid, train
from autoj_reward.evaluate.scenario import evaluate_scenarios, read_labelled_queries


def labelled_queries() -> tuple[tuple[list[str], list[str]], tuple[list[str], list[str]]]:
    """Queries and labels of the published rows, for training and for testing."""
    folder = data_folder() / "auto-j" / "other_resources" / "scenario_classifier_data"
    return read_labelled_queries(folder / "traindata.jsonl"), read_labelled_queries(folder / "testdata.jsonl")


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
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    train_rows, test_rows = labelled_queries()
    model = train(*train_rows)
    scratch = tempfile.TemporaryDirectory()
    path = arguments.write or Path(scratch.name) / "scenario_classifier.npz"
    save_model(model, path)
    classifier = EmbeddedClassifier(path)
    answers = [a.scenario for a in classifier.classify(test_rows[0])]
    centroid = nearest_centroid(*train_rows, test_rows[0])
    report = evaluate_scenarios(test_rows[1], answers, others={"nearest centroid": centroid}).as_dict()
    speed = per_minute(classifier, test_rows[0])
    print(f"test accuracy {report['overall']}, {speed:,.0f} prompts a minute, {path.stat().st_size:,} bytes")
    publish(
        "scenario_classifier",
        "how often is a small classifier right about the scenario, and how fast is it?",
        {
            "model": {**model.facts, "sharpness": model.sharpness, "min_prob": model.min_prob},
            "bytes": path.stat().st_size,
            "test": {name: report[name] for name in ("overall", "same_group", "groups", "baselines")},
            "prompts_per_minute": round(speed),
        },
    )


if __name__ == "__main__":
    main()
