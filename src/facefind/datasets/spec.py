"""How a set is named, in Python and on command lines alike: `partial:PATH,images=DIR,split=val`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

_PARTIAL = "partial:"
_OPTION = re.compile(r",(?=[a-z_]+=)")
_FILES = ("images", "landmarks")  # options whose value may be a path


@dataclass(frozen=True)
class SetSpec:
    """A set's path and how it is to be read; `str` gives the text that `parse` takes.

    Attributes:
        path: folder or label file.
        partial: whether pictures may show unlabeled faces.
        options: `layout`, `category`, `sides`, and those of the layout's reader, as text.
    """

    path: Path
    partial: bool = False
    options: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str | Path) -> SetSpec:
        """The set that a text names; one that exists as a path as a whole has no options."""
        whole = str(text)
        bare = whole.removeprefix(_PARTIAL)
        path, *options = [bare] if Path(bare).exists() else _OPTION.split(bare)
        pairs = (option.partition("=") for option in options)
        return cls(Path(path), bare != whole, {name: value for name, _, value in pairs})

    def __str__(self) -> str:
        options = "".join(f",{name}={value}" for name, value in self.options.items())
        return f"{_PARTIAL if self.partial else ''}{self.path}{options}"

    def absolute(self) -> SetSpec:
        """The same set for a process that runs in another folder."""
        options = {
            name: str(Path(value).resolve()) if name in _FILES and Path(value).exists() else value
            for name, value in self.options.items()
        }
        return replace(self, path=self.path.resolve(), options=options)
