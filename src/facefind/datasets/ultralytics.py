"""Ultralytics' `data.yaml`: YOLO text labels with splits, class names and the landmarks' form."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from facefind.datasets import yolo
from facefind.datasets.files import (
    ONE_LABEL,
    Flat,
    Unreadable,
    bad_line,
    decode,
    only_file,
    read_text,
)
from facefind.datasets.sample import Sample
from facefind.errors import DataError, ImageError
from facefind.images.listing import SUFFIXES, find

Split = Literal["train", "val", "test"]
"""Which of a file's lists of pictures."""

_SPLITS: dict[Split, tuple[str, ...]] = {
    "train": ("train",),
    "val": ("val", "validation"),
    "test": ("test",),
}


@dataclass(frozen=True)
class Description:
    """What a `data.yaml` says.

    Attributes:
        source: the file.
        folders: where relative paths may start from, the likeliest first.
        splits: paths of each split that the file names, as they are written.
        classes: names by number; None where the file has none.
        columns: how many numbers a label line may have.
    """

    source: Path
    folders: tuple[Path, ...]
    splits: Mapping[Split, tuple[str, ...]]
    classes: Mapping[int, str] | None
    columns: tuple[int, ...]


def read(
    root: str | Path,
    *,
    split: Split | None = None,
    flat: Flat = "drop",
    unreadable: Unreadable = "error",
) -> list[Sample]:
    """Samples of a `data.yaml`, or of the folder that holds one.

    `train`, `val` and `test` are a path or a list of paths: folders, whose pictures at any depth
    count, or text files with a picture's path a line. They start from `path`, which itself starts
    from the file's folder or, as in Ultralytics, from the working directory; without `path` they
    start from the file's folder. A picture's labels are where its path has `labels` for the last
    folder `images`, or beside it where there is none such; without a label file, or with an empty
    one, it has no faces. `names` give the attribute `category`; `kpt_shape` must be of five points.

    Samples are named by their path below `path`, without the folder `images`.

    Args:
        root: the file or its folder.
        split: which pictures; None: all, each once.
        flat: what to do with boxes without area.
        unreadable: what to do with pictures that cannot be opened.

    Raises:
        DataError: where the file, a list or a label line is not as the format demands, with file
            and line; where pictures are not there, or the file does not name the split.
        ModuleNotFoundError: without PyYAML.
    """
    described = describe(Path(root))
    if split is not None and split not in described.splits:
        raise DataError(
            f"{described.source}: names no {split} images, but {' and '.join(described.splits)}; "
            f"add `{split}:`, or choose one of these by {described.source},split=NAME"
        )
    base = _folder(described)
    pictures: dict[Path, None] = {}
    for chosen in described.splits if split is None else (split,):
        for place in described.splits[chosen]:
            pictures |= dict.fromkeys(_pictures(described, base, chosen, place))
    samples = (
        yolo.read_picture(
            _name(path, base),
            path,
            yolo.label_path(path),
            flat=flat,
            columns=described.columns,
            classes=described.classes,
            unreadable=unreadable,
        )
        for path in pictures
    )
    return [sample for sample in samples if sample is not None]


def describe(root: Path) -> Description:
    """What a `data.yaml`, or the one in a folder, says.

    Raises:
        DataError: if it is no such file.
        ModuleNotFoundError: without PyYAML.
    """
    import yaml

    source = only_file(root, "data.yaml", "*.yaml")
    text = decode(source)
    try:
        content = yaml.safe_load(text)
    except (ValueError, RecursionError, yaml.YAMLError) as error:  # of dates, of depth, of syntax
        raise DataError(f"{source}: cannot be read as YAML ({error})") from None
    content = content if isinstance(content, dict) else {}
    splits: dict[Split, tuple[str, ...]] = {}
    for split, keys in _SPLITS.items():
        value = next((content[key] for key in keys if content.get(key)), None)
        if value is not None:
            splits[split] = _paths(source, split, value)
    if not splits:
        raise DataError(f"{source}: expected `train:` or `val:` with folders of images")
    home = str(content.get("path") or "")
    folders = dict.fromkeys([_join(source.parent, home), _join(Path(), home)])
    return Description(
        source, tuple(folders), splits, _classes(source, content), _columns(source, content)
    )


def _paths(source: Path, split: str, value: Any) -> tuple[str, ...]:
    paths = value if isinstance(value, list) else [value]
    if not all(isinstance(path, str) and path for path in paths):
        raise DataError(f"{source}: expected a path or a list of paths as `{split}:`, got {value}")
    return tuple(paths)


def _classes(source: Path, content: Mapping[str, Any]) -> dict[int, str] | None:
    names = content.get("names")
    if names is None:
        return None
    try:
        pairs = names.items() if isinstance(names, dict) else enumerate(names)
        return {int(number): str(name) for number, name in pairs}
    except (TypeError, ValueError):
        raise DataError(
            f"{source}: expected `names:` as a list or as `number: name`, got {names!r}"
        ) from None


def _columns(source: Path, content: Mapping[str, Any]) -> tuple[int, ...]:
    shape = content.get("kpt_shape")
    if shape is None:
        return yolo.COLUMNS
    if shape not in ([5, 2], [5, 3]):
        raise DataError(
            f"{source}: kpt_shape {shape}: expected [5, 2] or [5, 3]: left eye, right eye, nose, "
            "left and right mouth corner"
        )
    return (5, 5 + shape[0] * shape[1])


def _join(folder: Path, path: str) -> Path:
    """`folder / path` from the root on and without `..`; links are kept."""
    return Path(os.path.abspath(folder / path))


def _folder(described: Description) -> Path:
    return next((f for f in described.folders if f.is_dir()), described.folders[0])


def _pictures(described: Description, base: Path, split: str, place: str) -> Iterator[Path]:
    # Exported sets say ../train/images where they mean train/images, and Ultralytics bears it.
    tried = [_join(base, place), _join(base, place.removeprefix("../"))]
    path = next((path for path in tried if path.exists()), None)
    if path is None:
        raise DataError(
            f"{described.source}: `{split}: {place}` is not there: looked for {tried[0]}; "
            "correct it, or `path:`, where relative paths start from"
        )
    if path.is_file():
        yield from _listed(path, base)
        return
    try:
        yield from (found.path for found in find(path))
    except ImageError as error:
        raise DataError(f"{described.source}: `{split}: {place}`: {error}") from None


def _listed(source: Path, base: Path) -> Iterator[Path]:
    """The pictures that a text file lists; they start from its folder, or from the set's."""
    for number, line in enumerate(read_text(source), 1):
        if not line.strip():
            continue
        tried = [_join(folder, line.strip()) for folder in (source.parent, base)]
        path = next((path for path in tried if path.is_file()), None)
        with ONE_LABEL:
            if path is None or path.suffix.lower() not in SUFFIXES:
                raise bad_line(source, number, line, f"the path of an image, such as {tried[0]}")
            yield path


def _name(path: Path, base: Path) -> str:
    parts: Sequence[str] = Path(os.path.relpath(path, base)).parts
    if ".." in parts:
        parts = path.parts[1:]
    folders = list(parts[:-1])
    if "images" in folders:
        del folders[len(folders) - 1 - folders[::-1].index("images")]
    return "/".join([*folders, parts[-1]])
