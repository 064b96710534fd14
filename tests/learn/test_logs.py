"""What a log warns of: training that waits for its images."""

import dataclasses

import pytest
import torch

from facefind.learn.engine import train
from facefind.learn.loader import TrainingSet
from facefind.learn.logs import DeviceWork, LoadingWatch
from facefind.runtimes import cpu


def means(load_s, step_s=1.0):
    return {"load_s": load_s, "step_s": step_s}


@pytest.mark.parametrize(
    ("workers", "cache", "advice"),
    [
        (0, None, "; raise --data.workers, 0 of 3 processor cores now, or keep decoded images"),
        (2, "host", "; raise --data.workers, 2 of 3 processor cores now"),
        (3, None, "; keep decoded images with --cache auto"),
        (3, "host", ""),
    ],
)
def test_slow_loading_is_said_with_what_to_do(monkeypatch, caplog, workers, cache, advice):
    monkeypatch.setattr(cpu, "usable_cores", lambda: 3)
    watch = LoadingWatch(workers, cache)
    watch.add(41, means(100.0))  # loading begins
    watch.add(50, means(0.6))
    assert not caplog.records
    watch.add(60, means(0.6))
    (message,) = [record.getMessage() for record in caplog.records]
    text = "training waits for its images: 0.6 of the 1.6 seconds that a step takes"
    assert message.startswith(text + advice)
    watch.add(80, means(0.6))
    assert len(caplog.records) == 1


def test_loading_that_keeps_up_is_not_mentioned(caplog):
    watch = LoadingWatch(2, None)
    for step in (1, 20, 40, 60):
        watch.add(step, means(0.45))
    assert not caplog.records


def test_a_gpu_that_still_computes_waits_for_nothing(monkeypatch):
    class Event:
        done = True

        def record(self):
            self.done = False

        def query(self):
            return self.done

    event = Event()
    monkeypatch.setattr(torch.cuda, "Event", lambda: event)
    work = DeviceWork(torch.device("cuda:0"))
    assert work.is_done()
    work.mark()
    assert not work.is_done()
    event.done = True
    assert work.is_done()
    work = DeviceWork(torch.device("cpu"))
    work.mark()
    assert work.is_done()


@pytest.mark.slow
@pytest.mark.parametrize("busy", [False, True])
def test_a_run_warns_of_its_loading(recipe, monkeypatch, caplog, busy):
    """The clock moves only while images are loaded."""
    now, load = [0.0], TrainingSet.__getitem__

    def slow(self, drawn):
        now[0] += 1.0
        return load(self, drawn)

    monkeypatch.setattr(TrainingSet, "__getitem__", slow)
    monkeypatch.setattr(DeviceWork, "is_done", lambda self: not busy)
    long = dataclasses.replace(recipe.schedule, epochs=20 * 4 / 11)
    train(dataclasses.replace(recipe, schedule=long), clock=lambda: now[0])
    messages = [r.getMessage() for r in caplog.records if "waits" in r.getMessage()]
    assert ["4 of the 4 seconds" in message for message in messages] == [True] * (not busy)
