"""Does the dense branch learn on real faces? A light backbone on crops of them, nothing else.

A face's box, made square and shaken a little, is the anchor; one feature of a MobileNet-0.25 on
the crop gives the 144 numbers, as one feature of the pyramid does in RetinaFace. It learns by the
branch's own losses on the labelled faces of a training set and is measured on those held out:

    python benchmarks/mesh.py --root PATH_OF_WIDER_TRAIN --out runs/mesh-crops

Written there: log.jsonl (errors before, during and after), mesh.pt, held.png (held-out faces, and
beside each what is rendered over it) and portraits.png (two portraits in the public domain: as they
are, under the average face, under the trained branch's, and its shape).

    python benchmarks/mesh.py --descend portraits.png

needs no training: it fits the 144 numbers of each portrait by descent on the branch's loss, with
the five points that the default model finds, and draws photograph, average face, fit, fit turned.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from facefind import datasets, images
from facefind.drawing import draw
from facefind.errors import ImageError
from facefind.faces import Faces
from facefind.mesh.decoding import CAMERA
from facefind.nn.backbones import MobileNetV1
from facefind.systems.mesh import camera
from facefind.systems.mesh.dense import DenseBranch, MeshConfig, crops

CONTEXT = 1.8  # side of a stored crop over that of the face's square
STORED, SEEN = 112, 48  # pixels of a stored crop, and of what the backbone is given
MARGIN = 1.3  # side of what the backbone is given over that of the anchor


@dataclass
class FaceCrops:
    """Crops (N,3,S,S) uint8 about faces, with the faces' squares (N,4) and points (N,5,2)."""

    pictures: Tensor
    boxes: Tensor
    points: Tensor

    @classmethod
    def of(cls, samples: list[datasets.Sample], least: float, most: int) -> FaceCrops:
        pictures, boxes, points = [], [], []
        for number in np.random.default_rng(0).permutation(len(samples)):
            sample = samples[number]
            sides = (sample.boxes[:, 2:] - sample.boxes[:, :2]).max(1)
            known = np.isfinite(sample.landmarks).all((1, 2)) & (sides >= least) & ~sample.ignore
            if not known.any():
                continue
            try:
                picture = images.read(sample.path)
            except ImageError as error:
                print(f"passed over: {error}")
                continue
            centres = (sample.boxes[:, :2] + sample.boxes[:, 2:]) / 2
            room = np.minimum(centres, np.array(picture.shape[1::-1]) - centres).min(1)
            known &= room >= sides / 2  # the whole square lies within the picture
            for i in np.flatnonzero(known)[:8]:
                crop, box, five = cut(picture, sample.boxes[i], sample.landmarks[i])
                pictures.append(crop)
                boxes.append(box)
                points.append(five)
            if len(pictures) >= most:
                break
        return cls(
            torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous(),
            torch.from_numpy(np.stack(boxes)),
            torch.from_numpy(np.stack(points)),
        )

    def save(self, path: Path) -> None:
        torch.save((self.pictures, self.boxes, self.points), path)


def cut(
    picture: NDArray[np.uint8], box: NDArray[np.float32], points: NDArray[np.float32]
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]]:
    """A square crop about a face, and the face's square and points in its pixels."""
    centre, side = (box[:2] + box[2:]) / 2, float((box[2:] - box[:2]).max())
    corner = centre - CONTEXT * side / 2
    place = (*corner.tolist(), *(corner + CONTEXT * side).tolist())
    crop = Image.fromarray(picture).transform(
        (2 * STORED, 2 * STORED), Image.Transform.EXTENT, place, Image.Resampling.BILINEAR
    )
    scale = STORED / (CONTEXT * side)
    square = np.concatenate([centre - side / 2 - corner, centre + side / 2 - corner]) * scale
    small = np.asarray(crop.resize((STORED, STORED), Image.Resampling.BOX))
    return small, square.astype(np.float32), ((points - corner) * scale).astype(np.float32)


class Branch(nn.Module):
    """One feature of a light backbone to 144 numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = MobileNetV1((8, 16), (2, 2, 6, 2), (32, 64, 128, 256), first=(3, 2))
        self.head = nn.Linear(256, 144)
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)

    def forward(self, pictures: Tensor, anchors: Tensor) -> Tensor:
        """Raw parameters (N,144) of faces in pictures (N,3,S,S) of 0..255 at anchors (N,4)."""
        grow = (anchors[:, 2:] - anchors[:, :2]) * (MARGIN - 1) / 2
        wide = torch.cat([anchors[:, :2] - grow, anchors[:, 2:] + grow], 1)
        seen, _ = crops(pictures, torch.arange(len(pictures)), wide, SEEN)
        return self.head(self.backbone((seen - 127.5) / 64)[-1].mean((2, 3)))


def shaken(boxes: Tensor, generator: torch.Generator, by: float = 0.12) -> Tensor:
    """Anchors such as matching gives: squares off by some of their side, and of another size."""
    side = (boxes[:, 2:] - boxes[:, :2]).mean(1, keepdim=True)
    noise = torch.rand(len(boxes), 3, generator=generator) * 2 - 1
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2 + by * side * noise[:, :2]
    half = side / 2 * (1.5 * by * noise[:, 2:]).exp()
    return torch.cat([centre - half, centre + half], 1)


def camera_loss(raw: Tensor, dense: DenseBranch, anchors: Tensor, points: Tensor) -> Tensor:
    """How far the average face's points are from the labelled ones: no decoder, no renderer."""
    seen = camera.resolve(raw[:, CAMERA], anchors)
    five = dense.decoder.mean[dense.decoder.landmarks, :3].expand(len(raw), -1, -1)
    screen = camera.project(camera.to_camera(five, seen), seen)[..., :2]
    side = (anchors[:, 2:] - anchors[:, :2]).mean(1)[:, None, None]
    gap = nn.functional.smooth_l1_loss(screen / side, points / side, beta=1 / 9, reduction="sum")
    return 2 * gap / len(raw)


@torch.no_grad()
def measure(network: Branch, dense: DenseBranch, faces: FaceCrops, zero: bool = False) -> dict:
    """Errors on faces at shaken anchors: of colours on covered pixels, and of the five points."""
    network.eval()
    anchors = shaken(faces.boxes, torch.Generator().manual_seed(0))
    colour, far = [], []
    for part in torch.arange(len(anchors)).split(64):
        pictures, at = faces.pictures[part].float(), anchors[part]
        raw = network(pictures, at) * (0 if zero else 1)
        size = dense.config.size
        goal, within = crops(pictures, torch.arange(len(part)), at, size)
        shown = dense.render(dense.resolve(raw, at), at, size)
        seen = shown.covered & within
        gap = (255 * shown.images - goal).abs().mean(1) * seen
        colour.append(gap.sum((1, 2)) / seen.sum((1, 2)).clamp(min=1))
        side = (at[:, 2:] - at[:, :2]).mean(1)[:, None, None]
        points = shown.screen[:, dense.decoder.landmarks, :2] / size * side + at[:, None, :2]
        face = (faces.boxes[part, 2:] - faces.boxes[part, :2]).mean(1)[:, None]
        far.append(((points - faces.points[part]).norm(dim=-1) / face).mean(1))
    network.train()
    return {
        "colour_of_255": round(torch.cat(colour).mean().item(), 3),
        "points_nme_percent": round(100 * torch.cat(far).mean().item(), 3),
    }


@torch.no_grad()
def picture(network: Branch, dense: DenseBranch, faces: FaceCrops, rows: int = 6) -> Image.Image:
    """Held-out faces, and beside each the face that is rendered over it."""
    network.eval()
    count = min(len(faces.boxes), 4 * rows)
    some = torch.linspace(0, len(faces.boxes) - 1, count).long()
    pictures, at = faces.pictures[some].float(), faces.boxes[some]
    parameters = dense.resolve(network(pictures, at), at)
    whole = torch.tensor([[0.0, 0, STORED, STORED]]).expand(count, 4)
    size = 2 * STORED
    under = nn.functional.interpolate(pictures / 255, (size, size), mode="bilinear")
    over = dense.render(parameters, whole, size, under).images
    pairs = torch.cat([under, over], 3).clamp(0, 1)
    tiles = (255 * pairs).byte().permute(0, 2, 3, 1).numpy()
    grid = [np.concatenate(list(tiles[i : i + 4]), 1) for i in range(0, count - count % 4, 4)]
    network.train()
    return Image.fromarray(np.concatenate(grid))


def portrait(photograph: NDArray[np.uint8], size: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A crop (1,3,S,S) about the face of a photograph, a larger one, the face's square, its points.

    The square and the points are in pixels of the smaller crop.
    """
    from facefind import FaceDetector

    faces = FaceDetector().detect(photograph)
    assert faces.landmarks is not None
    small, square, points = cut(photograph, faces.boxes[0], faces.landmarks[0])
    centre = (faces.boxes[0, :2] + faces.boxes[0, 2:]) / 2
    half = CONTEXT * float((faces.boxes[0, 2:] - faces.boxes[0, :2]).max()) / 2
    place = (*(centre - half).tolist(), *(centre + half).tolist())
    large = Image.fromarray(photograph).transform(
        (2 * size, 2 * size), Image.Transform.EXTENT, place, Image.Resampling.BICUBIC
    )
    shown = np.asarray(large.resize((size, size), Image.Resampling.BOX))
    pictures = [torch.tensor(p).permute(2, 0, 1)[None].float() for p in (small, shown)]
    return pictures[0], pictures[1], torch.tensor(square)[None], torch.tensor(points)[None]


def photographs() -> list[NDArray[np.uint8]]:
    """Eileen Collins (NASA) and Grace Hopper (US Navy)."""
    import matplotlib.cbook
    import skimage.data

    with matplotlib.cbook.get_sample_data("grace_hopper.jpg") as file:
        return [skimage.data.astronaut(), np.asarray(Image.open(file).convert("RGB"))]


def tiles(*pictures: Tensor) -> NDArray[np.uint8]:
    """Images (1,3,S,S) of 0..1 beside each other."""
    row = torch.cat([picture[0] for picture in pictures], 2).clamp(0, 1)
    return (255 * row).byte().permute(1, 2, 0).numpy()


def descend(out: Path, steps: int = 250, size: int = 256) -> None:
    """Write the picture that `--descend` names, and print the loss before and after."""
    torch.manual_seed(0)
    dense = MeshConfig(landmarks=3.0, prior=0.02, limit=1, least=0).build()
    rows = []
    for photograph in photographs():
        small, large, at, points = portrait(photograph, size)
        raw = torch.zeros(1, 144, requires_grad=True)
        optimizer = torch.optim.Adam([raw], 0.05)
        for step in range(steps):
            optimizer.param_groups[0]["lr"] = 0.05 * (1 - step / steps) + 0.002
            terms = dense.losses(raw, at, torch.zeros(1, dtype=torch.int64), small, points)
            if step in (0, steps - 1):
                print(
                    json.dumps({"step": step} | {k: round(v.item(), 4) for k, v in terms.items()})
                )
            optimizer.zero_grad()
            sum(terms.values()).backward()
            optimizer.step()
        with torch.no_grad():
            whole = torch.tensor([[0.0, 0, STORED, STORED]])
            turned = raw.clone()
            turned[0, CAMERA.start + 4] += 0.6
            before, after, aside = (
                dense.render(dense.resolve(r, at), whole, size, under).images
                for r, under in ((raw * 0, large / 255), (raw, large / 255), (turned, 0.2))
            )
        rows.append(tiles(large / 255, before, after, aside))
    Image.fromarray(np.concatenate(rows)).save(out)


def descend_held(faces: FaceCrops, out: Path, count: int, steps: int = 120) -> None:
    """Fit held-out faces by descent, from their labelled points; print errors, write a picture."""
    torch.manual_seed(0)
    dense = MeshConfig(landmarks=3.0, prior=0.02, limit=count, least=0, size=32).build()
    some = torch.linspace(0, len(faces.boxes) - 1, count).long()
    pictures, at, points = faces.pictures[some].float(), faces.boxes[some], faces.points[some]
    raw = torch.zeros(count, 144, requires_grad=True)
    optimizer = torch.optim.Adam([raw], 0.06)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 0.06 * (1 - step / steps) + 0.002
        terms = dense.losses(raw, at, torch.arange(count), pictures, points)
        if step in (0, steps - 1):
            print(json.dumps({"step": step} | {k: round(v.item(), 4) for k, v in terms.items()}))
        optimizer.zero_grad()
        (count * sum(terms.values())).backward()
        optimizer.step()
    with torch.no_grad():
        whole = torch.tensor([[0.0, 0, STORED, STORED]]).expand(count, 4)
        under = nn.functional.interpolate(pictures / 255, (168, 168), mode="bilinear")
        over = dense.render(dense.resolve(raw, at), whole, 168, under).images
    rows = [tiles(under[i : i + 1], over[i : i + 1]) for i in range(count)]
    grid = [np.concatenate(rows[i : i + 4], 1) for i in range(0, count - count % 4, 4)]
    Image.fromarray(np.concatenate(grid)).save(out)


@torch.no_grad()
def portraits(network: Branch, dense: DenseBranch, size: int = 256) -> Image.Image:
    """Two portraits: photograph, average face, what the branch gives, and its shape."""
    network.eval()
    rows = []
    for photograph in photographs():
        small, large, at, _ = portrait(photograph, size)
        whole = torch.tensor([[0.0, 0, STORED, STORED]])
        raw = network(small, at)
        before, after = (
            dense.render(dense.resolve(r, at), whole, size, large / 255).images
            for r in (raw * 0, raw)
        )
        vertices = dense.decoder.frozen().vertices(dense.resolve(raw, at).numpy())
        mesh = vertices * (size / STORED)
        faces = Faces([(0, 0, size, size)], [1.0], mesh=mesh, image_size=(size, size))
        shown = np.ascontiguousarray(large[0].byte().permute(1, 2, 0).numpy())
        triangles = dense.decoder.triangles.numpy()
        laid = draw(shown, faces, labels=False, landmarks=False, triangles=triangles)
        rows.append(np.concatenate([tiles(large / 255, before, after), laid], 1))
    network.train()
    return Image.fromarray(np.concatenate(rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--descend", type=Path, help="fit two portraits instead, write this picture"
    )
    parser.add_argument("--root", help="training set with five points")
    parser.add_argument("--out", type=Path, help="folder for what is written")
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--least", type=float, default=40, help="least side of a face, in pixels")
    parser.add_argument("--most", type=int, default=8000, help="most faces to learn from")
    parser.add_argument("--landmarks", type=float, default=2.0, help="weight of the landmark term")
    parser.add_argument("--pixel", type=float, default=0.01, help="weight of the pixel loss")
    parser.add_argument("--prior", type=float, default=0.02, help="weight of the codes' square")
    parser.add_argument(
        "--camera-steps",
        type=int,
        default=0,
        help="so many steps at first on the camera alone, by the points of the average face: cheap",
    )
    parser.add_argument("--size", type=int, default=32, help="side of the compared crops")
    parser.add_argument("--descend-held", type=int, help="fit so many held-out faces by descent")
    parser.add_argument("--limit", type=int, default=16, help="most faces a step that are rendered")
    parser.add_argument("--check", type=int, default=512, help="held-out faces that are measured")
    parser.add_argument("--minutes", type=float, default=None, help="stop after so many")
    args = parser.parse_args()
    if args.descend:
        descend(args.descend)
        return
    if not (args.root and args.out):
        parser.error("--root and --out are needed")
    args.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)

    stored = args.out / "crops.pt"
    if not stored.exists():
        learn, held = datasets.split(datasets.read(args.root), 0.1)
        FaceCrops.of(held, args.least, 512).save(args.out / "held.pt")
        FaceCrops.of(learn, args.least, args.most).save(stored)
    faces = FaceCrops(*torch.load(stored))
    held = FaceCrops(*(part[: args.check] for part in torch.load(args.out / "held.pt")))
    if args.descend_held:
        descend_held(held, args.out / "held_fit.png", args.descend_held)
        return
    network = Branch()
    dense = MeshConfig(
        landmarks=args.landmarks,
        prior=args.prior,
        pixel=args.pixel,
        size=args.size,
        limit=args.limit,
        least=0,
    ).build()
    optimizer = torch.optim.AdamW(network.parameters(), args.lr, weight_decay=0.02)
    generator = torch.Generator().manual_seed(1)
    log = (args.out / "log.jsonl").open("w")

    def tell(**values: object) -> None:
        print(json.dumps(values), flush=True)
        log.write(json.dumps(values) + "\n")
        log.flush()

    tell(faces=len(faces.boxes), held_out=len(held.boxes), **vars(args) | {"out": str(args.out)})
    tell(step=0, what="the average face in every anchor", **measure(network, dense, held, True))
    started, sums = time.perf_counter(), {}
    for step in range(1, args.steps + 1):
        spent = (time.perf_counter() - started) / 60
        part = max(step / args.steps, spent / args.minutes if args.minutes else 0)
        for group in optimizer.param_groups:
            warm = min(1, step / 100)
            group["lr"] = args.lr * warm * (0.5 + 0.5 * np.cos(np.pi * min(part, 1)))
        some = torch.randint(len(faces.boxes), (args.batch,), generator=generator)
        pictures, boxes, points = (
            faces.pictures[some].float(),
            faces.boxes[some],
            faces.points[some],
        )
        turned = torch.rand(args.batch, generator=generator) < 0.5
        pictures[turned] = pictures[turned].flip(3)
        points[turned] = points[turned][:, [1, 0, 2, 4, 3]] * torch.tensor([-1.0, 1])
        points[turned] += torch.tensor([float(STORED), 0])  # the face is in the middle of its crop
        anchors = shaken(boxes, generator)
        raw = network(pictures, anchors)
        if step <= args.camera_steps:
            terms = {"camera": camera_loss(raw, dense, anchors, points)}
        else:
            terms = dense.losses(raw, anchors, torch.arange(args.batch), pictures, points)
        loss = torch.stack(list(terms.values())).sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 10)
        optimizer.step()
        for name, term in terms.items():
            sums[name] = sums.get(name, 0.0) + term.item()
        last = step == args.steps or part >= 1
        if step % 100 == 0 or last:
            means = {name: round(value / (step % 100 or 100), 4) for name, value in sums.items()}
            tell(step=step, minutes=round(spent, 2), **means)
            sums.clear()
        if step == args.camera_steps or step % 1000 == 0 or last:
            tell(step=step, **measure(network, dense, held))
            torch.save(network.state_dict(), args.out / "mesh.pt")
        if last:
            break
    picture(network, dense, held).save(args.out / "held.png")
    portraits(network, dense).save(args.out / "portraits.png")


if __name__ == "__main__":
    main()
