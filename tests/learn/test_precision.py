"""Which numbers a run computes with, where the device's arithmetic is faked."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from torch import nn

from facefind import recipes
from facefind.errors import RuntimeUnavailableError
from facefind.learn import checkpoints
from facefind.learn.engine import TrainingError, train
from facefind.learn.precision import autocast, choose_precision
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


UNSOUND = [  # arguments of `conv2d` whose gradient oneDNN gets wrong, and the shape of the images
    ({"in_channels": 24, "dilation": 3, "padding": 3}, (40, 40)),
    ({"in_channels": 24, "dilation": 2, "padding": "same"}, (40, 40)),
    ({"in_channels": 16, "dilation": (3, 1), "padding": (3, 1), "groups": 16}, (40, 40)),
    ({"in_channels": 24, "stride": 2, "padding": 1}, (1, 1)),
    ({"in_channels": 40, "stride": 2, "padding": 1, "groups": 8}, (20, 1)),
    ({"in_channels": 16, "kernel_size": 5, "padding": 2}, (1, 7)),
    ({"in_channels": 4, "out_channels": 64, "kernel_size": 1, "stride": 2}, (80, 80)),
    ({"in_channels": 12, "out_channels": 64, "kernel_size": 1, "stride": (2, 1)}, (40, 48)),
]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(("layer", "shape"), UNSOUND)
def test_gradients_are_right_where_onednn_has_them_wrong(precision, layer, shape):
    torch.manual_seed(0)
    layer = {"kernel_size": 3, "out_channels": 16, **layer}
    network = nn.Conv2d(**layer).to(memory_format=torch.channels_last)
    images = torch.randn(2, layer["in_channels"], *shape).to(memory_format=torch.channels_last)
    images.requires_grad_()
    expected = network.double()(images.double())
    ahead = torch.randn_like(expected)
    wanted = torch.autograd.grad(expected, [images, *network.parameters()], ahead)
    network.float()
    for _ in range(3):
        used = [torch.full((2**size,), torch.nan) for size in range(4, 20)]
        del used  # what memory holds that nothing was written to
        with autocast(CPU, precision):
            found = network(images)
        gradients = torch.autograd.grad(found, [images, *network.parameters()], ahead.to(found))
        for got, right in zip([found, *gradients], [expected, *wanted], strict=True):
            assert (got - right).abs().max() <= 0.02 * right.abs().max()


def test_other_convolutions_compute_in_what_was_chosen():
    network, images = nn.Conv2d(8, 8, 3, padding=1), torch.randn(1, 8, 6, 6)
    for precision, kind in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        with autocast(CPU, precision):
            assert network(images).dtype == kind
            assert torch.conv2d(input=images, weight=network.weight).dtype == kind
            assert torch.conv2d(images, network.weight, dilation=2).dtype == torch.float32


@pytest.mark.slow
def test_bf16_by_name_is_refused_on_a_processor_without_it(recipe, able):
    able(False)
    asked = dataclasses.replace(recipe, run=dataclasses.replace(recipe.run, precision="bf16"))
    with pytest.raises(RuntimeUnavailableError, match="this processor has no bf16"):
        train(asked)


def facts(folder: Path):
    return json.loads((folder / "run.json").read_text())
