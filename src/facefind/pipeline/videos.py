"""The faces of a video as JSON lines, one a frame: written as they come, taken up after a kill."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from facefind.detector import FaceDetector
from facefind.drawing import draw
from facefind.errors import DataError
from facefind.faces import Faces
from facefind.files import read_json_lines
from facefind.pipeline.resuming import detector_settings
from facefind.pipeline.sinks import JsonLines, to_record
from facefind.video import Video, VideoFrame, VideoWriter
from facefind.video.opening import name_of

__all__ = ["FrameLines", "detect_video", "video_record", "video_settings"]


def video_settings(
    source: str, detector: FaceDetector, *, every: int, track: bool = True
) -> dict[str, Any]:
    """All that the faces of a video depend on, as plain values."""
    settings = detector_settings(detector) | {"every": every, "track": track}
    if os.path.isfile(source):
        settings["video"] = {"file": os.path.basename(source), "bytes": os.path.getsize(source)}
    else:
        settings["video"] = {"file": name_of(source)}
    return settings


def video_record(name: str, frame: VideoFrame) -> dict[str, Any]:
    """Name, index, time and faces of a frame as plain values.

    A frame that the model has not seen has `"detected": false`, one that begins a scene
    `"cut": true`. `doubted` are detections that belong to no face; a resumed run needs them.
    """
    record = to_record(name, frame.faces)
    head: dict[str, Any] = {
        "image": record.pop("image"),
        "frame": frame.index,
        "time": float(frame.time),
    }
    if not frame.detected:
        head["detected"] = False
    if frame.cut:
        head["cut"] = True
    if frame.doubted:
        doubted = to_record("", frame.doubted)
        record["doubted"] = {
            key: doubted[key] for key in ("boxes", "scores", "landmarks", "mesh") if key in doubted
        }
    return head | record


class FrameLines(JsonLines):
    """A file of JSON lines, one a frame of one video, that a run can go on with.

    Attributes:
        frames: How many frames it held when it was opened.

    Raises:
        DataError: as of `JsonLines`; or the file holds anything but the first frames of the video.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        name: str,
        *,
        resume: bool = False,
        overwrite: bool = False,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(path, resume=resume, overwrite=overwrite, settings=settings)
        self._name = name
        self.frames = 0
        try:
            if self.names:
                self.frames = sum(1 for _ in self._records())
        except BaseException:
            self.close()
            raise

    def known(self) -> Iterator[Faces | None]:
        """What was detected in the frames that are there; None where the model saw none of it."""
        for _, record in zip(range(self.frames), self._records(), strict=False):
            yield detections_of(record) if record.get("detected", True) else None

    def write_frame(self, frame: VideoFrame) -> None:
        """Append a frame, unless it is there."""
        if frame.index >= self.frames:
            self.write(video_record(self._name, frame))

    def _records(self) -> Iterator[dict[str, Any]]:
        for count, (number, record) in enumerate(read_json_lines(self.path, whole=True)):
            if record.get("image") != self._name or record.get("frame") != count:
                raise DataError(
                    f"{self.path}, line {number}: is not frame {count} of {self._name}, so this "
                    "file cannot be resumed; give another"
                )
            yield record


def detections_of(record: Mapping[str, Any]) -> Faces:
    """All that the model found in the frame of a line."""
    try:
        parts = [record, *([record["doubted"]] if "doubted" in record else [])]
        size = {"width": record["width"], "height": record["height"]}
        boxes = [box for part in parts for box in part["boxes"]]
        scores = [score for part in parts for score in part["scores"]]
        found: dict[str, Any] = size | {"boxes": boxes, "scores": scores}
        for name in ("landmarks", "mesh"):
            given = [part.get(name) for part in parts if part["boxes"]]
            if given and all(points is not None for points in given):
                found[name] = [one for points in given for one in points]
        return Faces.from_dict(found)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"frame {record.get('frame')}: its line holds no faces ({error})") from None


def detect_video(
    video: Video, lines: FrameLines | None = None, writer: VideoWriter | None = None
) -> Iterator[VideoFrame]:
    """Yield each frame once its line is written, and once it is written with its faces drawn.

    Args:
        video: As `read_video` opens it; with images where there is a writer.
        lines: Takes a line a frame; those that it holds already are not written again.
        writer: Takes each frame, with the faces drawn.
    """
    for frame in video:
        if lines is not None:
            lines.write_frame(frame)
        if writer is not None:
            assert frame.image is not None
            assert frame.decoded is not None
            writer.write(frame.decoded, draw(frame.image, frame.faces))
        yield frame


def temporary(folder: Path, name: str) -> Path:
    """Where in a folder of results the lines of a video lie while it is worked on."""
    return folder / ".detections" / f"{name}.jsonl"
