# SPDX-License-Identifier: Apache-2.0
"""How fast is a judge on this CPU, against another commit, and what does bfloat16 change in its verdicts?

pace       the quickstart's ratings with the transformers engine, in this tree and in another commit, in turns
           on the same machine. `ratio` is the other commit's seconds over this tree's.
agreement  the same ratings and comparisons (TruthfulQA's answers) in bfloat16 and in float32: how much
           the expected ratings differ, and how often the best verdict and the decision of a pair are equal.

    python benchmarks/cpu_pace.py --parts pace              # about 3 minutes on two idle cores
    python benchmarks/cpu_pace.py --parts agreement

A part that is left out keeps its figures in the result file.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from groups import flat, read_groups
from report import RESULTS, alternating, median_ratio, publish, show

from autoj_reward import Judge

REPO = Path(__file__).resolve().parent.parent
FORMER = "d695dc7"
"""The last commit before the dtype followed the processor."""

WORKER = """
import json, sys
import autoj_reward
from autoj_reward import Judge
rows = json.load(open(sys.argv[1], encoding="utf-8"))
judge = Judge.load(sys.argv[2], mode="direct", engine="transformers")
judge.rate(rows["prompts"][:2], rows["completions"][:2])
print(json.dumps({"from": autoj_reward.__file__, **judge.describe()["engine"]}), flush=True)
for line in sys.stdin:
    judged = judge.rate(rows["prompts"], rows["completions"])
    print(json.dumps([j.expected_rating for j in judged]), flush=True)
"""


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("--judge", default="mini")
    arguments.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    arguments.add_argument("--revision", default=FORMER, help="the other commit")
    arguments.add_argument(
        "--prompts", type=int, default=1, help="of the quickstart's 4, with 32 completions each"
    )
    arguments.add_argument("--repeats", type=int, default=3)
    arguments.add_argument("--ratings", type=int, default=500)
    arguments.add_argument("--pairs", type=int, default=300)
    arguments.add_argument("--name", default="cpu_pace", help="of the result file")
    given = arguments.parse_args()

    kept = RESULTS / f"{given.name}.json"
    found = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    results = {part: found[part] for part in PARTS if part in found}
    for part in given.parts:
        results[part] = {"judge": given.judge, **PARTS[part](given)}
        show([{"part": part, "figure": name, "value": value} for name, value in results[part].items()])
        publish(given.name, "How fast is the judge on a CPU, and what does bfloat16 change?", results)


def pace(given: argparse.Namespace) -> dict[str, Any]:
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="autoj-reward-pace-")))
        rows = folder / "rows.json"
        rows.write_text(json.dumps(quickstart(given.prompts)), encoding="utf-8")
        other = stack.enter_context(worktree(given.revision, folder / "other"))
        before = stack.enter_context(Worker(other, rows, given.judge))
        after = stack.enter_context(Worker(REPO, rows, given.judge))
        seconds = alternating({"before": before.rate, "after": after.rate}, given.repeats)
        return {
            "revision": given.revision,
            "n_ratings": len(after.ratings),
            "dtype_before": before.about["dtype"],
            "dtype_after": after.about["dtype"],
            "seconds_before": seconds["before"],
            "seconds_after": seconds["after"],
            "ratio": median_ratio(seconds["before"], seconds["after"]),
            "mean_difference": mean_difference(before.ratings, after.ratings),
        }


def agreement(given: argparse.Namespace) -> dict[str, Any]:
    prompts, completions = flat(read_groups("truthfulqa-16", max(given.ratings, given.pairs) // 15 + 1))
    # Neighbours of a group; the last of a group and the first of the next do not belong together.
    pairs = [n for n in range(len(prompts) - 1) if prompts[n] == prompts[n + 1]][: given.pairs]
    answers = {}
    for dtype in ("bfloat16", "float32"):
        with Judge.load(given.judge, mode="direct", engine="transformers", dtype=dtype, cache=True) as judge:
            rated = judge.rate(prompts[: given.ratings], completions[: given.ratings])
            firsts, seconds = [completions[n] for n in pairs], [completions[n + 1] for n in pairs]
            compared = judge.compare([prompts[n] for n in pairs], firsts, seconds)
        answers[dtype] = rated, compared
        print(f"agreement: {dtype} judged", flush=True)
    rated, compared = (
        [(a, b) for a, b in zip(ours, theirs, strict=True) if not (a.failure or b.failure)]
        for ours, theirs in zip(answers["bfloat16"], answers["float32"], strict=True)
    )
    rating_gaps = [abs(a.expected_rating - b.expected_rating) for a, b in rated]
    win_gaps = [abs(a.win_prob - b.win_prob) for a, b in compared]
    return {
        "n_ratings": len(rated),
        "rating_mean_difference": statistics.fmean(rating_gaps),
        "rating_largest_difference": max(rating_gaps),
        "equal_best_verdict": statistics.fmean(a.rating == b.rating for a, b in rated),
        "n_pairs": len(compared),
        "win_prob_mean_difference": statistics.fmean(win_gaps),
        "win_prob_largest_difference": max(win_gaps),
        "equal_decision": statistics.fmean(a.preference == b.preference for a, b in compared),
    }


PARTS = {"pace": pace, "agreement": agreement}


def quickstart(n_prompts: int) -> dict[str, list[str]]:
    """The quickstart's prompts and completions, a completion each."""
    lines = (REPO / "examples" / "completions.jsonl").read_text(encoding="utf-8").splitlines()[:n_prompts]
    pairs = [(row["prompt"], c) for row in map(json.loads, lines) for c in row["completions"]]
    return {"prompts": [p for p, _ in pairs], "completions": [c for _, c in pairs]}


@contextlib.contextmanager
def worktree(revision: str, folder: Path) -> Iterator[Path]:
    """The files of a commit, in a folder that is removed afterwards."""
    git = ["git", "-C", str(REPO), "worktree"]
    subprocess.run([*git, "add", "--quiet", "--detach", str(folder), revision], check=True)
    try:
        yield folder
    finally:
        subprocess.run([*git, "remove", "--force", str(folder)], check=True)


class Worker:
    """A process with the package of a folder, which rates the same rows each time it is asked."""

    def __init__(self, folder: Path, rows: Path, judge: str) -> None:
        env = {**os.environ, "PYTHONPATH": str(folder)}
        self._process = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(rows), judge],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env, cwd=folder,
        )  # fmt: skip
        self.about: dict[str, Any] = json.loads(self._answer())
        if not Path(self.about["from"]).is_relative_to(folder):
            raise SystemExit(f"the worker took {self.about['from']} instead of the package in {folder}")
        self.ratings: list[float | None] = []

    def rate(self) -> None:
        """Rate all rows."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        self.ratings = json.loads(self._answer())

    def _answer(self) -> str:
        assert self._process.stdout is not None
        if not (line := self._process.stdout.readline()):
            raise SystemExit(f"a worker ended with status {self._process.wait()}; its message is above")
        return line

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()


def mean_difference(one: Sequence[float | None], other: Sequence[float | None]) -> float:
    """Mean absolute difference of the ratings that both have."""
    return statistics.fmean(
        abs(a - b) for a, b in zip(one, other, strict=True) if a is not None and b is not None
    )


if __name__ == "__main__":
    main()
