"""Several processes: which backend they use, and that all of them see what one sees."""

import dataclasses
import os
import signal

import pytest
import torch
from reference.processes import in_two

from facefind import datasets
from facefind.detector import FaceDetector
from facefind.errors import DataError
from facefind.learn import checkpoints, distributed
from facefind.learn.engine import TrainingError, train
from facefind.learn.logs import Meter
from facefind.learn.recipe import CriterionConfig, Phase
from facefind.learn.step import Step
from facefind.learn.validation import validate

pytestmark = pytest.mark.slow


BOTH = "cpu:gloo,cuda:nccl"


@pytest.mark.parametrize(
    ("name", "backend", "selected"),
    [("cpu", "gloo", []), ("auto", BOTH, [1]), ("cuda", BOTH, [1]), ("cuda:0", BOTH, [0])],
)
def test_the_backend_is_that_of_the_device(monkeypatch, name, backend, selected):
    """A machine with two GPUs, of which this process is the second."""
    chosen, devices = [], []
    for key, value in {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: devices.append(device.index))
    monkeypatch.setattr(torch.distributed, "init_process_group", chosen.append)
    monkeypatch.setattr(torch.distributed, "destroy_process_group", lambda: chosen.append("left"))
    with distributed.process_group(distributed.make_device(name)):
        assert chosen == [backend]
        assert devices == selected
    assert chosen == [backend, "left"]


@pytest.mark.parametrize("name", ["cuda:7", "tpu", "mps"])
def test_a_device_that_is_not_there_is_refused(monkeypatch, name):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(DataError, match="--device"):
        distributed.make_device(name)


def evaluated(recipe):
    """In one of two processes, the second of which has other statistics: AP and images seen."""
    torch.distributed.init_process_group("gloo")
    torch.manual_seed(3)
    network = recipe.network.build()
    if torch.distributed.get_rank():
        for buffer in network.buffers():
            buffer.fill_(7)
    seen, detect = [], FaceDetector.detect
    FaceDetector.detect = lambda self, path: seen.append(path) or detect(self, path)
    ap = validate(network, recipe, datasets.read(recipe.data.root[0]))
    torch.distributed.destroy_process_group()
    return ap, len(seen)


def test_processes_share_an_evaluation(recipe, tmp_path):
    """Each measures half of the images, with the first one's statistics, and one gives the AP."""
    count = len(datasets.read(recipe.data.root[0]))
    (ap, first), (nothing, second) = in_two(evaluated, recipe, folder=tmp_path)
    assert first + second == count
    assert abs(first - second) <= 1
    assert nothing == {}
    torch.manual_seed(3)
    alone = validate(recipe.network.build(), recipe, datasets.read(recipe.data.root[0]))
    assert ap == alone


def counted_steps():
    """How many results the meter keeps after each step, as a list that a training fills."""
    held, add = [], Meter.add

    def counted(self, *args):
        add(self, *args)
        held.append(len(self._steps))

    Meter.add = counted
    return held


def spoiled_training(recipe):
    """The error of a training whose third loss is infinite in the second process."""
    build, calls, held = CriterionConfig.build, [], counted_steps()
    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()

    def spoiled(self, network):
        plain = build(self, network)

        def criterion(outputs, targets):
            found = plain(outputs, targets)
            calls.append(1)
            bad = rank == 1 and len(calls) == 3
            terms = {k: v + float("inf") if bad else v for k, v in found.terms.items()}
            return found._replace(terms=terms)

        return criterion

    CriterionConfig.build = spoiled
    try:
        train(recipe)
        error = ""
    except TrainingError as caught:
        error = str(caught)
    torch.distributed.destroy_process_group()
    return error, held


def test_a_failure_in_one_process_ends_all(recipe, tmp_path):
    """The second process's loss is infinite at step 3: no checkpoint of it, no process hangs."""
    recipe = dataclasses.replace(
        recipe, run=dataclasses.replace(recipe.run, checkpoint_every=1e9, log_every=5)
    )
    (first, held), (second, held_too) = in_two(spoiled_training, recipe, folder=tmp_path)
    assert "the loss of step 3 is not finite in another process" in first
    assert "the loss of step 3 is not finite (cls inf" in second
    assert held == held_too == [1, 1, 2, 3, 4]  # the first step is logged at once
    assert not list(recipe.run.out.glob("*.pt"))


def metered_training(recipe):
    held = counted_steps()
    train(recipe)
    return held


def test_no_process_keeps_the_results_of_steps_that_were_logged(recipe, tmp_path):
    for held in in_two(metered_training, recipe, folder=tmp_path):
        assert len(held) > 8
        assert max(held) == recipe.run.log_every


def timed_training(recipe):
    """Rate and size of each step of a training by a clock that is hours ahead in the second."""
    rank, steps, run = int(os.environ["RANK"]), [], Step.__call__

    def counted(self, parts, rate):
        steps.append((rate, parts[0].images.shape[1]))
        return run(self, parts, rate)

    Step.__call__ = counted
    train(recipe, clock=lambda: (4 + 900 * rank) * len(steps))
    return steps


def test_the_first_clock_decides_for_all(recipe, tmp_path):
    """The second process's clock is hours ahead; both end after the same steps, rates and sizes."""
    timed = dataclasses.replace(
        recipe,
        augment=dataclasses.replace(recipe.augment, phases=(Phase(until=0.5, size=32),)),
        data=dataclasses.replace(recipe.data, workers=1),
        schedule=dataclasses.replace(recipe.schedule, minutes=1.0),
    )
    first, second = in_two(timed_training, timed, folder=tmp_path)
    assert first == second
    assert len(first) == 15
    assert {size for _, size in first} == {32, 64}


def terminated_training(recipe, whole):
    """Steps of a training whose second process gets SIGTERM in its third one, the step that is
    kept, and whether what is resumed ends with the weights of one that nothing stopped."""
    torch.distributed.init_process_group("gloo")
    rank, run = torch.distributed.get_rank(), Step.__call__
    train(whole)
    steps = []

    def counted(self, parts, rate):
        steps.append(rate)
        if rank == 1 and len(steps) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return run(self, parts, rate)

    def end(*_):
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, end)  # as the command line has it
    Step.__call__ = counted
    with pytest.raises(KeyboardInterrupt):
        train(recipe)
    taken = len(steps)
    torch.distributed.barrier()
    kept = checkpoints.load(recipe.run.out / "last.pt")["step"]
    torch.distributed.barrier()
    train(recipe, resume=True)
    torch.distributed.barrier()
    first, second = (
        checkpoints.load(one.run.out / "final.pt")["network"].values() for one in (whole, recipe)
    )
    same = all(map(torch.equal, first, second))
    torch.distributed.destroy_process_group()
    return taken, kept, same


def test_sigterm_to_one_process_ends_all_with_a_checkpoint(recipe, tmp_path):
    """All end after the same step; what is resumed then is as what nothing stopped."""
    whole = dataclasses.replace(recipe, run=dataclasses.replace(recipe.run, out=tmp_path / "whole"))
    for found in in_two(terminated_training, recipe, whole, folder=tmp_path):
        assert found == [3, 3, True]
