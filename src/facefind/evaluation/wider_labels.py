"""The labels that the WIDER FACE protocol counts by: the official ones, or any samples'."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from facefind.datasets.files import locate, read_mat
from facefind.datasets.sample import Sample
from facefind.datasets.selection import check_complete, read_labels
from facefind.datasets.spec import SetSpec
from facefind.errors import DataError
from facefind.evaluation.detections import key

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

SUBSETS = ("easy", "medium", "hard")


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """The labeled faces of a set of pictures and the subsets that are counted.

    Attributes:
        names: picture names without suffix, `event/name`.
        boxes: per picture (G, 4) float64 xyxy, every labeled box.
        subsets: subset name -> per picture (G,) bool, true for faces to be found; a detection
            on one of the others counts neither for nor against.
        title: what set it is, for reports.
    """

    names: tuple[str, ...]
    boxes: tuple[Floats, ...]
    subsets: Mapping[str, tuple[Bools, ...]]
    title: str = "WIDER FACE val"

    def only(self, images: Iterable[str]) -> GroundTruth:
        """The same for the named pictures alone.

        Raises:
            DataError: where a name is unknown.
        """
        chosen = {key(name.strip()) for name in images if name.strip()}
        unknown = chosen - set(self.names)
        if unknown:
            raise DataError(
                f"{len(unknown)} listed images are not in {self.title}, e.g. {min(unknown)!r}; "
                "names look like '0--Parade/0_Parade_Parade_0_125.jpg'"
            )
        at = [i for i, name in enumerate(self.names) if name in chosen]
        return replace(
            self,
            names=tuple(self.names[i] for i in at),
            boxes=tuple(self.boxes[i] for i in at),
            subsets={k: tuple(keep[i] for i in at) for k, keep in self.subsets.items()},
        )

    def digest(self) -> str:
        """Hex SHA-256 of names, boxes and subsets."""
        total = hashlib.sha256()
        for i in sorted(range(len(self.names)), key=self.names.__getitem__):
            total.update(f"{self.names[i]}\0{len(self.boxes[i])}\0".encode())
            total.update(self.boxes[i].astype("<f8").tobytes())
            for subset in sorted(self.subsets):
                total.update(self.subsets[subset][i].tobytes())
        return total.hexdigest()


def read_ground_truth(folder: str | Path) -> GroundTruth:
    """The official validation labels, from `wider_{face,easy,medium,hard}_val.mat` in a folder.

    Raises:
        DataError: where a file is missing or is not of that kind.
    """
    names: list[str] = []
    boxes: list[Floats] = []
    subsets: dict[str, list[Bools]] = {subset: [] for subset in SUBSETS}
    files = {subset: Path(folder) / f"wider_{subset}_val.mat" for subset in ("face", *SUBSETS)}
    try:
        tables = {subset: read_mat(file) for subset, file in files.items()}
        events = tables["face"]["event_list"][:, 0]
        for e, event in enumerate(events):
            pictures = tables["face"]["file_list"][e, 0]
            for p in range(len(pictures)):
                names.append(f"{event[0]}/{pictures[p, 0][0]}")
                rows = tables["face"]["face_bbx_list"][e, 0][p, 0].astype(np.float64)
                boxes.append(np.concatenate([rows[:, :2], rows[:, :2] + rows[:, 2:]], axis=1))
                for subset in SUBSETS:
                    keep = np.zeros(len(rows), bool)
                    index = tables[subset]["gt_list"][e, 0][p, 0].astype(np.int64).ravel()
                    keep[index - 1] = True
                    subsets[subset].append(keep)
    except (DataError, KeyError, IndexError, ValueError) as error:
        raise DataError(
            f"{folder}: expected the four official files wider_face_val.mat, wider_easy_val.mat, "
            f"wider_medium_val.mat, wider_hard_val.mat ({error})"
        ) from None
    return GroundTruth(
        tuple(names), tuple(boxes), {subset: tuple(keep) for subset, keep in subsets.items()}
    )


def from_samples(
    samples: Sequence[Sample], min_heights: Sequence[float] = (34, 16, 9), title: str = "samples"
) -> GroundTruth:
    """Ground truth of any labeled pictures, with one subset per least face height.

    Subsets are named `height>=34` and so on; ignored boxes are in none. The default heights are
    those of the smallest face in WIDER's easy, medium and hard subsets, so the figures lie near
    the official ones in kind, but are not they: the official subsets also sort faces by how
    hard they are to propose.

    Raises:
        DataError: if the samples are a `partial:` set, on whose unlabeled faces detections would
            count as false alarms.
    """
    check_complete(samples, title)
    heights = [sample.boxes[:, 3] - sample.boxes[:, 1] for sample in samples]
    return GroundTruth(
        tuple(key(sample.name) for sample in samples),
        tuple(sample.boxes.astype(np.float64) for sample in samples),
        {
            f"height>={least:g}": tuple(
                (high >= least) & ~sample.ignore
                for high, sample in zip(heights, samples, strict=True)
            )
            for least in min_heights
        },
        title,
    )


def ground_truth(labels: str | Path, images: Path | None = None) -> GroundTruth:
    """The official ground truth of a folder of .mat files, or that of any set by face height.

    Args:
        labels: the folder, or a set as `datasets.read` takes it; of a `data.yaml`, the val images.
        images: the folder of the set's pictures; None: the layout's usual one.

    Raises:
        DataError: if the labels cannot be read.
    """
    path = SetSpec.parse(labels).path
    if _is_official(path):
        return read_ground_truth(path)
    return from_samples(read_labels(labels, images=images, split="val"), title=path.name)


def image_files(
    names: Sequence[str], labels: str | Path, images: Path | None = None
) -> dict[str, Path]:
    """Image files of a ground truth's pictures by name, whether they are there or not.

    Args:
        names: of `GroundTruth`.
        labels: what `ground_truth` read them from.
        images: the folder of the pictures, which the official labels come without.

    Raises:
        DataError: if the folder is needed.
    """
    path = SetSpec.parse(labels).path
    if not _is_official(path):
        samples = read_labels(labels, images=images, split="val")
        files = {key(sample.name): sample.path for sample in samples}
        return {name: files[name] for name in names}
    if images is None:
        raise DataError("the official labels come without images: give their folder by --images")
    return locate(names, images, path, "keep")


def _is_official(folder: Path) -> bool:
    return (folder / "wider_face_val.mat").exists()
