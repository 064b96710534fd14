"""The published ASFD and our `asfd-d2`: names and weights, both ways.

ASFD's authors released the code of one size alone, as DSFDv2 on ResNet-18. What a file holds for
training alone, by `auxiliary` in its name, is left out, as in that code.
"""

from __future__ import annotations

from facefind.interop.renaming import Published, normalized
from facefind.nn.genotypes import RELEASED_PYRAMID

__all__ = ["D2", "FORMATS"]

_HEADS = {"loc": "box", "conf": "cls"}


def _modules() -> dict[str, str]:
    """Our module by that of the released network."""
    found = {"stem_layer.0": "backbone.conv1", "stem_layer.1": "backbone.bn1"}
    found |= {f"layer{number}.0": f"backbone.layer{number}" for number in (1, 2, 3, 4)}
    pairs = {
        f"layer{number + 5}.{half}": (f"extension.0.stages.{number}", 3 * half)
        for number in (0, 1)
        for half in (0, 1)
    }
    pairs |= {f"latlayer{level + 1}": (f"extension.1.{level}", 0) for level in range(6)}
    found |= normalized(pairs)
    for level, node in enumerate(RELEASED_PYRAMID.nodes):
        at = f"bi_fpn.0.layers.conv{level + 1}"
        found[f"bi_fpn.0.layers.out_layers.{level}"] = f"neck.outputs.{level}"
        found[f"bi_fpn.0.layers.w{level + 1}"] = f"neck.sums.{level}.weight"
        for place, (_, source) in enumerate(node):
            way = "" if source == level else "_td" if source > level else "_du"
            found[f"{at}{way}.op"] = f"neck.edges.{level}.{place}"
        for theirs, ours in _HEADS.items():
            found[f"{theirs}_layers.{level}.layers.0"] = f"head.{ours}.{level}.0"
            found[f"{theirs}_head.{level}"] = f"head.{ours}.{level}.2"
    return found


D2 = Published(
    row="asfd-d2",
    modules=_modules(),
    first="backbone.conv1.weight",
    about="the authors' DSFDv2 on ResNet-18, which is D2, .pth",
    license="MIT, as its repository states; trained on WIDER FACE, for research",
    ignored="auxiliary",
    signature=("bi_fpn.0.layers.w1", "latlayer6.conv.weight", "conf_layers.0.layers.0.weight"),
)
FORMATS = (D2.format,)
"""The kinds of published ASFDs that are read here."""
