"""Makes further files of an exported one, for chips and runtimes that need more than it has.

NMS goes into the graph, or the size of the input is fixed for good. Torch takes no part in it, so
that models which ship get it as well.
"""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from facefind import graph_edits, protocols
from facefind.errors import WeightsError
from facefind.export import save
from facefind.files import scratch
from facefind.merging import check_protocol
from facefind.nms import nms
from facefind.runtimes import Candidates, Card, Runtime, Suppression, open_model
from facefind.runtimes.agreement import check_same, checkers, noise
from facefind.runtimes.contract import fixed_protocol

__all__ = ["adapt"]

_SAME = 0.05  # pixels, or hundredths of a score
_CANDIDATES = 5000  # of an image, where the protocol has no limit
_SORTED = 3800  # TensorRT, which files of one size are for, sorts fewer than 3840


def adapt(
    model: str | Path,
    out: str | Path,
    *,
    with_nms: bool = False,
    size: tuple[int, int] | None = None,
    protocol: str | None = None,
    card: Card | None = None,
    seed: int = 0,
) -> Path:
    """Write an exported file anew, with NMS in its graph or for one input size; return the path.

    Before it takes its name it is compared in every runtime that is installed with the file that it
    was made of, on random images. It is for running alone: training goes on from the other one.

    Args:
        model: A file that facefind has exported, of any precision.
        out: Where the new one goes; what is there is replaced.
        with_nms: Whether its outputs are the faces that NMS keeps, as `add_nms` has it: those from
            the card's `min_score`, at the protocol's IoU, of as many candidates as the protocol
            takes. With a size these are the best 3800 at most.
        size: The only (height, width) that it takes, of one image at a time; None leaves both free.
        protocol: Its test protocol. None takes the size's, else the card's; with NMS, which is for
            one pass over an image, "640" where that has several.
        card: What it says of itself, apart from what is changed here; None takes the file's card
            and the name of `out`.
        seed: Of the random images.

    Raises:
        WeightsError: The file is not of facefind, has been changed like this already, or cannot
            take the size; or what was made differs from it. Nothing is written then.
        ProtocolError: NMS in a graph cannot do what the protocol does, or its passes do not fit in
            the size.
        RuntimeUnavailableError: Neither onnxruntime nor OpenVINO is installed to check it.
    """
    import onnx

    model, out = Path(model), Path(out)
    runtimes = checkers()
    own = Card.of_export(model)
    if not with_nms and size is None:
        raise WeightsError(
            f"{model} is exported already: name NMS (--with-nms), a size (--size), or both"
        )
    if own.suppression is not None or own.fixed_size is not None:
        kind = "has NMS in it" if own.suppression is not None else "takes one size alone"
        raise WeightsError(f"{model} {kind} already: give the file that it was made of")
    if size is not None and (min(size) < 1 or any(side % own.size_multiple for side in size)):
        raise WeightsError(
            f"{model} takes heights and widths that are multiples of {own.size_multiple}, "
            f"got {size[0]} high and {size[1]} wide"
        )
    card = _adapted(card or replace(own, name=out.stem), with_nms, size, protocol)
    graph = onnx.load(str(model))
    if card.suppression is not None:
        graph = graph_edits.add_nms(graph, card.suppression)
    if size is not None:
        graph = graph_edits.fix_size(graph, size)
    out.parent.mkdir(parents=True, exist_ok=True)
    with scratch(out) as folder:
        draft = folder / out.name
        save(graph, draft, card)
        for name in runtimes:
            original, given = open_model(model, name), open_model(draft, name)
            if card.suppression is None:
                check_same(original, given, seed)
                continue
            check_same(original, given, seed, partial(_other_faces, card.suppression))
            # Nothing in random images looks like a face: whether NMS works is seen at a low score.
            low = replace(card.suppression, min_score=_middle(original, card, seed))
            twin = folder / "twin.onnx"
            save(graph_edits.with_floor(graph, low.min_score), twin, replace(card, suppression=low))
            check_same(original, open_model(twin, name), seed, partial(_other_faces, low))
        os.replace(draft, out)
    return out


def _adapted(
    card: Card, with_nms: bool, size: tuple[int, int] | None, protocol: str | None
) -> Card:
    """The card of a file that `adapt` makes."""
    chosen = protocol or (card.protocol if size is None else fixed_protocol(size))
    suppression = None
    if with_nms:
        if protocol is None and not protocols.get(chosen).is_plain:
            chosen = "640"
        merging = protocols.get(chosen)
        most = merging.max_candidates or _CANDIDATES
        suppression = Suppression(
            card.min_score, merging.nms_iou, most if size is None else min(most, _SORTED)
        )
    card = replace(card, protocol=chosen, fixed_size=size, suppression=suppression)
    check_protocol(card, protocols.get(chosen), card.min_score)
    return card


def _middle(model: Runtime, card: Card, seed: int) -> float:
    """The score above which half of the candidates of random images are."""
    return max(float(np.median(model(next(noise(card, seed))).scores)), 1e-6)


def _other_faces(done: Suppression, expected: Candidates, got: Candidates) -> str:
    """Where a file with NMS gives other faces than NMS of the candidates, in words; "" if nowhere.

    One of a hundred may differ: rounding decides at a threshold.
    """
    for row, scores in enumerate(expected.scores):
        best = np.argsort(-scores, kind="stable")[: done.candidates]
        best = best[scores[best] >= done.min_score]
        kept = best[nms(expected.boxes[row][best], scores[best], done.iou)]
        count = int((got.scores[row] > 0).sum())
        a = np.column_stack([expected.boxes[row][kept], 100 * scores[kept]])
        b = np.column_stack([got.boxes[row][:count], 100 * got.scores[row][:count]])
        gaps = np.abs(a[:, None] - b).max(2) if len(a) and len(b) else np.ones((len(a), len(b)))
        lost = int((gaps.min(1, initial=1) > _SAME).sum() + (gaps.min(0, initial=1) > _SAME).sum())
        if lost > 0.02 * len(a):
            return (
                f"of {len(a)} faces that NMS keeps and {count} in the file, {lost} are in one alone"
            )
    return ""
