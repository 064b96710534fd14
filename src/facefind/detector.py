"""FaceDetector: the one place where an image becomes Faces.

Shapes: N faces or candidates of one image, H W height and width of a canvas.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from facefind import boxes as box_math
from facefind import images, protocols, weights
from facefind.errors import FacefindError, ImageError, ProtocolError, WeightsError
from facefind.faces import Faces
from facefind.landmarks import FLIP_ORDER
from facefind.mesh import Decoder
from facefind.mesh.decoding import mirrored, moved
from facefind.nms import box_voting, nms
from facefind.protocols import Scale, Short, Shrink, TestProtocol, View
from facefind.runtimes import Candidates, Card, Precision, Runtime, RuntimeName, open_model

if TYPE_CHECKING:
    from torch import nn

__all__ = ["FaceDetector", "detect"]

_BATCH_PIXELS = 16 * 640 * 640  # a batch has fewer images where these are larger
_HELD_BYTES = 128 << 20  # canvases of a list that are in memory at a time
_log = logging.getLogger(__name__)


class FaceDetector:
    """Finds the faces in images.

    >>> detector = FaceDetector()
    >>> faces = detector.detect("people.jpg")
    >>> faces.boxes, faces.scores, faces.landmarks

    One detector may be called from many threads at once.

    Args:
        model: Name of a model at hand (see `facefind.weights`), an .onnx file of ours or a
            published one, a network (run by torch), or a runtime that is already open.
        runtime: "openvino", "onnxruntime", "torch", or "auto" for the fastest one installed.
        threads: CPU threads a call uses; None takes the physical cores this process may use.
        precision: "fp32", or "bf16" where runtime and processor have it.
        provider: Device, by the runtime's own name for it; None is the CPU.
        protocol: How images are scaled and results merged, as `protocols.get` takes it; None takes
            the one on the model's card.
        min_score: Score from which a face is reported. None takes the protocol's floor where a
            protocol is asked for that has one, else the threshold on the model's card.
        batch_size: Most images that go through the model together. None is 1 on a CPU, where more
            take longer an image, and 8 elsewhere.
        mesh: Whether each face gets a mesh too, where the model gives what it takes: True for the
            decoder on its card, or a decoder or its file. WeightsError where there is none.
    """

    def __init__(
        self,
        model: str | Path | nn.Module | Runtime = "default",
        *,
        runtime: RuntimeName = "auto",
        threads: int | None = None,
        precision: Precision = "fp32",
        provider: str | None = None,
        protocol: str | int | protocols.TestProtocol | None = None,
        min_score: float | None = None,
        batch_size: int | None = None,
        mesh: bool | str | Path | Decoder = False,
    ) -> None:
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        if min_score is not None and not 0 <= min_score <= 1:
            raise ValueError(f"min_score must lie in 0..1, got {min_score}")
        asked = None if protocol is None else protocols.get(protocol)
        if isinstance(model, str | Path):
            self.runtime = open_model(weights.find(model), runtime, threads, precision, provider)
        elif callable(getattr(model, "candidates", None)):
            self.runtime = open_model(model, runtime, threads, precision, provider)  # type: ignore[arg-type]
        else:
            self.runtime = model  # type: ignore[assignment]
        on_cpu = self.runtime.provider.lower().startswith("cpu")
        self.batch_size = batch_size or (1 if on_cpu else 8)
        self.protocol = asked or protocols.get(self.card.protocol)
        floor = self.card.min_score if asked is None else asked.min_score
        self.min_score = next(
            score for score in (min_score, floor, self.card.min_score) if score is not None
        )
        self._told = False
        self._check_protocol()
        self.mesh_decoder = self._decoder(mesh, model)

    @property
    def card(self) -> Card:
        """Card of the model."""
        return self.runtime.card

    @overload
    def detect(self, image: list[Any] | tuple[Any, ...]) -> list[Faces]: ...
    @overload
    def detect(self, image: images.Source) -> Faces: ...
    def detect(self, image: Any) -> Faces | list[Faces]:
        """Return the faces of an image, or of each image of a list or tuple, in its order.

        An image is a path, bytes, file, PIL image, or an array (H, W, 3) uint8 RGB, upright. Boxes
        and points are in its pixels. Images of a list may differ in size; those of one size go
        through the model together, and no more than a few batches are in memory at a time.

        Raises:
            ImageError: An image cannot be read; for a list the message names its index.
        """
        if isinstance(image, list | tuple):
            return list(self.stream(image))
        return next(self._all_found((images.read(image),)))

    __call__ = detect

    def stream(self, source: Iterable[images.Source]) -> Iterator[Faces]:
        """Yield the faces of each image of a source of any length, a few batches at a time."""
        return self._all_found(_read(source))

    def _all_found(self, pictures: Iterable[NDArray[np.uint8]]) -> Iterator[Faces]:
        """Yield the faces of each image; no more than a few batches are in memory at a time."""
        ahead = 1 if self.batch_size == 1 else 4 * self.batch_size
        waiting: list[_Pass] = []
        found: list[tuple[list[_Found], tuple[int, int]]] = []
        held = 0
        for picture in pictures:
            parts: list[_Found] = []
            found.append((parts, (picture.shape[0], picture.shape[1])))
            full = len(found) >= ahead
            for step in self._passes(parts, picture):
                waiting.append(step)
                held += step.canvas.nbytes
                if held > _HELD_BYTES:
                    self._run(waiting)
                    held, full = 0, True
            if full:
                self._run(waiting)
                for done, image_size in found:
                    yield self._merge(done, image_size)
                held, found = 0, []
        self._run(waiting)
        for done, image_size in found:
            yield self._merge(done, image_size)

    def _run(self, waiting: list[_Pass]) -> None:
        """Note what each pass finds with its image; empties `waiting`."""
        alike: dict[tuple[int, int], list[_Pass]] = defaultdict(list)
        for step in waiting:
            alike[step.placement.canvas].append(step)
        waiting.clear()
        for (height, width), steps in alike.items():
            batch = max(1, min(self.batch_size, _BATCH_PIXELS // (height * width)))
            while steps:
                ready, steps[:batch] = steps[:batch], []
                candidates = self.runtime(images.to_nchw([step.canvas for step in ready]))
                for row, step in enumerate(ready):
                    meshes = self.mesh_decoder is not None
                    step.parts.append(
                        _survivors(candidates, row, step, self.protocol, self.min_score, meshes)
                    )

    def _passes(self, parts: list[_Found], picture: NDArray[np.uint8]) -> Iterator[_Pass]:
        """Yield the canvases on which the protocol shows one image to the model."""
        image_size = (picture.shape[0], picture.shape[1])
        fixed, multiple = self.card.fixed_size, self.card.size_multiple
        views = self.protocol.views(image_size)
        if len(views) > 1 and not self._told and any(view.window is not None for view in views):
            self._tell(image_size, views)
        for view in views:
            if view.window is None and not view.mirrored and view.shift == (0, 0):
                canvas, placement = images.letterbox(picture, view.size, fixed, multiple=multiple)
            else:
                canvas, placement = _placed(picture, view, fixed, multiple)
            yield _Pass(parts, canvas, placement, view)

    def _tell(self, image_size: tuple[int, int], views: Sequence[View]) -> None:
        """Say, once for this detector, that passes are cut into tiles, or shrunk too."""
        self._told = True
        shrunk = self.protocol.shrinks(image_size)
        _log.warning(
            "an image of %dx%d has passes of more than the %d pixels that protocol %r allows at a "
            "time: they are made in tiles that overlap (%d in all), and once more shrunk for "
            "faces too large for a tile%s (said once, other images may do the same)",
            *image_size[::-1],
            self.protocol.max_pixels,
            self.protocol.name,
            sum(view.window is not None for view in views),
            "; the largest are shrunk even so, which changes what they find" if shrunk else "",
        )

    def _merge(self, parts: Sequence[_Found], image_size: tuple[int, int]) -> Faces:
        """Return the faces that the passes over one image found together."""
        rules = self.protocol
        boxes, scores, points, meshes = _joined(parts)
        if rules.max_candidates is not None and len(scores) > rules.max_candidates:
            best = np.argsort(-scores, kind="stable")[: rules.max_candidates]
            boxes, scores, points, meshes = _taken((boxes, scores, points, meshes), best)
        if rules.voting is not None:
            voted = box_voting(
                boxes,
                scores,
                rules.voting,
                landmarks=points,
                drop_singles=rules.singles != "all",
                keep_last_single=rules.singles == "last",
                max_keep=rules.max_faces,
                plus_one=rules.plus_one,
            )
            boxes, scores, points = voted.boxes, voted.scores, voted.landmarks
            meshes = None if meshes is None else meshes[voted.indices]  # the best one's, unmixed
        else:
            kept = nms(boxes, scores, rules.nms_iou, rules.max_faces, plus_one=rules.plus_one)
            boxes, scores, points, meshes = _taken((boxes, scores, points, meshes), kept)
        if rules.rounding is not None:
            boxes = _rounded(box_math.clip(boxes, image_size), rules)
        boxes = box_math.clip(boxes, image_size)
        inside = boxes[:, 2:] > boxes[:, :2]
        if not inside.all():
            found = (boxes, scores, points, meshes)
            boxes, scores, points, meshes = _taken(found, inside.all(axis=1))
        vertices = None
        if meshes is not None and self.mesh_decoder is not None:
            vertices = self.mesh_decoder.vertices(meshes[:, :-1], meshes[:, -1] > 0)
        return Faces(boxes, scores, points, vertices, image_size=image_size)

    def _decoder(self, mesh: bool | str | Path | Decoder, model: Any) -> Decoder | None:
        """Return the decoder that was asked for, None where none was."""
        if mesh is False:
            return None
        if not self.card.mesh:
            raise WeightsError(
                f"the model {self.card.name} gives no meshes: use one that does (see `facefind "
                "models`), or leave mesh out"
            )
        if isinstance(mesh, Decoder):
            return mesh
        if mesh is not True:
            return Decoder.load(mesh)
        beside = weights.find(model).parent if isinstance(model, str | Path) else None
        return Decoder.load(weights.mesh_decoder(self.card.mesh, beside))

    def _check_protocol(self) -> None:
        """Raise ProtocolError where the model takes one size and a pass would not fit in it."""
        fixed = self.card.fixed_size
        if fixed is None:
            return
        moved = [max(along) for along in zip(*self.protocol.shifts, strict=True)]
        for item in self.protocol.sizes:
            size = item.size if isinstance(item, protocols.Pass) else item
            sides = _most(size)
            if sides is None or sides[0] + moved[0] > fixed[0] or sides[1] + moved[1] > fixed[1]:
                raise ProtocolError(
                    f"protocol {self.protocol.name!r} asks for a pass at {size or 'full size'}, "
                    f"but {self.card.name} takes only images {fixed[0]} high and {fixed[1]} wide"
                )

    def __repr__(self) -> str:
        return (
            f"FaceDetector({self.card.name!r}, runtime={self.runtime.name!r}, "
            f"provider={self.runtime.provider!r}, threads={self.runtime.threads}, "
            f"precision={self.runtime.precision!r}, protocol={self.protocol.name!r}, "
            f"min_score={self.min_score})"
        )


_Found = tuple[NDArray[Any], NDArray[Any], NDArray[Any] | None, NDArray[Any] | None]
"""Boxes (N, 4), scores (N,), points (N, 5, 2) or None, all in pixels of the image, and mesh
parameters with whether the face is mirrored (N, 145) or None."""


@dataclass(frozen=True, slots=True)
class _Pass:
    """One canvas for the model: where its faces go, what it shows, and where that lies."""

    parts: list[_Found]
    canvas: NDArray[np.uint8]
    placement: images.Placement
    view: View


def _placed(
    picture: NDArray[np.uint8], view: View, fixed: tuple[int, int] | None, multiple: int
) -> tuple[NDArray[np.uint8], images.Placement]:
    """Return the canvas of a view that is mirrored, moved or a part, and where it lies."""
    part = picture if view.window is None else view.window.cut(picture)
    shown = images.resize(part, view.size)
    if view.mirrored:
        shown = shown[:, ::-1]
    down, right = view.shift
    if down or right:
        shown = np.pad(shown, ((down, 0), (right, 0), (0, 0)), constant_values=127)
    canvas, _ = images.letterbox(shown, canvas=fixed, multiple=multiple)
    scale_y, scale_x = view.size[0] / part.shape[0], view.size[1] / part.shape[1]
    x1, y1 = (0, 0) if view.window is None else view.window[:2]
    return canvas, images.Placement(
        scale_x,
        scale_y,
        (picture.shape[0], picture.shape[1]),
        (canvas.shape[0], canvas.shape[1]),
        x1 - right / scale_x,
        y1 - down / scale_y,
    )


def _survivors(
    candidates: Candidates,
    row: int,
    step: _Pass,
    rules: TestProtocol,
    min_score: float,
    with_meshes: bool = False,
) -> _Found:
    """Return what one pass found from a score on; everything below is never touched."""
    view = step.view
    scores = candidates.scores[row]
    kept = np.flatnonzero(scores >= min_score)
    if rules.pass_candidates is not None and len(kept) > rules.pass_candidates:
        kept = kept[np.argsort(-scores[kept], kind="stable")[: rules.pass_candidates]]
    scores = scores[kept]
    boxes = step.placement.boxes(candidates.boxes[row][kept])
    points = None
    if candidates.landmarks is not None:
        points = step.placement.points(candidates.landmarks[row][kept])
    meshes = None
    if with_meshes and candidates.mesh is not None:
        meshes = moved(candidates.mesh[row][kept], step.placement.points, step.placement.scale_x)
        meshes = np.pad(meshes, ((0, 0), (0, 1)))
    if view.mirrored:
        window = view.window
        across = step.placement.image_size[1] if window is None else window.x1 + window.x2
        boxes[:, [0, 2]] = across - boxes[:, [2, 0]]
        if points is not None:
            points = points[:, FLIP_ORDER]
            points[..., 0] = across - points[..., 0]
        if meshes is not None:
            meshes = np.hstack([mirrored(meshes[:, :-1], across), meshes[:, -1:] + 1])
    found: _Found = (boxes, scores, points, meshes)
    if rules.pass_nms_iou is not None:
        found = _taken(found, nms(boxes, scores, rules.pass_nms_iou))
    if view.over is not None or view.under is not None or view.whole is not None:
        found = _taken(found, _allowed(found[0], step.placement.image_size, view, rules.plus_one))
    return found


def _allowed(
    boxes: NDArray[Any], image_size: tuple[int, int], view: View, plus_one: bool
) -> NDArray[np.bool_]:
    """Which boxes (N, 4) are of a size, and where they are, that a view is asked for."""
    sides = boxes[:, 2:] - boxes[:, :2]
    ok = np.ones(len(boxes), np.bool_)
    if view.over is not None:
        ok &= sides.max(axis=1) + plus_one > view.over
    if view.under is not None:
        ok &= sides.min(axis=1) + plus_one < view.under
    if view.whole is not None and view.window is not None:
        x1, y1, x2, y2 = view.window
        centers = (boxes[:, 2:] + boxes[:, :2]) / 2
        inner = [
            (x1 > 0, centers[:, 0] - x1),
            (y1 > 0, centers[:, 1] - y1),
            (x2 < image_size[1], x2 - centers[:, 0]),
            (y2 < image_size[0], y2 - centers[:, 1]),
        ]
        ok &= sides.max(axis=1) <= view.whole
        for is_cut, far in inner:
            if is_cut:
                ok &= far >= view.whole / 2
    return ok


def _taken(found: _Found, which: Any) -> _Found:
    """Return the chosen ones, by index or mask."""
    boxes, scores, *others = found
    points, meshes = (None if other is None else other[which] for other in others)
    return boxes[which], scores[which], points, meshes


def _rounded(boxes: NDArray[Any], rules: TestProtocol) -> NDArray[Any]:
    """Return boxes (N, 4) in whole pixels, as the protocol's `rounding` says."""
    out: NDArray[Any]
    if rules.rounding == "corners":
        out = np.trunc(boxes)
        return out
    low, sides = boxes[:, :2], boxes[:, 2:] - boxes[:, :2]
    if rules.rounding == "sides":
        low, sides = np.trunc(low), np.trunc(sides)
    else:
        low, sides = np.floor(low), np.ceil(sides + rules.plus_one)
    out = np.concatenate([low, low + sides], axis=1)
    return out


def _most(size: protocols.Size | Shrink) -> tuple[int, int] | None:
    """The largest (height, width) of a pass over any image; None where there is no limit."""
    if isinstance(size, Short):
        return None if size.longest is None else (size.longest, size.longest)
    if isinstance(size, Scale | Shrink) or size is None:
        return None
    return (size, size) if isinstance(size, int) else size


def _joined(parts: Sequence[_Found]) -> _Found:
    if len(parts) == 1:
        return parts[0]
    points = [part[2] for part in parts if part[2] is not None]
    meshes = [part[3] for part in parts if part[3] is not None]
    return (
        np.concatenate([part[0] for part in parts]),
        np.concatenate([part[1] for part in parts]),
        np.concatenate(points) if points else None,
        np.concatenate(meshes) if meshes else None,
    )


def _read(sources: Iterable[images.Source]) -> Iterator[NDArray[np.uint8]]:
    """Yield the images of a list as they are asked for; an error names the image's index."""
    for index, source in enumerate(sources):
        try:
            picture = images.read(source)
        except FacefindError as error:
            raise ImageError(f"image {index} of the list: {error}") from error
        yield picture


@lru_cache(maxsize=1)
def _default() -> FaceDetector:
    return FaceDetector()


@overload
def detect(image: list[Any] | tuple[Any, ...], **options: Any) -> list[Faces]: ...
@overload
def detect(image: images.Source, **options: Any) -> Faces: ...
def detect(image: Any, **options: Any) -> Faces | list[Faces]:
    """Return the faces of an image, or of each image of a list, found by the default model.

    The detector is made once and kept. With options, which are those of `FaceDetector`, one is
    made for this call alone: where there are many calls, make a detector and keep it.
    """
    detector = FaceDetector(**options) if options else _default()
    faces: Faces | list[Faces] = detector.detect(image)
    return faces
