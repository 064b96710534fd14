"""The released multi-scale tests as plain lists and loops, for images of one size at a time.

Written from the specifications: a step is (factor, mirrored, least, most), where a box is taken if
its longer side (last pixel counted) exceeds `least` and its shorter side is below `most`.
"""

from __future__ import annotations

import math

import numpy as np
from reference import overlap

ANY = (-math.inf, math.inf)


def short_side(height, width, side, base=800, limit=1200, capped=True):
    """Factor of one short side, reckoned from a base size whose long side is limited."""
    factor = base / min(height, width)
    if capped and factor * max(height, width) > limit:
        factor = limit / max(height, width)
    return side / base * factor


def dsfd(height, width, pixels=0x7FFFFFFF / 200, most=3, finer=True):
    """Steps of DSFD; those of its demo, and of S3FD, without the finer ones."""
    m = (pixels / (height * width)) ** 0.5
    if most is not None and m > most:
        m = most
    own = m if m < 1 else 1
    steps = [(own, False, *ANY), (own, True, *ANY)]
    st = 0.5 if m >= 0.75 else m / 2
    steps.append((st, False, 30, math.inf))
    if finer and m > 0.75:
        steps.append((0.75, False, 30, math.inf))
    large = []
    bt = min(2, m) if m > 1 else (st + m) / 2
    large.append(bt)
    if finer and m > 1.5:
        large.append(1.5)
    if m > 2:
        bt = bt * 2
        while bt < m:
            large.append(bt)
            bt = bt * 2
        large.append(m)
    for factor in large:
        steps.append((factor, False, -math.inf, 100) if bt > 1 else (factor, False, 30, math.inf))
    if finer:
        steps.append((0.25, False, 30, math.inf))
        for factor in (1.25, 1.75, 2.25):
            if factor <= m:
                steps.append((factor, False, -math.inf, 100))
    return steps


def resized(height, width, factor):
    return max(1, math.floor(height * factor + 0.5)), max(1, math.floor(width * factor + 0.5))


def pooled(found_on, height, width, steps, least_score, gate_extra, top=None, pass_iou=None):
    """All boxes and scores of the steps; `found_on` gives those of a canvas size (H, W)."""
    boxes, scores = [], []
    for factor, mirrored, least, most in steps:
        h, w = resized(height, width, factor)
        b, s = found_on(-(-h // 32) * 32, -(-w // 32) * 32)
        pick = [i for i in overlap.by_falling_score(s) if s[i] >= least_score][:top]
        b, s = b[pick] / np.array([w / width, h / height] * 2, np.float32), s[pick]
        if mirrored:
            b = np.stack([width - b[:, 2], b[:, 1], width - b[:, 0], b[:, 3]], 1)
        if pass_iou is not None:
            kept = overlap.nms(b, s, pass_iou)
            b, s = b[kept], s[kept]
        for box, score in zip(b, s, strict=True):
            across, down = box[2] - box[0] + gate_extra, box[3] - box[1] + gate_extra
            if max(across, down) > least and min(across, down) < most:
                boxes.append(box)
                scores.append(score)
    return np.array(boxes, np.float32).reshape(-1, 4), np.array(scores, np.float32)
