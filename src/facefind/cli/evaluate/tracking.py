"""`facefind evaluate tracking`: MOTA, IDF1 and HOTA of tracks in files."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from facefind.cli import output
from facefind.cli.evaluate.reporting import ReportOptions, report
from facefind.cli.options import check_written
from facefind.files import sha256

if TYPE_CHECKING:
    from facefind.evaluation.tracking import TrackingResult

__all__ = ["run"]


@dataclass(frozen=True, kw_only=True)
class _Tracking(ReportOptions):
    """Evaluate tracked faces against labeled tracks: MOTA, IDF1 and HOTA.

    Both in MOTChallenge's form: lines `frame,id,left,top,width,height,score` with frames from 1.
    """

    predictions: Annotated[Path, tyro.conf.arg(metavar="FILE.txt|DIR")]
    """The tracks found in a video, or a folder with a file for each video."""
    truth: Annotated[Path, tyro.conf.arg(metavar="FILE.txt|DIR")]
    """The labeled tracks, or a folder with files of the same names. Faces of score 0 need not be
    found."""
    min_iou: float = 0.5
    """IoU from which a face is found, for MOTA and IDF1."""


def run(args: Sequence[str], command: str) -> int:
    """Exit code 0 once the result is out."""
    from facefind.evaluation import mot, tracking

    options = tyro.cli(_Tracking, args=args, prog="facefind evaluate tracking")
    check_written([options.predictions, options.truth], out=options.out)
    found, truth = mot.read_videos(options.predictions), mot.read_videos(options.truth)
    if options.predictions.is_file() and options.truth.is_file():  # names may differ
        found = dict(zip(truth, found.values(), strict=True))
    result = tracking.evaluate(found, truth, min_iou=options.min_iou)
    source = {
        "detections_from": str(options.predictions),
        "image_set": options.truth.name,
        "digest": _digest(options.truth),
        "videos": len(truth),
    }
    report(options, "tracking", result, _text(result, truth), command, source)
    return 0


def _text(result: TrackingResult, videos: Mapping[str, object]) -> str:
    rates = (result.mota, result.idf1, result.hota, result.deta, result.assa)
    counts = (result.missed, result.false, result.switches)
    row = [*(f"{100 * rate:.2f}" for rate in rates), *map(str, counts)]
    header = ("MOTA", "IDF1", "HOTA", "DetA", "AssA", "missed", "false", "switches")
    return (
        f"{output.table(header, [row], right=range(8))}\n\n{result.protocol}; "
        f"{result.faces} faces of {result.persons} persons in {len(videos)} videos, "
        f"{result.predictions} predictions in {result.tracks} tracks"
    )


def _digest(path: Path) -> str:
    if path.is_file():
        return sha256(path)
    total = hashlib.sha256()
    for file in sorted(path.glob("*.txt")):
        total.update(f"{file.name} {sha256(file)}\n".encode())
    return total.hexdigest()
