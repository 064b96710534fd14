"""RetinaFace with its dense branch: outputs, losses, export and detection."""

from __future__ import annotations

import copy
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from kinds import packed
from PIL import Image

from facefind import FaceDetector, cli, recipes
from facefind.export import export
from facefind.learn.targets import Target
from facefind.mesh.decoding import CAMERA
from facefind.nn.backbones import MobileNetV1
from facefind.protocols import TestProtocol
from facefind.runtimes import Card, open_model
from facefind.systems.mesh.config import MeshConfig
from facefind.systems.mesh.decoder import MeshDecoder
from facefind.systems.mesh.template import face_template
from facefind.systems.mesh.topology import levels
from facefind.systems.retinaface import CRITERION, ROWS


@pytest.fixture(scope="module")
def decoder(tmp_path_factory):
    torch.manual_seed(0)
    template = face_template()
    network = MeshDecoder.over(levels(template.mesh))
    network.landmarks, network.mirror = template.landmarks, template.mirror
    return network.frozen().save(tmp_path_factory.mktemp("mesh") / "drawn.npz")


@pytest.fixture(scope="module")
def network(decoder):
    torch.manual_seed(0)
    mesh = MeshConfig(decoder=decoder, size=16, max_anchors=4, landmarks=0.1)
    network = replace(ROWS["retinaface-mobile"], dense=True, mesh=mesh).build()
    # A block a stage, and the widths of the row's: exporting takes its time.
    network.backbone = MobileNetV1((8, 16), (1, 1, 1, 1), (32, 64, 128, 256))
    for module in network.modules():  # as after training: statistics that are not the initial ones
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    for parameter in network.head.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return network


FACE = Target(
    boxes=torch.tensor([[8.0, 8, 72, 72], [60, 60, 92, 92]]),
    landmarks=torch.cat([torch.rand(1, 5, 2) * 40 + 20, torch.full((1, 5, 2), torch.nan)]),
    ignore=torch.zeros(0, 4),
)


def test_candidates_carry_parameters_in_pixels(network):
    images = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)
    with torch.no_grad():
        boxes, scores, points, mesh = network.eval().candidates(images)
        anchors = network(images).anchors
    assert mesh.shape == (*scores.shape, 144)
    assert points.shape == (*scores.shape, 5, 2)
    assert boxes.shape == (*scores.shape, 4)
    near = (mesh[..., CAMERA][..., :2] - anchors.centers).abs() / anchors.sizes
    assert near.max() < 5
    assert (mesh[..., CAMERA][..., 2] > 0).all()
    assert network.mesh_decoder == "drawn"


def test_the_loss_has_the_dense_terms_and_reaches_the_head(network):
    network.train()
    images = torch.randint(0, 256, (2, 3, 96, 96), dtype=torch.uint8)
    losses = CRITERION.build(network)(network(images), packed([FACE, Target.empty()]))
    assert set(losses.terms) == {"cls", "box", "landmarks", "pixel", "mesh"}
    assert losses.terms["pixel"] > 0
    assert losses.terms["mesh"] > 0
    network.zero_grad()
    losses.terms["pixel"].backward()
    assert all(conv.weight.grad.abs().sum() > 0 for conv in list(network.head.mesh)[:1])
    assert all(p.grad is None for p in network.mesh.parameters())


def test_no_faces_give_zeros_with_gradients_everywhere(network):
    network.train()
    images = torch.randint(0, 256, (1, 3, 96, 96), dtype=torch.uint8)
    losses = CRITERION.build(network)(network(images), packed([Target.empty()]))
    assert losses.terms["pixel"] == 0
    network.zero_grad()
    sum(losses.terms.values()).backward()
    trained = [p for p in network.parameters() if p.requires_grad]
    assert all(p.grad is not None for p in trained)


@pytest.fixture(scope="module")
def exported(network, decoder):
    return export(network, decoder.parent / "dense.onnx", Card("dense", "retinaface", min_score=0))


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_an_export_gives_what_the_network_gives(exported, network, runtime):
    model = open_model(exported, runtime, threads=1)
    assert (model.card.landmarks, model.card.mesh) == (True, "drawn")
    assert model.card.strides == network.strides
    reference = open_model(copy.deepcopy(network), card=model.card)
    draw = np.random.default_rng(1)
    for shape in [(3, 3, 64, 160), (1, 3, 224, 32), (2, 3, 32, 32)]:
        images = draw.integers(0, 256, shape, dtype=np.uint8)
        expected, got = reference(images), model(images)
        assert np.ptp(expected.scores) > 0.05
        np.testing.assert_allclose(got.scores, expected.scores, atol=1e-4)
        np.testing.assert_allclose(got.boxes, expected.boxes, atol=0.02)
        np.testing.assert_allclose(got.landmarks, expected.landmarks, atol=0.02)
        np.testing.assert_allclose(got.mesh, expected.mesh, atol=0.02, rtol=1e-3)


@pytest.mark.slow
def test_an_exported_detector_gives_meshes(exported, network, decoder, tmp_path, capsys):
    path = exported
    images = np.random.default_rng(0).integers(0, 256, (1, 3, 64, 64), dtype=np.uint8)
    assert open_model(path)(images).mesh.shape == (1, 168, 144)
    picture = np.ascontiguousarray(images[0].transpose(1, 2, 0))
    rules = TestProtocol(name="few", sizes=(None,), max_faces=5)
    faces = FaceDetector(path, mesh=True, protocol=rules, min_score=0.0).detect(picture)
    live = FaceDetector(network, mesh=decoder, protocol=rules, min_score=0.0).detect(picture)
    assert faces.mesh.shape[1:] == (775, 3)
    assert len(faces) == len(live) == 5
    gap = np.abs(faces.boxes[:, None] - live.boxes).max(2)  # scores that nearly tie change places
    one, other = np.nonzero(gap < 0.1)
    assert len(one) >= 3
    np.testing.assert_allclose(faces.mesh[one], live.mesh[other], atol=0.1, rtol=1e-3)

    Image.fromarray(picture).save(tmp_path / "a.png")
    options = f"--model {path} --min-score {np.sort(live.scores)[0]} --protocol original --json"
    folders = f"--draw {tmp_path / 'drawn'} --mesh-out {tmp_path / 'out'} --mesh-format ply --mesh"
    assert cli.main(["detect", str(tmp_path / "a.png"), *options.split(), *folders.split()]) == 0
    found = json.loads(capsys.readouterr().out)
    assert np.shape(found["mesh"]) == (len(found["scores"]), 775, 3)
    assert len(list((tmp_path / "out").glob("a.png-*.ply"))) == len(found["scores"]) > 0
    assert (tmp_path / "drawn" / "a.png").is_file()


def test_the_configuration_goes_through_json(decoder):
    mesh = MeshConfig(decoder=decoder, size=16)
    recipe = recipes.get("retinaface-mobile")
    recipe = replace(recipe, network=replace(recipe.network, dense=True, mesh=mesh))
    assert recipes.from_dict(recipe.to_dict()).network.mesh == mesh
