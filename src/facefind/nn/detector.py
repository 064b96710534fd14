"""The one detector network: parts in, raw outputs and decoded faces out.

Every system is this class with parts of its own; what its outputs learn is the criterion's.

Legend: B batch, A anchors over all levels, H W input height and width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from facefind.nn.anchors import AnchorGrid, Anchors
from facefind.nn.coders import Coder
from facefind.nn.constants import constant
from facefind.nn.heads import HeadOutput


class Decoded(NamedTuple):
    """Candidates of a batch: one for each anchor, before any threshold.

    Attributes:
        boxes: (B,A,4) float32 xyxy in input pixels.
        scores: (B,A) float32 in 0..1.
        landmarks: (B,A,5,2) float32 in input pixels, or None.
        mesh: (B,A,144) float32 mesh parameters, their camera in input pixels, or None.
    """

    boxes: Tensor
    scores: Tensor
    landmarks: Tensor | None = None
    mesh: Tensor | None = None


@dataclass(frozen=True)
class DenseOutput:
    """Raw outputs of a network, with the anchors and the coder that give them a meaning.

    Attributes:
        logits: (B,A,1) face logits, or (B,A,2) logits of background and face.
        boxes: (B,A,4) as the coder has them.
        landmarks: (B,A,5,2) as the coder has them, or None.
        anchors: A anchors.
        coder: between raw numbers and pixels.
        images: (B,3,H,W) that the outputs belong to.
        extras: (B,A,...) whatever else the head gives, by name: `mesh` parameters.
        auxiliary: further shots that learn beside this one, each with anchors of its own; only
            a network in training computes them.
    """

    logits: Tensor
    boxes: Tensor
    landmarks: Tensor | None
    anchors: Anchors
    coder: Coder
    images: Tensor
    extras: Mapping[str, Tensor] = field(default_factory=dict)
    auxiliary: tuple[DenseOutput, ...] = ()

    def float(self) -> DenseOutput:
        """The same in float32 where autocast gave less."""
        return replace(
            self,
            logits=_single(self.logits),
            boxes=_single(self.boxes),
            landmarks=None if self.landmarks is None else _single(self.landmarks),
            extras={name: _single(value) for name, value in self.extras.items()},
            auxiliary=tuple(shot.float() for shot in self.auxiliary),
        )

    @property
    def face_logits(self) -> Tensor:
        """(B,A) logit of the face's probability: a softmax over two is a sigmoid of this."""
        if self.logits.shape[-1] == 1:
            return self.logits.squeeze(-1)
        return self.logits[..., 1] - self.logits[..., 0]

    def decode(self) -> Decoded:
        """Boxes, scores and landmarks in input pixels; mesh parameters are the network's matter."""
        landmarks = self.landmarks
        if landmarks is not None:
            landmarks = self.coder.decode_landmarks(landmarks, self.anchors)
        boxes = self.coder.decode(self.boxes, self.anchors)
        return Decoded(boxes, self.face_logits.sigmoid(), landmarks)


class Normalize(nn.Module):
    """(x - mean) / std of RGB images (B,3,H,W) in 0..255, in the network's own type of number."""

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        mean: Sequence[float] = (127.5, 127.5, 127.5),
        std: Sequence[float] = (128.0, 128.0, 128.0),
    ) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).reshape(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).reshape(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Normalized images, same shape."""
        return (images.to(self.mean.dtype) - self.mean) / self.std


class PerLevel(nn.ModuleList):
    """One module a level: maps -> maps."""

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Each map through its own module."""
        return [module(x) for module, x in zip(self, maps, strict=True)]


class AuxiliaryShot(nn.Module):
    """A head and anchors on the maps that the neck is given, for training alone: DSFD's first shot.

    Args:
        head: maps -> `HeadOutput`; None: the detector's own, which both shots then share (ASFD).
        anchors: of this shot; `AnchorGrid.halved` of the detector's, as in DSFD, sec. 3.3.
    """

    def __init__(self, head: nn.Module | None, anchors: AnchorGrid) -> None:
        super().__init__()
        self.head, self.anchors = head, anchors


class DenseDetector(nn.Module):
    """A single-stage detector made of parts.

    Args:
        normalize: images -> normalized images.
        backbone: normalized images -> maps, fine to coarse.
        neck: the maps in `taps` -> one map for each level; None: those maps as they are.
        context: maps -> maps of the same sizes that see more around; None: no such modules.
        head: maps -> `HeadOutput`.
        anchors: the anchors of each level.
        coder: between raw numbers and pixels.
        taps: which of the backbone's maps go to the neck.
        system: name of the system that the network belongs to.
        size_multiple: input heights and widths are multiples of this.
        stride4_score_scale: factor of the scores of anchors at stride 4 in `decode`.
        inclusive_pixels: the network was trained on boxes given by their first and last pixel and
            on landmarks given by pixel numbers (`CriterionConfig.inclusive_pixels`), as older code
            has them; `decode` takes the extra pixel off again.
        mesh: what gives the head's `mesh` parameters a meaning, a `DenseBranch`; or None.
        auxiliary: further shots that learn beside the head's.
        extension: the maps in `taps` -> those and coarser ones, which go to the neck too; or None.
        further: anchors of the further sets that the head gives in training (`HeadOutput.further`),
            each on the coarsest of its maps; they learn as auxiliary shots do.
    """

    def __init__(
        self,
        normalize: nn.Module,
        backbone: nn.Module,
        neck: nn.Module | None,
        context: nn.Module | None,
        head: nn.Module,
        anchors: AnchorGrid,
        coder: Coder,
        *,
        taps: slice = slice(None),
        system: str = "",
        size_multiple: int = 32,
        stride4_score_scale: float = 1.0,
        inclusive_pixels: bool = False,
        mesh: nn.Module | None = None,
        auxiliary: Sequence[AuxiliaryShot] = (),
        extension: nn.Module | None = None,
        further: Sequence[AnchorGrid] = (),
    ) -> None:
        super().__init__()
        self.normalize, self.backbone, self.neck = normalize, backbone, neck
        self.extension = extension
        self.head, self.context = head, context
        self.mesh: Any = mesh
        self.auxiliary = nn.ModuleList(auxiliary)
        self.anchors, self.coder, self.taps = anchors, coder, taps
        self.further = tuple(further)
        self.system, self.size_multiple = system, size_multiple
        self.stride4_score_scale = stride4_score_scale
        self.inclusive_pixels = inclusive_pixels

    @property
    def strides(self) -> tuple[int, ...]:
        """Stride of each level."""
        return self.anchors.strides

    @property
    def landmarks(self) -> bool:
        """Whether the head gives five landmarks."""
        return getattr(self.head, "landmarks", None) is not None

    @property
    def logit_scale(self) -> float:
        """What the head multiplies scores by that are cosines, 1 for plain ones."""
        return float(getattr(self.head, "logit_scale", 1.0))

    @property
    def mesh_decoder(self) -> str:
        """Name of the decoder that mesh parameters are for, "" without any."""
        return str(self.mesh.name) if self.mesh else ""

    def forward(self, images: Tensor) -> DenseOutput:
        """Raw outputs for images (B,3,H,W), RGB in 0..255, H and W multiples of `size_multiple`."""
        taken = list(self.backbone(self.normalize(images)))[self.taps]
        if self.extension is not None:
            taken = self.extension(taken)
        maps = taken if self.neck is None else self.neck(taken)
        if self.context is not None:
            maps = self.context(maps)
        raw: HeadOutput = self.head(maps)
        output = self._shot(raw, self.anchors, maps, images)
        if not self.training:
            return output
        shots = []
        for shot in self.auxiliary:
            assert isinstance(shot, AuxiliaryShot)
            head = self.head if shot.head is None else shot.head
            shots.append(self._shot(head(taken), shot.anchors, taken, images))
        for more, grid in zip(raw.further, self.further, strict=True):
            shots.append(self._shot(more, grid, maps[-len(grid.strides) :], images))
        return replace(output, auxiliary=tuple(shots))

    def decode(self, output: DenseOutput) -> Decoded:
        """Boxes, scores, landmarks and mesh parameters in input pixels, float32."""
        output = output.float()
        boxes, scores, landmarks, mesh = output.decode()
        if self.stride4_score_scale != 1:
            finest = output.anchors.strides == 4
            scores = torch.where(finest, scores * self.stride4_score_scale, scores)
        if self.mesh is not None and "mesh" in output.extras:
            mesh = self.mesh.resolve(output.extras["mesh"], output.anchors.boxes)
        if self.inclusive_pixels:
            boxes = boxes - constant([0.0, 0.0, 1.0, 1.0], boxes)
            landmarks = None if landmarks is None else landmarks - 0.5
        return Decoded(boxes, scores, landmarks, mesh)

    def candidates(self, images: Tensor) -> Decoded:
        """What the network finds in images (B,3,H,W): the decoded outputs."""
        return self.decode(self(images))

    def _shot(
        self, raw: HeadOutput, grid: AnchorGrid, maps: Sequence[Tensor], images: Tensor
    ) -> DenseOutput:
        anchors = grid([(m.shape[-2], m.shape[-1]) for m in maps], images.device)
        return DenseOutput(
            raw.logits, raw.boxes, raw.landmarks, anchors, self.coder, images, raw.extras
        )


def _single(value: Tensor) -> Tensor:
    """float32 of a half-precision tensor; others as they are."""
    return value.float() if value.dtype in (torch.float16, torch.bfloat16) else value
