"""A sparse matrix in compressed rows, for use where scipy may be missing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Sparse"]


@dataclass(frozen=True, eq=False)
class Sparse:
    """A matrix (R,C) of few entries, none of its rows empty.

    Attributes:
        starts: (R+1,) int64: where each row begins in `columns` and `values`, and where all end.
        columns: (nnz,) int64, by row.
        values: (nnz,) float32.
        width: C.

    Raises:
        ValueError: If the arrays do not describe such a matrix.
    """

    starts: NDArray[np.int64]
    columns: NDArray[np.int64]
    values: NDArray[np.float32]
    width: int

    def __post_init__(self) -> None:
        starts = np.asarray(self.starts, np.int64)
        columns, values = np.asarray(self.columns, np.int64), np.asarray(self.values, np.float32)
        if starts.ndim != 1 or len(starts) < 2 or starts[0] != 0 or starts[-1] != len(columns):
            raise ValueError("row starts must start with 0 and end with the number of entries")
        if columns.shape != values.shape or columns.ndim != 1:
            raise ValueError(f"{columns.shape} columns for {values.shape} values")
        if (np.diff(starts) < 1).any():
            raise ValueError("every row needs an entry")
        if columns.min() < 0 or columns.max() >= self.width:
            raise ValueError(f"columns must lie in 0..{self.width - 1}")
        for name, array in (("starts", starts), ("columns", columns), ("values", values)):
            object.__setattr__(self, name, array)

    @classmethod
    def from_matrix(cls, matrix: Any) -> Sparse:
        """The same matrix, from a scipy sparse or a dense one."""
        if isinstance(matrix, np.ndarray):
            rows, columns = np.nonzero(matrix)
            starts = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(matrix)))])
            return cls(starts, columns, matrix[rows, columns], matrix.shape[1])
        compressed = matrix.tocsr()
        compressed.sort_indices()
        return cls(compressed.indptr, compressed.indices, compressed.data, int(compressed.shape[1]))

    @property
    def shape(self) -> tuple[int, int]:
        """(R, C)."""
        return len(self.starts) - 1, self.width

    @property
    def rows(self) -> NDArray[np.int64]:
        """(nnz,): the row of each entry."""
        return np.repeat(np.arange(self.shape[0]), np.diff(self.starts))

    def __matmul__(self, x: NDArray[Any]) -> NDArray[Any]:
        """The product (R,K) with a dense matrix (C,K)."""
        product: NDArray[Any] = np.add.reduceat(
            x[self.columns] * self.values[:, None], self.starts[:-1], axis=0
        )
        return product

    def dense(self) -> NDArray[np.float32]:
        """The matrix with all its zeros, (R,C)."""
        full = np.zeros(self.shape, np.float32)
        np.add.at(full, (self.rows, self.columns), self.values)
        return full
