"""The camera of a face: seven numbers, relative to an anchor when predicted, then in pixels.

Frames as in `facefind.mesh.decoding`: the face's has y up and z towards the viewer, the camera's
y down and z away. Shapes: P faces (positive anchors), V vertices.
"""

from __future__ import annotations

import torch
from torch import Tensor

DISTANCE = 8.0
"""Distance of the camera at zero output, in units of the face (half its height)."""
_RANGE = 1.5  # logarithms of distance and focal length stay within this


def bounded(raw: Tensor) -> Tensor:
    """The value itself near 0, never beyond `_RANGE`."""
    return _RANGE * torch.tanh(raw / _RANGE)


def resolve(raw: Tensor, boxes: Tensor) -> Tensor:
    """Cameras (..., 7) in pixels of predicted ones (..., 7) for anchors (..., 4) xyxy.

    The face's origin is given relative to the anchor's center, in its sides; distance and focal
    length as logarithms; the pose in radians. Zeros are a face seen from the front that fills the
    anchor's height.

    Source: RetinaFace, sec. 3.2: location, pose and focal length.
    Differs: how the seven numbers relate to the anchor is not in the paper; this is ours.
    """
    side = (boxes[..., 2:] - boxes[..., :2]).mean(-1, keepdim=True)
    center = (boxes[..., 2:] + boxes[..., :2]) / 2
    return torch.cat(
        [
            center + side * raw[..., :2],
            DISTANCE * bounded(raw[..., 2:3]).exp(),
            raw[..., 3:6],
            DISTANCE * side / 2 * bounded(raw[..., 6:7]).exp(),
        ],
        -1,
    )


def rotation(pose: Tensor) -> Tensor:
    """Rotation matrices (P,3,3) of poses (P,3): pitch, then yaw, then roll, in radians."""
    (sx, sy, sz), (cx, cy, cz) = pose.sin().unbind(-1), pose.cos().unbind(-1)
    rows = (
        (cz * cy, cz * sy * sx - sz * cx, cz * sy * cx + sz * sx),
        (sz * cy, sz * sy * sx + cz * cx, sz * sy * cx - cz * sx),
        (-sy, cy * sx, cy * cx),
    )
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def to_camera(vertices: Tensor, camera: Tensor) -> Tensor:
    """Vertices (P,V,3) turned into the camera's frame, about the face's origin."""
    flipped = vertices * vertices.new_tensor([1.0, -1.0, -1.0])
    return flipped @ rotation(camera[:, 3:6]).transpose(1, 2)


def project(turned: Tensor, camera: Tensor) -> Tensor:
    """Pixels and distance (P,V,3) of vertices (P,V,3) in the camera's frame.

    x and y are pixels; the third number is the distance from the camera along its axis, in units
    of the face. A vertex that a near camera would have behind it is kept just in front.
    """
    distance = (turned[..., 2:] + camera[:, None, 2:3]).clamp(min=0.05)
    flat = camera[:, None, :2] + camera[:, None, 6:] * turned[..., :2] / distance
    return torch.cat([flat, distance], -1)
