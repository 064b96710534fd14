"""Makes code of the `>>>` lines of docstrings, for the page that is made of them."""

from __future__ import annotations

import re
from typing import Any

import griffe

LINES = re.compile(r"^(?:(?:>>>|\.\.\.) .*(?:\n|\Z))+", re.MULTILINE)


class Doctests(griffe.Extension):
    """Fences the lines before the docstring is read as Markdown."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change the docstring of a module, class, function or attribute."""
        if obj.docstring:
            obj.docstring.value = LINES.sub(
                lambda found: f"```python\n{found[0].rstrip()}\n```\n", obj.docstring.value
            )
