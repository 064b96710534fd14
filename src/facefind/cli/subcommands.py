"""Commands that start with one of several names: their help, and their choice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from facefind.errors import DataError, did_you_mean

__all__ = ["choose", "usage"]


def choose(
    args: Sequence[str], program: str, text: str, kind: str, names: Mapping[str, str]
) -> tuple[str | None, list[str]]:
    """The name that the arguments start with, None once help is printed; and the other arguments.

    Args:
        args: What follows the program.
        program: What is run, such as facefind data.
        text: What it is for, for its help.
        kind: What the names are, such as action.
        names: Each with what it does.

    Raises:
        DataError: there is no such name.
    """
    name, *rest = args or ["--help"]
    if name in ("-h", "--help"):
        print(usage(program, text, kind, names))
        return None, rest
    if name not in names:
        near = did_you_mean(name, names) or f"; there are {', '.join(names)}"
        raise DataError(f"there is no {kind} {name!r}{near}")
    return name, rest


def usage(program: str, text: str, kind: str, names: Mapping[str, str]) -> str:
    """Help of a program before its action is known; the arguments are those of `choose`."""
    width = max(map(len, names))
    rows = [f"  {name:<{width}}  {what}" for name, what in names.items()]
    head = [f"usage: {program} {kind.upper()} [OPTION ...]", "", text, "", f"{kind}s:"]
    return "\n".join([*head, *rows, "", f"{program} {kind.upper()} --help lists its options."])
