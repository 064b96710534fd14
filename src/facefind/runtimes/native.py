"""Reads what our own exported files give: they decode by themselves and carry their card."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from facefind.errors import WeightsError
from facefind.mesh.decoding import PARAMETERS
from facefind.runtimes.card import Card
from facefind.runtimes.contract import (
    Candidates,
    ImageBatch,
    Session,
    fixed_input,
    fixed_protocol,
)

INPUT = "image"


def outputs(card: Card) -> list[str]:
    """Return the names of the outputs of a file with this card, in their order."""
    extra = {"landmarks": card.landmarks, "mesh": bool(card.mesh)}
    return ["boxes", "scores", *(name for name, given in extra.items() if given)]


class NativeReader:
    """Feeds images as they are and names the outputs.

    Args:
        session: A session of a file with one uint8 input `image` and the outputs `boxes`,
            `scores` and, where the card says so, `landmarks` and `mesh`.
        card: The card that the file carries.

    Raises:
        WeightsError: File and card contradict each other.
    """

    def __init__(self, session: Session, card: Card) -> None:
        expected = outputs(card)
        inputs = [(port.name, port.dtype) for port in session.inputs]
        found = [port.name for port in session.outputs]
        if inputs != [(INPUT, "uint8")] or sorted(found) != sorted(expected):
            raise WeightsError(
                f"the file of {card.name} carries a card but breaks the contract: it has inputs "
                f"{inputs} and outputs {found}, expected [('{INPUT}', 'uint8')] and "
                f"{expected}; export it anew"
            )
        if card.color_order != "RGB":
            raise WeightsError(
                f"the card of {card.name} says {card.color_order}, but an export takes RGB"
            )
        self.card = _fitting(session, card)
        self._order = {name: found.index(name) for name in expected}

    def prepare(self, images: ImageBatch) -> NDArray[np.generic]:
        """Return the array that the model takes for (B, 3, H, W) uint8 RGB images."""
        return images

    def decode(self, outputs: list[NDArray[np.float32]], size: tuple[int, int]) -> Candidates:
        """Return the candidates that lie in the outputs for an input (height, width)."""
        return Candidates(**{name: outputs[i] for name, i in self._order.items()})


def _fitting(session: Session, card: Card) -> Card:
    """The card, with the input size that others' tools may have fixed in the file."""
    shapes = {"image": (None, 3, None, None), "boxes": (None, None, 4), "scores": (None, None)}
    shapes |= {"landmarks": (None, None, 5, 2), "mesh": (None, None, PARAMETERS)}
    for port in (*session.inputs, *session.outputs):
        expected = shapes[port.name]
        same = port.shape is None or len(port.shape) == len(expected)
        for side, required in zip(port.shape or (), expected, strict=False):
            same = same and (None in (side, required) or side == required)
        if not same:
            raise WeightsError(
                f"the file of {card.name} carries a card but breaks the contract: its {port.name} "
                f"have the shape {port.shape}, expected {expected}; export it anew"
            )
    _, size = fixed_input(session)
    if size is None:
        return card
    if card.fixed_size not in (None, size):
        raise WeightsError(
            f"the card of {card.name} says that it takes images of (height, width) "
            f"{card.fixed_size}, but the file takes {size}: export it anew"
        )
    if size[0] % card.size_multiple or size[1] % card.size_multiple:
        raise WeightsError(
            f"the file of {card.name} takes images of (height, width) {size} alone, but its card "
            f"wants multiples of {card.size_multiple}: fix its input at such"
        )
    if card.fixed_size is not None:
        return card
    return replace(card, fixed_size=size, protocol=fixed_protocol(size))
