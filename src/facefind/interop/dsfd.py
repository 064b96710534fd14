"""Published DSFDs and our networks: names and weights, both ways.

Two files are known: the released ResNet-152 (`dsfd-release`) and lightDSFD (`lightdsfd`).
"""

from __future__ import annotations

from facefind.interop.renaming import Published, normalized

__all__ = ["FORMATS", "PUBLISHED"]

_CONTEXTS = ("cpm3_3", "cpm4_3", "cpm5_3", "cpm7", "cpm6_2", "cpm7_2")
_HEADS = {"loc": "box", "conf": "cls"}


def _release() -> dict[str, str]:
    """Our module by that of the released ResNet-152."""
    found = {
        "layer1.0": "backbone.conv1",
        "layer1.1": "backbone.bn1",
        "layer1.4": "backbone.layer1",
        **{f"layer{number}.0": f"backbone.layer{number}" for number in (2, 3, 4)},
        **{f"layer{number + 5}": f"extension.stages.{number}" for number in (0, 1)},
        **{f"latlayer{level + 1}": f"neck.down.{level}" for level in range(3)},
        **{f"smooth{level + 1}": f"neck.own.{level}" for level in range(3)},
    }
    for level, name in enumerate(_CONTEXTS):
        for number, view in enumerate(("first", "wide", "second", "wider", "third"), 1):
            found[f"{name}.cpm{number}"] = f"context.{level}.{view}.0"
        for theirs, ours in _HEADS.items():
            for number in range(4):
                found[f"{theirs}.{level}.conv{number + 1}"] = f"head.{ours}.{level}.{2 * number}"
    return found


def _inception(theirs: str, ours: str) -> dict[str, str]:
    branches = {
        "branch1x1": "point",
        "branch1x1_2": "mean",
        "branch3x3_reduce": "small.0",
        "branch3x3": "small.1",
        "branch3x3_reduce_2": "large.0",
        "branch3x3_2": "large.1",
        "branch3x3_3": "large.2",
    }
    return normalized({f"{theirs}.{a}": (f"{ours}.{b}", 0) for a, b in branches.items()})


def _light() -> dict[str, str]:
    """Our module by that of lightDSFD."""
    found = {"conv1": "backbone.conv1", "conv3": "backbone.conv3"}
    for number in range(1, 5):
        found |= _inception(f"inception{number}", f"backbone.inception{number}")
    stages = {
        f"conv{number + 5}_{half + 1}": (f"extension.stages.{number}", 3 * half)
        for number in (0, 1)
        for half in (0, 1)
    }
    found |= normalized(stages)
    found |= {f"smooth{level + 1}": f"neck.smooths.{level}" for level in range(3)}
    for level in range(6):
        found[f"latlayer{level + 1}"] = f"neck.laterals.{level}"
        found |= _inception(f"cpm{level + 1}", f"context.{level}")
        for theirs, ours in _HEADS.items():
            convs = {
                f"{theirs}.{level}.conv{n + 1}": (f"head.{ours}.{level}", 3 * n) for n in (0, 1)
            }
            found |= normalized(convs)
            found[f"{theirs}.{level}.conv3"] = f"head.{ours}.{level}.6"
    return found


PUBLISHED = {
    one.row: one
    for one in (
        Published(
            row="dsfd-release",
            modules=_release(),
            first="backbone.conv1.weight",
            about="the authors' DSFD on ResNet-152, .pth",
            license="Tencent's license of FaceDetection-DSFD: academic use alone; trained on WIDER "
            "FACE, for research",
            signature=("cpm3_3.cpm1.weight", "latlayer3.weight", "conf.0.conv4.weight"),
        ),
        Published(
            row="lightdsfd",
            modules=_light(),
            first="backbone.conv1.conv.weight",
            about="lightDSFD, .pth",
            license="MIT, as its repository states; trained on WIDER FACE, for research",
            signature=("cpm1.branch1x1.conv.weight", "smooth3.weight", "conf.0.conv3.weight"),
        ),
    )
}
"""The known files by our rows."""
FORMATS = tuple(one.format for one in PUBLISHED.values())
"""The kinds of published DSFDs that are read here."""
