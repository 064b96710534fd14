"""The routes of the service, over one engine."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import FastAPI, Query
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from facefind import __version__
from facefind.faces import Faces
from facefind.pipeline import failure_record, to_record
from facefind.runtimes.cpu import usable_cores
from facefind.serve.answers import MEDIA, accepted, encode
from facefind.serve.engine import Engine, Part
from facefind.serve.errors import RequestError
from facefind.serve.guard import Guard, refusal
from facefind.serve.metrics import Metrics
from facefind.serve.models import Choice, Models
from facefind.serve.options import DetectOptions
from facefind.serve.requests import Outcome, run
from facefind.serve.settings import Settings
from facefind.serve.static import Page
from facefind.streaming import Image

__all__ = ["SCHEMA", "make_app"]

SCHEMA = 1
"""Version of what requests are answered with."""


class Service:
    """What the routes work with."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.models = Models(settings)
        self.metrics = Metrics(settings.metrics_folder)
        self.engine = Engine(self.models, settings, decoders=max(2, usable_cores()))
        self.engine.observe = self.metrics.observe
        self.ready = False

    async def detect(self, request: Request, options: DetectOptions) -> Response:
        """JSON of each picture's faces, or the picture with its faces drawn."""
        media = accepted(request.headers.get("accept", ""), ("application/json", *MEDIA))
        choice = self.models.choose(
            options.model, options.protocol, options.score, options.max_faces, options.mesh
        )
        if media != "application/json":
            triangles = self._triangles(choice)

            def annotate(part: Part, image: Image, faces: Faces) -> bytes:
                drawn = faces.draw(
                    image, labels=options.labels, landmarks=options.landmarks, triangles=triangles()
                )
                return encode(drawn, media)

            return await self._picture(request, choice, annotate, media)

        def line(part: Part, image: Image, faces: Faces) -> str:
            self.metrics.faces.inc(len(faces))
            return json.dumps(to_record(part.name, faces))

        outcomes = await run(self.engine, request, choice, line)
        return self._lines(request, choice, outcomes)

    def _triangles(self, choice: Choice) -> Any:
        def triangles() -> Any:
            decoder = self.models.detector(choice).mesh_decoder
            return None if decoder is None else decoder.mean.triangles

        return triangles

    async def _picture(
        self, request: Request, choice: Choice, finish: Any, media: str | None
    ) -> Response:
        """The picture that `finish` makes of the only one of a request."""
        ((_, made),) = await run(self.engine, request, choice, finish, single="the answer")
        self._count([("", made)])
        if isinstance(made, Exception):
            raise _refused(made)
        data, kind = made if media is None else (made, media)
        return Response(data, media_type=kind)

    def _lines(self, request: Request, choice: Choice, outcomes: list[Outcome]) -> Response:
        """The lines of all pictures, those that failed among them; an error where all did."""
        self._count(outcomes)
        lines = [
            json.dumps(failure_record(name, made)) if isinstance(made, Exception) else made
            for name, made in outcomes
        ]
        head = {"version": SCHEMA, "model": choice.model, "protocol": choice.protocol}
        failed = [made for _, made in outcomes if isinstance(made, Exception)]
        if len(failed) == len(outcomes):
            images = [json.loads(line) for line in lines]
            return refusal(request, _refused(failed[0]), **head, images=images)
        text = json.dumps(head)[:-1] + ', "images": [' + ", ".join(lines) + "]}"
        return Response(text, media_type="application/json")

    def _count(self, outcomes: list[Outcome]) -> None:
        failed = sum(isinstance(made, Exception) for _, made in outcomes)
        self.metrics.pictures.labels("failed").inc(failed)
        self.metrics.pictures.labels("done").inc(len(outcomes) - failed)

    def gauge(self) -> None:
        """Note what is held at the moment."""
        engine, metrics = self.engine, self.metrics
        metrics.queue.set(engine.pictures)
        metrics.memory.labels("bodies").set(engine.bodies.held)
        metrics.memory.labels("pictures").set(engine.decoded.held)
        metrics.loads.set(self.models.loads)


def _refused(error: Exception) -> RequestError:
    """What a request is refused with whose only picture failed."""
    if isinstance(error, RequestError):
        return error
    return RequestError(422, "unreadable-picture", " ".join(str(error).split()))


def make_app(settings: Settings) -> ASGIApp:
    """The ASGI application of a service.

    Raises:
        FacefindError: a model or protocol is not there, or a setting out of its range.
    """
    service = Service(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(service.engine.warm)
        service.ready = True
        gauging = asyncio.create_task(_every_second(service.gauge))
        yield
        service.ready = False
        gauging.cancel()
        await asyncio.to_thread(service.engine.close)

    app = FastAPI(
        title="facefind", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None
    )
    app.state.service = service
    _add_routes(app, service)
    app.add_exception_handler(RequestError, lambda request, error: refusal(request, error))  # type: ignore[arg-type]
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http_error)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", "X-Request-ID"],
            expose_headers=["X-Request-ID", "Retry-After"],
        )
    guarded = Guard(app, service.metrics, settings.token)
    return guarded


def _add_routes(app: FastAPI, service: Service) -> None:
    page = Page()

    @app.post("/v1/detect")
    async def detect(request: Request, options: Annotated[DetectOptions, Query()]) -> Response:
        return await service.detect(request, options)

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"default": service.models.default, "models": service.models.listed()}

    @app.get("/healthz", include_in_schema=False)
    async def healthz() -> dict[str, str]:
        return {"status": "alive"}

    @app.get("/readyz", include_in_schema=False)
    async def readyz() -> Response:
        if not service.ready:
            raise RequestError(503, "not-ready", "the model is being opened", {"Retry-After": "1"})
        return Response('{"status": "ready"}', media_type="application/json")

    @app.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        service.gauge()
        text, kind = await asyncio.to_thread(service.metrics.text)
        return Response(text, headers={"Content-Type": kind})

    @app.get("/", include_in_schema=False)
    async def index(request: Request) -> Response:
        return page.answer("index.html", request)

    @app.get("/static/{name:path}", include_in_schema=False)
    async def static(name: str, request: Request) -> Response:
        return page.answer(name, request)


async def _every_second(call: Any) -> None:
    while True:
        call()
        await asyncio.sleep(1)


def _invalid(request: Request, error: Any) -> Response:
    """Options that are not as they should be."""
    found = []
    for one in error.errors():
        name = ".".join(str(part) for part in one["loc"][1:]) or "options"
        given = "" if one["type"] == "missing" else f"={str(one.get('input'))[:100]!r}"
        found.append(f"{name}{given}: {one['msg']}")
    return refusal(request, RequestError(422, "bad-option", "; ".join(found)))


def _http_error(request: Request, error: Any) -> Response:
    """Addresses and methods that are not served."""
    codes = {404: "not-found", 405: "method-not-allowed"}
    message = {
        404: f"there is nothing at {request.url.path[:100]!r}: see /openapi.json",
        405: f"{request.method[:16]} is not served at {request.url.path[:100]!r}: see /openapi.json",
    }.get(error.status_code, str(error.detail))
    code = codes.get(error.status_code, "bad-request")
    return refusal(request, RequestError(error.status_code, code, message, error.headers))
