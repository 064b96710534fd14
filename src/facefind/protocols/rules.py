"""What a test protocol is made of: sizes, passes, a pyramid, and how their results are merged."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cached_property
from itertools import product
from typing import Any, ClassVar, Literal

from facefind.errors import ProtocolError
from facefind.images import fit, tiles
from facefind.protocols.views import View

_OVERLAP = (
    256  # pixels of the resized image that neighboring tiles share where there is room for it
)
_MOST_TILES = 16  # a pass of more than so many times `max_pixels` is shrunk to it


@dataclass(frozen=True)
class ShortSide:
    """A short side in pixels, less where the long side would exceed `max_long_side`."""

    side: int
    max_long_side: int | None = None

    def __post_init__(self) -> None:
        if self.side < 1 or (self.max_long_side is not None and self.max_long_side < 1):
            raise ProtocolError(f"a size must be positive, got {self}")

    def fit(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """The (height, width) to which an image of a size is resized."""
        factor = self.side / min(image_size)
        if self.max_long_side is not None:
            factor = min(factor, self.max_long_side / max(image_size))
        return Scale(factor).fit(image_size)


@dataclass(frozen=True)
class Scale:
    """A multiple of the image's own size."""

    factor: float

    def __post_init__(self) -> None:
        if not 0 < self.factor < math.inf:
            raise ProtocolError(f"a size must be positive, got {self}")

    def fit(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """The (height, width) to which an image of a size is resized."""
        height, width = (max(1, int(side * self.factor + 0.5)) for side in image_size)
        return height, width


Size = int | tuple[int, int] | None | ShortSide | Scale
"""A long side in pixels, a (height, width) to fit inside, None for the image's own size, a short
side, or a multiple of the image's own size. All keep the image's proportions, and grow it too."""


@dataclass(frozen=True, kw_only=True)
class Pass:
    """One run of the model over the image, and which of the faces found in it are kept.

    Attributes:
        size: Size to which the image is resized.
        flip: Whether the pass is made a second time on the mirrored image.
        min_size: Keep only faces whose longer side is more than so many of the image's pixels.
        max_size: Keep only faces whose shorter side is less than so many of the image's pixels.
        min_input_size: Keep only faces whose longer side is more than so many pixels of the resized
            image, which is what the model sees.
        square: Whether the image is padded to a square, so that images of all proportions come to
            one shape: runtimes prepare themselves for each shape, and a batch has one.
    """

    size: Size = None
    flip: bool = False
    min_size: float | None = None
    max_size: float | None = None
    min_input_size: float | None = None
    square: bool = False


@dataclass(frozen=True, kw_only=True)
class DsfdPyramid:
    """The image pyramid of S3FD and DSFD: scales of the image, chosen by M, the largest allowed.

    One pass at 1 (at M, if that is less), and again mirrored. Smaller ones, of which only large
    faces are kept: 0.5 (0.5 M where M < 0.75) and all of `steps` below 1 and M. Larger ones, of
    which only small faces are kept: 2 (M, if that is less), all of `steps` above 1 and below M,
    and where M > 2 each further doubling below M, and M. Where M is at most 1, there is one pass
    midway between the smallest and M instead, of which large faces are kept. Then all of
    `extra` below 1, and those above 1 that are at most M, filtered alike.

    Attributes:
        max_pixels: The image scaled by M has so many pixels.
        max_scale: Largest M; None for no other limit than pixels.
        steps: Scales between the main ones.
        extra: Scales of a second, finer pyramid.
        min_size: Keep faces of the smaller passes whose longer side is more than so many of the
            image's pixels.
        max_size: Keep faces of the larger passes whose shorter side is less than so many.

    Source: the released codes of S3FD (no steps, no extra, 0x7fffffff / 577 pixels) and DSFD.
    """

    max_pixels: float = 0x7FFFFFFF / 200
    max_scale: float | None = 3.0
    steps: tuple[float, ...] = (0.75, 1.5)
    extra: tuple[float, ...] = (0.25, 1.25, 1.75, 2.25)
    min_size: float = 30
    max_size: float = 100

    def __post_init__(self) -> None:
        limits = [self.max_pixels, *self.steps, *self.extra]
        if min(limits) <= 0 or (self.max_scale is not None and self.max_scale <= 0):
            raise ProtocolError(f"a size must be positive, got {self}")

    def passes(self, image_size: tuple[int, int]) -> list[Pass]:
        """The passes over an image of one size (height, width)."""
        limit = math.sqrt(self.max_pixels / (image_size[0] * image_size[1]))
        if self.max_scale is not None:
            limit = min(limit, self.max_scale)
        half = 0.5 if limit >= 0.75 else 0.5 * limit
        down = [half, *(step for step in self.steps if step < min(1, limit))]
        up: list[float] = []
        if limit > 1:
            up = [min(2.0, limit), *(step for step in self.steps if 1 < step < limit)]
            if limit > 2:
                double = 4.0
                while double < limit:
                    up.append(double)
                    double *= 2
                up.append(limit)
        else:
            down.append((half + limit) / 2)
        down += [step for step in self.extra if step < 1]
        up += [step for step in self.extra if 1 < step <= limit]
        return [
            Pass(size=Scale(min(1.0, limit)), flip=True),
            *(Pass(size=Scale(factor), min_size=self.min_size) for factor in down),
            *(Pass(size=Scale(factor), max_size=self.max_size) for factor in up),
        ]


@dataclass(frozen=True, kw_only=True)
class TestProtocol:
    """How images are run through a model and its results merged, under one name.

    A pass of more than `max_pixels` is cut into tiles that overlap. Faces that are too large for
    the overlap come from a pass over the whole image, shrunk to `max_pixels`; up to 16 times
    `max_pixels` are tiled, and a pass that would have still more is shrunk to that. Measured with
    SCRFD-2.5GF on an image of 6000x4000, the peak of the process: `original` 2.1 GB (onnxruntime)
    and 2.6 GB (OpenVINO), 0.8 GB with `max_pixels=2048 * 2048`; `retinaface` 0.8 GB with both;
    `dsfd-released` 2.0 GB (onnxruntime).

    Attributes:
        name: What results made with it are filed under.
        sizes: One pass a size; the image keeps its proportions and grows where it is smaller.
            A Pass also filters faces by size, and a DsfdPyramid is several passes.
        flip: Whether each pass is made a second time on the mirrored image.
        turned: Whether each pass is also made on the image turned by 90, 180 and 270 degrees, for
            faces that lie on their side or upside down.
        shifts: Each pass is made once for each (down, right), by which the resized image is
            shifted in whole pixels.
        min_score: Scores below are left out; None takes the threshold on the model's card.
        pass_candidates: Only the best so many of each pass are kept; None keeps all.
        pass_nms_iou: IoU above which the lesser of two boxes of one pass is suppressed, before
            `min_size` and `max_size` are applied and passes are joined; None suppresses nothing.
        nms_iou: IoU above which the lesser of two boxes is suppressed.
        containment: Part of its area above which a box that lies inside a better and larger one is
            suppressed, too: a fragment of a face beside the whole; None suppresses none for it.
        voting: IoU from which boxes are averaged, weighted by score, in place of suppression;
            None suppresses.
        singletons: Which boxes are kept that no other voted for: "all", "none", or as a slip of
            some released codes has it, the "last": the very lowest score where it is a singleton.
        plus_one: Whether x2 and y2 count as the last pixels inside, in the IoU of suppression and
            voting, in `min_size` and `max_size` and in rounding "outward".
        rounding: What is done to the boxes at the end: None leaves them exact, "corners" cuts the
            decimals of x1, y1, x2, y2, "sides" those of x1, y1, width and height, "outward" rounds
            x1 and y1 down and width and height up.
        max_candidates: Only the best so many of all passes reach suppression; None takes all.
        max_faces: Only the best so many faces are kept; None keeps all.
        max_pixels: The most pixels that the model is run on at a time, so that memory is bounded.
    """

    __test__: ClassVar[bool] = False  # the name begins with Test, yet pytest has nothing to collect

    name: str
    sizes: tuple[Size | Pass | DsfdPyramid, ...] = (640,)
    flip: bool = False
    turned: bool = False
    shifts: tuple[tuple[int, int], ...] = ((0, 0),)
    min_score: float | None = None
    pass_candidates: int | None = None
    pass_nms_iou: float | None = None
    nms_iou: float = 0.45
    containment: float | None = None
    voting: float | None = None
    singletons: Literal["all", "last", "none"] = "all"
    plus_one: bool = False
    rounding: Literal["corners", "sides", "outward"] | None = None
    max_candidates: int | None = 5000
    max_faces: int | None = None
    max_pixels: int = 4096 * 4096

    def __post_init__(self) -> None:
        if not self.sizes:
            raise ProtocolError(f"protocol {self.name!r} has no size: name at least one")
        for item in self.sizes:
            size = item.size if isinstance(item, Pass) else item
            sides = (size,) if isinstance(size, int) else size if isinstance(size, tuple) else ()
            if any(side < 1 for side in sides):
                raise ProtocolError(f"protocol {self.name!r}: a size must be positive, got {size}")
        if not self.shifts or min(min(shift) for shift in self.shifts) < 0:
            raise ProtocolError(
                f"protocol {self.name!r}: shifts must be one or more (down, right) of 0 or more, "
                f"got {self.shifts}"
            )
        for key in ("nms_iou", "pass_nms_iou", "containment", "voting", "min_score"):
            rate = getattr(self, key)
            if rate is not None and not 0 <= rate <= 1:
                raise ProtocolError(f"protocol {self.name!r}: {key} must lie in 0..1, got {rate}")
        for key in ("pass_candidates", "max_candidates", "max_faces", "max_pixels"):
            count = getattr(self, key)
            if count is not None and count < 1:
                raise ProtocolError(f"protocol {self.name!r}: {key} must be positive, got {count}")
        for key, known in (
            ("singletons", ("all", "last", "none")),
            ("rounding", (None, "corners", "sides", "outward")),
        ):
            if getattr(self, key) not in known:
                raise ProtocolError(
                    f"protocol {self.name!r}: {key} must be one of {known}, "
                    f"got {getattr(self, key)!r}"
                )

    @property
    def is_plain(self) -> bool:
        """Whether an image is seen once, and faces of all sizes are kept."""
        steps = self._fixed or ()
        filters = ("flip", "min_size", "max_size", "min_input_size")
        return (
            len(steps) == 1
            and not (self.flip or self.turned or any(getattr(steps[0], name) for name in filters))
            and len(self.shifts) == 1
        )

    def passes(self, image_size: tuple[int, int]) -> list[Pass]:
        """The passes over an image of one size (height, width), in their order."""
        if self._fixed is not None:
            return self._fixed
        out: list[Pass] = []
        for item in self.sizes:
            if isinstance(item, DsfdPyramid):
                out += item.passes(image_size)
            else:
                out.append(item if isinstance(item, Pass) else Pass(size=item))
        return out

    @cached_property
    def _fixed(self) -> list[Pass] | None:
        """The passes, where they are the same for all images."""
        if any(isinstance(item, DsfdPyramid) for item in self.sizes):
            return None
        return [
            item if isinstance(item, Pass) else Pass(size=item)
            for item in self.sizes
            if not isinstance(item, DsfdPyramid)
        ]

    def views(self, image_size: tuple[int, int]) -> list[View]:
        """All runs of the model over an image of one size (height, width)."""
        out: list[View] = []
        for step in self.passes(image_size):
            height, width = _resized(image_size, step.size)
            if step.min_input_size is not None:
                seen = step.min_input_size * max(image_size) / max(height, width)
                step = replace(step, min_size=max(seen, step.min_size or 0))
            if height * width <= self.max_pixels:
                whole = View((height, width), min_size=step.min_size, max_size=step.max_size)
                parts = [whole._replace(square=step.square)]
            else:
                parts = self._tiled(image_size, step)
            flips = (False, True) if step.flip or self.flip else (False,)
            turns = range(4) if self.turned else (0,)
            ways = list(product(self.shifts, turns, flips))
            if len(ways) == 1 and self.shifts == ((0, 0),):
                out += parts
                continue
            for part in parts:
                for shift, quarters, mirrored in ways:
                    out.append(part._replace(shift=shift, turns=quarters, mirrored=mirrored))
        return out

    def shrinks(self, image_size: tuple[int, int]) -> bool:
        """Whether a pass over an image of one size is too large even for tiles."""
        sizes = [_resized(image_size, step.size) for step in self.passes(image_size)]
        return any(height * width > _MOST_TILES * self.max_pixels for height, width in sizes)

    def target(self, image_size: tuple[int, int], size: Size) -> tuple[int, int]:
        """The (height, width) to which a whole image is resized in the pass of one size."""
        return _bounded(image_size, _resized(image_size, size), self.max_pixels)

    def _tiled(self, image_size: tuple[int, int], step: Pass) -> list[View]:
        """The views of a pass that has too many pixels: the image shrunk, then tiles of it.

        A face of at most 3/4 of the overlap is whole in some tile, with 1/8 of the overlap to
        spare for what boxes are off; faces over 1/2 are also kept of the shrunk image.
        """
        most = self.max_pixels
        height, width = _bounded(image_size, _resized(image_size, step.size), _MOST_TILES * most)
        grow = (height / image_size[0], width / image_size[1])
        tile_height = min(height, max(math.isqrt(most), most // width))
        tile_width = min(width, most // tile_height)
        cut = [tile for tile, side in ((tile_height, height), (tile_width, width)) if tile < side]
        window = (
            image_size[0] if tile_height == height else max(1, int(tile_height / grow[0])),
            image_size[1] if tile_width == width else max(1, int(tile_width / grow[1])),
        )
        overlap = int(min(_OVERLAP, *(side // 4 for side in cut)) / max(grow))
        overlap = min(overlap, min(window) - 1)
        min_size = overlap / 2 if step.min_size is None else max(overlap / 2, step.min_size)
        shrunk = self.target(image_size, step.size)
        parts = [View(shrunk, min_size=min_size, max_size=step.max_size)]
        for part in tiles(image_size, window, overlap):
            size = (
                max(1, min(tile_height, int((part.y2 - part.y1) * grow[0] + 0.5))),
                max(1, min(tile_width, int((part.x2 - part.x1) * grow[1] + 0.5))),
            )
            parts.append(
                View(
                    size,
                    window=part,
                    min_size=step.min_size,
                    max_size=step.max_size,
                    tile_max_size=0.75 * overlap,
                )
            )
        return parts

    def check_fits(self, fixed_size: tuple[int, int], model: str) -> None:
        """Check that all passes fit in the only (height, width) that a model takes.

        Raises:
            ProtocolError: one does not; the message names the pass and the `model`.
        """
        down, right = (max(along) for along in zip(*self.shifts, strict=True))
        for item in self.sizes:
            size = item.size if isinstance(item, Pass) else item
            sides = _largest(size)
            if sides is not None and self.turned:
                sides = (max(sides), max(sides))
            if sides is None or sides[0] + down > fixed_size[0] or sides[1] + right > fixed_size[1]:
                raise ProtocolError(
                    f"protocol {self.name!r} has a pass at {size or 'full size'}, but {model} "
                    f"takes only images {fixed_size[0]} high and {fixed_size[1]} wide"
                )

    def to_dict(self) -> dict[str, Any]:
        """All settings as plain JSON values; `kind` names the class of each rule for sizes."""
        plain = _plain(self)
        del plain["kind"]
        return dict(plain)


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        settings = {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
        return {"kind": type(value).__name__, **settings}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _largest(size: Size | DsfdPyramid) -> tuple[int, int] | None:
    """The largest (height, width) of a pass over any image; None where there is no limit."""
    if isinstance(size, ShortSide):
        return None if size.max_long_side is None else (size.max_long_side, size.max_long_side)
    if isinstance(size, Scale | DsfdPyramid) or size is None:
        return None
    return (size, size) if isinstance(size, int) else size


def _resized(image_size: tuple[int, int], size: Size) -> tuple[int, int]:
    return size.fit(image_size) if isinstance(size, ShortSide | Scale) else fit(image_size, size)


def _bounded(image_size: tuple[int, int], size: tuple[int, int], most: int) -> tuple[int, int]:
    """The (height, width) itself, or shrunk to so many pixels."""
    height, width = size
    if height * width <= most:
        return height, width
    shrink = math.sqrt(most / (height * width))
    return fit(image_size, (max(1, int(height * shrink)), max(1, int(width * shrink))))
