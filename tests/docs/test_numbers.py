"""The tables of README, results and speed say of the models that ship what their cards say."""

from __future__ import annotations

import re
from itertools import pairwise, takewhile
from pathlib import Path

import pytest

from facefind import weights

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def cards():
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(weights.ENVIRONMENT, raising=False)
        return {card.name: card for card in weights.available()}


def table(page, column):
    """Cells of the rows of the first table with this column; an empty first cell repeats."""
    lines = iter((ROOT / page).read_text(encoding="utf-8").splitlines())
    next(line for line in lines if line.startswith("|") and f"| {column} |" in line)
    next(lines)
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in takewhile(lambda line: line.startswith("|"), lines)
    ]
    for above, row in pairwise(rows):
        row[0] = row[0] or above[0]
    return [(re.match(r"`(.+?)`", row[0])[1], row[1:]) for row in rows]


def precise(names):
    return {name for name in names if not name.endswith("-int8")}


def percent(values, digits=2):
    return [f"{100 * value:.{digits}f}" for value in values.values()]


def measured(card, measure, protocol=None):
    """The card's results of this measure, of a test protocol where one is named."""
    for result in card.results:
        tested = result.get("test_protocol", {"name": None})
        if result.get("measure") == measure and protocol in (None, tested["name"]):
            yield result


def test_readme_has_the_cost_and_ap_of_each_model(cards):
    rows = table("README.md", "multiply-adds, 640x480")
    assert {name for name, _ in rows} == precise(cards)
    assert rows[0][0] == weights.default()
    for name, (outputs, cost, ap) in rows:
        card = cards[name]
        assert ("landmarks" in outputs, "mesh" in outputs) == (card.landmarks, bool(card.mesh))
        assert cost.startswith(f"{card.multiply_adds / 1e9:.2f} G"), name
        protocol = (*re.findall(r"`(.+)`", ap), "vga")[0]
        (result,) = measured(card, "wider", protocol)
        assert ap.split(" (")[0] == " / ".join(percent(result["ap"])), name


def test_the_results_have_the_ap_of_the_cards(cards):
    rows = table("docs/results.md", "trained on")
    assert {name for name, _ in rows} == precise(cards) - {"smallhardface-light"}
    for name, cells in rows:
        (result,) = measured(cards[name], "wider", "vga")
        assert cells[:3] == percent(result["ap"]), name


def test_the_results_have_the_thresholds_of_the_cards(cards):
    rows = table("docs/results.md", "threshold")
    assert {name for name, _ in rows} == precise(cards)
    for name, (threshold, _, *found) in rows:
        (result,) = measured(cards[name], "threshold", cards[name].protocol)
        assert float(threshold) == cards[name].min_score == result["threshold"], name
        assert [cell.removesuffix(" %") for cell in found] == percent(result["recall"], 1), name


def test_the_speeds_have_what_int8_loses_by_the_cards(cards):
    rows = table("docs/speed.md", "34 px and more")
    assert {name for name, _ in rows} == precise(cards)
    for name, (numbers, *cells) in rows:
        if numbers == "int8 by onnxruntime":
            continue
        quantized = cards[f"{name}-int8"]
        losses = [result[f"ap_{numbers}"] for result in measured(quantized, "quantization")]
        assert cells[:3] == percent(losses[0]), (name, numbers)
        for result in measured(cards[name] if numbers == "fp32" else quantized, "wider", "vga"):
            assert cells[3:] == percent(result["ap"]), (name, numbers)


def test_the_losses_by_processor_are_those_of_the_cards(cards):
    rows = table("docs/speed.md", "with VNNI")
    assert {name for name, _ in rows} == precise(cards)
    for name, (quantized, *stated) in rows:
        for arithmetic, loss in zip(("vnni", "avx2"), stated, strict=True):
            (result,) = (
                result
                for result in measured(cards[f"{name}-int8"], "quantization")
                if result.get("arithmetic", arithmetic) == arithmetic
            )
            assert quantized.startswith(f"{result['bits']} bits"), name
            ap = zip(result["ap_fp32"].values(), result["ap_int8"].values(), strict=True)
            most = 100 * max(before - after for before, after in ap)
            assert loss == (f"{most:.2f}".removeprefix("0") if most > 0 else "none"), name
