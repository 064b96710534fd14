"""Pictures that a command works through: named, read ahead, searched for faces, gone on with."""

from __future__ import annotations

import json
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from facefind.errors import DataError, ImageError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from facefind.detector import FaceDetector
    from facefind.faces import Faces

    Picture = npt.NDArray[np.uint8]
    Done = Callable[[str, Picture, Faces], tuple[str | None, str]]

__all__ = ["ONE_IMAGE", "below", "distinct", "keep_whole_lines", "named", "searched", "work"]

_READERS = 2
ONE_IMAGE = (ImageError, OSError, RuntimeError, MemoryError)
"""How an image, or a runtime on it, may fail without the next image being any worse for it."""


def named(sources: Sequence[str]) -> dict[str, Path]:
    """Files by the name they are told under: as given, or the path within the given folder."""
    from facefind import images

    if not sources:
        raise DataError("no images given: name files, folders or globs")
    found: dict[str, Path] = {}
    for source in sources:
        single = Path(source).is_file()
        for path, inside in images.find(source):
            name = source if single else inside
            if found.setdefault(name, path) != path:
                raise DataError(
                    f"{found[name]} and {path} would both be called {name}: "
                    "give the folder above them, or one folder at a time"
                )
    return found


def below(name: str) -> Path:
    """Where what is made of a picture lies below an output folder: its name, kept inside."""
    path = Path(name)
    return Path(path.name) if path.is_absolute() or ".." in path.parts else path


def distinct(made: Mapping[str, Path], todo: Mapping[str, Path], what: str) -> None:
    """Raise DataError where two of the pictures `todo` would be `made` into one file."""
    taken: dict[Path, Path] = {}
    for name, path in todo.items():
        other = taken.setdefault(made[name], path)
        if other != path:
            raise DataError(
                f"{what} of {other} and {path} would both be {made[name]}: "
                "give the folder above them, or one folder at a time"
            )


def searched(
    todo: Mapping[str, Path], detector: FaceDetector, batch: int
) -> Iterator[tuple[str, Any]]:
    """Name and (picture, faces), or the error instead, of each image, in order.

    `batch` images go to the detector together; the next ones are read by threads meanwhile.
    """
    from facefind import images

    names = iter(todo)
    waiting: deque[dict[str, Future[Picture]]] = deque()
    with ThreadPoolExecutor(_READERS, "reader") as readers:
        while True:
            chunk = list(islice(names, batch))
            if chunk:
                waiting.append({name: readers.submit(images.read, todo[name]) for name in chunk})
            if not waiting:
                return
            if len(waiting) < 2 and chunk:
                continue
            read: dict[str, Picture] = {}
            for name, future in waiting.popleft().items():
                try:
                    read[name] = future.result()
                except ONE_IMAGE as error:
                    yield name, error
            yield from _found(read, detector)


def _found(read: dict[str, Picture], detector: FaceDetector) -> Iterable[tuple[str, Any]]:
    """The same for pictures in memory; where they fail together, each on its own."""
    try:
        found = detector.detect(list(read.values())) if read else []
        return [(name, (read[name], faces)) for name, faces in zip(read, found, strict=True)]
    except ONE_IMAGE as error:
        if len(read) == 1:
            return [(name, error) for name in read]
        return [pair for name in read for pair in _found({name: read[name]}, detector)]


def work(
    command: str,
    todo: Mapping[str, Path],
    detector: FaceDetector,
    batch: int,
    *,
    done: Done,
    sinks: Sequence[IO[str]],
    head: str | None = None,
) -> tuple[int, int]:
    """How many images were done and how many failed; each is told of as soon as it is done.

    Args:
        command: that names images which failed, on stderr.
        todo: files by name.
        detector: finds the faces.
        batch: images that go to it together.
        done: makes of a picture and its faces what is to be made of them; gives what to print of
            it, None for nothing, and its line for `sinks`.
        sinks: where the lines go, each flushed at once.
        head: printed before the first image.
    """
    from tqdm import tqdm

    if head is not None:
        print(head, flush=True)
    images = failed = 0
    quiet = not sys.stderr.isatty()
    with tqdm(total=len(todo), unit="image", leave=False, disable=quiet) as bar:
        for name, result in searched(todo, detector, batch):
            bar.update()
            if isinstance(result, BaseException):
                failed += 1
                reason = " ".join(str(result).split()) or type(result).__name__
                bar.write(f"facefind {command}: {name}: {reason}", file=sys.stderr)
                continue
            text, line = done(name, *result)
            images += 1
            if text is not None:
                bar.write(text, file=sys.stdout)
            for sink in sinks:
                bar.clear()
                sink.write(line + "\n")
                sink.flush()
    return images, failed


def keep_whole_lines(out: Path, command: str) -> set[str]:
    """Names of the images that `out` holds; a last line that a kill left torn is cut off."""
    if not out.exists():
        return set()
    names: set[str] = set()
    whole = 0
    with out.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                if not line.endswith(b"\n"):
                    break
                names.add(json.loads(line)["image"])
            except (ValueError, KeyError, TypeError) as error:
                raise DataError(
                    f"{out}, line {number}: no result of facefind {command}, so --resume can't go "
                    "on with it; give another --out"
                ) from error
            whole += len(line)
    with out.open("r+b") as lines:
        lines.truncate(whole)
    return names
