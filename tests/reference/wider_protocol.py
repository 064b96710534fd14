"""WIDER FACE's protocol step by step, one detection and one threshold at a time."""

from __future__ import annotations

import math


def away(value: float) -> int:
    """Round half away from zero, as MATLAB does when it makes an integer."""
    return int(math.copysign(math.floor(abs(value) + 0.5), value))


def overlap(face, box, whole: bool) -> float:
    """IoU with inclusive pixels; `whole` follows int32 face, double box through MATLAB's rules."""
    fx1, fy1, fx2, fy2 = face
    bx1, by1, bx2, by2 = box
    met = [max(fx1, bx1), max(fy1, by1), min(fx2, bx2), min(fy2, by2)]
    if whole:
        met = [away(value) for value in met]
    w, h = met[2] - met[0] + 1, met[3] - met[1] + 1
    if w <= 0 or h <= 0:
        return 0.0
    face_area = (fx2 - fx1 + 1) * (fy2 - fy1 + 1)
    box_area = (bx2 - bx1 + 1) * (by2 - by1 + 1)
    together = face_area + box_area
    if whole:
        together = away(together)
    union = together - w * h
    if union == 0:
        return float("inf") if whole else 0.0
    ratio = (w * h) / union
    return away(ratio) if whole else ratio


def one_image(found, faces, counted, whole, iou):
    """Running recalls and the flags of the detections, best score first."""
    hit = [False] * len(faces)
    recalls, flags = [], []
    for box, _ in found:
        overlaps = [overlap(face, box, whole) for face in faces]
        best = max(overlaps, default=0.0)
        flag = 1
        if best >= iou:
            which = overlaps.index(best)
            if not counted[which]:
                flag = -1
            else:
                hit[which] = True
        flags.append(flag)
        recalls.append(sum(hit))
    return recalls, flags


def curve(detections, images, subset, whole=False, iou=0.5, steps=1000):
    """[(precision, recall)] of `images` = {name: (faces xyxy, {subset: [bool]})}."""
    every = [score for rows in detections.values() for _, score in rows]
    low, high = min(every, default=0.0), max(every, default=0.0)
    total = sum(sum(counted[subset]) for _, counted in images.values())
    per_image = []
    for name, (faces, counted) in images.items():
        rows = sorted(detections.get(name, []), key=lambda row: -row[1])
        scores = [(s - low) / (high - low) if high > low else 1.0 for _, s in rows]
        per_image.append((scores, *one_image(rows, faces, counted[subset], whole, iou)))
    points = []
    for step in range(steps):
        threshold = 1 - (step + 1) / steps
        proposals = recalled = 0
        for scores, recalls, flags in per_image:
            last = max((i for i, s in enumerate(scores) if s >= threshold), default=None)
            if last is not None:
                proposals += flags[: last + 1].count(1)
                recalled += recalls[last]
        precision = recalled / proposals if proposals else float("nan")
        points.append((precision, recalled / total if total else 0.0))
    return points


def ap(points) -> float:
    """Area below the envelope of precision over recall."""
    total, before = 0.0, 0.0
    for at, (_, recall) in enumerate(points):
        if recall != before:
            right = [p for p, _ in points[at:] if p == p]
            total += (recall - before) * max(right, default=0.0)
            before = recall
    return total
