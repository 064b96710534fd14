"""facefind: face detectors that can be trained, evaluated, exported and served.

>>> import facefind
>>> faces = facefind.detect("people.jpg")
>>> faces.boxes, faces.scores, faces.landmarks
>>> picture = facefind.draw("people.jpg", faces)
>>> for frame in facefind.read_video("movie.mp4", track=True):
...     frame.time, frame.faces.ids
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from facefind.cropping import align, crop
    from facefind.detector import FaceDetector, detect
    from facefind.drawing import draw
    from facefind.errors import (
        DataError,
        FacefindError,
        ImageError,
        ProtocolError,
        RuntimeUnavailableError,
        WeightsError,
    )
    from facefind.faces import Face, Faces
    from facefind.images import read
    from facefind.protocols import TestProtocol
    from facefind.redaction import blur, fill, pixelate, redact
    from facefind.runtimes import Card, open_model
    from facefind.streaming import DetectionResult
    from facefind.video import read_video

__all__ = [
    "Card",
    "DataError",
    "DetectionResult",
    "Face",
    "FaceDetector",
    "FacefindError",
    "Faces",
    "ImageError",
    "ProtocolError",
    "RuntimeUnavailableError",
    "TestProtocol",
    "WeightsError",
    "__version__",
    "align",
    "blur",
    "crop",
    "detect",
    "draw",
    "fill",
    "open_model",
    "pixelate",
    "read",
    "read_video",
    "redact",
]

_ROOMS = {
    "cropping": ("align", "crop"),
    "detector": ("FaceDetector", "detect"),
    "streaming": ("DetectionResult",),
    "drawing": ("draw",),
    "errors": tuple(name for name in __all__ if name.endswith("Error")),
    "faces": ("Face", "Faces"),
    "images": ("read",),
    "protocols": ("TestProtocol",),
    "redaction": ("blur", "fill", "pixelate", "redact"),
    "runtimes": ("Card", "open_model"),
    "video": ("read_video",),
}
_HOME = {name: room for room, names in _ROOMS.items() for name in names}


def __getattr__(name: str) -> Any:
    """Return a public name from the room it lives in, imported on first use."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
