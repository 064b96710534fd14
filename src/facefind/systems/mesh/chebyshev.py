"""Convolution on the graph of a mesh by Chebyshev polynomials of its Laplacian.

Shapes: B batch, V vertices, K order, C channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from facefind.mesh import Sparse


class SparseProduct(nn.Module):
    """A fixed sparse matrix as a layer: (B,C,F) to (B,R,F). It is no part of the state."""

    def __init__(self, matrix: Sparse) -> None:
        super().__init__()
        self.shape = matrix.shape
        self.indices: Tensor
        self.values: Tensor
        places = torch.stack([torch.from_numpy(matrix.rows), torch.from_numpy(matrix.columns)])
        self.register_buffer("indices", places, persistent=False)
        self.register_buffer("values", torch.from_numpy(matrix.values), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """The product with every item of the batch."""
        return self.product(x.transpose(0, 1)).transpose(0, 1)

    def product(self, x: Tensor) -> Tensor:
        """The same for features with the batch in the middle: (C,B,F) to (R,B,F)."""
        return self.flat(x.flatten(1)).view(-1, *x.shape[1:])

    def flat(self, x: Tensor) -> Tensor:
        """The product (R,N) with a dense matrix (C,N)."""
        matrix = torch.sparse_coo_tensor(
            self.indices,
            self.values.to(x.dtype),
            self.shape,
            check_invariants=False,  # once is enough, and `Sparse` did
            is_coalesced=True,
        )
        product: Tensor = torch.sparse.mm(matrix, x)
        return product


class ChebyshevConv(nn.Module):
    """y = sum over k < K of T_k(L) x W_k + b: (B,V,inputs) to (B,V,outputs).

    Source: RetinaFace, sec. 3.2, eq. 2, with a matrix W_k where the equation, for one channel in
    and one out, has a number.

    Args:
        laplacian: (V,V), scaled to eigenvalues in -1..1.
        inputs: channels.
        outputs: channels.
        order: K; the paper gives no number, 6 is CoMA's.
    """

    def __init__(self, laplacian: Sparse, inputs: int, outputs: int, order: int = 6) -> None:
        super().__init__()
        if order < 1:
            raise ValueError(f"the order must be at least 1, got {order}")
        self.order = order
        self.laplacian = SparseProduct(laplacian)
        self.weight = nn.Parameter(torch.empty(order * inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(outputs))
        nn.init.xavier_uniform_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        """The filtered features."""
        return self.filtered(x.transpose(0, 1)).transpose(0, 1)

    def filtered(self, x: Tensor) -> Tensor:
        """The same for features with the batch in the middle: (V,B,C)."""
        terms = [x.flatten(1)]
        if self.order > 1:
            terms.append(self.laplacian.flat(terms[0]))
        for _ in range(self.order - 2):
            terms.append(2 * self.laplacian.flat(terms[-1]) - terms[-2])
        stacked = torch.cat([term.view(x.shape) for term in terms], 2)
        return stacked @ self.weight + self.bias
