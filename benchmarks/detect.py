"""Times the way from a decoded image to faces against a bare run of the same file.

All are timed in turns, model by model and runtime by runtime, so that whatever else the machine
does hits them alike:

- bound: one square matrix product with as many multiply-adds as the network's convolutions, by
  OpenVINO with the same threads and precision: what the machine would need if all of the network
  ran as well as that;
- file: the library's own call on an array that is ready, no candidates read;
- model: facefind's runtime, images to candidates;
- detector: a decoded image to Faces.

    python benchmarks/detect.py --model a.onnx b.onnx --runtime onnxruntime openvino --threads 2
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np

from facefind import images, weights
from facefind.detector import FaceDetector
from facefind.protocols import TestProtocol, parse_size
from facefind.runtimes import RuntimeName, ov

STEPS = ("bound", "file", "model", "detector")


def main() -> None:
    options = arguments()
    height, width = options.size
    if options.image:
        picture = images.resize(images.read(options.image), (height, width))
    else:
        picture = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    paths = [weights.find(model) for model in options.model]
    rows = [(path, runtime) for path in paths for runtime in options.runtime]
    calls: dict[tuple[Path, str, str], Callable[[], Any]] = {}
    print(f"one {width}x{height} image, {options.rounds} rounds, medians in ms\n")
    for path, runtime in rows:
        detector = FaceDetector(
            path,
            runtime=runtime,
            threads=options.threads,
            precision=options.precision,
            protocol=TestProtocol(name="as-is", sizes=(None,), nms_iou=0.4),
            min_score=options.min_score,
        )
        planes = images.to_nchw([images.letterbox(picture, multiple=1)[0]])
        if (fixed := detector.card.fixed_size) is not None and fixed != (height, width):
            raise SystemExit(f"{path.name} takes only --size {fixed[1]}x{fixed[0]}")
        adds = detector.card.multiply_adds * height * width / (480 * 640)
        calls[path, runtime, "bound"] = product(adds, options.threads, options.precision)
        bare = bare_run(path, runtime, options.threads, options.precision, planes)
        calls[path, runtime, "file"] = bare
        calls[path, runtime, "model"] = lambda d=detector, x=planes: d.runtime(x)
        calls[path, runtime, "detector"] = lambda d=detector: d.detect(picture)
        print(f"{path.name}, {detector!r}: {len(detector.detect(picture))} faces")
    times = timed(calls, options.rounds, options.rest)
    header = ("runtime", *STEPS, "file / bound", "detector / file")
    wide = max(len(path.stem) for path in paths)
    print("\n" + " " * wide + "".join(f"{name:>16}" for name in header))
    for row in rows:
        medians = [statistics.median(times[*row, step]) * 1e3 for step in STEPS]
        ratios = [
            statistics.median(
                a / b for a, b in zip(times[*row, over], times[*row, under], strict=True)
            )
            for over, under in (("file", "bound"), ("detector", "file"))
        ]
        print(
            f"{row[0].stem:<{wide}}{row[1]:>16}"
            + "".join(f"{m:>16.2f}" for m in medians)
            + "".join(f"{ratio:>16.3f}" for ratio in ratios)
        )


def timed(
    calls: dict[tuple[Path, str, str], Callable[[], Any]], rounds: int, rest: float
) -> dict[tuple[Path, str, str], list[float]]:
    """Seconds of each call in each round; each is called once before, untimed, in every round.

    Every other round goes backwards.
    """
    times: dict[tuple[Path, str, str], list[float]] = {key: [] for key in calls}
    for turn in range(rounds):
        for key, call in reversed(calls.items()) if turn % 2 else calls.items():
            if rest:
                time.sleep(rest)
            call()
            start = time.perf_counter()
            call()
            times[key].append(time.perf_counter() - start)
    return times


def product(multiply_adds: float, threads: int | None, precision: str) -> Callable[[], Any]:
    """A product of two square matrices with about so many multiply-adds, one of them constant."""
    openvino = ov.library()
    from openvino import opset13 as opset

    side = max(round(multiply_adds ** (1 / 3)), 1)
    left, right = np.random.default_rng(0).random((2, side, side), dtype=np.float32)
    given = opset.parameter([side, side], np.float32)
    model = openvino.Model([opset.matmul(given, opset.constant(right), False, False)], [given])
    compiled = openvino.Core().compile_model(model, "CPU", settings(threads, precision))
    request = compiled.create_infer_request()
    return lambda: request.infer({0: left}, share_inputs=True, share_outputs=True)


def settings(threads: int | None, precision: str) -> dict[str, Any]:
    """OpenVINO's settings, as facefind gives them."""
    hints = {"fp32": "f32", "bf16": "bf16"}
    found: dict[str, Any] = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": hints[precision],
    }
    return found if threads is None else found | {"INFERENCE_NUM_THREADS": threads}


def bare_run(
    path: Path, runtime: str, threads: int | None, precision: str, planes: Any
) -> Callable[[], Any]:
    """The library's own call, with the settings that facefind gives it and no line of facefind."""
    if runtime == "onnxruntime":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        if threads is not None:
            options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(
            str(path), sess_options=options, providers=["CPUExecutionProvider"]
        )
        name, kind = session.get_inputs()[0].name, session.get_inputs()[0].type
        x = planes if kind == "tensor(uint8)" else planes.astype(np.float32)
        return lambda: session.run(None, {name: x})
    core = ov.library().Core()
    model = core.read_model(str(path))
    model.reshape(list(planes.shape))
    x = planes if str(model.input(0).element_type.to_dtype()) == "uint8" else planes.astype("f4")
    request = core.compile_model(model, "CPU", settings(threads, precision)).create_infer_request()
    return lambda: request.infer({0: x}, share_inputs=True, share_outputs=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", nargs="+", default=["default"], help="names, or .onnx files")
    known = [name for name in get_args(RuntimeName) if name not in ("auto", "torch")]
    parser.add_argument("--runtime", nargs="+", choices=known, default=known)
    parser.add_argument("--threads", type=int, help="CPU threads (default: each library's own)")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--rest", type=float, default=0.0, help="seconds of rest before each turn")
    parser.add_argument("--image", type=Path, help="picture to use (default: noise)")
    parser.add_argument("--size", type=parse_size, default=(480, 640), metavar="WIDTHxHEIGHT")
    parser.add_argument("--min-score", type=float, default=0.5)
    return parser.parse_args()


if __name__ == "__main__":
    main()
