import argparse
import copy
import shutil
import traceback
from dataclasses import replace

import pytest
import safetensors.torch
import torch

from facefind.errors import DataError, WeightsError
from facefind.learn import checkpoints
from facefind.learn.engine import train
from facefind.learn.initialization import blend, initialize
from facefind.systems.asfd import ROWS as ASFD
from facefind.systems.retinaface import ROWS as RETINAFACE
from facefind.systems.smallhardface import ROWS

SMALL = replace(
    ROWS["smallhardface"],
    depths=(1, 1, 1, 1, 1),
    widths=(4, 4, 4, 4, 4),
    reduced=4,
    fused=4,
    head=4,
)


def network(seed):
    torch.manual_seed(seed)
    return SMALL.build()


def same(one, other):
    theirs = other.state_dict()
    return all(torch.equal(v, theirs[k]) for k, v in one.state_dict().items())


@pytest.mark.parametrize("averaged", [False, True])
def test_a_run_s_weights_are_taken_and_averaged_ones_first(tmp_path, averaged):
    first, mean, mine = network(0), network(1), network(2)
    content = {"network": first.state_dict()} | ({"ema": mean.state_dict()} if averaged else {})
    torch.save(content, tmp_path / "last.pt")
    assert initialize(mine, tmp_path) == "network"
    assert same(mine, mean if averaged else first)
    torch.save({"network": network(3).state_dict()}, tmp_path / "final.pt")
    initialize(mine, tmp_path)
    assert same(mine, network(3))


def test_weights_are_blended_with_those_they_began_with(tmp_path):
    before, after = network(0), network(1)
    after(torch.zeros(2, 3, 64, 64, dtype=torch.uint8))  # its normalizations have seen something
    torch.save({"network": before.state_dict()}, tmp_path / "last.pt")
    torch.save(before.backbone.state_dict(), tmp_path / "backbone.pt")
    for share in (0.0, 0.25, 1.0):
        mixed = copy.deepcopy(after)
        blend(mixed, tmp_path, share)
        for name, value in mixed.state_dict().items():
            one, other = before.state_dict()[name], after.state_dict()[name]
            expected = (1 - share) * one + share * other if one.is_floating_point() else other
            torch.testing.assert_close(value, expected, msg=name)
    with pytest.raises(DataError, match=r"must lie in 0\.\.1, got 1\.5"):
        blend(after, tmp_path, 1.5)
    with pytest.raises(WeightsError, match="holds the backbone alone"):
        blend(after, tmp_path / "backbone.pt", 0.5)


def test_a_backbone_s_weights_are_taken_without_their_classifier(tmp_path):
    theirs, mine, before = network(0), network(1), network(1)
    weights = theirs.backbone.state_dict() | {"classifier.0.weight": torch.ones(2, 2)}
    torch.save(weights, tmp_path / "vgg.pth")
    assert initialize(mine, tmp_path / "vgg.pth") == "backbone"
    assert same(mine.backbone, theirs.backbone)
    assert same(mine.head, before.head)


def test_branches_that_the_weights_lack_stay_fresh(tmp_path):
    row = RETINAFACE["retinaface-mobile"]
    theirs, mine = row.build(), replace(row, dense=True).build()
    before = {name: v.clone() for name, v in mine.state_dict().items()}
    torch.save({"network": theirs.state_dict()}, tmp_path / "last.pt")
    assert initialize(mine, tmp_path) == "network but for head.mesh, mesh"
    assert same(theirs, mine)
    fresh = [name for name in before if name.startswith(("head.mesh.", "mesh."))]
    assert fresh
    now = mine.state_dict()
    assert all(torch.equal(before[name], now[name]) for name in fresh)

    part = {name: v for name, v in theirs.state_dict().items() if not name.endswith("box.0.bias")}
    torch.save({"network": part}, tmp_path / "last.pt")
    with pytest.raises(WeightsError, match="holds neither"):
        initialize(mine, tmp_path)


@pytest.mark.parametrize("changed", [{"pyramid": "fem"}, {"context": "cpm"}, {"pyramid": "none"}])
def test_feature_modules_of_another_kind_stay_fresh(tmp_path, changed):
    row = replace(ASFD["asfd-d0"], context="rfe")
    theirs, mine = row.build(), replace(row, **changed).build()
    before = {name: v.clone() for name, v in mine.state_dict().items()}
    given = theirs.state_dict()
    torch.save({"network": given}, tmp_path / "last.pt")
    initialize(mine, tmp_path)
    same_parts = {"backbone", "extension", "head"} | ({"neck"} if "context" in changed else set())
    for name, value in mine.state_dict().items():
        part = name.partition(".")[0]
        taken = part in same_parts or (part == "context" and "pyramid" in changed)
        source = given if taken else before
        assert torch.equal(value, source[name]), name


def test_what_does_not_fit_is_refused_and_changes_nothing(tmp_path):
    mine, file = network(1), tmp_path / "a.pth"
    weights = network(0).backbone.state_dict()
    last = list(weights)[-1]
    for changed in (
        {k: v for k, v in weights.items() if k != last},
        weights | {last: torch.ones(7)},
    ):
        torch.save(changed, file)
        with pytest.raises(WeightsError, match=f"without {last}"):
            initialize(mine, file)
    torch.save([1], file)
    with pytest.raises(WeightsError, match="no state dict"):
        initialize(mine, file)
    file.write_bytes(b"nothing of the kind")
    with pytest.raises(WeightsError, match="cannot be read"):
        initialize(mine, file)
    with pytest.raises(WeightsError, match=r"model \(.*scrfd-2\.5g-kps.*gone\.pt is no file"):
        initialize(mine, tmp_path / "gone.pt")
    assert same(mine, network(1))


def test_safetensors_are_read(tmp_path):
    theirs, mine = network(0), network(1)
    safetensors.torch.save_file(theirs.state_dict(), tmp_path / "a.safetensors")
    assert initialize(mine, tmp_path / "a.safetensors") == "network"
    assert same(mine, theirs)
    safetensors.torch.save_file(theirs.backbone.state_dict(), tmp_path / "b.safetensors")
    assert initialize(mine, tmp_path / "b.safetensors") == "backbone"
    (tmp_path / "c.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(WeightsError, match=r"c\.safetensors cannot be read: it is damaged"):
        initialize(mine, tmp_path / "c.safetensors")


def test_files_that_could_run_code_are_refused_in_our_own_words(tmp_path):
    unsafe = {"network": network(0).state_dict(), "args": argparse.Namespace(lr=1.0)}
    torch.save(unsafe, tmp_path / "unsafe.pt")
    torch.jit.script(torch.nn.ReLU()).save(tmp_path / "program.pt")
    (tmp_path / "text.pt").write_bytes(b"nothing of the kind")
    for name, said in {
        "unsafe.pt": r"holds an object of the kind argparse\.Namespace, which may run any code",
        "program.pt": r"holds a program \(TorchScript\), which may run any code",
        "text.pt": "is damaged, or no file of tensors",
    }.items():
        for read in (lambda path: initialize(network(1), path), checkpoints.load):
            with pytest.raises(WeightsError, match=said) as caught:
                read(tmp_path / name)
            shown = "".join(traceback.format_exception(caught.value))
            assert "weights_only" not in shown
            assert "add_safe_globals" not in shown


def test_branches_that_the_network_lacks_are_ignored_unless_it_has_others(tmp_path):
    row = RETINAFACE["retinaface-mobile"]
    theirs, mine = replace(row, dense=True).build(), row.build()
    torch.save({"network": theirs.state_dict()}, tmp_path / "last.pt")
    assert initialize(mine, tmp_path) == "network"
    assert same(mine, theirs)
    renamed = {k.replace("head.box", "head.corners"): v for k, v in mine.state_dict().items()}
    torch.save({"network": renamed}, tmp_path / "last.pt")
    with pytest.raises(WeightsError, match="holds neither"):
        initialize(mine, tmp_path)


def test_parts_are_known_by_their_earlier_names(tmp_path):
    theirs, mine = RETINAFACE["retinaface-mobile"].build(), RETINAFACE["retinaface-mobile"].build()
    old = {"head.landmarks.": "head.points.", "context.": "contexts."}
    state = {}
    for name, value in theirs.state_dict().items():
        now = next((part for part in old if name.startswith(part)), "")
        state[old[now] + name.removeprefix(now) if now else name] = value
    assert state.keys() != theirs.state_dict().keys()
    torch.save({"network": state}, tmp_path / "old.pt")
    assert initialize(mine, tmp_path / "old.pt") == "network"
    assert same(mine, theirs)


def test_a_run_begins_where_another_ended(recipe, tmp_path):
    """At a rate of zero the second run's parameters stay those that it began with."""
    first = train(recipe, stop_at=2)
    still = replace(
        recipe,
        optim=replace(recipe.optim, lr=0.0),
        run=replace(recipe.run, out=tmp_path / "second", init_from=str(first), seed=7),
    )
    second = train(still, stop_at=1)
    names = dict(recipe.network.build().named_parameters())
    kept = checkpoints.load(first / checkpoints.LAST)["ema"]
    now = checkpoints.load(second / checkpoints.LAST)["network"]
    assert all(torch.equal(kept[name], now[name]) for name in names)
    shutil.rmtree(first)
    train(still, resume=True, stop_at=2)  # a resumed run needs no initial weights
