"""One network of each kind of every system, small enough for tests that are run on all of them."""

from dataclasses import replace

import torch

from facefind.learn.recipe import NetworkConfig
from facefind.learn.targets import Target
from facefind.systems import retinaface, scrfd, smallhardface

SCRFD = {
    row: scrfd.FAMILY[row]  # depthwise and basic, with and without points, and a bottleneck
    for row in ("scrfd-500m", "scrfd-500m-kps", "scrfd-2.5g", "scrfd-2.5g-kps", "scrfd-34g-kps")
} | {"scrfd-simota": replace(scrfd.FAMILY["scrfd-500m-kps"], assigner="simota")}

_MOBILE = retinaface.ROWS["retinaface-mobile"]
RETINAFACE = {
    "retinaface-paper": _MOBILE,
    "retinaface-released": retinaface.ROWS["retinaface-mobile-released"],
    "retinaface-authors": retinaface.ROWS["retinaface-mobile-authors"],
    "retinaface-no-points": replace(_MOBILE, landmarks=False),
    # The parts of the large networks on the small backbone: five levels, deformable, one head.
    "retinaface-five-levels": replace(
        retinaface.ROWS["retinaface-r152"],
        backbone="mobilenet-0.25",
        width=16,
        stride4_score_scale=0.5,
    ),
}

_ROWS = smallhardface.ROWS
_SMALL = {"reduced": 8, "fused": 12, "head": 8}
_VGG = {"depths": (1, 1, 1, 1, 1), "widths": (4, 4, 4, 8, 8)} | _SMALL
_MOBILENET = {"block": "depthwise", "stem": (4, 4), "depths": (1, 1, 1), "widths": (4, 8, 8)}
_RESNET = {"block": "bottleneck", "stem": (8,), "depths": (1, 1, 1), "widths": (4, 4, 4)}
SMALLHARDFACE = {
    "smallhardface-full": replace(_ROWS["smallhardface"], **_VGG),
    "smallhardface-released": replace(_ROWS["smallhardface"], **_VGG, plus_one=True),
    "smallhardface-single": replace(_ROWS["smallhardface-single"], **_VGG),
    "smallhardface-three": replace(_ROWS["smallhardface-three"], **_VGG),
    "smallhardface-light": replace(_ROWS["smallhardface-light"], **_SMALL),
    "smallhardface-mobile": replace(_ROWS["smallhardface-light"], **_MOBILENET, **_SMALL),
    "smallhardface-resnet": replace(_ROWS["smallhardface-three"], **_RESNET, **_SMALL, norm=True),
}

KINDS: dict[str, NetworkConfig] = {**SCRFD, **RETINAFACE, **SMALLHARDFACE}

FACE = Target(
    boxes=torch.tensor([[20.0, 20, 52, 56]]),
    landmarks=torch.tensor([[[30.0, 30], [44, 30], [37, 38], [31, 46], [43, 46]]]),
    ignore=torch.zeros(0, 4),
)
"""A face with points in an image of 96 x 96."""
