"""FDDB: faces as ellipses, in ten folds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from facefind.datasets.files import (
    ONE_LABEL,
    Missing,
    bad_line,
    face_blocks,
    image_root,
    locate,
    read_text,
)
from facefind.datasets.sample import Sample
from facefind.errors import DataError

_ELLIPSE = "major_radius minor_radius angle center_x center_y 1"


def read(
    root: str | Path, *, images: str | Path | None = None, missing: Missing = "error"
) -> list[Sample]:
    """Samples of FDDB ellipse lists: one file, or every `*ellipseList*.txt` of a folder in turn.

    Boxes are the ellipses' upright bounding boxes. The attribute `ellipse` (G, 5) holds
    the lines as they are: major and minor radius, angle of the major axis in radians, center.
    `group` is the file's fold (`01` of `FDDB-fold-01-ellipseList.txt`). Pictures are sought in
    `originalPics` below the folder (or beside its `FDDB-folds`) unless `images` is given.

    Raises:
        DataError: with file and line, where a line is not as the format demands.
    """
    root = Path(root)
    if root.is_dir():
        folder = root / "FDDB-folds" if (root / "FDDB-folds").is_dir() else root
        files = sorted(folder.glob("*ellipseList*.txt"))
        if not files:
            raise DataError(f"{root}: expected *ellipseList*.txt in it or in its FDDB-folds folder")
    else:
        files, root = [root], root.parent
    usual = [root, root / "originalPics"]
    if root.name == "FDDB-folds":
        usual += [root.parent, root.parent / "originalPics"]
    pictures = image_root(root, images, *(str(path) for path in reversed(usual)))
    samples: list[Sample] = []
    for file in files:
        blocks = _parse(file)
        found = locate((name for name, _ in blocks), pictures, file, missing)
        fold = next((part for part in file.stem.split("-") if part.isdecimal()), file.stem)
        for name, ellipses in blocks:
            if name in found:
                samples.append(
                    Sample(
                        name=name,
                        path=found[name],
                        boxes=bounding_boxes(ellipses).astype(np.float32),
                        group=fold,
                        attributes={"ellipse": ellipses},
                    )
                )
    return samples


def bounding_boxes(ellipses: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(G, 4) upright boxes around ellipses (G, 5): radii, angle in radians, center."""
    major, minor, angle, x, y = np.asarray(ellipses, np.float64).reshape(-1, 5).T
    half_width = np.hypot(major * np.cos(angle), minor * np.sin(angle))
    half_height = np.hypot(major * np.sin(angle), minor * np.cos(angle))
    return np.stack([x - half_width, y - half_height, x + half_width, y + half_height], axis=1)


def _parse(file: Path) -> list[tuple[str, npt.NDArray[np.float64]]]:
    lines: list[str] = []
    with ONE_LABEL:
        lines = read_text(file)
    blocks: list[tuple[str, npt.NDArray[np.float64]]] = []
    for name, faces in face_blocks(file, lines, _ELLIPSE, (5, 6)):
        ellipses = []
        for place, values in faces.items():
            with ONE_LABEL:
                if min(values[:2]) <= 0:
                    raise bad_line(file, place + 1, lines[place], _ELLIPSE)
                ellipses.append(values[:5])
        blocks.append((name, np.array(ellipses, np.float64).reshape(-1, 5)))
    return blocks
