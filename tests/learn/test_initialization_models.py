"""Models that ship, exported and published files as the beginning of a training."""

from __future__ import annotations

import copy
import logging
import shutil
from dataclasses import replace
from functools import cache

import numpy as np
import onnx
import pytest
import torch

import facefind.interop  # noqa: F401  # it knows the files of others
from facefind import recipes, weights
from facefind.errors import WeightsError
from facefind.export import relabel
from facefind.learn.engine import train
from facefind.learn.initialization import initialize, locate
from facefind.nn.statistics import pack
from facefind.runtimes import METADATA_KEY, STATISTICS_KEY, Card, open_model
from facefind.runtimes.onnx_file import metadata
from facefind.runtimes.pytorch import TorchRuntime

MODELS = {
    "scrfd-500m-kps-finetune": "network",
    "scrfd-2.5g-kps-finetune": "network",
    "retinaface-mobile-finetune": "network",
    "retinaface-mobile-mesh-finetune": "network but for mesh",
    "smallhardface-light-finetune": "network",
    "dsfd-light-finetune": "network",
    "asfd-d0-finetune": "network",
}
OTHERS = {
    "scrfd_500m.onnx": "scrfd-500m",
    "scrfd_500m_kps_640.onnx": "scrfd-500m-kps",
    "scrfd_2.5g.onnx": "scrfd-2.5g",
    "scrfd_2.5g_kps_640.onnx": "scrfd-2.5g-kps",
    "retinaface_mobilenet025.pth": "retinaface-mobile-released",
}


def state_of(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


@cache
def initialized(name):
    """The network of a fine-tuning as it begins, once for all tests: they may not change it."""
    recipe = recipes.get(name)
    network = recipe.network.build()
    initialize(network, recipe.run.init_from)
    return network


def unchanged(network, before):
    return all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_every_model_that_ships_has_a_fine_tuning():
    tuned = {recipes.get(name).run.init_from for name in MODELS}
    shipped = {card.name for card in weights.available() if card.precision == "fp32"}
    assert shipped == tuned


@pytest.mark.parametrize("name", MODELS)
def test_a_model_by_name_is_the_network_that_was_exported(name, caplog):
    recipe = recipes.get(name)
    network = recipe.network.build()
    assert initialize(network, recipe.run.init_from) == MODELS[name]
    assert network.training
    assert not caplog.records  # statistics of batch normalization are there
    images = np.random.default_rng(5).integers(0, 256, (2, 3, 96, 160), dtype=np.uint8)
    wanted = open_model(weights.find(recipe.run.init_from))(images)
    got = TorchRuntime(network)(images)
    np.testing.assert_allclose(got.scores, wanted.scores, atol=1e-5)
    np.testing.assert_allclose(got.boxes, wanted.boxes, rtol=1e-5, atol=2e-3)
    assert (got.landmarks is None) == (wanted.landmarks is None)
    if wanted.landmarks is not None:
        np.testing.assert_allclose(got.landmarks, wanted.landmarks, rtol=1e-5, atol=2e-3)
    if got.mesh is not None:
        np.testing.assert_allclose(got.mesh, wanted.mesh, rtol=1e-4, atol=5e-3)


@pytest.mark.parametrize("name", MODELS)
def test_training_starts_from_what_the_model_knows(name):
    """With the statistics of its training, a batch of a photograph gives about the same scores."""
    data = pytest.importorskip("skimage.data", reason="scikit-image holds the photograph")
    network = copy.deepcopy(initialized(name))
    photograph = torch.from_numpy(data.astronaut()[:480, :480].copy()).permute(2, 0, 1)
    crops = torch.stack(
        [photograph[:, y : y + 320, x : x + 320] for x in (0, 160) for y in (0, 160)]
    )
    with torch.no_grad():
        wanted = network.eval()(crops).face_logits.sigmoid()
        got = network.train()(crops).face_logits.sigmoid()
    assert wanted.max() > 0.5
    assert got.max() > 0.4
    # 0.62 to 0.99 with them, at most 0.34 without.
    assert np.corrcoef(got.flatten(), wanted.flatten())[0, 1] > 0.5


def test_a_branch_that_the_file_lacks_stays_fresh(tmp_path):
    whole, file = weights.find("retinaface-mobile"), tmp_path / "plain.onnx"
    onnx.utils.extract_model(str(whole), str(file), ["image"], ["boxes", "scores", "landmarks"])
    model = onnx.load(str(file))
    card = replace(Card.from_file(whole), mesh="")
    kept = {METADATA_KEY: card.to_json(), STATISTICS_KEY: metadata(whole)[STATISTICS_KEY]}
    onnx.helper.set_model_props(model, kept)
    file.write_bytes(model.SerializeToString())

    plain, dense = (recipes.get(f"retinaface-mobile-{kind}finetune") for kind in ("", "mesh-"))
    source, network = plain.network.build(), dense.network.build()
    assert initialize(source, "retinaface-mobile") == "network"
    before = state_of(network)
    assert initialize(network, file) == "network but for head.mesh, mesh"
    now = network.state_dict()
    assert all(torch.equal(value, now[name]) for name, value in source.state_dict().items())
    assert torch.equal(now["head.mesh.0.weight"], before["head.mesh.0.weight"])


def test_a_backbone_of_another_system_is_taken_with_its_statistics():
    light = recipes.get("dsfd-light").network.build()
    before = state_of(light)
    assert initialize(light, "scrfd-500m-kps") == "backbone"
    whole = recipes.get("scrfd-500m-kps").network.build()
    initialize(whole, "scrfd-500m-kps")
    now = light.state_dict()
    for name, value in whole.backbone.state_dict().items():
        assert torch.equal(now[f"backbone.{name}"], value), name
    rest = {name for name, value in before.items() if torch.equal(value, now[name])}
    assert {name for name in before if not name.startswith("backbone.")} == {
        name for name in rest if not name.startswith("backbone.")
    }
    with pytest.raises(WeightsError, match="is of another network"):
        initialize(light, "scrfd-2.5g-kps")
    assert unchanged(light, now)


def test_another_network_or_decoding_is_refused_and_changes_nothing():
    for recipe, said in {
        "scrfd-500m-kps": r"scrfd by the recipe scrfd-2.5g-kps-gpu, is of another network: network",
        "scrfd-2.5g": r"layer 44 of the file is a convolution .* a group normalization, head.tow",
        "smallhardface-light": "is of another network: .* is of shape",
    }.items():
        network = recipes.get(recipe).network.build()
        before = state_of(network)
        with pytest.raises(WeightsError, match=said):
            initialize(network, "scrfd-2.5g-kps")
        assert unchanged(network, before)
    network = recipes.get("retinaface-mobile").network.build()  # encodes boxes by other numbers
    before = state_of(network)
    with pytest.raises(WeightsError, match=r"other outputs: boxes\[.* retinaface-mobile-mesh-gpu"):
        initialize(network, "retinaface-mobile")
    assert unchanged(network, before)
    assert network.training


def test_a_file_without_statistics_is_taken_with_a_warning(tmp_path, caplog):
    file = tmp_path / "scrfd-500m-kps.onnx"
    shutil.copy(weights.find("scrfd-500m-kps"), file)
    relabel(file, Card.from_file(file), "")
    network = recipes.get("scrfd-500m-kps").network.build()
    assert initialize(network, file) == "network"
    assert "lacks the statistics" in caplog.text
    assert "--optim.frozen BatchNorm2d" in caplog.text
    relabel(file, Card.from_file(file), pack(recipes.get("scrfd-2.5g-kps").network.build()))
    with pytest.raises(WeightsError, match="statistics of batch normalization do not fit"):
        initialize(network, file)


def test_names_files_and_folders_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert locate("scrfd-2.5g-kps") == weights.find("scrfd-2.5g-kps")
    assert locate("default") == weights.find("default")
    (tmp_path / "scrfd-2.5g-kps").mkdir()  # a folder that is no run
    assert locate("scrfd-2.5g-kps") == weights.find("scrfd-2.5g-kps")
    (tmp_path / "scrfd-2.5g-kps" / "last.pt").touch()
    assert locate("scrfd-2.5g-kps").samefile(tmp_path / "scrfd-2.5g-kps" / "last.pt")
    with pytest.raises(
        WeightsError, match=r"retinaface-mobile, scrfd-2\.5g-kps.*got scrfd-2g"
    ) as error:
        locate("scrfd-2g")
    assert "int8" not in str(error.value)  # no training begins with these


@pytest.mark.parametrize("file", OTHERS)
def test_published_files_are_taken_under_their_license(shared, file, caplog):
    """Their outputs are compared as they are taken; `interop`'s tests compare the files' own."""
    network = recipes.get(OTHERS[file]).network.build()
    before = state_of(network)
    with caplog.at_level(logging.WARNING):
        assert initialize(network, shared / "weights" / file) == "network"
    assert "license: " in caplog.text
    assert not unchanged(network, before)


def test_published_files_of_other_networks_are_refused(shared):
    network = recipes.get("scrfd-500m").network.build()
    before = state_of(network)
    with pytest.raises(WeightsError, match=r"scrfd_2\.5g\.onnx is of another network: without "):
        initialize(network, shared / "weights" / "scrfd_2.5g.onnx")
    with pytest.raises(WeightsError, match=r"light_DSFD\.pth is of another network: without "):
        initialize(network, shared / "weights" / "light_DSFD.pth")
    mobile = recipes.get("retinaface-mobile-released").network
    other = replace(mobile, mean=(0.0, 0.0, 0.0)).build()
    with pytest.raises(WeightsError, match="has the layers of this network, but other outputs"):
        initialize(other, shared / "weights" / "retinaface_mobilenet025.pth")
    assert unchanged(network, before)


@pytest.mark.parametrize("name", MODELS)
def test_a_fine_tuning_takes_a_step(name, tiny_set, tmp_path):
    recipe = recipes.get(name)
    recipe = replace(
        recipe,
        data=replace(recipe.data, root=(str(tiny_set),), workers=0),
        augment=replace(recipe.augment, size=64),
        schedule=replace(recipe.schedule, batch=2),
        run=replace(recipe.run, out=tmp_path / "run", device="cpu", threads=1),
    )
    folder = train(recipe, stop_at=1)
    saved = torch.load(folder / "last.pt", weights_only=True)
    now = initialized(name).state_dict()
    gap = {n: (v - now[n]).abs().max() for n, v in saved["network"].items() if n.endswith("weight")}
    trained = [gap[name] for name in gap if not name.startswith("mesh.")]
    assert max(trained) > 0
    assert max(trained) < 0.01  # a first step at a small rate
