"""Tracks on disk, as MOTChallenge writes them: a line a face and frame."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facefind import files
from facefind.datasets.files import bad_line, numbers, read_text
from facefind.errors import DataError
from facefind.faces import Faces

__all__ = ["Trajectories", "of_faces", "read", "read_videos", "write"]


@dataclass(frozen=True, eq=False)
class Trajectories:
    """The faces of a video's frames, N in all, with the numbers of the persons.

    Raises:
        DataError: A shape is wrong, a value not finite, or a number twice in a frame.
    """

    frames: NDArray[np.int64]
    """(N,) from 0."""
    ids: NDArray[np.int64]
    """(N,)"""
    boxes: NDArray[np.float64]
    """(N,4) xyxy."""
    scores: NDArray[np.float64]
    """(N,) of predictions; of labels, 0 for a face that need not be found, else 1."""

    def __post_init__(self) -> None:
        count = len(self.frames)
        shapes = {"ids": (count,), "boxes": (count, 4), "scores": (count,)}
        for name, shape in shapes.items():
            values = getattr(self, name)
            if values.shape != shape:
                raise DataError(f"{name} must have shape {shape}, got {values.shape}")
            if not np.isfinite(values).all():
                raise DataError(f"{name} must be finite")
        pairs, counts = np.unique(np.stack([self.frames, self.ids]), axis=1, return_counts=True)
        if (counts > 1).any():
            frame, number = pairs[:, counts > 1][:, 0]
            raise DataError(f"frame {frame} has the number {number} more than once")

    def __len__(self) -> int:
        """How many faces there are in all frames together."""
        return len(self.frames)

    def __getitem__(self, rows: NDArray[np.bool_]) -> Trajectories:
        """The faces of a mask (N,)."""
        return Trajectories(self.frames[rows], self.ids[rows], self.boxes[rows], self.scores[rows])


def of_faces(frames: Iterable[tuple[int, Faces]]) -> Trajectories:
    """The faces of frames by their index from 0; they must have ids.

    Raises:
        DataError: Faces have no ids.
    """
    kept = [(frame, faces) for frame, faces in frames if len(faces)]
    if silent := [frame for frame, faces in kept if faces.ids is None]:
        raise DataError(f"the faces of frame {silent[0]} have no ids: Tracker.update gives them")
    return Trajectories(
        np.repeat(np.array([frame for frame, _ in kept], np.int64), [len(f) for _, f in kept]),
        np.concatenate([np.empty(0, np.int64), *(f.ids for _, f in kept if f.ids is not None)]),
        np.concatenate([np.empty((0, 4)), *(faces.boxes for _, faces in kept)]),
        np.concatenate([np.empty(0), *(faces.scores for _, faces in kept)]),
    )


def read(path: str | Path) -> Trajectories:
    """The tracks of a text file of lines `frame,id,left,top,width,height,score,...`.

    Frames count from 1, here from 0. The score of a label says whether it counts: 0 for one that
    need not be found. It may be missing, and is then 1; what follows it is not read.

    Raises:
        DataError: With file and line, where a line is not so.
    """
    path = Path(path)
    rows = []
    for number, line in enumerate(read_text(path), 1):
        if not line.strip():
            continue
        values = numbers(line.replace(",", " "))[:7]
        whole = len(values) >= 6 and values[0] % 1 == 0 == values[1] % 1 and values[0] >= 1
        if not whole or not np.isfinite(values).all() or min(values[4:6]) < 0:
            raise bad_line(path, number, line, "frame (from 1),id,left,top,width,height,score")
        rows.append([*values, 1.0][:7])
    table = np.array(rows, np.float64).reshape(-1, 7)
    corners = np.concatenate([table[:, 2:4], table[:, 2:4] + table[:, 4:6]], axis=1)
    indices = table[:, :2].astype(np.int64)
    try:
        return Trajectories(indices[:, 0] - 1, indices[:, 1], corners, table[:, 6])
    except DataError as error:
        raise DataError(f"{path}, frames counted from 0: {error}") from None


def read_videos(path: str | Path) -> dict[str, Trajectories]:
    """The tracks of a file, or of each .txt file of a folder, by the file's name without suffix.

    Raises:
        DataError: As `read`; or the folder has no such file.
    """
    path = Path(path)
    files_here = sorted(path.glob("*.txt")) if path.is_dir() else [path]
    if not files_here:
        raise DataError(f"{path}: expected .txt files, one a video, got none")
    return {file.stem: read(file) for file in files_here}


def write(tracks: Trajectories, path: str | Path) -> None:
    """Write a file that `read` and MOTChallenge's tools take, by frame and then by number."""
    lines = []
    for row in np.lexsort([tracks.ids, tracks.frames]):
        x1, y1, x2, y2 = tracks.boxes[row]
        box = ",".join(f"{value:.6g}" for value in (x1, y1, x2 - x1, y2 - y1))
        score = f"{tracks.scores[row]:.6g}"
        lines.append(f"{tracks.frames[row] + 1},{tracks.ids[row]},{box},{score},-1,-1,-1")
    files.write_text(path, "".join(line + "\n" for line in lines), durable=False)
