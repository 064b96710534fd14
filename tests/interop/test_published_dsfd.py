"""Published DSFDs in our networks: names both ways, and what lightDSFD finds."""

from __future__ import annotations

import json
from functools import partial

import numpy as np
import pytest
import torch
from reference import published_shapes
from reference.published_shapes import Shapes, conv

from facefind import interop, recipes
from facefind.detector import FaceDetector
from facefind.errors import WeightsError
from facefind.interop import dsfd as published
from facefind.interop.formats import read_state
from facefind.runtimes.pytorch import TorchRuntime
from facefind.systems.dsfd import ROWS

norm = partial(published_shapes.norm, counted=False)


def release_shapes() -> Shapes:
    """The released ResNet-152 from a list of its parts; torch 0.3 counted no batches."""
    found = conv("layer1.0", 3, 64, 7, bias=False) | norm("layer1.1", 64)
    inputs = 64
    for layer, (depth, width) in enumerate(((3, 64), (8, 128), (36, 256), (3, 512)), 1):
        for place in range(depth):
            block = f"layer{layer}.{4 if layer == 1 else 0}.{place}"
            shapes = [(width, inputs, 1), (width, width, 3), (4 * width, width, 1)]
            for number, (out, into, side) in enumerate(shapes, 1):
                found |= conv(f"{block}.conv{number}", into, out, side, bias=False)
                found |= norm(f"{block}.bn{number}", out)
            if place == 0:
                found |= conv(f"{block}.downsample.0", inputs, 4 * width, 1, bias=False)
                found |= norm(f"{block}.downsample.1", 4 * width)
            inputs = 4 * width
    for layer, (into, inner, out) in ((5, (2048, 512, 512)), (6, (512, 128, 256))):
        found |= conv(f"layer{layer}.0", into, inner, 1) | norm(
            f"layer{layer}.1", inner, counted=False
        )
        found |= conv(f"layer{layer}.3", inner, out, 3) | norm(
            f"layer{layer}.4", out, counted=False
        )
    widths = (256, 512, 1024, 2048, 512, 256)
    for level in range(3):
        found |= conv(f"latlayer{level + 1}", widths[level + 1], widths[level], 1)
        found |= conv(f"smooth{level + 1}", widths[level], widths[level], 1)
    names = ("cpm3_3", "cpm4_3", "cpm5_3", "cpm7", "cpm6_2", "cpm7_2")
    for name, width in zip(names, widths, strict=True):
        shapes = ((width, 256), (width, 256), (256, 128), (256, 128), (128, 128))
        for number, (into, out) in enumerate(shapes, 1):
            found |= conv(f"{name}.cpm{number}", into, out, 3)
    for part, counts in {"loc": (4, 8, *(12,) * 4), "conf": (4, 6, *(8,) * 4)}.items():
        for level, count in enumerate(counts):
            shapes = ((512, 256, 3), (256, 256, 3), (256, 256, 3), (256, count, 1))
            for number, (into, out, side) in enumerate(shapes, 1):
                found |= conv(f"{part}.{level}.conv{number}", into, out, side)
    return found


def test_the_released_resnet_152_maps_both_ways():
    """On generated tensors: the file itself is not to be had."""
    with torch.device("meta"):
        theirs = {name: torch.zeros(shape) for name, shape in release_shapes().items()}
        network = ROWS["dsfd-release"].build()
    learned = sum(
        value.numel() for name, value in theirs.items() if not name.endswith(("_mean", "_var"))
    )
    assert learned == 120_058_406
    ours = published.PUBLISHED["dsfd-release"].from_published(theirs)
    wanted = {k: v.shape for k, v in network.state_dict().items() if "num_batches" not in k}
    assert {name: value.shape for name, value in ours.items()} == wanted
    back = published.PUBLISHED["dsfd-release"].to_published(ours)
    assert {name: value.shape for name, value in back.items()} == {
        name: value.shape for name, value in theirs.items()
    }


def test_names_land_where_they_belong():
    one = torch.ones(1)
    names = {
        "layer1.4.2.bn3.running_var": "backbone.layer1.2.bn3.running_var",
        "layer3.0.35.conv2.weight": "backbone.layer3.35.conv2.weight",
        "layer6.4.bias": "extension.stages.1.4.bias",
        "latlayer2.weight": "neck.down.1.weight",
        "smooth3.bias": "neck.own.2.bias",
        "cpm7.cpm4.weight": "context.3.wider.0.weight",
        "loc.5.conv4.bias": "head.box.5.6.bias",
        "conf.0.conv2.weight": "head.cls.0.2.weight",
    }
    for theirs, ours in names.items():
        assert list(published.PUBLISHED["dsfd-release"].from_published({theirs: one})) == [ours]
    light = {
        "inception3.branch3x3_reduce_2.bn.weight": "backbone.inception3.large.0.1.weight",
        "conv6_2.conv.bias": "extension.stages.1.3.bias",
        "cpm4.branch1x1_2.conv.weight": "context.3.mean.0.weight",
        "conf.3.conv2.bn.bias": "head.cls.3.4.bias",
        "loc.3.conv3.bias": "head.box.3.6.bias",
    }
    for theirs, ours in light.items():
        assert list(published.PUBLISHED["lightdsfd"].from_published({theirs: one})) == [ours]
    with pytest.raises(WeightsError, match="latlayer4"):
        published.PUBLISHED["dsfd-release"].from_published({"latlayer4.weight": one})


def test_blue_and_red_change_places():
    first = torch.arange(3.0).reshape(1, 3, 1, 1).expand(8, 3, 3, 3)
    ours = published.PUBLISHED["dsfd-release"].from_published({"layer1.0.weight": first})
    assert ours["backbone.conv1.weight"][0, :, 0, 0].tolist() == [2, 1, 0]
    ours = published.PUBLISHED["lightdsfd"].from_published({"conv1.conv.weight": first})
    assert ours["backbone.conv1.conv.weight"][0, :, 0, 0].tolist() == [2, 1, 0]


def test_a_file_of_torch_0_3_converts(tmp_path):
    """Normalization counted no batches then."""
    with torch.device("meta"):
        built = recipes.get("lightdsfd").network.build()
    state = {
        name: torch.zeros(value.shape)
        for name, value in published.PUBLISHED["lightdsfd"].to_published(built.state_dict()).items()
        if "num_batches" not in name
    }
    torch.save(state, tmp_path / "light.pth")
    done = interop.convert(tmp_path / "light.pth", tmp_path / "light.pt")
    assert (done.format, done.recipe) == ("lightdsfd", "lightdsfd")
    assert "MIT" in done.license
    with pytest.raises(WeightsError, match="it is lightdsfd"):
        interop.convert(tmp_path / "light.pth", tmp_path / "no.pt", row="dsfd-release")


def test_lightdsfd_loads_strictly_and_finds_the_golden_faces(shared, tmp_path):
    path = shared / "weights/light_DSFD.pth"
    state = read_state(path)
    assert len(state) == 642
    assert interop.detect_format(path).name == "lightdsfd"
    done = interop.convert(path, tmp_path / "light.pt")
    assert "MIT" in done.license
    recipe, network = recipes.load_network(tmp_path / "light.pt")
    counted = published.PUBLISHED["lightdsfd"].to_published(network.state_dict())
    back = {name: x for name, x in counted.items() if "num_batches" not in name}
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], value) for name, value in state.items())
    detector = FaceDetector(TorchRuntime(network), protocol=recipe.protocol)
    found = detector.detect(shared / "weights/t1.jpg")
    found = found[found.scores > 0.5]
    golden = json.loads((shared / "weights/golden_t1_retinaface.json").read_text())
    faces = np.array(golden["files"]["retinaface_mobilenet025.pth"]["det"])[:, :4]
    assert len(found) == len(faces) == 6
    for face in faces:  # another network's boxes of the same faces
        x1, y1, x2, y2 = found.boxes.T
        width = (np.minimum(x2, face[2]) - np.maximum(x1, face[0])).clip(0)
        shared_area = width * (np.minimum(y2, face[3]) - np.maximum(y1, face[1])).clip(0)
        area = (x2 - x1) * (y2 - y1) + (face[2] - face[0]) * (face[3] - face[1])
        assert (shared_area / (area - shared_area)).max() > 0.7
