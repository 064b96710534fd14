"""How many faces are hidden: of labeled pictures, and of the frames of written videos.

    python benchmarks/redaction.py pictures --data ground_truth --images WIDER_val/images \\
        --subset list.txt
    python benchmarks/redaction.py choose --data WIDER_train
    python benchmarks/redaction.py videos --every 1 5

A face is hidden where nine tenths of the ellipse in its labeled box are painted over, by the
ellipse that `facefind redact` takes. `pictures` does so for the default settings and for
`--careful`, by the faces that WIDER FACE calls easy, medium and hard, and says how much of the
pictures is painted over that is no face.

`choose` is how the score of `--careful` was chosen: the least, in steps of .05, at which no more
than 3 % of the area is painted over that is no face, on a training set's images that are held out.

`videos` renders the scenes of `benchmarks/tracking.py` (faces on known paths, of two public-domain
portraits) to files, has them redacted, and looks at the pixels of what was written; `frame by
frame` is what each frame's own detections hide. It counts faces of which more than a
tenth can be seen.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from tracking import Stage, labels, moving_faces

from facefind import FaceDetector, datasets, protocols, redaction
from facefind.datasets import digest
from facefind.evaluation import wider
from facefind.faces import Faces
from facefind.images import Found
from facefind.pipeline import RedactedFolder
from facefind.redaction import CAREFUL, Redaction
from facefind.video import DecodedFrame, VideoReader

HIDDEN = 0.9
SCORES = tuple(round(0.05 * step, 2) for step in range(2, 13))
SIDES = (30, 12)
GREEN = (0, 255, 0)


def main() -> None:
    options = arguments()
    {"pictures": pictures, "choose": choose, "videos": videos}[options.what](options)


def pictures(options: argparse.Namespace) -> None:
    truth = wider.ground_truth(options.data, options.images)
    if options.subset is not None:
        truth = truth.only(options.subset.read_text().splitlines())
    files = wider.image_files(truth.names, options.data, options.images)
    print(f"{len(files)} images, labels {truth.digest()[:12]}\n")
    print("| settings | " + " | ".join(truth.subsets) + " | no face, of the area | s |")
    print("|---" * (len(truth.subsets) + 3) + "|")
    base = FaceDetector(options.model, threads=options.threads, precision="fp32")
    rows = [("default", base.protocol.name, base.min_score, 1.2)]
    rows += [("`--careful`", CAREFUL.protocol, CAREFUL.min_score, CAREFUL.grow)]
    rows += [(text, *tried(text)) for text in options.also]
    for title, protocol, score, grow in rows:
        detector = FaceDetector(base.runtime, protocol=protocols.get(protocol), min_score=score)
        how = Redaction(grow=grow)
        counts = {name: [0, 0] for name in truth.subsets}
        areas: list[float] = []
        start = time.perf_counter()
        for number, name in enumerate(truth.names):
            faces = detector.detect(files[name])
            seen, more = painted(faces, truth.boxes[number], how)
            for subset, keep in truth.subsets.items():
                counts[subset][0] += int((seen[keep[number]] >= HIDDEN).sum())
                counts[subset][1] += int(keep[number].sum())
            areas.append(more)
        seconds = time.perf_counter() - start
        cells = " | ".join(f"{100 * hit / all_:.1f} %" for hit, all_ in counts.values())
        print(f"| {title} | {cells} | {100 * np.mean(areas):.2f} % | {seconds:.0f} |", flush=True)


def choose(options: argparse.Namespace) -> None:
    _, samples = datasets.read_sets([options.data], hold_out=0.1)
    detector = FaceDetector(
        options.model,
        precision="fp32",
        protocol=CAREFUL.protocol,
        min_score=SCORES[0],
        threads=options.threads,
    )
    found = [detector.detect(one.path) for one in samples]
    how = Redaction(grow=CAREFUL.grow)
    print(f"{len(samples)} images held out of {options.data.name}, {digest(samples)[:12]}\n")
    print("| score | " + " | ".join(f"faces of {side} px" for side in SIDES) + " | no face |")
    print("|---" * (2 + len(SIDES)) + "|")
    for score in SCORES:
        counts, areas = np.zeros((len(SIDES), 2), int), []
        for one, faces in zip(samples, found, strict=True):
            seen, more = painted(faces[faces.scores >= score], one.boxes, how)
            sides = (one.boxes[:, 2:] - one.boxes[:, :2]).max(1, initial=0)
            for row, side in enumerate(SIDES):
                large = ~one.ignore & (sides >= side)
                counts[row] += (seen[large] >= HIDDEN).sum(), large.sum()
            areas.append(more)
        cells = " | ".join(f"{100 * hit / total:.1f} %" for hit, total in counts)
        print(f"| {score:.2f} | {cells} | {100 * np.mean(areas):.2f} % |", flush=True)


def painted(faces: Faces, boxes: np.ndarray, how: Redaction) -> tuple[np.ndarray, float]:
    """How much of each labeled face is hidden, and the part of the picture that is and is none."""
    mask = mask_of(faces, how)
    own = Faces(boxes, np.ones(len(boxes)), image_size=faces.image_size)
    around = mask_of(own, Redaction(shape="box", grow=1.5))
    return shares(mask, boxes), float((mask & ~around).mean())


def tried(text: str) -> tuple[str, float, float]:
    protocol, score, grow = text.split("/")
    return protocol, float(score), float(grow)


def mask_of(faces: Faces, how: Redaction) -> np.ndarray:
    """Which pixels (H,W) are hidden."""
    mask = np.zeros(faces.image_size, np.uint8)
    paint = Redaction(method="fill", shape=how.shape, grow=how.grow)
    redaction.hide(mask, redaction.grown(faces, how), paint, lambda h, w: np.ones((h, w), "u1"))
    return mask.astype(bool)


def shares(mask: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """The part of the ellipse in each box (N,4), as far as it is in the image, that is masked."""
    found = np.ones(len(boxes))
    for row, box in enumerate(boxes):
        x1, y1 = np.floor(box[:2]).clip(0).astype(int)
        x2, y2 = np.ceil(box[2:]).astype(int)
        part = mask[y1:y2, x1:x2]
        x = (np.arange(x1, x1 + part.shape[1]) + 0.5 - box[[0, 2]].mean()) * 2
        y = (np.arange(y1, y1 + part.shape[0]) + 0.5 - box[[1, 3]].mean()) * 2
        width, height = np.maximum(box[2:] - box[:2], 1)
        inside = (x / width) ** 2 + (y[:, None] / height) ** 2 <= 1
        if inside.any():
            found[row] = part[inside].mean()
    return found


def videos(options: argparse.Namespace) -> None:
    detector = FaceDetector(options.model, threads=options.threads, precision="fp32")
    stage = Stage(detector)
    how = Redaction(method="fill", color=GREEN)
    ways = ["frame by frame", *(f"`--every {every}`" for every in options.every)]
    print("| scene | faces | " + " | ".join(f"exposed, {way}" for way in ways) + " |")
    print("|---" * (len(ways) + 2) + "|")
    total = np.zeros(len(ways) + 1, int)
    with tempfile.TemporaryDirectory() as folder:
        for scene in moving_faces.scenes():
            if options.scenes and scene.name not in options.scenes:
                continue
            source = render(scene, stage, Path(folder) / "scene.mp4")
            truth = labels(scene, stage)
            truth = truth[truth.scores > 0]
            masks = [alone(source, detector, how)]
            for every in options.every:
                out = Path(folder) / f"{scene.name}-{every}"
                with RedactedFolder(out, detector, how, every=every) as copies:
                    for result in copies.redact([Found(source, "scene.mp4")]):
                        _ = result.faces
                masks.append(green(out / "scene.mp4"))
            behind = np.zeros((moving_faces.HEIGHT, moving_faces.WIDTH), bool)
            for x1, y1, x2, y2 in np.array(scene.pillars, int).reshape(-1, 4):
                behind[y1:y2, x1:x2] = True  # nothing of a face can be seen there
            counts = [len(truth)]
            for mask in masks:
                seen = [
                    shares(one | behind, truth.boxes[truth.frames == number])
                    for number, one in enumerate(mask)
                ]
                counts.append(int((np.concatenate(seen) < HIDDEN).sum()))
            total += counts
            print(f"| {scene.name} | " + " | ".join(map(str, counts)) + " |", flush=True)
    print("| all | " + " | ".join(map(str, total)) + " |")


def render(scene: Any, stage: Stage, path: Path) -> Path:
    """A file of a scene's frames at their times, to the millisecond."""
    import av

    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream("libx264", rate=25, options={"crf": "16"})
        stream.width, stream.height = moving_faces.WIDTH, moving_faces.HEIGHT
        stream.pix_fmt = "yuv420p"
        base = stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for number, when in enumerate(scene.times):
            frame = av.VideoFrame.from_ndarray(stage.frame(scene, number), format="rgb24")
            frame.pts, frame.time_base = round(1000 * when), base
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def alone(source: Path, detector: FaceDetector, how: Redaction) -> Sequence[np.ndarray]:
    """What is hidden of each frame by what was detected in it."""
    with VideoReader(source) as reader:
        return [mask_of(detector.detect(frame.image()), how) for frame in reader]


def green(path: Path) -> Sequence[np.ndarray]:
    """Which pixels of each frame were painted green, (H,W)."""
    with VideoReader(path) as reader:
        return [_green(frame) for frame in reader]


def _green(frame: DecodedFrame) -> np.ndarray:
    red, green, blue = np.moveaxis(frame.image().astype(int), -1, 0)
    return np.asarray((green > 160) & (red < 110) & (blue < 110))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=("pictures", "choose", "videos"))
    parser.add_argument("--model", default="default")
    parser.add_argument("--threads", type=int)
    parser.add_argument(
        "--data",
        type=Path,
        help="labels, as `facefind evaluate wider` or, to choose, `train` has them",
    )
    parser.add_argument("--images", type=Path)
    parser.add_argument("--subset", type=Path, help="a file that names the images to take")
    parser.add_argument("--also", nargs="*", default=[], help="PROTOCOL/SCORE/GROW to compare")
    parser.add_argument("--every", nargs="+", type=int, default=[1])
    parser.add_argument("--scenes", nargs="*", help="names of scenes; all where not given")
    return parser.parse_args()


if __name__ == "__main__":
    main()
