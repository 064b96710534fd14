"""The light on a face: nine numbers, a point light and what comes from everywhere.

Shapes: P faces, V vertices, T triangles.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from facefind.systems.mesh.camera import bounded

_PLACE = (0.0, -1.5, -4.0)  # above and before the face, in the camera's frame
_POINT, _AMBIENT = 0.35, 0.7


def resolve(raw: Tensor) -> Tensor:
    """Lights (..., 9) of predicted ones (..., 9): location, color, ambient color.

    The location is in the camera's frame, from the face's origin, in units of the face; colors
    come from logarithms, so that none is negative. Zeros are white light from above the viewer.

    Source: RetinaFace, sec. 3.2. Differs: the zero point and the scales are ours.
    """
    place = raw.new_tensor(_PLACE) + 2 * raw[..., :3]
    point = _POINT * bounded(raw[..., 3:6]).exp()
    ambient = _AMBIENT * bounded(raw[..., 6:9]).exp()
    return torch.cat([place, point, ambient], -1)


def normals(vertices: Tensor, triangles: Tensor) -> Tensor:
    """Unit normals (P,V,3), each the mean of its triangles' weighted by area.

    They point outwards where triangles (T,3) run counter-clockwise as seen from outside.
    """
    a, b, c = (vertices[:, corner] for corner in triangles.unbind(1))
    facets = torch.linalg.cross(b - a, c - a)
    total = torch.zeros_like(vertices)
    for corner in triangles.unbind(1):
        total = total.index_add(1, corner, facets)
    return functional.normalize(total, dim=-1, eps=1e-12)


def shade(colors: Tensor, turned: Tensor, outward: Tensor, light: Tensor) -> Tensor:
    """Colors (P,V,3) as lit: albedo (ambient + point light max(0, n . l)), Lambert's law.

    Args:
        colors: (P,V,3) albedo.
        turned: (P,V,3) vertices in the camera's frame.
        outward: (P,V,3) their normals there.
        light: (P,9) as `resolve` gives it.
    """
    towards = functional.normalize(light[:, None, :3] - turned, dim=-1, eps=1e-12)
    facing = (outward * towards).sum(-1, keepdim=True).clamp(min=0)
    return colors * (light[:, None, 6:9] + light[:, None, 3:6] * facing)
