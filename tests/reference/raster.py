"""A rasterizer that asks every pixel about every triangle, by rays through a pinhole."""

from __future__ import annotations

import numpy as np


def render(points, colors, triangles, focal, center, size):
    """Picture (H,W,C) and triangle shown (H,W), -1 where none, of points in camera space.

    A ray runs from the pinhole through each pixel's center; where it meets the plane of a
    triangle, the point's coordinates within the triangle are solved for in space.
    """
    height, width = size
    picture = np.zeros((height, width, colors.shape[1]))
    shown = np.full((height, width), -1)
    for row in range(height):
        for column in range(width):
            ray = np.array(
                [(column + 0.5 - center[0]) / focal, (row + 0.5 - center[1]) / focal, 1.0]
            )
            nearest = np.inf
            for number, (a, b, c) in enumerate(triangles):
                corners = np.stack([points[a], points[b], points[c]], 1)
                if abs(np.linalg.det(corners)) < 1e-12:
                    continue
                weights = np.linalg.solve(corners, ray)  # ray = corners @ weights
                if (weights < 0).any():
                    continue
                distance = 1 / weights.sum()
                weights = weights * distance
                if 0 < distance < nearest:
                    nearest = distance
                    shown[row, column] = number
                    picture[row, column] = weights @ colors[[a, b, c]]
    return picture, shown
