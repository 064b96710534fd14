"""Labels: the faces of one image while it is augmented.

Every method gives new labels. Legend: G labeled faces.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from facefind.landmarks import FLIP_ORDER


@dataclass(frozen=True)
class Labels:
    """The faces of one image.

    Attributes:
        boxes: (G,4) float32 xyxy in pixels.
        landmarks: (G,5,2) float32, NaN where unlabeled.
        ignore: (G,) bool.
    """

    boxes: NDArray[np.float32]
    landmarks: NDArray[np.float32]
    ignore: NDArray[np.bool_]

    def keep(self, mask: NDArray[np.bool_]) -> Labels:
        """The faces picked by a mask."""
        return Labels(self.boxes[mask], self.landmarks[mask], self.ignore[mask])

    def moved(self, scale: tuple[float, float], shift: tuple[float, float]) -> Labels:
        """The faces in new coordinates: (x, y) -> (x, y) * scale + shift."""
        factor, offset = np.asarray(scale, np.float32), np.asarray(shift, np.float32)
        return replace(
            self,
            boxes=self.boxes * np.tile(factor, 2) + np.tile(offset, 2),
            landmarks=self.landmarks * factor + offset,
        )

    def held(self, size: tuple[int, int], *, clip_boxes: bool = True) -> Labels:
        """The faces with their center on an image of size (H,W), and ignored ones that touch it.

        Boxes end at its border, unless `clip_boxes` is off; landmarks are never clipped.
        """
        height, width = size
        middle = (self.boxes[:, :2] + self.boxes[:, 2:]) / 2
        held = ((middle >= 0) & (middle < [width, height])).all(1)
        boxes = self.boxes.clip(0, np.array([width, height] * 2, np.float32))
        overlapping = ((boxes[:, 2:] - boxes[:, :2]) > 0).all(1)
        labels = replace(self, boxes=boxes) if clip_boxes else self
        return labels.keep(np.where(self.ignore, overlapping, held))

    def flipped(self, width: int) -> Labels:
        """The faces of an image of this width, mirrored left to right.

        Landmarks change places, so that left stays left.
        """
        boxes = self.boxes.copy()
        boxes[:, [0, 2]] = width - self.boxes[:, [2, 0]]
        landmarks = self.landmarks[:, list(FLIP_ORDER)]
        landmarks[..., 0] = width - landmarks[..., 0]
        return replace(self, boxes=boxes, landmarks=landmarks)

    def turned(self, width: int) -> Labels:
        """The faces of an image of this width, after a quarter turn of it counterclockwise.

        Landmarks stay what they were: the left eye of a face on its side is the same eye.
        """
        x1, y1, x2, y2 = self.boxes.T
        x, y = self.landmarks[..., 0], self.landmarks[..., 1]
        return replace(
            self,
            boxes=np.stack([y1, width - x2, y2, width - x1], 1),
            landmarks=np.stack([y, width - x], -1),
        )
