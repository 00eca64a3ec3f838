"""What a server counts, in Prometheus' form."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    generate_latest,
)

from deni._version import __version__

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
TEXTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """The counters of one server, in its own registry.

    Args:
        paths: those that are named; all others count as `other`, so that clients cannot make more rows.
    """

    def __init__(self, task: str, members: int, paths: tuple[str, ...]) -> None:
        self.registry = CollectorRegistry()
        self.paths = paths
        here: dict[str, Any] = {"registry": self.registry}
        self.requests = Counter("deni_requests", "Requests answered.", ["path", "status"], **here)
        self.seconds = Histogram("deni_request_seconds", "Seconds a request.", ["path"], buckets=SECONDS, **here)
        self.texts = Counter("deni_texts", "Texts predicted.", **here)
        self.tokens = Counter("deni_tokens", "Tokens of texts, before the model cuts them.", **here)
        self.abstained = Counter("deni_abstained", "Texts without an answer.", **here)
        self.batches = Histogram("deni_batch_texts", "Texts predicted together.", buckets=TEXTS, **here)
        self.waiting = Gauge("deni_waiting_texts", "Texts that wait for the model.", **here)
        info = Info("deni_model", "What is served.", **here)
        info.info({"task": task, "members": str(members), "version": __version__})
        ProcessCollector(registry=self.registry)

    def text(self) -> bytes:
        """All of them, as Prometheus reads them."""
        return generate_latest(self.registry)


class Measured:
    """Counts the requests of an ASGI application, and times them."""

    def __init__(self, app: Callable[..., Awaitable[None]], metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun, status = time.perf_counter(), 500
        path = scope["path"] if scope["path"] in self.metrics.paths else "other"

        async def noting(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, noting)
        finally:
            self.metrics.requests.labels(path, status).inc()
            self.metrics.seconds.labels(path).observe(time.perf_counter() - begun)
