"""Which numbers a run computes with, where the device's arithmetic is faked."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from facefind import recipes
from facefind.errors import RuntimeUnavailableError
from facefind.learn import checkpoints
from facefind.learn.engine import TrainingError, train
from facefind.learn.precision import choose_precision
from facefind.runtimes import cpu

CPU, GPU, MPS = torch.device("cpu"), torch.device("cuda:0"), torch.device("mps")


@pytest.fixture
def able(monkeypatch):
    """Say what CPU and GPU can do."""

    def fake(yes):
        monkeypatch.setattr(cpu, "has_bf16", lambda: yes)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: yes)

    return fake


@pytest.mark.parametrize("device", [CPU, GPU])
def test_auto_is_bf16_where_the_device_has_it(able, device):
    able(True)
    assert choose_precision("auto", device)[0] == "bf16"
    assert choose_precision("bf16", device) == ("bf16", "as asked for")
    able(False)
    precision, why = choose_precision("auto", device)
    assert precision == "fp32"
    assert "has no bf16 arithmetic" in why
    assert choose_precision("fp16", device)[0] == "fp16"
    with pytest.raises(RuntimeUnavailableError, match=r"--run\.precision fp32, or auto"):
        choose_precision("bf16", device)


def test_auto_is_fp32_where_nothing_is_known(able):
    able(True)
    assert choose_precision("auto", MPS)[0] == "fp32"
    assert choose_precision("bf16", MPS)[0] == "bf16"


def test_a_resumed_run_keeps_its_precision_where_it_can(able, caplog):
    able(True)
    assert choose_precision("auto", CPU, "fp32")[0] == "fp32"
    assert choose_precision("auto", CPU, "bf16")[0] == "bf16"
    assert not caplog.records
    able(False)
    assert choose_precision("auto", CPU, "bf16")[0] == "fp32"
    assert "begun in bf16" in caplog.text


def test_trainings_for_a_cpu_are_right_on_every_one():
    short = [recipes.get(name) for name in recipes.names() if "-short" in name]
    assert len(short) > 5
    assert {recipe.run.precision for recipe in short} == {"auto"}


@pytest.mark.slow
def test_a_run_computes_in_what_was_chosen_and_records_it(
    recipe, able, monkeypatch, capsys, caplog
):
    used, autocast = [], torch.autocast

    def seen(device, dtype, enabled):
        used.append(dtype if enabled else None)
        return autocast(device, dtype, enabled)

    monkeypatch.setattr(torch, "autocast", seen)
    auto = dataclasses.replace(recipe, run=dataclasses.replace(recipe.run, precision="auto"))
    able(True)
    folder = train(auto, stop_at=1)
    assert used == [torch.bfloat16]
    assert "bf16 (auto: this processor has bf16 arithmetic)" in capsys.readouterr().err
    assert facts(folder)["precision"] == "bf16"
    assert checkpoints.load(folder / "last.pt")["precision"] == "bf16"
    with pytest.raises(TrainingError, match=r"--run\.precision bf16, not fp32"):
        train(recipe, resume=True)
    able(False)
    train(auto, resume=True, stop_at=2)
    assert used[1:] == [None]
    assert "goes on in fp32" in caplog.text
    assert [stage["precision"] for stage in facts(folder)["stages"]] == ["bf16", "fp32"]
    able(True)
    train(auto, resume=True, stop_at=3)  # as the stage before
    assert used[2:] == [None]
    train(recipe, resume=True, stop_at=4)  # by its name


@pytest.mark.slow
def test_bf16_by_name_is_refused_on_a_processor_without_it(recipe, able):
    able(False)
    asked = dataclasses.replace(recipe, run=dataclasses.replace(recipe.run, precision="bf16"))
    with pytest.raises(RuntimeUnavailableError, match="this processor has no bf16"):
        train(asked)


def facts(folder: Path):
    return json.loads((folder / "run.json").read_text())
