"""Pairs of pictures of the same or of different people: LFW, CFP, and the common .bin packs."""

from __future__ import annotations

import hashlib
import io
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from facefind.datasets.files import bad_line, locate, read_text
from facefind.errors import DataError


@dataclass(frozen=True, eq=False)
class Pairs:
    """Verification pairs in the order of their protocol.

    Attributes:
        first, second: a picture each; paths, or encoded image bytes from a .bin pack.
        same: (P,) bool, true where both show one person.
        folds: (P,) int, the fold of each pair, from 0.
    """

    first: tuple[Path | bytes, ...]
    second: tuple[Path | bytes, ...]
    same: npt.NDArray[np.bool_]
    folds: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.first)

    def digest(self) -> str:
        """Hex SHA-256 of flags, folds, and the pictures' names or bytes."""
        total = hashlib.sha256(self.same.tobytes() + self.folds.tobytes())
        for picture in (*self.first, *self.second):
            content = picture if isinstance(picture, bytes) else picture.name.encode()
            total.update(hashlib.sha256(content).digest())
        return total.hexdigest()


def read(
    source: str | Path, *, images: str | Path | None = None, cfp: Literal["FP", "FF"] = "FP"
) -> Pairs:
    """Pairs of LFW's `pairs.txt`, of a `.bin` pack, or of CFP's folder.

    Args:
        source: the file or folder.
        images: the folder of LFW's pictures.
        cfp: which of CFP's protocols.

    Raises:
        DataError: where there is no such file or it is not as its format demands, or LFW's
            pictures are needed.
    """
    path = Path(source)
    if not path.exists():
        raise DataError(f"{path}: no such file or folder of pairs")
    if path.is_dir():
        return read_cfp(path, cfp)
    if path.suffix == ".bin":
        return read_bin(path)
    if images is None:
        raise DataError("LFW's pairs.txt needs --images, the folder of its pictures")
    return read_lfw(path, images)


def read_lfw(pairs: str | Path, images: str | Path) -> Pairs:
    """LFW's `pairs.txt`: ten folds of 300 pairs of one person, then 300 of two.

    The first line is `folds pairs` (or `pairs` alone: one fold). A pair is `name i j` or
    `name i other j`, tab-separated; pictures are `name/name_0001.jpg` below `images`, or that
    file straight in it.

    Raises:
        DataError: with file and line, where a line is not as the format demands; where pictures
            are missing.
    """
    source = Path(pairs)
    lines = [line for line in read_text(source) if line.strip()]
    head = lines[0].split() if lines else []
    if not 1 <= len(head) <= 2 or not all(part.isdecimal() for part in head):
        raise bad_line(source, 1, lines[0] if lines else "", "'folds pairs', e.g. '10 300'")
    folds, each = (int(head[0]), int(head[1])) if len(head) == 2 else (1, int(head[0]))
    if len(lines) != 1 + folds * each * 2:
        raise DataError(
            f"{source}: line 1 promises {folds} x 2 x {each} pairs, {len(lines) - 1} lines follow"
        )
    names: list[tuple[str, str]] = []
    for number, line in enumerate(lines[1:], 2):
        parts = line.split("\t") if "\t" in line else line.split()
        same = ((number - 2) // each) % 2 == 0
        expected = "name i j" if same else "name i other j"
        numbers = [part.strip() for part in (parts[1::2] if len(parts) == 4 else parts[1:])]
        if len(parts) != (3 if same else 4) or not all(part.isdecimal() for part in numbers):
            raise bad_line(
                source, number, line, f"{expected!r} (fold {(number - 2) // (2 * each)})"
            )
        people = (parts[0], parts[0]) if same else (parts[0], parts[2])
        a, b = (f"{p}/{p}_{int(n):04d}.jpg" for p, n in zip(people, numbers, strict=True))
        names.append((a, b))
    files = _locate_lfw({name for pair in names for name in pair}, Path(images), source)
    index = np.arange(len(names))
    return Pairs(
        tuple(files[a] for a, _ in names),
        tuple(files[b] for _, b in names),
        (index // each) % 2 == 0,
        index // (2 * each),
    )


def _locate_lfw(names: set[str], images: Path, source: Path) -> dict[str, Path]:
    if not any((images / name.split("/")[0]).is_dir() for name in names):
        flat = {name.split("/")[1]: name for name in names}
        found = locate(sorted(flat), images, source)
        return {flat[name]: path for name, path in found.items()}
    return dict(locate(sorted(names), images, source))


def read_cfp(root: str | Path, protocol: str = "FP") -> Pairs:
    """CFP's `Protocol` folder: ten folds of 350 same and 350 different pairs.

    `protocol` is "FP" (frontal to profile) or "FF" (frontal to frontal). Picture numbers are
    those of `Pair_list_F.txt` and `Pair_list_P.txt`; each fold has `same.txt`, `diff.txt`.

    Raises:
        DataError: where a file is missing or a line is not `i,j`.
    """
    if protocol not in ("FP", "FF"):
        raise DataError(f"expected protocol 'FP' or 'FF', got {protocol!r}")
    root = Path(root)
    base = root / "Protocol" if (root / "Protocol").is_dir() else root
    lists = {kind: _cfp_list(base / f"Pair_list_{kind}.txt") for kind in set(protocol)}
    folders = sorted(path for path in (base / "Split" / protocol).glob("*") if path.is_dir())
    if not folders:
        raise DataError(f"{base}: expected the folders Split/{protocol}/01 to 10")
    first: list[Path | bytes] = []
    second: list[Path | bytes] = []
    same: list[bool] = []
    folds: list[int] = []
    for fold, folder in enumerate(folders):
        for kind in ("same", "diff"):
            source = folder / f"{kind}.txt"
            for number, line in enumerate(read_text(source), 1):
                if not line.strip():
                    continue
                try:
                    i, j = (int(part) for part in line.split(","))
                    first.append(lists[protocol[0]][i])
                    second.append(lists[protocol[1]][j])
                except (ValueError, KeyError):
                    raise bad_line(source, number, line, "'i,j', two picture numbers") from None
                same.append(kind == "same")
                folds.append(fold)
    return Pairs(tuple(first), tuple(second), np.array(same), np.array(folds))


def _cfp_list(source: Path) -> dict[int, Path]:
    pictures: dict[int, Path] = {}
    for number, line in enumerate(read_text(source), 1):
        parts = line.split(maxsplit=1)
        if len(parts) != 2 or not parts[0].isdecimal():
            raise bad_line(source, number, line, "'number path'")
        pictures[int(parts[0])] = source.parent / parts[1].strip().replace("\\", "/")
    return pictures


def read_bin(path: str | Path, folds: int = 10) -> Pairs:
    """Pairs of a `.bin` pack (`lfw.bin`, `cfp_fp.bin`, `agedb_30.bin`) as InsightFace hands out.

    Such a file is a Python pickle of encoded pictures and of flags; it is read with nothing but
    plain lists, bytes, numbers and NumPy arrays allowed, so that it cannot run code. Folds are
    contiguous and equal.

    Raises:
        DataError: where the file holds something else.
    """
    try:
        with Path(path).open("rb") as file:
            content = _Plain(file, encoding="bytes").load()
        pictures, flags = content
        same = np.array([bool(flag) for flag in flags])
        encoded = [bytes(np.asarray(p, np.uint8)) if not isinstance(p, bytes) else p
                   for p in pictures]  # fmt: skip
    except (OSError, pickle.UnpicklingError, ValueError, TypeError, EOFError) as error:
        raise DataError(f"{path}: no pack of (encoded pictures, flags) ({error})") from None
    if len(encoded) != 2 * len(same) or len(same) % folds:
        raise DataError(
            f"{path}: {len(encoded)} pictures for {len(same)} flags, expected two pictures a flag "
            f"and flags in {folds} equal folds"
        )
    return Pairs(
        tuple(encoded[0::2]),
        tuple(encoded[1::2]),
        same,
        np.arange(len(same)) // (len(same) // folds),
    )


class _Plain(pickle.Unpickler):
    """An unpickler that makes plain values and NumPy arrays, and calls nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        allowed = {
            "ndarray": np.ndarray,
            "dtype": np.dtype,
            "_reconstruct": _reconstruct,
            "scalar": _scalar,
        }
        if module.split(".")[0] == "numpy" and name in allowed:
            return allowed[name]
        if (module, name) in (("_codecs", "encode"), ("builtins", "bytes")):
            return _encode if name == "encode" else bytes
        raise pickle.UnpicklingError(f"{module}.{name} is not allowed in a pack")


def _reconstruct(kind: type, shape: tuple[int, ...], code: bytes) -> npt.NDArray[Any]:
    return np.ndarray.__new__(np.ndarray, shape, np.dtype(code.decode("ascii")))


def _scalar(dtype: np.dtype[Any], content: bytes) -> Any:
    if dtype.hasobject:
        raise pickle.UnpicklingError("objects are not allowed in a pack")
    return np.frombuffer(io.BytesIO(content).read(), dtype)[0]


def _encode(text: str, encoding: str = "latin1") -> bytes:
    return text.encode(encoding if isinstance(encoding, str) else "latin1")
