"""The nearest few of the names there are, for one that is not among them."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["suggest"]


def suggest(name: str, names: Iterable[str], what: str = "there are") -> str:
    """The end of an error message: `; did you mean ...?`, or all names where none is near."""
    from difflib import get_close_matches

    known = list(names)
    near = get_close_matches(name, known, n=3, cutoff=0.5)
    if near:
        return f"; did you mean {' or '.join(near)}?"
    return f"; {what} {', '.join(known)}"
