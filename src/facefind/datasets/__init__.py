"""Labeled pictures: readers and writers of the usual layouts, splits, digests, checks."""

from __future__ import annotations

from facefind.datasets import aflw, coco, face_eval, fddb, pairs, retinaface, voc, wider, yolo
from facefind.datasets.check import Finding, Report, check
from facefind.datasets.files import Missing
from facefind.datasets.layouts import READERS, read, recognize, write
from facefind.datasets.pairs import Pairs
from facefind.datasets.sample import Sample, digest, partial, read_size, split

__all__ = [
    "READERS",
    "Finding",
    "Missing",
    "Pairs",
    "Report",
    "Sample",
    "aflw",
    "check",
    "coco",
    "digest",
    "face_eval",
    "fddb",
    "pairs",
    "partial",
    "read",
    "read_size",
    "recognize",
    "retinaface",
    "split",
    "voc",
    "wider",
    "write",
    "yolo",
]
