"""Published measuring protocols, one file each; nothing here needs torch.

`wider` (WIDER FACE), `fddb`, `voc` (AFW and PASCAL faces), `landmarks` (NME, AFLW2000-3D),
`verification` (LFW, CFP, AgeDB, IJB), `tracking` (MOTA, IDF1, HOTA; `mot` has its files);
`thresholds` has precision and recall by score, `detections`
reads and writes files, `report` makes tables. Each is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from facefind.evaluation import (
        detections,
        fddb,
        landmarks,
        mot,
        report,
        thresholds,
        tracking,
        verification,
        voc,
        wider,
    )

__all__ = [
    "detections",
    "fddb",
    "landmarks",
    "mot",
    "report",
    "thresholds",
    "tracking",
    "verification",
    "voc",
    "wider",
]


def __getattr__(name: str) -> ModuleType:
    if name in __all__:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
