"""What int8 and bf16 cost models on this processor, into their cards.

    python benchmarks/precisions.py --model NAME --data WIDER_train [--precision bf16] [--write]

Prints AP in fp32 and in a lower precision on the images that training held out, as `facefind
quantize` measures it, by OpenVINO. `--write` adds that to the card of the int8 file, or of the
model for bf16, in the place of what was measured before by such a processor: some without VNNI give
other results than those that have it. `--without-vnni` has OpenVINO compute as on such a one: on a
processor with VNNI the AP of `scrfd-2.5g-kps` was then the same to all digits printed as on one
with AVX2 alone.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from facefind import datasets, weights
from facefind.export import relabel
from facefind.quantization import average_precision
from facefind.runtimes import Card
from facefind.runtimes.cpu import int8_arithmetic, processor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", nargs="+", required=True)
    parser.add_argument("--data", type=Path, required=True, help="a completely labeled set")
    parser.add_argument("--precision", choices=("int8", "bf16"), default="int8")
    parser.add_argument("--test-protocol", default="vga")
    parser.add_argument("--hold-out", type=float, default=0.1, help="the part training held out")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--without-vnni", action="store_true")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    kind = int8_arithmetic()
    if options.without_vnni:
        os.environ["ONEDNN_MAX_CPU_ISA"], kind = "AVX2", "avx2"
    print(f"{processor()}: {kind if options.precision == 'int8' else 'bf16'}")
    _, samples = datasets.read_sets([options.data], hold_out=options.hold_out)
    for model in options.model:
        plain = weights.find(model)
        file, _ = weights.choose(model, options.precision)
        card = Card.from_file(file)
        assert card is not None
        before, after = (
            average_precision(
                path, samples, options.test_protocol, "openvino", options.threads, precision
            )
            for path, precision in ((plain, "fp32"), (file, options.precision))
        )
        for name in before:
            print(f"{model}, {name}: {100 * before[name]:.2f}, {100 * after[name]:.2f}")
        if options.precision == "int8":  # what of it is quantized, and by which scales, stays
            measured = next(one for one in card.results if kind_of(one)[0] == "quantization")
            measured = {**measured, "arithmetic": kind}
        else:
            measured = {"measure": "bf16"}
        measured |= {
            "ap_fp32": before,
            f"ap_{options.precision}": after,
            "protocol": options.test_protocol,
            "images": len(samples),
            "digest": datasets.digest(samples),
            "runtime": "openvino",
            "command": f"python benchmarks/precisions.py --model {model} --data {options.data.name}"
            + " --precision bf16" * (options.precision == "bf16")
            + f" --test-protocol {options.test_protocol}" * (options.test_protocol != "vga")
            + " --without-vnni" * options.without_vnni,
        }
        if options.write:
            others = [one for one in card.results if kind_of(one) != kind_of(measured)]
            relabel(file, replace(card, results=(*others, measured)))
            default = file == weights.find("default")
            print(f"written into {file.name} and {weights.describe(file, default).name}")


def kind_of(result: Mapping[str, Any]) -> tuple[Any, Any]:
    """What was measured, and by which arithmetic where that is the processor's choice."""
    return result.get("measure"), result.get("arithmetic", "avx2")


if __name__ == "__main__":
    main()
