"""What a run folder records, and which runs may be resumed."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from facefind import datasets
from facefind.learn import checkpoints
from facefind.learn.engine import TrainingError, train
from facefind.learn.logs import Log


def change(recipe, part, **values):
    return dataclasses.replace(
        recipe, **{part: dataclasses.replace(getattr(recipe, part), **values)}
    )


@pytest.fixture
def begun(recipe):
    train(recipe, stop_at=1)
    return recipe


@pytest.mark.parametrize(
    ("part", "values", "message"),
    [
        ("optim", {"lr": 1.0}, "--optim.lr 0.003, not 1.0"),
        ("optim", {"name": "sgd"}, "--optim.name adamw, not sgd"),
        ("optim", {"ema": 0.0}, "--optim.ema 0.9, not 0.0"),
        ("schedule", {"batch": 2}, "--schedule.batch 4, not 2"),
        ("schedule", {"epochs": 3}, "--schedule.epochs 4, not 3"),
        ("schedule", {"kind": "step"}, "--schedule.kind cosine, not step"),
        ("augment", {"crop_sides": (1.0, 2.0)}, "not 1.0 2.0"),
        ("mining", {"on": True}, "--mining.on False, not True"),
        ("data", {"balance": 0.0}, "--data.balance 0.5, not 0.0"),
        ("data", {"hold_out": 0.0}, "other images or labels"),
        ("run", {"seed": 1}, "--run.seed 0, not 1"),
        ("run", {"precision": "bf16"}, "--run.precision fp32, not bf16"),
        ("run", {"init_from": "a.pt"}, "--init-from None, not a.pt"),
    ],
)
def test_a_run_is_not_resumed_with_options_that_change_it(begun, part, values, message):
    folder = begun.run.out
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    with pytest.raises(TrainingError) as caught:
        train(change(begun, part, **values), resume=True)
    assert message in str(caught.value)
    assert f"--init-from {folder} --out NEW" in str(caught.value)
    assert {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()} == before


def test_a_run_is_resumed_elsewhere_and_for_longer(begun, tiny_set, tmp_path):
    """On other processes, with the set in another place; each stage is recorded."""
    folder = begun.run.out
    stages = json.loads((folder / "run.json").read_text())["stages"]
    assert [stage["from_step"] for stage in stages] == [0]
    assert (
        stages[0]["recipe"] == begun.to_dict() == json.loads((folder / "recipe.json").read_text())
    )
    shutil.copytree(tiny_set, tmp_path / "moved")
    other = change(begun, "data", root=(str(tmp_path / "moved"),), workers=1)
    other = change(other, "run", log_every=1, checkpoint_every=1.0, evaluate_images=1)
    train(other, resume=True, stop_at=2)
    train(other, resume=True, stop_at=3)  # as before: no stage of its own
    longer = change(other, "schedule", epochs=5)
    train(longer, resume=True)
    facts = json.loads((folder / "run.json").read_text())
    assert [stage["from_step"] for stage in facts["stages"]] == [0, 1, 3]
    assert [stage["recipe"] for stage in facts["stages"]] == [
        recipe.to_dict() for recipe in (begun, other, longer)
    ]
    assert json.loads((folder / "recipe.json").read_text()) == longer.to_dict()
    assert facts["stages"][-1]["steps"] == facts["steps"] > facts["stages"][0]["steps"]
    assert len(facts["digest"]) == 64
    assert checkpoints.load(folder / "final.pt")["step"] == facts["steps"]


def test_other_labels_are_other_images(begun, tiny_set, tmp_path):
    shutil.copytree(tiny_set, tmp_path / "changed")
    labels = next((tmp_path / "changed").glob("*.txt"))
    lines = labels.read_text().splitlines()
    number = next(i for i, line in enumerate(lines) if line.count(" ") == 9 and line[0] != "0")
    lines[number] = "1 1 " + lines[number].split(" ", 2)[2]
    labels.write_text("\n".join(lines) + "\n")
    other = change(begun, "data", root=(str(tmp_path / "changed"),))
    with pytest.raises(TrainingError, match="other images or labels"):
        train(other, resume=True)


def test_a_validation_set_takes_the_place_of_held_out_images(recipe, tiny_set):
    val = change(recipe, "data", val=(str(tiny_set),), hold_out=0.5)
    folder = train(val)
    facts = json.loads((folder / "run.json").read_text())
    count = len(datasets.read(tiny_set))
    assert (facts["images"], facts["images_held_out"]) == (count, count)
    records = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert any(key.startswith("ap_") for key in records[-1])


def test_an_environment_variable_ends_training_early(recipe, monkeypatch):
    monkeypatch.setenv("FACEFIND_MAX_STEPS", "3")
    folder = train(recipe)
    assert checkpoints.load(folder / "final.pt")["step"] == 3
    assert json.loads((folder / "run.json").read_text())["steps"] == 3
    records = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert records[-2]["lr"] < 0.6 * recipe.optim.lr  # the schedule spans these steps
    monkeypatch.setenv("FACEFIND_MAX_STEPS", "many")
    with pytest.raises(Exception, match="FACEFIND_MAX_STEPS"):
        train(change(recipe, "run", out=Path(f"{folder}-2")))


def test_a_line_that_a_kill_tore_is_dropped(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 1}\n{"step": 2, "lo')
    for step in (2, 3):
        with Log(tmp_path) as log:
            log.write(step)
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2, 3]
