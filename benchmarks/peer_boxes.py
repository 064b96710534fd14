"""How far facefind's faces and crops are from those of insightface, uniface and deface.

    python -m venv peers && peers/bin/pip install insightface 'uniface[cpu]' deface
    PYTHONPATH=src peers/bin/python benchmarks/peer_boxes.py --scrfd scrfd_2.5g_kps_640.onnx

insightface and uniface run the files of `--scrfd`, and facefind the same ones; deface runs its own
model, beside facefind's default. Boxes from a score of 0.5 are paired by IoU. The picture is
insightface's sample `t1` where `--image` names none.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from deface.centerface import CenterFace
from insightface.data import get_image
from insightface.model_zoo import get_model
from insightface.utils.face_align import norm_crop
from uniface import face_alignment
from uniface.detection import scrfd as uniface_scrfd

import facefind
from facefind import boxes as box_math
from facefind import landmarks
from facefind.faces import Faces
from facefind.protocols import Pass, TestProtocol

CPU = ["CPUExecutionProvider"]
SQUARE = TestProtocol(name="square", sizes=(Pass(size=640, square=True),))


@dataclass
class WithoutBatch:
    """A session whose outputs lack the dimension of the batch, as uniface reads them."""

    session: Any

    def run(self, names: Any, feeds: Any) -> list[np.ndarray]:
        return [a[0] if a.ndim == 3 else a for a in self.session.run(names, feeds)]


def ours(frame: np.ndarray, model: str = "default", **options: Any) -> Faces:
    return facefind.FaceDetector(
        model, runtime="onnxruntime", precision="fp32", color="bgr", **options
    ).detect(frame)


def insightface(frame: np.ndarray, model: str) -> Faces:
    detector = get_model(model, providers=CPU)
    detector.prepare(0, input_size=(640, 640), det_thresh=0.5)
    found, points = detector.detect(frame)
    return Faces(found[:, :4], found[:, 4], points, image_size=frame.shape[:2])


def uniface(frame: np.ndarray, model: str) -> Faces:
    uniface_scrfd.verify_model_weights = lambda name: model
    detector = uniface_scrfd.SCRFD(providers=CPU)
    detector.session = WithoutBatch(detector.session)
    found = detector.detect(np.ascontiguousarray(frame))
    return Faces(
        [face.bbox for face in found],
        [face.confidence for face in found],
        [face.landmarks for face in found],
        image_size=frame.shape[:2],
    )


def deface(frame: np.ndarray) -> Faces:
    found, points = CenterFace()(frame[..., ::-1].copy(), threshold=0.5)
    return Faces(found[:, :4], found[:, 4], points.reshape(-1, 5, 2), image_size=frame.shape[:2])


def row(title: str, theirs: Faces, faces: Faces) -> str:
    """How far paired faces are apart: pixels of boxes and of points, scores, and IoU."""
    overlaps = box_math.iou(faces.boxes, theirs.boxes)
    paired, pair = overlaps.max(1) > 0.5, overlaps.argmax(1)
    cells = [title, f"{len(theirs)} / {len(faces)}"]
    for name in ("boxes", "landmarks", "scores"):
        a, b = getattr(faces, name), getattr(theirs, name)
        known = a is not None and b is not None
        cells.append(f"{np.abs(a[paired] - b[pair[paired]]).max():.1g}" if known else "")
    return f"| {' | '.join(cells)} | {overlaps.max(1)[paired].min():.4f} |"


def crop_row(title: str, theirs: np.ndarray, crops: np.ndarray) -> str:
    apart = np.abs(theirs.astype(int) - crops)
    return f"{title}: at most {apart.max()} of 255, in {100 * (apart > 0).mean():.3f} % of values"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--scrfd", type=Path, nargs="+", required=True, metavar="FILE.onnx")
    parser.add_argument("--image", type=Path)
    options = parser.parse_args()
    frame = cv2.imread(str(options.image)) if options.image else get_image("t1")
    names = ("insightface", "uniface", "deface", "onnxruntime")
    print(", ".join(f"{name} {metadata.version(name)}" for name in names), "\n")
    print("| | faces | boxes | points | scores | least IoU |\n|---|---|---|---|---|---|")
    for file in options.scrfd:
        faces = ours(frame, str(file), min_score=0.5, protocol="640")
        theirs = insightface(frame, str(file))
        print(row(f"insightface, {file.stem}", theirs, faces))
        if theirs.landmarks is None:
            square = ours(frame, str(file), min_score=0.5, protocol=SQUARE)
            print(row("the same, ours padded to a square, too", theirs, square))
            continue
        print(row(f"uniface, {file.stem}", uniface(frame, str(file)), faces))
        print(row("the same, given RGB", uniface(frame[..., ::-1], str(file)), faces))
        print(row("insightface, and facefind's default model", theirs, ours(frame)))
    print(row("deface, and facefind's default model", deface(frame), ours(frame)), "\n")
    points = ours(frame).landmarks
    for size in (112, 256):
        crops = np.stack([landmarks.align(frame, five, size) for five in points])
        aligned = [norm_crop(frame, five, size) for five in points]
        print(crop_row(f"insightface's crops of {size}", np.stack(aligned), crops))
        aligned = [face_alignment(frame, five, size)[0] for five in points]
        print(crop_row(f"uniface's crops of {size}", np.stack(aligned), crops))


if __name__ == "__main__":
    main()
