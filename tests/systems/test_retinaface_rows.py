"""Every RetinaFace: anchors and counts."""

import dataclasses

import pytest
import torch

from facefind.nn.anchors import AnchorGrid
from facefind.nn.cost import measure
from facefind.systems.retinaface import (
    PAPER_SIZES,
    PAPER_STRIDES,
    ROWS,
    THREE_SIZES,
    THREE_STRIDES,
    RetinaFaceConfig,
)

# Parameters, and multiply-adds of convolutions at 640x480, deformable ones included.
COUNTS = {
    "retinaface-r152": (69_442_724, 108_482_108_160),
    "retinaface-r101": (53_799_076, 85_754_223_360),
    "retinaface-r50": (34_806_948, 63_026_338_560),
    "retinaface-r152-context": (68_392_274, 102_341_990_400),
    "retinaface-r152-dcn": (69_435_014, 108_285_653_760),
    "retinaface-mobile": (423_408, 730_329_600),
    "retinaface-r50-released": (27_293_600, 33_198_489_600),
    "retinaface-mobile-released": (426_608, 735_859_200),
    "retinaface-r50-authors": (27_293_600, 33_198_489_600),
    "retinaface-mobile-authors": (426_608, 735_859_200),
}


@pytest.mark.parametrize("row", list(ROWS))
def test_counts(row):
    with torch.device("meta"):
        cost = measure(ROWS[row].build(), 480, 640)
    assert (cost.parameters, cost.multiply_adds) == COUNTS[row]
    assert sum(part["multiply_adds"] for part in cost.parts.values()) == cost.multiply_adds


def test_the_paper_s_network_has_the_paper_s_size():
    """Section 4.8 says 262 MB; the pieces that the text names make 265 (2^20 bytes)."""
    assert COUNTS["retinaface-r152"][0] * 4 / 2**20 == pytest.approx(262, rel=0.015)


def test_table_2():
    sizes = [(640 // stride, 640 // stride) for stride in PAPER_STRIDES]
    anchors = AnchorGrid(PAPER_STRIDES, PAPER_SIZES)(sizes)
    assert sum(anchors.per_level) == 102_300
    assert anchors.per_level[0] / 102_300 == pytest.approx(0.75, abs=0.001)
    table = [
        [16, 20.16, 25.40],
        [32, 40.32, 50.80],
        [64, 80.63, 101.59],
        [128, 161.26, 203.19],
        [256, 322.54, 406.37],
    ]
    for ours, theirs in zip(PAPER_SIZES, table, strict=True):
        assert ours == pytest.approx(theirs, abs=0.01)  # some are cut off there, not rounded


@pytest.mark.parametrize(
    ("row", "anchors"), [("retinaface-r50", 102_300), ("retinaface-mobile", 16_800)]
)
def test_anchors_of_the_networks(row, anchors):
    with torch.device("meta"):
        outputs = ROWS[row].build().eval()(torch.zeros(1, 3, 640, 640))
    assert outputs.logits.shape == (1, anchors, 2)
    assert outputs.boxes.shape == (1, anchors, 4)
    assert outputs.landmarks.shape == (1, anchors, 5, 2)
    assert len(outputs.anchors) == len(outputs.anchors.sizes) == anchors


def test_anchors_are_centered_on_cells_or_where_the_authors_put_them():
    def first_centers(row):
        with torch.device("meta"):
            network = ROWS[row].build()
        anchors = network.anchors([(1, 1)] * len(network.strides))
        return sorted({center[0] for center in anchors.centers.tolist()})

    assert first_centers("retinaface-r50") == [2, 4, 8, 16, 32]
    assert first_centers("retinaface-mobile-released") == [4, 8, 16]
    assert first_centers("retinaface-r50-authors") == [8]  # the middle of the pixels 0 to 15


@pytest.mark.parametrize(
    "change",
    [
        {"strides": (8, 16, 32)},  # with the sizes of five levels
        {"strides": (8, 16), "sizes": THREE_SIZES[:2]},
        {"strides": (16, 8, 32), "sizes": THREE_SIZES},
        {"strides": THREE_STRIDES, "sizes": ((16.0,), (64.0, 128.0), (256.0, 512.0))},
    ],
)
def test_levels_that_do_not_fit_are_refused(change):
    with pytest.raises(ValueError, match="expected"):
        dataclasses.replace(RetinaFaceConfig(), **change).build()
