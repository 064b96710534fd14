"""`facefind evaluate verification`: LFW, CFP, AgeDB and IJB-C from embeddings made elsewhere."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import tyro

from facefind.cli import output
from facefind.cli.evaluate.reporting import ReportOptions, report
from facefind.cli.options import File, Flag, Folder
from facefind.errors import DataError
from facefind.files import sha256

if TYPE_CHECKING:
    from facefind.datasets import Pairs

__all__ = ["run"]

Floats = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Verification(ReportOptions):
    """Evaluate face verification from the embeddings of aligned faces.

    Give either --pairs (LFW, CFP-FP, AgeDB-30: accuracy over ten folds) or --ijb (IJB-C 1:1: true
    accept rates). Embeddings need not be of unit length.
    """

    embeddings: Annotated[Path, tyro.conf.arg(metavar="FILE.npz|FILE.npy")]
    """An .npz file with `features` (N, D), with `flipped` (N, D) of the mirrored pictures where
    there are some, and with `names` (N,) of the pictures; or an .npy file of the features alone.
    Without names they are in the order of the .bin pack (first and second of each pair in turn),
    or of IJB's face_tid_mid file."""
    pairs: Annotated[Path | None, tyro.conf.arg(metavar="FILE|DIR", help_behavior_hint="")] = None
    """LFW's pairs.txt, a .bin pack (lfw.bin, cfp_fp.bin, agedb_30.bin), or CFP's folder."""
    images: Folder = None
    """LFW's image folder, with pairs.txt, which is a download of its own."""
    cfp: Literal["FP", "FF"] = "FP"
    """Which of CFP's two protocols."""
    far: float = 1e-3
    """False accept rate for the validation rate."""
    ijb: Folder = None
    """The folder of IJB's meta files: *face_tid_mid.txt, *template_pair_label.txt."""
    scores: File = None
    """With --ijb: weigh pictures by the last number of each line of this name_5pts_score file."""
    unit: Flag = False
    """With --ijb: make features of unit length before pooling: their length is no weight."""


def run(args: Sequence[str], command: str) -> int:
    """Exit code 0 once the result is out."""
    options = tyro.cli(_Verification, args=args, prog="facefind evaluate verification")
    if (options.pairs is None) == (options.ijb is None):
        raise DataError("give either --pairs (LFW, CFP, AgeDB) or --ijb (IJB-C)")
    features, names = _embeddings(options.embeddings)
    source = {"detections_from": str(options.embeddings)}
    source["embeddings_sha256"] = sha256(options.embeddings)
    if options.ijb is not None:
        return _ijb(options, features, command, source)
    return _folds(options, features, names, command, source)


def _folds(
    options: _Verification,
    features: Floats,
    names: list[str] | None,
    command: str,
    source: dict[str, Any],
) -> int:
    from facefind.evaluation import verification

    assert options.pairs is not None
    pairs = _pairs(options)
    first, second = _rows(pairs, names, len(features), options.embeddings)
    unit = verification.embed(features)
    result = verification.folds(unit[first], unit[second], pairs.same, pairs.folds, options.far)
    row = (
        f"{100 * result.accuracy:.2f} +- {100 * result.accuracy_std:.2f}",
        f"{100 * result.val:.2f} +- {100 * result.val_std:.2f}",
        f"{result.pairs}",
    )
    header = ("accuracy %", f"VAL % at FAR {result.far:g}", "pairs")
    digest = hashlib.sha256(pairs.same.tobytes() + pairs.folds.tobytes())
    for picture in (*pairs.first, *pairs.second):
        content = picture if isinstance(picture, bytes) else picture.name.encode()
        digest.update(hashlib.sha256(content).digest())
    text = output.table(header, [row], right=range(3)) + f"\n\n{result.protocol}"
    more = {"image_set": options.pairs.name, "digest": digest.hexdigest()}
    report(options, "verification", result, text, command, source, **more)
    return 0


def _ijb(options: _Verification, features: Floats, command: str, source: dict[str, Any]) -> int:
    from facefind.evaluation import verification

    assert options.ijb is not None
    faces = _one(options.ijb, "*face_tid_mid*.txt")
    labels = _one(options.ijb, "*template_pair_label*.txt")
    template, media = verification.read_ijb_templates(faces)
    if len(template) != len(features):
        raise DataError(
            f"{options.embeddings}: {len(features)} features, expected {len(template)}, those of "
            f"{faces}"
        )
    weights = None if options.scores is None else _scores(options.scores, len(features))
    numbers, pooled = verification.templates(
        features, template, media, weights, keep_norm=not options.unit
    )
    result = verification.evaluate_templates(numbers, pooled, verification.read_ijb_pairs(labels))
    rows = [(f"{far:g}", f"{100 * rate:.2f}") for far, rate in result.tar.items()]
    lines = [output.table(("FAR", "TAR %"), rows, right=(0, 1)), ""]
    lines.append(
        f"{result.protocol}; {result.templates} templates, {result.genuine} genuine and "
        f"{result.impostor} impostor pairs"
    )
    digest = hashlib.sha256(faces.read_bytes() + labels.read_bytes()).hexdigest()
    more = {
        "image_set": options.ijb.name,
        "digest": digest,
        "mode": {"unit": options.unit, "face_scores": options.scores is not None},
    }
    report(options, "verification", result, "\n".join(lines), command, source, **more)
    return 0


def _embeddings(path: Path) -> tuple[Floats, list[str] | None]:
    """(N, D) features, flipped ones added, and the pictures' names where the file has them."""
    expected = (
        "an .npy file of features (N, D), or an .npz file with `features` and maybe `flipped`"
    )
    try:
        content = np.load(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: expected {expected} ({error})") from None
    names = None
    if isinstance(content, np.ndarray):
        features = np.asarray(content, np.float64)
    else:
        with content:
            if "features" not in content:
                raise DataError(f"{path}: holds {', '.join(content.files)}; expected {expected}")
            features = np.asarray(content["features"], np.float64)
            if "flipped" in content:
                if content["flipped"].shape != features.shape:
                    raise DataError(f"{path}: `flipped` must have the shape of `features`")
                features = features + content["flipped"]
            if "names" in content:
                names = [str(name) for name in content["names"]]
    if features.ndim != 2 or not len(features) or not np.isfinite(features).all():
        raise DataError(f"{path}: features {features.shape}; expected (N, D) finite numbers")
    if names is not None and len(names) != len(features):
        raise DataError(f"{path}: {len(names)} names for {len(features)} features")
    return features, names


def _pairs(options: _Verification) -> Pairs:
    from facefind.datasets import pairs

    assert options.pairs is not None
    if not options.pairs.exists():
        raise DataError(f"--pairs {options.pairs}: no such file or folder")
    if options.pairs.is_dir():
        return pairs.read_cfp(options.pairs, options.cfp)
    if options.pairs.suffix == ".bin":
        return pairs.read_bin(options.pairs)
    if options.images is None:
        raise DataError("LFW's pairs.txt needs --images, the folder of its pictures")
    return pairs.read_lfw(options.pairs, options.images)


def _rows(
    pairs: Pairs, names: list[str] | None, count: int, path: Path
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Which feature belongs to the first and to the second picture of each pair."""
    if names is None:
        if count != 2 * len(pairs):
            raise DataError(
                f"{path}: {count} features without `names`; expected {2 * len(pairs)}, first and "
                "second of each pair in turn"
            )
        return np.arange(0, count, 2), np.arange(1, count, 2)
    from facefind.evaluation.detections import key

    index: dict[str, int] = {}
    for number, name in enumerate(names):
        index[key(name)] = number
    rows = []
    for pictures in (pairs.first, pairs.second):
        found = []
        for picture in pictures:
            if isinstance(picture, bytes):
                raise DataError(f"{path}: a .bin pack has no names: give the features without")
            parts = Path(key(picture.as_posix())).parts
            tails = ("/".join(parts[-length:]) for length in range(len(parts), 0, -1))
            at = next((index[tail] for tail in tails if tail in index), None)
            if at is None:
                raise DataError(f"{path}: no embedding named {picture.name} or its path")
            found.append(at)
        rows.append(np.array(found, np.int64))
    return rows[0], rows[1]


def _one(folder: Path, pattern: str) -> Path:
    files = sorted(folder.rglob(pattern))
    if len(files) != 1:
        raise DataError(f"{folder}: expected one file {pattern} below it, found {len(files)}")
    return files[0]


def _scores(path: Path, count: int) -> Floats:
    from facefind.datasets.files import bad_line, read_text

    values = []
    for number, line in enumerate(read_text(path), 1):
        if not line.strip():
            continue
        try:
            values.append(float(line.split()[-1]))
        except ValueError:
            raise bad_line(path, number, line, "a line that ends in the face's score") from None
    if len(values) != count:
        raise DataError(f"{path}: {len(values)} scores for {count} features")
    return np.array(values)
