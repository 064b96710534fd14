"""Files that hold many pictures: tar files, such as WebDataset's shards, and Parquet tables.

They are read from start to end, once; only pictures that wait for their turn are in memory.
"""

from __future__ import annotations

import tarfile
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any

from facefind.errors import DataError, ImageError
from facefind.images import SUFFIXES, Found

__all__ = ["members"]

_IMAGES = ("image", "img", "jpg", "jpeg", "png", "webp", "bytes", "image_bytes", "content", "data")
_NAMES = ("name", "file_name", "filename", "path", "image_path", "key", "__key__", "url", "id")
_ROWS = 32  # rows of a table that are in memory at a time


def members(file: IO[bytes], name: str, suffixes: Collection[str] = SUFFIXES) -> Iterator[Found]:
    """The pictures in a container, under its name and theirs: shard.tar/0001.jpg.

    Of a tar file those members count that have a picture's suffix and are not hidden. Of a Parquet
    table each row is one: `image`, or the only column of bytes, holds the file of the picture,
    alone or as the struct of bytes and path that Hugging Face writes. It is called by that path, by
    a column such as `name`, `path` or `key`, or by the row's number. A name that comes a second
    time is a picture that fails.

    Args:
        file: The container, from its start.
        name: Its own name.
        suffixes: In lower case, those of the members that count; of videos none does.

    Raises:
        ImageError: it is damaged, or no such file.
        DataError: the columns of a table do not say which holds the pictures.
    """
    known: dict[str, int] = {}
    wanted = SUFFIXES.intersection(suffixes)
    pictures = _rows(file, name) if name.lower().endswith(".parquet") else _tar(file, name, wanted)
    for member, content in pictures:
        full = f"{name}/{member}"
        if member in known:
            number = known[member] = known[member] + 1
            content = ImageError(f"{full} comes {number} times: only the first is done")
            full = f"{full} ({number})"
        known.setdefault(member, 1)
        yield Found(Path(full), full, _giving(content))


def _giving(content: bytes | ImageError) -> Any:
    def load() -> bytes:
        if isinstance(content, ImageError):
            raise content
        return content

    return load


def _tar(
    file: IO[bytes], name: str, suffixes: Collection[str]
) -> Iterator[tuple[str, bytes | ImageError]]:
    try:
        with tarfile.open(fileobj=file, mode="r|*") as tar:
            while (member := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined]  # or it would keep one a picture
                path = PurePosixPath(member.name)
                hidden = any(part.startswith(".") and part != "." for part in path.parts)
                if not member.isfile() or hidden or path.suffix.lower() not in suffixes:
                    continue
                content = tar.extractfile(member)
                assert content is not None  # of a file there is one
                yield str(path).lstrip("/"), content.read()
    except (tarfile.TarError, OSError, EOFError) as error:
        raise ImageError(f"{name} is no tar file, or damaged: {error}") from error


def _rows(file: IO[bytes], name: str) -> Iterator[tuple[str, bytes | ImageError]]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        table = parquet.ParquetFile(file, pre_buffer=False)
        image, label = _columns(table.schema_arrow, name)
        columns = [image, *([label] if label else [])]
        number = 0
        for batch in table.iter_batches(_ROWS, columns=columns):
            for row in batch.to_pylist():
                content: Any = row[image]
                path = row[label] if label else None
                if isinstance(content, dict):
                    content, path = content.get("bytes"), content.get("path") or path
                if content is None:
                    content = ImageError(f"row {number} of {name} holds no bytes")
                yield f"{number:06}" if path is None else str(path).lstrip("/"), content
                number += 1
    except (pa.ArrowException, OSError) as error:
        raise ImageError(f"{name} is no Parquet table, or damaged: {error}") from error


def _columns(schema: Any, name: str) -> tuple[str, str | None]:
    """Names of the columns that hold the pictures, and what they are called, if any."""
    import pyarrow as pa

    def holds_bytes(kind: Any) -> bool:
        if pa.types.is_struct(kind):
            index = kind.get_field_index("bytes")
            return index >= 0 and holds_bytes(kind.field(index).type)
        return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))

    holding = [field.name for field in schema if holds_bytes(field.type)]
    named = [one for one in _IMAGES if one in holding]
    if not named and len(holding) != 1:
        raise DataError(
            f"{name} has {len(holding)} columns of bytes among {', '.join(schema.names)}: expected "
            f"one, or one that is called {' or '.join(_IMAGES[:3])}"
        )
    image = (named or holding)[0]
    texts = [
        one
        for one in _NAMES
        if one in schema.names
        and one != image
        and not pa.types.is_nested(schema.field(one).type)
        and one not in holding
    ]
    return image, texts[0] if texts else None
