import dataclasses
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from reference.processes import in_two, run_until

from facefind import datasets, recipes
from facefind.errors import DataError
from facefind.files import Lock
from facefind.learn import checkpoints, engine
from facefind.learn.engine import TrainingError, train
from facefind.learn.index_sampler import Epochs, IndexSampler
from facefind.learn.loader import TrainingSet, loader
from facefind.learn.mining import passes
from facefind.learn.recipe import (
    AugmentConfig,
    MiningConfig,
    OptimConfig,
    ParameterGroup,
    ResizedConfig,
    ScheduleConfig,
)
from facefind.systems.mesh.config import MeshConfig
from facefind.systems.retinaface import ROWS as RETINAFACE

pytestmark = pytest.mark.slow


def weights(folder, key="network", name="last.pt"):
    return checkpoints.load(Path(folder) / name)[key]


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def at(recipe, folder, **run):
    return dataclasses.replace(recipe, run=dataclasses.replace(recipe.run, out=folder, **run))


def test_a_run_learns_and_leaves_its_records(recipe):
    recipe = dataclasses.replace(recipe, schedule=dataclasses.replace(recipe.schedule, epochs=16))
    folder = train(recipe)
    records = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    losses = [r["loss_box"] for r in records if "loss_box" in r]
    assert min(losses[-5:]) < 0.8 * losses[0]
    assert {"load_s", "step_s", "images_per_s", "lr", "gradient"} <= records[0].keys()
    scores = [r["min_positive_score"] for r in records if "min_positive_score" in r]
    assert scores
    assert all(0 <= score <= 1 for score in scores)
    assert any(key.startswith("ap_") for key in records[-1])
    facts = json.loads((folder / "run.json").read_text())
    assert facts["images"] + facts["images_held_out"] == 12
    assert len(facts["digest"]) == 64
    assert recipes.read_recipe(folder) == recipe
    loaded, network = recipes.load_network(folder)
    assert loaded == recipe
    assert same(network.state_dict(), weights(folder, name="final.pt"))
    assert list((folder / "tensorboard").iterdir())


def test_an_unreadable_held_out_image_is_skipped(recipe, tiny_set, tmp_path, caplog):
    broken = tmp_path / "set"
    shutil.copytree(tiny_set, broken)
    data = dataclasses.replace(recipe.data, root=(str(broken),), hold_out=0.4)
    _, held_out = datasets.read_sets(data.root, hold_out=data.hold_out)
    assert len(held_out) > 1
    held_out[0].path.write_bytes(b"")
    folder = train(dataclasses.replace(recipe, data=data))
    assert held_out[0].path.name in caplog.text
    last = json.loads((folder / "log.jsonl").read_text().splitlines()[-1])
    assert any(key.startswith("ap_") for key in last)
    assert last["images_measured"] == len(held_out) - 1
    assert last["digest_measured"] == datasets.digest(held_out[1:])


def test_a_resumed_run_equals_an_uninterrupted_one(recipe, tmp_path):
    whole, parts = at(recipe, tmp_path / "whole"), at(recipe, tmp_path / "parts")
    train(whole)
    train(parts, stop_at=3)
    assert checkpoints.load(tmp_path / "parts" / "last.pt")["step"] == 3
    train(parts, resume=True)
    for key in ("network", "ema"):
        assert same(weights(tmp_path / "whole", key), weights(tmp_path / "parts", key))


def test_sigterm_ends_a_run_after_its_step_and_nothing_is_done_twice(recipe, tmp_path, monkeypatch):
    ended = []
    before = signal.signal(signal.SIGTERM, lambda *_: ended.append(1))
    try:
        whole, parts = at(recipe, tmp_path / "whole"), at(recipe, tmp_path / "parts")
        train(whole)
        with monkeypatch.context() as patch:
            update = engine.Step.__call__

            def killed(self, *args):
                signal.raise_signal(signal.SIGTERM)
                return update(self, *args)

            patch.setattr(engine.Step, "__call__", killed)
            train(parts)
        assert ended == [1]
        assert checkpoints.load(tmp_path / "parts" / "last.pt")["step"] == 1
        assert not (tmp_path / "parts" / "final.pt").exists()
        train(parts, resume=True)
        assert same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_run_has_one_trainer_and_a_folder_of_its_own(recipe, tiny_set, tmp_path):
    lock = Lock(tmp_path / "run" / "lock")
    assert lock.acquire()
    with pytest.raises(TrainingError, match=f"is being trained by process {os.getpid()}"):
        train(recipe)
    lock.release()
    for folder in (tiny_set, tiny_set.parent, tiny_set / "run"):
        with pytest.raises(DataError, match="--out"):
            train(at(recipe, folder))
    assert {path.name for path in tiny_set.iterdir()} == {"images", "tiny_bbx_gt.txt"}


def test_a_resumed_run_with_a_mesh_equals_an_uninterrupted_one(recipe, tmp_path):
    """More anchors are positive than the branch renders, so that it has to choose."""
    row = dataclasses.replace(
        RETINAFACE["retinaface-mobile"],
        dense=True,
        mesh=MeshConfig(size=16, max_anchors=2, min_anchor=4.0),
    )
    dense = dataclasses.replace(recipe, network=row, augment=AugmentConfig(size=128))
    whole, parts = at(dense, tmp_path / "whole"), at(dense, tmp_path / "parts")
    train(whole, stop_at=4)
    for stop in (2, 4):
        torch.manual_seed(stop)
        train(parts, resume=True, stop_at=stop)
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))
    assert '"loss_pixel": 1' in (tmp_path / "whole" / "log.jsonl").read_text()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_mined_run_equals_an_uninterrupted_one(recipe, tmp_path, workers):
    """Threshold 0 marks every image with a positive anchor easy, so that passes do get shorter."""
    mined = dataclasses.replace(
        recipe,
        data=dataclasses.replace(recipe.data, workers=workers),
        optim=dataclasses.replace(recipe.optim, accumulate=2),
        schedule=dataclasses.replace(recipe.schedule, epochs=8),
        mining=MiningConfig(on=True, threshold=0.0, lag=4),
    )
    whole, parts = at(mined, tmp_path / "whole"), at(mined, tmp_path / "parts")
    train(whole)
    for stop in (5, 11, None):
        train(parts, resume=True, stop_at=stop)
    for key in ("network", "ema"):
        assert same(weights(tmp_path / "whole", key), weights(tmp_path / "parts", key))
    begun = passes(tmp_path / "whole")
    assert max(one.skipped for _, one in begun) > 0.3
    assert passes(tmp_path / "parts") == begun
    plain = at(dataclasses.replace(mined, mining=MiningConfig()), tmp_path / "plain")
    train(plain)
    assert not same(weights(tmp_path / "whole"), weights(tmp_path / "plain"))
    late = at(mined, tmp_path / "late", init_from=str(tmp_path / "plain"))
    train(late, stop_at=1)  # mining may begin late, in a run of its own
    assert passes(tmp_path / "late")[0][0] == 1


def test_whole_images_of_many_sizes_are_learned_from(recipe, tmp_path):
    """One image a part, each of its own size, as SmallHardFace trains."""
    resized = ResizedConfig(short_sides=(48, 64, 96), long_side=120, multiple=32)
    whole = dataclasses.replace(
        recipe,
        augment=AugmentConfig(crop="resized", resized=resized, jitter="ssd-float"),
        optim=dataclasses.replace(recipe.optim, accumulate=2),
        schedule=dataclasses.replace(recipe.schedule, batch=2, epochs=12),
        mining=MiningConfig(on=True, threshold=0.0, lag=2),
    )
    folder = train(whole)
    records = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    losses = [r["loss_box"] for r in records if "loss_box" in r]
    assert sum(losses[-8:]) < 0.9 * sum(losses[:8])
    assert len(passes(folder)) > 12  # epochs of the schedule count images that were seen
    assert recipes.read_recipe(folder) == whole


def test_more_loading_processes_than_the_lag_is_an_error(recipe):
    mining = MiningConfig(on=True, lag=1)
    data = dataclasses.replace(recipe.data, workers=2)
    with pytest.raises(DataError, match=r"--mining\.lag"):
        train(dataclasses.replace(recipe, data=data, mining=mining))


def test_a_batch_in_parts_gives_the_mean_gradient(recipe, tmp_path):
    """One step of plain SGD on two halves is the mean of the steps on each half."""
    network = dataclasses.replace(recipe.network, head_groups=4, landmarks=False)
    base = dataclasses.replace(
        recipe,
        network=network,
        data=dataclasses.replace(recipe.data, balance=0.0),
        optim=OptimConfig(lr=1.0, momentum=0.0, weight_decay=0.0, clip=0.0),
        schedule=ScheduleConfig(epochs=4, batch=4, warmup_epochs=0.0),
    )
    torch.manual_seed(base.run.seed)
    before = dict(base.network.build().named_parameters())
    samples, _ = datasets.read_sets(base.data.root, hold_out=base.data.hold_out)
    dataset = TrainingSet(samples, base.augment, base.run.seed)
    sampler = IndexSampler(Epochs([""] * len(samples), base.run.seed))
    gradients = []
    halves = itertools.islice(loader(dataset, sampler, batch=2), 2)
    for images, targets, _ in halves:
        torch.manual_seed(base.run.seed)
        fresh = base.network.build().train()
        outputs = fresh(images.permute(0, 3, 1, 2))
        sum(base.criterion.build(fresh)(outputs, targets).terms.values()).backward()
        gradients.append({name: p.grad for name, p in fresh.named_parameters()})
    optim = dataclasses.replace(base.optim, accumulate=2)
    train(at(dataclasses.replace(base, optim=optim), tmp_path / "run"), stop_at=1)
    after = weights(tmp_path / "run")
    for name, start in before.items():
        mean = (gradients[0][name] + gradients[1][name]) / 2
        assert torch.allclose(start - after[name], mean, atol=1e-4, rtol=1e-3), name
    odd = dataclasses.replace(base, optim=dataclasses.replace(base.optim, accumulate=3))
    with pytest.raises(DataError, match=r"in 3 part\(s\) each \(--optim\.accumulate\)"):
        train(at(odd, tmp_path / "odd"))


def test_a_killed_run_resumes_from_its_last_checkpoint(recipe, tmp_path):
    endless = at(recipe, tmp_path / "run", checkpoint_every=0.0)
    endless = dataclasses.replace(
        endless, schedule=dataclasses.replace(recipe.schedule, epochs=100_000)
    )
    last = tmp_path / "run" / "last.pt"
    run_until(last, train, endless)
    step = checkpoints.load(last)["step"]
    assert step >= 1
    train(endless, resume=True, stop_at=step + 2)
    assert checkpoints.load(last)["step"] == step + 2


AFFINE = "lambda self, x: x * self.weight[:, None, None] + self.bias[:, None, None]"


def test_two_processes_train_as_one(recipe, tmp_path, monkeypatch):
    """Two gloo processes see one process's images, in two parts, and end with its weights.

    Batch normalization is replaced by its affine part, since each process has its own statistics.
    """
    network = dataclasses.replace(recipe.network, head_groups=4, landmarks=False)
    recipe = dataclasses.replace(
        recipe,
        network=network,
        optim=dataclasses.replace(recipe.optim, name="sgd", lr=0.01, accumulate=2),
    )
    script = tmp_path / "run.py"
    script.write_text(
        "import json, sys, torch\n"
        "from facefind import recipes\n"
        "from facefind.learn.engine import train\n"
        f"torch.nn.BatchNorm2d.forward = {AFFINE}\n"
        "train(recipes.from_dict(json.loads(sys.argv[1])), stop_at=4)\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2",
         str(script), json.dumps(at(recipe, tmp_path / "two").to_dict())],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with monkeypatch.context() as patch:
        patch.setattr(torch.nn.BatchNorm2d, "forward", eval(AFFINE))
        train(at(recipe, tmp_path / "one"), stop_at=4)
    one, two = (weights(tmp_path / name) for name in ("one", "two"))
    fresh = recipe.network.build().state_dict()
    moved = 0.0
    for key, value in one.items():
        assert torch.allclose(value, two[key], atol=1e-5), key
        moved = max(moved, (value.float() - fresh[key].float()).abs().max().item())
    assert moved > 1e-3
    assert json.loads((tmp_path / "two" / "run.json").read_text())["processes"] == 2


def parted_training(whole, parts):
    torch.distributed.init_process_group("gloo")  # once for all of the runs
    train(whole, stop_at=12)
    train(parts, stop_at=7)
    torch.distributed.barrier()  # the first process writes the checkpoint
    train(parts, stop_at=12, resume=True)
    torch.distributed.destroy_process_group()


def test_two_processes_mine_lists_of_their_own_and_resume(recipe, tmp_path):
    mined = dataclasses.replace(
        recipe,
        schedule=dataclasses.replace(recipe.schedule, epochs=8),
        mining=MiningConfig(on=True, threshold=0.0, lag=1),
    )
    in_two(parted_training, *(at(mined, tmp_path / n) for n in ("whole", "parts")), folder=tmp_path)
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))
    begun = passes(tmp_path / "whole")
    assert begun == passes(tmp_path / "parts")
    for owner in (0, 1):
        assert max(one.skipped for _, one in begun if one.owner == owner) > 0
    with pytest.raises(DataError, match="the same number of processes"):
        train(at(mined, tmp_path / "whole"), resume=True)


def test_nothing_left_to_train_on_is_said(recipe):
    data = dataclasses.replace(recipe.data, hold_out=0.999)
    with pytest.raises(DataError, match=r"--data\.hold-out 0\.999 leaves no image"):
        train(dataclasses.replace(recipe, data=data))


def test_a_folder_is_not_overwritten(recipe):
    train(recipe, stop_at=1)
    with pytest.raises(TrainingError, match="--resume"):
        train(recipe)
    other = dataclasses.replace(recipe, network=dataclasses.replace(recipe.network, head=16))
    with pytest.raises(TrainingError, match=r"--network\.head 8, not 16"):
        train(other, resume=True)
    last = recipe.run.out / "last.pt"
    content = checkpoints.load(last)
    del content["recipe"]["network"]["scales"]  # as of a version without this field
    checkpoints.save(last, content)
    train(recipe, resume=True, stop_at=2)
    slower = dataclasses.replace(recipe.optim, groups=(ParameterGroup(part="neck", lr=0.5),))
    with pytest.raises(TrainingError, match=r"--optim\.groups"):
        train(dataclasses.replace(recipe, optim=slower), resume=True)


def test_a_loss_that_is_not_finite_stops_the_run(recipe):
    wild = dataclasses.replace(recipe.optim, name="sgd", lr=1e12, clip=0.0)
    with pytest.raises(TrainingError, match=r"lower --optim\.lr"):
        train(dataclasses.replace(recipe, optim=wild))


def test_no_data_is_an_error(recipe, tiny_set, tmp_path):
    with pytest.raises(DataError, match="--data SET"):
        train(dataclasses.replace(recipe, data=dataclasses.replace(recipe.data, root=())))
    labels = tmp_path / "empty_bbx_gt.txt"
    labels.write_text("0--Event/0.jpg\n0\n0 0 0 0 0 0 0 0 0 0\n")
    data = dataclasses.replace(recipe.data, root=(f"{labels},images={tiny_set}/images",))
    with pytest.raises(DataError, match="no face is labeled in the 1 images to learn from"):
        train(dataclasses.replace(recipe, data=data))
