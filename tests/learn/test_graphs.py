"""Steps captured as CUDA graphs give what steps without them give."""

import dataclasses

import pytest
import torch
from random_outputs import crowd

from facefind.learn import graphs
from facefind.learn.engine import train
from facefind.learn.graphs import GraphedWork
from facefind.learn.loader import Batch

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA GPU")


def batch(faces, images=2):
    return Batch(torch.zeros(images, 8, 8, 3, dtype=torch.uint8), crowd(images, faces), ["a", "b"])


def test_labels_are_padded_to_few_shapes():
    shapes = set()
    for faces in (1, 2, 30, 64, 65, 100, 128):
        padded = crowd(2, faces).padded()
        shapes.add(padded.boxes.shape[0])
        assert len(padded) == 2
        assert torch.equal(padded.boxes[:faces], crowd(2, faces).boxes)
        assert not padded.boxes[faces:].any()
        assert not padded.visible[faces:].any()
    assert shapes == {64, 128}


def test_a_shape_is_captured_when_it_comes_again(monkeypatch):
    """What is captured is stood in for by a record of the calls; the graph itself needs a GPU."""
    calls = []

    class Captured:
        pool = "pool"

        def __init__(self, work, parts, optimizer, pool):
            calls.append(("capture", pool))

        def __call__(self, parts):
            calls.append("replay")
            return (torch.ones(()),)

    monkeypatch.setattr(graphs, "_Captured", Captured)
    work = GraphedWork(lambda parts: calls.append("work") or (torch.zeros(()),), None)
    for faces in (3, 3, 3, 5, 5):
        work([batch(faces)])
    assert calls == [
        *("work", ("capture", None), "replay", "replay"),
        *("work", ("capture", "pool"), "replay"),
    ]


def test_where_capturing_fails_steps_go_on_without(monkeypatch, caplog):
    def refuse(*args):
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(graphs, "_Captured", refuse)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    calls = []
    work = GraphedWork(lambda parts: calls.append("work") or (), None)
    for _ in range(4):
        work([batch(3)])
    assert calls == ["work"] * 4
    assert caplog.text.count("not captured as CUDA graphs: operation not permitted") == 1


@needs_gpu
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_run_of_graphs_equals_one_without(recipe, tmp_path, optimizer):
    logs = []
    for captured in (False, True):
        run = dataclasses.replace(
            recipe.run, device="cuda", out=tmp_path / str(captured), graphs=captured
        )
        optim = dataclasses.replace(recipe.optim, name=optimizer)
        data = dataclasses.replace(recipe.data, cache="device")
        train(dataclasses.replace(recipe, run=run, optim=optim, data=data))
        logs.append(torch.load(run.out / "last.pt", weights_only=True)["network"])
    for name, value in logs[0].items():
        torch.testing.assert_close(value, logs[1][name], rtol=1e-3, atol=1e-4)
