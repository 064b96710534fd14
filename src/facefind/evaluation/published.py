"""Published curves of other methods, as WIDER FACE's and FDDB's sites offer them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from facefind.datasets.files import is_hdf5_mat, read_mat
from facefind.errors import DataError

__all__ = ["Line", "Published", "read_published"]

Line = tuple[Sequence[float], Sequence[float]]
"""x and y of a curve."""
Published = Mapping[str, Mapping[str, Line]]
"""Method -> panel ("easy", "discrete", ...) -> its curve."""


def read_published(folder: str | Path) -> tuple[dict[str, dict[str, Line]], list[str]]:
    """Curves of other methods, and what could not be read.

    Reads WIDER FACE's `wider_pr_info_<method>_<subset>_val.mat` (`pr_cruve`: precision, recall;
    `legend_name`) and FDDB's `*DiscROC.txt` and `*ContROC.txt` (lines `rate false-positives`),
    anywhere below the folder. MATLAB's v7.3 files need h5py.

    Raises:
        DataError: where there is none of either.
    """
    place = Path(folder)
    curves: dict[str, dict[str, Line]] = {}
    problems: list[str] = []
    files = sorted(place.rglob("wider_pr_info_*.mat")) + sorted(place.rglob("*ROC.txt"))
    if not files:
        raise DataError(f"{place}: expected wider_pr_info_*.mat or *DiscROC.txt files below it")
    for file in files:
        try:
            if file.suffix == ".mat":
                name, panel, line = _wider_curve(file)
            else:
                panel = "discrete" if "Disc" in file.stem else "continuous"
                name = file.stem.replace("DiscROC", "").replace("ContROC", "").rstrip("-_ ")
                rows = np.loadtxt(file, ndmin=2)
                line = (rows[:, 1].tolist(), rows[:, 0].tolist())
        except ModuleNotFoundError:
            problems.append(f"{file.name} is a MATLAB v7.3 file: pip install h5py")
        except (DataError, OSError, KeyError, ValueError, IndexError) as error:
            problems.append(f"{file.name}: no curve of WIDER FACE or FDDB ({error!r})")
        else:
            curves.setdefault(name, {})[panel] = line
    return curves, problems


def _wider_curve(file: Path) -> tuple[str, str, Line]:
    *_, subset, _ = file.stem.split("_")
    if not is_hdf5_mat(file):
        content = read_mat(file)
        rows, name = content["pr_cruve"], str(content["legend_name"].ravel()[0])
    else:  # MATLAB v7.3: an HDF5 file, its arrays transposed
        import h5py

        with h5py.File(file) as stored:
            rows = np.asarray(stored["pr_cruve"]).T
            name = "".join(chr(code) for code in np.asarray(stored["legend_name"]).ravel())
    return name, subset, (rows[:, 1].tolist(), rows[:, 0].tolist())
