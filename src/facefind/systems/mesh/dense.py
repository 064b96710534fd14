"""The dense regression branch: 144 numbers an anchor to a rendered face, compared with the image.

Shapes: B batch, A anchors, P positive anchors, V vertices, S side of the compared crops.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from facefind import weights
from facefind.learn.criterion import Matched, rows_or_zeros
from facefind.learn.distributed import mean_over_processes
from facefind.mesh import PARAMETERS
from facefind.mesh.decoding import CAMERA, CODE, LIGHT
from facefind.systems.mesh import camera, lighting
from facefind.systems.mesh.config import MeshConfig
from facefind.systems.mesh.decoder import MeshDecoder
from facefind.systems.mesh.rasterizer import render


class Rendering(NamedTuple):
    """Faces as the branch sees them."""

    images: Tensor
    """(P,3,S,S) RGB in 0..1, not clipped; the background as given."""
    covered: Tensor
    """(P,S,S) bool."""
    screen: Tensor
    """(P,V,3): x and y in pixels of the crop, and distance from the camera."""


class DenseBranch(nn.Module):
    """Decoder, camera, light and renderer behind one another.

    Source: RetinaFace, sec. 3.2.

    Args:
        decoder: pre-trained.
        config: how it is learned.
    """

    def __init__(self, decoder: MeshDecoder, config: MeshConfig) -> None:
        super().__init__()
        self.decoder, self.config = decoder, config
        self.name = config.decoder.stem if config.decoder else weights.MESH_DECODER
        if config.landmarks and decoder.landmarks is None:
            raise ValueError(
                "the landmark term needs the vertices at the five points: pre-train the decoder "
                "with --landmarks, or set landmarks=0"
            )
        if config.frozen:
            decoder.requires_grad_(False)

    def resolve(self, raw: Tensor, boxes: Tensor) -> Tensor:
        """Parameters (...,144) in pixels and true units of predicted ones for anchors (...,4)."""
        return torch.cat(
            [
                raw[..., CODE],
                camera.resolve(raw[..., CAMERA], boxes),
                lighting.resolve(raw[..., LIGHT]),
            ],
            -1,
        )

    def render(
        self, parameters: Tensor, boxes: Tensor, size: int, background: Tensor | float = 0.0
    ) -> Rendering:
        """Faces of parameters (P,144) in pixels, in the crops of boxes (P,4), S = `size`."""
        if parameters.shape[-1] != PARAMETERS:
            raise ValueError(f"parameters must be (P,{PARAMETERS}), got {tuple(parameters.shape)}")
        faces = self.decoder(parameters[:, CODE])
        at = _in_crop(parameters[:, CAMERA], boxes, size)
        turned = camera.to_camera(faces[..., :3], at)
        screen = camera.project(turned, at)
        triangles = self.decoder.triangles
        colors = lighting.shade(
            faces[..., 3:], turned, lighting.normals(turned, triangles), parameters[:, LIGHT]
        )
        images, covered = render(screen, colors, triangles, (size, size), background)
        return Rendering(images, covered, screen)

    def losses(self, matched: Matched) -> dict[str, Tensor]:
        """The loss terms of a batch's sampled positive anchors, as `compare` gives them.

        A shot without mesh parameters, as auxiliary ones are, has none.
        """
        if "mesh" not in matched.output.extras:
            return {}
        targets, face = matched.targets, matched.face.flatten()
        visible = rows_or_zeros(targets.visible, face)[..., None]
        landmarks = rows_or_zeros(targets.landmarks, face).masked_fill(~visible, torch.nan)
        boxes = matched.anchors.boxes.expand(*matched.face.shape, 4).reshape(-1, 4)
        raw = matched.rows(matched.output.extras["mesh"]).reshape(len(face), -1)
        return self.compare(
            raw,
            boxes,
            matched.image.flatten(),
            matched.output.images,
            landmarks,
            face < len(targets.boxes),
        )

    def compare(
        self,
        raw: Tensor,
        boxes: Tensor,
        image: Tensor,
        images: Tensor,
        landmarks: Tensor,
        positive: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Loss terms, weighted: `pixel` and, where their weights are above 0, `mesh` and `prior`.

        Each is a mean over the rendered anchors of all processes, exactly 0 without any; as many
        are rendered at every step, whatever is found. Only the renderer reads from the device: how
        many pixels are covered.

        Args:
            raw: (P,144) as predicted for anchors.
            boxes: (P,4) xyxy of these anchors, squares.
            image: (P,) int64: which image of the batch each belongs to.
            images: (B,3,H,W) RGB in 0..255.
            landmarks: (P,5,2) labeled landmarks, NaN where one is not.
            positive: (P,) bool: anchors of faces; None: all.

        Source: RetinaFace, sec. 3.1 and 3.2, eq. 3: mean over the crop of the L1 distance of RGB.
        Differs: the paper says neither in which units colors are (0..255 here, in which its
        weight of .01 gives the term the size of the others), nor what the background shows (here
        the image itself, so that it adds nothing), nor that crops are resized to one size,
        limited in number, and left out where an anchor is small, which is for speed. `mesh` and
        `prior` are ours.
        """
        config = self.config
        if not len(raw):
            names = ["pixel", *["mesh"] * bool(config.landmarks), *["prior"] * bool(config.prior)]
            return dict.fromkeys(names, raw.sum())
        large = (boxes[:, 2:] - boxes[:, :2]).amin(1) >= config.min_anchor
        large = large if positive is None else large & positive
        chosen, counted = spread(large, config.max_anchors)
        raw, boxes, image, landmarks = (t[chosen] for t in (raw, boxes, image, landmarks))

        def mean(values: Tensor, weights: Tensor) -> Tensor:
            values = torch.where(weights > 0, values, 0.0) * weights
            return values.sum() / mean_over_processes(weights.sum()).clamp(min=1e-6)

        with torch.no_grad():
            goal, within = crops(images, image, boxes, config.size)
        shown = self.render(self.resolve(raw.float(), boxes), boxes, config.size)
        covered = (shown.covered & within).float()
        gap = ((255 * shown.images - goal).abs().sum(1) * covered).sum((1, 2))
        pixels = config.size**2 if config.mean == "crop" else covered.sum((1, 2)).clamp(min=1)
        terms = {"pixel": config.pixel * mean(gap / pixels, counted)}
        if config.landmarks:
            side = (boxes[:, 2:] - boxes[:, :2]).mean(1)
            target = (landmarks - boxes[:, None, :2]) / side[:, None, None]
            known = target.isfinite().all(-1)
            landmark = shown.screen[:, self.decoder.landmarks, :2] / config.size
            far = functional.smooth_l1_loss(
                landmark, target.nan_to_num(), beta=1 / 9, reduction="none"
            )
            # A face's landmarks count together as one.
            far_of = mean(far.sum(-1), known * counted[:, None]) * known.shape[1]
            terms["mesh"] = config.landmarks * far_of
        if config.prior:
            codes = raw[:, CODE].float().square().mean(1)
            terms["prior"] = config.prior * mean(codes, counted)
        return terms


def spread(mask: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Indices (N,) of at most N of those masked, evenly spread, and whether each is real, 0 or 1.

    N is `most`, or P where there are fewer; where fewer are masked the rest are not real.

    Args:
        mask: (P,) bool, P at least 1.
        most: indices at the most.
    """
    order = mask.cumsum(0)
    rank = torch.arange(min(most, len(mask)), device=mask.device)
    total = order[-1]
    even = (rank * (total - 1) / max(len(rank) - 1, 1)).round().long()
    rank_of = torch.where(total > len(rank), even, rank)
    chosen = torch.searchsorted(order, rank_of + 1).clamp(max=len(mask) - 1)
    return chosen, (rank < total).float()


def crops(images: Tensor, image: Tensor, boxes: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Crops (P,3,S,S) of images (B,3,H,W) and which of their pixels lie within them (P,S,S) bool.

    Each pixel is the mean of four bilinear samples; beyond the image it is 0.

    Args:
        images: of any type of number.
        image: (P,) which image each crop is of.
        boxes: (P,4) xyxy in pixels.
        size: S.
    """
    height, width = images.shape[2:]
    steps = (torch.arange(2 * size, device=boxes.device, dtype=torch.float32) + 0.5) / (2 * size)
    x = boxes[:, :1] + steps * (boxes[:, 2:3] - boxes[:, :1])  # (P,2S)
    y = boxes[:, 1:2] + steps * (boxes[:, 3:] - boxes[:, 1:2])
    # All images below one another are one image, so that one call samples them all. A sample keeps
    # to the rows of its own image, whose border pixels are repeated beyond it.
    count = len(images)
    column = x.clamp(0.5, width - 0.5) * 2 / width - 1
    row = (y.clamp(0.5, height - 0.5) + image[:, None] * height) * 2 / (height * count) - 1
    at = torch.stack(
        [
            column[:, None].expand(-1, 2 * size, -1),
            row[:, :, None].expand(-1, -1, 2 * size),
        ],
        -1,
    )
    stacked = images.float().transpose(0, 1).flatten(1, 2)[None]
    found = functional.grid_sample(
        stacked, at.flatten(0, 1)[None], mode="bilinear", align_corners=False
    )
    found = found[0].reshape(3, len(boxes), 2 * size, 2 * size).transpose(0, 1)
    inside = ((x >= 0) & (x <= width))[:, None] & ((y >= 0) & (y <= height))[:, :, None]
    within = functional.avg_pool2d(inside.float()[:, None], 2)[:, 0] == 1
    return functional.avg_pool2d(found, 2) * within[:, None], within


def _in_crop(cameras: Tensor, boxes: Tensor, size: int) -> Tensor:
    """Cameras (P,7) of the image, in pixels of the crops of square boxes (P,4)."""
    scale = size / (boxes[:, 2:] - boxes[:, :2]).mean(1, keepdim=True)
    return torch.cat(
        [
            (cameras[:, :2] - boxes[:, :2]) * scale,
            cameras[:, 2:6],
            cameras[:, 6:] * scale,
        ],
        1,
    )
