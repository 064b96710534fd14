"""Options that many commands have, spelled once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

__all__ = ["File", "Flag", "Folder", "Number", "Text", "Whole"]

# "(default: None)" or "(default: False)" would say nothing that the help does not.
Flag = Annotated[bool, tyro.conf.FlagCreatePairsOff, tyro.conf.arg(help_behavior_hint="")]
"""On where named; there is no --no-... twin."""
Text = Annotated[str | None, tyro.conf.arg(metavar="NAME", help_behavior_hint="")]
Whole = Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="")]
Number = Annotated[float | None, tyro.conf.arg(metavar="FLOAT", help_behavior_hint="")]
File = Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")]
Folder = Annotated[Path | None, tyro.conf.arg(metavar="DIR", help_behavior_hint="")]
