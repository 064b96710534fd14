"""The file of results of a run, in the format that its name or the caller says, resumable."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, get_args

from facefind.conversion import FormatName
from facefind.errors import DataError
from facefind.files import atomic, read_json_lines, scratch
from facefind.images.listing import is_remote
from facefind.pipeline import labels, remote, tables
from facefind.pipeline.sinks import JsonLines, Sink, is_device

__all__ = ["FORMATS", "FormatName", "ResultFile", "format_of", "open_results"]

Record = Mapping[str, Any]


class _Records:
    """The records in a file of JSON lines, gone through as often as needed, each from the disk."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (record for _, record in read_json_lines(self._path))


@dataclass(frozen=True)
class Format:
    """How results are written.

    Attributes:
        write: Writes records to a path, with the settings that made them.
        suffixes: In lower case, those of files that are written so by default.
        read: Gives the records back; None where the format keeps less than they hold.
        stems: Whether images go by their names without suffix, which must differ then.
        folder: Whether it is a folder.
        needs: A package without which it cannot be written.
    """

    write: Callable[[Iterable[Record], Path, Any], None]
    suffixes: tuple[str, ...] = ()
    read: Callable[[Path], Iterator[dict[str, Any]]] | None = None
    stems: bool = False
    folder: bool = False
    needs: str | None = None

    def check(self) -> None:
        """Raise ModuleNotFoundError where a package is missing: before hours of work, not after."""
        if self.needs is not None:
            import_module(self.needs)


def _write_lines(records: Iterable[Record], path: Path, settings: Any = None) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(record) + "\n" for record in records)


FORMATS: dict[FormatName, Format] = {
    "jsonl": Format(_write_lines, (".jsonl", ".ndjson")),
    "csv": Format(tables.write_csv, (".csv",)),
    "parquet": Format(
        tables.write_parquet, (".parquet", ".pq"), tables.read_parquet, needs="pyarrow"
    ),
    "coco": Format(labels.write_coco),
    "yolo": Format(labels.write_yolo, stems=True, folder=True),
    "fiftyone": Format(labels.write_fiftyone, stems=True),
    "labelstudio": Format(labels.write_label_studio),
}


def format_of(out: str | os.PathLike[str], format: FormatName | None = None) -> FormatName:
    """The format of a file of results: the one that is named, or that of its suffix.

    Raises:
        DataError: there is no such format, or the suffix says none.
    """
    names = get_args(FormatName)
    if format is not None:
        if format not in names:
            raise DataError(f"there is no format {format!r}: expected one of {', '.join(names)}")
        return format
    text = os.fspath(out)
    if not is_remote(text) and is_device(Path(text)):
        return "jsonl"
    suffix = os.path.splitext(text)[1].lower()
    for name, one in FORMATS.items():
        if suffix in one.suffixes:
            return name
    known = ", ".join(suffix for one in FORMATS.values() for suffix in one.suffixes)
    if suffix == ".json":
        raise DataError(f"{text}: JSON of which form? give --format coco, fiftyone or labelstudio")
    raise DataError(
        f"{text}: the suffix {suffix or 'that is missing'} says no format: expected {known}, or "
        f"--format with one of {', '.join(names)}"
    )


def open_results(
    out: str | os.PathLike[str],
    format: FormatName | None = None,
    *,
    settings: Mapping[str, Any] | None = None,
    resume: bool = False,
    overwrite: bool = False,
) -> JsonLines | ResultFile:
    """What writes results to a file, folder or address: JSON lines directly, others at the end.

    Args:
        out: The file, or its address.
        format: None takes that of its suffix, as of `format_of`.
        settings: As of `JsonLines`.
        resume: As of `JsonLines`.
        overwrite: As of `JsonLines`.

    Raises:
        DataError: as `JsonLines` and `format_of` do.
    """
    name = format_of(out, format)
    options: dict[str, Any] = {"settings": settings, "resume": resume, "overwrite": overwrite}
    if name == "jsonl" and not is_remote(out):
        return JsonLines(out, **options)
    return ResultFile(out, name, **options)


class ResultFile(Sink):
    """A file that is written once all results are there, whole or not at all.

    Until then they are in a journal of JSON lines beside it, `<out>.journal.jsonl`, which is
    resumed after a kill; that of an address is in the current folder. The journal goes when the
    block ends well, unless `keep_journal` is set: images are missing that may come yet. What has no
    journal any more is resumed only where the format can be read back (Parquet).

    Args:
        out: The file, folder or address.
        format: Its format.
        settings: As of `JsonLines`.
        resume: As of `JsonLines`.
        overwrite: As of `JsonLines`.

    Attributes:
        names: Images that were done before.
        keep_journal: Whether the journal stays.
    """

    def __init__(
        self,
        out: str | os.PathLike[str],
        format: FormatName,
        *,
        settings: Mapping[str, Any] | None = None,
        resume: bool = False,
        overwrite: bool = False,
    ) -> None:
        self._out, self._format = os.fspath(out).rstrip("/"), FORMATS[format]
        self._format.check()
        self._settings = settings
        self._remote = is_remote(self._out)
        local = Path(remote.name_of(self._out).rpartition("/")[2]) if self._remote else Path(out)
        self._path = local
        journal = local.with_name(local.name + ".journal.jsonl")
        again, read_back = journal.exists() and resume, None
        if self._is_there() and not again and not overwrite:
            if not resume:
                raise DataError(
                    f"{self._out} is there already: resume it (--resume), replace it "
                    "(--overwrite), or give another"
                )
            if self._format.read is None or self._remote:
                raise DataError(
                    f"{self._out} is whole, and nothing can be added to it: replace it "
                    "(--overwrite), or give another"
                )
            read_back = self._format.read
        if self._is_there() and overwrite and not self._is_own():
            raise DataError(f"{self._out} holds no results of facefind: give another")
        if read_back is not None:
            _write_lines(read_back(local), journal)
        try:
            self._journal = JsonLines(
                journal, resume=resume, overwrite=overwrite, settings=settings, note_of=local
            )
        except DataError:
            if read_back is not None:
                journal.unlink()
            raise
        self.names = self._journal.names
        self.keep_journal = False
        self._check = labels.one_each(labels.stem) if self._format.stems else None
        if self._check is not None:
            for name in self.names:
                self._check(name)

    def begin(self) -> None:
        """Open the journal."""
        self._journal.begin()

    def write(self, record: Record) -> None:
        """Keep the record of an image, as of `to_record`.

        Raises:
            DataError: the format cannot hold it.
        """
        if self._check is not None:
            self._check(record["image"])
        self._journal.write(record)

    def close(self) -> None:
        """Close the journal; the file is not written."""
        self._journal.close()

    def finish(self) -> None:
        """Write the file, of all that the journal holds."""
        self._journal.begin()
        records = _Records(self._journal.path)
        if self._remote:
            with scratch() as folder:
                made = folder / self._path.name
                self._format.write(records, made, self._settings)
                _upload(made, self._out)
        elif self._format.folder:
            self._write_folder(records)
        else:
            with atomic(self._path) as draft:
                self._format.write(records, draft, self._settings)
        if not self.keep_journal:
            self._journal.path.unlink()

    def _write_folder(self, records: _Records) -> None:
        """Put the results in their place; what else is in the folder, such as images, stays."""
        draft = self._path.with_name(f".{self._path.name}-{os.getpid()}.tmp")
        try:
            self._format.write(records, draft, self._settings)
            self._path.mkdir(exist_ok=True)
            for made in draft.iterdir():
                place = self._path / made.name
                if place.is_dir():
                    shutil.rmtree(place)
                made.replace(place)
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def _is_there(self) -> bool:
        if self._remote:
            place = remote.Place.of(self._out)
            return bool(place.system.exists(place.path))
        if self._path.is_dir() and self._format.folder:
            return any(self._path.iterdir())
        return self._path.exists() and (self._path.is_dir() or self._path.stat().st_size > 0)

    def _is_own(self) -> bool:
        """Whether facefind made what is there, as far as its note says."""
        return self._path.with_name(self._path.name + ".source.json").is_file()


def _upload(made: Path, url: str) -> None:
    system, path = remote.Place.of(url)
    if made.is_dir():
        system.put(str(made), path, recursive=True)
    else:
        system.put_file(str(made), path)
