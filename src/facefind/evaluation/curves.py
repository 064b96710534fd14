"""Precision-recall arithmetic that several protocols share."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def average_precision(recall: Floats, precision: Floats) -> float:
    """Area under the precision envelope, 0 to 1: PASCAL VOC's all-point average precision.

    `recall` (K,) must not fall; `precision` (K,) at the same thresholds, NaN where nothing was
    found yet (counts as 0). Beyond the last recall precision is 0.
    """
    steps = np.concatenate([[0.0], recall, [1.0]])
    envelope = np.concatenate([[0.0], np.nan_to_num(precision), [0.0]])
    envelope = np.maximum.accumulate(envelope[::-1])[::-1]
    return float(np.sum(np.diff(steps) * envelope[1:]))


def average_precision_above(recall: Floats, precision: Floats) -> float:
    """Average precision of the detections that a threshold leaves whose precision beats 0.98.

    The score threshold is the lowest at which precision is still greater than that; the curve
    ends there, and what it has not recalled counts as missed. 0 where precision never beats it.

    Source: SCRFD, Table 1 and Fig. 10 ("AP@Precision > 98%"); the text says that the threshold
    is raised until the precision is reached, this is that reading.
    """
    good = np.flatnonzero(np.nan_to_num(precision) > 0.98)
    if len(good) == 0:
        return 0.0
    end = int(good[-1]) + 1
    return average_precision(recall[:end], precision[:end])
