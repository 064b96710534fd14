"""What crops and matching give: faces and positive anchors by scale, over one epoch of training.

Sample redistribution is a claim about these counts: cropping squares larger than the image makes
small faces, and small faces make positive anchors at the finest stride. So is improved anchor
matching: faces are close in size to an anchor, and more anchors are theirs. Only labels are read
and cut, never pixels, so an epoch of thousands of images takes about a minute.

Legend: G ground-truth faces, A anchors over all levels.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice, pairwise

import numpy as np
import torch

from facefind.datasets import Sample, read_size
from facefind.errors import DataError
from facefind.learn.assigners import ATSS, MaxIoU
from facefind.learn.augment import draw_view, view_labels
from facefind.learn.index_sampler import Epochs, IndexSampler
from facefind.learn.labels import Labels
from facefind.learn.recipe import AugmentConfig
from facefind.learn.targets import BatchTargets, Target
from facefind.nn.anchors import Anchors

logger = logging.getLogger(__name__)

FACE_BINS = (4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0)
"""Upper limits of the scales that faces are counted by, in pixels of the network's input; the last
bin has none."""
FIRST_SCALE, OCTAVE_PARTS, SCALES = 4.0, 8, 64
"""Faces are counted finely from 4 pixels on, in eighths of an octave up to 1024 pixels."""


@dataclass(frozen=True)
class Counts:
    """Samples of one epoch by scale.

    Attributes:
        images: crops that were drawn.
        faces: ground-truth faces by their longer side in pixels of the network's input: a number
            for each limit of `FACE_BINS`, and one beyond the last.
        unmatched: those of them that no anchor is assigned to, in the same bins.
        matched: anchors that are assigned to them, in the same bins.
        scales: faces by the root of their area: number n counts those nearest to 4 * 2 ** (n / 8)
            pixels, on the scale of logarithms; the first and last what is beyond them, too.
        anchors: positive anchors by the root of the anchor's area, in whole pixels.
    """

    images: int
    faces: tuple[int, ...]
    unmatched: tuple[int, ...]
    matched: tuple[int, ...]
    scales: tuple[int, ...]
    anchors: dict[int, int]

    def to_dict(self) -> dict[str, object]:
        """Plain values, ready for JSON."""
        return asdict(self)


def count(
    samples: Sequence[Sample],
    config: AugmentConfig,
    anchors: Anchors,
    assigner: ATSS | MaxIoU,
    *,
    seed: int = 0,
    images: int | None = None,
) -> Counts:
    """Faces and positive anchors over the first epoch that training with `config` would see.

    The windows are those that `TrainingSet` draws with the same seed and no balancing. Flips and
    turns are skipped: they change no face's scale.

    Args:
        samples: the training set.
        config: crop sides, side of the input and least face.
        anchors: the network's anchors on an input of `config.size`.
        assigner: finds the anchors of each face, whatever a network predicts.
        seed: the run's seed.
        images: crops to draw; None: as many as there are samples, one epoch.

    Raises:
        DataError: if no image can be read, or the crops are not square.

    Source: SCRFD, sec. 4.1 and fig. 4; DSFD, sec. 4.2, fig. 4 and 5.
    Differs: the text of SCRFD does not define a face's scale; it is the longer side, the only
    measure under which the percentages of fig. 3 come out. Nor does that of DSFD: the root of the
    area, by which anchors are as large as they are called.
    """
    if config.crop != "square":
        raise DataError(f"crops are {config.crop}; only square ones, of one size, are counted")
    faces = np.zeros(len(FACE_BINS) + 1, np.int64)
    unmatched, matched = np.zeros_like(faces), np.zeros_like(faces)
    scales = np.zeros(SCALES + 1, np.int64)
    anchor_sides = anchors.sizes.prod(1).sqrt().round().long().numpy()
    positive: dict[int, int] = {int(side): 0 for side in np.unique(anchor_sides)}
    total = len(samples) if images is None else images
    for index, number in islice(IndexSampler(Epochs([s.group for s in samples], seed)), total):
        sample, size = _readable(samples, number)
        labels = Labels(sample.boxes, sample.landmarks, sample.ignore)
        rng = np.random.default_rng((seed, index))
        view = replace(draw_view(config, size, labels, rng), turns=0, flip=False)
        held = view_labels(view, labels, config)
        boxes = held.boxes[~held.ignore]
        sides = boxes[:, 2:] - boxes[:, :2]
        bins = np.searchsorted(FACE_BINS, sides.max(1), side="right")
        landmarks = torch.full((len(boxes), 5, 2), torch.nan)
        target = Target(torch.from_numpy(boxes), landmarks, torch.zeros(0, 4))
        targets = BatchTargets.from_images([target], (config.size, config.size))
        assigned = assigner.assign(anchors, targets).face[0].numpy()
        anchors_of = np.bincount(assigned[assigned >= 0], minlength=len(boxes))[: len(boxes)]
        faces += np.bincount(bins, minlength=len(faces))
        unmatched += np.bincount(bins[anchors_of == 0], minlength=len(faces))
        np.add.at(matched, bins, anchors_of)
        octaves = np.log2(np.sqrt(sides.prod(1)).clip(1e-3) / FIRST_SCALE)
        places = np.rint(octaves * OCTAVE_PARTS).clip(0, SCALES).astype(np.int64)
        scales += np.bincount(places, minlength=len(scales))
        taken = anchor_sides[assigned >= 0]
        for side, many in zip(*np.unique(taken, return_counts=True), strict=True):
            positive[int(side)] += int(many)
    return Counts(
        images=total,
        faces=tuple(faces.tolist()),
        unmatched=tuple(unmatched.tolist()),
        matched=tuple(matched.tolist()),
        scales=tuple(scales.tolist()),
        anchors=positive,
    )


def _readable(samples: Sequence[Sample], number: int) -> tuple[Sample, tuple[int, int]]:
    """A sample with its (H,W), or the next one whose image can be read, as in training."""
    for _ in range(len(samples)):
        sample = samples[number]
        try:
            return sample, sample.image_size or read_size(sample.path)
        except DataError as error:
            logger.warning("skipped an image: %s", error)
            number = (number + 1) % len(samples)
    raise DataError(f"none of the {len(samples)} training images can be read")


def face_scales() -> tuple[str, ...]:
    """The bins of faces in words: `<4`, `4-8`, ..., `>=512`."""
    limits = [f"{limit:g}" for limit in FACE_BINS]
    between = [f"{low}-{high}" for low, high in pairwise(limits)]
    return (f"<{limits[0]}", *between, f">={limits[-1]}")


def fine_scales() -> tuple[float, ...]:
    """Middles of the bins of `Counts.scales` in pixels."""
    return tuple(FIRST_SCALE * 2 ** (n / OCTAVE_PARTS) for n in range(SCALES + 1))
