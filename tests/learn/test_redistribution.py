"""Counts of faces and positive anchors: by hand, against the loader, and the claim itself."""

from dataclasses import replace

import numpy as np
import pytest
from kinds import assigned
from PIL import Image

from facefind import recipes
from facefind.datasets import Sample
from facefind.errors import DataError
from facefind.evaluation import wider
from facefind.learn.assigners import ATSS
from facefind.learn.index_sampler import Epochs, IndexSampler
from facefind.learn.loader import TrainingSet
from facefind.learn.recipe import AugmentConfig
from facefind.learn.redistribution import FACE_BINS, count, face_scales, fine_scales
from facefind.nn.anchors import AnchorGrid
from facefind.systems.scrfd import ANCHOR_SIZES, STRIDES

SIZE = 320
ANCHORS = AnchorGrid(STRIDES, ANCHOR_SIZES)([(SIZE // s, SIZE // s) for s in STRIDES])
CONFIG = AugmentConfig(size=SIZE, crop_sides=(0.5, 1.0, 2.0), min_face=3.0)


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(3)
    found = []
    for number in range(12):
        path = folder / f"{number}.png"
        Image.fromarray(rng.integers(0, 255, (240, 320, 3), np.uint8)).save(path)
        corners = rng.uniform(0, 200, (6, 2))
        boxes = np.concatenate([corners, corners + rng.uniform(5, 60, (6, 1))], 1)
        found.append(Sample(path.name, path, boxes, ignore=np.arange(6) == 5))
    return found


def test_equals_what_the_training_set_gives(samples):
    counts = count(samples, CONFIG, ANCHORS, ATSS(), seed=4)
    images = TrainingSet(samples, replace(CONFIG, color=False, flip=0.0), seed=4)
    faces = np.zeros(len(FACE_BINS) + 1, int)
    matched, scales = np.zeros_like(faces), np.zeros(65, int)
    anchors = dict.fromkeys(counts.anchors, 0)
    stream = iter(IndexSampler(Epochs([""] * len(samples), 4)))
    for _ in samples:
        _, target, _ = images[next(stream)]
        sides = (target.boxes[:, 2:] - target.boxes[:, :2]).numpy()
        for scale in sides.max(1):
            faces[sum(scale >= limit for limit in FACE_BINS)] += 1
        face = assigned(ATSS(), ANCHORS, target.boxes, (SIZE, SIZE))
        for number, (width, height) in enumerate(sides):
            place = sum(max(width, height) >= limit for limit in FACE_BINS)
            matched[place] += int((face == number).sum())
            far = np.abs(np.log2(fine_scales()) - np.log2(np.sqrt(width * height)))
            scales[far.argmin()] += 1
        for side in ANCHORS.sizes[face >= 0, 0]:
            anchors[int(side)] += 1
    assert counts.faces == tuple(faces)
    assert counts.anchors == anchors
    assert counts.matched == tuple(matched)
    assert sum(counts.matched) == sum(counts.anchors.values()) > 20
    assert counts.scales == tuple(scales)
    assert counts.images == len(samples)
    assert sum(counts.faces) > 20


def test_larger_crops_make_smaller_faces(samples):
    small = count(samples, replace(CONFIG, crop_sides=(0.5, 1.0)), ANCHORS, ATSS(), images=60)
    large = count(
        samples, replace(CONFIG, crop_sides=(0.5, 1.0, 1.5, 2.0)), ANCHORS, ATSS(), images=60
    )
    below = face_scales().index("32-64")
    assert sum(large.faces[:below]) > sum(small.faces[:below])
    assert large.anchors[16] > small.anchors[16]
    assert sum(large.faces[below + 1 :]) < sum(small.faces[below + 1 :])


def test_anchor_crops_and_matching_bring_faces_near_anchors(samples):
    """DSFD's figures 4 and 5: nearer to an anchor's size, and more anchors a face."""
    alone = []
    for sample in samples:  # one face each, as high as faces are
        (x1, y1, x2, _), *_ = sample.boxes
        box = np.array([[x1, y1, x2, y1 + 1.4 * (x2 - x1)]], np.float32)
        alone.append(Sample(sample.name, sample.path, box, ignore=sample.ignore[:1]))
    shares, means = [], []
    near = [n for n, scale in enumerate(fine_scales()) if np.log2(scale) % 1 in (0, 0.125, 0.875)]
    for name in ("dsfd-r101-fem", "dsfd-r101-fem-iam"):
        recipe = recipes.get(name)
        grid = AnchorGrid(recipe.network.strides, recipe.network.sizes, None)
        anchors = grid([(640 // stride,) * 2 for stride in grid.strides])
        assigner = recipe.criterion.assigner.build()
        counts = count(alone, recipe.augment, anchors, assigner, images=100)
        assert set(counts.anchors) == {16, 32, 64, 128, 256, 512}
        shares.append(sum(counts.scales[n] for n in near) / sum(counts.scales))
        means.append(sum(counts.matched) / sum(counts.faces))
    assert shares[1] > shares[0] + 0.1
    assert min(means) > 1


def test_unmatched_faces_are_the_tiny_ones(samples):
    counts = count(
        samples, replace(CONFIG, crop_sides=(6.0,), min_face=0.0), ANCHORS, ATSS(), images=24
    )
    assert 0 < sum(counts.unmatched) <= sum(counts.faces)
    assert sum(counts.unmatched[3:]) == 0


def test_an_unreadable_image_is_passed_over(samples, tmp_path):
    broken = Sample("broken.png", tmp_path / "broken.png", np.zeros((0, 4)))
    assert count([broken, *samples], CONFIG, ANCHORS, ATSS()).images == len(samples) + 1
    with pytest.raises(DataError, match="none of the 1"):
        count([broken], CONFIG, ANCHORS, ATSS())


def test_crops_of_many_sizes_are_not_counted(samples):
    with pytest.raises(DataError, match="only square"):
        count(samples, replace(CONFIG, crop="resized"), ANCHORS, ATSS())


def test_the_scales_have_a_word_each():
    assert face_scales()[0] == "<4"
    assert face_scales()[-1] == ">=512"
    assert len(face_scales()) == len(FACE_BINS) + 1


def test_a_face_is_as_large_as_its_longer_side(shared):
    """Fig. 3 of the paper: hard faces below 8, 16, 32 pixels with the image's long side at 640."""
    reference = shared / "data" / "wider_reference"
    truth = wider.read_ground_truth(reference / "ground_truth")
    lines = (reference / "labelv2_val_boxes_only.txt").read_text().splitlines()
    headers = [line.split() for line in lines if line.startswith("#")]
    long_sides = {name.rpartition(".")[0]: max(int(w), int(h)) for _, name, w, h in headers}
    scales = np.concatenate(
        [
            (boxes[kept, 2:] - boxes[kept, :2]).max(1, initial=-np.inf) * 640 / long_sides[name]
            for name, boxes, kept in zip(
                truth.names, truth.boxes, truth.subsets["hard"], strict=True
            )
        ]
    )
    below = [round(100 * float((scales < limit).mean()), 2) for limit in (8, 16, 32)]
    assert below == [13.36, 51.85, 78.93]
