"""Display thresholds by one rule: the least score, in steps of .01, at which precision is .97.

    python benchmarks/thresholds.py --model scrfd-2.5g-kps scrfd-500m-kps --data WIDER_train --write

Measured on the images of the set that training holds out (`--hold-out 0`: on all of it), under each
model's default protocol: the precision of detections whose longer side has 30 pixels and more, a
labeled face being found from an IoU of .4. Prints a table a model; `--write` puts the threshold
into the model's card, in the file and beside it, with what was measured.

Labels of WIDER FACE miss some faces, which count as false alarms here: the true precision is
higher, and the threshold rather too high than too low.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from facefind import __version__, datasets, protocols, weights
from facefind.datasets.files import key
from facefind.evaluation import thresholds
from facefind.export import relabel
from facefind.pipeline.kept import DetectorSettings, detect_labeled
from facefind.runtimes import Card


def main() -> None:
    options = arguments()
    if options.hold_out:
        _, samples = datasets.read_sets([options.data], hold_out=options.hold_out)
    else:
        _, samples = datasets.read_sets([options.data], val=[options.data])
    paths = {key(sample.name): sample.path for sample in samples}
    for model in options.model:
        file = weights.find(model)
        card = Card.from_file(file) or Card(name=file.stem, system="unknown")
        protocol = options.test_protocol or card.protocol
        floor = protocols.get(protocol).min_score
        settings = DetectorSettings(
            model=model,
            protocol=protocol,
            min_score=max(floor or 0, 0.02),
            threads=options.threads,
        )
        found = detect_labeled(settings, paths)
        result = thresholds.evaluate(found.faces, samples)
        chosen = result.least(options.precision)
        show(model, protocol, result, chosen, card.min_score)
        if options.write and chosen is not None:
            measured = found.source | result.at(chosen)  # its precision is a rate
            measured |= {
                "image_set": f"{len(samples)} of {options.data.name}",
                "facefind": __version__,
                "command": command(model, options),
            }
            write(file, replace(card, protocol=protocol), measured)


def show(
    model: str,
    protocol: str,
    result: thresholds.ThresholdResult,
    chosen: float | None,
    before: float,
) -> None:
    """Print the table of a model: every .05, the card's threshold and the chosen one."""
    sides = ", ".join(f"{count} of {side} px and more" for side, count in result.faces.items())
    print(f"\n{model} at {protocol}: {result.protocol}; {result.images} images, faces: {sides}\n")
    print("| threshold | precision |" + "".join(f" recall, {s} px |" for s in result.faces))
    print("|---" * (2 + len(result.faces)) + "|")
    rows = {round(0.05 * step, 2) for step in range(4, 20)} | {before}
    for threshold in sorted(rows | ({chosen} if chosen is not None else set())):
        at = result.at(threshold)
        figures = [at["precision"], *at["recall"].values()]
        mark = " (chosen)" if threshold == chosen else " (before)" if threshold == before else ""
        print(f"| {threshold:.2f}{mark} |" + "".join(f" {100 * rate:.1f} |" for rate in figures))
    print(f"\n{model}: " + ("no threshold" if chosen is None else f"threshold {chosen:.2f}"))


def write(file: Path, card: Card, measured: dict[str, Any]) -> None:
    """Put the threshold and what was measured into a model's card, in the place of the old."""
    others = [result for result in card.results if result.get("measure") != "threshold"]
    is_default = file == weights.find("default")
    card = replace(card, min_score=measured["threshold"], results=(*others, measured))
    relabel(file, card)
    print(f"written into {file.name} and {weights.describe(file, is_default).name}")


def command(model: str, options: argparse.Namespace) -> str:
    """The command that measures one model alone, without the place of the data."""
    parts = ["python", "benchmarks/thresholds.py", "--model", model, "--data", options.data.name]
    for name in ("precision", "hold_out", "test_protocol"):
        if (value := getattr(options, name)) != PARSER.get_default(name):
            parts += [f"--{name.replace('_', '-')}", str(value)]
    return shlex.join(parts)


PARSER = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
PARSER.add_argument("--model", nargs="+", required=True, help="models that ship, or .onnx files")
PARSER.add_argument("--data", type=Path, required=True, help="a completely labeled set")
PARSER.add_argument("--hold-out", type=float, default=0.1, help="the part that training held out")
PARSER.add_argument("--precision", type=float, default=0.97)
PARSER.add_argument("--test-protocol", help="another protocol than the card's; --write sets it")
PARSER.add_argument("--threads", type=int, default=1)
PARSER.add_argument("--write", action="store_true", help="put the threshold into the card")


def arguments() -> argparse.Namespace:
    options = PARSER.parse_args()
    if not 0 < options.precision <= 1:
        PARSER.error(f"--precision {options.precision} must lie in 0..1")
    return options


if __name__ == "__main__":
    sys.exit(main())
