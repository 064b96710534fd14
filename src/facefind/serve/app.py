"""The routes of the service, over one engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from facefind import __version__
from facefind.serve import openapi
from facefind.serve.errors import RequestError
from facefind.serve.guard import Guard, broken, refusal
from facefind.serve.options import AlignOptions, DetectOptions, RedactOptions
from facefind.serve.service import Service
from facefind.serve.settings import Settings
from facefind.serve.static import Page

__all__ = ["make_app"]


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
    app.add_exception_handler(RequestError, lambda request, error: refusal(request, error))
    app.add_exception_handler(Exception, broken)
    app.add_exception_handler(HTTPException, _http_error)
    guarded: ASGIApp = Guard(app, service.metrics, settings.token)
    if settings.cors_origins:  # outside: refusals and preflights need its headers, too
        guarded = CORSMiddleware(
            guarded,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", "X-Request-ID"],
            expose_headers=["X-Request-ID", "X-Faces", "X-Lowest-Score", "Retry-After"],
        )
    return guarded


def _add_routes(app: FastAPI, service: Service) -> None:
    page = Page()

    @app.post("/v1/detect", **openapi.DETECT)
    async def detect(request: Request) -> Response:
        return await service.detect(request, DetectOptions.of(request.query_params))

    @app.post("/v1/redact", **openapi.REDACT)
    async def redact(request: Request) -> Response:
        return await service.redact(request, RedactOptions.of(request.query_params))

    @app.post("/v1/align", **openapi.ALIGN)
    async def align(request: Request) -> Response:
        return await service.align(request, AlignOptions.of(request.query_params))

    @app.get("/v1/models", **openapi.MODELS)
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


def _http_error(request: Request, error: Any) -> Response:
    """Addresses and methods that are not served."""
    codes = {404: "not-found", 405: "method-not-allowed"}
    message = {
        404: f"there is nothing at {request.url.path[:100]!r}: see /openapi.json",
        405: f"{request.method[:16]} is not served at {request.url.path[:100]!r}: see "
        "/openapi.json",
    }.get(error.status_code, str(error.detail))
    code = codes.get(error.status_code, "bad-request")
    return refusal(request, RequestError(error.status_code, code, message, error.headers))
