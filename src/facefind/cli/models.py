"""`facefind models`: the cards of the models at hand."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from facefind.cli import output
from facefind.cli.options import File, Flag
from facefind.errors import WeightsError

if TYPE_CHECKING:
    from facefind.runtimes import Card

__all__ = ["main", "models"]

_HEADER = ("model", "parameters", "multiply-adds", "AP", "landmarks", "license")


def main(args: Sequence[str]) -> int:
    """Exit code of `facefind models` with these arguments."""
    return tyro.cli(models, args=args, prog="facefind models")


def models(
    model: Annotated[str | None, tyro.conf.arg(metavar="[MODEL]", help_behavior_hint="")] = None,
    /,
    *,
    json: Flag = False,
    out: File = None,
) -> int:
    """List the models that ship and those in the folder $FACEFIND_WEIGHTS.

    Multiply-adds are those of one 640x480 image; AP is the first measurement on the card, the
    command that made it is there. The default model is marked with a star.

    Args:
        model: Show the whole card of this model or .onnx file instead.
        json: Print JSON instead of text.
        out: Write the same as JSON to this file.
    """
    from facefind import weights

    if model is not None:
        card = dataclasses.asdict(_card(model))
        output.emit(card, "\n".join(_card_lines(card)), as_json=json, out=out)
        return 0
    cards = weights.available()
    default = _default()
    listed = [dataclasses.asdict(card) | {"default": card.name == default} for card in cards]
    rows = [_row(card, card.name == default) for card in cards]
    text = (
        output.table(_HEADER, rows, right=(1, 2))
        if rows
        else "no model is at hand: give facefind detect a --model file"
    )
    output.emit(listed, text, as_json=json, out=out)
    return 0


def _default() -> str | None:
    from facefind import weights

    try:
        return weights.default()
    except WeightsError:  # several models and none is marked, or no model at all
        return None


def _card(model: str) -> Card:
    from facefind import weights
    from facefind.runtimes import Card

    name = weights.default() if model == "default" else model
    for card in weights.available():
        if card.name == name:
            return card
    return Card.of_export(weights.find(model))


def _card_lines(card: Mapping[str, Any], indent: str = "") -> list[str]:
    lines = []
    for key, value in card.items():
        if isinstance(value, Mapping) and value:
            lines += [f"{indent}{key}", *_card_lines(value, indent + "  ")]
        elif isinstance(value, list | tuple) and value and isinstance(value[0], Mapping):
            for number, item in enumerate(value, 1):
                lines += [f"{indent}{key} {number}", *_card_lines(item, indent + "  ")]
        elif value not in (None, "", (), [], {}):
            lines.append(f"{indent}{key:<16}{value}")
    return lines


def _row(card: Card, is_default: bool) -> tuple[str, ...]:
    return (
        f"{card.name} *" if is_default else card.name,
        "" if card.parameters is None else f"{card.parameters / 1e6:.2f} M",
        "" if card.multiply_adds is None else f"{card.multiply_adds / 1e9:.2f} G",
        _measured(card.results),
        "yes" if card.landmarks else "no",
        card.license,
    )


def _measured(results: Sequence[Mapping[str, Any]]) -> str:
    """AP of the first measurement and the protocol it was made under, in few words."""
    for result in results:
        ap = result.get("ap")
        if ap is None:
            continue
        parts = ap.values() if isinstance(ap, Mapping) else [ap]
        numbers = "/".join(f"{100 * float(part):.1f}" for part in parts)
        shown = result.get("test_protocol", result.get("protocol"))
        name = shown["name"] if isinstance(shown, Mapping) else shown
        return f"{numbers} ({name})" if name else numbers
    return ""
