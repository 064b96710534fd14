"""Slow, plain answers for IoU, NMS and box voting, one pair of boxes at a time."""

from __future__ import annotations

import numpy as np


def iou_of(a, b, plus_one=False):
    """IoU of two boxes, in their own dtype."""
    shared, area_a, area_b = areas_of(a, b, plus_one)
    union = area_a + area_b - shared
    return shared / union if union > 0 else union.dtype.type(0)


def areas_of(a, b, plus_one=False):
    """What two boxes share, and their own areas."""
    kind = a.dtype.type
    extra, zero = kind(1 if plus_one else 0), kind(0)
    width = max(min(a[2], b[2]) - max(a[0], b[0]) + extra, zero)
    height = max(min(a[3], b[3]) - max(a[1], b[1]) + extra, zero)
    area_a = max(a[2] - a[0] + extra, zero) * max(a[3] - a[1] + extra, zero)
    area_b = max(b[2] - b[0] + extra, zero) * max(b[3] - b[1] + extra, zero)
    return width * height, area_a, area_b


def by_falling_score(scores):
    return sorted(range(len(scores)), key=lambda i: (-scores[i], i))


def nms(boxes, scores, threshold, max_keep=None, plus_one=False, containment=None):
    threshold = boxes.dtype.type(threshold)
    kept = []
    for i in by_falling_score(scores):
        if any(iou_of(boxes[k], boxes[i], plus_one) > threshold for k in kept):
            continue
        if containment is not None and any(
            is_inside(boxes[i], boxes[k], containment, plus_one) for k in kept
        ):
            continue
        kept.append(i)
    return kept[:max_keep]


def is_inside(box, kept, part, plus_one):
    shared, own, other = areas_of(box, kept, plus_one)
    return own <= other and shared > box.dtype.type(part) * own


def soft_nms(boxes, scores, method, threshold, sigma, min_score):
    left = {i: s for i, s in enumerate(scores) if s >= min_score}
    taken = []
    while left:
        best = max(left, key=lambda i: (left[i], -i))
        taken.append((best, left.pop(best)))
        for i in list(left):
            overlap = iou_of(boxes[best], boxes[i])
            if method == "gaussian":
                left[i] *= np.exp(-(overlap**2) / sigma)
            elif overlap > threshold:
                left[i] *= 1 - overlap
            if left[i] < min_score:
                del left[i]
    return taken


def box_voting(boxes, scores, threshold, drop_singles=False, keep_last=False, plus_one=False):
    """List of (merged box, score, index of the leader)."""
    threshold = boxes.dtype.type(threshold)
    left = by_falling_score(scores)
    out = []
    while left:
        lead = left[0]
        group = [
            i for i in left if i == lead or iou_of(boxes[lead], boxes[i], plus_one) >= threshold
        ]
        left = [i for i in left if i not in group]
        if drop_singles and len(group) == 1 and not (keep_last and not left):
            continue
        weight = sum(float(scores[i]) for i in group)
        if weight > 0:
            merged = sum(float(scores[i]) * boxes[i].astype(float) for i in group) / weight
        else:
            merged = sum(boxes[i].astype(float) for i in group) / len(group)
        out.append((merged, scores[lead], lead))
    return out
