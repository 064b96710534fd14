"""Metrics for Prometheus: requests, pictures, waiting and memory, added up over the workers."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

__all__ = ["Metrics"]

_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)


class Metrics:
    """Counters of one worker.

    Args:
        folder: Where the workers of a service keep theirs, so that each reports all; the variable
            PROMETHEUS_MULTIPROC_DIR must name it before prometheus_client is imported. None is one
            worker alone.
    """

    def __init__(self, folder: str | None = None) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        self._folder = folder
        self._registry = CollectorRegistry()
        if folder is not None:
            _forget_dead(Path(folder))
        own: dict[str, Any] = {"namespace": "facefind", "registry": self._registry}
        several: dict[str, Any] = own | {"multiprocess_mode": "livesum"}
        self.requests = Counter("requests", "Requests by status.", ("path", "status"), **own)
        self.seconds = Histogram(
            "request_seconds", "Seconds to the answer.", ("path",), buckets=_SECONDS, **own
        )
        self.bytes = Counter("request_bytes", "Bytes of bodies.", **own)
        self.pictures = Counter("pictures", "Pictures by outcome.", ("outcome",), **own)
        self.faces = Counter("faces", "Faces found.", **own)
        self.stage = Histogram(
            "stage_seconds",
            "Seconds a picture, by stage: decode, network.",
            ("stage",),
            buckets=_SECONDS,
            **own,
        )
        self.batch = Histogram(
            "batch_pictures",
            "Pictures that were run together.",
            buckets=(1, 2, 4, 8, 16, 32),
            **own,
        )
        self.queue = Gauge("queue_pictures", "Pictures that are read, wait or run.", **several)
        self.memory = Gauge("memory_bytes", "Bytes of what is served.", ("of",), **several)
        self.loads = Gauge("model_loads", "Models opened since the start.", **several)

    def observe(self, stage: str, value: float) -> None:
        """Count what the engine says: a batch's pictures or faces, or seconds of a stage."""
        if stage == "batch":
            self.batch.observe(value)
        elif stage == "faces":
            self.faces.inc(value)
        else:
            self.stage.labels(stage).observe(value)

    def text(self) -> tuple[bytes, str]:
        """All counters as Prometheus reads them, and the media type."""
        from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
        from prometheus_client.multiprocess import MultiProcessCollector

        registry = self._registry
        if self._folder is not None:
            registry = CollectorRegistry()
            MultiProcessCollector(registry, self._folder)  # type: ignore[no-untyped-call]
        return generate_latest(registry), CONTENT_TYPE_LATEST


def _forget_dead(folder: Path) -> None:
    """Take out what ended workers said of the moment; what they counted stays."""
    from prometheus_client.multiprocess import mark_process_dead

    for path in folder.glob("gauge_live*.db"):
        number = path.stem.rpartition("_")[2]
        if not number.isdecimal():
            continue
        try:
            os.kill(int(number), 0)
        except ProcessLookupError:
            with suppress(FileNotFoundError):
                mark_process_dead(int(number), str(folder))  # type: ignore[no-untyped-call]
