"""What another package's ByteTrack makes of the detections that the tests track: an oracle.

Made once, in an environment of its own, for the package brings opencv-python:

    python -m venv trackers && trackers/bin/pip install trackers==2.6.1 pillow
    PYTHONPATH=src trackers/bin/python benchmarks/other_trackers.py tests/golden/trackers.json

The file holds, for each scene of `tests/reference/moving_faces.py`, the number of each face of each
frame (-1 for none), and the figures that the package's own evaluation gives them.
"""

from __future__ import annotations

import json
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import supervision
from trackers import ByteTrackTracker
from trackers.eval import (
    box_iou,
    compute_clear_metrics,
    compute_hota_metrics,
    compute_identity_metrics,
)

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "reference"))
import moving_faces

SETTINGS = {
    "lost_track_buffer": 30,
    "track_activation_threshold": 0.5,
    "high_conf_det_threshold": 0.5,
    "minimum_consecutive_frames": 1,
    "minimum_iou_threshold": 0.1,
}
LOW = 0.15
"""Score from which faces are given to the tracker."""


def tracked(scene: moving_faces.Scene) -> list[list[int]]:
    """The number of each face of each frame; -1 for none."""
    tracker = ByteTrackTracker(frame_rate=25.0, **SETTINGS)
    ids = []
    for number, (time, faces) in enumerate(
        zip(scene.times, moving_faces.detections(scene), strict=True)
    ):
        if number in scene.cut_frames:  # a new tracker knows nothing of what was before
            first = 1 + max((one for frame in ids for one in frame), default=-1)
            tracker = ByteTrackTracker(frame_rate=25.0, **SETTINGS)
        elif number == 0:
            first = 0
        keep = np.flatnonzero(faces.scores >= LOW)
        given = supervision.Detections(
            faces.boxes[keep], confidence=faces.scores[keep], data={"row": keep}
        )
        found = tracker.update(given, timestamp=float(time))
        own = np.full(len(faces), -1)
        if len(found):
            own[found.data["row"]] = np.where(found.tracker_id >= 0, found.tracker_id + first, -1)
        ids.append(own.tolist())
    return ids


def figures(scene: moving_faces.Scene, ids: list[list[int]]) -> dict[str, float]:
    """MOTA, IDF1 and HOTA by the package's own evaluation."""
    truth = scene.truth()
    truth = truth[truth.scores > 0]
    ours, theirs, overlaps = [], [], []
    for number, (own, faces) in enumerate(zip(ids, moving_faces.detections(scene), strict=True)):
        rows, kept = truth.frames == number, np.array(own, int) >= 0
        ours.append(truth.ids[rows])
        theirs.append(np.array(own, int)[kept])
        overlaps.append(
            box_iou(truth.boxes[rows], faces.boxes[kept].astype(float), box_format="xyxy")
        )
    clear = compute_clear_metrics(ours, theirs, overlaps, threshold=0.5)
    same = compute_identity_metrics(ours, theirs, overlaps, threshold=0.5)
    hota = compute_hota_metrics(ours, theirs, overlaps)
    return {"mota": clear["MOTA"], "idf1": same["IDF1"], "hota": hota["HOTA"],
            "assa": hota["AssA"], "switches": clear["IDSW"]}  # fmt: skip


def main(path: Path) -> None:
    scenes = {}
    for scene in moving_faces.scenes():
        ids = tracked(scene)
        scenes[scene.name] = {"figures": figures(scene, ids), "ids": ids}
        print(scene.name, scenes[scene.name]["figures"])
    made_by = {"trackers": metadata.version("trackers"), "settings": SETTINGS, "low_score": LOW}
    path.write_text(json.dumps(made_by | {"scenes": scenes}, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
