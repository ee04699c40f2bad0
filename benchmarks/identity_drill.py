# SPDX-License-Identifier: Apache-2.0
"""Question: does a cache ever give the answers of a judge that somebody has swapped? Ceiling: never.

Tiny random models on disk lose their weights, base, adapter, tokenizer, chat template or template, with and
without their times kept, and a server behind one address changes its model wherever it shows that.

    python benchmarks/identity_drill.py --rounds 100
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from autoj_reward.engines.checkpoint import file_hash
from tests.engines.identity_drill import drill

RESULTS = Path(__file__).resolve().parent / "results" / "identity_drill.json"


def main() -> None:
    """Run the drill, print a table and one JSON line, and keep the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    # Files of a moment ago are hashed each time. Here remembered hashes are the harder case.
    file_hash._SETTLED_NS = 0
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        found = drill(Path(folder), options.rounds, seed=options.seed)
    result = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "command": f"python benchmarks/identity_drill.py --rounds {options.rounds} --seed {options.seed}",
        "seconds": round(time.monotonic() - began, 1),
        **found,
    }
    for name, n in found["rounds_by_kind"].items():
        print(f"{name:<28}{n:>5} rounds {found['stale_by_kind'].get(name, 0):>5} stale")
    RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result))
    sys.exit(found["stale"] > 0)


if __name__ == "__main__":
    main()
