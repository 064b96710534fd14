"""The errors facefind raises: each says what was given, what was expected and what to do."""

from __future__ import annotations

import copyreg
from collections.abc import Iterable
from typing import Any


class FacefindError(Exception):
    """Base of every error that facefind raises on purpose."""

    def __reduce__(self) -> Any:
        """How pickle copies it, whatever arguments its class takes."""
        new = copyreg.__newobj__  # type: ignore[attr-defined]
        return new, (type(self), *self.args), vars(self)


class ImageError(FacefindError, ValueError):
    """A picture could not be read or has a form that is not understood."""


class DataError(FacefindError, ValueError):
    """A data set, label file or label line is not as its format demands."""


class ProtocolError(FacefindError, ValueError):
    """A test protocol is unknown or contradicts itself."""


class WeightsError(FacefindError):
    """A model file is missing, damaged or not what it claims to be."""


class RuntimeUnavailableError(FacefindError):
    """A runtime, provider or precision was requested that this machine does not have."""


def check_whole(least: int | None, **options: object) -> None:
    """Raise where an option, by its name, is no whole number of at least `least`, nor None.

    Raises:
        TypeError: It is no whole number.
        ValueError: It is less.
    """
    for name, number in options.items():
        if number is None:
            continue
        if not hasattr(number, "__index__"):
            raise TypeError(f"{name} must be a whole number, got {number!r}")
        if least is not None and number.__index__() < least:
            raise ValueError(f"{name} must be at least {least}, got {number}")


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """What follows an unknown name in a message: `, did you mean ...?`; "" where none is near."""
    from difflib import get_close_matches

    near = get_close_matches(name, list(names), 3, 0.5)
    return f", did you mean {' or '.join(map(repr, near))}?" if near else ""
