"""Options that many commands have, spelled once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

__all__ = ["File", "Flag", "Folder", "Number", "Text", "Whole"]

Flag = Annotated[bool, tyro.conf.FlagCreatePairsOff]
"""On where named; there is no --no-... twin."""
Text = Annotated[str | None, tyro.conf.arg(metavar="NAME")]
Whole = Annotated[int | None, tyro.conf.arg(metavar="INT")]
Number = Annotated[float | None, tyro.conf.arg(metavar="FLOAT")]
File = Annotated[Path | None, tyro.conf.arg(metavar="FILE")]
Folder = Annotated[Path | None, tyro.conf.arg(metavar="DIR")]
