"""Seconds from a cold start of Python to the faces of one picture, by precision.

    python benchmarks/first_face.py PICTURE --rounds 7

Each is a process of its own, in turns: fp32; int8 with nothing kept of what OpenVINO compiles; and
int8 once it is kept. Medians, and the fastest and slowest of each.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

CODE = "import sys, facefind; facefind.detect(sys.argv[1])"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("picture", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    taken: dict[str, list[float]] = {}
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory() as empty:
            for name, precision in (("fp32", "fp32"), ("int8, first", "int8"), ("int8", "int8")):
                variables = {"FACEFIND_PRECISION": precision, "FACEFIND_CACHE": empty}
                began = time.perf_counter()
                subprocess.run(
                    [sys.executable, "-c", CODE, str(options.picture)],
                    check=True,
                    env=os.environ | variables,
                )
                taken.setdefault(name, []).append(time.perf_counter() - began)
    for name, seconds in taken.items():
        print(f"{name}: {median(seconds):.2f} s ({min(seconds):.2f} to {max(seconds):.2f})")


if __name__ == "__main__":
    main()
