"""Labeled pictures: readers and writers of the usual layouts, splits, digests, checks."""

from __future__ import annotations

from facefind.datasets import (
    aflw,
    coco,
    face_eval,
    fddb,
    pairs,
    retinaface,
    ultralytics,
    voc,
    wider,
    yolo,
)
from facefind.datasets.check import Finding, Report, check
from facefind.datasets.files import Missing, collected_faults
from facefind.datasets.layouts import READERS, detect_format, write
from facefind.datasets.pairs import Pairs
from facefind.datasets.reading import read
from facefind.datasets.sample import Sample, digest, is_partial, partial, read_size
from facefind.datasets.selection import (
    check_complete,
    check_faces,
    evenly_spaced,
    only,
    read_labels,
    read_sets,
    split,
)
from facefind.datasets.spec import SetSpec

__all__ = [
    "READERS",
    "Finding",
    "Missing",
    "Pairs",
    "Report",
    "Sample",
    "SetSpec",
    "aflw",
    "check",
    "check_complete",
    "check_faces",
    "coco",
    "collected_faults",
    "detect_format",
    "digest",
    "evenly_spaced",
    "face_eval",
    "fddb",
    "is_partial",
    "only",
    "pairs",
    "partial",
    "read",
    "read_labels",
    "read_sets",
    "read_size",
    "retinaface",
    "split",
    "ultralytics",
    "voc",
    "wider",
    "write",
    "yolo",
]
