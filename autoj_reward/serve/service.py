# SPDX-License-Identifier: Apache-2.0
"""Loads the judge of the server, batches its requests, and closes it after pending work."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, cast

from autoj_reward.engines import load_engine
from autoj_reward.errors import AutojRewardError
from autoj_reward.judge.batching.async_calls import judge_batch
from autoj_reward.judge.batching.batcher import DeadlinePassed, DynamicBatcher, Kind, Outcome, QueueFull
from autoj_reward.judge.judge import Judge
from autoj_reward.judgments import Judgment, PairJudgment, RatingJudgment
from autoj_reward.serve.errors import Refusal, of_engine
from autoj_reward.serve.metrics import Metrics
from autoj_reward.serve.settings import ServeSettings
from autoj_reward.types import Failure, JudgeInput, JudgeOutput, Request

logger = logging.getLogger("autoj_reward")

State = Literal["loading", "ready", "draining", "failed"]


class RewardService:
    """Judges requests of many clients; closes the judge at the end."""

    def __init__(self, judge: Judge, settings: ServeSettings) -> None:
        self.judge = judge
        self.settings = settings
        self.state: State = "loading"
        self.failure: Exception | None = None
        """Why the judge could not be loaded."""
        self._ends_at = math.inf
        self._n_decisions = 0
        self.metrics = Metrics(lambda: self.judge.engine if self.state in ("ready", "draining") else None)
        self._threads = ThreadPoolExecutor(settings.at_once + 1, thread_name_prefix="autoj-reward-judge")
        orders = 2 if judge.settings.both_orders else 1
        per_batch = max(1, settings.max_batch // judge.settings.n_samples)
        self._batcher = DynamicBatcher(
            self._judge_batch,
            self._threads,
            sizes={"rate": per_batch, "compare": max(1, per_batch // orders)},
            whole=judge.kinds_in_lists,
            window_seconds=settings.window_seconds,
            at_once=settings.at_once,
            max_waiting=settings.max_waiting,
            watch=self.metrics,
        )
        self.metrics.waiting.set_function(lambda: self._batcher.n_waiting)
        self.metrics.under_way.set_function(lambda: self._batcher.n_batches)
        self.metrics.ready.set_function(lambda: float(self.state == "ready"))

    async def load(self) -> None:
        """Load the judge's engine; sets the state to ready, or to failed with the error in `failure`."""
        try:
            await asyncio.get_running_loop().run_in_executor(
                self._threads, lambda: load_engine(self.judge.engine)
            )
        except Exception as error:
            self.state, self.failure = "failed", error
        else:
            self.state = "ready" if self.state == "loading" else self.state

    def begin_draining(self) -> None:
        """Start the drain timeout: no more requests arrive. A second call does nothing."""
        if self.state != "failed":
            self.state = "draining"
        self._ends_at = min(self._ends_at, time.monotonic() + self.settings.drain_seconds)

    async def close(self) -> None:
        """Close the judge after the running batches, or give up after `drain_seconds`."""
        self.begin_draining()
        ends = self._ends_at
        while not self.drained and time.monotonic() < ends:
            await asyncio.sleep(0.01)
        if not self.drained:
            logger.warning(
                "%d batches and %d decisions did not finish in time; their results are lost",
                self._batcher.n_batches,
                self._n_decisions,
            )
            self._threads.shutdown(wait=False, cancel_futures=True)
            return
        await asyncio.get_running_loop().run_in_executor(None, self.judge.close)
        self._threads.shutdown()

    @property
    def drained(self) -> bool:
        """Whether no batch is running."""
        return self._batcher.n_batches == 0 and self._n_decisions == 0

    async def rate(self, requests: Sequence[Request], deadline_seconds: float | None) -> list[RatingJudgment]:
        """Rate completions.

        Args:
            requests: One completion each.
            deadline_seconds: The client's deadline; None takes the server's.

        Raises:
            Refusal: The requests cannot be judged; says why.
        """
        return cast(list[RatingJudgment], await self._ask("rate", requests, deadline_seconds))

    async def compare(
        self, requests: Sequence[Request], deadline_seconds: float | None
    ) -> list[PairJudgment]:
        """Compare pairs; otherwise as `rate`."""
        return cast(list[PairJudgment], await self._ask("compare", requests, deadline_seconds))

    async def decide(self, inputs: Sequence[JudgeInput]) -> list[JudgeOutput | Failure]:
        """Give inputs to the judge's engine as they are, in a thread; raises as `rate`."""
        self._refuse_unready()
        n, most = len(inputs), self.settings.max_waiting
        if self._n_decisions + n > most:
            raise Refusal(429, "queue_full", f"at most {most:,} questions may wait", retry_after=1)

        def done(_: object) -> None:
            self._n_decisions -= n

        self._n_decisions += n
        loop = asyncio.get_running_loop()
        answered = loop.run_in_executor(self._threads, self.judge.engine.generate, inputs)
        answered.add_done_callback(done)
        seconds = self.settings.deadline_seconds
        try:
            async with asyncio.timeout(seconds):
                return await asyncio.shield(answered)
        except TimeoutError:
            raise Refusal(504, "deadline", f"not judged within {seconds:g} seconds", retry_after=1) from None
        except AutojRewardError as error:
            logger.error("%d questions could not be answered: %s: %s", n, type(error).__name__, error)
            raise of_engine(error) from error

    def _refuse_unready(self) -> None:
        # While the server drains, requests that came before are still judged.
        if self.state in ("loading", "failed"):
            raise Refusal(503, self.state, f"the judge is {self.state}", retry_after=5)

    async def _ask(self, kind: Kind, requests: Sequence[Request], seconds: float | None) -> list[Judgment]:
        self._refuse_unready()
        longest = self.settings.deadline_seconds
        try:
            return await self._batcher.judge(kind, requests, seconds=min(seconds or longest, longest))
        except QueueFull as error:
            raise Refusal(429, "queue_full", str(error), retry_after=error.retry_seconds) from None
        except DeadlinePassed as error:
            raise Refusal(504, "deadline", str(error), retry_after=1) from None
        except AutojRewardError as error:
            raise of_engine(error) from error

    def _judge_batch(self, kind: Kind, requests: list[Request]) -> list[Outcome]:
        """Judge a batch, in a thread, and log what failed; clients are not told more than its kind."""
        outcomes = judge_batch(self.judge, kind, requests)
        for error in {id(o): o for o in outcomes if isinstance(o, Exception)}.values():
            n = sum(o is error for o in outcomes)
            logger.error("%d requests could not be judged: %s: %s", n, type(error).__name__, error)
        return outcomes
