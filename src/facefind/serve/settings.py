"""What a service is made with: its models and its limits."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from facefind.errors import DataError
from facefind.images import Truncated
from facefind.redaction import CAREFUL
from facefind.runtimes import PrecisionName, RuntimeName
from facefind.runtimes.cpu import usable_cores

__all__ = ["PROTOCOLS", "Settings"]

PROTOCOLS = ("everyday", "vga", "full", CAREFUL.protocol)
"""Test protocols that requests may name, besides the one on a model's card: each has a few passes,
none of more pixels than the picture or 1280 x 1280."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Models and limits of one worker, or of a service before `share`.

    Raises:
        DataError: a number is out of its range.
    """

    models: tuple[str, ...] = ()
    """Names of models at hand, or .onnx files; the first is the default. None are all at hand."""
    protocols: tuple[str, ...] = PROTOCOLS
    """Test protocols that requests may name, besides the default one."""
    protocol: str | None = None
    """The default protocol; None is the one on each model's card."""
    min_score: float | None = None
    """The default threshold; None is the one on each model's card."""
    runtime: RuntimeName = "auto"
    provider: str | None = None
    device_id: int | None = None
    precision: PrecisionName = "auto"
    threads: int | None = None
    """CPU threads of a worker; None takes the physical cores."""
    batch_size: int | None = None
    """Pictures that go through a model together, as of `FaceDetector`."""
    truncated: Truncated = "error"
    loaded: int = 3
    """Models in memory at a time; the one that was used longest ago gives way."""

    max_bytes: int = 20 << 20
    """Largest body of a request."""
    max_pixels: int = 50_000_000
    """Largest picture."""
    max_pictures: int = 32
    """Most pictures of a request."""
    max_queue: int = 64
    """Most pictures that are read, wait or run; a request beyond them is refused."""
    max_memory: int = 512 << 20
    """Most bytes of bodies, and as many of decoded pictures, that are in memory; one picture that
    is larger is decoded alone."""
    max_wait: float = 0.005
    """Seconds that a picture waits for others to go through a model together."""
    timeout: float = 30.0
    """Seconds until the answer, from the end of the body on."""
    body_timeout: float = 20.0
    """Seconds in which a body must have come."""
    header_timeout: float = 5.0
    """Seconds in which a request's headers must have come, and an answer must begin to be read."""
    max_connections: int = 1000
    """Most connections of clients."""
    drain: int = 30
    """Seconds that requests may still take once the service is to end."""

    token: str | None = None
    """What requests must send as `Authorization: Bearer`; None lets everybody in."""
    cors_origins: tuple[str, ...] = ()
    """Origins whose pages may send requests."""
    metrics_folder: str | None = None
    """Where the workers of a service add up their metrics; None is one worker alone."""

    def __post_init__(self) -> None:
        least = {
            **dict.fromkeys(("loaded", "max_bytes", "max_pixels", "max_pictures", "max_queue"), 1),
            **dict.fromkeys(("max_memory", "max_connections", "drain"), 1),
            **dict.fromkeys(("threads", "batch_size"), 1),
            "max_wait": 0,
        }
        for name, low in least.items():
            value = getattr(self, name)
            if value is not None and value < low:
                raise DataError(f"--{name.replace('_', '-')} {value}: expected at least {low}")
        for name in ("timeout", "body_timeout", "header_timeout"):
            if getattr(self, name) <= 0:
                value = getattr(self, name)
                raise DataError(f"--{name.replace('_', '-')} {value}: expected seconds above 0")
        if self.max_pictures > self.max_queue:
            raise DataError(
                f"--max-pictures {self.max_pictures} of a request never fit into --max-queue "
                f"{self.max_queue}: make the queue as long, or longer"
            )

    def share(self, workers: int) -> Settings:
        """What one of so many workers of a machine gets: equal parts of threads and limits."""
        if workers == 1:
            return self
        queue = max(1, self.max_queue // workers)
        return replace(
            self,
            threads=max(1, (self.threads or usable_cores()) // workers),
            max_queue=queue,
            max_pictures=min(self.max_pictures, queue),
            max_connections=max(1, self.max_connections // workers),
            max_memory=max(1, self.max_memory // workers),
        )

    def running(self) -> dict[str, Any]:
        """What runs a model, by the names that `FaceDetector` has for it."""
        names = (
            *("runtime", "provider", "device_id", "precision", "threads", "batch_size"),
            *("max_pixels", "truncated"),
        )
        return {name: getattr(self, name) for name in names}
