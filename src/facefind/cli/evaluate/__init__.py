"""`facefind evaluate`: a published measuring protocol on a labeled set.

One file a protocol, each with `run(args, command) -> exit code`; `finding` gets the faces, from a
model or from a file, `telling` says what came out.
"""

from __future__ import annotations

import importlib
import shlex
from collections.abc import Sequence

from facefind.errors import DataError

__all__ = ["PROTOCOLS", "main"]

PROTOCOLS: dict[str, str] = {
    "wider": "average precision of WIDER FACE: easy, medium and hard faces",
    "fddb": "ROC curves of FDDB, discrete and continuous",
    "pascal": "average precision of PASCAL faces",
    "afw": "average precision of AFW",
    "landmarks": "error of five points, by point, size and yaw; 68 points of AFLW2000-3D",
    "verification": "LFW, CFP-FP, AgeDB-30 and IJB-C from embeddings",
    "protocols": "accuracy, time and memory of a model by test protocol",
    "cost": "parameters, multiply-adds, latency and memory of models by image size",
    "compare": "put results side by side, of one protocol and image set only",
}
_FILES = {"pascal": "face_eval", "afw": "face_eval"}


def main(args: Sequence[str]) -> int:
    """Exit code of `facefind evaluate` with these arguments."""
    name, *rest = args or ["--help"]
    if name in ("-h", "--help"):
        print(_usage())
        return 0
    if name not in PROTOCOLS:
        raise DataError(f"there is no protocol {name!r}; there are {', '.join(PROTOCOLS)}")
    room = importlib.import_module(f"facefind.cli.evaluate.{_FILES.get(name, name)}")
    command = shlex.join(["facefind", "evaluate", *args])
    code: int = room.run(rest, command, name) if name in _FILES else room.run(rest, command)
    return code


def _usage() -> str:
    width = max(map(len, PROTOCOLS))
    return "\n".join(
        [
            "usage: facefind evaluate PROTOCOL [OPTION ...]",
            "",
            "Measure a model, or detections made elsewhere, on a labeled set.",
            "",
            "protocols:",
            *(f"  {name:<{width}}  {text}" for name, text in PROTOCOLS.items()),
            "",
            "facefind evaluate PROTOCOL --help tells its options.",
        ]
    )
