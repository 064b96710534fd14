"""Extension: the coarser maps that a detector of many levels needs beyond its backbone's."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from facefind.nn.layers import xavier


class Extension(nn.Module):
    """Backbone maps -> the same maps and coarser ones, each half the size of the last.

    A coarser map is made by a 1x1 and a 3x3 convolution of stride 2, each normalized, where there
    is normalization, and rectified.

    Args:
        inputs: channels of the backbone's maps.
        blocks: channels of the two convolutions of each further map.
        norm: batch normalization after the convolutions.
        fc_width: channels of `vgg_fc`, which makes the first of the coarser maps; 0: none.

    Source: S3FD (arXiv:1708.05237), sec. 3.1, for VGG; the released code of DSFD for ResNets.
    """

    def __init__(
        self,
        inputs: Sequence[int],
        blocks: Sequence[tuple[int, int]],
        *,
        norm: bool,
        fc_width: int = 0,
    ) -> None:
        super().__init__()
        self.fc = vgg_fc(inputs[-1], fc_width) if fc_width else None
        widths = [*inputs, *([fc_width] if fc_width else [])]
        stages = []
        for inner, outputs in blocks:
            layers: list[nn.Module] = []
            shapes = ((widths[-1], inner, 1, 1), (inner, outputs, 3, 2))
            for before, after, kernel, stride in shapes:
                layers.append(nn.Conv2d(before, after, kernel, stride, kernel // 2))
                layers += [nn.BatchNorm2d(after)] * norm
                layers.append(nn.ReLU(inplace=True))
            stages.append(nn.Sequential(*layers))
            widths.append(outputs)
        self.stages = nn.ModuleList(stages)
        self.widths = tuple(widths)
        xavier(self)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """All maps, fine to coarse."""
        found = list(maps)
        if self.fc is not None:
            found.append(self.fc(found[-1]))
        for stage in self.stages:
            found.append(stage(found[-1]))
        return found


def vgg_fc(inputs: int, width: int, dilation: int = 3) -> nn.Sequential:
    """VGG's two fully connected layers as convolutions, after its last pool: half the size.

    Source: S3FD (arXiv:1708.05237), sec. 3.1, after SSD (arXiv:1512.02325), sec. 3.
    Differs: no paper gives the dilation; S3FD's and PyramidBox's codes have 6, the released code of
    DSFD none, its widely used port 3, as here.
    """
    return nn.Sequential(
        nn.MaxPool2d(2, 2),
        nn.Conv2d(inputs, width, 3, padding=dilation, dilation=dilation),
        nn.ReLU(inplace=True),
        nn.Conv2d(width, width, 1),
        nn.ReLU(inplace=True),
    )
