"""Faces followed through rendered videos: MOTA, IDF1, HOTA, and faces that would be exposed.

    python benchmarks/tracking.py --model default --every 1
    python benchmarks/tracking.py --random 24
    python benchmarks/tracking.py --simulated --dropped 0.4

The scenes of `tests/reference/moving_faces.py` (crossings, faces behind a pillar, coming and
leaving, near and far, a hand-held camera, low and uneven frame rates, a cut) are rendered with two
public-domain portraits, those of `examples/demo.py`, and the model finds the faces in each frame;
with `--simulated`, `moving_faces.detections` stands in for it. `--dropped` is a part of the faces
that is then taken away. A face is exposed where less than three quarters of what is seen of it lie
under one hidden box, grown by a tenth of its sides on each side. Faces of
which more than half is hidden or outside the image do not count.

`every`: faces are detected in one of so many frames, tracks are filled in between. `found`: faces
that count, in a part of their frames at least half, as boxes from the threshold show them.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from facefind import boxes as box_math
from facefind.detector import FaceDetector
from facefind.evaluation.mot import Trajectories, of_faces
from facefind.evaluation.tracking import evaluate, exposed
from facefind.faces import Faces
from facefind.video.tracking import Tracker, TrackerConfig
from facefind.video.tracks import Frame, filled
from facefind.video.two_pass import track

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests" / "reference"), str(ROOT / "examples")]
import demo  # noqa: E402
import moving_faces  # noqa: E402
from moving_faces import HEIGHT, WIDTH, Scene  # noqa: E402

# Where the portraits' heads are.
HEADS = ((120, 0, 330, 260), (150, 20, 400, 340))


class Stage:
    """Renders frames of scenes: heads, cut out by an ellipse, before a picture."""

    def __init__(self, detector: FaceDetector) -> None:
        self.heads = []
        for portrait, around in zip(demo.portraits(), HEADS, strict=True):
            head = portrait.crop(around)
            face = detector.detect(head).largest
            assert face is not None, "the model finds no face in a portrait"
            mask = Image.new("L", head.size, 0)
            ImageDraw.Draw(mask).ellipse(box_math.expand(face.box, 0.25).tolist(), fill=255)
            self.heads.append((head, mask, face.box))
        rng = np.random.default_rng(0)
        self.backgrounds = [
            Image.fromarray(rng.integers(low, high, (12, 20, 3), dtype=np.uint8)).resize(
                (WIDTH, HEIGHT), Image.Resampling.BICUBIC
            )
            for low, high in ((60, 160), (0, 90))
        ]

    def frame(self, scene: Scene, number: int) -> np.ndarray:
        """The picture (H,W,3) uint8 of a frame."""
        shown = sum(number >= cut for cut in scene.cut_frames) % 2
        picture = self.backgrounds[shown].copy()
        for row, box in enumerate(scene.boxes[number]):
            if not np.isnan(box).any():
                self._paste(picture, row, box)
        for pillar in scene.pillars:
            ImageDraw.Draw(picture).rectangle(pillar, fill=(90, 80, 70))
        return np.asarray(picture)

    def _paste(self, picture: Image.Image, row: int, box: np.ndarray) -> None:
        head, mask, face = self.heads[row % 2]
        scale = (box[3] - box[1]) / (face[3] - face[1])
        size = (max(1, round(head.width * scale)), max(1, round(head.height * scale)))
        center = (box[:2] + box[2:]) / 2 - scale * (face[:2] + face[2:]) / 2
        place = tuple(round(value) for value in center.tolist())
        kind = Image.Resampling.BOX if scale < 1 else Image.Resampling.BICUBIC
        picture.paste(head.resize(size, kind), place, mask.resize(size, kind))


def rendered(
    scene: Scene, stage: Stage, detector: FaceDetector
) -> Iterator[tuple[np.ndarray, Faces]]:
    for number in range(len(scene.times)):
        picture = stage.frame(scene, number)
        yield picture, detector.detect(picture)


def labels(scene: Scene, stage: Stage | None) -> Trajectories:
    """The labels; of a rendered scene as wide as the portraits' faces are."""
    truth = scene.truth()
    if stage is None:
        return truth
    boxes = box_math.to_cxcywh(truth.boxes)
    for number in (0, 1):
        face = stage.heads[number][2]
        rows = (truth.ids - 1) % 2 == number
        boxes[rows, 2] = boxes[rows, 3] * (face[2] - face[0]) / (face[3] - face[1])
    return Trajectories(truth.frames, truth.ids, box_math.from_cxcywh(boxes), truth.scores)


def alone(frames: list[Frame], min_score: float) -> Trajectories:
    """What each frame shows by itself, from the threshold."""
    sure = [(index, faces[faces.scores >= min_score]) for index, _, faces in frames]
    return of_faces(
        (index, Faces(f.boxes, f.scores, ids=np.arange(len(f)), image_size=f.image_size))
        for index, f in sure
    )


def measure(
    scene: Scene,
    truth: Trajectories,
    find: Callable[[Scene], Iterator[tuple[np.ndarray | None, Faces]]],
    config: TrackerConfig,
    every: int,
) -> tuple[Trajectories, np.ndarray]:
    """Tracks found going forward, and counts: of faces, exposed by frame, tracked and filled; of
    those whose face is found in half its frames, the same; seconds of tracking."""
    tracker = Tracker(config)
    frames: list[Frame] = []
    online, cuts, seconds = [], [], 0.0
    for number, (picture, faces) in enumerate(find(scene)):
        when = float(scene.times[number])
        if number % every:
            faces = Faces.empty(faces.image_size)
        start = time.perf_counter()
        if number % every:
            online.append((number, tracker.predict(when, picture)))
        else:
            cut = None if picture is not None else number in scene.cut_frames
            online.append((number, tracker.update(faces, picture, when, cut=cut)))
        seconds += time.perf_counter() - start
        cuts += [number] if tracker.cut else []
        frames.append((number, when, faces))
    if cuts != [*scene.cut_frames]:
        print(f"cuts seen in {scene.name!r}: {cuts}, there are {[*scene.cut_frames]}")
    full = of_faces((i, faces) for i, _, faces in filled(track(frames, config, cuts)).faces())
    own, counted = of_faces(online), truth[truth.scores > 0]
    counted = replace(counted, boxes=scene.seen(counted.boxes))
    bare = [exposed(one, counted) for one in (alone(frames, config.min_score), own, full)]
    half = [n for n in np.unique(counted.ids) if bare[0][counted.ids == n].mean() <= 0.5]
    found = np.isin(counted.ids, half)
    figures = [len(counted), *(b.sum() for b in bare)]
    figures += [found.sum(), *(b[found].sum() for b in bare), seconds]
    return own, np.array(figures)


def main() -> None:
    options = arguments()
    stage = None
    config = TrackerConfig()
    if options.simulated:

        def find(scene: Scene) -> Iterator[tuple[np.ndarray | None, Faces]]:
            found = moving_faces.detections(scene, options.seed, dropped=options.dropped)
            return ((None, faces) for faces in found)
    else:
        running = {"threads": 1, "precision": "fp32"}
        config = TrackerConfig(min_score=FaceDetector(options.model, **running).min_score)
        detector = FaceDetector(options.model, min_score=config.low_score, **running)
        stage = Stage(detector)

        def find(scene: Scene) -> Iterator[tuple[np.ndarray | None, Faces]]:
            rng = np.random.default_rng(options.seed)
            for picture, faces in rendered(scene, stage, detector):
                yield picture, faces[rng.random(len(faces)) >= options.dropped]

    print(f"{config}, every {options.every}\n")
    print("| scene | MOTA | IDF1 | HOTA | switches | faces | exposed, by frame | tracked | filled "
          "| of found | by frame | tracked | filled |")  # fmt: skip
    print("|---" * 13 + "|")
    tracks, truths, sums = {}, {}, np.zeros(9)
    if options.random:
        scenes = [moving_faces.random_scene(seed) for seed in range(options.random)]
    else:
        named = options.scenes or [scene.name for scene in moving_faces.scenes()]
        scenes = [scene for scene in moving_faces.scenes() if scene.name in named]
    for scene in scenes:
        truth = labels(scene, stage)
        own, counts = measure(scene, truth, find, config, options.every)
        tracks[scene.name], truths[scene.name] = own, truth
        sums += counts
        row(scene.name, evaluate(own, truth), counts)
    row("all", evaluate(tracks, truths), sums)
    frames = sum(len(scene.times) for scene in scenes)
    print(f"\ntracking: {1000 * sums[-1] / frames:.2f} ms a frame")


def row(name: str, result, counts: np.ndarray) -> None:
    rates = " | ".join(f"{100 * rate:.1f}" for rate in (result.mota, result.idf1, result.hota))
    numbers = " | ".join(f"{int(count)}" for count in counts[:-1])
    print(f"| {name} | {rates} | {result.switches} | {numbers} |", flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="default")
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--scenes", nargs="*", help="names of scenes; all where not given")
    parser.add_argument("--random", type=int, help="so many scenes of random paths instead")
    parser.add_argument("--simulated", action="store_true")
    parser.add_argument("--dropped", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
