"""What may be wrong with a data set: looked for, counted, and named."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from facefind import images
from facefind.datasets.sample import Sample, digest
from facefind.errors import DataError, ImageError

SIDES = (8, 16, 32, 64, 128, 256)
Look: TypeAlias = "npt.NDArray[np.float32] | bytes"
_BITS = 256
_SAME_BITS = 12  # of 256 that two prints of one picture may differ in


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong: `kind`, the picture, the face in it (from 0) or None, and what.

    Of a label that cannot be read there is no picture, "", and what is wrong names its file.
    """

    kind: str
    image: str
    face: int | None
    detail: str


@dataclass(frozen=True)
class Report:
    """What a data set holds and what is wrong with it.

    `sizes` counts faces by the root of their box area: "<8", "8-16", ... ">=256" pixels.
    """

    images: int
    faces: int
    ignored: int
    with_landmarks: int
    empty_images: int
    sizes: dict[str, int]
    digest: str
    findings: tuple[Finding, ...] = field(repr=False)

    @property
    def counts(self) -> dict[str, int]:
        """Number of findings of each kind."""
        return dict(Counter(finding.kind for finding in self.findings))

    def to_dict(self) -> dict[str, Any]:
        """The report in plain types, ready for JSON."""
        plain = {
            key: getattr(self, key)
            for key in ("images", "faces", "ignored", "with_landmarks", "empty_images", "sizes")
        }
        plain |= {"digest": self.digest, "counts": self.counts}
        plain["findings"] = [vars(finding) for finding in self.findings]
        return plain


def check(
    samples: Sequence[Sample],
    others: Sequence[Sample] = (),
    *,
    tiny: float = 4.0,
    files: bool = True,
    max_pixels: int = images.MAX_PIXELS,
    faults: Iterable[DataError] = (),
) -> Report:
    """A report on the samples.

    Looks for: two pictures of one name (`name`), image files that are missing, damaged, truncated
    or too large (`file`), or whose size is not the labeled one (`size`); boxes without area or not
    finite (`area`), with a side under `tiny` pixels (`tiny`), reaching outside the picture by more
    than a pixel (`outside`), labeled twice (`twice`); landmarks in an order that no upright or
    turned face has (`order`) or far from their box (`landmarks`); the same picture twice, here or
    in `others`, by a hash of its looks that other formats and sizes share (`copy`).

    Args:
        samples: what to check.
        others: a second set that must share no picture with the first (a test set, say).
        tiny: least side in pixels that is not pointed out.
        files: decode the images; without it nothing on disk is touched.
        max_pixels: images of more are too large.
        faults: wrong labels (`label`) that reading left out, as `collected_faults` gives them.
    """
    findings = [Finding("label", "", None, str(fault)) for fault in faults]
    seen: set[str] = set()
    looks: list[Look | None] = []
    for sample in samples:
        if sample.name in seen:
            findings.append(Finding("name", sample.name, None, "name occurs more than once"))
        seen.add(sample.name)
        size = sample.image_size
        if files:
            found = _check_file(sample, findings, max_pixels)
            looks.append(None if found is None else found[1])
            size = size if found is None else found[0]
        _check_boxes(sample, size, tiny, findings)
        _check_landmarks(sample, findings)
    if files:
        theirs = [_read_look(sample.path, max_pixels) for sample in others]
        findings += _copies(samples, looks, others, theirs)
    counted = [sample[~sample.ignore] for sample in samples]
    return Report(
        images=len(samples),
        faces=sum(map(len, counted)),
        ignored=sum(int(sample.ignore.sum()) for sample in samples),
        with_landmarks=sum(int(_pointed(sample.landmarks).sum()) for sample in counted),
        empty_images=sum(len(sample) == 0 for sample in counted),
        sizes=_sizes(counted),
        digest=digest(samples),
        findings=tuple(findings),
    )


def _check_file(
    sample: Sample, findings: list[Finding], max_pixels: int
) -> tuple[tuple[int, int], Look] | None:
    """The size (H,W) of an image and its look; None where it cannot be decoded to its end."""
    try:
        size = images.read_size(sample.path, max_pixels=max_pixels)
        look = _look(sample.path, size, max_pixels)
    except ImageError as error:
        findings.append(Finding("file", sample.name, None, str(error)))
        return None
    if sample.image_size is not None and tuple(sample.image_size) != size:
        detail = f"labels say {sample.image_size} (height, width), the file has {size}"
        findings.append(Finding("size", sample.name, None, detail))
    return size, look


def _check_boxes(
    sample: Sample, size: tuple[int, int] | None, tiny: float, findings: list[Finding]
) -> None:
    sides = sample.boxes[:, 2:] - sample.boxes[:, :2]
    finite = np.isfinite(sample.boxes).all(axis=1)
    flat = ~finite | (sides <= 0).any(axis=1)
    kinds = {
        "area": (flat, "box has no area"),
        "tiny": (~flat & (sides < tiny).any(axis=1), f"a side is under {tiny:g} pixels"),
    }
    if size is not None:
        low = (sample.boxes[:, :2] < -1).any(axis=1)
        high = (sample.boxes[:, 2:] > np.array([size[1], size[0]]) + 1).any(axis=1)
        kinds["outside"] = (finite & (low | high), f"box leaves the picture of {size} (h, w)")
    if len(sample):
        _, first = np.unique(sample.boxes, axis=0, return_index=True)
        again = np.ones(len(sample), bool)
        again[first] = False
        kinds["twice"] = (again, "the same box is labeled twice")
    for kind, (wrong, what) in kinds.items():
        for face in np.flatnonzero(wrong):
            box = " ".join(f"{value:g}" for value in sample.boxes[face])
            findings.append(Finding(kind, sample.name, int(face), f"{what}: {box}"))


def _check_landmarks(sample: Sample, findings: list[Finding]) -> None:
    for face in np.flatnonzero(np.isfinite(sample.landmarks).all(axis=(1, 2))):
        points = sample.landmarks[face].astype(np.float64)
        box = sample.boxes[face].astype(np.float64)
        side = max(box[2] - box[0], box[3] - box[1], 1.0)
        if (points < box[:2] - side / 2).any() or (points > box[2:] + side / 2).any():
            findings.append(
                Finding("landmarks", sample.name, int(face), "a landmark lies far outside its box")
            )
        if wrong := _wrong_order(points):
            findings.append(Finding("order", sample.name, int(face), wrong))


def _wrong_order(points: npt.NDArray[np.float64]) -> str:
    """Why five landmarks cannot be a face's in our order, or "".

    Seen from the front, left eye, right eye, right and left mouth corner go round in one sense,
    however the head is turned in the picture; mirrored or swapped ones go round the other way
    or cross. Side views, where eyes or corners nearly coincide, are not judged.
    """
    left_eye, right_eye, _, left_mouth, right_mouth = points
    eyes, mouth = right_eye - left_eye, right_mouth - left_mouth
    down = (left_mouth + right_mouth - left_eye - right_eye) / 2
    height = float(np.hypot(*down))
    if min(np.hypot(*eyes), np.hypot(*mouth)) < 0.3 * height or height == 0:
        return ""
    senses = [float(a[0] * down[1] - a[1] * down[0]) for a in (eyes, mouth)]
    if senses[0] < 0 and senses[1] < 0:
        return "left and right are exchanged"
    if senses[0] < 0 or senses[1] < 0:
        return "the eyes or the mouth corners are exchanged"
    return ""


def _copies(
    samples: Sequence[Sample],
    ours: Sequence[Look | None],
    others: Sequence[Sample],
    theirs: Sequence[Look | None],
) -> list[Finding]:
    """Pictures that look the same as one before them or as one of the other set."""
    titles = [f"{sample.name} of the other set" for sample in others]
    titles += [sample.name for sample in samples]
    kept: list[int] = []
    rows: list[npt.NDArray[np.float32]] = []
    plain: dict[bytes, int] = {}
    findings = []
    looks = zip([*others, *samples], [*theirs, *ours], strict=True)
    for number, (sample, look) in enumerate(looks):
        if look is None:
            continue
        like: int | None = None
        if isinstance(look, bytes):
            like = plain.setdefault(look, number)
            like = None if like == number else like
        else:
            rows.append(look)
            kept.append(number)
        if like is not None and number >= len(others):
            detail = f"same picture as {titles[like]}"
            findings.append(Finding("copy", sample.name, None, detail))
    bits = np.array(rows, np.float32).reshape(-1, _BITS)
    for start in range(0, len(bits), 512):
        part = bits[start : start + 512]
        apart = (_BITS - part @ bits[: start + len(part)].T) / 2
        apart[np.arange(len(part))[:, None] + start <= np.arange(start + len(part))] = _BITS
        for row in np.flatnonzero((apart <= _SAME_BITS).any(axis=1)):
            number, like = kept[start + row], kept[int(np.argmin(apart[row]))]
            if number >= len(others):
                name, detail = samples[number - len(others)].name, f"same picture as {titles[like]}"
                findings.append(Finding("copy", name, None, detail))
    return findings


def _read_look(path: Path, max_pixels: int) -> Look | None:
    try:
        return _look(path, images.read_size(path, max_pixels=max_pixels), max_pixels)
    except ImageError:
        return None


def _look(path: Path, size: tuple[int, int], max_pixels: int) -> Look:
    """A difference hash (256,) of -1 and 1 that survives another format or size.

    Each bit says which of two neighboring cells of a 17 x 16 thumbnail is brighter. Pictures
    too plain for that give a digest of their pixels.

    Raises:
        ImageError: if it cannot be decoded to its end.
    """
    from PIL import Image

    shrink = min(size[0] // 64, size[1] // 68)
    pixels, _ = images.read_reduced(path, shrink, max_pixels=max_pixels)
    gray = Image.fromarray(pixels).convert("L")
    cells = np.asarray(gray.resize((17, 16), Image.Resampling.BOX), np.float32)
    steps = np.diff(cells, axis=1)
    if np.abs(steps).mean() < 1:
        return hashlib.sha256(f"{gray.size}".encode() + gray.tobytes()).digest()
    return np.where(steps > 0, np.float32(1), np.float32(-1)).ravel()


def _sizes(samples: Sequence[Sample]) -> dict[str, int]:
    boxes = np.concatenate([np.zeros((0, 4), np.float32), *(sample.boxes for sample in samples)])
    sides = np.sqrt(np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1))
    edges = (0.0, *SIDES, np.inf)
    names = [f"<{SIDES[0]}", *(f"{a}-{b}" for a, b in pairwise(SIDES))]
    names.append(f">={SIDES[-1]}")
    bins = np.digitize(sides, edges) - 1
    return {name: int((bins == number).sum()) for number, name in enumerate(names)}


def _pointed(landmarks: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    return np.asarray(np.isfinite(landmarks).all(axis=(1, 2)))
