"""Filtering on a graph in its spectrum: dense, by eigenvectors, as the theory has it."""

from __future__ import annotations

import numpy as np


def laplacian(vertices, triangles):
    """D - E, an edge at a time."""
    matrix = np.zeros((vertices, vertices))
    pairs = {tuple(sorted((t[i], t[(i + 1) % 3]))) for t in triangles for i in range(3)}
    for a, b in pairs:
        matrix[a, b] = matrix[b, a] = -1
        matrix[a, a] += 1
        matrix[b, b] += 1
    return matrix


def chebyshev_filter(matrix, x, weight, bias, order):
    """sum over k of T_k(2 L / lambda_max - I) x W_k + b, each T_k as cos(k arccos(lambda)).

    x is (V,inputs), weight (order*inputs,outputs).
    """
    values, vectors = np.linalg.eigh(matrix)
    scaled = np.clip(2 * values / values.max() - 1, -1, 1)
    inputs = x.shape[1]
    out = np.zeros((len(x), weight.shape[1])) + bias
    for k in range(order):
        response = np.cos(k * np.arccos(scaled))
        filtered = vectors @ (response[:, None] * (vectors.T @ x))
        out += filtered @ weight[k * inputs : (k + 1) * inputs]
    return out
