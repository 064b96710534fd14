"""AP on turned and on darkened images against those as they are, and what is found in pictures
without a face.

    python benchmarks/conditions.py --model default --test-protocol everyday --data ground_truth \\
        --images WIDER_val/images --subset list.txt
    python benchmarks/conditions.py --model default --data WIDER_train --hold-out .1
    python benchmarks/conditions.py --model default --empty

Images are changed in memory: turned by quarters of a circle, counterclockwise, and their labels
with them; or given little light: a gamma of 2.2, 12 % of the rest, noise of 3 levels of 255. Then
they are measured by the protocol of WIDER FACE. `--data` is as `facefind evaluate wider` takes it;
with `--hold-out` it is the part of a set that training holds out.

`--empty` prints the highest score in pictures that show nothing: even ones, ramps, and noise.
"""

from __future__ import annotations

import argparse
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from facefind import datasets, images
from facefind.datasets.files import key, present
from facefind.detector import FaceDetector
from facefind.evaluation import wider
from facefind.faces import Faces
from facefind.pipeline.kept import DetectorSettings


def main() -> None:
    options = arguments()
    protocol = options.test_protocol
    settings = DetectorSettings(model=options.model, protocol=protocol, threads=options.threads)
    detector, _ = settings.open()
    print(f"{detector.card.name} at {protocol}, scores from {detector.min_score:g}")
    if options.data is not None:
        conditions(detector, options)
    if options.empty:
        print("\n| picture | highest score |\n|---|---|")
        for kind, some in empty_pictures():
            scores = [score for picture in some for score in detector.detect(picture).scores]
            print(f"| {kind} | {max(scores, default=0):.2f} |")


def conditions(detector: FaceDetector, options: argparse.Namespace) -> None:
    """Print the table of AP, a row for each condition."""
    truth, paths = labeled(options)
    truth = truth.only(paths)
    print(f"{truth.title}, {len(truth.names)} images, mode {options.mode}\n")
    print(f"| images | {' | '.join(truth.subsets)} |\n|---{'|---' * len(truth.subsets)}|")
    names = {path: name for name, path in paths.items()}

    def measure(title: str, read: Callable[[Path], np.ndarray], quarters: int) -> None:
        found = {
            names[result.source]: result.faces
            for result in detector.stream(paths.values(), read=read)
        }
        ap = wider.evaluate(found, turned_labels(truth, found, quarters), options.mode).ap
        cells = " | ".join(f"{100 * value:.2f}" for value in ap.values())
        print(f"| {title} | {cells} |", flush=True)

    for quarters in options.quarters:
        title = f"turned by {90 * quarters} degrees" if quarters else "as they are"
        measure(title, partial(turned_image, quarters=quarters), quarters)
    if options.dark:
        measure("darkened", lambda path: darkened(images.read(path), names[path]), 0)


def darkened(image: np.ndarray, name: str) -> np.ndarray:
    """The image (H,W,3) uint8 in little light, with noise that depends on its name."""
    light = (image.astype(np.float32) / 255) ** 2.2 * 0.12
    noise = np.random.default_rng(zlib.crc32(name.encode())).normal(0, 0.012, light.shape)
    return ((light + noise).clip(0, 1) * 255).round().astype(np.uint8)


def turned_image(path: Path, quarters: int) -> np.ndarray:
    return np.ascontiguousarray(np.rot90(images.read(path), quarters))


def turned_labels(
    truth: wider.GroundTruth, found: Mapping[str, Faces], quarters: int
) -> wider.GroundTruth:
    """The labels of images turned counterclockwise, whose sizes are those in `found`."""
    boxes = []
    for name, own in zip(truth.names, truth.boxes, strict=True):
        height, width = found[name].image_size
        if quarters % 2:
            height, width = width, height  # upright, as the labels are
        for _ in range(quarters % 4):
            x1, y1, x2, y2 = own.T
            own = np.stack([y1, width - x2, y2, width - x1], axis=1)
            height, width = width, height
        boxes.append(own)
    return replace(truth, boxes=tuple(boxes))


def labeled(options: argparse.Namespace) -> tuple[wider.GroundTruth, dict[str, Path]]:
    """The labels, and the images' files by their names."""
    if options.hold_out:
        _, samples = datasets.read_sets([options.data], hold_out=options.hold_out)
        title = f"{options.data.name}, held out"
        return wider.from_samples(samples, title=title), {key(s.name): s.path for s in samples}
    truth = wider.ground_truth(options.data, options.images)
    if options.subset is not None:
        truth = truth.only(options.subset.read_text(encoding="utf-8").splitlines())
    files = wider.image_files(truth.names, options.data, options.images)
    paths, _ = present(files, options.data)
    return truth, paths


def empty_pictures() -> Iterator[tuple[str, list[np.ndarray]]]:
    """Kinds of pictures (H,W,3) uint8 in which there is nothing to find."""
    levels = [np.full((480, 640, 3), level, np.uint8) for level in range(0, 256, 15)]
    yield "even: black, 16 grays, white", levels
    ramp = np.broadcast_to(np.linspace(0, 255, 640)[:, None], (480, 640, 3)).astype(np.uint8)
    yield "ramps in four directions", [np.rot90(ramp, quarters).copy() for quarters in range(4)]
    rng = np.random.default_rng(0)
    sizes = [(480, 640), (640, 640)]
    yield "noise, 640x480 and 640x640", [picture for size in sizes for picture in noise(rng, size)]
    sizes = [(97, 131), (1200, 1600), (900, 700)]
    resized = [
        images.resize(picture, images.fit(size, 640))
        for size in sizes
        for picture in noise(rng, size)
    ]
    yield "noise of 131x97, 1600x1200 and 700x900, resized to 640", resized


def noise(rng: np.random.Generator, size: tuple[int, int]) -> list[np.ndarray]:
    """Four pictures of colored and four of gray noise."""
    colored = list(rng.integers(0, 256, (4, *size, 3), dtype=np.uint8))
    gray = rng.integers(0, 256, (4, *size, 1), dtype=np.uint8)
    return colored + [picture.repeat(3, axis=2) for picture in gray]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="default")
    parser.add_argument("--test-protocol", default="everyday")
    parser.add_argument("--data", type=Path, help="folder of official .mat files, or a set")
    parser.add_argument("--images", type=Path, help="the folder of the set's images")
    parser.add_argument("--subset", type=Path, help="a list of image names, one a line")
    parser.add_argument("--hold-out", type=float, default=0.0)
    parser.add_argument("--mode", choices=("official", "strict"), default="official")
    parser.add_argument("--quarters", type=int, nargs="*", default=[0, 1, 2, 3])
    parser.add_argument("--dark", action="store_true")
    parser.add_argument("--empty", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    if options.data is None and not options.empty:
        parser.error("give --data, --empty or both")
    return options


if __name__ == "__main__":
    main()
