"""How a dense branch is made and learned, as plain numbers of a recipe."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from facefind.systems.mesh.dense import DenseBranch


@dataclass(frozen=True, kw_only=True)
class MeshConfig:
    """How the dense branch is made and learned."""

    decoder: Path | None = None
    """File of a pre-trained decoder, as `facefind mesh pretrain` makes it; None: the one that
    ships, over the project's own template."""
    frozen: bool = True
    """Whether the decoder keeps its pre-trained weights, as in the paper."""
    size: int = 48
    """Side in pixels to which an anchor's crop is resized before it is compared."""
    max_anchors: int = 32
    """Most anchors of a batch that are rendered, spread evenly over the positive ones."""
    min_anchor: float = 24.0
    """Anchors below this side in pixels are not rendered: they show too little to compare."""
    mean: Literal["crop", "covered"] = "crop"
    """What the pixel loss is divided by: all pixels of the crop, as in eq. 3 of the paper (those
    not covered by the face add nothing), or the covered ones alone."""
    pixel: float = 0.01
    """Weight of the pixel loss (lambda 3), for colors in 0..255."""
    landmarks: float = 0.0
    """Weight of the distance of the mesh's five vertices from the labeled landmarks, relative to
    the anchor: 0 as in the paper; more lets the branch find faces within a small budget."""
    prior: float = 0.0
    """Weight of the codes' mean square, which keeps faces near to those pre-trained on."""

    def build(self) -> DenseBranch:
        """The branch with its pre-trained decoder.

        Raises:
            WeightsError: If the decoder's file is missing or damaged.
        """
        from facefind import weights
        from facefind.mesh import Decoder
        from facefind.systems.mesh.decoder import MeshDecoder
        from facefind.systems.mesh.dense import DenseBranch

        decoder = MeshDecoder.from_decoder(Decoder.load(self.decoder or weights.mesh_decoder()))
        return DenseBranch(decoder, self)
