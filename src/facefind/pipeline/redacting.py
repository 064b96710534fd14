"""A folder of pictures and videos with their faces hidden, and a report of what was hidden."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any, Literal

import numpy as np

from facefind import redaction
from facefind.arrays import plain
from facefind.detector import DetectionResult, FaceDetector
from facefind.faces import Faces
from facefind.files import scratch
from facefind.images import Found, read
from facefind.outputs import below, output_path
from facefind.pipeline.manifests import ListedFolder
from facefind.pipeline.pictures import WRITERS, StoredPicture, is_animated
from facefind.pipeline.redacted_videos import Detected, Hiding, redact_file, tracker_config
from facefind.pipeline.review import ContactSheets
from facefind.pipeline.sinks import JsonLines, write_results
from facefind.pipeline.sources import detect_files
from facefind.pipeline.stages import Stages
from facefind.pipeline.videos import FrameLines, temporary, video_settings
from facefind.redaction import Redaction
from facefind.video import Tracks
from facefind.video.cuts import CutDetector
from facefind.video.opening import SUFFIXES as VIDEOS
from facefind.video.writing import CONTAINERS

__all__ = ["REPORT", "RedactedFolder", "kind_of", "redacted_name"]

REPORT = "report.jsonl"
Kind = Literal["picture", "animation", "video"]


_REVIEWED = 12  # pictures of a video, spread over it, on the contact sheets


def kind_of(file: Found) -> Kind:
    """What a file is taken for: a video by its name, an animation or a picture by its header."""
    if file.load is None and file.path.suffix.lower() in VIDEOS:
        return "video"
    return "animation" if is_animated(file) else "picture"


def redacted_name(name: str) -> Path:
    """Where a file's redacted copy lies below the folder.

    What has no writer here gets another suffix: photo.heic.png, clip.avi.mkv.
    """
    path = output_path(name)
    suffix = path.suffix.lower()
    if suffix in WRITERS or suffix in CONTAINERS:
        return path
    return path.with_name(path.name + (".mkv" if suffix in VIDEOS else ".png"))


class RedactedFolder(ListedFolder):
    """Copies of pictures and videos in which faces are hidden, under the files' names.

    `report.jsonl` has a line a file: how many faces, where, the lowest score; `settings.json` says
    how it was done. A file is in the report once its copy is there, whole.

    Args:
        folder: Or an address, such as s3://bucket/hidden; made where it is not there.
        detector: Finds the faces.
        how: How they are hidden.
        every: In videos the model runs on every n-th frame, and on each scene's first and last.
        hiding: How long a face in a video is hidden where it is not found.
        metadata: Whether metadata comes along: of pictures EXIF without thumbnail and maker's note,
            of videos title, date, place and the like.
        sound: Whether videos keep sound and subtitles.
        per_tar: Pictures whose copies go into a tar file together; None writes files. Videos are
            files in any case.
        review: Whether contact sheets are made, in the folder `review`.
        settings: What else copies depend on, such as the folders that are read.
        resume: Whether to add to copies that the same settings made.

    Attributes:
        names: Files that were done before.
        last: The line of the file that was done last.

    Raises:
        DataError: there are copies already, and they are not resumed or were made with other
            settings; there are other files; or another process writes there.
    """

    def __init__(
        self,
        folder: str | Path,
        detector: FaceDetector,
        how: Redaction,
        *,
        every: int = 1,
        hiding: Hiding = Hiding(),  # noqa: B008
        metadata: bool = False,
        sound: bool = True,
        per_tar: int | None = None,
        review: bool = False,
        settings: Mapping[str, Any] = {},
        resume: bool = False,
    ) -> None:
        made_with = dict(settings) | {
            **_plain(how),
            "every": every,
            "lead": hiding.lead,
            "most_gap": hiding.most_gap,
            "metadata": metadata,
            "sound": sound,
        }
        super().__init__(
            folder, "redacted copies", REPORT, made_with, per_tar=per_tar, resume=resume
        )
        self._detector, self._how = detector, how
        self._every, self._hiding, self._sound = every, hiding, sound
        self._metadata = metadata
        self.last: dict[str, Any] = {}
        self._sheets = ContactSheets(self._store) if review else None

    def close(self) -> None:
        """Write the last contact sheet and tar file, and close the report."""
        try:
            if self._sheets is not None:
                self._sheets.close()
        finally:
            super().close()

    def redact(
        self,
        files: Iterable[Found],
        failures: JsonLines | None = None,
        watch: Callable[[str, int], None] = lambda step, frame: None,
        stages: Stages | None = None,
    ) -> Iterator[DetectionResult]:
        """Yield each file's result once its copy is there, those that failed with their error.

        Pictures come first, whatever the order, so that they are read ahead and run together.

        Args:
            files: What is to be redacted.
            failures: Takes a line for each file that fails.
            watch: As of `write_video`.
            stages: Notes the time that goes into pictures.
        """
        moving: list[tuple[Found, Kind]] = []

        def pictures() -> Iterator[Found]:
            for file in files:
                if (kind := kind_of(file)) == "picture":
                    yield file
                else:
                    moving.append((file, kind))

        def write(result: DetectionResult) -> None:
            kind = kinds.get(result.source)
            if kind is None:
                with nullcontext() if stages is None else stages("writing"):
                    self.write_picture(result.source, result.faces)
            elif kind == "video":
                self.write_video(result.source, watch)
            else:
                self.write_animation(result.source)

        kinds: dict[Found, Kind] = {}
        yield from write_results(
            detect_files(self._detector, pictures(), stages=stages), write, failures
        )
        kinds.update(moving)
        none = Faces.empty((0, 0))  # they are found as the copy is written
        begun = (DetectionResult(n, file, _faces=none) for n, (file, _) in enumerate(moving))
        yield from write_results(begun, write, failures)

    def write_picture(self, file: Found, faces: Faces) -> dict[str, Any]:
        """Write a picture's copy; gives its line of the report."""
        self.begin()
        name = redacted_name(file.name)
        form = WRITERS[name.suffix.lower()]
        picture = self._open(file, form)
        picture.hide(0, redaction.grown(faces, self._how), self._how)
        copied = picture.encode(form)
        lowest = float(faces.scores[-1]) if len(faces) else None
        self._review(file.name, lambda: read(picture.frames[0]), len(faces), lowest)
        found = faces.to_dict(digits=2)
        places = {key: found[key] for key in ("boxes", "scores")}
        return self._done(file, name, faces.image_size, len(faces), lowest, places, copied)

    def write_animation(self, file: Found) -> dict[str, Any]:
        """Find the faces of an animation, or of the pages of a TIFF file, and write its copy."""
        self.begin()
        name = redacted_name(file.name)
        form = WRITERS[name.suffix.lower()]
        picture = self._open(file, form)
        detector = self._detector
        config = tracker_config(detector)
        if picture.moves:
            detector = copy.copy(detector)
            detector.min_score = config.low_score
        pixels = (read(frame) for frame in picture.frames)
        seen = CutDetector()
        hidden: list[Faces] = []
        cuts: list[bool] = []
        for image in pixels:
            cuts.append(seen.is_cut(image))
            (result,) = detector.stream([image], read=lambda one: one, readers=0)
            hidden.append(result.faces)
        size = picture.frames[0].size[::-1]
        if picture.moves:
            found = Detected()
            for time, faces, cut in zip(picture.times, hidden, cuts, strict=True):
                found.append(time, faces, cut=cut)
            tracks = found.follow(config, self._hiding)
            hidden = [tracks.at(number) for number in range(len(hidden))]
            places, faces_in_all, lowest = _places(tracks)
        else:
            scores = [float(score) for faces in hidden for score in faces.scores]
            faces_in_all, lowest = len(scores), min(scores, default=None)
            places = {"pages": [plain(faces.boxes, 2) for faces in hidden]}
        for number, faces in enumerate(hidden):
            picture.hide(number, redaction.grown(faces, self._how), self._how)
        copied = picture.encode(form)
        self._review(file.name, lambda: read(picture.frames[0]), faces_in_all, lowest)
        return self._done(file, name, size, faces_in_all, lowest, places, copied)

    def write_video(
        self, file: Found, watch: Callable[[str, int], None] = lambda step, frame: None
    ) -> dict[str, Any]:
        """Find the faces of a video, and write its copy.

        What was found is kept in the folder until the copy is there: a run that is stopped goes on
        where it was. Of an address it is not, and the video begins anew; its copy is written to the
        folder for temporary files, and uploaded whole. `watch` is called with the step, "finding"
        or "writing", and the frame.
        """
        self.begin()
        name, root = redacted_name(file.name), self._store.root
        settings = video_settings(str(file.path), self._detector, every=self._every)
        short = f"{hashlib.sha256(file.name.encode(errors='surrogateescape')).hexdigest()[:16]}"
        with scratch() if root is None else nullcontext(root) as place:
            kept, out = temporary(place, short), below(place, name)
            with FrameLines(kept, file.name, resume=True, settings=settings) as lines:
                work = redact_file(
                    file.path,
                    out,
                    self._detector,
                    self._how,
                    lines,
                    every=self._every,
                    hiding=self._hiding,
                    sound=self._sound,
                    metadata=self._metadata,
                )
                with closing(work):
                    tracks, total = self._watched(file.name, work, watch)
            if root is None:
                self._store.upload(name.as_posix(), out)
            places, faces, lowest = _places(tracks)
            places["frames"] = total
            record = self._done(file, name, tracks.image_size, faces, lowest, places)
            for path in (kept, kept.with_name(kept.name + ".source.json")):
                path.unlink(missing_ok=True)
            if not any(kept.parent.iterdir()):
                kept.parent.rmdir()
        return record

    def _watched(
        self, name: str, work: Any, watch: Callable[[str, int], None]
    ) -> tuple[Tracks, int]:
        """Where faces were hidden, and the number of frames, once all of the video is written."""
        total = 0
        while True:
            try:
                index, frame, raw = next(work)
            except StopIteration as end:
                return end.value, total
            watch("finding" if frame is None else "writing", index)
            total = max(total, index + 1)
            if frame is not None and self._sheets is not None:
                step = max(1, total // _REVIEWED)
                if index % step == step // 2:
                    image = frame.turn.upright(raw.to_ndarray(format="rgb24"))
                    self._sheets.add(image, f"{name} {float(frame.time):.1f} s")

    def _open(self, file: Found, form: str) -> StoredPicture:
        with file.open() as opened:
            return StoredPicture.open(
                opened,
                repr(str(file.path)),
                form,
                max_pixels=self._detector.max_pixels,
                metadata=self._metadata,
            )

    def _review(
        self, name: str, image: Callable[[], Any], faces: int, lowest: float | None
    ) -> None:
        if self._sheets is not None:
            score = "" if lowest is None else f", lowest {lowest:.2f}"
            self._sheets.add(image(), f"{name}: {faces}{score}")

    def _done(
        self,
        file: Found,
        name: Path,
        size: tuple[int, int],
        faces: int,
        lowest: float | None,
        places: Mapping[str, Any],
        copied: bytes | None = None,
    ) -> dict[str, Any]:
        """Write the copy, where it is not there yet, and then the file's line of the report."""
        record: dict[str, Any] = {
            "image": file.name,
            "file": name.as_posix(),
            "width": size[1],
            "height": size[0],
            "faces": faces,
            "lowest_score": None if lowest is None else round(lowest, 4),
            **places,
        }
        self.record(record, None if copied is None else {record["file"]: copied})
        self.last = record
        return record


def _places(tracks: Tracks) -> tuple[dict[str, Any], int, float | None]:
    """Where the faces of a video were hidden, how many there were, and the lowest score."""
    listed: list[dict[str, Any]] = []
    lows: list[float] = []
    for one in tracks:
        rows = np.flatnonzero(one.detected)
        worst = rows[np.argmin(one.scores[rows])]
        lows.append(float(one.scores[worst]))
        listed.append(
            {
                "id": one.id,
                "first": float(one.times[0]),
                "last": float(one.times[-1]),
                "detected": len(rows),
                "filled": len(one) - len(rows),
                "lowest_score": round(lows[-1], 4),
                "there": {
                    "frame": int(one.frames[worst]),
                    "time": float(one.times[worst]),
                    "box": plain(one.boxes[worst], 2),
                },
            }
        )
    return {"tracks": listed}, len(listed), min(lows, default=None)


def _plain(how: Redaction) -> dict[str, Any]:
    """The settings that a method uses, as plain values."""
    own: dict[str, dict[str, Any]] = {
        "blur": {"strength": how.strength},
        "pixelate": {"blocks": how.blocks},
        "fill": {"color": list(how.color)},
        "image": {},
    }
    used = own[how.method]
    if how.picture is not None:
        used["picture"] = hashlib.sha256(how.picture.tobytes()).hexdigest()
    return {"method": how.method, "shape": how.shape, "grow": how.grow, **used}
