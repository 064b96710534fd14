"""How far a job is, and what failed, by what lies in its store."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facefind.batch.claims import MOST_GENERATIONS, newest, owners
from facefind.batch.job import Job
from facefind.errors import DataError
from facefind.files import atomic, scratch
from facefind.pipeline import format_of
from facefind.pipeline.tables import printed, read_parquet

__all__ = ["Status", "failures", "read_shard", "status", "write_failures"]


@dataclass(frozen=True)
class Status:
    """How far a job is.

    Attributes:
        shards: How many there are; 0 before pictures are shared out.
        done: How many are done.
        units: Pictures and containers in all shards.
        claimed: Workers of shards that are claimed and not done, by shard. Whether they live, their
            claims do not say.
        given_up: Shards whose workers have died too often.
    """

    shards: int
    done: int
    units: int
    claimed: dict[int, str]
    given_up: list[int]

    @property
    def is_done(self) -> bool:
        """Whether all shards are done."""
        return bool(self.shards) and self.done == self.shards


def status(job: Job) -> Status:
    """How far a job is. Nothing is read but names and claims."""
    if not job.planned:
        return Status(0, 0, 0, {}, [])
    manifest, done = job.manifest(), job.done()
    claimed = {shard: n for shard, n in newest(job).items() if shard not in done}
    given_up = sorted(shard for shard, n in claimed.items() if n >= MOST_GENERATIONS)
    return Status(
        shards=manifest["shards"],
        done=len(done),
        units=manifest["units"],
        claimed=owners(job, claimed),
        given_up=given_up,
    )


def failures(job: Job) -> Iterator[dict[str, Any]]:
    """The pictures that failed in the shards that are done: name, reason and shard."""
    for shard in sorted(job.done()):
        for record in _failed(job, shard):
            yield {"image": record["image"], "error": record["error"], "shard": shard}


def write_failures(failed: Iterable[Mapping[str, Any]], path: Path) -> None:
    """Write pictures that failed, as of `failures`, to a table: image, error and shard.

    Args:
        failed: The pictures.
        path: A new file: .jsonl, .csv or .parquet.

    Raises:
        DataError: it is there already, or its suffix says another format.
    """
    if path.exists():
        raise DataError(f"{path} is there already: give another")
    kind = format_of(path)
    rows = [{**one, "image": printed(one["image"])} for one in failed]
    with atomic(path) as draft:
        if kind == "parquet":
            import pyarrow as pa
            from pyarrow import parquet

            types = {"image": pa.string(), "error": pa.string(), "shard": pa.int64()}
            parquet.write_table(pa.Table.from_pylist(rows, schema=pa.schema(types)), draft)
            return
        with draft.open("w", encoding="utf-8", newline="") as file:
            if kind == "csv":
                table = csv.DictWriter(file, ["image", "error", "shard"], lineterminator="\n")
                table.writeheader()
                table.writerows(rows)
            else:
                file.writelines(json.dumps(row) + "\n" for row in rows)


def _failed(job: Job, shard: int) -> Iterator[dict[str, Any]]:
    if job.format != "parquet":
        yield from (record for record in read_shard(job, shard) if record.get("error"))
        return
    from pyarrow import BufferReader, compute, parquet

    # Arrow's own buffer: its threads read Python's files to the end of the process and abort it.
    content = BufferReader(job.store.get(job.result_key(shard)) or b"")
    table = parquet.read_table(content, columns=["image", "error"])  # no faces are read
    yield from table.filter(compute.is_valid(table["error"])).to_pylist()


def read_shard(job: Job, shard: int) -> Iterator[dict[str, Any]]:
    """The records of a shard that is done; of CSV its rows."""
    content = job.store.get(job.result_key(shard)) or b""
    if job.format == "parquet":
        with scratch() as folder:
            table = folder / "shard.parquet"
            table.write_bytes(content)
            yield from read_parquet(table)
    elif job.format == "csv":
        yield from csv.DictReader(io.StringIO(content.decode()))
    else:
        yield from map(json.loads, content.decode().splitlines())
