"""`Faces`: the faces of one image, the value that every part of the package passes on."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facefind import boxes as box_math
from facefind.arrays import floats, plain
from facefind.errors import ImageError, check_whole
from facefind.images import Source, read

__all__ = ["Face", "Faces", "checked"]


@dataclass(frozen=True, slots=True, eq=False)
class Face:
    """One face of a `Faces`: views of its arrays, read-only."""

    box: NDArray[np.float32]
    """(4,) xyxy in pixels of the upright image."""
    score: float
    image_size: tuple[int, int]
    """(height, width) of the image."""
    landmarks: NDArray[np.float32] | None = None
    """(5,2) or None."""
    mesh: NDArray[np.float32] | None = None
    """(V,3) or None."""
    id: int | None = None

    def __eq__(self, other: object) -> bool:
        """Whether all that is known of both faces, and the image size, is the same."""
        return _same(self, other)

    def __hash__(self) -> int:
        return hash((self.score, self.image_size, tuple(self.box.tolist())))

    @property
    def width(self) -> float:
        """Width of the box in pixels."""
        return float(self.box[2] - self.box[0])

    @property
    def height(self) -> float:
        """Height of the box in pixels."""
        return float(self.box[3] - self.box[1])

    def crop(
        self,
        image: Source,
        margin: float = 0.0,
        *,
        square: bool = False,
        size: int | None = None,
        fill: tuple[int, int, int] = (0, 0, 0),
    ) -> NDArray[np.uint8]:
        """The face's region of the image, (h,w,3) uint8, as `facefind.crop` cuts it."""
        return self._alone().crop(image, margin, square=square, size=size, fill=fill)[0]

    def align(self, image: Source, size: int = 112) -> NDArray[np.uint8]:
        """The face turned upright by its landmarks, (size,size,3) uint8, as `facefind.align`."""
        aligned: NDArray[np.uint8] = self._alone().align(image, size)[0]
        return aligned

    def to_dict(self, digits: int | None = None) -> dict[str, Any]:
        """Plain lists and numbers: box, score, landmarks, mesh, id.

        Args:
            digits: Decimals to which coordinates are rounded (the score keeps two more); None
                rounds nothing.
        """
        return {
            "box": plain(self.box, digits),
            "score": self.score if digits is None else round(self.score, digits + 2),
            "landmarks": plain(self.landmarks, digits),
            "mesh": plain(self.mesh, digits),
            "id": self.id,
        }

    def _alone(self) -> Faces:
        return Faces(
            self.box[None],
            [self.score],
            None if self.landmarks is None else self.landmarks[None],
            image_size=self.image_size,
        )


@dataclass(frozen=True, slots=True, eq=False, init=False)
class Faces:
    """The faces of one image, best score first; none found is an empty `Faces`, never None.

    Arguments may be anything array-like; they are checked, copied, sorted by falling score (equal
    scores keep their order) and made read-only. Coordinates are pixels of the upright original
    image.

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
        score = floats("scores", scores, ())
        n = len(score)
        fields: dict[str, NDArray[Any] | None] = {
            "boxes": floats("boxes", boxes, (4,), n),
            "scores": score,
            "landmarks": None if landmarks is None else floats("landmarks", landmarks, (5, 2), n),
            "mesh": None if mesh is None else floats("mesh", mesh, (None, 3), n),
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
        """No faces in an image of size (h, w); `landmarks` makes them (0,5,2) instead of None."""
        none = np.empty((0, 5, 2), np.float32) if landmarks else None
        return cls(np.empty((0, 4)), np.empty(0), none, image_size=image_size)

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
                    "faces are selected by an int, a slice, a mask (N,) or an array of ints, "
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
        return _same(self, other)

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        arrays = (self.boxes, self.scores, self.landmarks, self.mesh, self.ids)
        return partial(Faces, image_size=self.image_size), arrays  # read-only, as copies of it

    def __repr__(self) -> str:
        """Count, best score, what else is known, and the image size."""
        best = f", best {self.scores[0]:.3f}" if len(self) else ""
        parts = [n for n in ("landmarks", "mesh", "ids") if getattr(self, n) is not None]
        extra = f", with {' and '.join(parts)}" if parts else ""
        height, width = self.image_size
        return f"Faces({len(self)}{best}{extra}, image {width}x{height})"

    def _repr_html_(self) -> str:
        """An outline of the image with the faces in it, and a table: what notebooks show."""
        from facefind.drawing import to_html

        return to_html(self)

    @property
    def largest(self) -> Face | None:
        """The face whose box has the largest area; None where there is no face."""
        return self._face(int(np.argmax(box_math.area(self.boxes)))) if len(self) else None

    def top(self, n: int, by: Literal["score", "size"] = "score") -> Faces:
        """The `n` faces of the highest score, or of the largest boxes; all where there are fewer.

        >>> faces.top(1, by="size")

        Raises:
            TypeError: `n` is no whole number.
            ValueError: `n` is less than 0, or `by` is something else.
        """
        check_whole(0, n=n)
        if by not in ("score", "size"):
            raise ValueError(f"by must be 'score' or 'size', got {by!r}")
        if by == "score":
            return self[:n]
        return self[np.argsort(-box_math.area(self.boxes), kind="stable")[:n]]

    def read_image(self, image: Source) -> NDArray[np.uint8]:
        """The image as `images.read` returns it, once it has these faces' `image_size`.

        Raises:
            ImageError: If the image cannot be read, or is of another size.
        """
        pixels = read(image)
        if pixels.shape[:2] != self.image_size:
            (height, width), (h, w) = self.image_size, pixels.shape[:2]
            raise ImageError(
                f"these faces belong to an image of {width}x{height} pixels, got one of {w}x{h}; "
                "pass the upright image in which they were found, at that size"
            )
        return pixels

    def draw(self, image: Source, **options: Any) -> NDArray[np.uint8]:
        """A copy of the image with the faces drawn, (H,W,3) uint8; options as `facefind.draw`."""
        from facefind.drawing import draw

        return draw(image, self, **options)

    def crop(
        self,
        image: Source,
        margin: float = 0.0,
        *,
        square: bool = False,
        size: int | None = None,
        fill: tuple[int, int, int] = (0, 0, 0),
    ) -> list[NDArray[np.uint8]]:
        """A copy of each face's region of the image, (h,w,3) uint8, as `facefind.crop` cuts it."""
        from facefind.cropping import crop

        return crop(image, self, margin, square=square, size=size, fill=fill)

    def align(self, image: Source, size: int = 112) -> NDArray[np.uint8]:
        """Each face turned upright by its landmarks, (N,size,size,3) uint8, as `facefind.align`."""
        from facefind.cropping import align

        return align(image, self, size)

    def save(self, path: str | Path, digits: int | None = None) -> None:
        """Write a .json file (`to_dict`) or a .csv file (a row a face), as its suffix says.

        The file is written whole or not at all. `digits` rounds as in `to_dict`.

        Raises:
            ValueError: The suffix is another one.
        """
        from facefind.conversion import save

        save(self, path, digits)

    def to_dict(self, digits: int | None = None) -> dict[str, Any]:
        """Plain lists and numbers: width, height, boxes, scores, landmarks, mesh, ids.

        Args:
            digits: Decimals to which coordinates are rounded (scores keep two more); None rounds
                nothing.
        """
        height, width = self.image_size
        return {
            "width": width,
            "height": height,
            "boxes": plain(self.boxes, digits),
            "scores": plain(self.scores, digits, 2),
            "landmarks": plain(self.landmarks, digits),
            "mesh": plain(self.mesh, digits),
            "ids": plain(self.ids, digits),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Faces:
        """The faces that `to_dict` described; `landmarks`, `mesh` and `ids` may be missing.

        Raises:
            ValueError: A key is missing, or the arrays do not fit each other.
        """
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
        from facefind.conversion import to_coco

        return to_coco(self, image_id, category_id)

    def to_supervision(self) -> Any:
        """`supervision.Detections` of class 0, ids as tracker ids, landmarks in its data."""
        from facefind.conversion import to_supervision

        return to_supervision(self)

    def to_pandas(self) -> Any:
        """`pandas.DataFrame`, a row a face: x1, y1, x2, y2, score, x and y of landmarks, id."""
        from facefind.conversion import to_pandas

        return to_pandas(self)

    def _face(self, i: int) -> Face:
        return Face(
            self.boxes[i],
            float(self.scores[i]),
            self.image_size,
            None if self.landmarks is None else self.landmarks[i],
            None if self.mesh is None else self.mesh[i],
            None if self.ids is None else int(self.ids[i]),
        )


def checked(faces: Faces) -> Faces:
    """The faces as they are; TypeError for one `Face`, a list or boxes."""
    if not isinstance(faces, Faces):
        raise TypeError(
            f"expected Faces, got {type(faces).__name__}: select some by faces[:1] or faces[mask]"
        )
    return faces


def _same(one: Face | Faces, other: object) -> bool:
    return type(one) is type(other) and all(
        np.array_equal(getattr(one, name), getattr(other, name)) for name in one.__slots__
    )


def _ids(values: ArrayLike, n: int) -> NDArray[np.int64]:
    array = np.asarray(values)
    if array.shape != (n,) or (n and array.dtype.kind not in "iu"):
        raise ValueError(f"ids must be {n} whole numbers, got {array.dtype} of shape {array.shape}")
    return array.astype(np.int64)


def _size(image_size: tuple[int, int]) -> tuple[int, int]:
    if np.shape(image_size) != (2,) or min(image_size) < 0:
        raise ValueError(f"image_size must be (height, width), got {image_size!r}")
    return int(image_size[0]), int(image_size[1])
