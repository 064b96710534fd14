"""Which samples are learned from, and which ones a network is measured on."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from facefind.datasets import ultralytics
from facefind.datasets.files import Unreadable, key, log
from facefind.datasets.layouts import detect_format
from facefind.datasets.reading import read
from facefind.datasets.sample import Sample, is_partial
from facefind.datasets.spec import SetSpec
from facefind.errors import DataError


def read_sets(
    data: Sequence[str | Path], *, val: Sequence[str | Path] = (), hold_out: float = 0.0
) -> tuple[list[Sample], list[Sample]]:
    """(training, held-out) samples of labeled sets, each in the order of its sets.

    The held-out samples are those of `val` where it is given, or else those that the sets in
    `data` name themselves: of a `data.yaml` whose split is not said, `train` is learned from and
    `val` held out. Otherwise they are about the fraction `hold_out` of the first set in `data`
    whose pictures are labeled completely: in a `partial:` set, detections on unlabeled faces would
    count as false alarms. The choice is that of `split`.

    Args:
        data: sets to learn from, as `read` takes them.
        val: sets to measure on; none of their samples should be learned from.
        hold_out: fraction to hold out where there are no sets to measure on, 0 to 1; 0: nothing.

    Raises:
        DataError: if there is no training set, a set can't be read, nothing can be held out
            because every set is partial, a set of `val` is partial, or two held-out images share
            a name.
    """
    if not data:
        raise DataError("no training images were given; name at least one set with --data SET")
    val = val or _named_by(data)
    sets = [read(root, unreadable="skip", defaults={"split": "train"}) for root in data]
    training: list[Sample] = []
    held_out: list[Sample] = []
    if val:
        held_out = [sample for root in val for sample in _complete(root)]
    chosen = None if val or not hold_out else _first_complete(sets, data)
    for number, samples in enumerate(sets):
        if number != chosen:
            training += samples
            continue
        _, candidates = split(samples, hold_out)
        held_out = [sample for sample in candidates if not is_partial(sample)]
        names = {sample.name for sample in held_out}
        training += [sample for sample in samples if sample.name not in names]
    name, count = next(iter(Counter(s.name for s in held_out).most_common(1)), ("", 0))
    if count > 1:
        raise DataError(
            f"{count} held-out images are named {name!r}; detections are matched to labels by "
            "name: measure on these sets one by one"
        )
    if both := {sample.path for sample in held_out} & {sample.path for sample in training}:
        log.warning("%d held-out images, such as %s, are learned from", len(both), min(both))
    return training, held_out


def _named_by(data: Sequence[str | Path]) -> list[str]:
    """The validation splits that sets to learn from bring along."""
    found = []
    for root in data:
        spec = SetSpec.parse(root)
        if spec.partial or "split" in spec.options or not spec.path.exists():
            continue
        layout = spec.options.get("layout") or detect_format(spec.path)
        if layout == "ultralytics" and "val" in ultralytics.describe(spec.path).splits:
            found.append(str(replace(spec, options={**spec.options, "split": "val"})))
    return found


def _first_complete(sets: Sequence[Sequence[Sample]], data: Sequence[str | Path]) -> int:
    """Number of the first set that holds completely labeled pictures."""
    for number, samples in enumerate(sets):
        if samples and not all(map(is_partial, samples)):
            if number:
                log.warning(
                    "held-out images are those of %s: the sets before it are partial, and AP on "
                    "pictures with unlabeled faces means nothing",
                    data[number],
                )
            return number
    raise DataError(
        f"nothing can be held out: every picture of {', '.join(map(str, data))} may show unlabeled "
        "faces, on which AP means nothing; add a completely labeled set, measure on one with "
        "--val SET, or hold out nothing (a fraction of 0)"
    )


def check_complete(samples: Sequence[Sample], title: str) -> None:
    """Raise unless the samples are of a set whose pictures are labeled completely.

    Args:
        samples: all of a set.
        title: what the message calls the set.

    Raises:
        DataError: if every picture may show unlabeled faces (`is_partial`).
    """
    if samples and all(map(is_partial, samples)):
        raise DataError(
            f"{title}: its pictures may show unlabeled faces, and detections on these would count "
            "as false alarms; measure on a completely labeled set"
        )


def check_faces(samples: Sequence[Sample], purpose: str) -> None:
    """Raise unless a face is labeled in one of the samples.

    Args:
        samples: labeled pictures.
        purpose: what they are for, for the message, such as "to learn from".

    Raises:
        DataError: if none shows a face that counts.
    """
    if not any((~sample.ignore).any() for sample in samples):
        raise DataError(
            f"no face is labeled in the {len(samples)} images {purpose}: see whether the labels "
            "lie where the set's layout has them (`facefind data check SET`), or give other images"
        )


def _complete(root: str | Path) -> list[Sample]:
    """The samples of a set to measure on."""
    samples = read(root, unreadable="skip", defaults={"split": "val"})
    check_complete(samples, str(root))
    complete = [sample for sample in samples if not is_partial(sample)]
    if len(complete) < len(samples):
        left_out = len(samples) - len(complete)
        log.warning("%s: %d pictures that are ignored as a whole are left out", root, left_out)
    return complete


def split(samples: Iterable[Sample], fraction: float = 0.1) -> tuple[list[Sample], list[Sample]]:
    """(training, held-out) samples; about `fraction` of them are held out.

    Each picture is assigned by the SHA-1 of its name alone: the split is the same on every
    machine, in every order, and stays as it is for the old pictures when new ones come.

    Raises:
        DataError: if the fraction is not from 0 to 1.
    """
    if not 0 <= fraction <= 1:
        raise DataError(f"expected a fraction from 0 to 1, got {fraction}")
    training: list[Sample] = []
    held_out: list[Sample] = []
    for sample in samples:
        value = int.from_bytes(hashlib.sha1(sample.name.encode()).digest()[:8], "big") / 2**64
        (held_out if value < fraction else training).append(sample)
    return training, held_out


def evenly_spaced(samples: Sequence[Sample], count: int) -> list[Sample]:
    """`count` of the samples, taken at equal steps; all where `count` is 0 or there are no more.

    Sets list their pictures event by event, so that the first few would show one event alone.
    """
    count = count or len(samples)
    step = max(len(samples) // max(count, 1), 1)
    return list(samples[::step][:count])


def only(samples: Sequence[Sample], names: Iterable[str]) -> list[Sample]:
    """The samples of these names, with or without image suffix, in the order of `samples`.

    Raises:
        DataError: if a name is not among the samples.
    """
    kept = {key(name.strip()) for name in names} - {""}
    found = [sample for sample in samples if key(sample.name) in kept]
    if unknown := kept - {key(sample.name) for sample in found}:
        more = f", nor are {len(unknown) - 1} others" if len(unknown) > 1 else ""
        raise DataError(f"{min(unknown)} is not among the labeled images{more}")
    return found


def read_labels(
    root: str | Path,
    *,
    layout: str | None = None,
    images: Path | None = None,
    unreadable: Unreadable = "error",
    **defaults: Any,
) -> list[Sample]:
    """Samples of a set in any layout, those whose image file is absent too.

    Args:
        root: the set, as in `read`.
        layout: a key of `READERS`; None: detected.
        images: the folder of the pictures; None: the layout's usual one.
        unreadable: what to do with pictures that cannot be opened, as in `read`.
        defaults: further options of readers; a layout that does not know one goes without it.

    Raises:
        DataError: as `read` does.
    """
    given: dict[str, Any] = {} if images is None else {"images": images}
    given["unreadable"] = unreadable
    return read(root, layout=layout, defaults={"missing": "keep"} | defaults, **given)
