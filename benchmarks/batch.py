"""Measures batch jobs: the machinery alone under kills, and processes against one core.

python benchmarks/batch.py simulate --pictures 1000000 --workers 8 --restarts 10
python benchmarks/batch.py engine --pairs 5
python benchmarks/batch.py cost

simulate: pictures that are nowhere and a detector that costs nothing, done by workers of one
machine that are all killed at random moments, and one of them at another in between. Each picture
must have one line. engine: the shipped model on portraits, by one process and by two, in turns.
cost: seconds of a core that a picture takes in the network and in the machinery around it.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import resource
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "batch"))

import simulated

from facefind.batch import Done, Job, Worker, read_shard, run_local, status


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    actions = parser.add_subparsers(dest="action", required=True)
    simulate = actions.add_parser("simulate")
    simulate.add_argument("--pictures", type=int, default=1_000_000)
    simulate.add_argument("--workers", type=int, default=8)
    simulate.add_argument("--restarts", type=int, default=10)
    simulate.add_argument("--seed", type=int, default=0)
    simulate.add_argument("--format", default="parquet")
    engine = actions.add_parser("engine")
    engine.add_argument("--pairs", type=int, default=5)
    engine.add_argument("--workers", type=int, default=2)
    engine.add_argument("--pictures", type=int, default=200, help="of one process")
    cost = actions.add_parser("cost")
    cost.add_argument("--pictures", type=int, default=300)
    cost.add_argument("--model", default="default")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        return {"simulate": run_simulation, "engine": run_engine, "cost": run_cost}[options.action](
            options, Path(folder)
        )


def run_simulation(options: argparse.Namespace, folder: Path) -> int:
    """Kill all workers at random moments, and go on, until all is done; count the lines."""
    chance = random.Random(options.seed)
    job = Job.begin(folder / "job", {}, {}, format=options.format, lease=5.0)
    began = time.perf_counter()
    job.plan(simulated.units(options.pictures))
    shards = job.manifest()["shards"]
    planned = time.perf_counter() - began
    print(f"planned {shards} shards in {planned:.1f} s", flush=True)
    points = sorted(chance.sample(range(1, shards), options.restarts))
    worked, context = 0.0, multiprocessing.get_context("fork")
    for point in [*points, None]:
        process = context.Process(target=_engine, args=(job, options.workers))
        began = time.perf_counter()
        process.start()
        killed = False
        while process.is_alive():
            done = sum(1 for _ in job.store.names("results"))
            if point is not None and done >= point:
                os.killpg(process.pid or 0, signal.SIGKILL)
                break
            if not killed and chance.random() < 0.02:
                killed = _kill_one(process.pid or 0, chance)
            time.sleep(0.05)
        process.join()
        worked += time.perf_counter() - began
        how = "done" if point is None else "all killed"
        print(f"{how} at {len(job.done())} shards, one killed: {killed}", flush=True)
    lines: dict[str, int] = {}
    for shard in range(shards):
        for record in read_shard(job, shard):
            lines[record["image"]] = lines.get(record["image"], 0) + 1
    wrong = sum(lines.pop(unit.name, 0) != 1 for unit in simulated.units(options.pictures))
    wrong += len(lines)
    claims = sum(1 for _ in job.store.names("claims"))
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"{options.pictures} pictures, {wrong} without exactly one line")
    print(f"{options.restarts} restarts, {claims - shards} shards taken over")
    print(f"{options.pictures / worked:.0f} pictures a second with {options.workers} workers")
    print(f"{peak:.0f} MiB a process at most; all done: {status(job).is_done}")
    return int(wrong > 0)


def _engine(job: Job, workers: int) -> None:
    os.setpgid(0, 0)
    run_local(job, workers, make=simulated.worker)


def _kill_one(parent: int, chance: random.Random) -> bool:
    """Kill one of the workers, where they are there already."""
    try:
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    except OSError:
        return False
    if len(children) < 2:
        return False
    os.kill(int(chance.choice(children[1:])), signal.SIGKILL)
    return True


def run_engine(options: argparse.Namespace, folder: Path) -> int:
    """Throughput of several processes by that of one on a core of its own, in turns."""
    _portraits(folder / "photos", options.pictures * options.workers)
    ratios, costs = [], []
    for pair in range(options.pairs):
        one = _rate(folder / f"one{pair}", folder / "photos", 1, options.pictures)
        many = _rate(folder / f"many{pair}", folder / "photos", options.workers)
        ratios.append(many[0] / (options.workers * one[0]))
        costs.append(many[1] / one[1])
        print(f"one {one[0]:.1f}, {options.workers} processes {many[0]:.1f} pictures a second, "
              f"{ratios[-1]:.3f} of {options.workers} x one; {1e3 * one[1]:.1f} and "
              f"{1e3 * many[1]:.1f} ms of a core a picture", flush=True)  # fmt: skip
    print(f"median {statistics.median(ratios):.3f} of {options.workers} x one core's pictures a "
          f"second; {statistics.median(costs):.3f} x its time of a core a picture")  # fmt: skip
    return 0


def _rate(where: Path, photos: Path, workers: int, most: int | None = None) -> tuple[float, float]:
    """Pictures a second once all workers are warm, and seconds of a core a picture."""
    from facefind import FaceDetector, pipeline

    job = Job.begin(where, pipeline.detector_settings(FaceDetector()), {}, per_shard=10)
    job.plan(list(pipeline.list_units([str(photos)]))[:most])
    seen: list[tuple[float, float, int]] = []

    def watch(done: Done) -> None:
        if done.whole:
            seen.append((time.perf_counter(), done.stages["processor"], done.pictures))

    run_local(job, workers, watch, make=_timed)
    warm = seen[2 * workers : -2 * workers]
    pictures = sum(count for *_, count in warm[1:])
    return pictures / (warm[-1][0] - warm[0][0]), sum(cpu for _, cpu, _ in warm[1:]) / pictures


def _timed(job: Job, watch: Any, **more: Any) -> Worker:
    """A worker that reports the processor's time of each shard, too."""
    before = time.process_time()

    def timed(done: Done) -> None:
        nonlocal before
        if done.whole:
            done.stages["processor"] = time.process_time() - before
            before = time.process_time()
        watch(done)

    return Worker.of(job, timed, **more)


def run_cost(options: argparse.Namespace, folder: Path) -> int:
    """Seconds of a core a picture, waiting left out: network, all of it, the machinery alone."""
    from facefind import FaceDetector, pipeline

    _portraits(folder / "photos", options.pictures)
    inputs: list[Any] = []
    detector = FaceDetector(options.model, threads=1)
    network, detector.runtime = detector.runtime, _Noting(detector.runtime, inputs)
    detector.detect(folder / "photos" / "0.jpg")
    detector.runtime.noting = False

    def seconds(work: Any, times: int) -> float:
        began = time.process_time()
        for _ in range(times):
            work()
        return (time.process_time() - began) / options.pictures

    def through(units: Iterable[Any], detect: Any, where: str) -> float:
        job = Job.begin(folder / where, {}, {}, per_shard=100)
        job.plan(units)
        return seconds(lambda: list(Worker(job, detect).run()), 1)

    units = pipeline.list_units([str(folder / "photos")])
    alone = seconds(lambda: [network(x) for x in inputs], options.pictures)
    whole = through(units, partial(pipeline.detect_files, detector), "job")
    many = 20 * options.pictures
    machinery = through(simulated.units(many), simulated.detect, "plain") / 20
    print(
        f"network {1e3 * alone:.2f}, all of it {1e3 * whole:.2f} ms of a core a picture; "
        f"machinery {1e3 * machinery:.3f} ms, {machinery / alone:.1%} of the network"
    )
    return 0


class _Noting:
    """A runtime that notes what it is given, the first time."""

    def __init__(self, runtime: Any, inputs: list[Any]) -> None:
        self._runtime, self._inputs, self.noting = runtime, inputs, True

    def __call__(self, images: Any) -> Any:
        if self.noting:
            self._inputs.append(images)
        return self._runtime(images)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runtime, name)


def _portraits(folder: Path, count: int) -> None:
    import skimage.data
    from PIL import Image

    folder.mkdir()
    Image.fromarray(skimage.data.astronaut()).save(folder / "0.jpg", quality=95)
    for number in range(1, count):
        os.link(folder / "0.jpg", folder / f"{number}.jpg")


if __name__ == "__main__":
    raise SystemExit(main())
