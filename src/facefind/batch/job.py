"""A job: what is to be done with which pictures, in shards, and which of them are done.

job.json             what the job does, and with what; written once
plans/ID/00000000.jsonl   the pictures and containers of each shard
manifest.json        which plan counts, and how many shards it has; written once
claims/00000000.1    who has claimed a shard, one a generation (see `claims`)
results/00000000.parquet  what came of a shard, a row a picture; whole, and written once
tars/00000000.1.tar  crops or redacted copies of a shard, by the generation of its claim; the
                     results name the one that counts
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from facefind.errors import DataError
from facefind.files import plain
from facefind.images.listing import is_remote
from facefind.pipeline import FORMATS
from facefind.pipeline.stores import Store, check_store, open_store
from facefind.pipeline.units import Unit

__all__ = ["Job", "ResultFormat", "Settings"]

ResultFormat = Literal["parquet", "jsonl", "csv"]
Settings = Mapping[str, Any]
_NOT_COMPARED = {"model"}  # a name: the weights have their digest


@dataclass(frozen=True)
class Job:
    """A job in its store. Any number of processes may have it open.

    Attributes:
        store: Where it lies.
        settings: All that results depend on, as of `pipeline.detector_settings`.
        detector: Options of the detector, by which other workers make the same.
        format: Of the results.
        per_shard: Pictures of a shard, at most; a container is a shard of its own.
        lease: Seconds after which a claim that was not renewed may be taken over.
        work: What is made of pictures, as of `making`; nothing where only faces are found.
    """

    store: Store
    settings: dict[str, Any]
    detector: dict[str, Any]
    format: ResultFormat = "parquet"
    per_shard: int = 1000
    lease: float = 60.0
    work: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def begin(cls, where: str | Path, settings: Settings, detector: Settings, **more: Any) -> Job:
        """A new job, or the one that is there and does the same.

        Args:
            where: Its folder or address.
            settings: As of the class.
            detector: As of the class.
            more: `format`, `per_shard`, `lease` and `work`, of a new job.

        Raises:
            DataError: there is a job with other settings, or the store is none for jobs.
            ModuleNotFoundError: what writes the format is not installed.
        """
        store = _store(where)
        job = cls(store, plain(dict(settings)), plain(dict(detector)), **more)
        if job.format not in get_args(ResultFormat):
            formats = ", ".join(get_args(ResultFormat))
            raise DataError(f"results of jobs have one of the formats {formats}: got {job.format}")
        if job.work and job.format != "jsonl":
            raise DataError(
                f"results of jobs that {job.work['do']} are JSON lines: got format {job.format}"
            )
        FORMATS[job.format].check()
        if job.per_shard < 1 or job.lease <= 0:
            raise DataError(
                f"a shard has at least one picture and a lease more than 0 seconds: got "
                f"{job.per_shard} and {job.lease}"
            )
        if store.get("job.json") is None:
            check_store(store)
            content = {name: value for name, value in job.__dict__.items() if name != "store"}
            store.create("job.json", json.dumps(content, indent=2).encode())
        there = cls.open(where)
        there.check(settings)
        if there.work != plain(dict(job.work)):
            raise DataError(
                f"the job in {store.where} does {there.work or 'detect'}, not "
                f"{plain(dict(job.work)) or 'detect'}: use the same, or begin another job"
            )
        return there

    @classmethod
    def open(cls, where: str | Path) -> Job:
        """The job that is there.

        Raises:
            DataError: there is none.
        """
        store = _store(where)
        content = store.get("job.json")
        if content is None:
            raise DataError(f"there is no job in {store.where}")
        try:
            return cls(store, **json.loads(content))
        except (TypeError, ValueError) as error:
            raise DataError(f"{store.where}/job.json is damaged: {error}") from error

    def check(self, settings: Settings) -> None:
        """Check that results with these settings are those of the job.

        Raises:
            DataError: something differs.
        """
        for name, value in plain(dict(settings)).items():
            if name not in _NOT_COMPARED and self.settings.get(name) != value:
                raise DataError(
                    f"the job in {self.store.where} is done with {name} "
                    f"{json.dumps(self.settings.get(name))}, not {json.dumps(value)}: use the "
                    "same, or begin another job"
                )

    def plan(self, units: Iterable[Unit]) -> None:
        """Share pictures out to shards, once and for all; nothing where that has been done.

        Where several do it at once, the plan of one counts, and each looks at the same.

        Raises:
            DataError: a picture comes on stdin, which other processes have not.
        """
        if self.planned:
            return
        plan = uuid.uuid4().hex[:12]
        shards = pictures = containers = 0
        for shards, group in enumerate(_groups(units, self.per_shard), 1):
            pictures += len(group)
            containers += group[0].holds_many
            lines = (json.dumps([unit.name, _absolute(unit)]) for unit in group)
            self.store.put(f"plans/{plan}/{_number(shards - 1)}.jsonl", "\n".join(lines).encode())
        manifest = {"plan": plan, "shards": shards, "units": pictures, "containers": containers}
        if not self.store.create("manifest.json", json.dumps(manifest).encode()):
            for number in range(shards):
                self.store.remove(f"plans/{plan}/{_number(number)}.jsonl")

    @property
    def planned(self) -> bool:
        """Whether the pictures are shared out."""
        return self.store.get("manifest.json") is not None

    def manifest(self) -> dict[str, Any]:
        """The plan, its number of shards, of units (pictures and containers), and of containers.

        Raises:
            DataError: the pictures are not shared out yet.
        """
        content = self.store.get("manifest.json")
        if content is None:
            raise DataError(f"the job in {self.store.where} has no pictures yet: name some")
        manifest: dict[str, Any] = json.loads(content)
        return manifest

    def units(self, shard: int) -> list[Unit]:
        """The pictures and containers of a shard."""
        key = f"plans/{self.manifest()['plan']}/{_number(shard)}.jsonl"
        content = self.store.get(key)
        if content is None:
            raise DataError(f"{self.store.where}/{key} is missing: begin another job")
        return [Unit(*json.loads(line)) for line in content.splitlines()]

    def left(self) -> list[int]:
        """Numbers of the shards that are not done."""
        done = self.done()
        return [shard for shard in range(self.manifest()["shards"]) if shard not in done]

    def pictures_left(self) -> int | None:
        """Pictures in shards that are not done; None where there are containers."""
        manifest, done = self.manifest(), self.done()
        if manifest["containers"]:
            return None
        last = manifest["shards"] - 1
        of_last = manifest["units"] - last * self.per_shard
        sizes = (of_last if shard == last else self.per_shard for shard in done)
        return int(manifest["units"] - sum(sizes))

    def done(self) -> set[int]:
        """Numbers of the shards that are done."""
        return {int(name.partition(".")[0]) for name in self.store.names("results")}

    def is_done(self, shard: int) -> bool:
        """Whether a shard is done."""
        return self.store.get(self.result_key(shard)) is not None

    def result_key(self, shard: int) -> str:
        """The key of a shard's results."""
        return f"results/{_number(shard)}.{self.format}"

    def tar_key(self, shard: int, generation: int) -> str:
        """The key of the tar file that the holder of a claim writes."""
        return f"tars/{_number(shard)}.{generation}.tar"


def _store(where: str | Path) -> Store:
    if str(where).startswith("memory://"):
        raise DataError(f"{where}: a job lies where other processes see it, not in memory")
    return open_store(where)


def _number(shard: int) -> str:
    return f"{shard:08}"


def _absolute(unit: Unit) -> str:
    if unit.place == "-":
        raise DataError("a job takes no picture on stdin: its workers are other processes")
    return unit.place if is_remote(unit.place) else str(Path(unit.place).absolute())


def _groups(units: Iterable[Unit], most: int) -> Iterator[list[Unit]]:
    """The pictures in groups, in their order; each container alone."""
    group: list[Unit] = []
    for unit in units:
        if unit.holds_many:
            yield [unit]
            continue
        group.append(unit)
        if len(group) == most:
            yield group
            group = []
    if group:
        yield group
