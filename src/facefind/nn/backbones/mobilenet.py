"""MobileNetV1 with free depths and widths: SCRFD's mobile backbone."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from facefind.nn.layers import ConvNormAct, DepthwiseSeparable


class MobileNetV1(nn.Module):
    """Depthwise-separable backbone: (B,3,H,W) -> [C2, C3, C4, C5] at strides 4, 8, 16, 32.

    With fewer depths and widths the coarsest stages are left out.

    Args:
        stem: channels of the stem's 3x3 stride-2 convolution and of the separable block after it.
        depths: separable blocks in each of the stages; the first of a stage has stride 2.
        widths: channels of the stages.

    Source: SCRFD, sec. 4.2 and Fig. 8 (mobile regime); MobileNets (arXiv:1704.04861), table 1.
    """

    def __init__(self, stem: Sequence[int], depths: Sequence[int], widths: Sequence[int]) -> None:
        super().__init__()
        self.widths = tuple(widths)
        self.stem = nn.Sequential(
            ConvNormAct(3, stem[0], stride=2), DepthwiseSeparable(stem[0], stem[1])
        )
        inputs = stem[1]
        stages = []
        for depth, width in zip(depths, widths, strict=True):
            blocks = [DepthwiseSeparable(inputs, width, stride=2)]
            blocks += [DepthwiseSeparable(width, width) for _ in range(depth - 1)]
            stages.append(nn.Sequential(*blocks))
            inputs = width
        for number, stage in enumerate(stages, 1):
            self.add_module(f"layer{number}", stage)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> list[Tensor]:
        """Feature maps C2..C5 of a normalised image `x` (B,3,H,W)."""
        x = self.stem(x)
        maps = []
        for number in range(1, len(self.widths) + 1):
            x = self.get_submodule(f"layer{number}")(x)
            maps.append(x)
        return maps
