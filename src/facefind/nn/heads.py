"""Heads: neck maps -> one score, box and set of points for each anchor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from facefind.nn.layers import ConvNormAct, DepthwiseSeparable, Norm, Scale


class HeadOutput(NamedTuple):
    """Raw outputs of a dense head over all levels.

    Attributes:
        logits: (B,A) face logits.
        distances: (B,A,4) left, top, right, bottom in strides.
        offsets: (B,A,5,2) points relative to the anchor's centre in strides, or None.
    """

    logits: Tensor
    distances: Tensor
    offsets: Tensor | None


class TowerHead(nn.Module):
    """A tower of 3x3 convolutions a level, feeding classification, box and point outputs.

    Args:
        inputs: channels of the neck.
        width: channels of the tower.
        depth: convolutions in the tower.
        levels: number of pyramid levels.
        anchors_per_cell: anchors on each cell.
        norm: normalisation in the tower.
        depthwise: depthwise-separable convolutions in the tower.
        shared: one tower and one set of outputs serve all levels, instead of one a level.
        scales: a learnt scalar a level multiplies the box output.
        landmarks: whether five points are regressed.

    Source: SCRFD, sec. 5.1 (sharing and group normalisation as in FCOS).
    Differs: the authors' models with points use batch normalisation and unshared levels.
    """

    def __init__(
        self,
        inputs: int,
        width: int,
        depth: int,
        *,
        levels: int,
        anchors_per_cell: int,
        norm: Norm,
        depthwise: bool,
        shared: bool,
        scales: bool,
        landmarks: bool,
    ) -> None:
        super().__init__()
        self.levels, self.shared = levels, shared
        copies = 1 if shared else levels
        block = DepthwiseSeparable if depthwise else ConvNormAct
        self.towers = nn.ModuleList(
            nn.Sequential(
                *(block(inputs if i == 0 else width, width, norm=norm) for i in range(depth))
            )
            for _ in range(copies)
        )

        def outputs(channels: int) -> nn.ModuleList:
            return nn.ModuleList(
                nn.Conv2d(width, channels * anchors_per_cell, 3, padding=1) for _ in range(copies)
            )

        self.cls, self.reg = outputs(1), outputs(4)
        self.kps = outputs(10) if landmarks else None
        self.scales = nn.ModuleList(Scale() for _ in range(levels)) if scales else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Normal(0, 0.01) weights; a first guess of 1 % faces for every anchor."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.01)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for name, parameter in self.cls.named_parameters():
            if name.endswith("bias"):
                nn.init.constant_(parameter, -4.595)  # log(0.01 / 0.99)

    def forward(self, maps: Sequence[Tensor]) -> HeadOutput:
        """Outputs of all levels in the order of `Anchors`: level, row, column, anchor."""
        if len(maps) != self.levels:
            raise ValueError(f"the head was given {len(maps)} maps; it was built for {self.levels}")
        logits, distances, offsets = [], [], []
        for level, x in enumerate(maps):
            copy = 0 if self.shared else level
            x = self.towers[copy](x)
            logits.append(_by_anchor(self.cls[copy](x), 1).squeeze(-1))
            box = self.reg[copy](x)
            distances.append(_by_anchor(self.scales[level](box) if self.scales else box, 4))
            if self.kps is not None:
                offsets.append(_by_anchor(self.kps[copy](x), 10))
        return HeadOutput(
            torch.cat(logits, 1),
            torch.cat(distances, 1),
            torch.cat(offsets, 1).reshape(*logits[0].shape[:1], -1, 5, 2) if offsets else None,
        )


class LinearHead(nn.Module):
    """A 1x1 convolution a level for each kind of output, on maps that context modules have made.

    Args:
        inputs: channels of the maps.
        outputs: numbers an anchor by name, as {"box": 4}.
        levels: number of pyramid levels.
        anchors_per_cell: anchors on each cell.
        shared: one set of convolutions serves all levels, instead of one a level.

    Source: RetinaFace, sec. 4.2 (Loss Head).
    """

    def __init__(
        self,
        inputs: int,
        outputs: Mapping[str, int],
        *,
        levels: int,
        anchors_per_cell: int,
        shared: bool,
    ) -> None:
        super().__init__()
        self.outputs, self.levels = dict(outputs), levels
        copies = 1 if shared else levels
        for name, values in outputs.items():
            convs = [nn.Conv2d(inputs, values * anchors_per_cell, 1) for _ in range(copies)]
            for conv in convs:
                nn.init.normal_(conv.weight, std=0.01)
                nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
            self.add_module(name, nn.ModuleList(convs))

    def forward(self, maps: Sequence[Tensor]) -> dict[str, Tensor]:
        """Outputs (B,A,values) by name, in the order of `Anchors`: level, row, column, anchor."""
        if len(maps) != self.levels:
            raise ValueError(f"the head was given {len(maps)} maps; it was built for {self.levels}")
        found = {}
        for name, values in self.outputs.items():
            convs = self.get_submodule(name)
            assert isinstance(convs, nn.ModuleList)
            levels = [
                _by_anchor(convs[level % len(convs)](x), values) for level, x in enumerate(maps)
            ]
            found[name] = torch.cat(levels, 1)
        return found


def _by_anchor(x: Tensor, values: int) -> Tensor:
    """(B,anchors*values,H,W) -> (B,H*W*anchors,values)."""
    return x.permute(0, 2, 3, 1).reshape(x.shape[0], -1, values)
