# SPDX-License-Identifier: Apache-2.0
"""Do the transformers engine's probabilities equal plain forward passes of the model?

For each family of tiny random models with windows of 32 tokens: the largest difference between the engine's
verdict probabilities and plain forward passes (alone, in a batch, with a shared beginning), beside the
model's own noise; and, in nats, how far the former reading was off, with a mask and a prefix cache of ours
for every model. The ceiling is a difference of 1e-5, or 3 times the noise.

    python -m benchmarks.attention_table [--out benchmarks/results/attention_table.json] [FAMILY ...]
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import sys
import tempfile
from pathlib import Path
from typing import Any

import transformers

from autoj_reward.engines.transformers.proof import TRUSTED
from tests.engines.transformers.families import (
    FAMILIES,
    INPUTS,
    UNLIKE,
    Family,
    load_family,
    normal,
    own_noise,
    own_probs,
    read_probs,
    save_family,
)


def measure(family: Family, folder: Path) -> dict[str, Any]:
    """One line of the table."""
    engine, model = load_family(family, save_family(family, folder))
    shared = [own_probs(model, engine, item) for item in INPUTS]
    unlike = [own_probs(model, engine, item) for item in UNLIKE]
    row: dict[str, Any] = {"family": family.name, "reading": engine.describe()["reading"]}
    row["noise"] = own_noise(model, engine, INPUTS[0])
    alone = [read_probs(engine, [item])[0] for item in INPUTS]
    row["alone"] = largest(alone, shared)
    row["batch"] = largest(read_probs(engine, UNLIKE), unlike)
    row["shared"] = largest(read_probs(engine, INPUTS), shared)
    engine._forms = TRUSTED
    row["former_alone_nats"] = nats(engine, INPUTS[:1], shared[:1])
    row["former_batch_nats"] = nats(engine, UNLIKE, unlike)
    row["former_shared_nats"] = nats(engine, INPUTS, shared)
    engine.close()
    return row


def largest(got: list[list[float]], wanted: list[list[float]]) -> float:
    """Difference of a probability among the verdicts."""
    pairs = [(normal(a), normal(b)) for a, b in zip(got, wanted, strict=True)]
    return max(abs(g - w) for a, b in pairs for g, w in zip(a, b, strict=True))


def nats(engine: Any, items: Any, wanted: list[list[float]]) -> float | str:
    """Difference of a log-probability; the error's name where the call fails."""
    try:
        got = read_probs(engine, items)
    except Exception as error:
        return type(error).__name__
    return max(
        abs(math.log(g / w)) for a, b in zip(got, wanted, strict=True) for g, w in zip(a, b, strict=True)
    )


def main() -> None:
    """Print the table, and one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("families", nargs="*")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    rows = []
    print(f"{'family':26} {'alone':>8} {'batch':>8} {'shared':>8} {'noise':>8}   former, in nats")
    for family in FAMILIES:
        if options.families and family.name not in options.families:
            continue
        with tempfile.TemporaryDirectory() as folder:
            row = measure(family, Path(folder))
        rows.append(row)
        former = ", ".join(
            f"{row[k]:.2g}" if isinstance(row[k], float) else row[k]
            for k in ("former_alone_nats", "former_batch_nats", "former_shared_nats")
        )
        figures = " ".join(f"{row[k]:8.1e}" for k in ("alone", "batch", "shared", "noise"))
        print(f"{family.name:26} {figures}   {former}", flush=True)
    result = {
        "date": datetime.date.today().isoformat(),
        "command": "python -m benchmarks.attention_table " + " ".join(sys.argv[1:]),
        "transformers": transformers.__version__,
        "rows": rows,
    }
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
