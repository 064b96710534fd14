"""The dense regression branch: 144 numbers an anchor to a rendered face, compared with the image.

Shapes: B batch, A anchors, P positive anchors, V vertices, S side of the compared crops.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from facefind import weights
from facefind.mesh import PARAMETERS, Decoder
from facefind.mesh.decoding import CAMERA, CODE, LIGHT
from facefind.systems.mesh import camera, lighting
from facefind.systems.mesh.decoder import MeshDecoder
from facefind.systems.mesh.rasterizer import render


@dataclass(frozen=True, kw_only=True)
class MeshConfig:
    """How the dense branch is made and learned."""

    decoder: Path | None = None
    """File of a pre-trained decoder, as `facefind mesh pretrain` makes it; None: the one that
    ships, over the project's own template."""
    frozen: bool = True
    """Whether the decoder keeps its pre-trained weights, as in the paper."""
    size: int = 48
    """Side in pixels to which an anchor's crop is brought before it is compared."""
    limit: int = 32
    """Most anchors of a batch that are rendered, spread evenly over the positive ones."""
    least: float = 24.0
    """Anchors below this side in pixels are not rendered: they show too little to compare."""
    mean: Literal["crop", "covered"] = "crop"
    """What the pixel loss is divided by: all pixels of the crop, as in eq. 3 of the paper (those
    not covered by the face add nothing), or the covered ones alone."""
    pixel: float = 0.01
    """Weight of the pixel loss (lambda 3), for colors in 0..255."""
    landmarks: float = 0.0
    """Weight of the distance of the mesh's five vertices from the labeled points, relative to the
    anchor: 0 as in the paper; more lets the branch find faces within a small budget."""
    prior: float = 0.0
    """Weight of the codes' mean square, which keeps faces near to those pre-trained on."""

    def build(self) -> DenseBranch:
        """The branch with its pre-trained decoder.

        Raises:
            WeightsError: If the decoder's file is missing or damaged.
        """
        decoder = MeshDecoder.of(Decoder.load(self.decoder or weights.mesh_decoder()))
        return DenseBranch(decoder, self)


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

    def losses(
        self,
        raw: Tensor,
        boxes: Tensor,
        image: Tensor,
        images: Tensor,
        landmarks: Tensor,
    ) -> dict[str, Tensor]:
        """Loss terms, weighted: `pixel` and, where their weights are above 0, `mesh` and `prior`.

        Each is a mean over the rendered anchors, exactly 0 without any.

        Args:
            raw: (P,144) as predicted for positive anchors.
            boxes: (P,4) xyxy of these anchors, squares.
            image: (P,) int64: which image of the batch each belongs to.
            images: (B,3,H,W) RGB in 0..255.
            landmarks: (P,5,2) labeled points, NaN where a face has none.

        Source: RetinaFace, sec. 3.1 and 3.2, eq. 3: mean over the crop of the L1 distance of RGB.
        Differs: the paper says neither in which units colors are (0..255 here, in which its
        weight of .01 gives the term the size of the others), nor what the background shows (here
        the image itself, so that it adds nothing), nor that crops are brought to one size and
        limited in number, which is for speed. `mesh` and `prior` are ours.
        """
        config = self.config
        with torch.no_grad():
            large = (boxes[:, 2:] - boxes[:, :2]).amin(1) >= config.least
            chosen = large.nonzero().squeeze(1)
            if len(chosen) > config.limit:
                chosen = chosen[torch.linspace(0, len(chosen) - 1, config.limit).round().long()]
        nothing = raw.sum() * 0
        raw, boxes, image, landmarks = (t[chosen] for t in (raw, boxes, image, landmarks))
        terms = {"pixel": nothing}
        if config.landmarks:
            terms["mesh"] = nothing
        if config.prior:
            terms["prior"] = nothing
        if not len(chosen):
            return terms
        with torch.no_grad():
            goal, within = crops(images, image, boxes, config.size)
        shown = self.render(self.resolve(raw.float(), boxes), boxes, config.size)
        counted = (shown.covered & within).float()
        gap = (255 * shown.images - goal).abs().sum(1) * counted
        pixels = config.size**2 if config.mean == "crop" else counted.sum((1, 2)).clamp(min=1)
        terms["pixel"] = nothing + config.pixel * (gap.sum((1, 2)) / pixels).mean()
        if config.landmarks:
            side = (boxes[:, 2:] - boxes[:, :2]).mean(1)
            wanted = (landmarks - boxes[:, None, :2]) / side[:, None, None]
            known = wanted.isfinite().all(-1).all(-1)
            points = shown.screen[known][:, self.decoder.landmarks, :2] / config.size
            far = functional.smooth_l1_loss(points, wanted[known], beta=1 / 9, reduction="none")
            terms["mesh"] = nothing + config.landmarks * far.sum() / known.sum().clamp(min=1)
        if config.prior:
            terms["prior"] = nothing + config.prior * raw[:, CODE].float().square().mean()
        return terms


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
    grid = torch.stack(
        [
            (2 * x / width - 1)[:, None].expand(-1, 2 * size, -1),
            (2 * y / height - 1)[:, :, None].expand(-1, -1, 2 * size),
        ],
        -1,
    )
    found = boxes.new_zeros(len(boxes), 3, 2 * size, 2 * size)
    for one in range(len(images)):
        mine = (image == one).nonzero().squeeze(1)
        picture = images[one : one + 1].float().expand(len(mine), -1, -1, -1)
        found[mine] = functional.grid_sample(
            picture, grid[mine], mode="bilinear", padding_mode="border", align_corners=False
        )
    inside = ((grid.abs() <= 1).all(-1)).float()[:, None]
    within = functional.avg_pool2d(inside, 2)[:, 0] == 1
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
