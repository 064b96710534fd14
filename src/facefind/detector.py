"""FaceDetector: the one place where an image becomes Faces.

Shapes: N faces or candidates of one image, H W height and width of a canvas.
"""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, overload

import numpy as np

from facefind import forking, protocols, weights
from facefind.errors import check_whole
from facefind.faces import Faces
from facefind.images import MAX_PIXELS, Placement, Source, Truncated, to_nchw
from facefind.images import read as read_image
from facefind.merging import Detections, check_protocol, check_tiled, merge, survivors
from facefind.mesh import Decoder
from facefind.protocols import View
from facefind.runtimes import Card, Precision, PrecisionName, Runtime, RuntimeName, open_model
from facefind.streaming import (
    DetectionResult,
    Image,
    OnError,
    checked,
    detect_stream,
    is_one,
    weigh,
)

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Color", "DetectionResult", "FaceDetector", "detect"]

Color = Literal["rgb", "bgr"]

_BATCH_PIXELS = 16 * 640 * 640  # a batch has fewer images where these are larger
_CANVAS_BYTES = 128 << 20  # canvases that are in memory at a time
_log = logging.getLogger(__name__)
_DEFAULT = forking.guard()


class FaceDetector:
    """Finds the faces in images.

    >>> detector = FaceDetector()
    >>> faces = detector.detect("people.jpg")
    >>> faces.boxes, faces.scores, faces.landmarks

    ARRAYS ARE RGB unless `color="bgr"`: what OpenCV reads (`cv2.imread`, `cv2.VideoCapture`) is
    BGR, and in the wrong order faces are missed. Files, bytes and PIL images are always right.

    One detector may be called from many threads at once.

    Args:
        model: Name of a model at hand (see `facefind.weights`), an .onnx file of ours or a
            published one, a network (run by torch), or a runtime that is already open.
        runtime: "openvino", "onnxruntime", "torch", or "auto" for the fastest one installed.
        threads: CPU threads a call uses; None takes the physical cores this process may use.
        precision: "fp32", "bf16" where runtime and processor have it, "int8" by the quantized file
            `NAME-int8` of NAME, or "auto" (see `weights.choose`): the fastest here that loses next
            to nothing; `runtime.precision` says which.
        provider: Kind of device, by the runtime's own name for it. None is the CPU; with runtime
            "auto", a GPU where onnxruntime has CUDA.
        device_id: Which of the provider's devices, from 0; None is the first.
        engine_cache: A folder for what a provider compiles, such as TensorRT's engine. None keeps
            what OpenVINO compiles of int8 files in the user's cache folder, and nothing else.
        memory_limit: Bytes of a GPU that onnxruntime takes at most.
        protocol: The test protocol, how images are scaled and results merged, as `protocols.get`
            takes it; None takes the one on the model's card.
        min_score: Score from which a face is reported. None takes the floor of a `protocol` given
            here that has one, else the threshold on the model's card.
        max_faces: Only the best so many faces of an image are reported; None reports all.
        batch_size: Most images that go through the model together. None: 1 on a CPU, 8 elsewhere.
        mesh: Whether each face gets a mesh too, where the model gives what it takes: True for the
            decoder on its card, or a decoder or its file. WeightsError where there is none.
        color: Order of the channels of arrays, "rgb" or OpenCV's "bgr". Nothing else depends on
            it: images that come back are RGB.
        max_pixels: Files of larger images are refused, as by `images.read`.
        truncated: What becomes of JPEG files that lack their end: "error", or "fill" for gray in
            place of what is missing.

    Raises:
        WeightsError: The model, its int8 file or its mesh decoder is missing or damaged.
        RuntimeUnavailableError: The runtime, provider or precision is not available here.
        ProtocolError: There is no such test protocol, or the model's file cannot be run under it.
        TypeError, ValueError: An option is of the wrong type, or out of range.
    """

    def __init__(
        self,
        model: str | Path | nn.Module | Runtime = "default",
        *,
        runtime: RuntimeName = "auto",
        threads: int | None = None,
        precision: PrecisionName = "auto",
        provider: str | None = None,
        device_id: int | None = None,
        engine_cache: str | Path | None = None,
        memory_limit: int | None = None,
        protocol: str | int | protocols.TestProtocol | None = None,
        min_score: float | None = None,
        max_faces: int | None = None,
        batch_size: int | None = None,
        mesh: bool | str | Path | Decoder = False,
        color: Color = "rgb",
        max_pixels: int = MAX_PIXELS,
        truncated: Truncated = "error",
    ) -> None:
        check_whole(1, batch_size=batch_size, max_faces=max_faces, max_pixels=max_pixels)
        if min_score is not None and not 0 <= min_score <= 1:
            raise ValueError(f"min_score must lie in 0..1, got {min_score}")
        if color not in get_args(Color):
            raise ValueError(f"color must be 'rgb' or 'bgr', got {color!r}")
        if truncated not in get_args(Truncated):
            raise ValueError(f"truncated must be 'error' or 'fill', got {truncated!r}")
        named = None if protocol is None else protocols.get(protocol)
        if isinstance(model, str | Path) or callable(getattr(model, "candidates", None)):
            exact: Precision = "fp32" if precision == "auto" else precision
            if isinstance(model, str | Path):
                model, exact = weights.choose(model, precision, runtime, provider)
            self.runtime = open_model(
                model,  # type: ignore[arg-type]
                runtime,
                threads,
                exact,
                provider,
                device_id=device_id,
                engine_cache=engine_cache,
                memory_limit=memory_limit,
            )
        elif callable(model) and hasattr(model, "card"):
            self.runtime = model
        else:
            raise TypeError(
                "model must be a name, the path of an .onnx file, a network of facefind or an open "
                f"model, got {type(model).__name__}"
            )
        on_cpu = self.runtime.provider.lower().startswith("cpu")
        self.batch_size = batch_size or (1 if on_cpu else 8)
        self.protocol = named or protocols.get(self.card.protocol)
        floor = self.card.min_score if named is None else named.min_score
        self.min_score = next(
            score for score in (min_score, floor, self.card.min_score) if score is not None
        )
        self.max_faces, self.color = max_faces, color
        self.max_pixels, self.truncated = max_pixels, truncated
        self._tiling_logged = threading.Lock()  # acquired once, by the first thread that tiles
        check_protocol(self.card, self.protocol, self.min_score)
        self.mesh_decoder = weights.open_decoder(mesh, self.card, model)

    @property
    def card(self) -> Card:
        """Card of the model."""
        return self.runtime.card

    @overload
    def detect(self, image: list[Any] | tuple[Any, ...]) -> list[Faces]: ...
    @overload
    def detect(self, image: Source) -> Faces: ...
    def detect(self, image: Any) -> Faces | list[Faces]:
        """The faces of an image, or of each image of a list or tuple, in its order.

        An image is a path, bytes, file, PIL image, or an array (H, W, 3) uint8, upright, in the
        detector's `color`. Boxes and landmarks are in its pixels. Images of a list may differ in
        size; those of one size go through the model together.

        Raises:
            ImageError: An image cannot be read; for a list the message names its index.
            TypeError: The image is a generator or another iterator: these go to `stream`.
        """
        if isinstance(image, list | tuple):
            results = detect_stream(image, self.read, self._detect_all, batch_size=self.batch_size)
            return [checked(result, "list").faces for result in results]
        if isinstance(image, Iterator) and not hasattr(image, "read"):
            raise TypeError(
                f"detect takes an image or a list of images, got {type(image).__name__}: use "
                "FaceDetector.stream, which takes images one by one from any iterable"
            )
        return self._detect_all([self.read(image)])[0]

    __call__ = detect

    def stream(
        self,
        sources: Iterable[Any],
        *,
        readers: int = 2,
        on_error: OnError = "raise",
        images: bool = False,
        read: Callable[[Any], Source] | None = None,
        prefetch_bytes: int = 128 << 20,
    ) -> Iterator[DetectionResult]:
        """Yield a result for each image of an iterable of any length, in its order, lazily.

        >>> for result in detector.stream(Path("photos").glob("*.jpg")):
        ...     print(result.source, result.faces)

        Threads read the next images meanwhile. An image that fails costs no other its result, not
        even one of the same batch. Memory is bounded whatever the length: by `prefetch_bytes` of
        images that wait, and 128 MiB each of images that are run together and of their canvases (or
        one image, where that is larger).

        Args:
            sources: Images, as `detect` takes them, or what `read` makes images of.
            readers: Threads that read ahead; 0 reads each image when its turn comes, as live
                sources want it.
            on_error: What becomes of an image that cannot be read or run: "raise" its error once
                all results before it are out, "skip" it, or "yield" a result with `error` set.
            images: Whether results hold their images.
            read: Makes an image of an item, in a reader's thread: bytes, or what else `detect`
                takes; its arrays are RGB. An OSError or ImageError of it is the item's, and what
                else it raises ends the stream. None takes the items themselves.
            prefetch_bytes: Most bytes of decoded images that wait for their turn.

        Raises:
            TypeError: `sources` is one image.
            ValueError: An option is out of range.
        """
        if is_one(sources):
            raise TypeError(
                f"stream takes an iterable of images, got one {type(sources).__name__}: use "
                "detect for one image, facefind.pipeline.list_images for those of a folder"
            )
        if on_error not in get_args(OnError):
            raise ValueError(f"on_error must be one of {get_args(OnError)}, got {on_error!r}")
        check_whole(0, readers=readers, prefetch_bytes=prefetch_bytes)
        results = detect_stream(
            sources,
            self.read if read is None else lambda item: self._read(read(item)),
            self._detect_all,
            batch_size=self.batch_size,
            readers=readers,
            prefetch_bytes=prefetch_bytes,
            keep_images=images,
            weigh=weigh,
        )
        if on_error == "raise":
            return (checked(result, "stream") for result in results)
        if on_error == "skip":
            return (result for result in results if result.error is None)
        return results

    def read(self, source: Any) -> Image:
        """The image of a source, (H, W, 3) uint8 RGB, as `detect` reads it.

        Raises:
            ImageError: It cannot be read.
        """
        if self.color == "bgr" and isinstance(source, np.ndarray):
            if source.ndim == 3 and source.shape[2] == 3:
                source = source[..., ::-1]
            elif source.ndim == 3 and source.shape[2] == 4:
                source = source[..., [2, 1, 0, 3]]
        return self._read(source)

    def _read(self, source: Source) -> Image:
        return read_image(source, max_pixels=self.max_pixels, truncated=self.truncated)

    def _detect_all(self, pictures: Sequence[Image]) -> list[Faces]:
        """The faces of images in memory; canvases of them take bounded memory."""
        waiting: list[_Pass] = []
        parts: list[list[Detections]] = [[] for _ in pictures]
        held = 0
        for picture, own in zip(pictures, parts, strict=True):
            for step in self._passes(own, picture):
                waiting.append(step)
                held += step.canvas.nbytes
                if held > _CANVAS_BYTES:
                    self._run(waiting)
                    held = 0
        self._run(waiting)
        return [
            merge(
                own,
                (picture.shape[0], picture.shape[1]),
                self.protocol,
                mesh_decoder=self.mesh_decoder,
                max_faces=self.max_faces,
            )
            for picture, own in zip(pictures, parts, strict=True)
        ]

    def _run(self, waiting: list[_Pass]) -> None:
        """Add what each pass finds to its image's parts; empties `waiting`."""
        alike: dict[tuple[int, int], list[_Pass]] = defaultdict(list)
        for step in waiting:
            alike[step.placement.canvas].append(step)
        waiting.clear()
        for (height, width), steps in alike.items():
            batch = max(1, min(self.batch_size, _BATCH_PIXELS // (height * width)))
            while steps:
                ready, steps[:batch] = steps[:batch], []
                candidates = self.runtime(to_nchw([step.canvas for step in ready]))
                for row, step in enumerate(ready):
                    found = survivors(
                        candidates,
                        row,
                        step.placement,
                        step.view,
                        self.protocol,
                        self.min_score,
                        meshes=self.mesh_decoder is not None,
                    )
                    step.parts.append(found)

    def _passes(self, parts: list[Detections], picture: Image) -> Iterator[_Pass]:
        """Yield the canvases on which the model is run for one image."""
        image_size = (picture.shape[0], picture.shape[1])
        fixed, multiple = self.card.fixed_size, self.card.size_multiple
        views = self.protocol.views(image_size)
        if len(views) > 1 and any(view.window is not None for view in views):
            check_tiled(self.card, self.protocol, image_size)
            self._log_tiling(image_size, views)
        for view in views:
            canvas, placement = view.render(picture, fixed, multiple)
            yield _Pass(parts, canvas, placement, view)

    def _log_tiling(self, image_size: tuple[int, int], views: Sequence[View]) -> None:
        """Log, once for this detector, that passes are cut into tiles, or shrunk too."""
        if not self._tiling_logged.acquire(blocking=False):
            return
        shrunk = self.protocol.shrinks(image_size)
        _log.warning(
            "an image of %dx%d has passes of more than the %d pixels that protocol %r allows at a "
            "time: they are made in tiles that overlap (%d in all), and once more shrunk for "
            "faces too large for a tile%s (logged once, other images may do the same)",
            *image_size[::-1],
            self.protocol.max_pixels,
            self.protocol.name,
            sum(view.window is not None for view in views),
            "; the largest are shrunk even so, which changes what they find" if shrunk else "",
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
    """One canvas for the model, what of the image it shows, and whose results it adds to."""

    parts: list[Detections]
    canvas: Image
    placement: Placement
    view: View


@lru_cache(maxsize=2)
def _default(**options: Any) -> FaceDetector:
    return FaceDetector(**options)


@overload
def detect(image: list[Any] | tuple[Any, ...], **options: Any) -> list[Faces]: ...
@overload
def detect(image: Source, **options: Any) -> Faces: ...
def detect(image: Any, **options: Any) -> Faces | list[Faces]:
    """The faces of an image, or of each image of a list, found by the default model.

    ARRAYS ARE RGB unless `color="bgr"`, which is what OpenCV reads.

    Args:
        image: A path, bytes, file, PIL image or array, or a list of these, as
            `FaceDetector.detect` takes it.
        options: Those of `FaceDetector`. The detector of `color`, `max_faces` or no options is
            made once and kept; with others, one is made for this call alone: where there are many
            calls, make a detector and keep it.

    Raises:
        Exception: Those of `FaceDetector` and of `FaceDetector.detect`.
    """
    if options.keys() <= {"color", "max_faces"}:
        with _DEFAULT:  # made once, though several threads may come first
            detector = _default(**options)
    else:
        detector = FaceDetector(**options)
    faces: Faces | list[Faces] = detector.detect(image)
    return faces
