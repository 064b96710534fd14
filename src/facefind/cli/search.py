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
    from facefind.search.settings import Settings

__all__ = ["main"]


@dataclass(frozen=True, kw_only=True)
class _Search:
    """Search for the best SCRFD of a compute budget, in the paper's two steps.

    Step 1 draws backbones under a fixed neck and head, trains them briefly and finds where the
    best spend their computation; step 2 draws whole networks that follow it. Run the same command
    again to resume it after a kill, or at the same time elsewhere to share the work.
    """

    system: Annotated[Literal["scrfd"], tyro.conf.Positional]
    """What is searched."""
    data: Annotated[tuple[str, ...], tyro.conf.arg(metavar="SET ...")] = ()
    """Labeled sets to train on; a part of the first complete one is held out to measure on."""
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
    """Fraction of that set that is held out."""
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
    """auto, cpu, cuda, cuda:N or mps; by default the budget's."""
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
    plot: Folder = None
    """Folder for the figures; the study's own where not given."""
    json: Flag = False
    """Print the report as JSON."""
    report: File = None
    """Write the report to this file too; it is always in the study's folder."""


def main(args: Sequence[str]) -> int:
    """Exit code of `facefind search` with these arguments."""
    options = tyro.cli(_Search, args=list(args), prog="facefind search")
    if not options.data:
        raise DataError("no training images were given; name at least one set with --data")
    settings = _settings(options)
    name = f"search-{options.system}-{options.gflops:g}g-{options.budget}"
    folder = options.out or Path("runs") / name

    from facefind.search.report import draw, report
    from facefind.search.study import Study
    from facefind.search.workers import RayRunner, run_processes

    if options.ray is not None:
        runner = RayRunner(
            None if options.ray == "local" else options.ray,
            cpus=options.ray_cpus,
            gpus=options.ray_gpus,
        )
        try:
            study = Study(folder, settings)
            study.run(runner)
        finally:
            runner.close()
    else:
        study = run_processes(folder, settings, options.processes)
    found = report(study)
    try:
        draw(study, options.plot)
        figures = f"figures in {options.plot or folder}"
    except ModuleNotFoundError:
        if options.plot is not None:
            raise
        figures = "no figures without matplotlib: pip install 'facefind[search]'"
    output.emit(found, _text(found, folder, figures), as_json=options.json, out=options.report)
    return 0


def _settings(options: _Search) -> Settings:
    from dataclasses import replace

    from facefind.search.budgets import BUDGETS
    from facefind.search.redistribution import Redistribution
    from facefind.search.settings import Halving, Settings
    from facefind.search.space import goal

    budget = BUDGETS[options.budget]()
    trial = budget.trial
    size = trial.augment.size if options.size is None else options.size
    shrink = size / trial.augment.size
    trial = replace(
        trial,
        data=replace(
            trial.data,
            root=options.data,
            hold_out=options.hold_out,
            cache=None if options.cache is None else str(options.cache),
            **_given(workers=options.workers),
        ),
        augment=replace(
            trial.augment,
            size=size,
            crop_sides=tuple(side * shrink for side in trial.augment.crop_sides),
        ),
        schedule=replace(trial.schedule, **_given(epochs=options.epochs, batch=options.batch)),
        run=replace(
            trial.run,
            **_given(
                device=options.device,
                threads=options.threads,
                evaluate_images=options.evaluate_images,
            ),
        ),
    )
    aim = goal(
        options.gflops,
        options.space,
        block=options.block,
        neck=options.neck,
        head=options.head,
        head_depth=options.head_depth,
        tolerance=options.tolerance,
    )
    return Settings(
        candidates=Redistribution(goal=aim, space=options.space),
        models=budget.models if options.models is None else options.models,
        trial=trial,
        final=budget.final,
        subset=options.subset,
        halving=Halving(check=options.check) if options.halving else None,
        seed=options.seed,
    )


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _text(found: dict[str, Any], folder: Path, figures: str) -> str:
    rows = []
    for step in ("step1", "step2"):
        for part, where in found[step]["intervals"].items():
            if step == "step1" or part in ("backbone", "neck", "head"):
                span = f"{where['low']:.1%} to {where['high']:.1%}"
                rows.append((f"{step} {part}", f"{where['median']:.1%}", span))
    lines = [output.table(("share of the best", "median", "95 % interval"), rows, right=(1,)), ""]
    for step in ("step1", "step2"):
        result = found[step]
        best = result["best"]
        lines.append(
            f"{step}: {result['networks']} networks, {result['failed']} failed, "
            f"{result['distinct_scores']} different scores, {result['seconds'] / 60:.1f} minutes "
            f"of training; the best has AP {best['score']:.4f} ({found['subset']}, "
            f"{found['protocol']}, {found['data']['images_measured']} held-out images)"
        )
        for rung, of in result["agreement"].items():
            checks = of["checks"]
            if checks["kendall"] is not None:
                lines.append(
                    f"  order after {rung} and after all, {checks['networks']} at random: "
                    f"Spearman {checks['spearman']:.2f}, Kendall {checks['kendall']:.2f}"
                )
    lines.append(f"{folder}/found.py: facefind train {folder}/found.py:found trains it in full")
    lines.append(figures)
    return "\n".join(lines)
