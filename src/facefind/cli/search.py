"""`facefind search`: searches of networks, each from a system and images to a recipe."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from facefind.cli import output
from facefind.cli.options import File, Flag, Folder, Number, Text, Whole
from facefind.cli.subcommands import choose
from facefind.errors import DataError

if TYPE_CHECKING:
    from facefind.learn.recipe import Recipe
    from facefind.search.settings import Settings

__all__ = ["main"]


@dataclass(frozen=True, kw_only=True)
class _Search(ABC):
    """Options of every search."""

    data: Annotated[tuple[str, ...], tyro.conf.arg(metavar="SET ...")] = ()
    """Labeled sets to train on; a part of the first complete one is held out to measure on."""
    out: Folder = None
    """Folder of the study; by default runs/search-... by system and budget."""
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
    """Folder for the figures; the study's own if not given."""
    json: Flag = False
    """Print the report as JSON."""
    report: File = None
    """Write the report to this file too; it is always in the study's folder."""

    @property
    @abstractmethod
    def default_folder(self) -> str:
        """Name of the study's folder below `runs`."""

    @abstractmethod
    def settings(self) -> Settings:
        """The study that the options ask for."""

    @abstractmethod
    def text(self, found: dict[str, Any]) -> list[str]:
        """Lines of text for a report."""

    def trial(self, base: Recipe) -> Recipe:
        """A budget's training with what the options change in it."""
        return replace(
            base,
            data=replace(
                base.data,
                root=self.data,
                hold_out=self.hold_out,
                cache=None if self.cache is None else str(self.cache),
                **_given(workers=self.workers),
            ),
            augment=base.augment.at(self.size or base.augment.size),
            schedule=replace(base.schedule, **_given(epochs=self.epochs, batch=self.batch)),
            run=replace(
                base.run,
                **_given(
                    device=self.device,
                    threads=self.threads,
                    evaluate_images=self.evaluate_images,
                ),
            ),
        )


@dataclass(frozen=True, kw_only=True)
class _SCRFD(_Search):
    """Search for the best SCRFD of a compute budget, in the paper's two steps or in one of them.

    Step 1 draws backbones under a fixed neck and head, trains them briefly and finds where the
    best spend their computation; step 2 draws whole networks that follow it. Run the same command
    again to resume it after a kill, or at the same time elsewhere to share the work.
    """

    gflops: float = 2.5
    """Billions of multiply-adds at 640x480 that every network has."""
    budget: Literal["paper", "small"] = "small"
    """paper: 320 networks a step, 80 epochs each. small: 16 networks, 2 epochs of small windows."""
    space: Literal["paper", "released"] = "paper"
    """Ranges and rules of the draw: those of the text, or those of the authors' script."""
    scope: Literal["two-step", "backbone", "detector"] = "two-step"
    """Both steps; the first alone; or whole networks at once, with any backbone (CR@two-step,
    CR@backbone and CR@detector of the paper's table 3)."""
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
    """Convolutions of the head in step 1; 2 if not given."""
    tolerance: float = 0.02
    """How far from --gflops a network may lie, as a fraction."""
    models: Whole = None
    """Networks a step, in place of the budget's."""
    halving: Flag = False
    """Successive halving: all train a ninth as long, the best third of them a third, ..."""
    check: int = 8
    """With --halving: networks trained in full whatever their first score, to check the order."""

    @property
    def default_folder(self) -> str:
        scope = "" if self.scope == "two-step" else f"-{self.scope}"
        return f"search-scrfd-{self.gflops:g}g-{self.budget}{scope}"

    def settings(self) -> Settings:
        from facefind.search.budgets import BUDGETS
        from facefind.search.redistribution import Redistribution
        from facefind.search.settings import Halving, Settings
        from facefind.search.space import goal

        budget = BUDGETS[self.budget]()
        aim = goal(
            self.gflops,
            self.space,
            block=self.block,
            neck=self.neck,
            head=self.head,
            head_depth=self.head_depth,
            tolerance=self.tolerance,
        )
        return Settings(
            candidates=Redistribution(goal=aim, space=self.space, scope=self.scope),
            models=budget.models if self.models is None else self.models,
            trial=self.trial(budget.trial),
            final=budget.final,
            subset=self.subset,
            halving=Halving(check=self.check) if self.halving else None,
            seed=self.seed,
        )

    def text(self, found: dict[str, Any]) -> list[str]:
        rows = []
        steps = [step for step in ("step1", "step2") if step in found]
        for step in steps:
            for part, where in found[step]["intervals"].items():
                if step == "step1" or part in ("backbone", "neck", "head"):
                    span = f"{where['low']:.1%} to {where['high']:.1%}"
                    rows.append((f"{step} {part}", f"{where['median']:.1%}", span))
        lines = [
            output.table(("share of the best", "median", "95 % interval"), rows, right=(1,)),
            "",
        ]
        for step in steps:
            result = found[step]
            best = result["best"]
            lines.append(
                f"{step}: {result['networks']} networks, {result['failed']} failed, "
                f"{result['distinct_scores']} different scores, {result['seconds'] / 60:.1f} "
                f"minutes of training; the best has AP {best['score']:.4f} ({found['subset']}, "
                f"{found['protocol']}, {found['data']['images_measured']} held-out images)"
            )
            for rung, of in result["agreement"].items():
                checks = of["checks"]
                if checks["kendall"] is not None:
                    lines.append(
                        f"  order after {rung} and after all, {checks['networks']} at random: "
                        f"Spearman {checks['spearman']:.2f}, Kendall {checks['kendall']:.2f}"
                    )
        return lines


@dataclass(frozen=True, kw_only=True)
class _ASFD(_Search):
    """Search ASFD's feature modules: a pyramid, then contexts on top of it.

    Of each a network that holds all candidates is trained once; its weights learn from one half of
    the images, what is chosen from the other. What is found is a recipe. Run the same command again
    to resume it after a kill.
    """

    budget: Literal["paper", "small"] = "small"
    """paper: around ResNet-50, 50 epochs at 640 pixels. small: D0, 24 epochs of small windows."""
    mode: Literal["sampled", "pc-darts", "darts"] = "sampled"
    """What is computed at a time: one path a node, as in the paper; all of them, on a quarter of
    the channels or on all."""
    nodes: int = 6
    """Nodes of a context's cell."""
    concat: Literal["leaf", "all"] = "leaf"
    """Which of them are joined: those that no other takes, or all."""
    begin: float = 0.4
    """Fraction of the epochs after which choices begin to learn."""
    pyramid: Text = None
    """A pyramid that stays, by name (autofem, fem, ...) or a genotype's file; only contexts are
    searched then."""
    init_from: Annotated[str | None, tyro.conf.arg(metavar="MODEL|RUN|FILE")] = None
    """Weights that each search begins with, and the recipe that is found: those of the backbone, as
    of torchvision for ImageNet, or of a whole network; by default the budget's."""

    @property
    def default_folder(self) -> str:
        return f"search-asfd-{self.budget}"

    def settings(self) -> Settings:
        from facefind.nn.genotypes import PyramidGenotype, inline
        from facefind.search.autofem import AutoFEM
        from facefind.search.bilevel import Method
        from facefind.search.budgets import AUTOFEM_BUDGETS
        from facefind.search.settings import Settings

        budget = AUTOFEM_BUDGETS[self.budget]()
        method = Method(mode=self.mode, nodes=self.nodes, concat=self.concat, begin=self.begin)
        return Settings(
            candidates=AutoFEM(method=method, pyramid=inline(self.pyramid or "", PyramidGenotype)),
            models=budget.models,
            trial=self._begun(self.trial(budget.trial)),
            final=self._begun(budget.final),
            subset=self.subset,
            seed=self.seed,
        )

    def _begun(self, recipe: Recipe) -> Recipe:
        run = replace(recipe.run, **_given(init_from=self.init_from))
        return replace(recipe, run=run)

    def text(self, found: dict[str, Any]) -> list[str]:
        rows, lines = [], []
        for step, role, name in ((1, "pyramid", "nodes"), (2, "context", "levels")):
            if role not in found:
                continue
            for level, edges in enumerate(found[role]["genotype"][name]):
                shown = ", ".join(f"{operation} of {source}" for operation, source in edges)
                rows.append((f"{role} {level}", shown))
            lines.append(
                f"step{step}: {role} searched in {found[f'step{step}']['seconds'] / 60:.1f} "
                f"minutes; entropy of its choices {found[role]['entropy']:.3f} of 1"
            )
        return [output.table(("level", "operations and what they are given"), rows), "", *lines]


SYSTEMS: dict[str, tuple[type[_Search], str]] = {
    "scrfd": (_SCRFD, "the depths and widths of an SCRFD of a compute budget"),
    "asfd": (_ASFD, "ASFD's feature modules, by a differentiable search"),
}
"""The searches that there are: their options, and what they look for."""


def main(args: Sequence[str]) -> int:
    """Exit code of `facefind search` with these arguments."""
    names = {system: text for system, (_, text) in SYSTEMS.items()}
    name, rest = choose(args, "facefind search", "Search for networks.", "system", names)
    if name is None:
        return 0
    options = tyro.cli(SYSTEMS[name][0], args=rest, prog=f"facefind search {name}")
    if not options.data:
        raise DataError("no training images were given; name at least one set with --data")
    settings = options.settings()
    folder = options.out or Path("runs") / options.default_folder

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
    lines = options.text(found)
    lines.append(f"{folder}/found.py: facefind train {folder}/found.py:found trains it in full")
    text = "\n".join([*lines, figures])
    output.emit(found, text, as_json=options.json, out=options.report)
    return 0


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
