"""Milliseconds from a decoded picture to faces: facefind beside insightface and uniface.

    python -m venv peers && peers/bin/pip install insightface uniface onnxruntime
    python benchmarks/peers.py --peers peers/bin/python --scrfd scrfd_2.5g_kps_640.onnx

Each competitor is a process of its own, with its own packages, which detects `--calls` times when
its turn comes and sleeps otherwise; the turns go round in an order that is drawn anew each time.
What is compared with what: the same published SCRFD-2.5GF file by all of them, and facefind's own
default model by what it has for it.

- `--scrfd`: a file of SCRFD-2.5GF with points that takes 640x640 pictures alone. A copy of it takes
  any size: insightface searches with that at its two default sizes, facefind at the picture's own.
  facefind's test protocol is its default, which adds a small pass for faces that fill the picture.
- `--threads`: of every library's pool. Where it is not given, each has its own default.

The picture is 640x480, `examples/demo.py`'s crowd where `--image` names none.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Detect = Callable[[np.ndarray], int]
"""Takes a picture (H, W, 3) uint8 BGR, gives the number of faces."""


def insightface(model: str, sizes: str) -> Detect:
    """Its detector as `FaceAnalysis` runs it, at its default sizes or at one."""
    from insightface.app import FaceAnalysis

    app = FaceAnalysis(model, allowed_modules=["detection"], providers=["CPUExecutionProvider"])
    app.prepare(ctx_id=-1, **({} if sizes == "default" else {"det_size": (640, 640)}))
    return lambda picture: len(app.get(picture))


def uniface(model: str, _: str) -> Detect:
    """Its SCRFD over a file that it does not fetch."""
    import uniface.detection.scrfd as module

    module.verify_model_weights = lambda name: model
    detector = module.SCRFD(providers=["CPUExecutionProvider"])
    return lambda picture: len(detector.detect(picture))


def facefind(model: str, precision: str) -> Detect:
    """Its detector with the defaults of everything but the precision."""
    from facefind import FaceDetector

    threads = os.environ.get("PEER_THREADS")
    detector = FaceDetector(
        model, precision=precision, color="bgr", threads=threads and int(threads)
    )
    print(repr(detector), file=sys.stderr)
    return lambda picture: len(detector.detect(picture))


LIBRARIES = {"insightface": insightface, "uniface": uniface, "facefind": facefind}


def serve(library: str, model: str, how: str, picture: str) -> None:
    """A competitor: for each line of stdin, so many calls; answers with their milliseconds."""
    threads = os.environ.get("PEER_THREADS")
    if threads and library != "facefind":
        limit(int(threads))
    image = np.load(picture)
    answers, sys.stdout = sys.stdout, sys.stderr  # what libraries print goes elsewhere
    detect = LIBRARIES[library](model, how)
    faces = detect(image)
    print(json.dumps({"faces": faces}), file=answers, flush=True)
    for line in sys.stdin:
        times = []
        detect(image)
        for _ in range(int(line)):
            began = time.perf_counter()
            detect(image)
            times.append(1e3 * (time.perf_counter() - began))
        print(json.dumps(times), file=answers, flush=True)


def limit(threads: int) -> None:
    """Have all of onnxruntime's sessions use so many threads."""
    import onnxruntime

    real = onnxruntime.SessionOptions

    class Limited(real):  # type: ignore[misc, valid-type]
        def __init__(self) -> None:
            super().__init__()
            self.intra_op_num_threads = threads

    onnxruntime.SessionOptions = Limited
    first = onnxruntime.InferenceSession

    class Session(first):  # type: ignore[misc, valid-type]
        def __init__(self, path: Any, sess_options: Any = None, **more: Any) -> None:
            super().__init__(path, sess_options or Limited(), **more)

    onnxruntime.InferenceSession = Session


class Competitor:
    """A library's process."""

    def __init__(self, python: str, *words: str, threads: int | None) -> None:
        self.times: list[float] = []
        limits = {} if threads is None else {"PEER_THREADS": str(threads)}
        self.process = subprocess.Popen(
            [python, __file__, "--serve", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | limits,
        )
        self.faces = self._answer()["faces"]

    def turn(self, calls: int) -> float:
        """Detect so often; the median of the times, in milliseconds."""
        assert self.process.stdin is not None
        print(calls, file=self.process.stdin, flush=True)
        self.times.append(statistics.median(self._answer()))
        return self.times[-1]

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{' '.join(map(str, self.process.args))} ended")
        return json.loads(line)


def copy(file: Path, out: Path, *, any_size: bool) -> Path:
    """A copy of an ONNX file, its outputs without a dimension of the batch, as uniface has them."""
    import onnx

    model = onnx.load(str(file))
    graph = model.graph
    if any_size:
        height, width = graph.input[0].type.tensor_type.shape.dim[2:]
        height.dim_param, width.dim_param = "height", "width"
    for output in graph.output:
        shape = output.type.tensor_type.shape
        count, values = shape.dim[-2].dim_value, shape.dim[-1].dim_value
        inner = f"{output.name} of the batch"
        for node in graph.node:
            node.output[:] = [inner if name == output.name else name for name in node.output]
        flat = onnx.helper.make_tensor(f"{inner}, flat", onnx.TensorProto.INT64, [2], [-1, values])
        graph.initializer.append(flat)
        graph.node.append(onnx.helper.make_node("Reshape", [inner, flat.name], [output.name]))
        rows = f"cells of {output.name}" if any_size else count
        output.CopyFrom(onnx.helper.make_tensor_value_info(output.name, 1, [rows, values]))
    onnx.save(model, str(out))
    return out


def main() -> None:
    options = arguments()
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "picture.npy"
        np.save(picture, pixels(options.image))
        package = Path(folder) / "package"
        package.mkdir()
        free = copy(options.scrfd, package / "scrfd_2.5g_kps.onnx", any_size=True)
        fixed = copy(options.scrfd, Path(folder) / "scrfd_2.5g_kps_640.onnx", any_size=False)
        own, peers = sys.executable, str(options.peers)
        rows = {
            "insightface, two sizes (its default)": (peers, "insightface", package, "default"),
            "insightface, 640x640": (peers, "insightface", package, "640"),
            "uniface, 640x640 (its default)": (peers, "uniface", fixed, ""),
            "facefind, the same file, fp32": (own, "facefind", free, "fp32"),
            "facefind, the same file at 640x640, fp32": (own, "facefind", fixed, "fp32"),
            "facefind's default, fp32": (own, "facefind", "default", "fp32"),
            "facefind's default, int8": (own, "facefind", "default", "int8"),
            **{
                f"{title}, bf16": (own, "facefind", model, "bf16")
                for title, model in (("facefind, the same file", free), ("its default", "default"))
                if options.bf16
            },
        }
        field = {}
        for name, (python, library, model, how) in rows.items():
            words = (library, str(model), how, str(picture))
            field[name] = Competitor(python, *words, threads=options.threads)
        for _ in range(options.rounds):
            for one in random.sample(list(field.values()), len(field)):
                time.sleep(options.rest)
                one.turn(options.calls)
        for one in field.values():
            one.process.kill()
    base = field["insightface, two sizes (its default)"].times
    print(f"{options.rounds} rounds of {options.calls} calls, threads {options.threads or 'own'}, "
          f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores\n")  # fmt: skip
    print("| | ms | times as fast as insightface's default | faces |\n|---|---|---|---|")
    for name, one in field.items():
        ratio = statistics.median(a / b for a, b in zip(base, one.times, strict=True))
        print(f"| {name} | {statistics.median(one.times):.1f} | {ratio:.2f} | {one.faces} |")


def pixels(image: Path | None) -> np.ndarray:
    """The picture, 640x480 BGR."""
    from facefind import images

    if image is None:
        sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples"))
        import demo

        picture = np.asarray(demo.crowd(*demo.portraits()))
    else:
        picture = images.read(image)
    return np.ascontiguousarray(images.resize(picture, (480, 640))[..., ::-1])


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--peers", type=Path, required=True, help="Python of their environment")
    parser.add_argument("--scrfd", type=Path, required=True, metavar="FILE.onnx")
    parser.add_argument("--image", type=Path)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--calls", type=int, default=5)
    parser.add_argument("--rest", type=float, default=0.2, help="seconds before each turn")
    parser.add_argument("--bf16", action="store_true", help="where the processor has it")
    return parser.parse_args()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve(*sys.argv[2:])
    else:
        main()
