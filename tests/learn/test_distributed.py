"""Several processes: which backend they use, and that all of them see what one sees."""

import dataclasses
import json
import os
import subprocess
import sys

import pytest
import torch

from facefind import datasets
from facefind.errors import DataError
from facefind.learn import distributed
from facefind.learn.recipe import Phase
from facefind.learn.validation import validate

pytestmark = pytest.mark.slow


def torchrun(tmp_path, text, *args):
    """Output of a script in two processes, each of which prints lines of JSON."""
    script = tmp_path / "run.py"
    script.write_text(text)
    return subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2",
         str(script), *map(str, args)],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip


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


def test_processes_share_an_evaluation(recipe, tmp_path):
    """Each measures half of the images, with the first one's statistics, and one gives the AP."""
    count = len(datasets.read(recipe.data.root[0]))
    done = torchrun(
        tmp_path,
        "import json, sys, torch\n"
        "from facefind import datasets, recipes\n"
        "from facefind.detector import FaceDetector\n"
        "from facefind.learn.validation import validate\n"
        "torch.distributed.init_process_group('gloo')\n"
        "rank = torch.distributed.get_rank()\n"
        "recipe = recipes.from_dict(json.loads(sys.argv[1]))\n"
        "torch.manual_seed(3)\n"
        "network = recipe.network.build()\n"
        "if rank:\n"
        "    for buffer in network.buffers():\n"
        "        buffer.fill_(7)\n"
        "seen, detect = [], FaceDetector.detect\n"
        "FaceDetector.detect = lambda self, path: seen.append(path) or detect(self, path)\n"
        "ap = validate(network, recipe, datasets.read(recipe.data.root[0]))\n"
        "open(f'{sys.argv[2]}/{rank}', 'w').write(json.dumps([ap, len(seen)]))\n"
        "torch.distributed.destroy_process_group()\n",
        json.dumps(recipe.to_dict()),
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    (ap, first), (nothing, second) = (json.loads((tmp_path / r).read_text()) for r in "01")
    assert first + second == count
    assert abs(first - second) <= 1
    assert nothing == {}
    torch.manual_seed(3)
    alone = validate(recipe.network.build(), recipe, datasets.read(recipe.data.root[0]))
    assert ap == alone


def test_a_failure_in_one_process_ends_all(recipe, tmp_path):
    """The second process's loss is infinite at step 3: no checkpoint of it, no process hangs."""
    recipe = dataclasses.replace(
        recipe, run=dataclasses.replace(recipe.run, checkpoint_every=1e9, log_every=5)
    )
    done = torchrun(
        tmp_path,
        "import json, sys, torch\n"
        "from facefind import recipes\n"
        "from facefind.learn.engine import TrainingError, train\n"
        "from facefind.learn.logs import Meter\n"
        "from facefind.learn.recipe import CriterionConfig\n"
        "build, calls, held = CriterionConfig.build, [], []\n"
        "torch.distributed.init_process_group('gloo')\n"
        "rank = torch.distributed.get_rank()\n"
        "def spoiled(self, network):\n"
        "    plain = build(self, network)\n"
        "    def criterion(outputs, targets):\n"
        "        found = plain(outputs, targets)\n"
        "        calls.append(1)\n"
        "        bad = rank == 1 and len(calls) == 3\n"
        "        terms = {k: v + float('inf') if bad else v for k, v in found.terms.items()}\n"
        "        return found._replace(terms=terms)\n"
        "    return criterion\n"
        "CriterionConfig.build = spoiled\n"
        "add = Meter.add\n"
        "def counted(self, *args):\n"
        "    add(self, *args)\n"
        "    held.append(len(self._steps))\n"
        "Meter.add = counted\n"
        "try:\n"
        "    train(recipes.from_dict(json.loads(sys.argv[1])))\n"
        "    error = ''\n"
        "except TrainingError as caught:\n"
        "    error = str(caught)\n"
        "open(f'{sys.argv[2]}/{rank}', 'w').write(json.dumps([error, held]))\n"
        "torch.distributed.destroy_process_group()\n",
        json.dumps(recipe.to_dict()),
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    (first, held), (second, held_too) = (json.loads((tmp_path / r).read_text()) for r in "01")
    assert "the loss of step 3 is not finite in another process" in first
    assert "the loss of step 3 is not finite (cls inf" in second
    assert held == held_too == [1, 1, 2, 3, 4]  # the first step is logged at once
    assert not list(recipe.run.out.glob("*.pt"))


def test_no_process_keeps_the_results_of_steps_that_were_logged(recipe, tmp_path):
    done = torchrun(
        tmp_path,
        "import json, sys, torch\n"
        "from facefind import recipes\n"
        "from facefind.learn.engine import train\n"
        "from facefind.learn.logs import Meter\n"
        "held, add = [], Meter.add\n"
        "def counted(self, *args):\n"
        "    add(self, *args)\n"
        "    held.append(len(self._steps))\n"
        "Meter.add = counted\n"
        "train(recipes.from_dict(json.loads(sys.argv[1])))\n"
        "import os; open(f\"{sys.argv[2]}/{os.environ['RANK']}\", 'w').write(json.dumps(held))\n",
        json.dumps(recipe.to_dict()),
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    for rank in "01":
        held = json.loads((tmp_path / rank).read_text())
        assert len(held) > 8
        assert max(held) == recipe.run.log_every


def test_the_first_clock_decides_for_all(recipe, tmp_path):
    """The second process's clock is hours ahead; both end after the same steps, rates and sizes."""
    timed = dataclasses.replace(
        recipe,
        augment=dataclasses.replace(recipe.augment, phases=(Phase(until=0.5, size=32),)),
        data=dataclasses.replace(recipe.data, workers=1),
        schedule=dataclasses.replace(recipe.schedule, minutes=1.0),
    )
    done = torchrun(
        tmp_path,
        "import json, os, sys\n"
        "from facefind import recipes\n"
        "from facefind.learn.engine import train\n"
        "from facefind.learn.step import Step\n"
        "rank, steps, run = int(os.environ['RANK']), [], Step.__call__\n"
        "def counted(self, parts, rate):\n"
        "    steps.append((rate, parts[0].images.shape[1]))\n"
        "    return run(self, parts, rate)\n"
        "Step.__call__ = counted\n"
        "train(recipes.from_dict(json.loads(sys.argv[1])),\n"
        "      clock=lambda: (4 + 900 * rank) * len(steps))\n"
        "open(f'{sys.argv[2]}/{rank}', 'w').write(json.dumps(steps))\n",
        json.dumps(timed.to_dict()),
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    first, second = (json.loads((tmp_path / r).read_text()) for r in "01")
    assert first == second
    assert len(first) == 15
    assert {size for _, size in first} == {32, 64}


def test_sigterm_to_one_process_ends_all_with_a_checkpoint(recipe, tmp_path):
    """All end after the same step; what is resumed then is as what nothing stopped."""
    done = torchrun(
        tmp_path,
        "import dataclasses, json, os, signal, sys, torch\n"
        "from facefind import recipes\n"
        "from facefind.learn import checkpoints\n"
        "from facefind.learn.engine import train\n"
        "from facefind.learn.step import Step\n"
        "torch.distributed.init_process_group('gloo')\n"
        "steps, run, at = [], Step.__call__, [None]\n"
        "def counted(self, parts, rate):\n"
        "    steps.append(rate)\n"
        "    if len(steps) == at[0] and os.environ['RANK'] == '1':\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "    return run(self, parts, rate)\n"
        "Step.__call__ = counted\n"
        "def end(*_):\n"
        "    raise KeyboardInterrupt\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "recipe = recipes.from_dict(json.loads(sys.argv[1]))\n"
        "whole = dataclasses.replace(recipe, run=dataclasses.replace(\n"
        "    recipe.run, out=recipe.run.out.with_name('whole')))\n"
        "train(whole)\n"
        "at[0] = len(steps) + 3\n"
        "try:\n"
        "    train(recipe)\n"
        "except KeyboardInterrupt:\n"
        "    taken = len(steps) - at[0] + 3\n"
        "torch.distributed.barrier()\n"
        "kept = checkpoints.load(recipe.run.out / 'last.pt')['step']\n"
        "torch.distributed.barrier()\n"
        "train(recipe, resume=True)\n"
        "torch.distributed.barrier()\n"
        "first, second = (checkpoints.load(r.run.out / 'final.pt')['network'].values()\n"
        "                 for r in (whole, recipe))\n"
        "same = all(map(torch.equal, first, second))\n"
        "place = f\"{sys.argv[2]}/{os.environ['RANK']}\"\n"
        "open(place, 'w').write(json.dumps([taken, kept, same]))\n"
        "torch.distributed.destroy_process_group()\n",
        json.dumps(recipe.to_dict()),
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    for rank in "01":
        assert json.loads((tmp_path / rank).read_text()) == [3, 3, True]
