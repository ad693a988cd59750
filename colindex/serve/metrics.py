"""Metrics, as Prometheus reads them. This is the one module that imports prometheus_client.

1. Each request is counted by route and status, and timed by route. A path that is no route counts as `other`, so that a scan of
   paths makes no series.
2. Each search adds the time of its stages.
3. What the index knows of itself is read when somebody asks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from colindex.budget import IndexStats
from colindex.serve.guard import App, Message, Receive, Scope, Send

if TYPE_CHECKING:
    from prometheus_client import Metric

__all__ = ["MEDIA_TYPE", "Measured", "Metrics"]

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Metrics:
    """The counters of one server."""

    def __init__(self, stats: Callable[[], IndexStats]) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "colindex_requests", "Requests answered.", ("method", "route", "status"), registry=self._registry
        )
        self.seconds = Histogram(
            "colindex_request_seconds", "Time to answer.", ("route",), registry=self._registry, buckets=_SECONDS
        )
        self.running = Gauge("colindex_requests_running", "Requests being answered.", registry=self._registry)
        self._stages = Counter(
            "colindex_search_stage_seconds", "Time of searches by stage.", ("stage",), registry=self._registry
        )
        self._registry.register(_OfIndex(stats))

    def add_search(self, seconds: Mapping[str, float]) -> None:
        """Step 2."""
        for stage, value in seconds.items():
            self._stages.labels(stage).inc(value)

    def text(self) -> bytes:
        """All of them."""
        return generate_latest(self._registry)


class _OfIndex:
    """Step 3."""

    def __init__(self, stats: Callable[[], IndexStats]) -> None:
        self._stats = stats

    def describe(self) -> Iterable[Metric]:
        """Nothing is read from the index before somebody asks."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """What the index knows now."""
        stats = self._stats()
        yield GaugeMetricFamily("colindex_documents", "Documents that are not deleted.", stats.documents)
        yield GaugeMetricFamily("colindex_generation", "The generation that is searched.", stats.generation)
        yield GaugeMetricFamily("colindex_budget_bytes", "Memory that the index may keep.", stats.budget)
        resident = GaugeMetricFamily("colindex_resident_bytes", "Memory that the index keeps.", labels=("part",))
        for part, size in stats.resident.items():
            resident.add_metric((part,), size)
        yield resident
        for name, value in stats.cache.items():
            yield CounterMetricFamily(f"colindex_cache_{name}", "A counter of the block cache since open.", value)


class Measured:
    """ASGI middleware that counts and times: step 1."""

    def __init__(self, app: App, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, start = 500, time.perf_counter()

        async def sent(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        with self._metrics.running.track_inprogress():
            try:
                await self._app(scope, receive, sent)
            finally:
                route = getattr(scope.get("route"), "path", "other")
                method = scope["method"] if scope["method"] in _METHODS else "other"
                self._metrics.requests.labels(method, route, str(status)).inc()
                self._metrics.seconds.labels(route).observe(time.perf_counter() - start)
