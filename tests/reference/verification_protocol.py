"""Verification protocols in plain loops."""

from __future__ import annotations

import numpy as np
from scipy.interpolate import interp1d


def folds(first, second, same, count, far):
    """Mean accuracy and mean VAL over contiguous folds."""
    distance = [sum((a - b) ** 2 for a, b in zip(x, y, strict=True))
                for x, y in zip(first, second, strict=True)]  # fmt: skip
    size = len(same) // count
    accuracies, vals = [], []
    for fold in range(count):
        test = range(fold * size, (fold + 1) * size)
        train = [i for i in range(len(same)) if i not in test]

        def accuracy(rows, threshold):
            return sum((distance[i] < threshold) == same[i] for i in rows) / len(rows)

        best = max(np.arange(0, 4, 0.01), key=lambda t, rows=train: accuracy(rows, t))
        accuracies.append(accuracy(test, best))
        grid = np.arange(0, 4, 0.001)
        other = np.array([distance[i] for i in train if not same[i]])
        rates = np.array([np.mean(other < t) for t in grid])
        cut = float(interp1d(rates, grid)(far)) if rates.max() >= far else 0.0
        own = [i for i in test if same[i]]
        vals.append(sum(distance[i] < cut for i in own) / len(own))
    return float(np.mean(accuracies)), float(np.mean(vals))


def pool(features, template, media):
    """Template -> unit feature, one template and one medium at a time."""
    result = {}
    for number in sorted(set(template)):
        total = np.zeros(features.shape[1])
        for medium in sorted({m for t, m in zip(template, media, strict=True) if t == number}):
            rows = [f for f, t, m in zip(features, template, media, strict=True)
                    if t == number and m == medium]  # fmt: skip
            total += np.mean(rows, axis=0)
        result[number] = total / np.linalg.norm(total)
    return result
