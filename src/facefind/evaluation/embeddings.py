"""Embeddings that were made elsewhere, and which of them belong to the pictures of pairs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from facefind.datasets import Pairs
from facefind.errors import DataError
from facefind.evaluation.detections import key, known_end

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]

_EXPECTED = "an .npy file of features (N, D), or an .npz file with `features` and maybe `flipped`"


@dataclass(frozen=True, eq=False)
class Embeddings:
    """Embeddings of a file.

    Attributes:
        path: the file.
        features: (N, D), those of the mirrored pictures added.
        names: the pictures' names; None where the file has none.
    """

    path: Path
    features: Floats
    names: tuple[str, ...] | None = None

    def of_pairs(self, pairs: Pairs) -> tuple[Rows, Rows]:
        """(P,) rows of the first picture of each pair, and of the second.

        Without names the features are first and second of each pair in turn.

        Raises:
            DataError: if a picture has no embedding.
        """
        if self.names is None:
            if len(self.features) != 2 * len(pairs):
                raise DataError(
                    f"{self.path}: {len(self.features)} features without `names`; expected "
                    f"{2 * len(pairs)}, first and second of each pair in turn"
                )
            rows = np.arange(2 * len(pairs)).reshape(-1, 2)
            return rows[:, 0], rows[:, 1]
        rows_by_name = {key(name): row for row, name in enumerate(self.names)}
        first, second = (
            np.array([self._row(picture, rows_by_name) for picture in pictures], np.int64)
            for pictures in (pairs.first, pairs.second)
        )
        return first, second

    def _row(self, picture: Path | bytes, rows: dict[str, int]) -> int:
        if isinstance(picture, bytes):
            raise DataError(f"{self.path}: a .bin pack has no names: give the features without")
        name = known_end(picture.as_posix(), rows)
        if name is None:
            raise DataError(f"{self.path}: no embedding named {picture.name} or its path")
        return rows[name]


def read(path: str | Path) -> Embeddings:
    """The embeddings of an .npy file of features (N, D), or of an .npz file.

    That has `features` (N, D), `flipped` (N, D) of the mirrored pictures where there are some, and
    `names` (N,) of the pictures where they are known.

    Raises:
        DataError: if the file is none of these.
    """
    path = Path(path)
    try:
        content = np.load(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: expected {_EXPECTED} ({error})") from None
    names = None
    if isinstance(content, np.ndarray):
        features = np.asarray(content, np.float64)
    else:
        with content:
            if "features" not in content:
                raise DataError(f"{path}: holds {', '.join(content.files)}; expected {_EXPECTED}")
            features = np.asarray(content["features"], np.float64)
            if "flipped" in content:
                if content["flipped"].shape != features.shape:
                    raise DataError(f"{path}: `flipped` must have the shape of `features`")
                features = features + content["flipped"]
            if "names" in content:
                names = tuple(str(name) for name in content["names"])
    if features.ndim != 2 or not len(features) or not np.isfinite(features).all():
        raise DataError(f"{path}: features {features.shape}; expected (N, D) finite numbers")
    if names is not None and len(names) != len(features):
        raise DataError(f"{path}: {len(names)} names for {len(features)} features")
    return Embeddings(path, features, names)
