"""FDDB's protocol step by step: whole-image masks, every assignment tried, every threshold."""

from __future__ import annotations

import itertools
import math

import cv2
import numpy as np


def mask(region, size):
    canvas = np.zeros(size, np.uint8)
    if len(region) == 4:
        corners = [math.floor(value + 0.5) for value in region]
        cv2.rectangle(canvas, tuple(corners[:2]), tuple(corners[2:]), 1, -1)
    else:
        major, minor, angle, x, y = region
        # FDDB turns the angle into degrees of another sense on reading and back on drawing
        read = (math.pi - angle) * 180 / math.pi
        center = math.floor(x + 0.5), math.floor(y + 0.5)
        cv2.ellipse(canvas, center, (int(major), int(minor)), 180 - read, 0, 360, 1, -1)
    return canvas.astype(bool)


def iou(a, b, size):
    a, b = mask(a, size), mask(b, size)
    union = (a | b).sum()
    return (a & b).sum() / union if union else 0.0


def best_pairs(table):
    """The IoUs of the one-to-one assignment (rows: detections) whose sum is greatest."""
    rows, columns = len(table), len(table[0]) if table else 0
    best, best_sum = [], -1.0
    if rows <= columns:
        options = (list(enumerate(p)) for p in itertools.permutations(range(columns), rows))
    else:
        options = (
            [(r, c) for c, r in enumerate(p)] for p in itertools.permutations(range(rows), columns)
        )
    for option in options:
        pairs = [table[r][c] for r, c in option]
        if sum(pairs) > best_sum + 1e-12:
            best, best_sum = pairs, sum(pairs)
    return best


def roc(pictures):
    """[(threshold, false positives, discrete, continuous)]; pictures = [(dets, faces, size)]."""
    faces = sum(len(truth) for _, truth, _ in pictures)
    per_image = []
    for found, truth, size in pictures:
        results = {}
        for threshold in {score for _, score in found}:
            valid = [region for region, score in found if score >= threshold]
            table = [[iou(region, face, size) for face in truth] for region in valid]
            pairs = best_pairs(table) if truth else []
            hits = sum(value > 0.5 for value in pairs)
            results[threshold] = (len(valid) - hits, hits, sum(pairs))
        per_image.append(results)
    points = []
    for threshold in sorted({t for results in per_image for t in results}, reverse=True):
        sums = [0.0, 0.0, 0.0]
        for results in per_image:
            reached = [t for t in results if t >= threshold]
            if reached:
                sums = [a + b for a, b in zip(sums, results[min(reached)], strict=True)]
        points.append((threshold, sums[0], sums[1] / faces, sums[2] / faces))
    return points
