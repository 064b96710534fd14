"""ASFD's search: two halves in turn, resumed as if never stopped, and a recipe at the end."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from reference.processes import run_until

from facefind import datasets, files, recipes
from facefind.errors import DataError
from facefind.learn import checkpoints
from facefind.learn.recipe import Recipe
from facefind.learn.state import TrainingError
from facefind.nn import genotypes
from facefind.nn.genotypes import ContextGenotype, PyramidGenotype
from facefind.search.autofem import AutoFEM, course, random_context, random_pyramid
from facefind.search.bilevel import Method, Search, halves
from facefind.search.report import draw, report
from facefind.search.settings import Settings
from facefind.search.study import Study
from facefind.search.supernet import Role
from facefind.search.trial import train_candidate

METHOD = Method(nodes=2, begin=0.5)


def run_study(folder: Path, settings: Settings) -> None:
    Study(folder, settings).run()


def at(recipe: Recipe, folder: Path, **run: Any) -> Recipe:
    return dataclasses.replace(recipe, run=dataclasses.replace(recipe.run, out=folder, **run))


def architecture(search: Search) -> dict[str, torch.Tensor]:
    return {
        f"{name}, {part}": parameter.detach().clone()
        for name, choice in search.supernet.choices.items()
        for part, parameter in choice.named_parameters()
    }


def weights(search: Search) -> dict[str, torch.Tensor]:
    own = {id(parameter) for parameter in search.supernet.parameters()}
    named = search.supernet.network.named_parameters()
    return {name: p.detach().clone() for name, p in named if id(p) not in own}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_halves_share_no_image_and_leave_none_out(squares: Path) -> None:
    samples = datasets.read(squares)
    first, second = halves(samples, 0)
    assert (len(first), len(second)) == (6, 6)
    assert {s.name for s in first} | {s.name for s in second} == {s.name for s in samples}
    assert [s.name for s in first] == [s.name for s in halves(samples, 0)[0]]
    assert [s.name for s in first] != [s.name for s in halves(samples, 1)[0]]
    with pytest.raises(DataError, match="got 1"):
        halves(samples[:1], 0)


@pytest.mark.slow
@pytest.mark.parametrize("role", ["pyramid", "context"])
def test_a_stopped_search_ends_as_one_that_was_not(
    searched: Recipe, tmp_path: Path, role: Role
) -> None:
    whole = Search(at(searched, tmp_path / "whole"), role, METHOD)
    assert (whole.steps, whole.begin) == (6, 3)
    whole.run()
    for stop in (2, 4, 6):  # before the architecture begins to learn, and after
        parts = Search(at(searched, tmp_path / "parts"), role, METHOD)
        parts.run(stop_at=stop)
    again = Search(at(searched, tmp_path / "parts"), role, METHOD)
    assert again.step == 6
    assert same(architecture(again), architecture(whole))
    assert same(weights(again), weights(whole))
    assert again.result()["genotype"] == whole.result()["genotype"]
    with pytest.raises(TrainingError, match="nodes': 4"):
        Search(at(searched, tmp_path / "parts"), role, dataclasses.replace(METHOD, nodes=4))


@pytest.mark.slow
def test_each_half_teaches_its_own_parameters_alone(searched: Recipe, tmp_path: Path) -> None:
    still = dataclasses.replace(searched, optim=dataclasses.replace(searched.optim, lr=0.0))
    search = Search(at(still, tmp_path / "a"), "pyramid", METHOD)
    before = architecture(search), weights(search)
    search.run(stop_at=3)
    assert same(architecture(search), before[0])  # it has not begun
    search.run()
    assert not same(architecture(search), before[0])
    assert same(weights(search), before[1])  # for their rate is 0
    moved = {n for n, value in architecture(search).items() if not value.equal(before[0][n])}
    assert all(name.endswith("operations") for name in moved)  # one edge: nothing to choose

    search = Search(
        at(searched, tmp_path / "b"), "pyramid", dataclasses.replace(METHOD, lr=0.0, begin=0.0)
    )
    before = architecture(search), weights(search)
    search.run(stop_at=2)
    assert same(architecture(search), before[0])
    assert not same(weights(search), before[1])


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["pc-darts", "darts"])
def test_mixtures_are_searched_too(searched: Recipe, tmp_path: Path, mode: Any) -> None:
    method = dataclasses.replace(METHOD, mode=mode, begin=0.0)
    search = Search(at(searched, tmp_path), "context", method)
    before = architecture(search)
    search.run(stop_at=1)
    after = architecture(search)
    assert not any(torch.equal(before[name], after[name]) for name in before if "node 2" in name)


def test_what_a_search_cannot_do_is_an_error(searched: Recipe, tmp_path: Path) -> None:
    averaged = dataclasses.replace(searched, optim=dataclasses.replace(searched.optim, ema=0.9))
    with pytest.raises(DataError, match=r"optim\.ema"):
        Search(at(averaged, tmp_path), "pyramid", METHOD)
    with pytest.raises(DataError, match="got 1"):
        Search(at(searched, tmp_path), "pyramid", Method(begin=1.0))
    assert not list(tmp_path.iterdir())


@pytest.fixture
def asfd(settings: Settings, searched: Recipe) -> Settings:
    """A study of both modules."""
    final = dataclasses.replace(searched, name="final")
    return dataclasses.replace(
        settings, candidates=AutoFEM(method=METHOD), models=1, trial=searched, final=final
    )


@pytest.mark.slow
def test_contexts_alone_killed_and_run_again_are_those_of_an_unbroken_search(
    asfd: Settings, tmp_path: Path
) -> None:
    run = dataclasses.replace(asfd.trial.run, checkpoint_every=0.0)  # after each step
    trial = dataclasses.replace(asfd.trial, run=run)
    asfd = dataclasses.replace(asfd, candidates=AutoFEM(method=METHOD, pyramid="fem"), trial=trial)
    parts, whole = tmp_path / "parts", tmp_path / "whole"
    checkpoint = parts / "runs" / "step2-0000-rung0" / "last.pt"
    run_until(checkpoint, run_study, parts, asfd)
    assert 0 < checkpoints.load(checkpoint)["step"] < 6
    assert not list(parts.glob("trials/*.json"))
    resumed, unbroken = Study(parts, asfd), Study(whole, asfd)
    resumed.run()
    unbroken.run()
    mine, theirs = (study.result("step2-0000-rung0") for study in (resumed, unbroken))
    assert mine is not None
    assert theirs is not None
    assert all(mine[key] == theirs[key] for key in ("genotype", "entropy", "ap"))
    assert report(unbroken)["context"]["genotype"] == mine["genotype"]
    network = recipes.get(f"{whole}/found.py:found").network
    assert network.pyramid == "fem"  # type: ignore[attr-defined]


@pytest.mark.slow
def test_a_study_from_supernets_to_a_recipe_that_trains(asfd: Settings, tmp_path: Path) -> None:
    study = Study(tmp_path, asfd)
    study.run()
    found = report(study)
    pyramid = genotypes.read(tmp_path / "pyramid.json")
    context = genotypes.read(tmp_path / "context.json")
    assert isinstance(pyramid, PyramidGenotype)
    assert isinstance(context, ContextGenotype)
    assert [len(nodes) for nodes in context.levels] == [2] * 6
    # The second supernet had the first one's pyramid, and none of its own contexts.
    assert study.candidates(2)[0] == dataclasses.replace(
        asfd.trial.network, pyramid=genotypes.to_json(pyramid), context="none"
    )
    recipe = recipes.get(f"{tmp_path}/found.py:found")
    assert recipe.name == "asfd-found"
    assert recipe.network == dataclasses.replace(
        asfd.trial.network, pyramid=genotypes.to_json(pyramid), context=genotypes.to_json(context)
    )
    assert found["context"]["genotype"] == json.loads(genotypes.to_json(context))
    assert 0 < found["pyramid"]["entropy"] <= 1
    run = dataclasses.replace(recipe.run, out=tmp_path / "again")
    schedule = dataclasses.replace(recipe.schedule, epochs=0.5)
    again = dataclasses.replace(recipe, run=run, schedule=schedule)
    assert "ap" in train_candidate(again.to_dict())

    log = study.store.run_folder("step2-0000-rung0") / "log.jsonl"
    steps = course(log)
    assert sorted(steps) == [1, 2, 4, 6]
    assert len(steps[6]) == 12
    assert steps[6]["level 0, node 1"][1:] == context.levels[0][0]
    last = [r for _, r in files.read_json_lines(log) if r["step"] == 6 and "entropy" in r][-1]
    assert last["mean_entropy"] == pytest.approx(found["context"]["entropy"])
    assert {"loss_cls", "architecture_loss_cls", "architecture_gradient"} <= last.keys()
    pytest.importorskip("matplotlib")
    names = [path.name for path in draw(study)]
    assert names == ["pyramid.png", "pyramid_choices.png", "context.png", "context_choices.png"]
    assert all((tmp_path / name).stat().st_size > 5000 for name in names)


def test_random_modules_are_those_of_the_space() -> None:
    rng = np.random.default_rng(0)
    pyramids, contexts = (
        [make(rng) for _ in range(50)]
        for make in (lambda r: random_pyramid(r, 3), lambda r: random_context(r, 3, 4))
    )
    assert len(set(pyramids)) == len(set(contexts)) == 50
    assert {name for p in pyramids for n in p.nodes for name, _ in n} == set(  # type: ignore[union-attr]
        genotypes.PYRAMID_CHOICES
    )
    edges = [(n, *edge) for c in contexts for row in c.levels for n, edge in enumerate(row)]  # type: ignore[union-attr]
    assert {name for _, name, _ in edges} == set(genotypes.CONTEXT_CHOICES)
    assert {(n, source) for n, _, source in edges} == {
        (n, s) for n in range(4) for s in range(n + 1)
    }
