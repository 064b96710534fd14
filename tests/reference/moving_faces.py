"""Faces on known paths: the labels of short videos, and what a detector might find in them.

Nothing is rendered here; `benchmarks/tracking.py` does that with two portraits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from facefind import boxes as box_math
from facefind.evaluation.mot import Trajectories
from facefind.faces import Faces

HEIGHT, WIDTH = 360, 640
VISIBLE = 0.5
"""The part of a face that must be seen for it to count."""

Path = Callable[[np.ndarray], np.ndarray]
"""Times (F,) -> centers and height of the face (F,3); NaN where it is not there."""


@dataclass(frozen=True)
class Scene:
    """A video: its frames' times, the paths of its faces (the last one in front), and what is
    before all of them."""

    name: str
    times: np.ndarray
    paths: tuple[Path, ...]
    pillars: tuple[tuple[float, float, float, float], ...] = ()
    cuts: tuple[float, ...] = ()
    """Times at which another scene begins."""
    boxes: np.ndarray = field(init=False)
    """(F,G,4) xyxy; NaN where a face is not there."""
    visible: np.ndarray = field(init=False)
    """(F,G) the part of each face that is seen."""

    def __post_init__(self) -> None:
        places = np.stack([path(self.times) for path in self.paths], axis=1)
        x, y, height = np.moveaxis(places, -1, 0)
        sides = np.stack([0.75 * height, height], axis=-1)
        centers = np.stack([x, y], axis=-1)
        boxes = np.concatenate([centers - sides / 2, centers + sides / 2], axis=-1)
        object.__setattr__(self, "boxes", boxes)
        object.__setattr__(self, "visible", self._visible(boxes))

    def _visible(self, boxes: np.ndarray) -> np.ndarray:
        """The part of each face's points on an even grid that are in the image, behind nothing."""
        u, v = (axis.ravel() for axis in np.meshgrid(*[(np.arange(8) + 0.5) / 8] * 2))
        x = boxes[..., :1] + u * (boxes[..., 2:3] - boxes[..., :1])  # (F,G,64)
        y = boxes[..., 1:2] + v * (boxes[..., 3:] - boxes[..., 1:2])
        bare = (x >= 0) & (x < WIDTH) & (y >= 0) & (y < HEIGHT)
        for row in range(boxes.shape[1]):
            front = [
                *np.moveaxis(heads(boxes[:, row + 1 :]), 1, 0),
                *np.reshape(self.pillars, (-1, 4)),
            ]
            for box in front:
                x1, y1, x2, y2 = (side[..., None] for side in np.moveaxis(box, -1, 0))
                own = x[:, row], y[:, row]
                bare[:, row] &= ~((own[0] >= x1) & (own[0] < x2) & (own[1] >= y1) & (own[1] < y2))
        return np.asarray(bare.mean(axis=-1))

    @property
    def cut_frames(self) -> tuple[int, ...]:
        return tuple(int(np.searchsorted(self.times, cut)) for cut in self.cuts)

    def truth(self) -> Trajectories:
        """Labels of all faces that can be seen at all; those that count have score 1."""
        frames, rows = np.nonzero(self.visible > 0.1)
        scores = (self.visible[frames, rows] >= VISIBLE).astype(float)
        return Trajectories(frames, rows + 1, self.boxes[frames, rows], scores)

    def seen(self, boxes: np.ndarray) -> np.ndarray:
        """What of boxes (N,4) lies in the image, on the wider side of each pillar."""
        part = np.array(box_math.clip(boxes, (HEIGHT, WIDTH)))
        for x1, _, x2, _ in self.pillars:  # all are as high as the image
            left, right = np.minimum(part[:, 2], x1), np.maximum(part[:, 0], x2)
            first = left - part[:, 0] >= part[:, 2] - right
            meets = (part[:, 0] < x2) & (part[:, 2] > x1)
            part[meets & first, 2] = left[meets & first]
            part[meets & ~first, 0] = right[meets & ~first]
        return part


def heads(faces: np.ndarray) -> np.ndarray:
    """What of heads covers others, a little more than their faces, (...,4)."""
    return np.asarray(box_math.expand(faces, 0.1))


def line(
    times: np.ndarray,
    start: tuple[float, float, float],
    end: tuple[float, float, float],
    begin: float = 0.0,
    stop: float = 4.0,
    sway: float = 0.0,
    there: bool = False,
) -> np.ndarray:
    """From one center and height to another between two times, and not there before and after.

    `sway` is how far the face moves up and down and to both sides, in heights, as one who walks;
    `there` keeps it at both ends.
    """
    part = (times - begin) / (stop - begin)
    inside = np.clip(part, 0, 1)[:, None]
    place = np.array(start) * (1 - inside) + np.array(end) * inside
    place[:, 0] += sway * place[:, 2] * np.sin(2 * np.pi * 0.9 * times + start[0])
    place[:, 1] += 0.5 * sway * place[:, 2] * np.sin(2 * np.pi * 1.8 * times + start[1])
    if not there:
        place[(part < 0) | (part > 1)] = np.nan
    return place


def circle(
    times: np.ndarray, center: tuple[float, float], radius: float, height: float, seconds: float
) -> np.ndarray:
    """Around a center, once in so many seconds."""
    angle = 2 * np.pi * times / seconds
    place = np.stack(
        [center[0] + radius * np.cos(angle), center[1] + radius * np.sin(angle), angle * 0 + height]
    )
    return place.T


def shaken(times: np.ndarray, path: Path, pixels: float) -> np.ndarray:
    """A path seen by a hand-held camera; all paths of a scene shake alike."""
    place = path(times)
    rng = np.random.default_rng(7)
    knots = rng.normal(0, pixels, (2, 60))
    for axis in range(2):
        place[:, axis] += np.interp(times * 6, np.arange(60), knots[axis])
    return place


def at_rate(rate: float, seconds: float = 4.0) -> np.ndarray:
    return np.arange(round(rate * seconds)) / rate


def uneven(seconds: float = 6.0) -> np.ndarray:
    """25 frames a second of which some are late and some are missing, half a second once."""
    rng = np.random.default_rng(3)
    times = at_rate(25, seconds)
    times = times[(rng.random(len(times)) > 0.3) & ~((times > 2.0) & (times < 2.5))]
    return np.asarray(times + rng.uniform(0, 0.02, len(times)))


def scenes() -> Iterator[Scene]:
    """One scene for each difficulty."""
    walks = (
        partial(line, start=(60, 150, 50), end=(330, 150, 55), sway=0.1),
        partial(line, start=(600, 110, 40), end=(400, 130, 42), sway=0.1),
        partial(line, start=(200, 250, 90), end=(560, 230, 110), sway=0.08),
    )
    yield Scene("walking", at_rate(25), walks)
    meeting = (
        partial(line, start=(80, 180, 80), end=(560, 180, 80)),
        partial(line, start=(560, 190, 85), end=(80, 190, 85)),
    )
    yield Scene("crossing", at_rate(25), meeting)
    slow = (
        partial(line, start=(240, 180, 80), end=(400, 180, 80)),
        partial(line, start=(400, 190, 85), end=(240, 190, 85)),
    )
    yield Scene("crossing slowly", at_rate(25), slow)
    yield Scene("pillar", at_rate(25), walks, ((250, 0, 310, 360), (470, 0, 520, 360)))
    comings = (
        partial(line, start=(-60, 150, 80), end=(300, 150, 80), begin=0.3, stop=2.5),
        partial(line, start=(200, 420, 100), end=(200, 200, 90), begin=0.0, stop=1.5, sway=0.03),
        partial(line, start=(400, 180, 70), end=(720, 200, 75), begin=1.0, stop=3.6),
    )
    yield Scene("coming and leaving", at_rate(25), comings)
    nearer = (
        partial(line, start=(320, 150, 14), end=(300, 190, 190)),
        partial(line, start=(520, 200, 150), end=(500, 120, 16)),
    )
    yield Scene("near and far", at_rate(25), nearer)
    crowd = tuple(
        partial(
            line,
            start=(45 + 110 * (number % 6), 90 + 130 * (number // 6), 44 + 8 * (number % 3)),
            end=(100 + 90 * ((number + 2) % 6), 100 + 130 * (number // 6), 50),
            sway=0.1,
        )
        for number in range(12)
    )
    yield Scene("crowd", at_rate(25), crowd)
    yield Scene("hand-held", at_rate(25), tuple(partial(shaken, path=p, pixels=12) for p in walks))
    turning = (
        partial(circle, center=(200, 180), radius=90, height=60, seconds=1.6),
        partial(circle, center=(450, 180), radius=110, height=70, seconds=-2.2),
    )
    yield Scene("turning", at_rate(25), turning)
    yield Scene("5 frames a second", at_rate(5, 8), walks + meeting[:1])
    yield Scene("uneven frames", uneven(), walks + meeting[:1])
    scene = {"begin": 0.0, "stop": 1.98}, {"begin": 2.0, "stop": 4.0}
    cut = (
        partial(line, start=(100, 150, 60), end=(220, 150, 60), **scene[0]),
        partial(line, start=(420, 180, 70), end=(400, 190, 70), **scene[0]),
        partial(line, start=(225, 155, 62), end=(120, 150, 60), **scene[1]),
        partial(line, start=(500, 160, 90), end=(520, 150, 90), **scene[1]),
    )
    yield Scene("cut", at_rate(25), cut, cuts=(2.0,))


def random_scene(seed: int) -> Scene:
    """Two to five faces on random paths, before none to two pillars, at 6.25 to 25 frames a second.

    Every other scene has a pillar for certain.
    """
    rng = np.random.default_rng(1000 + seed)

    def uniform(low: float, high: float) -> float:
        return float(rng.uniform(low, high))

    paths: list[Path] = []
    for _ in range(int(rng.integers(2, 6))):
        height = uniform(34, 110)
        grown = height * uniform(0.7, 1.4)
        path: Path
        if rng.random() < 0.2:
            center, radius = (uniform(150, 490), 180.0), uniform(50, 120)
            seconds = float(rng.uniform(1.5, 5) * rng.choice([-1, 1]))
            path = partial(circle, center=center, radius=radius, height=height, seconds=seconds)
        else:
            start = (uniform(30, 610), uniform(70, 290), height)
            end_x = uniform(30, 610)
            end_y = float(np.clip(start[1] + rng.normal(0, 40), 70, 290))
            end = (end_x, end_y, grown)
            path = partial(line, start=start, end=end, sway=uniform(0, 0.1))
        paths.append(partial(shaken, path=path, pixels=8) if rng.random() < 0.2 else path)
    pillars = []
    for _ in range(int(rng.integers(seed % 2, 3))):
        left = uniform(120, 480)
        pillars.append((float(round(left)), 0.0, float(round(left + rng.uniform(25, 90))), 360.0))
    times = at_rate(float(rng.choice([25, 25, 12.5, 6.25])))
    return Scene(f"random {seed}", times, tuple(paths), tuple(pillars))


def detections(
    scene: Scene, seed: int = 0, *, dropped: float = 0.1, noise: float = 0.04, false: float = 0.05
) -> list[Faces]:
    """What a detector might find in each frame of a scene, down to scores of .1.

    Scores fall with how much of a face is hidden, and with its size below 20 pixels. A part
    `dropped` of the faces is not found, frames of a face by each other more often than not; boxes
    are off by `noise` of their sides; there are `false` faces a frame, of low scores mostly.
    """
    rng = np.random.default_rng(seed)
    found = []
    count = scene.boxes.shape[1]
    missing = np.zeros(count, bool)
    for boxes, visible in zip(scene.boxes, scene.visible, strict=True):
        # A face that is missing stays so for two frames more, in the mean.
        begins = rng.random(count) < dropped / max(3 * (1 - dropped), dropped)
        missing = np.where(missing, rng.random(count) < 2 / 3, begins)
        size = boxes[:, 3] - boxes[:, 1]
        score = 0.86 - 0.9 * (1 - visible) ** 1.5 - 0.5 * np.clip(1 - size / 20, 0, 1)
        score = score + rng.normal(0, 0.05, count)
        there = (visible > 0.2) & ~missing & (score > 0.1)
        sides = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
        own = (boxes + rng.normal(0, noise, boxes.shape) * sides)[there]
        wrong = rng.poisson(false)
        corner = rng.uniform(0, [WIDTH - 60, HEIGHT - 60], (wrong, 2))
        extra = np.concatenate([corner, corner + rng.uniform(15, 60, (wrong, 1))], axis=1)
        scores = np.concatenate([score[there], rng.uniform(0.1, 0.55, wrong)])
        own = np.concatenate([own, extra])
        found.append(Faces(own, np.clip(scores, 0, 1), image_size=(HEIGHT, WIDTH)))
    return found
