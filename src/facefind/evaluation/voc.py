"""AFW and PASCAL faces: average precision as the face-eval toolbox takes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from facefind import files
from facefind.datasets.files import bad_line, numbers, read_text
from facefind.datasets.sample import Sample, digest
from facefind.datasets.selection import check_complete
from facefind.errors import DataError, ProtocolError
from facefind.evaluation.curves import average_precision
from facefind.evaluation.detections import Detections, Pair, key, listed, pair

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Refit:
    """Mean shift of the centers, in box sides, and mean scaling that the refit came to."""

    shift_x: float = 0.0
    shift_y: float = 0.0
    scale_x: float = 1.0
    scale_y: float = 1.0


@dataclass(frozen=True)
class VocResult:
    """Average precision (0 to 1), with what it was measured on.

    `precision` and `recall` (K,) hold one point a kept detection, by falling score.
    """

    protocol: str
    digest: str
    images: int
    missing: tuple[str, ...]
    faces: int
    ignored: int
    detections: int
    ap: float
    refit: Refit
    precision: Floats = field(repr=False)
    recall: Floats = field(repr=False)

    def to_dict(self, *, curves: bool = False) -> dict[str, Any]:
        """The result in plain types, ready for JSON; with the curve where `curves` is true."""
        plain = listed(self, "precision", "recall") | {"refit": vars(self.refit)}
        if curves:
            curve = {"precision": self.precision.tolist(), "recall": self.recall.tolist()}
            plain["curve"] = curve
        return plain


def evaluate(
    detections: Detections,
    samples: Sequence[Sample],
    *,
    refits: int = 4,
    min_side: float = 30,
    iou: float = 0.5,
    top_shift: float = 0.0,
) -> VocResult:
    """Average precision under the rules of the face-eval toolbox.

    Faces under `min_side` pixels in width or height join the ignored ones. Detections whose
    sides are both at most int(sqrt(min_side^2 / 2)) are left out. By falling score over the
    whole set, a detection looks at the face of best IoU (pixels counted inclusively; of equals
    the last): no IoU above `iou` is a false positive, an ignored face counts neither way, the
    first hit of a face is a true positive, a further one a false positive.

    Because detectors and data sets draw boxes differently, the toolbox then moves and scales all
    detections by the mean offset of the true positives, and measures again, `refits` times.

    Args:
        detections: picture name (folders and suffix do not matter) to faces or (boxes, scores).
        samples: from `datasets.face_eval.read`, or any with `ignore` flags.
        refits: rounds of refitting; the toolbox's `--nit 5` does 4, 0 turns it off.
        min_side: least side of a face that counts, in pixels.
        iou: overlap that must be exceeded.
        top_shift: lowers each box's top by this part of its height beforehand (S3FD's script
            takes .2 for these sets).

    Raises:
        DataError: where a detection's picture is unknown, two pictures share a name, or the
            samples are a `partial:` set.
        ProtocolError: on a negative number of refits.
    """
    if refits < 0:
        raise ProtocolError(f"expected refits of 0 or more, got {refits}")
    check_complete(samples, "these samples")
    index = {_key(sample.name): number for number, sample in enumerate(samples)}
    if len(index) != len(samples):
        raise DataError("two pictures share a name; this protocol knows them by file name alone")
    faces = [sample.boxes.astype(np.float64) for sample in samples]
    sides = [np.abs(boxes[:, 2:] - boxes[:, :2]) for boxes in faces]
    flags = [np.zeros(0, bool)]
    flags += [s.ignore | (side < min_side).any(axis=1) for s, side in zip(samples, sides,
                                                                          strict=True)]  # fmt: skip
    ignore = np.concatenate(flags)
    seen, images, boxes, scores = _gather(detections, index)
    boxes[:, 1] += top_shift * (boxes[:, 3] - boxes[:, 1])
    least = int(np.sqrt(0.5 * min_side * min_side))
    keep = (boxes[:, 2:] - boxes[:, :2] > least).any(axis=1)
    order = np.flatnonzero(keep)[np.argsort(-scores[keep], kind="stable")]
    images, boxes = images[order], boxes[order]
    total = Refit()
    hits, misses, partner = _match(boxes, images, faces, ignore, iou)
    for _ in range(refits):
        if not hits.any():
            break
        step = _offset(boxes[hits], np.concatenate(faces)[partner[hits]])
        boxes = _move(boxes, step)
        total = Refit(
            total.shift_x + step.shift_x,
            total.shift_y + step.shift_y,
            total.scale_x * step.scale_x,
            total.scale_y * step.scale_y,
        )
        hits, misses, partner = _match(boxes, images, faces, ignore, iou)
    counted = int((~ignore).sum())
    found, wrong = np.cumsum(hits), np.cumsum(misses)
    recall = found / max(counted, 1)
    precision = found / np.maximum(found + wrong, 1)
    return VocResult(
        protocol=f"face-eval, IoU > {iou:g}, {refits} refits, faces from {min_side:g} pixels",
        digest=digest(samples),
        images=len(samples),
        missing=tuple(s.name for number, s in enumerate(samples) if number not in seen),
        faces=counted,
        ignored=int(ignore.sum()),
        detections=len(boxes),
        ap=average_precision(recall, precision),
        refit=total,
        precision=precision,
        recall=recall,
    )


def read_detections(path: str | Path) -> dict[str, Pair]:
    """Detections of a toolbox file, lines `name score x1 y1 x2 y2`, by picture name.

    Raises:
        DataError: with file and line, where a line is not as the format demands.
    """
    source = Path(path)
    rows: dict[str, list[list[float]]] = {}
    for number, line in enumerate(read_text(source), 1):
        parts = line.split()
        if not parts:
            continue
        values = numbers(" ".join(parts[1:]))
        if len(values) != 5:
            raise bad_line(source, number, line, "'name score x1 y1 x2 y2'")
        rows.setdefault(parts[0], []).append(values)
    tables = {name: np.array(values) for name, values in rows.items()}
    return {name: (table[:, 1:], table[:, 0]) for name, table in tables.items()}


def write_detections(detections: Detections, path: str | Path) -> None:
    """Write the toolbox's format; names lose their folders and suffixes, as its own have."""
    lines = []
    for name, found in detections.items():
        for box, score in zip(*pair(name, found), strict=True):
            values = " ".join(f"{value:.9g}" for value in (score, *box))
            lines.append(f"{_key(name)} {values}\n")
    files.write_text(path, "".join(lines))


def _key(name: str) -> str:
    return PurePosixPath(key(name)).name


def _gather(
    detections: Detections, index: dict[str, int]
) -> tuple[set[int], npt.NDArray[np.int64], Floats, Floats]:
    seen: set[int] = set()
    images, boxes, scores = [np.zeros(0, np.int64)], [np.zeros((0, 4))], [np.zeros(0)]
    for name, faces in detections.items():
        number = index.get(_key(name))
        if number is None:
            raise DataError(f"detections for {name!r}, which is not among the samples")
        if number in seen:
            raise DataError(f"two sets of detections for {_key(name)!r}")
        seen.add(number)
        found = pair(name, faces)
        images.append(np.full(len(found[1]), number))
        boxes.append(found[0])
        scores.append(found[1])
    return seen, np.concatenate(images), np.concatenate(boxes), np.concatenate(scores)


def _match(
    boxes: Floats,
    images: npt.NDArray[np.int64],
    faces: Sequence[Floats],
    ignore: npt.NDArray[np.bool_],
    iou: float,
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
    """True positives, false positives, and the face looked at; detections by falling score."""
    first = np.concatenate([[0], np.cumsum([len(rows) for rows in faces])])
    partner = np.zeros(len(boxes), np.int64)
    best = np.zeros(len(boxes))
    order = np.argsort(images, kind="stable")
    edges = np.searchsorted(images[order], np.arange(len(faces) + 1))
    for number, rows in enumerate(faces):
        at = order[edges[number] : edges[number + 1]]
        if len(at) and len(rows):
            table = _iou(boxes[at], rows)
            last = len(rows) - 1 - np.argmax(table[:, ::-1], axis=1)
            partner[at] = first[number] + last
            best[at] = table[np.arange(len(at)), last]
    reached = best > iou
    useful = np.flatnonzero(reached & ~ignore[partner] if len(ignore) else reached)
    _, earliest = np.unique(partner[useful], return_index=True)
    hits = np.zeros(len(boxes), bool)
    hits[useful[earliest]] = True
    misses = ~reached
    misses[useful] = True
    return hits, misses & ~hits, partner


def _iou(boxes: Floats, faces: Floats) -> Floats:
    """(N, M) IoU with inclusive pixels; boxes that only touch share nothing."""
    low = np.maximum(boxes[:, None, :2], faces[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], faces[None, :, 2:])
    shared = np.where((high > low).all(axis=2), np.prod(high - low + 1, axis=2), 0)
    own, other = (np.prod(np.abs(b[:, 2:] - b[:, :2]) + 1, axis=1) for b in (boxes, faces))
    return np.asarray(shared / (own[:, None] + other[None, :] - shared), np.float64)


def _offset(boxes: Floats, faces: Floats) -> Refit:
    sides = boxes[:, 2:] - boxes[:, :2]
    centers = [(b[:, 2:] + b[:, :2]) / 2 for b in (boxes, faces)]
    shift = np.mean((centers[1] - centers[0]) / sides, axis=0)
    scale = np.mean((faces[:, 2:] - faces[:, :2]) / sides, axis=0)
    return Refit(float(shift[0]), float(shift[1]), float(scale[0]), float(scale[1]))


def _move(boxes: Floats, step: Refit) -> Floats:
    sides = boxes[:, 2:] - boxes[:, :2]
    centers = (boxes[:, 2:] + boxes[:, :2]) / 2 + sides * [step.shift_x, step.shift_y]
    half = sides / 2 * [step.scale_x, step.scale_y]
    return np.concatenate([centers - half, centers + half], axis=1)
