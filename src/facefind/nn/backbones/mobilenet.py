"""MobileNetV1 with free depths and widths: the mobile backbone of SCRFD and RetinaFace."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from facefind.nn.backbones.resnet import initialize
from facefind.nn.layers import ConvNormAct, DepthwiseSeparable


class MobileNetV1(nn.Module):
    """Depthwise-separable backbone: (B,3,H,W) -> [C2, C3, C4, C5] at strides 4, 8, 16, 32.

    With fewer depths and widths the coarsest stages are left out.

    Args:
        stem: channels of the first convolution and of the separable block after it.
        depths: separable blocks in each of the stages; the first of a stage has stride 2.
        widths: channels of the stages.
        first: kernel and stride, 2 or 4, of the first convolution; with stride 4 the first stage
            keeps its size.
        slope: of all ReLUs on their negative side.

    Source: SCRFD, sec. 4.2 and Fig. 8 (mobile regime); MobileNets (arXiv:1704.04861), table 1;
    RetinaFace, sec. 4.8 (a first convolution of 7x7 with stride 4).
    """

    def __init__(
        self,
        stem: Sequence[int],
        depths: Sequence[int],
        widths: Sequence[int],
        *,
        first: tuple[int, int] = (3, 2),
        slope: float = 0.0,
    ) -> None:
        super().__init__()
        kernel, stride = first
        if stride not in (2, 4):
            raise ValueError(f"the first stride of a MobileNetV1 must be 2 or 4, got {stride}")
        self.widths = tuple(widths)
        self.stem = nn.Sequential(
            ConvNormAct(3, stem[0], kernel, stride, slope=slope),
            DepthwiseSeparable(stem[0], stem[1], slope=slope),
        )
        inputs = stem[1]
        stages = []
        for number, (depth, width) in enumerate(zip(depths, widths, strict=True)):
            shrink = 1 if number == 0 and stride == 4 else 2
            blocks = [DepthwiseSeparable(inputs, width, shrink, slope=slope)]
            blocks += [DepthwiseSeparable(width, width, slope=slope) for _ in range(depth - 1)]
            stages.append(nn.Sequential(*blocks))
            inputs = width
        for number, stage in enumerate(stages, 1):
            self.add_module(f"layer{number}", stage)
        initialize(self)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Feature maps C2..C5 of a normalized image `x` (B,3,H,W)."""
        x = self.stem(x)
        maps = []
        for number in range(1, len(self.widths) + 1):
            x = self.get_submodule(f"layer{number}")(x)
            maps.append(x)
        return maps
