"""Prometheus metrics."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from pipeline.edge.cascade import Answer
from pipeline.serving.batching import Batched
from pipeline.serving.engine import Engine

SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)


class Meters:
    """Counters of one server, in their own registry."""

    def __init__(self, engine: Engine) -> None:
        self.registry = CollectorRegistry()
        name = "ommatidia_"
        self._requests = Counter(f"{name}requests", "requests", ["status"], registry=self.registry)
        self._seconds = Histogram(
            f"{name}request_seconds", "from head to answer", buckets=SECONDS, registry=self.registry
        )
        self._photos = Counter(f"{name}photos", "answered photos", ["stage", "status"], registry=self.registry)
        self._bytes = Counter(f"{name}photo_bytes", "of the answered photos", registry=self.registry)
        queue = Gauge(f"{name}queue_photos", "that wait or are in work", registry=self.registry)
        queue.set_function(lambda: engine.admitted)
        sizes = range(1, engine.limits.batch + 1)
        batches = Histogram(f"{name}batch_photos", "per call", ["stage"], buckets=sizes, registry=self.registry)
        for stage in engine.cascade.stages:
            if isinstance(stage.model, Batched):
                stage.model.sizes = batches.labels(stage.name).observe

    def request(self, status: int, seconds: float) -> None:
        """Count an answered request."""
        self._requests.labels(status).inc()
        self._seconds.observe(seconds)

    def count(self, answers: Sequence[Answer], size: int) -> None:
        """Count answered photos and their bytes."""
        for answer in answers:
            self._photos.labels(answer.stage or "none", answer.status).inc()
        self._bytes.inc(size)
