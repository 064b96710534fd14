"""The errors facefind raises: each says what was given, what was expected and what to do."""

from __future__ import annotations

from collections.abc import Iterable


class FacefindError(Exception):
    """Base of every error that facefind raises on purpose."""


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


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """What follows an unknown name in a message: `, did you mean ...?`; "" where none is near."""
    from difflib import get_close_matches

    near = get_close_matches(name, list(names), 3, 0.5)
    return f", did you mean {' or '.join(map(repr, near))}?" if near else ""
