"""A detector on a Ray cluster: replicas that grow with the load, pictures run together.

    serve run deploy.ray_serve:app          # from the root of the project, or a copy of this file
    curl --data-binary @people.jpg localhost:8000

The answer is a line of `facefind detect --out`. The package is ray[serve].
"""

from __future__ import annotations

import asyncio
from typing import Any

from ray import serve
from starlette.requests import Request
from starlette.responses import JSONResponse

from facefind import FaceDetector, pipeline

CPUS = 2
"""Cores of a replica."""


@serve.deployment(
    ray_actor_options={"num_cpus": CPUS},
    autoscaling_config={"min_replicas": 1, "max_replicas": 8, "target_ongoing_requests": 8},
    max_ongoing_requests=32,
    max_queued_requests=64,
)
class Faces:
    """One detector a replica. What is beyond `max_queued_requests` is refused with 503."""

    def __init__(self) -> None:
        self.detector = FaceDetector(threads=CPUS, max_pixels=50_000_000)

    @serve.batch(max_batch_size=8, batch_wait_timeout_s=0.005)
    async def found(self, pictures: list[bytes]) -> list[dict[str, Any]]:
        """The line of each picture, or why there is none."""
        results = await asyncio.to_thread(
            lambda: list(self.detector.stream(pictures, on_error="yield"))
        )
        return [
            pipeline.failure_record("image", result.error)
            if result.error is not None
            else pipeline.to_record("image", result.faces)
            for result in results
        ]

    async def __call__(self, request: Request) -> JSONResponse:
        """The answer to a picture."""
        line = await self.found(await request.body())
        return JSONResponse(line, 422 if "error" in line else 200)


app = Faces.bind()
