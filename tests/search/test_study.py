"""A study runs, survives kills, is shared by processes and leaves a recipe that trains."""

from __future__ import annotations

import dataclasses
import json
import math
import pickle
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from reference.processes import run_until, server

from facefind import datasets, recipes
from facefind.errors import DataError
from facefind.search import redistribution
from facefind.search.budgets import AUTOFEM_BUDGETS, BUDGETS
from facefind.search.cost import BACKBONE, cost
from facefind.search.redistribution import Redistribution
from facefind.search.report import draw, found_recipe, report
from facefind.search.settings import Halving, Settings, Trial
from facefind.search.space import goal
from facefind.search.study import Study, StudyError, here, image_sets
from facefind.search.trial import held_out_ap, train_candidate
from facefind.search.workers import run_processes

pytestmark = pytest.mark.slow

MEASURED = {"images_measured": 4, "digest_measured": "a" * 64}


def with_trial(settings: Settings, branch: str, **values: Any) -> Settings:
    """The settings with other values in a branch of the trials' recipe."""
    changed = dataclasses.replace(getattr(settings.trial, branch), **values)
    trial = dataclasses.replace(settings.trial, **{branch: changed})
    return dataclasses.replace(settings, trial=trial)


def files(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted((folder / "trials").glob("*.json"))}


def by_shares(step: int, network: Any) -> float:
    """A score without training: networks with much in C2 and C3 are the best."""
    return cost(network).share("c2", "c3", of=BACKBONE)


def pretend(
    rule: Callable[[int, Any], float], monkeypatch: pytest.MonkeyPatch, subset: str = "height>=16"
) -> list[str]:
    """Replace training by a rule; returns the list that the keys of trials are put in."""
    done: list[str] = []

    def train(content: dict[str, Any]) -> dict[str, Any]:
        recipe = recipes.from_dict(content)
        done.append(recipe.name)
        score = rule(int(recipe.name[4]), recipe.network)
        if math.isnan(score):
            return {"failed": "the loss is no longer finite", "seconds": 1.0}
        return {"ap": {subset: score}, "seconds": 1.0} | MEASURED

    monkeypatch.setattr(redistribution, "train_candidate", train)
    return done


def test_a_study_from_drawing_to_a_recipe_that_trains(settings: Settings, tmp_path: Path) -> None:
    study = Study(tmp_path / "study", settings)
    study.run()
    assert len(files(study.store.folder)) == 6
    first = study.store.result("step1-0000-rung0")
    assert first is not None
    assert {"height>=9", "height>=16"} == set(first["ap"])  # no face is higher
    assert first["facts"]["images"] + first["facts"]["images_held_out"] == 12
    assert first["images_measured"] == 1
    assert not list(study.store.folder.rglob("last.pt"))
    found = report(study)
    assert found["step2"]["networks"] == 3
    pictures = draw(study)
    assert {p.name for p in pictures} == {"step1.png", "step2.png", "shallow_deep.png"}
    assert all(p.stat().st_size > 5000 for p in pictures)

    recipe = recipes.get(f"{study.store.folder}/found.py:found")
    assert recipe == recipes.from_dict(json.loads((tmp_path / "study/found.json").read_text()))
    assert recipe == found_recipe(study)
    assert recipe.network == study.best(2).network
    outcome = train_candidate(
        dataclasses.replace(
            recipe, run=dataclasses.replace(recipe.run, out=tmp_path / "again")
        ).to_dict()
    )
    assert outcome["ap"] == study.store.result(f"step2-{study.best(2).index:04}-rung0")["ap"]  # type: ignore[index]


def test_killed_and_run_again_it_ends_as_if_never_killed(
    settings: Settings, tmp_path: Path
) -> None:
    slow = dataclasses.replace(
        settings.trial, schedule=dataclasses.replace(settings.trial.schedule, epochs=2)
    )
    slow = dataclasses.replace(slow, run=dataclasses.replace(slow.run, checkpoint_every=0.0))
    settings = dataclasses.replace(settings, trial=slow, models=2)
    parts, whole = tmp_path / "parts", tmp_path / "whole"
    checkpoint = parts / "runs" / "step1-0001-rung0" / "last.pt"
    run_until(checkpoint, run_processes, parts, settings, 1)
    kept = files(parts)
    assert "step1-0000-rung0.json" in kept
    assert len(kept) < 4
    Study(parts, settings).run()
    Study(whole, settings).run()
    assert len(files(parts)) == 4
    assert kept.items() <= files(parts).items()  # nothing is done twice
    for key in ("step1-0000", "step1-0001", "step2-0000", "step2-0001"):
        mine, theirs = (Study(f, settings).store.result(f"{key}-rung0") for f in (parts, whole))
        assert mine is not None
        assert theirs is not None
        assert (mine["ap"], mine["network"]) == (theirs["ap"], theirs["network"])


def test_two_processes_share_a_study(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forks of a process that has torch; the fresh ones of users are in the next test."""
    folder, context = tmp_path / "study", server()
    monkeypatch.setattr("multiprocessing.get_context", lambda method: context)
    study = run_processes(folder, dataclasses.replace(settings, models=2), 2)
    assert len(files(folder)) == 4
    for step in (1, 2):
        assert all(math.isfinite(e.order[1]) for e in study.entries(step))
    logs = folder.glob("runs/*/run.json")
    assert len(list(logs)) == 4


def test_a_process_that_dies_is_told_of(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file where the trials want a folder")
    with pytest.raises(StudyError, match="run the search again"):
        run_processes(tmp_path, settings, 2)


def test_claimed_trials_are_left_to_their_holder(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = pretend(by_shares, monkeypatch)
    study = Study(tmp_path, settings)
    trials = study.trials(1, 0)
    with study.store.claim(trials[1].key):
        assert here(study, trials)
        assert not here(study, trials)
    assert done == [trials[0].key, trials[2].key]
    assert here(study, trials)
    assert sorted(done) == [trial.key for trial in trials]


def test_other_settings_or_data_are_refused(
    settings: Settings, squares: Path, tmp_path: Path
) -> None:
    Study(tmp_path, settings)
    for name, value in (("seed", 5), ("models", 4), ("halving", Halving())):
        with pytest.raises(StudyError, match=name):
            Study(tmp_path, dataclasses.replace(settings, **{name: value}))
    known = json.loads((tmp_path / "study.json").read_text())
    for recipe in (known["trial"], known["final"]):
        del recipe["mining"]  # as of a version that had none
    (tmp_path / "study.json").write_text(json.dumps(known))
    Study(tmp_path, settings)
    moved = tmp_path / "moved"
    moved.symlink_to(squares)
    elsewhere = with_trial(settings, "data", root=(str(moved),), workers=1)
    Study(tmp_path, with_trial(elsewhere, "run", threads=2))
    with pytest.raises(StudyError, match="data"):
        Study(tmp_path, with_trial(settings, "data", hold_out=0.5))
    with pytest.raises(DataError, match="held-out"):
        Study(tmp_path, with_trial(settings, "data", hold_out=0.0))
    assert pickle.loads(pickle.dumps(settings)) == settings


@pytest.fixture
def large(settings: Settings) -> Settings:
    """120 networks a step of 2.5 GF; their training is pretended."""
    return dataclasses.replace(settings, candidates=Redistribution(goal=goal(2.5)), models=120)


def test_step_two_follows_step_one(
    large: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(by_shares, monkeypatch)
    study = Study(tmp_path, large)
    study.run()
    intervals = study.intervals(1)
    assert list(intervals) == list(BACKBONE)
    shallow = intervals["c2"].median + intervals["c3"].median
    everyone = [e.cost.share("c2", "c3", of=BACKBONE) for e in study.entries(1)]
    assert shallow > sorted(everyone)[80]
    for entry in study.entries(2):
        for part, interval in intervals.items():
            low, high = interval.widened(0.1)
            assert low <= entry.cost.share(part, of=BACKBONE) <= high
    assert {"backbone", "neck", "head", *BACKBONE} == set(study.intervals(2))
    best = study.best(2)
    assert best.order[1] == max(e.order[1] for e in study.entries(2))


def test_the_released_space_scales_the_best(
    large: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(by_shares, monkeypatch)
    settings = dataclasses.replace(
        large,
        candidates=Redistribution(goal=goal(2.5, "released", block="basic"), space="released"),
        models=10,
    )
    study = Study(tmp_path, settings)
    study.run()
    template = study.best(1)
    for entry in study.entries(2):
        for part in BACKBONE[1:]:
            was, now = template.cost.multiply_adds, entry.cost.multiply_adds
            assert abs((was[part] / was["stem"]) / (now[part] / now["stem"]) - 1) <= 0.1 + 1e-9


def test_failed_trials_are_counted_and_left_out(
    large: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def some_fail(step: int, network: Any) -> float:
        return math.nan if network.depths[0] % 2 else by_shares(step, network)

    pretend(some_fail, monkeypatch)
    study = Study(tmp_path, large)
    study.run()
    failed = sum(e.network.depths[0] % 2 for e in study.entries(1))
    assert 0 < failed < 120
    assert report(study)["step1"]["failed"] == failed
    assert study.best(1).network.depths[0] % 2 == 0

    pretend(lambda step, network: math.nan, monkeypatch)
    with pytest.raises(StudyError, match="not one network"):
        Study(tmp_path / "other", large).run()


def test_halving_trains_less_and_says_how_well_it_foretells(
    large: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = pretend(by_shares, monkeypatch)
    trial = dataclasses.replace(
        large.trial, schedule=dataclasses.replace(large.trial.schedule, epochs=9)
    )
    settings = dataclasses.replace(large, trial=trial, models=90, halving=Halving(check=12))
    study = Study(tmp_path, settings)
    study.run()
    assert settings.rung_epochs == [1, 3, 9]
    assert [len(study.members(1, rung)) for rung in range(3)] == [90, 30, 10]
    assert [t.recipe.schedule.epochs for t in study.trials(1, 1)] == [3] * 30
    assert {t.recipe.schedule.warmup_epochs for t in study.trials(1, 1)} == {0.5 / 3}
    last = {t.index for t in study.trials(1, 2)}
    assert last == set(study.members(1, 2)) | set(study.checks(1))
    assert len(study.checks(1)) == 12
    assert len(done) == len(set(done)) == len(files(tmp_path))
    kept = study.members(1, 1)
    scores = {e.index: e.scores[0] for e in study.entries(1)}
    assert min(scores[i] for i in kept) >= max(scores[i] for i in scores if i not in kept)
    # A network that was dropped does not count as one of the last rung because it was checked.
    for entry in study.entries(1):
        if entry.index not in study.members(1, 2):
            assert entry.rung < 2
    found = report(study)["step1"]["agreement"]["1 epochs"]
    assert found["checks"] == pytest.approx({"networks": 12, "spearman": 1, "kendall": 1})
    assert found["all"]["networks"] == len(last)
    assert len(draw(study)) == 3


def test_the_digest_is_that_of_the_images_that_were_measured(
    settings: Settings, squares: Path, tmp_path: Path
) -> None:
    settings = dataclasses.replace(
        with_trial(with_trial(settings, "data", hold_out=0.6), "run", evaluate_images=2),
        models=1,
    )
    _, held_out = datasets.split(datasets.read(squares), 0.6)
    assert len(held_out) == 6
    measured = [held_out[0], held_out[3]]  # at equal steps, for the first ones are of one event
    study = Study(tmp_path / "study", settings)
    study.run()
    assert study.store.read("study.json")["data"]["digest_measured"] == datasets.digest(measured)
    data = report(study)["data"]
    assert data["images_measured"] == 2
    assert data["digest_measured"] == datasets.digest(measured)
    assert data["digest_measured"] in (study.store.folder / "found.py").read_text()


def test_an_image_that_was_not_measured_is_not_in_the_digest(
    settings: Settings, squares: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(squares, broken)
    settings = with_trial(settings, "data", hold_out=0.6, root=(str(broken),))
    settings = dataclasses.replace(with_trial(settings, "run", evaluate_images=2), models=1)
    _, held_out = datasets.split(datasets.read(broken), 0.6)
    held_out[3].path.write_bytes(b"")
    study = Study(tmp_path / "study", settings)
    study.run()
    data = report(study)["data"]
    assert data["images_measured"] == 1
    assert data["digest_measured"] == datasets.digest(held_out[:1])
    # Trials that were measured on other images than the rest have scores that can't be compared.
    result = study.store.result("step2-0000-rung0")
    study.store.finish("step2-0000-rung0", result | {"digest_measured": "b" * 64})  # type: ignore[operator]
    with pytest.raises(StudyError, match="got 2 sets"):
        report(Study(tmp_path / "study", settings))


def test_halving_that_cannot_be_is_an_error() -> None:
    with pytest.raises(DataError, match="expected"):
        Halving(eta=1)


def test_images_without_a_face_are_an_error(settings: Settings, tmp_path: Path) -> None:
    recipe = settings.trial
    labels = tmp_path / "empty_bbx_gt.txt"
    labels.write_text("0--Event/0.jpg\n0\n0 0 0 0 0 0 0 0 0 0\n")
    empty = f"{labels},images={recipe.data.root[0]}/images"
    data = dataclasses.replace(recipe.data, val=(empty,))
    with pytest.raises(DataError, match="no face is labeled in the 1 images to measure on"):
        image_sets(dataclasses.replace(recipe, data=data))


def test_a_subset_that_was_not_measured_is_an_error(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(by_shares, monkeypatch, subset="hard")
    with pytest.raises(StudyError, match="'height>=16'"):
        Study(tmp_path, settings).run()


def test_a_loss_that_is_not_finite_is_a_failed_trial(settings: Settings, tmp_path: Path) -> None:
    wild = dataclasses.replace(
        settings.trial,
        optim=dataclasses.replace(settings.trial.optim, name="sgd", lr=1e12, clip=0.0),
        schedule=dataclasses.replace(settings.trial.schedule, epochs=20, warmup_epochs=0),
        run=dataclasses.replace(settings.trial.run, out=tmp_path),
    )
    assert "lower --optim.lr" in train_candidate(wild.to_dict())["failed"]


def test_the_last_score_of_a_log_counts(tmp_path: Path) -> None:
    lines = [
        '{"step": 5, "ap_a": 0.1}',
        '{"step": 9, "ap_a": 0.2}',
        '{"st',
        '{"step": 9, "ap_a": 0.3}',
    ]
    (tmp_path / "log.jsonl").write_text("\n".join(lines))
    assert held_out_ap(tmp_path, 9) == {"a": 0.3}
    with pytest.raises(DataError, match="hold-out"):
        held_out_ap(tmp_path, 7)


def test_budgets_are_what_they_say() -> None:
    paper, small = BUDGETS["paper"](), BUDGETS["small"]()
    assert (paper.models, paper.trial.schedule.epochs) == (320, 80)
    assert [round(80 * f) for f in paper.trial.schedule.steps] == [56, 68]
    assert paper.trial.run.evaluate_images == 0
    assert paper.final.schedule.epochs == 640
    assert small.models < 320
    scale = small.trial.augment.size / 640
    assert small.trial.augment.crop_sides == tuple(
        s * scale for s in paper.trial.augment.crop_sides
    )
    modules = AUTOFEM_BUDGETS["paper"]().trial.schedule  # an epoch is half of WIDER's 12,880 images
    assert (modules.epochs, round(modules.warmup_epochs * 6440 / modules.batch)) == (50, 500)


def test_a_runner_gets_what_is_not_finished(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(by_shares, monkeypatch)
    seen: list[list[str]] = []

    def one_at_a_time(study: Study, trials: Sequence[Trial]) -> bool:
        seen.append([trial.key[:10] for trial in trials])
        return here(study, trials[:1])

    Study(tmp_path, settings).run(one_at_a_time)
    assert [len(keys) for keys in seen] == [3, 2, 1, 3, 2, 1]
