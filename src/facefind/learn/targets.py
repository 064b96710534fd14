"""Targets: the labels of a batch in the form that assigners and losses take.

Legend: B images, F faces and I ignored regions of the whole batch, G faces of one image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass(frozen=True)
class Target:
    """Labeled faces of one training image, in pixels of the network's input.

    Attributes:
        boxes: (G,4) xyxy of the faces to be found.
        landmarks: (G,5,2); NaN where a landmark is not labeled.
        ignore: (I,4) xyxy of regions that are neither face nor background.
        size: (H,W) of the image itself, where the input is padded to its right and below to make
            a batch; None: the image fills the input.
    """

    boxes: Tensor
    landmarks: Tensor
    ignore: Tensor
    size: tuple[int, int] | None = None

    @classmethod
    def empty(cls) -> Target:
        """The target of an image without faces."""
        return cls(torch.zeros(0, 4), torch.zeros(0, 5, 2), torch.zeros(0, 4))


@dataclass(frozen=True)
class BatchTargets:
    """Labels of a batch, packed: the faces of all images in one row, one image after another.

    A face without area is padding: it is assigned no anchor. A batch without faces has one, so that
    F is never 0, and any batch may have more, where shapes must not change from step to step.

    Attributes:
        boxes: (F,4) float32 xyxy, in pixels of the network's input.
        landmarks: (F,5,2) float32; 0 where not visible.
        visible: (F,5) bool: which landmarks are labeled.
        image: (F,) int64: the image that each face lies in.
        ignore: (I,4) float32 xyxy of regions that are neither face nor background.
        ignore_image: (I,) int64: the image that each region lies in.
        image_sizes: (B,2) float32: height and width of the image within the padded input.
    """

    boxes: Tensor
    landmarks: Tensor
    visible: Tensor
    image: Tensor
    ignore: Tensor
    ignore_image: Tensor
    image_sizes: Tensor

    @classmethod
    def from_images(cls, targets: Sequence[Target], input_size: tuple[int, int]) -> BatchTargets:
        """The targets of single images, packed.

        Args:
            targets: B of them.
            input_size: (H,W) of the network's input.
        """

        def owners(counts: Sequence[int]) -> Tensor:
            return torch.repeat_interleave(torch.tensor(counts, dtype=torch.int64))

        boxes = torch.cat([t.boxes for t in targets])
        landmarks = torch.cat([t.landmarks for t in targets])
        image = owners([len(t.boxes) for t in targets])
        if not len(boxes):
            boxes, landmarks = boxes.new_zeros(1, 4), landmarks.new_full((1, 5, 2), torch.nan)
            image = image.new_zeros(1)
        return cls(
            boxes=boxes,
            landmarks=landmarks.nan_to_num(0.0),
            visible=landmarks.isfinite().all(-1),
            image=image,
            ignore=torch.cat([t.ignore for t in targets]),
            ignore_image=owners([len(t.ignore) for t in targets]),
            image_sizes=torch.tensor([t.size or input_size for t in targets], dtype=torch.float32),
        )

    def padded(self) -> BatchTargets:
        """The same with faces without area and regions beyond the image, up to powers of two.

        So the shapes of batches are few; each is captured or compiled on its own.
        """

        def filled(rows: Tensor, value: int = 0) -> Tensor:
            count = max(64, 1 << (len(rows) - 1).bit_length()) if len(rows) else 64
            return torch.cat([rows, rows.new_full((count - len(rows), *rows.shape[1:]), value)])

        return BatchTargets(
            boxes=filled(self.boxes),
            landmarks=filled(self.landmarks),
            visible=filled(self.visible),
            image=filled(self.image),
            ignore=filled(self.ignore, -1),
            ignore_image=filled(self.ignore_image),
            image_sizes=self.image_sizes,
        )

    def __len__(self) -> int:
        """B, the number of images."""
        return self.image_sizes.shape[0]

    def to(self, device: torch.device) -> BatchTargets:
        """The same targets on another device; copies do not wait for it where memory is pinned."""
        moved = (getattr(self, f.name).to(device, non_blocking=True) for f in fields(self))
        return BatchTargets(*moved)

    def pin_memory(self) -> BatchTargets:
        """The same targets in page-locked memory, for quick copies to a GPU."""
        return BatchTargets(*(getattr(self, f.name).pin_memory() for f in fields(self)))
