"""`facefind evaluate verification`: LFW, CFP, AgeDB and IJB-C from embeddings made elsewhere."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from facefind.cli import output
from facefind.cli.evaluate.reporting import ReportOptions, report
from facefind.cli.options import File, Flag, Folder, check_written
from facefind.errors import DataError
from facefind.files import sha256

if TYPE_CHECKING:
    from facefind.evaluation.embeddings import Embeddings
    from facefind.evaluation.verification import FoldResult, TemplateResult

__all__ = ["run"]


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
    from facefind.evaluation import embeddings

    options = tyro.cli(_Verification, args=args, prog="facefind evaluate verification")
    check_written(
        [options.embeddings, options.pairs, options.images, options.ijb, options.scores],
        out=options.out,
    )
    if (options.pairs is None) == (options.ijb is None):
        raise DataError("give either --pairs (LFW, CFP, AgeDB) or --ijb (IJB-C)")
    given = embeddings.read(options.embeddings)
    source = {"detections_from": str(given.path), "embeddings_sha256": sha256(given.path)}
    measure: Callable[..., tuple[FoldResult | TemplateResult, str, dict[str, Any]]]
    measure = _folds if options.ijb is None else _templates
    result, text, more = measure(options, given)
    report(options, "verification", result, text, command, source, **more)
    return 0


def _folds(options: _Verification, given: Embeddings) -> tuple[FoldResult, str, dict[str, Any]]:
    from facefind.datasets import pairs
    from facefind.evaluation import verification

    assert options.pairs is not None
    chosen = pairs.read(options.pairs, images=options.images, cfp=options.cfp)
    first, second = given.of_pairs(chosen)
    unit = verification.embed(given.features)
    result = verification.folds(unit[first], unit[second], chosen.same, chosen.folds, options.far)
    row = (
        f"{100 * result.accuracy:.2f} +- {100 * result.accuracy_std:.2f}",
        f"{100 * result.val:.2f} +- {100 * result.val_std:.2f}",
        f"{result.pairs}",
    )
    header = ("accuracy %", f"VAL % at FAR {result.far:g}", "pairs")
    text = output.table(header, [row], right=range(3)) + f"\n\n{result.protocol}"
    return result, text, {"image_set": options.pairs.name, "digest": chosen.digest()}


def _templates(
    options: _Verification, given: Embeddings
) -> tuple[TemplateResult, str, dict[str, Any]]:
    from facefind.evaluation import verification

    assert options.ijb is not None
    ijb = verification.read_ijb(options.ijb)
    if len(ijb.template) != len(given.features):
        raise DataError(
            f"{given.path}: {len(given.features)} features, expected {len(ijb.template)}, those of "
            f"the face_tid_mid file in {options.ijb}"
        )
    scores = None if options.scores is None else verification.read_ijb_scores(options.scores)
    pooled = verification.templates(
        given.features, ijb.template, ijb.media, scores, keep_norm=not options.unit
    )
    result = verification.evaluate_templates(*pooled, ijb.pairs)
    rows = [(f"{far:g}", f"{100 * rate:.2f}") for far, rate in result.tar.items()]
    table = output.table(("FAR", "TAR %"), rows, right=(0, 1))
    text = (
        f"{table}\n\n{result.protocol}; {result.templates} templates, {result.genuine} genuine and "
        f"{result.impostor} impostor pairs"
    )
    mode = {"unit": options.unit, "face_scores": scores is not None}
    return result, text, {"image_set": options.ijb.name, "digest": ijb.digest, "mode": mode}
