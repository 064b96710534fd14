"""Arrays that are given, checked, and arrays as plain lists."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["floats", "plain"]


def floats(
    name: str, values: ArrayLike, tail: tuple[int | None, ...], n: int | None = None
) -> NDArray[np.float32]:
    """An array of `n` rows of shape `tail`, float32; None is any number.

    Raises:
        ValueError: It has another shape, or holds NaN or inf.
    """
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes inf, and is rejected below
        array = np.asarray(values, np.float32)
    if array.size == 0 and array.ndim == 1:
        array = array.reshape(0, *(side or 0 for side in tail))
    fits = array.ndim == 1 + len(tail) and (n is None or len(array) == n)
    if not fits or any(side not in (None, got) for side, got in zip(tail, array.shape[1:])):  # noqa: B905
        shape = ", ".join(["N" if n is None else str(n), *(str(s or "V") for s in tail)])
        raise ValueError(f"{name} must have shape ({shape}), got {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite, got {np.sum(~np.isfinite(array))} NaN or inf")
    return array


def plain(array: NDArray[Any] | None, digits: int | None, extra: int = 0) -> Any:
    """Lists of numbers; where digits is not None floats have `digits + extra` decimals."""
    if array is None:
        return None
    if digits is not None and array.dtype.kind == "f":
        return np.round(array.astype(np.float64), digits + extra).tolist()
    return array.tolist()
