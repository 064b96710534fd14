"""Whether two runtimes, or a file and what it was made of, give the same for the same images."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from facefind.errors import RuntimeUnavailableError, WeightsError
from facefind.runtimes.card import Card
from facefind.runtimes.contract import Candidates, ImageBatch, Runtime
from facefind.runtimes.model import RuntimeName, installed

__all__ = ["check_same", "checkers", "difference", "noise"]

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


def checkers() -> list[RuntimeName]:
    """Return the runtimes that files are checked by before they are kept.

    Raises:
        RuntimeUnavailableError: None is installed.
    """
    runtimes: list[RuntimeName] = [name for name in installed() if name != "torch"]
    if not runtimes:
        raise RuntimeUnavailableError(
            "an export is checked before it is kept, and no runtime is installed to do it: "
            "`pip install facefind[export]`"
        )
    return runtimes


def noise(card: Card, seed: int) -> Iterator[ImageBatch]:
    """Yield random images (B, 3, H, W), of sizes that a model takes, one and several at a time."""
    draw = np.random.default_rng(seed)
    for batch in (1, 3, 1):
        height, width = card.fixed_size or tuple(draw.integers(2, 12, 2) * card.size_multiple)
        yield draw.integers(0, 256, (batch, 3, height, width), dtype=np.uint8)


def check_same(
    reference: Runtime,
    given: Runtime,
    seed: int,
    compare: Callable[[Candidates, Candidates], str] = difference,
) -> None:
    """Raise WeightsError where a file gives other candidates than what it was made of.

    Args:
        reference: A network, or another file.
        given: The file.
        seed: Of the random images that both are run on.
        compare: Says in words where the two differ, "" where they agree.
    """
    for images in noise(given.card, seed):
        where = f"{given.name}, {'x'.join(map(str, images.shape))}"
        expected = reference(images)
        try:
            got = given(images)
        except Exception as error:  # each runtime raises its own kind
            raise WeightsError(
                f"export refused: {where}: the file does not run: {error}"
            ) from error
        if gap := compare(expected, got):
            raise WeightsError(f"export refused: {where}: {gap}")
