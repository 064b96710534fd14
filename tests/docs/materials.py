"""The files that README and the guides name, tiny: images of one public-domain face, and labels."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import skimage.data
import torch
from PIL import Image
from reference import mmdet_names, videos
from scipy.io import savemat

import facefind
from facefind import datasets, weights
from facefind.datasets import Sample
from facefind.systems.scrfd import ROWS

PEOPLE = 6


def build(folder: Path) -> None:
    """Write every file that a block may read into `folder`."""
    maker = Collages()
    maker.sample(folder / "people.jpg", faces=PEOPLE, size=(240, 360))
    maker.sample(folder / "photo.jpg", faces=1)
    for name in ("a.jpg", "trip/a.jpg", "trip/b.png"):
        maker.sample(folder / "photos" / name, faces=1)
    (folder / "list.txt").write_text("photos/a.jpg\nphotos/trip/b.png\n")
    maker.labeled_set(folder / "WIDER_train", images=10)
    val = maker.labeled_set(folder / "WIDER_val", images=3)
    ground_truth(val, folder / "ground_truth")
    maker.movie(folder / "movie.mp4")
    maker.labeled_set(folder / "my_set", images=3)
    maker.labeled_set(folder / "my_test_set", images=2)
    boxes_only = maker.labeled_set(folder / "coco", images=4, layout="coco")
    assert len(boxes_only) == 4
    shutil.copy(next((folder / "coco").glob("*.json")), folder / "labels.json")
    shutil.copytree(folder / "coco" / "images", folder / "images")
    maker.data_yaml(folder)
    shutil.copy(weights.find("scrfd-500m-kps"), folder / "scrfd.onnx")
    torch.manual_seed(0)
    shapes = mmdet_names.shapes(ROWS["scrfd-500m"])
    state = {name: torch.rand(shape) for name, shape in shapes.items()}
    torch.save({"state_dict": state}, folder / "published.pth")


class Collages:
    """Draws images of faces on backgrounds that differ, with their labels."""

    def __init__(self) -> None:
        portrait = skimage.data.astronaut()[:260, 90:350]
        face = facefind.detect(portrait)[:1]
        self._portrait = Image.fromarray(portrait)
        self._box, self._landmarks = face.boxes[0], face.landmarks[0]
        self._random = np.random.default_rng(0)

    def sample(self, path: Path, faces: int, size: tuple[int, int] = (160, 240)) -> Sample:
        """An image of `faces` faces side by side, written to `path`, with its labels."""
        height, width = size
        rough = self._random.integers(0, 255, (5, 7, 3), np.uint8)
        image = Image.fromarray(rough).resize((width, height))
        columns = 3 if faces > 1 else 1
        rows = -(-faces // columns)
        cell = (width // columns, height // rows)
        boxes, landmarks = [], []
        for number in range(faces):
            side = int(min(cell) * self._random.uniform(0.7, 0.95))
            room = np.array(cell) - side
            left, top = (
                self._random.integers(0, room + 1)
                + np.array([number % columns, number // columns]) * cell
            )
            image.paste(self._portrait.resize((side, side)), (int(left), int(top)))
            scale, shift = side / self._portrait.width, np.array([left, top])
            boxes.append(self._box * scale + np.tile(shift, 2))
            landmarks.append(self._landmarks * scale + shift)
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path, quality=95)
        group = path.parent.name
        return Sample(
            f"{group}/{path.name}", path, boxes, landmarks or None, group=group, image_size=size
        )

    def movie(self, path: Path) -> None:
        """A video of half a second in which the face moves, with a tone."""
        frames = []
        for number in range(12):
            image = Image.new("RGB", (240, 160), (90, 110, 130))
            image.paste(self._portrait.resize((120, 120)), (10 + 4 * number, 20))
            frames.append(np.asarray(image))
        videos.write(path, frames, sound="aac")

    def labeled_set(self, folder: Path, images: int, layout: str = "wider") -> list[Sample]:
        """A set of images with one to three faces, below `folder/images`, and its labels."""
        samples = [
            self.sample(
                folder / "images" / f"{number % 2}--Event" / f"{number}.jpg", number % 3 + 1
            )
            for number in range(images)
        ]
        datasets.write(samples, folder, layout)
        return samples

    def data_yaml(self, folder: Path) -> None:
        """`folder/data.yaml`, with four images to train on and two to measure on."""
        for split, images in (("train", 4), ("val", 2)):
            drawn = [
                self.sample(folder / "yolo" / "images" / split / f"{number}.jpg", number % 3 + 1)
                for number in range(images)
            ]
            datasets.yolo.write(drawn, folder / "yolo")
        text = (
            "path: yolo\ntrain: images/train\nval: images/val\nkpt_shape: [5, 2]\nnames: [face]\n"
        )
        (folder / "data.yaml").write_text(text)


def ground_truth(samples: list[Sample], folder: Path) -> None:
    """WIDER FACE's official validation files, in which every face is easy."""
    events = sorted({sample.group for sample in samples})
    files, faces, kept = (np.empty((len(events), 1), object) for _ in range(3))
    for number, event in enumerate(events):
        members = [sample for sample in samples if sample.group == event]
        for table in (files, faces, kept):
            table[number, 0] = np.empty((len(members), 1), object)
        for row, sample in enumerate(members):
            low, high = sample.boxes[:, :2].round(), sample.boxes[:, 2:].round()
            files[number, 0][row, 0] = sample.path.stem
            faces[number, 0][row, 0] = np.hstack([low, high - low])
            kept[number, 0][row, 0] = np.arange(1, len(low) + 1)[:, None]
    names = np.array([[event] for event in events], object)
    folder.mkdir()
    savemat(
        folder / "wider_face_val.mat",
        {"event_list": names, "file_list": files, "face_bbx_list": faces},
    )
    for subset in ("easy", "medium", "hard"):
        savemat(folder / f"wider_{subset}_val.mat", {"gt_list": kept})
