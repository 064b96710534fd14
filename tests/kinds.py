"""One network of each kind of every system, small enough for tests that are run on all of them."""

from dataclasses import replace

import torch

from facefind.learn.criterion import Criterion
from facefind.learn.criterion_config import AssignerConfig, CriterionConfig
from facefind.learn.recipe import NetworkConfig
from facefind.learn.targets import BatchTargets, Target
from facefind.systems import SYSTEMS, asfd, retinaface, scrfd, smallhardface

SCRFD = {
    row: scrfd.FAMILY[row]  # depthwise and basic, with and without points, and a bottleneck
    for row in ("scrfd-500m", "scrfd-500m-kps", "scrfd-2.5g", "scrfd-2.5g-kps", "scrfd-34g-kps")
} | {"scrfd-simota": scrfd.FAMILY["scrfd-500m-kps"]}

_MOBILE = retinaface.ROWS["retinaface-mobile"]
RETINAFACE = {
    "retinaface-paper": _MOBILE,
    "retinaface-released": retinaface.ROWS["retinaface-mobile-released"],
    "retinaface-authors": retinaface.ROWS["retinaface-mobile-authors"],
    "retinaface-no-landmarks": replace(_MOBILE, landmarks=False),
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
    "smallhardface-released": replace(_ROWS["smallhardface"], **_VGG),
    "smallhardface-single": replace(_ROWS["smallhardface-single"], **_VGG),
    "smallhardface-three": replace(_ROWS["smallhardface-three"], **_VGG),
    "smallhardface-light": replace(_ROWS["smallhardface-light"], **_SMALL),
    "smallhardface-mobile": replace(_ROWS["smallhardface-light"], **_MOBILENET, **_SMALL),
    "smallhardface-resnet": replace(_ROWS["smallhardface-three"], **_RESNET, **_SMALL, norm=True),
}

ASFD = {
    "asfd-d0": asfd.ROWS["asfd-d0"],
    "asfd-cpm": replace(asfd.ROWS["asfd-d0-cpm"], width=12, cosine=16.0, repeats=2),
}

KINDS: dict[str, NetworkConfig] = {**SCRFD, **RETINAFACE, **SMALLHARDFACE, **ASFD}
KINDS |= {
    name: row
    for system, where in SYSTEMS.items()
    if system not in {config.system for config in KINDS.values()}
    for name, row in where.rows.items()
    if name.endswith("-light")
}
"""Networks by name; of a system that has none above, the rows called `-light`."""

CRITERIA: dict[str, CriterionConfig] = {
    "scrfd-simota": replace(scrfd.CRITERION, assigner=AssignerConfig(kind="simota")),
    "retinaface-released": retinaface.RELEASED_CRITERION,
    "retinaface-authors": retinaface.authors_criterion(16, 1.0),
    "smallhardface-released": replace(smallhardface.CRITERION, inclusive_pixels=True),
}
"""What networks learn where it is not their system's own criterion."""


def criterion(kind: str, network) -> Criterion:
    """The criterion of one of `KINDS`."""
    system = SYSTEMS[KINDS[kind].system]
    own = next(iter(system.recipes.values()))().criterion
    return CRITERIA.get(kind, own).build(network)


def packed(targets: list[Target], size: tuple[int, int] = (96, 96)) -> BatchTargets:
    """Targets of single images of one size as a batch's."""
    return BatchTargets.from_images(targets, size)


def target(boxes, ignore=()) -> Target:
    """Faces without landmarks, and ignored regions, from lists or tensors of boxes."""
    faces, regions = (torch.as_tensor(b).reshape(-1, 4).float() for b in (boxes, ignore))
    return Target(faces, torch.full((len(faces), 5, 2), torch.nan), regions)


def assigned(assigner, anchors, boxes, size: tuple[int, int] = (128, 128)):
    """The face of each anchor (A,) in one image with the faces `boxes`."""
    return assigner.assign(anchors, packed([target(boxes)], size)).face[0]


FACE = Target(
    boxes=torch.tensor([[20.0, 20, 52, 56]]),
    landmarks=torch.tensor([[[30.0, 30], [44, 30], [37, 38], [31, 46], [43, 46]]]),
    ignore=torch.zeros(0, 4),
)
"""A face with points in an image of 96 x 96."""
