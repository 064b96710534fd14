"""`facefind evaluate`: a published benchmark on a labeled set.

One file a benchmark, each with `run(args, command) -> exit code`; `detections` gets the faces, from
a model or from a file, `reporting` prints and writes the result.
"""

from __future__ import annotations

import importlib
import shlex
from collections.abc import Sequence

from facefind.cli.subcommands import choose

__all__ = ["BENCHMARKS", "main"]

BENCHMARKS: dict[str, str] = {
    "wider": "average precision of WIDER FACE: easy, medium and hard faces",
    "fddb": "ROC curves of FDDB, discrete and continuous",
    "pascal": "average precision of PASCAL faces",
    "afw": "average precision of AFW",
    "landmarks": "error of five landmarks, by point, size and yaw; 68 of AFLW2000-3D",
    "verification": "LFW, CFP-FP, AgeDB-30 and IJB-C from embeddings",
    "tracking": "MOTA, IDF1 and HOTA of faces that were followed through videos",
    "protocols": "accuracy, time and memory of a model by test protocol",
    "cost": "parameters, multiply-adds, latency and memory of models by image size",
    "compare": "put results side by side, of one protocol and image set only",
}
_FILES = {"pascal": "face_eval", "afw": "face_eval"}


def main(args: Sequence[str]) -> int:
    """Exit code of `facefind evaluate` with these arguments."""
    text = "Measure a model, or detections made elsewhere, on a labeled set."
    name, rest = choose(args, "facefind evaluate", text, "benchmark", BENCHMARKS)
    if name is None:
        return 0
    room = importlib.import_module(f"facefind.cli.evaluate.{_FILES.get(name, name)}")
    command = shlex.join(["facefind", "evaluate", *args])
    code: int = room.run(rest, command, name) if name in _FILES else room.run(rest, command)
    return code
