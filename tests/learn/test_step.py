"""A training step: what it changes, what it must not change, and that it never waits."""

import copy
import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from facefind.learn import checkpoints
from facefind.learn.criterion import Losses
from facefind.learn.ema import EMA
from facefind.learn.engine import TrainingError, train
from facefind.learn.loader import Batch
from facefind.learn.logs import Meter
from facefind.learn.optimizers import freeze, make_optimizer
from facefind.learn.recipe import CriterionConfig, OptimConfig
from facefind.learn.state import HostCopy, State
from facefind.learn.step import Step
from facefind.learn.targets import BatchTargets, Target


def batch(size=8):
    images = torch.randint(0, 256, (2, size, size, 3), dtype=torch.uint8)
    targets = BatchTargets.from_images([Target.empty(), Target.empty()], (size, size))
    return Batch(images, targets, ["a.jpg", "b.jpg"])


class Pixels(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, images):
        assert images.shape == (2, 3, 8, 8)
        assert images.is_contiguous(memory_format=torch.channels_last)
        return self.norm(self.conv(images / 255))


def losses(outputs, targets):
    square = (outputs.float() ** 2).mean()
    return Losses(
        {"a": square, "b": (outputs.float().mean() - 1) ** 2}, torch.tensor([0.5, math.nan])
    )


def infinite_loss(outputs, targets):
    """The loss is infinite, its gradient is not."""
    plain = losses(outputs, targets)
    return plain._replace(terms=plain.terms | {"b": plain.terms["b"] + torch.inf})


def infinite_gradient(outputs, targets):
    """The gradient is infinite, the loss is not: the root of a value at zero."""
    plain = losses(outputs, targets)
    root = (outputs.float().mean() - outputs.float().mean().detach()).relu().sqrt()
    nothing = (outputs.float() * 0).sum().abs().sqrt()
    return plain._replace(terms=plain.terms | {"b": root + nothing})


def make(recipe, criterion, optim, precision="fp32"):
    torch.manual_seed(0)
    network = Pixels()
    recipe = dataclasses.replace(
        recipe, optim=optim, run=dataclasses.replace(recipe.run, precision=precision)
    )
    ema = EMA(network, 0.9)
    scaler = torch.amp.GradScaler("cpu", enabled=precision == "fp16")
    optimizer = make_optimizer(network, optim)
    state = State(network, freeze(network, ()), optimizer, ema, scaler, None)
    return state, lambda now=criterion: Step(state, now, recipe, torch.device("cpu"))


def snapshot(state):
    parameters = [dict(n.named_parameters()) for n in (state.network, state.ema.module)]
    return copy.deepcopy((*parameters, state.optimizer.state_dict()))


def same(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


OPTIMS = [
    OptimConfig(name="sgd", lr=0.1),
    OptimConfig(name="sgd", lr=0.1, momentum=0.0),
    OptimConfig(name="adamw", lr=0.1),
]


@pytest.mark.parametrize("wrong", [infinite_loss, infinite_gradient])
@pytest.mark.parametrize("optim", OPTIMS)
@pytest.mark.parametrize("first", [0, 2])
def test_a_step_that_is_not_finite_changes_nothing(recipe, wrong, optim, first):
    """Neither as the first step, nor after others; and the next one is as if it had not been."""
    state, step = make(recipe, losses, optim)
    parts = [batch()]
    for _ in range(first):
        assert not step()(parts, 0.1).failed
    step(wrong)(parts, 0.1)  # rates and such are set by now
    before = snapshot(state)
    result = step(wrong)(parts, 0.1)
    assert result.failed
    assert same(snapshot(state), before)
    other, fine = make(recipe, losses, optim)
    for _ in range(first + 1):
        fine()(parts, 0.1)
    assert not step()(parts, 0.1).failed
    moved, expected = snapshot(state)[0], snapshot(other)[0]
    assert all(torch.allclose(moved[name], expected[name]) for name in moved)
    assert not same(moved, before[0])


def test_in_half_precision_a_gradient_that_overflows_is_skipped(recipe):
    optim = OptimConfig(name="sgd", lr=0.1)
    state, step = make(recipe, losses, optim, precision="fp16")
    step()([batch()], 0.1)
    before, scale = snapshot(state), state.scaler.get_scale()
    result = step(infinite_gradient)([batch()], 0.1)
    assert not result.failed
    assert same(snapshot(state), before)
    assert state.scaler.get_scale() < scale
    assert step(infinite_loss)([batch()], 0.1).failed


def test_what_went_wrong_is_named(recipe):
    parts = [batch()]
    for wrong, what in ((infinite_loss, r"loss.*b inf"), (infinite_gradient, "gradient")):
        _, step = make(recipe, losses, OPTIMS[0])
        meter = Meter(lambda: 0.0)
        meter.add(1, step()(parts, 0.1), ["fine.jpg"], 0.0)
        meter.check()
        meter.add(2, step(wrong)(parts, 0.1), ["a.jpg", "b.jpg"], 0.0)
        meter.add(3, step()(parts, 0.1), ["fine.jpg"], 0.0)
        for read in (meter.check, lambda meter=meter: meter.take(2)):
            with pytest.raises(TrainingError, match=rf"{what}(.*)a\.jpg, b\.jpg") as caught:
                read()
            assert "step 2 is not finite" in str(caught.value)
            assert "fine.jpg" not in str(caught.value)


class Reads(TorchDispatchMode):
    """Counts what brings values back from the device, or makes shapes depend on them."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        if name in ("_local_scalar_dense", "nonzero", "masked_select"):
            self.found.append(name)
        return func(*args, **kwargs or {})


@pytest.mark.parametrize("optim", OPTIMS)
def test_a_step_reads_nothing_back_from_the_device(recipe, optim):
    state, step = make(recipe, losses, optim)
    run, meter = step(), Meter(lambda: 0.0)
    with Reads() as reads:
        for number in range(3):
            result = run([batch()], 0.1)
            meter.add(number, result, ["a", "b"], 0.0)
            state.observe(result.min_positive_scores)
    assert reads.found == []
    with Reads() as reads:
        result.norm.item()
    assert reads.found == ["_local_scalar_dense"]


def test_means_are_those_of_the_steps(recipe):
    times = iter([10.0, 13.0, 13.0])  # of the start, of the first line and of its end
    meter = Meter(lambda: next(times))
    for number, norm in enumerate((1.0, 3.0, math.inf)):
        _, step = make(recipe, losses, OPTIMS[0])
        result = step()([batch()], 0.1)._replace(
            terms={"a": torch.tensor(float(number))}, norm=torch.tensor(norm)
        )
        meter.add(number, result, ["x"], 0.25)
    values = meter.take(8)
    assert values["loss_a"] == 1
    assert values["gradient"] == 2  # one that overflowed in half precision does not count
    assert values["min_positive_score"] == 0.5
    assert (values["load_s"], values["step_s"], values["images_per_s"]) == (0.25, 0.75, 8)


def test_a_copy_is_read_as_an_array():
    copied = HostCopy(torch.tensor([1.0, 2.0]))
    assert np.asarray(copied, np.float32).tolist() == [1, 2]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spoiled(CriterionConfig):
    """The criterion, whose gradient is infinite at one step."""

    at: int = 1

    def build(self, network):
        plain, calls = CriterionConfig().build(network), []

        def criterion(outputs, targets):
            found = plain(outputs, targets)
            calls.append(1)
            if len(calls) != self.at:
                return found
            weight = next(network.parameters())
            return found._replace(terms=found.terms | {"cls": (weight * 0).sum().abs().sqrt()})

        return criterion


@pytest.mark.parametrize("at", [2, 5, 8])
@pytest.mark.parametrize("checkpoint_every", [0.0, 1e9])
def test_no_checkpoint_is_written_after_a_step_that_is_not_finite(recipe, at, checkpoint_every):
    """Neither in the middle of a run nor at its end (its 8th step), and the last one is intact."""
    run = dataclasses.replace(recipe.run, log_every=3, checkpoint_every=checkpoint_every)
    schedule = dataclasses.replace(recipe.schedule, epochs=8 * 4 / 11)
    spoiled = dataclasses.replace(recipe, criterion=Spoiled(at=at), run=run, schedule=schedule)
    with pytest.raises(TrainingError, match=f"gradient of step {at} is not finite.*cls 0"):
        train(spoiled)
    assert not (run.out / "final.pt").exists()
    if checkpoint_every:
        assert not (run.out / "last.pt").exists()
    else:
        content = checkpoints.load(run.out / "last.pt")
        assert content["step"] == at - 1
        values = [*content["network"].values(), *content["ema"].values()]
        assert all(value.isfinite().all() for value in values)
    for line in (run.out / "log.jsonl").read_text().splitlines():
        assert all(math.isfinite(v) for v in json.loads(line).values() if not isinstance(v, str))
