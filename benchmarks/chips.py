"""Files with NMS, and of one input size, beside the files that they are made of.

    python benchmarks/chips.py faces IMAGES... --model scrfd-500m-kps --runtime openvino
    python benchmarks/chips.py operators --model scrfd-500m-kps retinaface-mobile

`faces` makes a file with NMS of each model, and one of 640x480 with NMS, and compares their faces,
from a score of 0.02, with those of the model itself under the same protocol. `operators` lists the
operators of the file of 640x480, and what of it is without a fixed shape.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from facefind import FaceDetector, Faces, weights
from facefind.adaptation import adapt
from facefind.graph_edits import open_dimensions
from facefind.pipeline import list_images
from facefind.runtimes import Card

SIZE = (480, 640)
FLOOR = 0.02


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("faces", "operators"))
    parser.add_argument("images", nargs="*")
    parser.add_argument("--model", nargs="+", default=["scrfd-500m-kps"])
    parser.add_argument("--runtime", default="openvino")
    parser.add_argument("--count", type=int, default=None, help="images, drawn evenly")
    args = parser.parse_args()
    with TemporaryDirectory() as folder:
        for model in args.model:
            if args.what == "operators":
                operators(model, Path(folder))
                continue
            found = [one.path for one in list_images(args.images)]
            step = max(1, len(found) // (args.count or len(found)))
            compare(model, found[::step][: args.count], args.runtime, Path(folder))


def made(model: str, folder: Path, name: str, **changes: Any) -> Path:
    file = weights.find(model)
    card = Card.from_file(file)
    assert card is not None
    return adapt(file, folder / f"{name}.onnx", card=replace(card, min_score=FLOOR), **changes)


def compare(model: str, paths: Sequence[Path], runtime: Any, folder: Path) -> None:
    """Print how the faces of both files differ from the model's own."""
    for changes in ({}, {"size": SIZE}):
        file = made(model, folder, "nms", with_nms=True, **changes)
        protocol = "640" if not changes else "640x480"
        settings: dict[str, Any] = {
            "runtime": runtime,
            "protocol": protocol,
            "min_score": FLOOR,
            "precision": "fp32",
        }
        plain = FaceDetector(
            made(model, folder, "plain", size=SIZE) if changes else weights.find(model), **settings
        )
        given = FaceDetector(file, **settings)
        gaps = [gap(plain.detect(path), given.detect(path)) for path in paths]
        differing = [path.name for path, one in zip(paths, gaps, strict=True) if one is None]
        same = np.array([one for one in gaps if one is not None])
        print(
            f"{model}, {runtime}, NMS{' at 640x480' if changes else ''}: {len(paths)} images, "
            f"{int(same[:, 0].sum())} faces from {FLOOR}, at most {int(same[:, 0].max())} in one; "
            f"largest gaps {same[:, 1].max():.2g} pixels, {same[:, 2].max():.2g} of score; other "
            f"faces in {len(differing)} images {' '.join(differing[:3])}",
            flush=True,
        )


def gap(plain: Faces, given: Faces) -> tuple[int, float, float] | None:
    """Count, largest gaps of boxes and landmarks, and of scores; None where faces are others."""
    if len(plain) != len(given):
        return None
    if not len(plain):
        return 0, 0.0, 0.0
    first, second = rows(plain), rows(given)
    # Of equal scores either may come first.
    nearest = np.abs(first[:, None] - second).max(2).argmin(1)
    apart = np.abs(first - second[nearest]).max(0)
    if len(set(nearest)) < len(first) or apart[:-1].max() > 1:
        return None
    return len(plain), float(apart[:-1].max()), float(apart[-1])


def rows(faces: Faces) -> Any:
    """Boxes, landmarks and score of each face."""
    points = faces.landmarks if faces.landmarks is not None else np.empty((len(faces), 0))
    return np.column_stack([faces.boxes, points.reshape(len(faces), -1), faces.scores])


def operators(model: str, folder: Path) -> None:
    """Print the operators of a file of one size, and the tensors that it leaves open."""
    import onnx
    from onnx import shape_inference

    for with_nms in (False, True):
        graph = onnx.load(str(made(model, folder, "fixed", with_nms=with_nms, size=SIZE)))
        kinds = Counter(node.op_type for node in graph.graph.node)
        inferred = shape_inference.infer_shapes(graph, data_prop=True, strict_mode=True)
        left = list(open_dimensions(inferred))
        print(f"{model}{', NMS' if with_nms else ''}: opset {graph.opset_import[0].version}")
        print(f"  {', '.join(f'{kind} {n}' for kind, n in sorted(kinds.items()))}")
        print(f"  shapes that are not fixed: {', '.join(left) or 'none'}", flush=True)


if __name__ == "__main__":
    main()
