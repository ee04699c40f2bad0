# SPDX-License-Identifier: Apache-2.0
"""Prometheus metrics of the reward server, in their own registry."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from autoj_reward.engines import Engine, engine_stats
from autoj_reward.judge.batching.batcher import Kind, Outcome
from autoj_reward.judgments import Judgment
from autoj_reward.types import FailureReason, Usage

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2, 5, 10, 30, 60, 120, 300)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Metrics:
    """The server's metrics.

    Args:
        engine: Returns the judge's engine, or None before it is loaded. Its stats, if it has a cache, tell
            cache hits and tokens; otherwise tokens are summed over judgments.
    """

    def __init__(self, engine: Callable[[], Engine | None]) -> None:
        self.registry = CollectorRegistry()
        named: dict[str, Any] = {"registry": self.registry}
        self._requests = Counter("autoj_requests", "HTTP requests", ["path", "status"], **named)
        self._seconds = Histogram(
            "autoj_request_seconds", "Time of a request in the server", ["path"], buckets=_SECONDS, **named
        )
        self._judgments = Counter("autoj_judgments", "Judgments made", ["kind"], **named)
        self._failures = Counter("autoj_failures", "Judgments without a verdict", ["reason"], **named)
        self._batch_size = Histogram(
            "autoj_batch_size", "Judgments of a batch", ["kind"], buckets=_SIZES, **named
        )
        self._batch_seconds = Histogram(
            "autoj_batch_seconds", "Time of a batch", ["kind"], buckets=_SECONDS, **named
        )
        self._errors = Counter("autoj_batch_errors", "Requests whose judging failed as a whole", **named)
        self.waiting = Gauge("autoj_waiting_judgments", "Judgments waiting for a batch", **named)
        self.under_way = Gauge("autoj_batches_under_way", "Batches being judged", **named)
        self.ready = Gauge("autoj_ready", "1 when the judge is loaded", **named)
        self._spending = _Spending(engine)
        self.registry.register(self._spending)
        for reason in FailureReason:
            self._failures.labels(reason.value)

    def request_done(self, path: str, status: int, seconds: float) -> None:
        """Count a request; `path` must be a route, not the client's text."""
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)

    def batch_done(self, kind: Kind, outcomes: Sequence[Outcome], seconds: float) -> None:
        """Count a batch and its judgments."""
        self._batch_size.labels(kind).observe(len(outcomes))
        self._batch_seconds.labels(kind).observe(seconds)
        judgments = [o for o in outcomes if isinstance(o, Judgment)]
        self._judgments.labels(kind).inc(len(judgments))
        self._errors.inc(len(outcomes) - len(judgments))
        for judgment in judgments:
            if judgment.failure is not None:
                self._failures.labels(judgment.failure.reason.value).inc()
            self._spending.judged += judgment.usage

    def page(self) -> bytes:
        """The metrics in Prometheus' text format."""
        return generate_latest(self.registry)


class _Spending(Collector):
    """Tokens and cache hits, read from the engine when metrics are collected."""

    def __init__(self, engine: Callable[[], Engine | None]) -> None:
        self._engine = engine
        self.judged = Usage()

    def describe(self) -> Iterator[Metric]:
        return iter(())

    def collect(self) -> Iterator[Metric]:
        stats = engine_stats(self._engine())
        spent = self.judged if stats is None else stats.usage
        tokens = CounterMetricFamily("autoj_tokens", "Tokens that the engine spent", labels=["kind"])
        tokens.add_metric(["prompt"], spent.prompt_tokens)
        tokens.add_metric(["prompt_shared"], spent.cached_tokens)
        tokens.add_metric(["completion"], spent.completion_tokens)
        yield tokens
        if stats is None:
            return
        answers = CounterMetricFamily("autoj_answers", "Answers by source", labels=["source"])
        answers.add_metric(["cache"], stats.n_cached)
        answers.add_metric(["engine"], stats.n_asked)
        yield answers
        share = GaugeMetricFamily("autoj_cache_hit_share", "Share of answers that came from the cache")
        share.add_metric([], stats.cached_share or 0.0)
        yield share
