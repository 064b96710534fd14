"""The mesh decoder: one code a face to the shape and the colors of its mesh.

Shapes: B batch, V vertices, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from facefind.mesh import Decoder, Mesh, Sparse
from facefind.mesh.decoding import CODE, Layer
from facefind.systems.mesh.chebyshev import ChebyshevConv, SparseProduct
from facefind.systems.mesh.topology import Level

CODES = CODE.stop
"""Numbers of a joint shape and texture code."""


class MeshDecoder(nn.Module):
    """Codes (B,128) to vertices and RGB (B,V,6), in the face's frame and in 0..1.

    A fully connected layer gives features to the vertices of the coarsest level; then, level by
    level, they are up-sampled, filtered by a Chebyshev convolution and passed through an ELU; a
    last convolution makes six numbers a vertex, offsets from the mean mesh.

    Source: RetinaFace, sec. 3.2 (joint shape and texture), after arXiv:1904.03525 and CoMA.
    Differs: neither widths, order nor number of levels are in the paper.

    Args:
        mean: the mesh that offsets are added to; gray where it has no colors.
        operators: (Laplacian, up-sampling to it) of each level that is convolved, coarse to fine.
        widths: channels of the features of the coarsest level, and after each level's convolution.
        order: of the Chebyshev polynomials.
        scale: what the offsets of positions and of colors are multiplied by.
        landmarks: (5,) vertices at the five points, where known.
        mirror: (V,) the vertex on the other side of each, where there is one.
    """

    def __init__(
        self,
        mean: Mesh,
        operators: Sequence[tuple[Sparse, Sparse]],
        widths: Sequence[int],
        order: int = 6,
        scale: tuple[float, float] = (1.0, 1.0),
        landmarks: NDArray[np.int64] | None = None,
        mirror: NDArray[np.int64] | None = None,
    ) -> None:
        super().__init__()
        if len(widths) != len(operators) + 1:
            raise ValueError(
                f"{len(operators)} levels need {len(operators) + 1} widths, got {len(widths)}"
            )
        self.mean_mesh, self.operators, self.order = mean, tuple(operators), order
        self.landmarks, self.mirror = landmarks, mirror
        self.first = nn.Linear(CODES, operators[0][1].shape[1] * widths[0])
        self.up = nn.ModuleList(SparseProduct(up) for _, up in operators)
        self.convs = nn.ModuleList(
            ChebyshevConv(laplacian, before, after, order)
            for (laplacian, _), before, after in zip(operators, widths, widths[1:], strict=False)
        )
        self.last = ChebyshevConv(operators[-1][0], widths[-1], 6, order)
        paint = np.full_like(mean.vertices, 0.5) if mean.colors is None else mean.colors
        self.mean: Tensor
        self.scale: Tensor
        self.triangles: Tensor
        self.register_buffer("mean", torch.from_numpy(np.hstack([mean.vertices, paint])))
        self.register_buffer("scale", torch.tensor([scale[0]] * 3 + [scale[1]] * 3))
        self.register_buffer("triangles", torch.tensor(mean.triangles), persistent=False)

    @classmethod
    def over(
        cls, levels: Sequence[Level], widths: Sequence[int] | None = None, order: int = 6
    ) -> MeshDecoder:
        """A decoder with fresh weights over the levels of a mesh, the finest first."""
        operators = [
            (fine.laplacian, coarse.up)
            for fine, coarse in pairwise(levels)
            if coarse.up is not None
        ][::-1]
        widths = widths or (*[32] * len(operators), 16)
        return cls(levels[0].mesh, operators, widths, order)

    def forward(self, codes: Tensor) -> Tensor:
        """Vertices and RGB (B,V,6) of codes (B,128)."""
        x = self.first(codes).unflatten(1, (self.up[0].shape[1], -1))  # type: ignore[index]
        x = x.transpose(0, 1)  # vertices first: one sparse product serves the whole batch
        for up, conv in zip(self.up, self.convs, strict=True):
            assert isinstance(up, SparseProduct)
            assert isinstance(conv, ChebyshevConv)
            x = functional.elu(conv.filtered(up.product(x)))
        decoded: Tensor = self.mean + self.scale * self.last.filtered(x).transpose(0, 1)
        return decoded

    def frozen(self) -> Decoder:
        """The same decoder for NumPy, ready to be saved."""
        mean = self.mean.numpy(force=True)
        layers = [
            Layer(laplacian, *_arrays(conv), up)
            for (laplacian, up), conv in zip(self.operators, self.convs, strict=True)
        ]
        layers.append(Layer(self.operators[-1][0], *_arrays(self.last)))
        return Decoder(
            Mesh(mean[:, :3], self.mean_mesh.triangles, mean[:, 3:]),
            self.scale.numpy(force=True),
            (self.first.weight.numpy(force=True), self.first.bias.numpy(force=True)),
            tuple(layers),
            self.landmarks,
            self.mirror,
        )

    @classmethod
    def from_decoder(cls, decoder: Decoder) -> MeshDecoder:
        """The decoder with the weights of one that was saved."""
        convs = decoder.layers[:-1]
        operators = [(layer.laplacian, layer.up) for layer in convs if layer.up is not None]
        coarsest = operators[0][1].shape[1]
        widths = [len(decoder.first[1]) // coarsest, *(len(layer.bias) for layer in convs)]
        position, color = float(decoder.scale[0]), float(decoder.scale[3])
        network = cls(
            decoder.mean,
            operators,
            widths,
            len(convs[0].weight) // widths[0],
            (position, color),
            decoder.landmarks,
            decoder.mirror,
        )
        with torch.no_grad():
            for target, source in zip(
                (network.first.weight, network.first.bias), decoder.first, strict=True
            ):
                target.copy_(torch.from_numpy(source))
            for conv, layer in zip([*network.convs, network.last], decoder.layers, strict=True):
                conv.weight.copy_(torch.from_numpy(layer.weight))
                conv.bias.copy_(torch.from_numpy(layer.bias))
        return network


def _arrays(conv: nn.Module) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    assert isinstance(conv, ChebyshevConv)
    return conv.weight.numpy(force=True), conv.bias.numpy(force=True)
