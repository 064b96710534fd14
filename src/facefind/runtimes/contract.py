"""What every runtime takes and gives, whatever the system and whatever runs it.

Shapes: B batch, A anchors over all levels, H W input height and width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from facefind.errors import ImageError, WeightsError
from facefind.mesh.decoding import PARAMETERS
from facefind.runtimes.card import Card

FloatArray = NDArray[np.float32]
ImageBatch = NDArray[np.uint8]
Precision = Literal["fp32", "bf16", "int8"]
PrecisionName = Literal["auto", "fp32", "bf16", "int8"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16", "int8")
_SLACK = 1e-3  # by which rounding may take a score beyond 0..1
_COUNTS = 0.01  # score from which a candidate may count as a face


@dataclass(frozen=True)
class Candidates:
    """One candidate an anchor, decoded, before any threshold or suppression.

    Attributes:
        boxes: (B, A, 4) float32 xyxy in input pixels, not clipped to the image.
        scores: (B, A) float32 in 0..1.
        landmarks: (B, A, 5, 2) float32 xy in input pixels, or None.
        mesh: (B, A, 144) float32 mesh parameters as `facefind.mesh` has them, their camera in input
            pixels, or None.
    """

    boxes: FloatArray
    scores: FloatArray
    landmarks: FloatArray | None = None
    mesh: FloatArray | None = None

    def __post_init__(self) -> None:
        lead = self.scores.shape
        if len(lead) != 2:
            raise ValueError(f"scores must be (B, A), got {lead}")
        if self.boxes.shape != (*lead, 4):
            raise ValueError(f"boxes must be {(*lead, 4)}, got {self.boxes.shape}")
        if self.landmarks is not None and self.landmarks.shape != (*lead, 5, 2):
            raise ValueError(f"landmarks must be {(*lead, 5, 2)}, got {self.landmarks.shape}")
        if self.mesh is not None and self.mesh.shape != (*lead, PARAMETERS):
            raise ValueError(f"mesh must be {(*lead, PARAMETERS)}, got {self.mesh.shape}")

    def __len__(self) -> int:
        return len(self.scores)

    @classmethod
    def joined(cls, parts: Sequence[Candidates], count: int) -> Candidates:
        """Those of the first `count` images of several batches."""
        arrays: dict[str, Any] = {}
        for name in ("boxes", "scores", "landmarks", "mesh"):
            found = [getattr(part, name) for part in parts]
            arrays[name] = None if found[0] is None else np.concatenate(found)[:count]
        return cls(**arrays)


class Runtime(Protocol):
    """A model that is ready to run: images in, candidates out. Safe to call from many threads."""

    @property
    def name(self) -> str:
        """Name of the library that runs it: "onnxruntime", "openvino" or "torch"."""

    @property
    def card(self) -> Card:
        """Card of the model."""

    @property
    def precision(self) -> Precision:
        """Number format of the arithmetic."""

    @property
    def threads(self) -> int:
        """Number of CPU threads one call uses."""

    @property
    def provider(self) -> str:
        """The device, in the library's own word for it."""

    def __call__(self, images: ImageBatch) -> Candidates:
        """Return the candidates of (B, 3, H, W) uint8 RGB images."""


class TensorSpec(NamedTuple):
    """An input or output of a model file; a size that is not fixed is None."""

    name: str
    shape: tuple[int | None, ...] | None
    dtype: str


class Session(Protocol):
    """A model file opened by a library, which knows nothing of faces. Safe to call from threads."""

    name: str
    precision: Precision
    threads: int
    provider: str
    inputs: list[TensorSpec]
    outputs: list[TensorSpec]

    def run(self, x: NDArray[np.generic]) -> list[NDArray[np.float32]]:
        """Return the arrays that the model gives for its one input, in the order of `outputs`.

        The arrays belong to the caller: no later call changes them.
        """


def fixed_input(session: Session) -> tuple[int | None, tuple[int, int] | None]:
    """The number of images, and their (height, width), that a file takes; None for any.

    Where one side alone is fixed, the other is taken to be as long.
    """
    shape = session.inputs[0].shape
    if shape is None or len(shape) != 4:
        return None, None
    batch, _, height, width = shape
    high, wide = height or width, width or height
    return batch, None if high is None or wide is None else (high, wide)


def fixed_protocol(size: tuple[int, int]) -> str:
    """The test protocol of a model that takes images of one (height, width) alone.

    On a canvas of one size a small pass would cost as much as the large one.
    """
    return "640" if size == (640, 640) else f"{size[1]}x{size[0]}"


def check_candidates(candidates: Candidates, name: str) -> Candidates:
    """The candidates of the model of this name, scores that are rounded beyond 0..1 put back there.

    Raises:
        WeightsError: Scores are no probabilities, or what counts as a face lies nowhere.
    """
    scores = candidates.scores
    if scores.size == 0:
        return candidates
    low, high = float(scores.min()), float(scores.max())
    if not (low >= -_SLACK and high <= 1 + _SLACK):  # NaN ends here, too
        raise WeightsError(
            f"the model {name} gives scores from {low:g} to {high:g}, which must lie in 0..1: its "
            "file lacks the sigmoid or softmax at the end, or is damaged"
        )
    for values in (candidates.boxes, candidates.landmarks):
        if values is None or np.isfinite(values).all():
            continue
        lost = ~np.isfinite(values.reshape(*scores.shape, -1)).all(-1)
        if (scores[lost] >= _COUNTS).any():
            raise WeightsError(
                f"the model {name} gives boxes or points that are not finite for faces of a score "
                f"of {scores[lost].max():.3g}: its file is damaged, or overflows on this device"
            )
    if low < 0 or high > 1:
        return replace(candidates, scores=scores.clip(0, 1))
    return candidates


def check_images(images: ImageBatch, card: Card) -> None:
    """Raise ImageError unless the images are such as the model of this card takes."""
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8:
        kind = getattr(images, "dtype", type(images).__name__)
        raise ImageError(f"a runtime takes a uint8 array (B, 3, H, W), got {kind}")
    if images.ndim != 4 or images.shape[1] != 3 or 0 in images.shape:
        raise ImageError(f"a runtime takes images of shape (B, 3, H, W), got {images.shape}")
    size = (images.shape[2], images.shape[3])
    if card.fixed_size is not None and size != card.fixed_size:
        height, width = card.fixed_size
        raise ImageError(
            f"the model {card.name} takes only images {height} high and {width} wide, "
            f"got {size[0]}x{size[1]}: letterbox them into that size"
        )
    if size[0] % card.size_multiple or size[1] % card.size_multiple:
        raise ImageError(
            f"the model {card.name} takes heights and widths that are multiples of "
            f"{card.size_multiple}, got {size[0]}x{size[1]}: pad them"
        )
