"""From the candidates of the passes over one image to its faces: pure functions on arrays.

`survivors` filters the candidates of one pass and takes them to the image's pixels, `merge` joins
the passes and suppresses or votes. What they do in between is the test protocol's choice, which
`check_protocol` holds against what a model's file allows.

Shapes: N faces or candidates of one image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from facefind import boxes as box_math
from facefind.errors import ProtocolError
from facefind.faces import Faces
from facefind.images import Placement
from facefind.landmarks import FLIP_ORDER
from facefind.mesh import Decoder
from facefind.mesh.decoding import moved
from facefind.nms import box_voting, nms
from facefind.protocols import TestProtocol, View
from facefind.runtimes import Candidates, Card

__all__ = ["Detections", "check_protocol", "check_tiled", "merge", "survivors"]

Array = NDArray[Any]


class Detections(NamedTuple):
    """What was found in one image, in its pixels."""

    boxes: Array
    """(N, 4) xyxy."""
    scores: Array
    """(N,) in 0..1."""
    landmarks: Array | None
    """(N, 5, 2), or None."""
    meshes: Array | None
    """(N, 145) mesh parameters, and last whether the face was mirrored; or None."""

    def take(self, which: Any) -> Detections:
        """Those chosen by indices or a mask."""
        landmarks = None if self.landmarks is None else self.landmarks[which]
        meshes = None if self.meshes is None else self.meshes[which]
        return Detections(self.boxes[which], self.scores[which], landmarks, meshes)


def check_protocol(card: Card, protocol: TestProtocol, min_score: float | None = None) -> None:
    """Check that a model can be run under a protocol and give the faces that the protocol means.

    One that takes a single input size takes no pass that is larger. One with NMS in its file gives
    the same faces as without where there is one pass over the whole image, of which faces of any
    size are kept, and NMS at the file's IoU is all that is done to them.

    Args:
        card: of the model.
        protocol: under which it is to be run.
        min_score: the lowest score to be kept; None leaves it out of account.

    Raises:
        ProtocolError: it cannot; the message says why, and what to do.
    """
    if card.fixed_size is not None:
        protocol.check_fits(card.fixed_size, card.name)
    if card.suppression is None:
        return
    done = card.suppression
    reasons = {
        "makes several passes over an image, or keeps faces by their size": not protocol.is_plain,
        "averages boxes by voting": protocol.voting is not None,
        "suppresses boxes inside others": protocol.containment is not None,
        "suppresses the boxes of a pass on their own": protocol.pass_nms_iou is not None,
        "counts the last pixel of a box as inside": protocol.plus_one,
        f"suppresses above an IoU of {protocol.nms_iou:g}": protocol.nms_iou != done.iou,
    }
    if reason := next((words for words, true in reasons.items() if true), None):
        raise ProtocolError(
            f"the file of {card.name} has NMS in it, above an IoU of {done.iou:g} in one pass, and "
            f"protocol {protocol.name!r} {reason}: take one of one pass, such as "
            f"{card.protocol if card.protocol != protocol.name else '640'!r}, or a file without NMS"
        )
    if min_score is not None and min_score < done.min_score:
        raise ProtocolError(
            f"the file of {card.name} has NMS in it, which keeps scores from {done.min_score:g}: "
            f"scores from {min_score:g} are not in its outputs. Take a min_score of at least "
            f"{done.min_score:g}, or a file without NMS"
        )


def check_tiled(card: Card, protocol: TestProtocol, image_size: tuple[int, int]) -> None:
    """Raise ProtocolError where an image is too large for one pass, and the model is for one."""
    if card.suppression is not None:
        raise ProtocolError(
            f"an image of {image_size[1]}x{image_size[0]} takes several tiles under protocol "
            f"{protocol.name!r}, and the file of {card.name} has NMS in it, which is for one pass: "
            "take a protocol of a smaller size, or a file without NMS"
        )


def survivors(
    candidates: Candidates,
    row: int,
    placement: Placement,
    view: View,
    protocol: TestProtocol,
    min_score: float,
    *,
    meshes: bool = False,
) -> Detections:
    """What one pass found with at least `min_score`; what lies below is never touched.

    Args:
        candidates: of a batch.
        row: the image's row in it.
        placement: where the image lies on the canvas of the pass.
        view: what the pass showed of the image.
        protocol: its caps, suppression and size limits within a pass apply.
        min_score: the lowest score that is kept.
        meshes: whether mesh parameters are kept.
    """
    scores = candidates.scores[row]
    kept = np.flatnonzero(scores >= min_score)
    if protocol.pass_candidates is not None and len(kept) > protocol.pass_candidates:
        kept = kept[np.argsort(-scores[kept], kind="stable")[: protocol.pass_candidates]]

    def restored(points: Array) -> Array:
        return view.restored(placement.points(points), placement.image_size)

    boxes = restored(candidates.boxes[row][kept].reshape(-1, 2, 2)).reshape(-1, 4)
    if not view.is_unchanged:
        low, high = np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])
        boxes = np.concatenate([low, high], axis=1)
    landmarks = parameters = None
    if candidates.landmarks is not None:
        landmarks = restored(candidates.landmarks[row][kept])
        if view.mirrored:
            landmarks = landmarks[:, FLIP_ORDER]
    if meshes and candidates.mesh is not None:
        parameters = moved(
            candidates.mesh[row][kept],
            restored,
            placement.scale_x,
            mirrored=view.mirrored,
            turns=view.turns,
        )
        parameters = np.pad(parameters, ((0, 0), (0, 1)), constant_values=view.mirrored)
    found = Detections(boxes, scores[kept], landmarks, parameters)
    if protocol.pass_nms_iou is not None:
        found = found.take(nms(found.boxes, found.scores, protocol.pass_nms_iou))
    if (view.min_size, view.max_size, view.tile_max_size) != (None, None, None):
        found = found.take(_of_size(found.boxes, placement.image_size, view, protocol.plus_one))
    return found


def merge(
    passes: Sequence[Detections],
    image_size: tuple[int, int],
    protocol: TestProtocol,
    *,
    mesh_decoder: Decoder | None = None,
    max_faces: int | None = None,
) -> Faces:
    """The faces that the passes over one image found together, by the protocol's rules.

    Args:
        passes: one or more, as `survivors` gives them.
        image_size: (height, width) of the image, at whose edges boxes are clipped.
        protocol: its caps, suppression or voting, and rounding apply.
        mesh_decoder: makes vertices of mesh parameters.
        max_faces: only the best so many faces are kept; None keeps all.
    """
    found = _joined(passes)
    if protocol.max_candidates is not None and len(found.scores) > protocol.max_candidates:
        found = found.take(np.argsort(-found.scores, kind="stable")[: protocol.max_candidates])
    if protocol.voting is not None:
        voted = box_voting(
            found.boxes,
            found.scores,
            protocol.voting,
            landmarks=found.landmarks,
            drop_singletons=protocol.singletons != "all",
            keep_last_singleton=protocol.singletons == "last",
            max_keep=protocol.max_faces if protocol.containment is None else None,
            plus_one=protocol.plus_one,
        )
        # A mesh is the best box's own: parameters do not average.
        meshes = None if found.meshes is None else found.meshes[voted.indices]
        found = Detections(voted.boxes, voted.scores, voted.landmarks, meshes)
    if protocol.voting is None or protocol.containment is not None:
        found = found.take(
            nms(
                found.boxes,
                found.scores,
                protocol.nms_iou if protocol.voting is None else 1.0,  # voted ones stay
                protocol.max_faces,
                containment=protocol.containment,
                plus_one=protocol.plus_one,
            )
        )
    boxes = found.boxes
    if protocol.rounding is not None:
        boxes = _rounded(box_math.clip(boxes, image_size), protocol)
    boxes = box_math.clip(boxes, image_size)
    found = found._replace(boxes=boxes)
    inside = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    if not inside.all():
        found = found.take(inside)
    if max_faces is not None and len(found.scores) > max_faces:
        found = found.take(slice(max_faces))  # by falling score already
    vertices = None
    if found.meshes is not None and mesh_decoder is not None:
        vertices = mesh_decoder.vertices(found.meshes[:, :-1], found.meshes[:, -1] > 0)
    return Faces(found.boxes, found.scores, found.landmarks, vertices, image_size=image_size)


def _of_size(
    boxes: Array, image_size: tuple[int, int], view: View, plus_one: bool
) -> NDArray[np.bool_]:
    """Which boxes (N, 4) have a size, and a position, that the view keeps."""
    sides = boxes[:, 2:] - boxes[:, :2]
    ok = np.ones(len(boxes), np.bool_)
    if view.min_size is not None:
        ok &= sides.max(axis=1) + plus_one > view.min_size
    if view.max_size is not None:
        ok &= sides.min(axis=1) + plus_one < view.max_size
    if view.tile_max_size is not None and view.window is not None:
        x1, y1, x2, y2 = view.window
        centers = (boxes[:, 2:] + boxes[:, :2]) / 2
        inner = [
            (x1 > 0, centers[:, 0] - x1),
            (y1 > 0, centers[:, 1] - y1),
            (x2 < image_size[1], x2 - centers[:, 0]),
            (y2 < image_size[0], y2 - centers[:, 1]),
        ]
        ok &= sides.max(axis=1) <= view.tile_max_size
        for is_cut, distance in inner:
            if is_cut:
                ok &= distance >= view.tile_max_size / 2
    return ok


def _rounded(boxes: Array, protocol: TestProtocol) -> Array:
    """Boxes (N, 4) in whole pixels, as the protocol's `rounding` says."""
    if protocol.rounding == "corners":
        return np.asarray(np.trunc(boxes))
    low, sides = boxes[:, :2], boxes[:, 2:] - boxes[:, :2]
    if protocol.rounding == "sides":
        low, sides = np.trunc(low), np.trunc(sides)
    else:
        low, sides = np.floor(low), np.ceil(sides + protocol.plus_one)
    return np.concatenate([low, low + sides], axis=1)


def _joined(passes: Sequence[Detections]) -> Detections:
    if len(passes) == 1:
        return passes[0]
    landmarks = [found.landmarks for found in passes if found.landmarks is not None]
    meshes = [found.meshes for found in passes if found.meshes is not None]
    return Detections(
        np.concatenate([found.boxes for found in passes]),
        np.concatenate([found.scores for found in passes]),
        np.concatenate(landmarks) if landmarks else None,
        np.concatenate(meshes) if meshes else None,
    )
