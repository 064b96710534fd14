"""What int8 files of models lose on this processor, into their cards.

    python benchmarks/int8.py --model scrfd-2.5g-kps --data WIDER_train [--without-vnni] [--write]

Prints AP of the model and of its int8 file on the images that training held out, as `facefind
quantize` measures it. `--write` adds that to the card of the int8 file, in the place of what was
measured before by such a processor: some without VNNI give other results than those that have it.
`--without-vnni` has OpenVINO compute as on such a one: on a processor with VNNI the AP of
`scrfd-2.5g-kps` was then the same to all digits printed as on one with AVX2 alone.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path

from facefind import datasets, weights
from facefind.export import relabel
from facefind.quantization import average_precision
from facefind.runtimes import Card
from facefind.runtimes.cpu import int8_arithmetic, processor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", nargs="+", required=True, help="models that have an int8 file")
    parser.add_argument("--data", type=Path, required=True, help="a completely labeled set")
    parser.add_argument("--hold-out", type=float, default=0.1, help="the part training held out")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--without-vnni", action="store_true")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    kind = int8_arithmetic()
    if options.without_vnni:
        os.environ["ONEDNN_MAX_CPU_ISA"], kind = "AVX2", "avx2"
    print(f"{processor()}: {kind}")
    _, samples = datasets.read_sets([options.data], hold_out=options.hold_out)
    for model in options.model:
        file, _ = weights.choose(model, "int8")
        card = Card.from_file(file)
        assert card is not None
        first = next(one for one in card.results if one.get("measure") == "quantization")
        measured = first | {
            f"ap_{precision}": average_precision(
                path, samples, first["protocol"], "openvino", options.threads
            )
            for precision, path in (("fp32", weights.find(model)), ("int8", file))
        }
        measured |= {
            "images": len(samples),
            "digest": datasets.digest(samples),
            "runtime": "openvino",
            "arithmetic": kind,
            "command": f"python benchmarks/int8.py --model {model} --data {options.data.name}"
            + " --without-vnni" * options.without_vnni,
        }
        for name, before in measured["ap_fp32"].items():
            after = measured["ap_int8"][name]
            print(f"{file.stem}, {name}: {100 * before:.2f}, int8 {100 * after:.2f}")
        if options.write:
            others = [
                one
                for one in card.results
                if one.get("measure") != "quantization" or one.get("arithmetic", "avx2") != kind
            ]
            relabel(file, replace(card, results=(measured, *others)))
            print(f"written into {file.name} and {weights.describe(file).name}")


if __name__ == "__main__":
    main()
