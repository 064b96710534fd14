"""Records of images as tables: a Parquet row an image, a CSV row a face."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from facefind.conversion import columns
from facefind.errors import DataError
from facefind.faces import Faces
from facefind.landmarks import NAMES

__all__ = ["read_parquet", "settings_of", "write_csv", "write_parquet"]

_GROUP = 10_000  # images of a row group
_KEY = b"facefind"  # of the settings in the table's metadata


def write_parquet(records: Iterable[Mapping[str, Any]], path: Path, settings: Any = None) -> None:
    """Write a Parquet table, a row an image, in groups of 10,000 rows.

    The columns are image, width, height, boxes (lists of x1 y1 x2 y2), scores, landmarks (lists of
    five x y, null where the model gives none), error (null, or why there are no faces).

    Args:
        records: As of `to_record`, or of an image that failed: its name, and the reason as `error`.
        path: The file.
        settings: What the faces are found with; kept as JSON in the table's metadata, `facefind`.
    """
    import pyarrow as pa
    from pyarrow import parquet

    numbers = pa.list_(pa.float32())
    schema = pa.schema(
        [
            ("image", pa.string()),
            ("width", pa.int32()),
            ("height", pa.int32()),
            ("boxes", pa.list_(numbers)),
            ("scores", numbers),
            ("landmarks", pa.list_(pa.list_(numbers))),
            ("error", pa.string()),
        ],
        metadata={_KEY: json.dumps(settings)},
    )
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        for group in _groups(records):
            rows = [{**row, "image": printed(row["image"])} for row in group]
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))


def read_parquet(path: str | Path) -> Iterator[dict[str, Any]]:
    """The records in a table that `write_parquet` wrote, in order.

    Raises:
        DataError: it is no such table.
    """
    settings_of(path)
    from pyarrow import parquet

    with parquet.ParquetFile(path) as table:
        for batch in table.iter_batches(1000):
            for row in batch.to_pylist():
                if row["error"] is None:
                    del row["error"]
                    yield row
                else:
                    yield {"image": row["image"], "error": row["error"]}


def settings_of(path: str | Path) -> Any:
    """The settings that a table of `write_parquet` was made with.

    Raises:
        DataError: it is no such table.
    """
    import pyarrow as pa
    from pyarrow import parquet

    try:
        return json.loads(parquet.read_schema(path).metadata[_KEY])
    except (pa.ArrowException, OSError, KeyError, TypeError) as error:
        raise DataError(f"{path} is no Parquet table of facefind ({error})") from error


def write_csv(records: Iterable[Mapping[str, Any]], path: Path, settings: Any = None) -> None:
    """Write a CSV table, a row a face; an image without faces has a row without numbers.

    The columns are image, width, height, face (from 0, by falling score), those of
    `Faces.to_pandas` with all landmarks, and error.
    """
    points = [f"{name}_{axis}" for name in NAMES for axis in "xy"]
    names = ["x1", "y1", "x2", "y2", "score", *points]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["image", "width", "height", "face", *names, "error"])
        for record in records:
            if "error" in record:
                blank = [""] * (len(names) + 3)
                writer.writerow([printed(record["image"]), *blank, record["error"]])
                continue
            table = columns(Faces.from_dict(record), digits=4)
            image = [printed(record["image"]), record["width"], record["height"]]
            for face in range(max(1, len(record["scores"]))):
                cells = (table.get(name, []) for name in names)
                row = [column[face] if face < len(column) else "" for column in cells]
                writer.writerow([*image, face if record["scores"] else "", *row, ""])


def printed(name: str) -> str:
    """A name as UTF-8 has it: bytes of a file's name that no encoding knows are escaped."""
    return name.encode("utf-8", "backslashreplace").decode()


def _groups(records: Iterable[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    rest = iter(records)
    for first in rest:
        group = [first]
        for record in rest:
            group.append(record)
            if len(group) == _GROUP:
                break
        yield group
