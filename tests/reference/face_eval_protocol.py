"""The face-eval toolbox's AFW/PASCAL protocol, one detection at a time."""

from __future__ import annotations


def iou(a, b):
    area_a = (abs(a[2] - a[0]) + 1) * (abs(a[3] - a[1]) + 1)
    area_b = (abs(b[2] - b[0]) + 1) * (abs(b[3] - b[1]) + 1)
    shared = 0.0
    if a[2] > b[0] and b[2] > a[0] and a[3] > b[1] and b[3] > a[1]:
        w = min(a[2], b[2]) - max(a[0], b[0]) + 1
        h = min(a[3], b[3]) - max(a[1], b[1]) + 1
        shared = w * h
    return shared / (area_a + area_b - shared)


def judge(found, truth):
    """Marks (tp, fp) a detection and the pairs of true positives; found sorted by score."""
    used = {name: [False] * len(faces) for name, faces in truth.items()}
    marks, pairs = [], []
    for name, _, box in found:
        best, which = 0.0, None
        for number, (face, _) in enumerate(truth[name]):
            value = iou(box, face)
            if value >= best:
                best, which = value, number
        tp = fp = 0
        if best > 0.5:
            face, ignored = truth[name][which]
            if not ignored:
                if used[name][which]:
                    fp = 1
                else:
                    tp, used[name][which] = 1, True
                    pairs.append((box, face))
        else:
            fp = 1
        marks.append((tp, fp))
    return marks, pairs


def offset(pairs):
    sums = [0.0, 0.0, 0.0, 0.0]
    for (x1, y1, x2, y2), (u1, v1, u2, v2) in pairs:
        w, h = x2 - x1, y2 - y1
        sums[0] += ((u1 + u2) / 2 - (x1 + x2) / 2) / w
        sums[1] += ((v1 + v2) / 2 - (y1 + y2) / 2) / h
        sums[2] += (u2 - u1) / w
        sums[3] += (v2 - v1) / h
    return [value / len(pairs) for value in sums]


def move(box, shift):
    tx, ty, sx, sy = shift
    w, h = box[2] - box[0], box[3] - box[1]
    cx, cy = (box[0] + box[2]) / 2 + tx * w, (box[1] + box[3]) / 2 + ty * h
    return (cx - w / 2 * sx, cy - h / 2 * sy, cx + w / 2 * sx, cy + h / 2 * sy)


def average_precision(found, truth, refits=4, least=30):
    """found = [(name, score, box)], truth = {name: [(box, ignored)]}."""
    truth = {
        name: [
            (box, ignored or box[2] - box[0] < least or box[3] - box[1] < least)
            for box, ignored in faces
        ]
        for name, faces in truth.items()
    }
    total = sum(not ignored for faces in truth.values() for _, ignored in faces)
    side = int((0.5 * least * least) ** 0.5)
    found = [d for d in found if d[2][2] - d[2][0] > side or d[2][3] - d[2][1] > side]
    found.sort(key=lambda d: -d[1])
    marks, pairs = judge(found, truth)
    for _ in range(refits):
        if not pairs:
            break
        shift = offset(pairs)
        found = [(name, score, move(box, shift)) for name, score, box in found]
        marks, pairs = judge(found, truth)
    points, tp, fp = [], 0, 0
    for hit, miss in marks:
        tp, fp = tp + hit, fp + miss
        points.append((tp / max(total, 1), tp / max(tp + fp, 1)))
    area, before = 0.0, 0.0
    for at, (recall, _) in enumerate(points):
        if recall > before:
            area += (recall - before) * max(p for _, p in points[at:])
            before = recall
    return area
