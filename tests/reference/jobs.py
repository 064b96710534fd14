"""Commands that can be stopped and resumed, and small images and labels for them to work on."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from facefind import datasets
from facefind.datasets import Sample
from facefind.files import sha256


class Job(NamedTuple):
    """A command that can be resumed; in its words, {given} and {out} are folders.

    Attributes:
        command: its words.
        begin: further ones the first time.
        resume: those that take up what was stopped.
        code: its exit code.
        result: what an output folder holds at the end, without times.
    """

    command: str
    begin: str
    resume: str
    code: int
    result: Callable[[Path], Any]

    def args(self, given: Path, out: Path, *, resume: bool = False) -> list[str]:
        """The arguments of `facefind`."""
        words = shlex.split(f"{self.command} {self.resume if resume else self.begin}")
        return [word.format(given=given, out=out) for word in words]


def _files(out: Path) -> dict[str, Any]:
    """Lines by image, and digests of all other files."""
    found: dict[str, Any] = {}
    for path in filter(Path.is_file, out.rglob("*")):
        name = str(path.relative_to(out))
        if path.suffix == ".jsonl":
            lines = [json.loads(line) for line in path.read_bytes().splitlines()]
            found[name] = sorted(lines, key=lambda record: record["image"])
        else:
            found[name] = sha256(path)
    return found


def _weights(out: Path) -> dict[str, bytes]:
    from facefind.learn import checkpoints

    content = checkpoints.load(out / "run" / checkpoints.FINAL)
    return {name: value.numpy().tobytes() for name, value in content["network"].items()}


def _found(out: Path) -> Any:
    report = json.loads((out / "study" / "report.json").read_text())
    for step in ("step1", "step2"):
        del report[step]["seconds"]
    return report, (out / "study" / "found.py").read_text()


_DETECTOR = (
    "{given}/images --model scrfd-500m-kps --runtime onnxruntime --threads 1 --test-protocol 256 "
    "--json --failures {out}/failures.jsonl"
)
JOBS = {
    "detect": Job(f"detect {_DETECTOR} --out {{out}}/faces.jsonl", "", "--resume", 1, _files),
    "align": Job(f"align {_DETECTOR} --out {{out}}/crops", "", "--resume", 1, _files),
    "train": Job(
        "train scrfd-500m-short --data {given}/set --network.widths 8 8 8 8 --network.depths 1 1 1 "
        "1 --network.stem 8 8 --network.neck 32 --network.head 32 --augment.size 64 --device cpu "
        "--schedule.batch 4 --schedule.epochs 4 --data.hold-out .3 --data.workers 0 --run.threads 1"
        " --run.precision fp32 --run.checkpoint-every 0 --run.log-every 1",
        *("--out {out}/run", "--resume {out}/run", 0, _weights),
    ),
    "search": Job(
        "search scrfd --data {given}/set --gflops .1 --block depthwise --neck 8 --head 16 "
        "--tolerance .1 --models 2 --size 32 --batch 4 --epochs 1 --hold-out .3 --evaluate-images 2"
        " --threads 1 --device cpu --workers 0 --out {out}/study",
        *("", "", 0, _found),
    ),
}
"""The commands that can be resumed."""
LINES = {"detect": "faces.jsonl", "align": "crops/manifest.jsonl"}


def materials(given: Path, face: Image.Image, images: int) -> None:
    """Write so many images, each eighth of them bad, and a labeled set of twelve squares."""
    rng, samples = np.random.default_rng(0), []
    (given / "images").mkdir(parents=True)
    for number in range(images):
        path = given / "images" / f"{number}.jpg"
        face.resize((200 + number % 50, 200 + number % 30)).save(path)
        if number % 8 == 7:
            path.write_bytes(path.read_bytes()[:-900])
    for number in range(12):
        pixels = rng.integers(0, 60, (64, 64, 3), np.uint8)
        left, top, side = rng.integers((0, 0, 16), 32)
        pixels[top : top + side, left : left + side] = 220
        path = given / "set" / "images" / "squares" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
        box = [[left, top, left + side, top + side]]
        name = f"squares/{path.name}"
        samples.append(Sample(name, path, box, group="squares", image_size=(64, 64)))
    datasets.write(samples, given / "set", "wider")
