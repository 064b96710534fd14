"""What the routes do: detection, redaction and alignment, each from request to answer."""

from __future__ import annotations

import base64
import json

from starlette.requests import Request
from starlette.responses import Response

from facefind import redaction
from facefind.errors import DataError
from facefind.faces import Faces
from facefind.pipeline import aligned_crops, failure_record, redact_bytes, to_record
from facefind.runtimes.cpu import usable_cores
from facefind.serve.answers import MEDIA, accepted, encode
from facefind.serve.engine import Engine, Finish, Part
from facefind.serve.errors import RequestError
from facefind.serve.guard import refusal
from facefind.serve.metrics import Metrics
from facefind.serve.models import Choice, Models
from facefind.serve.options import AlignOptions, DetectOptions, RedactOptions
from facefind.serve.outcomes import Outcome, run
from facefind.serve.settings import Settings
from facefind.streaming import Image

__all__ = ["SCHEMA", "Service"]

SCHEMA = 1
"""Version of what requests are answered with."""

_JSON = "application/json"
_CROP_PIXELS = 8_000_000  # of a picture's crops together: they take longer than its faces
_OWN = "image/*"  # the format in which a picture came


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
        media = accepted(request.headers.get("accept", ""), (_JSON, *MEDIA))
        choice = self.models.choose(
            options.model, options.protocol, options.score, options.max_faces, options.mesh
        )
        if media != _JSON:

            def annotate(part: Part, image: Image, faces: Faces) -> Response:
                decoder = self.models.detector(choice).mesh_decoder
                drawn = faces.draw(
                    image,
                    labels=options.labels,
                    landmarks=options.landmarks,
                    triangles=None if decoder is None else decoder.mean.triangles,
                )
                return _picture(encode(drawn, media), media, faces)

            return await self._single(request, choice, annotate)

        def line(part: Part, image: Image, faces: Faces) -> str:
            return json.dumps(to_record(part.name, faces))

        return self._lines(request, choice, await run(self.engine, request, choice, line))

    async def redact(self, request: Request, options: RedactOptions) -> Response:
        """The picture with its faces hidden, in its own format where nothing else is accepted."""
        media = accepted(request.headers.get("accept", ""), (_OWN, *MEDIA))
        try:
            wanted = redaction.RedactOptions(
                method=options.method,
                shape=options.shape,
                grow=options.grow,
                color=tuple(map(int, options.color.split(","))),  # type: ignore[arg-type]
                careful=options.careful,
            )
        except DataError as error:
            raise RequestError(422, "bad-option", str(error)) from None
        how = wanted.redaction()
        protocol, score = wanted.finding(options.protocol, options.score)
        choice = self.models.choose(options.model, protocol, score, options.max_faces)

        def hide(part: Part, image: Image, faces: Faces) -> Response:
            data, form = redact_bytes(
                part.data, faces, how, MEDIA.get(media), max_pixels=self.settings.max_pixels
            )
            return _picture(data, f"image/{form.lower()}", faces)

        return await self._single(request, choice, hide)

    async def align(self, request: Request, options: AlignOptions) -> Response:
        """JSON of each picture's aligned crops, as base64."""
        accepted(request.headers.get("accept", ""), (_JSON,))
        choice = self.models.choose(
            options.model, options.protocol, options.score, options.max_faces, landmarks=True
        )
        media = "image/png" if options.format == "png" else "image/jpeg"
        largest = options.faces == "largest"

        def cut(part: Part, image: Image, faces: Faces) -> str:
            if not largest and len(faces) * options.size**2 > _CROP_PIXELS:
                raise RequestError(
                    413,
                    "too-many-crops",
                    f"{len(faces)} crops of {options.size} x {options.size} pixels have more than "
                    f"{_CROP_PIXELS}: give a smaller size, max_faces or faces=largest",
                )
            found = aligned_crops(
                image, faces, size=options.size, largest=largest, min_size=options.min_size
            )
            crops = [
                record | {"media": media, "data": base64.b64encode(encode(crop, media)).decode()}
                for record, crop in found
            ]
            height, width = faces.image_size
            line = {"image": part.name, "width": width, "height": height, "crops": crops}
            return json.dumps(line)

        return self._lines(request, choice, await run(self.engine, request, choice, cut))

    async def _single(self, request: Request, choice: Choice, finish: Finish) -> Response:
        """The answer that `finish` makes of the only picture of a request."""
        ((_, made),) = outcomes = await run(
            self.engine, request, choice, finish, single="the answer"
        )
        self._count(outcomes)
        if isinstance(made, Exception):
            raise _refused(made)
        answer: Response = made
        return answer

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
        return Response(text, media_type=_JSON)

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


def _picture(data: bytes, media: str, faces: Faces) -> Response:
    """A picture, with the number of its faces and the lowest score beside it."""
    headers = {"X-Faces": str(len(faces)), "Cache-Control": "no-store"}
    if len(faces):
        headers["X-Lowest-Score"] = f"{faces.scores[-1]:.4f}"
    return Response(data, media_type=media, headers=headers)


def _refused(error: Exception) -> RequestError:
    """What a request is refused with whose only picture failed."""
    if isinstance(error, RequestError):
        return error
    return RequestError(422, "unreadable-picture", " ".join(str(error).split()))
