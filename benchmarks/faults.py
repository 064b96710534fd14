"""Makes faults on purpose (bad files, kills, full disks, many images) and tells what went wrong.

python benchmarks/faults.py --bad 10000 --kills 200 --disks 40 --images 20000

What is set to 0 is left out. The exit code is 1 where anything went wrong.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import skimage.data
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from reference import faults, malformed
from reference.jobs import JOBS, LINES, materials

SHOWN = 20
"""How many faults of a kind are printed."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--bad", type=int, default=10_000, help="bad files")
    parser.add_argument("--kills", type=int, default=200, help="of all commands together")
    parser.add_argument("--disks", type=int, default=40, help="that are too small, likewise")
    parser.add_argument("--images", type=int, default=20_000, help="to watch memory over")
    parser.add_argument("--commands", nargs="+", choices=JOBS, default=list(JOBS))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.disks and not faults.can_mount():
        print("no small disk can be mounted here: full disks are left out")
        options.disks = 0
    bad, began = 0, time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        for title, report in parts(options, Path(folder)):
            found = list(dict.fromkeys(report.faults))
            told = [f"{name} {value}" for name, value in report.counts.items()]
            told += [f"{name} {value:.1f}" for name, value in report.figures.items()]
            print(f"{title}: {', '.join(told)}; {len(found)} faults, "
                  f"{time.monotonic() - began:.0f} s", flush=True)  # fmt: skip
            print(*(f"    {fault}" for fault in found[:SHOWN]), sep="\n", end="\n" * bool(found))
            bad, began = bad + len(found), time.monotonic()
    return int(bad > 0)


def parts(options: argparse.Namespace, root: Path) -> Iterator[tuple[str, faults.Report]]:
    """What is tried, and what came of it, one after the other."""
    face, seed = Image.fromarray(skimage.data.astronaut()[:260, 90:350]), options.seed
    if options.bad:
        found = malformed.album(root / "bad" / "images", face, options.bad, seed)
        for name in filter(LINES.get, options.commands):
            report = faults.account(name, root / "bad", found, root / "bad" / name)
            yield f"{name}, bad files", report
    materials(root / "given", face, images=60)
    for number, name in enumerate(options.commands):
        # So many in all, the first commands having one more where they cannot be shared out.
        kills, disks = (
            len(range(number, total, len(options.commands)))
            for total in (options.kills, options.disks)
        )
        if kills or disks:
            job, given, out = JOBS[name], root / "given", root / name
            whole = faults.unbroken(job, given, out / "whole")
            yield f"{name}, kills", faults.kill(job, given, whole, out / "killed", kills, seed)
            yield f"{name}, full disks", faults.fill(job, given, whole, out / "disks", disks, seed)
    if options.images:
        yield "detect, memory", faults.memory(root / "many", face, options.images, seed=seed)


if __name__ == "__main__":
    sys.exit(main())
