"""What a worker does: claims a shard, finds the faces of its pictures, writes what came of it.

The same for processes of one machine and for actors of a cluster.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from facefind.batch.claims import Claim, Claims
from facefind.batch.job import Job
from facefind.batch.making import TAR, Make, making, options_of
from facefind.detector import DetectionResult, FaceDetector
from facefind.errors import ImageError
from facefind.files import read_json_lines, scratch
from facefind.images import Found
from facefind.pipeline import (
    FORMATS,
    detect_files,
    detector_settings,
    reason,
    to_record,
    write_results,
)
from facefind.pipeline.sources import pictures_of
from facefind.pipeline.stages import Stages

__all__ = ["Detect", "Done", "Worker", "open_detector"]

Detect = Callable[[Iterable[Found]], Iterator[DetectionResult]]
Watch = Callable[["Done"], None]
_EVERY = 1.0  # seconds between two looks at how far a shard is


@dataclass
class Done:
    """What came of the pictures of a shard so far.

    Attributes:
        shard: Its number.
        generation: Of the claim.
        pictures: Pictures that are done, those that failed among them.
        faces: Faces in them.
        failed: Pictures that failed, and containers that could not be read.
        stages: Seconds by stage, as of `Stages`.
        whole: Whether the shard is done.
        kept: Whether this worker's results are those of the shard: another may have been first.
    """

    shard: int
    generation: int
    pictures: int = 0
    faces: int = 0
    failed: int = 0
    stages: dict[str, float] = field(default_factory=dict)
    whole: bool = False
    kept: bool = False


def open_detector(job: Job, **more: Any) -> FaceDetector:
    """The detector of a job; `more` are options of `FaceDetector` in place of the job's.

    Raises:
        DataError: it would find other faces than the job's, as with another model file.
    """
    detector = FaceDetector(**{**job.detector, **more})
    job.check(detector_settings(detector))
    return detector


class Worker:
    """Does shards of a job.

    Args:
        job: The job, planned.
        detect: Gives the result of each picture, in order, as of `pipeline.detect_files`.
        stages: Where `detect` notes its time; the worker adds its own.
        watch: Is given how far the shard is, about once a second and at its end.
        make: Opens, for a folder, what makes files of a picture, in the tar file `making.TAR`; None
            keeps the faces alone.
    """

    def __init__(
        self,
        job: Job,
        detect: Detect,
        stages: Stages | None = None,
        watch: Watch = lambda done: None,
        make: Callable[[Path], AbstractContextManager[Make]] | None = None,
    ) -> None:
        self._job, self._detect, self._watch, self._make = job, detect, watch, make
        self._stages = stages or Stages()

    @classmethod
    def of(cls, job: Job, watch: Watch = lambda done: None, **more: Any) -> Worker:
        """The worker that has a job's detector; `more` as of `open_detector`."""
        stages, detector = Stages(), open_detector(job, **more)
        images = job.work.get("do") == "align"
        detect = partial(detect_files, detector, images=images, stages=stages)
        make = partial(making, options_of(job.work), detector) if job.work else None
        return cls(job, detect, stages, watch, make)

    def run(self) -> Iterator[Done]:
        """Do shards until all are done; gives what came of each."""
        for claim in Claims(self._job):
            yield self.do(claim)

    def do(self, claim: Claim) -> Done:
        """Do a shard: its results are written whole, by this worker or by who was first."""
        done = Done(claim.shard, claim.generation)
        self._watch(replace(done))
        with claim, scratch() as folder:
            lines = folder / "records.jsonl"
            self._write(claim, done, lines)
            if not claim.lost:
                with self._stages("writing"):
                    done.kept = self._commit(claim, lines)
            done.whole, done.stages = True, self._stages.take()
        self._watch(replace(done))
        return done

    def _write(self, claim: Claim, done: Done, path: Path) -> None:
        """Write the record of each picture of the shard, a line each."""
        looked = time.monotonic()
        failed: list[tuple[Path, ImageError]] = []
        units = self._job.units(claim.shard)
        files = pictures_of(units, on_error=lambda *one: failed.append(one))
        made: dict[str, Any] = {}
        opened = nullcontext(_faces) if self._make is None else self._make(path.with_name("made"))
        with opened as make, path.open("w", encoding="utf-8") as lines:

            def keep(result: DetectionResult) -> None:
                nonlocal made
                with self._stages("writing"):
                    made = make(result)
                if self._make is not None:
                    made = made | {"tar": self._job.tar_key(claim.shard, claim.generation)}

            def write(record: dict[str, Any]) -> None:
                lines.write(json.dumps(record) + "\n")
                done.pictures += 1
                done.failed += "error" in record

            for result in write_results(self._detect(files), keep):
                with self._stages("writing"):
                    if result.error is None:
                        # of all frames of an animation, where copies are made
                        done.faces += made.get("faces", len(result.faces))
                        write(made)
                    else:
                        write({"image": result.source.name, "error": reason(result.error)})
                if time.monotonic() - looked > _EVERY:
                    if claim.lost:
                        return
                    looked, done.stages = time.monotonic(), self._stages.seconds()
                    self._watch(replace(done))
            for name, error in failed:
                write({"image": str(name), "error": reason(error)})

    def _commit(self, claim: Claim, lines: Path) -> bool:
        """Write the shard's files and results; gives whether this worker has, and not another."""
        store, tar = self._job.store, lines.with_name("made") / TAR
        if tar.exists():
            store.upload(self._job.tar_key(claim.shard, claim.generation), tar)
        kept = claim.commit(self._table(lines))
        if self._make is not None:  # what the results do not name goes
            others = range(1, claim.generation) if kept else [claim.generation]
            for generation in others:
                store.remove(self._job.tar_key(claim.shard, generation))
        return kept

    def _table(self, lines: Path) -> bytes:
        """The shard's results in the job's format."""
        table = lines.with_name("table")
        records = (record for _, record in read_json_lines(lines))
        FORMATS[self._job.format].write(records, table, self._job.settings)
        return table.read_bytes()


def _faces(result: DetectionResult) -> dict[str, Any]:
    return to_record(result.source.name, result.faces)
