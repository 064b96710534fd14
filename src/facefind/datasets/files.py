"""Label files: their text, numbers and errors that name the line; where their images lie."""

from __future__ import annotations

import codecs
import logging
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from facefind.errors import DataError
from facefind.images.listing import SUFFIXES

Missing = Literal["error", "skip", "keep"]
"""What to do with labels whose image file is absent: stop, leave the picture out, or keep it."""

Flat = Literal["drop", "keep"]
"""What to do with boxes without area, which no detector can be judged by: keep them to check."""

Unreadable = Literal["error", "skip", "keep"]
"""What to do with a picture whose size a layout needs and whose file does not say it: stop, leave
the picture out with a warning, or keep it without its faces, for checks to find."""

LARGEST = 1e7
"""What no number of a label exceeds: pixels of no picture, and exact in float32 and below."""

_LONGEST = 100  # characters of a number
log = logging.getLogger("facefind.datasets")
_faults: ContextVar[list[DataError] | None] = ContextVar("_faults", default=None)


@contextmanager
def collected_faults() -> Iterator[list[DataError]]:
    """The wrong labels of the sets that are read in the block, which are left out meanwhile.

    Outside of such a block the first one is raised, and ends the reading.
    """
    found: list[DataError] = []
    token = _faults.set(found)
    try:
        yield found
    finally:
        _faults.reset(token)


class _OneLabel:
    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: object, trace: object) -> bool:
        faults = _faults.get()
        if faults is None or not isinstance(error, DataError):
            return False
        faults.append(error)
        return True


ONE_LABEL = _OneLabel()
"""`with ONE_LABEL:` holds what is read of one label, picture or file: a DataError that it raises
costs no other one within `collected_faults`."""


def only_file(root: Path, *patterns: str) -> Path:
    """The label file: `root`, or the one file in that folder of the first pattern that has any.

    Raises:
        DataError: there is none, or there are several.
    """
    if root.is_file():
        return root
    if not root.is_dir():
        raise DataError(f"{root}: no such file or folder")
    found = next((some for one in patterns if (some := sorted(root.glob(one)))), [])
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise DataError(
            f"{root}: expected one file {patterns[-1]}, got {names}; pass the file itself"
        )
    return found[0]


def key(name: str) -> str:
    """A picture's name without its image suffix, with forward slashes: what names are matched by.

    Names in labels, detections and lists agree in it however the pictures were converted.
    """
    name = name.replace("\\", "/")
    stem, dot, suffix = name.rpartition(".")
    return stem if dot and f".{suffix.lower()}" in SUFFIXES else name


def locate(
    names: Iterable[str], root: Path, source: Path, missing: Missing = "error"
) -> dict[str, Path]:
    """Picture name -> image file below `root`, in the order of `names`.

    Where the named file is absent, one with the same stem and another image suffix is taken:
    label files still name `x.jpg` after the pictures have been converted. Names without a
    suffix (FDDB) are found the same way. `source` is the label file, for messages.

    Raises:
        DataError: under missing="error", with how many are absent and the first few names.
    """
    folders: dict[Path, dict[str, str]] = {}
    found: dict[str, Path] = {}
    absent: list[str] = []
    for name in names:
        path = root / name
        folder = path.parent
        if folder not in folders:
            folders[folder] = _listing(folder)
        known = folders[folder]
        stem = path.stem if path.suffix.lower() in SUFFIXES else path.name
        file = known.get(path.name) or known.get(stem)
        if file:
            found[name] = folder / file
        else:
            absent.append(name)
            if missing == "keep":
                found[name] = path
    if absent and missing == "error":
        names_shown = ", ".join(absent[:3]) + (", ..." if len(absent) > 3 else "")
        raise DataError(
            f"{source}: {len(absent)} of {len(absent) + len(found)} labeled images are not in "
            f"{root} ({names_shown}); say where they are, as in {source},images=DIR, or leave "
            f"them out: {source},missing=skip"
        )
    if absent and missing == "skip":
        log.warning("%s: %d labeled images are missing and left out", source, len(absent))
    return found


def present(paths: Mapping[str, Path], source: str | Path) -> tuple[dict[str, Path], list[str]]:
    """The images that are there, and the names of those that are not; `source` is for messages.

    Raises:
        DataError: if none is there.
    """
    found = {name: path for name, path in paths.items() if path.is_file()}
    if not found:
        such = f", such as {next(iter(paths.values()))}" if paths else ""
        raise DataError(
            f"{source}: none of the {len(paths)} labeled images is there{such}; give their folder "
            "by --images"
        )
    return found, [name for name in paths if name not in found]


def _listing(folder: Path) -> dict[str, str]:
    """Each image file's name, under that name and under its stem."""
    if not folder.is_dir():
        return {}
    names = sorted(entry.name for entry in folder.iterdir())
    images = [name for name in names if Path(name).suffix.lower() in SUFFIXES]
    return {Path(name).stem: name for name in reversed(images)} | {name: name for name in names}


def bad_line(source: Path, number: int, line: str, expected: str) -> DataError:
    """A DataError that names file and line (from 1), what it holds and what was expected."""
    shown = line.strip()
    shown = shown if len(shown) <= 80 else shown[:77] + "..."
    return DataError(f"{source}, line {number}: expected {expected}, got {shown!r}")


def decode(path: Path) -> str:
    """The text of a label file: UTF-8, or UTF-16 where its first bytes say so.

    Raises:
        DataError: if it is missing or no such text; names the line.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read as a label file ({error})") from None
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return content.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}, line {line}: expected UTF-8 text, got the byte {content[error.start]:#04x}; "
            "save the file as UTF-8"
        ) from None


def read_text(path: Path) -> list[str]:
    """The lines of a label file.

    Raises:
        DataError: as `decode` does.
    """
    return decode(path).splitlines()


def numbers(line: str, *, whole: bool = False) -> list[float]:
    """The numbers of a line; none where a part of it is no number, infinite or beyond `LARGEST`.

    Args:
        line: numbers with spaces between.
        whole: whether they must be whole; as in Python, 3.0 is written as no whole number.
    """
    parts = line.split()
    if not all(part.isascii() and "_" not in part and len(part) < _LONGEST for part in parts):
        return []
    try:
        values = [int(part) if whole else float(part) for part in parts]
    except ValueError:
        return []
    return values if all(abs(value) <= LARGEST for value in values) else []  # NaN is not, either


def number_table(
    source: Path, lines: list[str], at: int, form: str, columns: int
) -> npt.NDArray[np.float64]:
    """(N, columns) the numbers of all lines from place `at` on, as `numbers` has them, but faster.

    Args:
        source: the file, for messages.
        lines: all of it.
        at: the place of the first row, counted from 0.
        form: what a line must be, in words.
        columns: how many numbers it must have.

    Raises:
        DataError: where a line is not of that form; names file and line.
    """
    rows = lines[at:]
    if rows and max(map(len, rows)) < _LONGEST:
        try:
            table = np.loadtxt(rows, np.float64, comments=None, ndmin=2)
        except ValueError:
            table = np.zeros((0, 0))
        if table.shape == (len(rows), columns) and (np.abs(table) <= LARGEST).all():
            return table
    found = [numbers(row) for row in rows]
    for place, values in enumerate(found, at):
        if len(values) != columns:
            raise bad_line(source, place + 1, lines[place], form)
    return np.array(found, np.float64).reshape(-1, columns)


def face_rows(
    source: Path, lines: list[str], at: int, form: str, sizes: Collection[int], *, whole: bool
) -> tuple[dict[int, list[float]], int]:
    """The numbers of each line of a block by the line's place, and the place of what follows it.

    Line `at` says how many lines belong to the block; places count from 0.

    Args:
        source: the file, for messages.
        lines: all of it.
        at: where the block begins.
        form: what a line must be, in words.
        sizes: how many numbers it may have.
        whole: whether they must be whole.

    Raises:
        DataError: where a line is missing, or not of that form; names file and line.
    """
    first = lines[at] if at < len(lines) else ""
    said = numbers(first, whole=True)
    found: dict[int, list[float]] = {}
    with ONE_LABEL:
        if len(said) != 1 or said[0] < 0:
            raise bad_line(source, at + 1, first, "the number of faces")
        for place in range(at + 1, at + 1 + int(said[0])):
            line = lines[place] if place < len(lines) else ""
            values = numbers(line, whole=whole)
            if not values and (place >= len(lines) or is_name(line)):
                raise bad_line(source, place + 1, line, form)
            with ONE_LABEL:
                if len(values) not in sizes:
                    raise bad_line(source, place + 1, line, form)
                found[place] = values
        return found, at + 1 + int(said[0])
    return found, next_name(lines, at)


def face_blocks(
    source: Path, lines: list[str], form: str, sizes: Collection[int]
) -> Iterator[tuple[str, dict[int, list[float]]]]:
    """Each picture's name and its `face_rows`, of a file of a name, a number, and rows in turn."""
    at = 0
    while at < len(lines):
        name = lines[at].strip()
        at += 1
        if name:
            rows, at = face_rows(source, lines, at, form, sizes, whole=False)
            yield name, rows


def is_name(line: str) -> bool:
    """Whether a line of a label file names an image, and is no row of numbers, however wrong."""
    name = line.strip()
    if key(name) != name:
        return True
    try:
        float(name)
    except ValueError:
        return len(name.split()) == 1
    return False


def next_name(lines: list[str], at: int) -> int:
    """The place, from `at` on, of the next line that names an image; behind all if none does."""
    return next((place for place in range(at, len(lines)) if is_name(lines[place])), len(lines))


def flag(value: object) -> bool | None:
    """Whether a label says yes or no, as a truth value, 0 or 1, or text; None: neither of them."""
    text = str(value).strip().lower()
    if text in ("", "none", "0", "0.0", "false"):
        return False
    return True if text in ("1", "1.0", "true") else None


def is_hdf5_mat(path: Path) -> bool:
    """Whether a MATLAB file is of version 7.3, which is HDF5 and which SciPy does not read.

    Raises:
        DataError: if it is missing or no MATLAB file.
    """
    from scipy.io.matlab import MatReadError, matfile_version

    try:
        return bool(matfile_version(path)[0] == 2)
    except (OSError, ValueError, IndexError, MatReadError) as error:
        raise DataError(f"{path} cannot be read as a MATLAB file ({error})") from None


def read_mat(path: Path) -> dict[str, Any]:
    """The variables of a MATLAB file by name.

    Raises:
        DataError: if it is missing, no MATLAB file, or of version 7.3.
    """
    from scipy.io import loadmat

    if is_hdf5_mat(path):
        raise DataError(f"{path} is a MATLAB v7.3 file; save it with '-v7' in MATLAB")
    try:
        content: dict[str, Any] = loadmat(path)
    except Exception as error:  # damage shows as zlib.error, TypeError, MemoryError and others
        raise DataError(f"{path} cannot be read as a MATLAB file ({error})") from None
    return content


def image_root(root: Path, images: str | Path | None, *usual: str) -> Path:
    """The folder that picture names are relative to: `images`, or the first usual one there is."""
    if images is not None:
        if not Path(images).is_dir():
            raise DataError(f"images={images}: no such folder")
        return Path(images)
    return next((root / name for name in usual if (root / name).is_dir()), root)
