# SPDX-License-Identifier: Apache-2.0
"""Do judgments survive a misbehaving server? None may be lost, doubled, or become a silent zero.

A small HTTP server on three ports refuses, resets, stalls, drips, answers 429 and 500 and bodies cut short,
of the wrong count, kind and shape, on a seeded schedule. Its model is a formula over the prompt's token ids.
The same judge on an engine that computes that formula without a server says what every judgment has to be:

* every judgment is there, and is that of its own input;
* an input that the server refuses for good is a failure of the right reason, and no other input is one,
  unless all attempts at it failed: then it says so;
* the run ends by itself.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import httpx
from report import publish, show

from autoj_reward.engines.checkpoint.embedded import EMBEDDED_MODEL, resolve_model
from autoj_reward.engines.logprobs.token_tree import (
    NodeLogprobs,
    TokenPath,
    TokenTree,
    log_sum_exp,
    token_tree,
)
from autoj_reward.engines.logprobs.tokenizer import InjectionSafeTokenizer
from autoj_reward.engines.openai.engine import ServerEngine
from autoj_reward.engines.openai.settings import load_tokenizer
from autoj_reward.judge.judge import Judge
from autoj_reward.judgments import RatingJudgment
from autoj_reward.types import ContinuationQuery, Failure, FailureReason, JudgeInput, JudgeOutput, Segment
from tests.engines.openai.faulty_server import FAULTS, Model, faulty_server, holds

_REFUSED, _TOO_LONG = " abracadabra", " supercalifragilistic"
_FOLLOW_ABOVE = 0.005
_ROUNDING = 1e-9


class FormulaEngine:
    """The server's formula, without a server."""

    fingerprint = "formula"

    def __init__(self, model: Model, tokenizer: InjectionSafeTokenizer) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._trees: dict[ContinuationQuery, TokenTree] = {}

    def generate(self, inputs: Sequence[JudgeInput]) -> list[JudgeOutput | Failure]:
        return [self._answer(item) for item in inputs]

    def close(self) -> None:
        """Nothing is held open."""

    def _answer(self, item: JudgeInput) -> JudgeOutput | Failure:
        ids = self._tokenizer.encode_input(item)
        if holds(ids, self._model.refused):
            return Failure(reason=FailureReason.ENGINE, detail="refused")
        if holds(ids, self._model.too_long):
            return Failure(reason=FailureReason.TOO_LONG, detail="too long", overflow_tokens=100)
        if item.readout is None:
            return JudgeOutput(text=self._model.text(ids), finish_reason="stop")
        wanted = replace(item.readout, follow_above=0.0)
        if wanted not in self._trees:
            self._trees[wanted] = token_tree(wanted, self._tokenizer)
        tree = self._trees[wanted]
        readings: dict[TokenPath, NodeLogprobs] = {}
        while due := tree.followed(readings):
            for node in due:
                known = self._model.logprobs([*ids, *node], tree.wanted(node))
                ends = [known[i] for i in tree.terminators] if tree.ends(node) else []
                children = {i: known[i] for i in tree.children[node]}
                readings[node] = NodeLogprobs(children, log_sum_exp(ends) if ends else None)
        return JudgeOutput(text="", finish_reason="read", reading=tree.read(readings))


def formula(tokenizer: InjectionSafeTokenizer) -> Model:
    """A model that writes digits, and then ends the rating or appends a half."""

    def ids(*texts: str) -> tuple[int, ...]:
        return tuple(tokenizer.encode([Segment(text)])[0] for text in texts)

    return Model(
        digits=ids(*"123456789"),
        ends=ids("]", "]]"),
        half=ids(".")[0],
        n_vocab=tokenizer.hf.vocab_size,
        refused=tuple(tokenizer.encode([Segment(_REFUSED)])),
        too_long=tuple(tokenizer.encode([Segment(_TOO_LONG)])),
    )


def questions(n: int) -> tuple[list[str], list[str]]:
    """Distinct prompts and completions; the server refuses a few of them."""
    marks = {7: f" Say{_REFUSED} please.", 107: f" Say{_TOO_LONG} please."}
    prompts = [f"Question {k}: what is {k} + {k % 7}?{marks.get(k % 200, '')}" for k in range(n)]
    return prompts, [f"I think that it is {k + k % 7}." for k in range(n)]


def compare(got: RatingJudgment, due: RatingJudgment) -> str:
    """What became of a judgment, in a word or two; those that begin with WRONG must not be.

    Args:
        got: By the server.
        due: By the formula.
    """
    if due.failure is not None:
        right = got.failure is not None and got.failure.reason is due.failure.reason
        return f"refused as {due.failure.reason}" if right else "WRONG: a refusal got lost"
    if got.failure is not None:
        given_up = got.failure.reason is FailureReason.ENGINE and "failed attempt" in got.failure.detail
        return "given up after all attempts" if given_up else f"WRONG: failure {got.failure.reason}"
    if got.distribution is None or due.distribution is None:
        return "WRONG: neither a verdict nor a failure"
    if [s.critique for s in got.samples] != [s.critique for s in due.samples]:
        return "WRONG: another input's critique"
    masses = [[p * d.mass for p in d.probs] for d in (got.distribution, due.distribution)]
    missing = [d - g for g, d in zip(*masses, strict=True)]
    if min(missing) < -_ROUNDING or max(missing) > got.distribution.unread_prob + _ROUNDING:
        return "WRONG: another distribution"
    # The most probable verdict is always read completely; no other input's agrees to nine digits.
    if abs(missing[masses[1].index(max(masses[1]))]) > _ROUNDING:
        return "WRONG: the distribution of another input"
    return "judged"


def drill(n: int, *, rate: float, seed: int) -> dict[str, Any]:
    """Judge `n` inputs, a fifth of them with critiques, and count what became of them."""
    tokenizer = load_tokenizer(resolve_model(EMBEDDED_MODEL), None)
    model = formula(tokenizer)
    prompts, completions = questions(n)
    n_direct = n - n // 5
    parts = {"direct": slice(0, n_direct), "critique": slice(n_direct, n)}
    outcomes: dict[str, Counter[str]] = {}
    spent = requests = 0
    critiques: list[str] = []
    with faulty_server(
        model, rate=rate, endpoints=3, stall_seconds=10.0, down_seconds=4.0, seed=seed
    ) as urls:
        engine = ServerEngine(
            urls, tokenizer=EMBEDDED_MODEL, timeout_seconds=5.0, attempts=8, retry_seconds=180.0
        )
        began = time.monotonic()
        got: dict[str, list[RatingJudgment]] = {}
        for mode, part in parts.items():
            judge = Judge.load("mini", engine=engine, mode=mode, follow_above=_FOLLOW_ABOVE)
            got[mode] = judge.rate(prompts[part], completions[part])
            requests += sum(j.usage.n_requests for j in got[mode])
        spent = time.monotonic() - began
        counts = engine.counts
        engine.close()
        # The first port; the last one may be down at the moment.
        served = httpx.get(f"{urls[0]}/counts", trust_env=False).json()
    for mode, part in parts.items():
        exact = Judge.load("mini", engine=FormulaEngine(model, tokenizer), mode=mode)
        due = exact.rate(prompts[part], completions[part])
        found = [compare(g, d) for g, d in zip(got[mode], due, strict=True)]
        outcomes[mode] = Counter(found)
        critiques += [s.critique for j in got[mode] for s in j.samples if s.critique]
    return {
        "judgments": n,
        "answers": sum(map(len, got.values())),
        "wrong": sum(v for o in outcomes.values() for k, v in o.items() if k.startswith("WRONG")),
        "doubled_critiques": len(critiques) - len(set(critiques)),
        "outcomes": {mode: dict(sorted(counter.items())) for mode, counter in outcomes.items()},
        "requests_answered": requests,
        "client": dict(sorted(counts.items())),
        "server": dict(sorted(served.items())),
        "rate": rate,
        "seed": seed,
        "seconds": round(spent, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--judgments", type=int, default=10_000)
    parser.add_argument("--rate", type=float, default=0.2, help="share of requests that meet a fault")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dry", action="store_true", help="print the figures, and keep no file")
    options = parser.parse_args()
    figures = drill(options.judgments, rate=options.rate, seed=options.seed)
    show([{"mode": m, "outcome": k, "n": v} for m, o in figures["outcomes"].items() for k, v in o.items()])
    show([{"event": f"client: {k}", "n": v} for k, v in figures["client"].items()])
    show([{"event": f"server: {k}", "n": v} for k, v in figures["server"].items()])
    if options.dry:
        print(json.dumps(figures))
    else:
        publish("faults", "Is a judgment lost, doubled or made a zero by a misbehaving server?", figures)
    missing = [fault for fault in FAULTS if not figures["server"].get(fault)]
    if missing:
        print(f"faults that never came up: {', '.join(missing)}", file=sys.stderr)
    sys.exit(
        bool(figures["wrong"] or figures["doubled_critiques"] or figures["answers"] != figures["judgments"])
    )


if __name__ == "__main__":
    main()
