"""Validation: the AP of a network in training on held-out images, shared by all processes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from torch import nn

from facefind import datasets
from facefind.datasets import Sample
from facefind.errors import ImageError
from facefind.learn.distributed import gather_objects, share_buffers, world
from facefind.learn.recipe import Recipe

logger = logging.getLogger(__name__)


def validate(network: nn.Module, recipe: Recipe, held_out: Sequence[Sample]) -> dict[str, Any]:
    """What to log of an evaluation, in the first process; empty in the others.

    It is the AP by least height of the faces that count (`ap_...`), the number of images measured
    and the digest of their labels. Each process detects on its share of the images; all must call
    it. The network is left in eval mode.
    """
    from facefind.detector import FaceDetector
    from facefind.evaluation import wider
    from facefind.runtimes.pytorch import TorchRuntime

    samples = datasets.evenly_spaced(held_out, recipe.run.evaluate_images)
    if not samples:
        return {}
    rank, processes = world()
    share_buffers(network)
    detector = FaceDetector(TorchRuntime(network), protocol=recipe.protocol, min_score=0.02)
    found = {}
    for sample in samples[rank::processes]:
        try:
            found[sample.name] = detector.detect(sample.path)
        except ImageError as error:
            logger.warning("skipped a held-out image: %s", error)
    shares = gather_objects(found)
    if not shares:
        return {}
    faces = {name: value for share in shares for name, value in share.items()}
    measured = [sample for sample in samples if sample.name in faces]
    faces = {sample.name: faces[sample.name] for sample in measured}
    result = wider.evaluate(faces, wider.from_samples(measured, title="held out"), mode="strict")
    ap = {f"ap_{subset}": value for subset, value in result.ap.items()}
    return ap | {
        "images_measured": len(measured),
        "digest_measured": datasets.digest(measured),
    }
