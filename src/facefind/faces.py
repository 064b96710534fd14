"""`Faces`: what was found in one picture, the value that every part of the package hands on."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facefind import boxes as box_math
from facefind import landmarks as points5

__all__ = ["Face", "Faces"]


@dataclass(frozen=True, slots=True, eq=False)
class Face:
    """One face of a `Faces`: views of its arrays, read-only."""

    box: NDArray[np.float32]
    """(4,) xyxy in pixels of the upright image."""
    score: float
    landmarks: NDArray[np.float32] | None = None
    """(5,2) or None."""
    mesh: NDArray[np.float32] | None = None
    """(V,3) or None."""
    id: int | None = None

    @property
    def width(self) -> float:
        """Width of the box in pixels."""
        return float(self.box[2] - self.box[0])

    @property
    def height(self) -> float:
        """Height of the box in pixels."""
        return float(self.box[3] - self.box[1])


@dataclass(frozen=True, slots=True, eq=False, init=False)
class Faces:
    """The faces of one picture, best score first; none found is an empty `Faces`, never None.

    Anything array-like may be given; it is checked, copied, sorted by falling score (equal scores
    keep their order) and made read-only. Coordinates are pixels of the upright original image.

    Raises:
        ValueError: If a shape is wrong, a number is not finite or a score leaves 0..1.
    """

    boxes: NDArray[np.float32]
    """(N,4) xyxy."""
    scores: NDArray[np.float32]
    """(N,) in 0..1."""
    landmarks: NDArray[np.float32] | None
    """(N,5,2) left eye, right eye, nose, left and right mouth corner as seen; None if not found."""
    mesh: NDArray[np.float32] | None
    """(N,V,3) or None."""
    ids: NDArray[np.int64] | None
    """(N,) numbers of tracked faces, or None."""
    image_size: tuple[int, int]
    """(height, width) of the image."""

    def __init__(
        self,
        boxes: ArrayLike,
        scores: ArrayLike,
        landmarks: ArrayLike | None = None,
        mesh: ArrayLike | None = None,
        ids: ArrayLike | None = None,
        *,
        image_size: tuple[int, int],
    ) -> None:
        """Check, copy and sort the arrays."""
        score = _floats("scores", scores, ())
        n = len(score)
        fields: dict[str, NDArray[Any] | None] = {
            "boxes": _floats("boxes", boxes, (4,), n),
            "scores": score,
            "landmarks": None if landmarks is None else _floats("landmarks", landmarks, (5, 2), n),
            "mesh": None if mesh is None else _floats("mesh", mesh, (None, 3), n),
            "ids": None if ids is None else _ids(ids, n),
        }
        if n and not (score.min() >= 0 and score.max() <= 1):
            raise ValueError(f"scores must lie in 0..1, got {score.min()} to {score.max()}")
        order = np.argsort(-score, kind="stable")
        for name, array in fields.items():
            if array is not None:
                array = array[order]
                array.setflags(write=False)
            object.__setattr__(self, name, array)
        object.__setattr__(self, "image_size", _size(image_size))

    @classmethod
    def empty(cls, image_size: tuple[int, int], landmarks: bool = False) -> Faces:
        """No faces in an image of size (h, w); with landmarks (0,5,2) where asked."""
        points = np.empty((0, 5, 2), np.float32) if landmarks else None
        return cls(np.empty((0, 4)), np.empty(0), points, image_size=image_size)

    def __len__(self) -> int:
        """How many faces there are."""
        return len(self.scores)

    def __iter__(self) -> Iterator[Face]:
        """Each face in turn, best first."""
        return (self._face(i) for i in range(len(self)))

    @overload
    def __getitem__(self, index: int) -> Face: ...
    @overload
    def __getitem__(self, index: slice | Sequence[int] | NDArray[Any]) -> Faces: ...
    def __getitem__(self, index: int | slice | Sequence[int] | NDArray[Any]) -> Face | Faces:
        """The face at an int; or the `Faces` of a slice, a mask (N,) or an array of ints.

        A selection is sorted by score again, whatever the order of its indices.
        """
        if isinstance(index, (int, np.integer)) and not isinstance(index, (bool, np.bool_)):
            return self._face(int(index))
        if not isinstance(index, slice):
            index = np.asarray(index)
            if index.size == 0 and index.dtype != np.bool_:
                index = index.astype(np.intp)
            if index.ndim != 1 or index.dtype.kind not in "biu":
                raise IndexError(
                    "faces are picked by an int, a slice, a mask (N,) or an array of ints, "
                    f"got {index.dtype} of shape {index.shape}"
                )
        return Faces(
            self.boxes[index],
            self.scores[index],
            None if self.landmarks is None else self.landmarks[index],
            None if self.mesh is None else self.mesh[index],
            None if self.ids is None else self.ids[index],
            image_size=self.image_size,
        )

    def __eq__(self, other: object) -> bool:
        """Whether all arrays and the image size are the same."""
        if not isinstance(other, Faces):
            return NotImplemented
        return self.image_size == other.image_size and all(
            (a is None and b is None) or (a is not None and b is not None and np.array_equal(a, b))
            for a, b in zip(self._arrays(), other._arrays(), strict=True)
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        """Count, best score, what else is known, and the image size."""
        best = f", best {self.scores[0]:.3f}" if len(self) else ""
        parts = [n for n in ("landmarks", "mesh", "ids") if getattr(self, n) is not None]
        extra = f", with {' and '.join(parts)}" if parts else ""
        height, width = self.image_size
        return f"Faces({len(self)}{best}{extra}, image {width}x{height})"

    def crop(self, image: NDArray[Any], margin: float = 0.0) -> list[NDArray[Any]]:
        """A copy of each face's part of the image, whole pixels, cut at the image's edges.

        A face that lies wholly outside the image gives an array without pixels.

        Args:
            image: The upright image in which the faces were found, (H,W) or (H,W,C).
            margin: What is added on each side, as a part of the box's width and height.
        """
        self._check_image(image)
        grown = box_math.clip(box_math.expand(self.boxes, margin), self.image_size)
        low, high = np.floor(grown[:, :2]).astype(int), np.ceil(grown[:, 2:]).astype(int)
        return [
            image[y1 : max(y1, y2), x1 : max(x1, x2)].copy()
            for (x1, y1), (x2, y2) in zip(low.tolist(), high.tolist(), strict=True)
        ]

    def align(self, image: NDArray[Any], size: int = 112) -> NDArray[np.uint8]:
        """Each face turned upright by its landmarks, (N,size,size,3) uint8.

        Args:
            image: The upright image in which the faces were found, (H,W,3) uint8.
            size: Side of the crops; the points come to lie on `landmarks.template(size)`.

        Raises:
            ValueError: If these faces have no landmarks.
        """
        self._check_image(image)
        if self.landmarks is None:
            raise ValueError("these faces have no landmarks: use a model that finds them, or crop")
        out = np.empty((len(self), size, size, 3), np.uint8)
        for i, points in enumerate(self.landmarks):
            out[i] = points5.align(image, points, size)
        return out

    def to_dict(self, digits: int | None = None) -> dict[str, Any]:
        """Plain lists and numbers: width, height, boxes, scores, landmarks, mesh, ids.

        Args:
            digits: Decimals that coordinates are rounded to (scores get two more); None is exact.
        """

        def plain(array: NDArray[Any] | None, extra: int = 0) -> Any:
            if array is None:
                return None
            if digits is not None and array.dtype.kind == "f":
                return np.round(array.astype(np.float64), digits + extra).tolist()
            return array.tolist()

        height, width = self.image_size
        return {
            "width": width,
            "height": height,
            "boxes": plain(self.boxes),
            "scores": plain(self.scores, 2),
            "landmarks": plain(self.landmarks),
            "mesh": plain(self.mesh),
            "ids": plain(self.ids),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Faces:
        """The faces that `to_dict` described; `landmarks`, `mesh` and `ids` may be missing."""
        missing = [k for k in ("width", "height", "boxes", "scores") if k not in data]
        if missing:
            raise ValueError(f"faces need the keys {missing}, got {sorted(map(str, data))}")
        return cls(
            data["boxes"],
            data["scores"],
            data.get("landmarks"),
            data.get("mesh"),
            data.get("ids"),
            image_size=(data["height"], data["width"]),
        )

    def to_json(self, digits: int | None = None) -> str:
        """`to_dict` as one line of JSON."""
        return json.dumps(self.to_dict(digits))

    def to_coco(self, image_id: int | str, category_id: int = 1) -> list[dict[str, Any]]:
        """One COCO result a face: bbox xywh, score and, where known, keypoints x, y, 2."""
        results: list[dict[str, Any]] = []
        for xywh, face in zip(box_math.to_xywh(self.boxes).tolist(), self, strict=True):
            result = {
                "image_id": image_id,
                "category_id": category_id,
                "bbox": xywh,
                "score": face.score,
            }
            if face.landmarks is not None:
                result["keypoints"] = [v for x, y in face.landmarks.tolist() for v in (x, y, 2)]
                result["num_keypoints"] = len(face.landmarks)
            results.append(result)
        return results

    def to_supervision(self) -> Any:
        """`supervision.Detections` of class 0, ids as tracker ids, landmarks in its data.

        Raises:
            ImportError: If the package `supervision` is not installed.
        """
        try:
            import supervision
        except ImportError as error:
            raise ImportError(
                "Faces.to_supervision needs the package supervision: pip install supervision"
            ) from error
        return supervision.Detections(
            xyxy=self.boxes.copy(),
            confidence=self.scores.copy(),
            class_id=np.zeros(len(self), int),
            tracker_id=None if self.ids is None else self.ids.copy(),
            data={} if self.landmarks is None else {"landmarks": self.landmarks.copy()},
        )

    def _arrays(self) -> tuple[NDArray[Any] | None, ...]:
        return self.boxes, self.scores, self.landmarks, self.mesh, self.ids

    def _face(self, i: int) -> Face:
        return Face(
            self.boxes[i],
            float(self.scores[i]),
            None if self.landmarks is None else self.landmarks[i],
            None if self.mesh is None else self.mesh[i],
            None if self.ids is None else int(self.ids[i]),
        )

    def _check_image(self, image: NDArray[Any]) -> None:
        if image.ndim not in (2, 3) or image.shape[:2] != self.image_size:
            raise ValueError(
                f"these faces were found in an image of (h, w) = {self.image_size}, got an array "
                f"of shape {image.shape}; pass the upright image, as images.read gives it"
            )


def _floats(
    name: str, values: ArrayLike, tail: tuple[int | None, ...], n: int | None = None
) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes inf, and is refused below
        array = np.asarray(values, np.float32)
    if array.size == 0 and array.ndim == 1:
        array = array.reshape(0, *(side or 0 for side in tail))
    fits = array.ndim == 1 + len(tail) and (n is None or len(array) == n)
    if not fits or any(want not in (None, got) for want, got in zip(tail, array.shape[1:])):  # noqa: B905
        want = ", ".join(["N" if n is None else str(n), *(str(s or "V") for s in tail)])
        raise ValueError(f"{name} must have shape ({want}), got {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite, got {np.sum(~np.isfinite(array))} NaN or inf")
    return array


def _ids(values: ArrayLike, n: int) -> NDArray[np.int64]:
    array = np.asarray(values)
    if array.shape != (n,) or (n and array.dtype.kind not in "iu"):
        raise ValueError(f"ids must be {n} whole numbers, got {array.dtype} of shape {array.shape}")
    return array.astype(np.int64)


def _size(image_size: tuple[int, int]) -> tuple[int, int]:
    height, width = (int(side) for side in image_size)
    if height < 0 or width < 0:
        raise ValueError(f"image_size must be (height, width), got {image_size}")
    return height, width
