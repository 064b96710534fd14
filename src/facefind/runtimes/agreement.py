"""Whether two runtimes, or a file and its network, give the same candidates."""

from __future__ import annotations

import numpy as np

from facefind.runtimes.contract import Candidates

__all__ = ["difference"]

_PIXELS, _SCORE = 0.05, 1e-3  # largest gaps that are let pass
_LIMITS = {"boxes": _PIXELS, "scores": _SCORE, "landmarks": _PIXELS, "mesh": _PIXELS}


def difference(network: Candidates, file: Candidates) -> str:
    """Where a network and its file differ most on the same images, in words; "" where they agree.

    Boxes, landmarks and meshes agree within a twentieth of a pixel (beyond 1,000 pixels within a
    twenty-thousandth), scores within a thousandth. What only one of them has is not compared.
    """
    for name, limit in _LIMITS.items():
        a, b = getattr(network, name), getattr(file, name)
        if a is None or b is None:
            continue
        if a.shape != b.shape:
            return f"{name} have shape {b.shape} in the file and {a.shape} in the network"
        gap = np.abs(a - b) / np.maximum(1, np.abs(a) / 1000)
        if not gap.size or gap.max() <= limit:  # a NaN fails this test, as it should
            continue
        at = np.unravel_index(np.argmax(np.nan_to_num(gap, nan=np.inf)), gap.shape)
        return (
            f"{name}{[int(i) for i in at]} is {b[at]:.6g} in the file and {a[at]:.6g} in the "
            f"network, more than {limit:g} apart"
        )
    return ""
