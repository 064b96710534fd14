"""Heads: neck maps -> one score, box and set of landmarks for each anchor."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from facefind.nn.layers import (
    ConvNormAct,
    CosineConv,
    DepthwiseSeparable,
    Norm,
    Scale,
    conv_relu,
    xavier,
)


class HeadOutput(NamedTuple):
    """Raw outputs of a head over all levels, in the order of `Anchors`.

    Attributes:
        logits: (B,A,1) face logits, or (B,A,2) logits of background and face.
        boxes: (B,A,4) as the detector's coder has them.
        landmarks: (B,A,5,2) as the coder has them, or None.
        extras: (B,A,...) further outputs by name.
        further: outputs for further sets of anchors, which learn beside these; in training alone.
    """

    logits: Tensor
    boxes: Tensor
    landmarks: Tensor | None = None
    extras: Mapping[str, Tensor] = MappingProxyType({})
    further: tuple[HeadOutput, ...] = ()


class TowerHead(nn.Module):
    """A tower of 3x3 convolutions a level, feeding classification, box and point outputs.

    Args:
        inputs: channels of the neck.
        width: channels of the tower.
        depth: convolutions in the tower.
        levels: number of pyramid levels.
        anchors_per_cell: anchors on each cell.
        norm: normalization in the tower.
        depthwise: depthwise-separable convolutions in the tower.
        shared: one tower and one set of outputs serve all levels, instead of one a level.
        scales: a learned scalar a level multiplies the box output.
        landmarks: whether five landmarks are regressed.

    Source: SCRFD, sec. 5.1 (sharing and group normalization as in FCOS).
    Differs: the authors' models with landmarks use batch normalization and unshared levels.
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

        self.cls, self.box = outputs(1), outputs(4)
        self.landmarks = outputs(10) if landmarks else None
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
            raise ValueError(f"the head was built for {self.levels} maps, got {len(maps)}")
        logits, boxes, landmarks = [], [], []
        for level, x in enumerate(maps):
            copy = 0 if self.shared else level
            x = self.towers[copy](x)
            logits.append(_by_anchor(self.cls[copy](x), 1))
            box = self.box[copy](x)
            boxes.append(_by_anchor(self.scales[level](box) if self.scales else box, 4))
            if self.landmarks is not None:
                landmarks.append(_by_anchor(self.landmarks[copy](x), 10))
        return HeadOutput(
            torch.cat(logits, 1),
            torch.cat(boxes, 1),
            _pairs(torch.cat(landmarks, 1)) if landmarks else None,
        )


class LinearHead(nn.Module):
    """One convolution a level for each kind of output, on maps that context modules have made.

    Args:
        inputs: channels of the maps, of all alike or of each.
        outputs: numbers an anchor by name: `cls`, `box`, perhaps `landmarks`; what has another
            name goes to `HeadOutput.extras`.
        levels: number of pyramid levels.
        anchors_per_cell: anchors on each cell.
        shared: one set of convolutions serves all levels, instead of one a level.
        kernel: of the convolutions.
        prior: probability of a face at first, where scores have one logit.
        cosine: scale of the cosines that scores are, with kernel 1 (`CosineConv`); 0: plain ones.

    Source: RetinaFace, sec. 4.2 (Loss Head), with kernel 1; SSD (arXiv:1512.02325), sec. 2.1, with
    kernel 3.
    """

    def __init__(
        self,
        inputs: int | Sequence[int],
        outputs: Mapping[str, int],
        *,
        levels: int,
        anchors_per_cell: int,
        shared: bool,
        kernel: int = 1,
        prior: float = 0.5,
        cosine: float = 0.0,
    ) -> None:
        super().__init__()
        self.outputs, self.levels, self.logit_scale = dict(outputs), levels, cosine or 1.0
        copies = 1 if shared else levels
        widths = [inputs] * copies if isinstance(inputs, int) else list(inputs)
        for name, values in outputs.items():
            if name == "cls" and cosine:
                cosines = (CosineConv(w, values * anchors_per_cell, cosine) for w in widths)
                self.add_module(name, nn.ModuleList(cosines))
                continue
            convs = [
                nn.Conv2d(width, values * anchors_per_cell, kernel, padding=kernel // 2)
                for width in widths
            ]
            for conv in convs:
                nn.init.normal_(conv.weight, std=0.01)
                start = math.log(prior / (1 - prior)) if name == "cls" else 0.0
                nn.init.constant_(conv.bias, start)  # type: ignore[arg-type]
            self.add_module(name, nn.ModuleList(convs))

    def forward(self, maps: Sequence[Tensor]) -> HeadOutput:
        """Outputs of all levels in the order of `Anchors`: level, row, column, anchor."""
        if len(maps) != self.levels:
            raise ValueError(f"the head was built for {self.levels} maps, got {len(maps)}")
        found = {}
        for name, values in self.outputs.items():
            convs = self.get_submodule(name)
            assert isinstance(convs, nn.ModuleList)
            levels = [
                _by_anchor(convs[level % len(convs)](x), values) for level, x in enumerate(maps)
            ]
            found[name] = torch.cat(levels, 1)
        logits, boxes, landmarks = found.pop("cls"), found.pop("box"), found.pop("landmarks", None)
        return HeadOutput(logits, boxes, None if landmarks is None else _pairs(landmarks), found)


class DeepHead(nn.Module):
    """Convolutions for scores and, apart from them, for boxes, with weights of their own a level.

    From the second level on there may be further sets of anchors (of heads, from the third on of
    bodies, too), whose outputs come from the same convolutions.

    Args:
        inputs: channels of the maps.
        tower: (channels, kernel) of the convolutions before the last, 1x1, one.
        levels: number of pyramid levels.
        sets: sets of anchors, one anchor a cell each; that with number n begins at level n.
        norm: batch normalization in the towers, besides their biases.
        max_in_out: the face scores of a cell are chosen from four: on the finest level the
            background's is the highest of three, on the others the face's.
        separable: all convolutions of a tower but its first are depthwise and then 1x1.
        cosine: scale of the cosines that scores are (`CosineConv`); 0: plain scores.

    Source: the released codes of DSFD, lightDSFD and DSFDv2 (separable); PyramidBox
    (arXiv:1803.07737), sec. 3.2 (max-in-out) and 3.3 (pyramid anchors).
    """

    def __init__(
        self,
        inputs: int,
        tower: Sequence[tuple[int, int]],
        *,
        levels: int,
        sets: int = 1,
        norm: bool = False,
        max_in_out: bool = False,
        separable: bool = False,
        cosine: float = 0.0,
    ) -> None:
        super().__init__()
        self.max_in_out, self.logit_scale = max_in_out, cosine or 1.0
        self.sets = [min(level + 1, sets) for level in range(levels)]

        def branch(outputs: int, scale: float = 0.0) -> nn.Sequential:
            layers: list[nn.Module] = []
            width = inputs
            for place, (channels, kernel) in enumerate(tower):
                conv = partial(nn.Conv2d, kernel_size=kernel, padding=kernel // 2)
                if separable and place:
                    layers += [conv(width, width, groups=width), nn.Conv2d(width, channels, 1)]
                else:
                    layers.append(conv(width, channels))
                layers += [nn.BatchNorm2d(channels)] * norm
                layers.append(nn.ReLU(inplace=True))
                width = channels
            last = CosineConv(width, outputs, scale) if scale else nn.Conv2d(width, outputs, 1)
            return nn.Sequential(*layers, last)

        self.box = nn.ModuleList(branch(4 * count) for count in self.sets)
        self.cls = nn.ModuleList(branch(2 * count + 2 * max_in_out, cosine) for count in self.sets)
        xavier(self)

    def forward(self, maps: Sequence[Tensor]) -> HeadOutput:
        """Outputs in the order of `Anchors`; those of further sets in training alone."""
        boxes: list[list[Tensor]] = [[] for _ in range(max(self.sets))]
        logits: list[list[Tensor]] = [[] for _ in boxes]
        for level, (x, box, cls) in enumerate(zip(maps, self.box, self.cls, strict=True)):
            scores = cls(x)
            if self.max_in_out:
                most, other = scores[:, :3].amax(1, keepdim=True), scores[:, 3:4]
                pair = [other, most] if level else [most, other]
                scores = torch.cat([*pair, scores[:, 4:]], 1)
            numbers = box(x)
            for number in range(self.sets[level] if self.training else 1):
                boxes[number].append(_by_anchor(numbers[:, 4 * number : 4 * number + 4], 4))
                logits[number].append(_by_anchor(scores[:, 2 * number : 2 * number + 2], 2))
        found = [
            HeadOutput(torch.cat(some, 1), torch.cat(four, 1))
            for some, four in zip(logits, boxes, strict=True)
            if some
        ]
        return found[0]._replace(further=tuple(found[1:]))


class PlainHead(nn.Module):
    """A 3x3 convolution a map, and 1x1 convolutions for the scores and boxes of its anchors.

    Args:
        inputs: channels of each map.
        width: channels of the 3x3 convolution.
        anchors: anchors on a cell.
        norm: batch normalization after the 3x3 convolution.

    Source: the released code of SmallHardFace for Baseline-Single; the paper only draws it.
    """

    def __init__(self, inputs: Sequence[int], width: int, anchors: int, *, norm: bool) -> None:
        super().__init__()
        self.convs = nn.ModuleList(conv_relu(channels, width, 3, norm=norm) for channels in inputs)
        self.cls = nn.ModuleList(nn.Conv2d(width, 2 * anchors, 1) for _ in inputs)
        self.box = nn.ModuleList(nn.Conv2d(width, 4 * anchors, 1) for _ in inputs)

    def forward(self, maps: Sequence[Tensor]) -> HeadOutput:
        """Outputs in the order of `Anchors`: level, row, column, anchor."""
        logits, deltas = [], []
        for x, conv, cls, box in zip(maps, self.convs, self.cls, self.box, strict=True):
            x = conv(x)
            # Scores come class by class, boxes anchor by anchor.
            scores = cls(x).unflatten(1, (2, -1)).permute(0, 3, 4, 2, 1)
            logits.append(scores.reshape(x.shape[0], -1, 2))
            deltas.append(box(x).permute(0, 2, 3, 1).reshape(x.shape[0], -1, 4))
        return HeadOutput(torch.cat(logits, 1), torch.cat(deltas, 1))


class DilatedHead(nn.Module):
    """One 3x3 convolution run with several dilations, one for each size of anchor.

    A face and its surroundings thus meet the same weights whatever its size. Normalization, where
    there is any, and the outputs are each branch's own.

    Args:
        inputs: channels of the map.
        width: channels to which the map is brought first, and of the shared convolution.
        dilations: one for each anchor on a cell.
        norm: batch normalization after the 3x3 convolutions.

    Source: SmallHardFace, sec. 3.1, fig. 3.
    Differs: the paper says "dimension reduction" alone; the code's is a 3x3 convolution, which its
    parameters bear out, and so is ours.
    """

    def __init__(self, inputs: int, width: int, dilations: Sequence[int], *, norm: bool) -> None:
        super().__init__()
        self.dilations = tuple(dilations)
        self.reduce = conv_relu(inputs, width, 3, norm=norm)
        self.shared = SharedConv(width, width, 3, bias=not norm)
        self.norms = nn.ModuleList(
            nn.BatchNorm2d(width) if norm else nn.Identity() for _ in dilations
        )
        self.cls = nn.ModuleList(nn.Conv2d(width, 2, 1) for _ in dilations)
        self.box = nn.ModuleList(nn.Conv2d(width, 4, 1) for _ in dilations)

    def forward(self, maps: Sequence[Tensor]) -> HeadOutput:
        """Outputs in the order of `Anchors`: row, column, anchor."""
        (x,) = maps
        x = self.reduce(x)
        logits, deltas = [], []
        for dilation, norm, cls, box in zip(
            self.dilations, self.norms, self.cls, self.box, strict=True
        ):
            seen = functional.relu(norm(self.shared(x, dilation)))
            logits.append(cls(seen).permute(0, 2, 3, 1))
            deltas.append(box(seen).permute(0, 2, 3, 1))
        batch = x.shape[0]
        return HeadOutput(
            torch.stack(logits, 3).reshape(batch, -1, 2),
            torch.stack(deltas, 3).reshape(batch, -1, 4),
        )


class SharedConv(nn.Conv2d):
    """A convolution whose dilation is chosen at each call, padded so that maps keep their size."""

    def forward(self, x: Tensor, dilation: int = 1) -> Tensor:
        """(B,C,H,W) -> (B,out,H,W)."""
        reach = dilation * (self.kernel_size[0] // 2)
        return functional.conv2d(x, self.weight, self.bias, 1, reach, dilation)


def _by_anchor(x: Tensor, values: int) -> Tensor:
    """(B,anchors*values,H,W) -> (B,H*W*anchors,values)."""
    return x.permute(0, 2, 3, 1).reshape(x.shape[0], -1, values)


def _pairs(x: Tensor) -> Tensor:
    """(B,A,10) -> (B,A,5,2)."""
    return x.reshape(*x.shape[:2], 5, 2)
