"""Faults made on purpose, the same for the same seed: bad files, kills, full disks, many images.

Each function gives a `Report` of what was done and what went wrong; tests call them with small
numbers, `benchmarks/faults.py` with large ones. Commands run in processes of their own.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from reference.jobs import JOBS, LINES, Job
from reference.malformed import Album

LIMIT = 300
"""Seconds after which a command is taken to hang, which has few images to work on."""
LIBTIFF = re.compile(r"(tempfile\.tif|(TIFF|LZW|ZIP|Fax|Packbits|JPEG)\w*): ", re.IGNORECASE)
"""How lines begin that libtiff itself puts on stderr."""
OBEYING = (
    ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"]
    if os.geteuid() == 0 and shutil.which("setpriv")
    else []
)
"""What makes root's commands obey the modes of files, as everybody's do."""


@dataclass
class Report:
    """How often what was done, figures, and what went wrong: nothing where all is well."""

    counts: Counter[str] = field(default_factory=Counter)
    figures: dict[str, float] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def expect(self, fine: object, fault: str) -> None:
        """Note a fault where what was expected is not so."""
        if not fine:
            self.faults.append(fault)

    def run(self, args: Sequence[str], codes: set[int], **options: Any) -> Ended:
        """Run a command, and check its exit code and that it shows no traceback."""
        ended = run(args, **options)
        fine = ended.code in codes and "Traceback" not in ended.stderr
        self.expect(fine, f"{args[0]}: exit code {ended.code}, not {codes}: {ended.stderr[-600:]}")
        return ended

    def records(self, path: Path, *, cut: bool = False) -> list[dict[str, Any]]:
        """The records of a file of JSON lines, none of them torn but the last where it was cut."""
        *lines, rest = path.read_bytes().split(b"\n") if path.exists() else [b""]
        self.expect(cut or not rest, f"{path} ends in a torn line: {rest[:80]!r}")
        found = []
        for line in lines:
            try:
                found.append(json.loads(line))
            except ValueError:
                self.expect(False, f"{path} has a torn line: {line[:80]!r}")
        return found


class Ended(NamedTuple):
    """A command that has ended: its exit code, or the signal's number, negative; None: it hung."""

    code: int | None
    stdout: str
    stderr: str
    seconds: float


def run(
    args: Sequence[str],
    *,
    prefix: Sequence[str] = (),
    kill: tuple[float, signal.Signals] | None = None,
    limit: float = LIMIT,
) -> Ended:
    """Run `facefind` with these arguments; `kill` has the seconds after which it gets a signal."""
    began, code = time.monotonic(), None
    command = [*prefix, sys.executable, "-m", "facefind", *args]
    options: Any = {"stdin": subprocess.DEVNULL, "env": os.environ | {"OMP_NUM_THREADS": "1"}}
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
        with subprocess.Popen(command, stdout=out, stderr=errors, **options) as process:
            for seconds, end in (*filter(None, [kill]), (limit, signal.SIGKILL)):
                try:
                    code = process.wait(seconds)
                    break
                except subprocess.TimeoutExpired:
                    process.send_signal(end)
        texts = [os.pread(f.fileno(), 1 << 30, 0).decode(errors="replace") for f in (out, errors)]
    return Ended(code, *texts, time.monotonic() - began)


def account(command: str, given: Path, found: Album, out: Path) -> Report:
    """Run `detect` or `align` on an album, then resume: everything is accounted for once."""
    report, due, printed = Report(), found.good | found.bad, list[Any]()
    locked = given / "images" / "locked"
    locked.mkdir(mode=0, exist_ok=True)
    if OBEYING or os.geteuid():
        due.add(f"{locked}/")
    for resume in (False, True):
        args = JOBS[command].args(given, out, resume=resume)
        ended = report.run(args, {1}, prefix=OBEYING, limit=LIMIT + len(due) / 4)
        done, failed = (report.records(out / name) for name in (LINES[command], "failures.jsonl"))
        named = Counter(record["image"] for record in (*done, *failed))
        for name in due | named.keys():
            report.expect(named[name] == (name in due), f"{name!r} is there {named[name]} times")
        faces = {record["image"]: record.get("boxes", record.get("crops")) for record in done}
        for name in found.good:
            report.expect(faces.get(name), f"no face in {name!r}, which shows one")
        for line in ended.stderr.split("\n")[:-2]:  # the last one counts
            fine = line.startswith(f"facefind {command}: ") or LIBTIFF.match(line)
            report.expect(fine, f"{line!r} on stderr")
        printed += map(json.loads, ended.stdout.split("\n")[:-1])
    report.expect(printed == done, f"{len(printed)} lines were printed, {len(done)} kept")
    report.counts.update(good=len(found.good), done=len(done), failed=len(failed))
    return report


class Unbroken(NamedTuple):
    """A job that nothing stopped: its result, seconds, those until its first file, and bytes."""

    result: Any
    seconds: float
    first: float
    size: int


def unbroken(job: Job, given: Path, out: Path) -> Unbroken:
    """Run a job in a new folder."""
    began, report = time.time(), Report()
    seconds = report.run(job.args(given, out), {job.code}).seconds
    assert not report.faults, report.faults
    files = [path.stat() for path in out.rglob("*") if path.is_file()]
    first = min(file.st_mtime for file in files) - began
    return Unbroken(job.result(out), seconds, first, sum(file.st_size for file in files))


def kill(job: Job, given: Path, whole: Unbroken, out: Path, kills: int, seed: int = 0) -> Report:
    """Kill a job so often in all, resume it each time; the result must be that of an unbroken."""
    report, rng, resume, hard = Report(), random.Random(seed), False, False
    codes = {signal.SIGKILL: {-9}, signal.SIGTERM: {-15, 143}}  # -15: before it began or at its end
    while report.counts["kills"] < kills or resume:
        end = rng.choice(list(codes))
        at = rng.uniform(0 if rng.random() < 0.1 else 0.9 * whole.first, whole.seconds)
        more = report.counts["kills"] < kills
        args = job.args(given, out, resume=resume)
        ended = report.run(args, {job.code, *codes[end]}, kill=(at, end) if more else None)
        if ended.code in codes[end]:
            report.counts.update(["kills", f"{end.name}, exit code {ended.code}"])
            resume, hard = True, hard or end == signal.SIGKILL
            for path in out.rglob("*.jsonl"):
                report.records(path, cut=end == signal.SIGKILL)
            continue
        drafts = list(out.rglob(".*.tmp"))
        report.counts["drafts left"] += len(drafts)
        report.expect(hard or not drafts, f"drafts are left: {drafts}")
        for draft in drafts:
            draft.unlink()
        _compare(report, job, out, whole, "killed and resumed")
        resume = hard = False
    return report


def _compare(report: Report, job: Job, out: Path, whole: Unbroken, what: str) -> None:
    """See that what was stopped and resumed is as unbroken, and remove it."""
    report.counts["resumed"] += 1
    try:
        report.expect(job.result(out) == whole.result, f"{what}: not as unbroken")
    except (OSError, ValueError, KeyError) as error:
        report.expect(False, f"{what}: no result: {error}")
    shutil.rmtree(out, ignore_errors=True)


_ON_DISK = """
disk=$1 size=$2 kept=$3; shift 3
mount -t tmpfs -o size=$size tmpfs "$disk" || exit 99
"$@"; code=$?; cp -a "$disk"/. "$kept"; exit $code
"""


def can_mount() -> bool:
    """Whether this process may mount a small disk, in a name space of its own."""
    if shutil.which("unshare") is None:
        return False
    mount = ["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return subprocess.run(mount, capture_output=True).returncode == 0


def fill(job: Job, given: Path, whole: Unbroken, out: Path, disks: int, seed: int = 0) -> Report:
    """Run a job on so many disks that are too small, and resume it where there is room."""
    report, rng = Report(Counter(disks=disks)), random.Random(seed)
    for number in range(disks):
        disk, kept = out / f"disk-{number}", out / f"{number}"
        disk.mkdir(parents=True)
        kept.mkdir()
        size = str(rng.randint(1, whole.size * 9 // 10))
        prefix = ["unshare", "-rm", "sh", "-c", _ON_DISK, "sh", str(disk), size, str(kept)]
        ended = report.run(job.args(given, disk), {job.code, 2}, prefix=prefix)
        report.counts[f"exit code {ended.code}"] += 1
        told = "o space left" in ended.stderr.strip().split("\n")[-1]
        report.expect(told == (ended.code == 2), f"disk of {size} bytes: {ended.stderr[-300:]}")
        for path in kept.rglob("*.jsonl"):
            report.records(path, cut=True)
        report.run(job.args(given, kept, resume=True), {job.code})
        _compare(report, job, kept, whole, f"resumed after a disk of {size} bytes")
    return report


def memory(
    folder: Path,
    face: Image.Image,
    images: int,
    longest: int = 4000,
    seed: int = 0,
    most: float = 1.0,
) -> Report:
    """Watch the resident memory of `detect` over so many images of mixed sizes: it must not grow.

    Sides are 50 pixels to `longest`, which one image in 33 has. Figures: the memory at the first
    line and the highest, in MiB; the slope over the last three quarters of the lines, in KiB per
    1,000 images, and its standard error. Three of these, and `most` KiB an image, are no growth: in
    few images that is what each new size still takes, which an image that is kept exceeds by far.
    """
    report, rng = Report(Counter(images=images)), np.random.default_rng(seed)
    sides = np.exp(rng.uniform(np.log(50), np.log(0.6 * longest), (32, 2))).astype(int).tolist()
    sides.append([longest, longest * 3 // 4])
    (folder / "images").mkdir(parents=True)
    for number, side in enumerate(sides):
        face.resize(side).save(folder / f"{number}.jpg", quality=85)
    for number, which in enumerate(rng.integers(0, len(sides), images)):
        os.link(folder / f"{which}.jpg", folder / "images" / f"{number}.jpg")
    out, samples = folder / "faces.jsonl", []
    command = [sys.executable, "-m", "facefind", *JOBS["detect"].args(folder, folder)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            time.sleep(0.02)
            done = out.read_bytes().count(b"\n") if out.exists() else 0
            pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
            if done and pages:  # there are none once it has ended
                samples.append((done, pages * os.sysconf("SC_PAGE_SIZE") / 1024))
    report.expect(process.returncode == 0, f"detect: exit code {process.returncode}")
    report.expect(len(report.records(out)) == images, f"{out} has not {images} lines")
    lines, resident = np.array(samples).T
    edges = np.linspace(images / 4, images + 1, 13)
    parts = [(lines >= low) & (lines < high) for low, high in pairwise(edges)]
    points = [(lines[part].mean(), np.median(resident[part])) for part in parts if part.any()]
    (slope, _), covariance = np.polyfit(*np.transpose(points), 1, cov=True)
    slope, error = 1000 * float(slope), 1000 * float(covariance[0, 0] ** 0.5)
    report.expect(slope - 3 * error < 1000 * most, f"it grows by {slope:.0f} KiB per 1,000 images")
    report.figures = {
        "MiB at the first line": float(resident[0]) / 1024,
        "MiB at most": float(resident.max()) / 1024,
        "KiB per 1,000 images": slope,
        "standard error": error,
    }
    return report
