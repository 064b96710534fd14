"""The pyramids of SmallHardFace: the paper's rule, the released one, and what each set is given."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from facefind import protocols
from facefind.datasets import Sample
from facefind.detector import FaceDetector
from facefind.evaluation import voc
from facefind.faces import Faces
from facefind.nms import box_voting
from facefind.protocols import PROTOCOLS, ShortSide
from facefind.runtimes import Candidates, Card

# Heights and widths shown of an image of 4:3 and one of 16:9, by hand.
WIDE = (1080, 1920)
PAPER = {
    (768, 1024): [(100, 133), (300, 400), (600, 800), (1000, 1333), (1400, 1867)],
    WIDE: [(100, 178), (300, 533), (600, 1067), (1000, 1778), (1400, 2489)],
    (1920, 1080): [(178, 100), (533, 300), (1067, 600), (1778, 1000), (2489, 1400)],
}
# Where the long side would exceed 1.5 of the named short side, it is that long.
RELEASED = PAPER | {
    WIDE: [(84, 150), (253, 450), (506, 900), (844, 1500), (1181, 2100)],
    (1920, 1080): [(150, 84), (450, 253), (900, 506), (1500, 844), (2100, 1181)],
}


@pytest.mark.parametrize(("name", "table"), [("", PAPER), ("-released", RELEASED)])
@pytest.mark.parametrize("image", list(PAPER))
def test_five_scales_each_also_mirrored(name, table, image):
    views = protocols.get(f"smallhardface{name}").views(image)
    assert [view.size for view in views[::2]] == table[image]
    assert [view.mirrored for view in views] == [False, True] * 5
    assert all(
        view.min_size is view.max_size is None for view in views
    )  # every pass gives every size


def test_tables_3_and_4_take_scales_or_mirrored_passes_away():
    whole = PROTOCOLS["smallhardface"]
    fewer = protocols.get("smallhardface:600,1000,1400")
    assert (fewer.sizes, fewer.flip) == (whole.sizes[2:], True)
    alone = protocols.get("smallhardface:no-flip")
    assert (alone.sizes, alone.flip) == (whole.sizes, False)


@pytest.mark.parametrize(
    ("name", "sides", "flip"),
    [
        ("smallhardface-fddb", [50, 190, 390], True),
        ("smallhardface-afw", [50, 100, 200, 400, 600], True),
        ("smallhardface-pascal", [100, 300], False),
    ],
)
def test_other_sets_have_their_own_scales(name, sides, flip):
    rules = PROTOCOLS[name]
    assert rules.sizes == tuple(ShortSide(side, side * 3 // 2) for side in sides)
    assert rules.flip == flip
    assert (rules.min_score, rules.voting, rules.singletons) == (0.05, 0.4, "last")
    assert (rules.plus_one, rules.rounding, rules.pass_candidates) == (True, None, 10_000)
    assert len(rules.views(WIDE)) == len(sides) * (2 if flip else 1)


def test_voting_by_hand_with_and_without_single_boxes():
    """Two that agree, a single, and a single that is the very last of all."""
    boxes = np.array(
        [[10, 10, 30, 30], [12, 10, 32, 30], [100, 100, 120, 120], [200, 0, 220, 20]], float
    )
    scores = np.array([0.9, 0.6, 0.8, 0.1])
    rules = PROTOCOLS["smallhardface"]
    assert rules.voting is not None
    kept = box_voting(boxes, scores, rules.voting)
    np.testing.assert_allclose(kept.boxes[0], [10.8, 10, 30.8, 30])
    assert kept.scores.tolist() == [0.9, 0.8, 0.1]
    dropped = box_voting(
        boxes, scores, rules.voting, drop_singletons=True, keep_last_singleton=True, plus_one=True
    )
    np.testing.assert_allclose(dropped.boxes, [[10.8, 10, 30.8, 30], [200, 0, 220, 20]])
    assert (PROTOCOLS["smallhardface-released"].singletons, rules.singletons) == ("last", "all")


def test_a_mirrored_box_goes_back_by_the_width():
    """x -> w - x, and not w - x - 1."""

    class Corner:
        name, precision, threads, provider = "corner", "fp32", 1, "none"
        card = Card(name="corner", system="smallhardface", strides=(8,), size_multiple=16)

        def __init__(self) -> None:
            self.shapes: list[tuple[int, ...]] = []

        def __call__(self, images: np.ndarray) -> Candidates:
            self.shapes.append(images.shape)
            box = np.array([[[0.0, 0.0, 20.0, 20.0]]], np.float32)
            return Candidates(
                np.repeat(box, len(images), 0), np.full((len(images), 1), 0.9, np.float32)
            )

    corner = Corner()
    rules = protocols.TestProtocol(name="p", sizes=(ShortSide(50),), flip=True, voting=0.4)
    faces = FaceDetector(corner, protocol=rules).detect(np.zeros((50, 90, 3), np.uint8))
    assert sorted(faces.boxes.tolist()) == [[0, 0, 20, 20], [70, 0, 90, 20]]
    assert all(h % 16 == 0 and (h, w) == (64, 96) for _, _, h, w in corner.shapes)


def test_afw_and_pascal_lower_each_box_s_top_by_a_fifth():
    found = np.array([[40.0, 20, 120, 120]], np.float32)
    truth = np.array([[40.0, 72, 120, 120]], np.float32)  # IoU 0.48 as found, 0.6 once lowered
    faces = {"a": Faces(boxes=found, scores=np.ones(1, np.float32), image_size=(200, 200))}
    samples = [Sample(name="a", path=Path("a.jpg"), boxes=truth, ignore=np.zeros(1, bool))]
    assert voc.evaluate(faces, samples, refits=0).ap == 0
    assert voc.evaluate(faces, samples, refits=0, top_shift=0.2).ap == 1
