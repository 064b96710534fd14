"""What a model file costs: parameters, multiply-adds, latency and memory by image size."""

from __future__ import annotations

import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from facefind import files
from facefind.errors import DataError, FacefindError, WeightsError
from facefind.runtimes import Card, Precision, RuntimeName

__all__ = ["Cost", "Timing", "count", "measure", "peak_mib"]

_CHILD = "import sys; from facefind.evaluation import cost; cost._child(sys.argv[1])"


@dataclass(frozen=True)
class Timing:
    """What one image of `width` x `height` pixels costs, decoded image to faces.

    `milliseconds` is the median of `rounds`, `fastest` and `slowest` its ends; `peak_mib` the most
    memory that a process which does nothing else has held, libraries included; None where the
    system does not report it.
    """

    width: int
    height: int
    multiply_adds: int
    milliseconds: float
    fastest: float
    slowest: float
    rounds: int
    peak_mib: float | None


@dataclass(frozen=True)
class Cost:
    """What a model costs. `multiply_adds` of convolutions and linear layers only."""

    model: str
    weights_sha256: str
    parameters: int
    bytes: int
    runtime: str
    provider: str
    precision: str
    threads: int
    timings: tuple[Timing, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, ready for JSON."""
        return asdict(self)


def count(path: str | Path, height: int, width: int) -> tuple[int, int]:
    """Parameters of an ONNX file, and its multiply-adds for one image of that size.

    Counted are the floating-point constants and the convolutions and matrix products in the graph
    as OpenVINO reads it; biases, normalization and activations cost nothing. Files that our export
    made say their own number of parameters, which is the one given.

    Raises:
        WeightsError: where the file cannot be read, or takes no image of that size.
    """
    from facefind.runtimes.ov import library

    try:
        model = library().Core().read_model(str(path))
        if model.input(0).partial_shape.is_dynamic:
            model.reshape([1, 3, height, width])
        operations = list(model.get_ops())
    except RuntimeError as error:
        raise WeightsError(f"{path}: cannot be counted at {width}x{height} ({error})") from error
    products = parameters = 0
    for operation in operations:
        kind = operation.get_type_name()
        if kind in ("Convolution", "GroupConvolution", "MatMul"):
            out = math.prod(operation.output(0).shape)
            weights = list(operation.input(1).get_shape())
            if kind == "MatMul":
                products += out * operation.input(0).get_shape()[-1]
            else:
                products += out * math.prod(weights[1 if kind == "Convolution" else 2 :])
        elif kind == "Constant" and operation.get_output_element_type(0).is_real():
            parameters += math.prod(operation.get_output_shape(0))
    card = Card.from_file(path)
    if card is not None and card.parameters is not None:
        parameters = card.parameters
    return parameters, products


def measure(
    path: str | Path,
    sizes: Sequence[tuple[int, int]],
    *,
    rounds: int = 20,
    runtime: RuntimeName = "auto",
    precision: Precision = "fp32",
    threads: int | None = None,
    provider: str | None = None,
    device_id: int | None = None,
) -> Cost:
    """What the model of an ONNX file costs at each (height, width).

    Each size is timed in a process of its own, on noise: first calls are left out of the times,
    and the process's peak of memory is that of this size alone. A file that takes one size only
    shows smaller images in that size, and costs the same for them.

    Raises:
        DataError: on no sizes or rounds.
        WeightsError: where the file cannot be read.
        FacefindError: where a size fails, with the reason.
    """
    if not sizes or rounds < 1:
        raise DataError(f"expected at least one size and one round, got {len(sizes)} and {rounds}")
    reports = []
    for height, width in sizes:
        request = {
            "model": str(Path(path).resolve()),
            "size": (height, width),
            "rounds": rounds,
            "by": {
                "runtime": runtime,
                "precision": precision,
                "threads": threads,
                "provider": provider,
                "device_id": device_id,
            },
        }
        done = subprocess.run(
            [sys.executable, "-c", _CHILD, json.dumps(request)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
            raise FacefindError(f"{path} at {width}x{height}: {lines[-1]}")
        reports.append(json.loads(done.stdout.splitlines()[-1]))
    timings = []
    parameters = 0
    for (height, width), facts in zip(sizes, reports, strict=True):
        parameters, products = count(path, *facts["shown"])
        times = facts["milliseconds"]
        middle = statistics.median(times)
        timings.append(
            Timing(width, height, products, middle, min(times), max(times), rounds, facts["peak"])
        )
    return Cost(
        model=Path(path).stem,
        weights_sha256=files.sha256(path),
        parameters=parameters,
        bytes=Path(path).stat().st_size,
        **reports[0]["by"],
        timings=tuple(timings),
    )


def _child(text: str) -> None:
    """Time one model at one size in this process, and print the facts as JSON."""
    from facefind.detector import FaceDetector
    from facefind.images import letterbox
    from facefind.protocols import TestProtocol

    request = json.loads(text)
    height, width = request["size"]
    try:
        detector = FaceDetector(
            Path(request["model"]),
            **request["by"],
            protocol=TestProtocol(name="as-is", sizes=((height, width),)),
            min_score=0.5,
        )
    except FacefindError as error:
        raise SystemExit(" ".join(str(error).split())) from None
    picture = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    card = detector.card
    canvas, _ = letterbox(picture, (height, width), card.fixed_size, multiple=card.size_multiple)
    for _ in range(2):
        detector.detect(picture)
    times = []
    for _ in range(request["rounds"]):
        started = time.perf_counter()
        detector.detect(picture)
        times.append(1e3 * (time.perf_counter() - started))
    facts = {
        "milliseconds": times,
        "peak": peak_mib(),
        "shown": canvas.shape[:2],
        "by": {
            "runtime": detector.runtime.name,
            "provider": detector.runtime.provider,
            "precision": detector.runtime.precision,
            "threads": detector.runtime.threads,
        },
    }
    print(json.dumps(facts))


def peak_mib() -> float | None:
    """The most MiB this process has held, or None where the system does not report it.

    Linux's VmHWM is reset when a program starts; getrusage would count the parent's.
    """
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration, ValueError):
        return None
