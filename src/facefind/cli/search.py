"""`facefind search`: computation redistribution, from drawn networks to a recipe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from facefind.cli import output
from facefind.cli.options import File, Flag, Folder, Number, Text, Whole
from facefind.errors import DataError

if TYPE_CHECKING:
    from facefind.search.study import Settings

__all__ = ["main"]


@dataclass(frozen=True, kw_only=True)
class _Search:
    """Search for the best SCRFD of a compute budget, in the paper's two steps.

    Step 1 draws backbones under a fixed neck and head, trains them briefly and finds where the
    best spend their computation; step 2 draws whole networks that follow it. Run the same command
    again to go on after a kill, or at the same time elsewhere to share the work.
    """

    system: Annotated[Literal["scrfd"], tyro.conf.Positional]
    """What is searched."""
    data: Annotated[tuple[str, ...], tyro.conf.arg(metavar="PATH")] = ()
    """Training sets; a part of the first is held out, and networks are measured on it."""
    gflops: float = 2.5
    """Billions of multiply-adds at 640x480 that every network has."""
    out: Folder = None
    """Folder of the study; by default runs/search-scrfd-<gflops>g-<budget>."""
    budget: Literal["paper", "small"] = "small"
    """paper: 320 networks a step, 80 epochs each. small: 16 networks, 2 epochs of small windows."""
    space: Literal["paper", "released"] = "paper"
    """Ranges and rules of the draw: those of the text, or those of the authors' script."""
    block: Annotated[
        Literal["depthwise", "basic", "bottleneck", "either"] | None,
        tyro.conf.arg(help_behavior_hint=""),
    ] = None
    """Block of the backbone; by default the one published for the nearest size."""
    neck: Whole = None
    """Channels of the neck in step 1; by default as published for the nearest size."""
    head: Whole = None
    """Channels of the head in step 1; likewise."""
    head_depth: Whole = None
    """Convolutions of the head in step 1; 2 where not given."""
    tolerance: float = 0.02
    """How far from --gflops a network may lie, as a fraction."""
    models: Whole = None
    """Networks a step, in place of the budget's."""
    epochs: Number = None
    """Epochs of a full training, in place of the budget's."""
    size: Whole = None
    """Side of the training window, in place of the budget's; crops shrink with it."""
    batch: Whole = None
    """Images a step, in place of the budget's."""
    evaluate_images: Whole = None
    """Held-out images that a network is measured on, in place of the budget's; 0: all."""
    hold_out: float = 0.1
    """Fraction of the first set that is held out."""
    subset: str = "height>=9"
    """The AP that counts: of faces of 34, 16 or 9 pixels and more (height>=34, ...)."""
    halving: Flag = False
    """Successive halving: all train a ninth as long, the best third of them a third, ..."""
    check: int = 8
    """With --halving: networks trained in full whatever their first score, to check the order."""
    seed: int = 0
    """Of the draws and the trainings."""
    processes: int = 1
    """Processes of this machine that work on the study."""
    threads: Whole = None
    """Torch's CPU threads of each; by default the budget's."""
    device: Text = None
    """cpu, cuda, cuda:N or auto; by default the budget's."""
    workers: Whole = None
    """Processes that load images for each training; by default the budget's."""
    cache: Folder = None
    """Folder for decoded images, which all trainings share."""
    ray: Text = None
    """Do the trainings on a Ray cluster: its address, auto for what runs here, local to start."""
    ray_cpus: float = 1
    """With --ray: CPU cores of a training."""
    ray_gpus: float = 0
    """With --ray: GPUs of a training; a fraction shares one."""
    json: Flag = False
    """Print the report as JSON."""
    report: File = None
    """Write the report to this file too; it is always in the study's folder."""


def main(args: Sequence[str]) -> int:
    """Exit code of `facefind search` with these arguments."""
    asked = tyro.cli(_Search, args=list(args), prog="facefind search")
    if not asked.data:
        raise DataError("no training images were given; name at least one set with --data")
    settings = _settings(asked)
    name = f"search-{asked.system}-{asked.gflops:g}g-{asked.budget}"
    folder = asked.out or Path("runs") / name

    from facefind.search.report import draw, report
    from facefind.search.study import Study
    from facefind.search.workers import RayRunner, run_processes

    if asked.ray is not None:
        runner = RayRunner(
            None if asked.ray == "local" else asked.ray, cpus=asked.ray_cpus, gpus=asked.ray_gpus
        )
        try:
            study = Study(folder, settings)
            study.run(runner)
        finally:
            runner.close()
    else:
        study = run_processes(folder, settings, asked.processes)
    found = report(study)
    try:
        draw(study)
        pictures = f"pictures in {folder}"
    except ModuleNotFoundError:
        pictures = "no pictures without matplotlib: pip install 'facefind[search]'"
    output.emit(found, _text(found, folder, pictures), as_json=asked.json, out=asked.report)
    return 0


def _settings(asked: _Search) -> Settings:
    from dataclasses import replace

    from facefind.search.budgets import BUDGETS
    from facefind.search.space import goal
    from facefind.search.study import Halving, Settings

    budget = BUDGETS[asked.budget]()
    trial = budget.trial
    size = trial.augment.size if asked.size is None else asked.size
    shrink = size / trial.augment.size
    trial = replace(
        trial,
        data=replace(
            trial.data,
            root=asked.data,
            hold_out=asked.hold_out,
            cache=asked.cache,
            **_given(workers=asked.workers),
        ),
        augment=replace(
            trial.augment,
            size=size,
            crop_sides=tuple(side * shrink for side in trial.augment.crop_sides),
        ),
        schedule=replace(trial.schedule, **_given(epochs=asked.epochs, batch=asked.batch)),
        run=replace(
            trial.run,
            **_given(
                device=asked.device, threads=asked.threads, evaluate_images=asked.evaluate_images
            ),
        ),
    )
    aim = goal(
        asked.gflops,
        asked.space,
        block=asked.block,
        neck=asked.neck,
        head=asked.head,
        head_depth=asked.head_depth,
        tolerance=asked.tolerance,
    )
    return Settings(
        goal=aim,
        space=asked.space,
        models=budget.models if asked.models is None else asked.models,
        trial=trial,
        final=budget.final,
        subset=asked.subset,
        halving=Halving(check=asked.check) if asked.halving else None,
        seed=asked.seed,
    )


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _text(found: dict[str, Any], folder: Path, pictures: str) -> str:
    rows = []
    for step in ("step1", "step2"):
        for part, where in found[step]["intervals"].items():
            if step == "step1" or part in ("backbone", "neck", "head"):
                span = f"{where['low']:.1%} to {where['high']:.1%}"
                rows.append((f"{step} {part}", f"{where['median']:.1%}", span))
    lines = [output.table(("share of the best", "median", "95 % interval"), rows, right=(1,)), ""]
    for step in ("step1", "step2"):
        told = found[step]
        best = told["best"]
        lines.append(
            f"{step}: {told['networks']} networks, {told['failed']} failed, "
            f"{told['distinct_scores']} different scores, {told['seconds'] / 60:.1f} minutes of "
            f"training; the best has AP {best['score']:.4f} ({found['subset']}, "
            f"{found['protocol']}, {found['data']['images_measured']} held-out images)"
        )
        for rung, of in told["agreement"].items():
            checks = of["checks"]
            if checks["kendall"] is not None:
                lines.append(
                    f"  order after {rung} and after all, {checks['networks']} at random: "
                    f"Spearman {checks['spearman']:.2f}, Kendall {checks['kendall']:.2f}"
                )
    lines.append(f"{folder}/found.py: facefind train {folder}/found.py:found trains it in full")
    lines.append(pictures)
    return "\n".join(lines)
