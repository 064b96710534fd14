"""What every runtime takes and gives, whatever the system and whatever runs it.

Shapes: B batch, A anchors over all levels, H W input height and width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from facefind.errors import ImageError
from facefind.mesh.decoding import PARAMETERS
from facefind.runtimes.card import Card

FloatArray = NDArray[np.float32]
ImageBatch = NDArray[np.uint8]
Precision = Literal["fp32", "bf16"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16")


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
