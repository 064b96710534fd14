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
from facefind.errors import FacefindError, ImageError, ProtocolError
from facefind.faces import Faces
from facefind.landmarks import FLIP_ORDER
from facefind.nms import box_voting, nms
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
        self._check_protocol()

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
        picture = images.read(image)
        return self._found(list(self._passes(0, picture)), [picture.shape[:2]])[0]

    __call__ = detect

    def stream(self, source: Iterable[images.Source]) -> Iterator[Faces]:
        """Yield the faces of each image of a source of any length, a few batches at a time."""
        ahead = 1 if self.batch_size == 1 else 4 * self.batch_size
        passes: list[_Pass] = []
        sizes: list[tuple[int, ...]] = []
        for picture in _read(source):
            passes.extend(self._passes(len(sizes), picture))
            sizes.append(picture.shape[:2])
            if len(sizes) == ahead or sum(step.canvas.size for step in passes) > _HELD_BYTES:
                yield from self._found(passes, sizes)
                passes, sizes = [], []
        if sizes:
            yield from self._found(passes, sizes)

    def _found(self, passes: list[_Pass], sizes: Sequence[tuple[int, ...]]) -> list[Faces]:
        """Return the faces of a few images from all passes over them; empties `passes`."""
        waiting: dict[tuple[int, int], list[_Pass]] = defaultdict(list)
        for step in passes:
            waiting[step.placement.canvas].append(step)
        passes.clear()
        found: list[list[_Found]] = [[] for _ in sizes]
        for (height, width), steps in waiting.items():
            batch = max(1, min(self.batch_size, _BATCH_PIXELS // (height * width)))
            while steps:
                ready, steps[:batch] = steps[:batch], []
                candidates = self.runtime(images.to_planes([step.canvas for step in ready]))
                for row, step in enumerate(ready):
                    found[step.index].append(_survivors(candidates, row, step, self.min_score))
        return [
            self._merge(parts, (height, width))
            for parts, (height, width) in zip(found, sizes, strict=True)
        ]

    def _passes(self, index: int, picture: NDArray[np.uint8]) -> Iterator[_Pass]:
        """Yield the canvases on which the protocol shows one image to the model."""
        image_size = (picture.shape[0], picture.shape[1])
        views = [(picture, False)]
        if self.protocol.flip:
            views.append((np.ascontiguousarray(picture[:, ::-1]), True))
        for size in self.protocol.sizes:
            target = self.protocol.target(image_size, size)
            wanted = images.fit(image_size, size)
            if target != wanted:
                _log.warning(
                    "an image is shown at %dx%d, not %dx%d: the most that protocol %r allows",
                    *target[::-1],
                    *wanted[::-1],
                    self.protocol.name,
                )
            for view, mirrored in views:
                canvas, placement = images.letterbox(
                    view, target, self.card.fixed_size, multiple=self.card.size_multiple
                )
                yield _Pass(index, canvas, placement, mirrored)

    def _merge(self, parts: Sequence[_Found], image_size: tuple[int, int]) -> Faces:
        """Return the faces that the passes over one image found together."""
        rules = self.protocol
        boxes, scores, points = _joined(parts)
        if len(scores) > rules.max_candidates:
            best = np.argsort(-scores, kind="stable")[: rules.max_candidates]
            boxes, scores = boxes[best], scores[best]
            points = None if points is None else points[best]
        if rules.voting is not None:
            voted = box_voting(
                boxes, scores, rules.voting, landmarks=points, max_keep=rules.max_faces
            )
            boxes, scores, points = voted.boxes, voted.scores, voted.landmarks
        else:
            kept = nms(boxes, scores, rules.nms_iou, rules.max_faces)
            boxes, scores = boxes[kept], scores[kept]
            points = None if points is None else points[kept]
        boxes = box_math.clip(boxes, image_size)
        inside = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
        if not inside.all():
            boxes, scores = boxes[inside], scores[inside]
            points = None if points is None else points[inside]
        return Faces(boxes, scores, points, image_size=image_size)

    def _check_protocol(self) -> None:
        """Raise ProtocolError where the model takes one size and a pass would not fit in it."""
        fixed = self.card.fixed_size
        if fixed is None:
            return
        for size in self.protocol.sizes:
            sides = (size, size) if isinstance(size, int) else size
            if sides is None or sides[0] > fixed[0] or sides[1] > fixed[1]:
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


@dataclass(frozen=True, slots=True)
class _Pass:
    """One canvas for the model: which image it shows, where, and whether mirrored."""

    index: int
    canvas: NDArray[np.uint8]
    placement: images.Placement
    mirrored: bool


_Found = tuple[NDArray[Any], NDArray[Any], NDArray[Any] | None]
"""Boxes (N, 4), scores (N,) and points (N, 5, 2) or None, in pixels of the image."""


def _survivors(candidates: Candidates, row: int, step: _Pass, min_score: float) -> _Found:
    """Return what one pass found from a score on; everything below is never touched."""
    kept = np.flatnonzero(candidates.scores[row] >= min_score)
    boxes = step.placement.boxes(candidates.boxes[row][kept])
    points = None
    if candidates.landmarks is not None:
        points = step.placement.points(candidates.landmarks[row][kept])
    if step.mirrored:
        width = step.placement.image_size[1]
        boxes[:, [0, 2]] = width - boxes[:, [2, 0]]
        if points is not None:
            points = points[:, FLIP_ORDER]
            points[..., 0] = width - points[..., 0]
    return boxes, candidates.scores[row][kept], points


def _joined(parts: Sequence[_Found]) -> _Found:
    if len(parts) == 1:
        return parts[0]
    points = [part[2] for part in parts if part[2] is not None]
    return (
        np.concatenate([part[0] for part in parts]),
        np.concatenate([part[1] for part in parts]),
        np.concatenate(points) if points else None,
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
