"""`facefind batch`: jobs of any size, shared by processes and machines, each picture done once."""

from __future__ import annotations

import os
import time
from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from facefind.cli import output
from facefind.cli.options import File, Finding, Flag, Hide, Sources, Text, Whole, check_range
from facefind.cli.subcommands import choose
from facefind.cropping import CropOptions
from facefind.errors import DataError
from facefind.runtimes import PrecisionName

if TYPE_CHECKING:
    from facefind.batch import Done, Job
    from facefind.images.listing import OnError

__all__ = ["main"]

ACTIONS = {
    "run": "begin a job, join it, or go on with it",
    "status": "say how far a job is, and what failed",
}
ResultFormat = Literal["parquet", "jsonl", "csv"]
Where = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="JOB")]


def main(args: Sequence[str]) -> int:
    """Exit code of `facefind batch` with these arguments."""
    text = "Jobs of any size, each in a folder of its own or at an address."
    name, rest = choose(args, "facefind batch", text, "action", ACTIONS)
    if name is None:
        return 0
    program = f"facefind batch {name}"
    if name == "run":
        return _run(tyro.cli(_kind(rest), args=rest, prog=program))
    return _status(tyro.cli(_Status, args=rest, prog=program))


@dataclass(frozen=True, kw_only=True)
class _Run(Finding):
    """Find the faces in any number of pictures, in shards, each of which is done once.

    JOB is a folder, or an address such as s3://bucket/jobs/one. Named with pictures it is begun;
    named alone, on this machine or another, it is joined: with the model and settings that it was
    begun with. What is stopped or killed is resumed by the same command. The results are JOB's
    results/*.parquet, a row a picture; exit code 1 says that some have failed.
    """

    job: Where
    """A folder or address for the job alone."""
    images: Sources = ()
    """Files, folders, globs, tar files, Parquet tables and addresses, as of detect."""
    files_from: Annotated[str | None, tyro.conf.arg(metavar="LIST", help_behavior_hint="")] = None
    """The pictures that this file names, a path or address a line."""
    do: Literal["detect", "align", "redact"] = "detect"
    """What a new job does: find faces alone; cut them out as align does; or write copies with faces
    hidden, as redact does. Crops and copies lie in a tar file for each shard, JOB's
    tars/*.tar, the results are JSON lines. Each has options of its own: --do align --help."""
    per_shard: int = 1000
    """Pictures of a shard, of a new job; a tar file or table is a shard of its own."""
    lease: float = 60.0
    """Seconds after which the shard of a worker that says nothing is done by another, of a new
    job."""
    engine: Literal["local", "ray"] = "local"
    """Who works: processes of this machine, or actors of a Ray cluster."""
    workers: Whole = None
    """Processes or actors; if not given one for each core, or one with a GPU or --threads."""
    address: Text = None
    """With ray, the cluster's address; one is begun on this machine if not given."""
    quiet: Flag = False
    """Print nothing but, at the end, what came of it, on stderr."""
    progress: Literal["auto", "json"] = "auto"
    """How stderr says how far it is: a bar on a terminal and a line every 30 seconds elsewhere, or
    lines of JSON every 5 seconds."""

    def options(self) -> dict[str, Any]:
        """Options of the job's detector, on whatever machine, that are not as by default."""
        names = ["model", "test_protocol", "min_score", "batch_size"]
        names += ["runtime", "provider", "precision", "max_pixels", "truncated"]
        by_default = {one.name: one.default for one in fields(_Run)}
        given = {name: getattr(self, name) for name in names}
        if self.model.endswith(".onnx"):
            given["model"] = os.path.abspath(self.model)
        given = {name: value for name, value in given.items() if value != by_default[name]}
        if "test_protocol" in given:
            given["protocol"] = given.pop("test_protocol")
        return given

    def work(self) -> dict[str, Any]:
        """What the job makes of pictures; nothing where it finds faces alone."""
        return {}

    def results(self) -> ResultFormat:
        """The format of its results."""
        return "jsonl"

    def here(self) -> dict[str, Any]:
        """Options of the detector that are of this machine alone, where they are given."""
        given = {"threads": self.threads, "device_id": self.device_id, **self.device()}
        return {name: value for name, value in given.items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class _Detect(_Run):
    __doc__ = _Run.__doc__

    format: ResultFormat = "parquet"
    """Format of the results, of a new job."""

    def results(self) -> ResultFormat:
        """The format of its results."""
        return self.format


@dataclass(frozen=True, kw_only=True)
class _Align(_Run):
    __doc__ = _Run.__doc__

    how: Annotated[CropOptions, tyro.conf.arg(name="")] = field(default_factory=CropOptions)

    def work(self) -> dict[str, Any]:
        """What the job makes of pictures."""
        return {"do": "align", **asdict(self.how)}


@dataclass(frozen=True, kw_only=True)
class _Redact(_Run):
    __doc__ = _Run.__doc__

    how: Annotated[Hide, tyro.conf.arg(name="")] = field(default_factory=Hide)

    def options(self) -> dict[str, Any]:
        """Options of the job's detector, on whatever machine, that are not as by default."""
        protocol, min_score = self.how.finding(self.test_protocol, self.min_score)
        found = {"protocol": protocol, "min_score": min_score}
        return super().options() | {n: value for n, value in found.items() if value is not None}

    def work(self) -> dict[str, Any]:
        """What the job makes of pictures."""
        return {"do": "redact", **self.how.to_dict()}


def _kind(args: Sequence[str]) -> type[_Run]:
    """The options of a job that does what --do says.

    Raises:
        DataError: one is given of a job that does something else.
    """
    parser = ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--do", nargs="?", default="detect")
    do = parser.parse_known_args(args)[0].do
    kinds = {"align": CropOptions, "redact": Hide}
    given = {arg.partition("=")[0] for arg in args} - {"--format"}  # which means something to all
    for other in kinds.keys() - {do}:
        names = ("with" if one.name == "method" else one.name for one in fields(kinds[other]))
        if wrong := given.intersection(f"--{name.replace('_', '-')}" for name in names):
            raise DataError(f"{min(wrong)} is of --do {other}: name both")
    return {"align": _Align, "redact": _Redact}.get(do, _Detect)


def _run(options: _Run) -> int:
    options.check_inference()
    check_range("--workers", options.workers, 1)
    check_range("--per-shard", options.per_shard, 1)
    check_range("--lease", options.lease, 1)
    if options.address is not None and options.engine != "ray":
        raise DataError("--address is of --engine ray: name both")
    from facefind.batch import failures, run_local, status
    from facefind.cli.progress import Reports
    from facefind.pipeline import Meter

    unlisted: list[str] = []

    def pass_over(place: Path, error: Exception) -> None:
        unlisted.append(str(place))
        output.say(f"facefind batch: {output.printable(' '.join(str(error).split()))}")

    began = time.perf_counter()
    job = _begun(options, pass_over)
    meter = Meter(job.pictures_left())
    reports = Reports(meter, "batch", quiet=options.quiet, json=options.progress == "json")
    watch = _Watch(meter, reports.update)
    cpu = job.settings["provider"].lower().startswith("cpu")
    detector = options.options() | options.here()
    try:
        if options.engine == "ray":
            from facefind.batch.cluster import run_ray

            run_ray(
                job,
                options.workers,
                watch,
                address=options.address,
                gpus=0 if cpu else 1,
                **detector,
            )
        else:
            pin = cpu and options.threads is None
            run_local(job, options.workers, watch, pin=pin, **detector)
    finally:
        reports.close()
    now = status(job)
    lost = sum(1 for _ in failures(job))
    parts = [f"{meter.done} pictures", f"{meter.faces} faces", f"{now.done} shards done"]
    parts += [f"{lost} failed"] if lost else []
    parts += [f"{len(unlisted)} not listed"] if unlisted else []
    parts += [f"{len(now.given_up)} shards given up"] if now.given_up else []
    output.say(f"{', '.join(parts)} in {time.perf_counter() - began:.1f} s")
    return 0 if now.is_done and not (lost or unlisted) else 1


def _begun(options: _Run, pass_over: OnError) -> Job:
    """The job, its pictures shared out."""
    from facefind import pipeline
    from facefind.batch import Job
    from facefind.detector import FaceDetector
    from facefind.images.listing import is_remote

    if not options.images and options.files_from is None:
        job = Job.open(options.job)
        job.manifest()
        return job
    place = None if is_remote(options.job) else Path(options.job)
    inputs = [*options.images, *([options.files_from] if options.files_from else [])]
    inside = pipeline.check_outputs(inputs, folders={"JOB": options.job})
    used = place is not None and place.exists() and any(place.iterdir())
    if place is not None and used and not (place / "job.json").is_file():
        raise DataError(f"{place} holds files that are no job: give a new or an empty folder")
    asked = {"precision": _precision(options), **options.options()}
    detector = FaceDetector(**asked, **options.here())
    if options.do == "align":
        pipeline.check_landmarks(detector)
    settings = pipeline.detector_settings(detector)
    settings["sources"] = [one if is_remote(one) else os.path.abspath(one) for one in inputs]
    job = Job.begin(
        options.job,
        settings,
        asked | {"precision": detector.runtime.precision},  # the same whoever works
        format=options.results(),
        work=options.work(),
        per_shard=options.per_shard,
        lease=options.lease,
    )
    job.plan(
        pipeline.list_units(
            options.images, files_from=options.files_from, skip=inside, on_error=pass_over
        )
    )
    return job


def _precision(options: _Run) -> PrecisionName:
    """That of the job that is there, or what was asked for."""
    from facefind.batch import Job

    try:
        there = Job.open(options.job)
    except DataError:  # a new one
        return options.precision
    return (
        there.detector.get("precision", "fp32")
        if options.precision == "auto"
        else options.precision
    )


class _Watch:
    """Counts what workers report, each as its shards go on; a shard that is begun anew, anew."""

    def __init__(self, meter: Any, update: Any) -> None:
        self._meter, self._update = meter, update
        self._before: dict[int, Done] = {}

    def __call__(self, done: Done) -> None:
        before = self._before.pop(done.shard, None)
        if not done.whole:
            self._before[done.shard] = done
        spent = before.stages if before and before.generation == done.generation else {}
        self._meter.add(
            done.pictures - (before.pictures if before else 0),
            failed=done.failed - (before.failed if before else 0),
            faces=done.faces - (before.faces if before else 0),
            stages={name: value - spent.get(name, 0.0) for name, value in done.stages.items()},
        )
        self._update()


@dataclass(frozen=True, kw_only=True)
class _Status:
    """Say how far a job is; exit code 0 where all is done, and 1 where not, or something failed."""

    job: Where
    """The job's folder or address."""
    failures: File = None
    """Write the pictures that failed to this file, with reason and shard: .jsonl, .csv or
    .parquet."""
    json: Flag = False
    """Print JSON instead of lines."""


def _status(options: _Status) -> int:
    from facefind.batch import Job, status, write_failures
    from facefind.batch import failures as failed_of

    job = Job.open(options.job)
    now = status(job)
    failed = list(failed_of(job))
    if options.failures is not None:
        write_failures(failed, options.failures)
    record = {
        "shards": now.shards,
        "done": now.done,
        "units": now.units,
        "claimed": {str(shard): owner for shard, owner in now.claimed.items()},
        "given_up": now.given_up,
        "failed": len(failed),
    }
    lines = [
        f"{now.done} of {now.shards} shards done, {now.units} pictures and containers in all",
        *(f"shard {shard} is claimed by {owner}" for shard, owner in now.claimed.items()),
        *(f"shard {shard} was given up: its workers died" for shard in now.given_up),
        f"{len(failed)} failed",
        *(output.printable(f"  {one['image']}: {one['error']}") for one in failed[:20]),
    ]
    lines += ["  ..."] if len(failed) > 20 else []
    output.emit(record, "\n".join(lines), as_json=options.json, out=None)
    return 0 if now.is_done and not failed else 1
