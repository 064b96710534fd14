"""AFLW's database of 21 points a face, and AFLW2000-3D's files of 68."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import numpy.typing as npt

from facefind.datasets.files import LARGEST, ONE_LABEL, Missing, image_root, locate, read_mat
from facefind.datasets.sample import Sample
from facefind.errors import DataError

FIVE_OF_21 = (8, 11, 15, 18, 20)
"""AFLW's feature numbers (from 1) of eye centers, nose tip and mouth corners."""


def read(
    root: str | Path, *, images: str | Path | None = None, missing: Missing = "error"
) -> list[Sample]:
    """Samples of `aflw.sqlite`, or of the folder that holds it (or holds `data/aflw.sqlite`).

    Adds the attributes `points_21` (G, 21, 2), NaN where a point is hidden, and `pose` (G, 3):
    roll, pitch, yaw in radians. Faces without a rectangle are dropped.

    Raises:
        DataError: where the file is no AFLW database.
    """
    root = Path(root)
    source = root
    if root.is_dir():
        options = (root / "aflw.sqlite", root / "data" / "aflw.sqlite")
        source = next((path for path in options if path.is_file()), options[0])
    if not source.is_file():
        raise DataError(f"{source}: no such file; expected AFLW's aflw.sqlite or its folder")
    try:
        with closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True)) as base:
            faces = base.execute(
                "SELECT Faces.face_id, FaceImages.filepath, FaceImages.width, FaceImages.height,"
                " FaceRect.x, FaceRect.y, FaceRect.w, FaceRect.h"
                " FROM Faces JOIN FaceImages ON FaceImages.file_id = Faces.file_id"
                " JOIN FaceRect ON FaceRect.face_id = Faces.face_id ORDER BY Faces.face_id"
            ).fetchall()
            marks = base.execute("SELECT face_id, feature_id, x, y FROM FeatureCoords").fetchall()
            poses = base.execute("SELECT face_id, roll, pitch, yaw FROM FacePose").fetchall()
    except sqlite3.Error as error:
        raise DataError(f"{source}: no AFLW database ({error})") from None
    points: dict[int, npt.NDArray[np.float64]] = {}
    for face, feature, x, y in marks:
        with ONE_LABEL:
            if feature not in range(1, 22):
                raise DataError(
                    f"{source}: face {face} has the feature {feature!r}, none of 1 to 21"
                )
            place = _numbers(source, f"feature {feature} of face {face}", x, y)
            points.setdefault(face, np.full((21, 2), np.nan))[feature - 1] = place
    pose = {}
    for face, *angles in poses:
        with ONE_LABEL:
            pose[face] = _numbers(source, f"the pose of face {face}", *angles)
    pictures: dict[str, list[tuple[int, list[float]]]] = {}
    sizes: dict[str, tuple[int, int]] = {}
    for face, name, width, height, *box in faces:
        with ONE_LABEL:
            x, y, w, h = _numbers(source, f"the rectangle of face {face}", *box)
            if w > 0 and h > 0:
                high, wide = _numbers(source, f"the image of face {face}", height, width)
                sizes[name] = (int(high), int(wide))
                pictures.setdefault(name, []).append((face, [x, y, x + w, y + h]))
    folder = image_root(source.parent, images, "flickr", "images")
    found = locate(pictures, folder, source, missing)
    blank = np.full((21, 2), np.nan)
    samples = []
    for name, path in found.items():
        rows = pictures[name]
        all_points = np.array([points.get(face, blank) for face, _ in rows])
        unknown = (np.nan,) * 3
        samples.append(
            Sample(
                name=name,
                path=path,
                boxes=np.array([box for _, box in rows], np.float32),
                landmarks=all_points[:, [number - 1 for number in FIVE_OF_21]],
                image_size=sizes[name],
                attributes={
                    "points_21": all_points.astype(np.float32),
                    "pose": np.array([pose.get(face, unknown) for face, _ in rows], np.float32),
                },
            )
        )
    return samples


def _numbers(source: Path, what: str, *values: object) -> list[float]:
    """Values of the database, each of which must be a number that can be pixels or an angle."""
    good = [v for v in values if isinstance(v, int | float) and abs(v) <= LARGEST]
    if len(good) < len(values):
        raise DataError(f"{source}: expected numbers for {what}, got {values}")
    return [float(value) for value in good]


def read_2000(
    root: str | Path, *, images: str | Path | None = None, missing: Missing = "error"
) -> list[Sample]:
    """Samples of AFLW2000-3D: a folder of `image*.mat` beside their pictures, one face each.

    The box spans the 68 points; the five landmarks are eye centers (means of the six points
    around each), nose tip and mouth corners. Adds the attributes `points_68` (1, 68, 3)
    and `pose` (1, 3): pitch, yaw, roll in degrees.

    Raises:
        DataError: where a file lacks `pt3d_68` or `Pose_Para`.
    """
    root = Path(root)
    files = sorted(root.glob("*.mat"))
    if not files:
        raise DataError(f"{root}: expected AFLW2000-3D's *.mat files in it")
    found = locate((file.stem for file in files), image_root(root, images), root, missing)
    samples = []
    for file in files:
        if file.stem not in found:
            continue
        with ONE_LABEL:
            try:
                content = read_mat(file)
                points = np.asarray(content["pt3d_68"], np.float64).T.reshape(68, 3)
                pose = np.degrees(np.asarray(content["Pose_Para"], np.float64).ravel()[:3])
                if len(pose) != 3 or not (np.isfinite(points).all() and np.isfinite(pose).all()):
                    raise ValueError("not finite")
            except (DataError, KeyError, ValueError) as error:
                raise DataError(
                    f"{file}: expected pt3d_68 (3 x 68), Pose_Para ({error!r})"
                ) from None
            flat = points[:, :2]
            samples.append(
                Sample(
                    name=found[file.stem].name,
                    path=found[file.stem],
                    boxes=np.concatenate([flat.min(axis=0), flat.max(axis=0)])[None].astype(
                        np.float32
                    ),
                    landmarks=five_of_68(flat)[None],
                    attributes={
                        "points_68": points[None].astype(np.float32),
                        "pose": pose[None].astype(np.float32),
                    },
                )
            )
    return samples


def five_of_68(points: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """The five landmarks (5, 2) of the 68 points (68, 2) of the iBUG mark-up."""
    eyes = points[36:42].mean(axis=0), points[42:48].mean(axis=0)
    return np.stack([*eyes, points[30], points[48], points[54]]).astype(np.float32)
