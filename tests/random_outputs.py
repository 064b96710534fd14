"""Outputs and targets of random numbers, for tests of what a criterion makes of them."""

import torch
from kinds import packed

from facefind.learn.targets import Target
from facefind.nn.detector import DenseOutput

SIDE = 96
PARTS = ("logits", "boxes", "landmarks")


def random_output(anchors, coder, images=1, logits=1, seed=0, **extras):
    """An output of random numbers that take gradients."""
    generator = torch.Generator().manual_seed(seed)

    def numbers(*shape):
        found = 0.3 * torch.randn(images, len(anchors), *shape, generator=generator)
        return found.requires_grad_()

    return DenseOutput(
        numbers(logits),
        numbers(4),
        numbers(5, 2),
        anchors,
        coder,
        torch.full((images, 3, SIDE, SIDE), 90, dtype=torch.uint8),
        {name: numbers(count) for name, count in extras.items()},
    )


def crowd(images, faces):
    """Targets of `images`, with `faces` in all, and ignored regions."""
    generator = torch.Generator().manual_seed(faces)
    corners = 70 * torch.rand(faces, 2, generator=generator)
    sides = 6 + 60 * torch.rand(faces, 2, generator=generator)
    boxes = torch.cat([corners, corners + sides], 1)
    landmarks = corners[:, None] + sides[:, None] * torch.rand(faces, 5, 2, generator=generator)
    landmarks[::3] = torch.nan
    landmarks[1::3, 2] = torch.nan
    return packed(
        [
            Target(boxes[i::images], landmarks[i::images], boxes[i : i + faces // 9] + 9)
            for i in range(images)
        ]
    )


def maps(strides):
    return [(-(-SIDE // stride), -(-SIDE // stride)) for stride in strides]
