"""Does the dense branch find faces? A trained detector on held-out faces, and two portraits.

    python benchmarks/mesh.py --run runs/retinaface-mobile-mesh-short --data WIDER_TRAIN

prints how far rendered colors and the mesh's five points are from photographs and labels, for the
average face in every anchor (what an untrained branch gives) and for what the run's branch gives,
on the faces held out of the run's training; with `--draw FILE` it draws two portraits in the
public domain: as they are, under the average face, under the branch's, and that one turned.

    python benchmarks/mesh.py --descend FILE

needs no training: it fits the 144 numbers of each portrait by descent on the branch's loss, with
the five points that the default model finds, and draws the same.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import matplotlib.cbook
import numpy as np
import skimage.data
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from facefind import FaceDetector, boxes, datasets, images, recipes
from facefind.errors import ImageError
from facefind.mesh.decoding import CAMERA
from facefind.nn.detector import DenseDetector
from facefind.systems.mesh.config import MeshConfig
from facefind.systems.mesh.dense import DenseBranch, crops

CONTEXT = 1.8  # side of a drawn crop over that of the face
TURN = 0.6  # radians


def photographs() -> list[NDArray[np.uint8]]:
    """Eileen Collins (NASA) and Grace Hopper (US Navy)."""
    with matplotlib.cbook.get_sample_data("grace_hopper.jpg") as file:
        return [skimage.data.astronaut(), np.asarray(Image.open(file).convert("RGB"))]


def planes(picture: NDArray[np.uint8], side: int) -> tuple[Tensor, float]:
    """A picture (1,3,H,W) uint8 brought to a long side, padded, and by how much it was scaled."""
    factor = side / max(picture.shape[:2])
    size = tuple(round(length * factor) for length in picture.shape[:2])
    canvas, _ = images.letterbox(picture, (size[0], size[1]))
    return torch.from_numpy(canvas.copy()).permute(2, 0, 1)[None], factor


def around(box: Tensor) -> Tensor:
    """The square (1,4) about a box (4,) with its surroundings."""
    center, half = (box[:2] + box[2:]) / 2, CONTEXT * (box[2:] - box[:2]).max() / 2
    return torch.cat([center - half, center + half])[None]


@torch.no_grad()
def measure(
    network: DenseDetector, samples: list[datasets.Sample], least: float, side: int
) -> dict:
    """Errors at the best anchor of every pointed face of at least `least` pixels."""
    dense = network.mesh
    assert dense is not None
    errors: dict[str, list[tuple[float, float]]] = {"average face": [], "branch": []}
    for sample in samples:
        known = np.isfinite(sample.landmarks).all((1, 2)) & ~sample.ignore
        try:
            picture, factor = planes(images.read(sample.path), side)
        except ImageError as error:
            print(f"passed over: {error}")
            continue
        known &= (sample.boxes[:, 2:] - sample.boxes[:, :2]).max(1) * factor >= least
        if not known.any():
            continue
        faces, points = sample.boxes[known] * factor, torch.tensor(sample.landmarks[known]) * factor
        outputs = network(picture)
        corners = outputs.anchors.boxes
        best = torch.from_numpy(boxes.iou(faces, corners.numpy()).argmax(1))
        at, raw = corners[best], outputs.extras["mesh"][0, best]
        goal, within = crops(picture, torch.zeros(len(best), dtype=torch.int64), at, 64)
        for name, numbers in (("average face", raw * 0), ("branch", raw)):
            shown = dense.render(dense.resolve(numbers, at), at, 64)
            seen = shown.covered & within
            gap = (255 * shown.images - goal).abs().mean(1) * seen
            color = gap.sum((1, 2)) / seen.sum((1, 2)).clamp(min=1)
            anchor = (at[:, 2:] - at[:, :2]).mean(1)[:, None, None]
            five = shown.screen[:, dense.decoder.landmarks, :2] / 64 * anchor + at[:, None, :2]
            size = torch.from_numpy(np.sqrt(boxes.area(faces)))
            nme = (five - points).norm(dim=-1).mean(1) / size
            errors[name] += list(zip(color.tolist(), nme.tolist(), strict=True))
    return {
        name: {
            "faces": len(pairs),
            "color_of_255": round(float(np.mean([color for color, _ in pairs])), 2),
            "landmarks_percent_of_face": round(100 * float(np.mean([nme for _, nme in pairs])), 2),
        }
        for name, pairs in errors.items()
    }


@torch.no_grad()
def row(
    dense: DenseBranch, photograph: Tensor, place: Tensor, before: Tensor, after: Tensor
) -> NDArray[np.uint8]:
    """A photograph's crop at `place`, and faces of resolved parameters (1,144) over it."""
    size = 256
    shown, _ = crops(photograph, torch.zeros(1, dtype=torch.int64), place, size)
    turned = after.clone()
    turned[0, CAMERA.start + 4] += TURN
    drawn = [
        dense.render(numbers, place, size, under).images
        for numbers, under in ((before, shown / 255), (after, shown / 255), (turned, 0.2))
    ]
    whole = torch.cat([shown / 255, *drawn], 3)[0].clamp(0, 1)
    return (255 * whole).byte().permute(1, 2, 0).numpy()


@torch.no_grad()
def portraits(network: DenseDetector, side: int) -> Image.Image:
    """Two portraits: photograph, average face, the branch's, the branch's turned."""
    dense, rows = network.mesh, []
    assert dense is not None
    for photograph in photographs():
        picture, _ = planes(photograph, side)
        found = network.candidates(picture)
        best = found.scores[0].argmax()
        anchor = network(picture).anchors.boxes[best][None]
        average = dense.resolve(torch.zeros(1, 144), anchor)
        place = around(found.boxes[0, best])
        rows.append(row(dense, picture, place, average, found.mesh[0, best][None]))
    return Image.fromarray(np.concatenate(rows))


def descend(steps: int = 250) -> Image.Image:
    """Two portraits fitted by descent; prints the loss terms before and after."""
    torch.manual_seed(0)
    dense = MeshConfig(landmarks=3.0, prior=0.02, max_anchors=1, min_anchor=0).build()
    rows = []
    for photograph in photographs():
        faces = FaceDetector().detect(photograph)
        assert faces.landmarks is not None
        picture = torch.tensor(photograph).permute(2, 0, 1)[None]
        at = around(torch.tensor(faces.boxes[0]))
        middle, half = (at[:, :2] + at[:, 2:]) / 2, (at[:, 2:] - at[:, :2]) / (2 * CONTEXT)
        anchor = torch.cat([middle - half, middle + half], 1)
        points, image = torch.tensor(faces.landmarks[:1]), torch.zeros(1, dtype=torch.int64)
        raw = torch.zeros(1, 144, requires_grad=True)
        optimizer = torch.optim.Adam([raw], 0.05)
        for step in range(steps):
            optimizer.param_groups[0]["lr"] = 0.05 * (1 - step / steps) + 0.002
            terms = dense.compare(raw, anchor, image, picture, points)
            if step in (0, steps - 1):
                values = {name: round(value.item(), 4) for name, value in terms.items()}
                print(json.dumps({"step": step} | values))
            optimizer.zero_grad()
            torch.stack(list(terms.values())).sum().backward()
            optimizer.step()
        before, after = (dense.resolve(numbers.detach(), anchor) for numbers in (raw * 0, raw))
        rows.append(row(dense, picture, at, before, after))
    return Image.fromarray(np.concatenate(rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--run", type=Path, help="run or checkpoint of a RetinaFace with a mesh")
    parser.add_argument("--data", help="the first set that it was trained on")
    parser.add_argument("--draw", type=Path, help="write the portraits to this file")
    parser.add_argument("--descend", type=Path, help="write portraits fitted by descent instead")
    parser.add_argument("--least", type=float, default=32, help="least side of a measured face")
    parser.add_argument("--side", type=int, default=640, help="long side of the images")
    args = parser.parse_args()
    if args.descend:
        descend().save(args.descend)
        return
    if not args.run:
        parser.error("name a run, or a picture to --descend to")
    recipe, network = recipes.load_network(args.run)
    if network.mesh is None:
        parser.error(f"expected a run of a network with a mesh branch, got {recipe.name}")
    if args.draw:
        portraits(network, args.side).save(args.draw)
    if args.data:
        _, held_out = datasets.read_sets([args.data], hold_out=recipe.data.hold_out)
        print(json.dumps(measure(network, held_out, args.least, args.side), indent=2))


if __name__ == "__main__":
    main()
