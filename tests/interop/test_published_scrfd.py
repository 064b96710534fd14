"""Published SCRFD files in our networks: names both ways, and outputs equal to the files' own."""

from __future__ import annotations

import re

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from reference import mmdet_names
from reference.folding import fuse
from torch import nn

from facefind import images, interop, recipes
from facefind.errors import WeightsError
from facefind.images import resize
from facefind.nn.layers import Scale
from facefind.nn.onnx_weights import run_order
from facefind.runtimes import open_model
from facefind.runtimes.pytorch import TorchRuntime
from facefind.systems.scrfd import ROWS

KINDS = ["scrfd-500m", "scrfd-500m-kps", "scrfd-2.5g", "scrfd-2.5g-kps"]


def official(row: str) -> dict[str, torch.Tensor]:
    """A state dict in the official names; every tensor begins with a number of its own."""
    found = {}
    for number, (name, shape) in enumerate(mmdet_names.shapes(ROWS[row]).items()):
        whole = name.endswith("num_batches_tracked")
        found[name] = torch.zeros(shape, dtype=torch.int64 if whole else torch.float32)
        found[name].view(-1)[0] = number
    found["bbox_head.integral.project"] = torch.arange(9.0)
    return found


@pytest.mark.parametrize("row", list(ROWS))
def test_names_map_both_ways(row):
    theirs = official(row)
    ours = interop.from_mmdet(theirs)
    assert interop.recognize(ours) == row
    assert len(ours) == len(theirs) - 1
    with torch.device("meta"):
        network = ROWS[row].build()
    network.load_state_dict(ours, strict=True, assign=True)
    back = interop.to_mmdet(network.state_dict())
    assert back.keys() == theirs.keys()
    for name, value in theirs.items():
        assert torch.equal(back[name], value), name


def test_names_land_where_they_belong():
    ours = interop.from_mmdet(
        {
            "bbox_head.cls_stride_convs.(16, 16).1.pointwise_conv.bn.running_var": torch.ones(1),
            "bbox_head.stride_kps.(32, 32).bias": torch.ones(1),
            "bbox_head.stride_reg.0.weight": torch.ones(1),
            "bbox_head.cls_stride_convs.0.2.gn.bias": torch.ones(1),
            "neck.downsample_convs.1.conv.bias": torch.ones(1),
        }
    )
    assert list(ours) == [
        "head.towers.1.1.4.running_var",
        "head.landmarks.2.bias",
        "head.box.0.weight",
        "head.towers.0.2.1.bias",
        "neck.downsample_convs.1.bias",
    ]


@pytest.mark.parametrize("wrapped", [True, False])
def test_a_file_becomes_a_network(wrapped, tmp_path):
    torch.manual_seed(0)
    source = ROWS["scrfd-500m-kps"].build().eval()
    file = tmp_path / "official.pth"
    state = interop.to_mmdet(source.state_dict())
    torch.save({"meta": {"epoch": 640}, "state_dict": state} if wrapped else state, file)
    row, network = interop.load_mmdet(file)
    assert row == "scrfd-500m-kps"
    assert not network.training
    picture = torch.randint(0, 256, (1, 3, 64, 64))
    found, expected = network.candidates(picture), source.candidates(picture)
    for part in ("boxes", "scores", "landmarks"):
        assert torch.equal(getattr(found, part), getattr(expected, part))


def test_a_file_becomes_a_checkpoint(tmp_path):
    torch.save({"state_dict": official("scrfd-2.5g")}, tmp_path / "official.pth")
    done = interop.convert(tmp_path / "official.pth", tmp_path / "ours.pt")
    assert (done.format, done.recipe) == ("scrfd-mmdet", "scrfd-2.5g-released")
    assert "non-commercial" in done.license
    made, network = recipes.load_network(tmp_path / "ours.pt")
    assert made == recipes.get("scrfd-2.5g-released")
    assert interop.recognize(network.state_dict()) == "scrfd-2.5g"


@pytest.mark.parametrize("row", list(ROWS))
def test_every_row_has_a_recipe_of_its_own_network(row):
    assert interop.released_recipe(row).network in (ROWS[row], ROWS.get(f"{row}-released"))


def test_what_does_not_fit_is_told(tmp_path):
    state = official("scrfd-2.5g")
    del state["neck.lateral_convs.0.conv.bias"]
    with pytest.raises(WeightsError, match=r"scrfd-2\.5g comes nearest.*lateral_convs\.0\.bias"):
        interop.recognize(interop.from_mmdet(state))
    with pytest.raises(WeightsError, match="do not share"):
        interop.from_mmdet({"bbox_head.reg_stride_convs.0.0.conv.weight": torch.ones(1)})
    with pytest.raises(WeightsError, match=r"'fc\.weight' is no name"):
        interop.from_mmdet({"fc.weight": torch.ones(1)})
    with pytest.raises(WeightsError, match=r"'fc\.weight' is no name"):
        interop.to_mmdet({"fc.weight": torch.ones(1)})
    with pytest.raises(WeightsError, match="no file"):
        interop.load_mmdet(tmp_path / "gone.pth")
    (tmp_path / "bad.pth").write_bytes(b"nothing of the kind")
    with pytest.raises(WeightsError, match="cannot be read"):
        interop.load_mmdet(tmp_path / "bad.pth")
    torch.save({"state_dict": 3}, tmp_path / "odd.pth")
    with pytest.raises(WeightsError, match="holds no state dict"):
        interop.load_mmdet(tmp_path / "odd.pth")


def lively(row: str) -> nn.Module:
    """A network with random statistics in all of its normalizations."""
    torch.manual_seed(5)
    network = ROWS[row].build().eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
            nn.init.normal_(module.running_mean, std=0.3)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return network


def raw(output):
    return output.logits, output.boxes, output.landmarks


@pytest.mark.parametrize("row", [*KINDS, "scrfd-34g-kps"])
def test_fused_gives_the_same(row):
    network = lively(row).double()
    fused = fuse(network)
    assert not [m for m in fused.modules() if isinstance(m, nn.BatchNorm2d)]
    assert [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]  # itself unchanged
    pictures = torch.randint(0, 256, (2, 3, 64, 96))
    for got, want in zip(raw(fused(pictures)), raw(network(pictures)), strict=True):
        assert (got is None) == (want is None)
        if got is not None:
            torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)


def written(network: nn.Module, path, *, skip: int = 0) -> None:
    """A fused network's weights as an ONNX file has them: in order, with few names kept."""
    values, nodes, seen = {}, [], {}
    names = interop.to_mmdet(network.state_dict())
    theirs = {v.data_ptr(): k for k, v in names.items() if k.startswith(("neck.", "bbox_head."))}

    def name(tensor: torch.Tensor) -> str:
        key = theirs.get(tensor.data_ptr(), "") if tensor.ndim > 1 else ""
        key = seen.setdefault(tensor.data_ptr(), key or str(len(values)))
        values[key] = tensor.detach()
        return key

    for index, (scale, module) in enumerate(run_order(network)):
        if index < skip:
            continue
        x = f"x{index}"
        if isinstance(module, Scale):
            level = re.search(r"\d+", scale)[0]
            key = f"bbox_head.scales.{level}.scale"
            values[key] = module.scale.detach()
            nodes.append(helper.make_node("Mul", [nodes[-1].output[0], key], [f"{x}o"]))
        elif isinstance(module, nn.Conv2d):
            bias = [] if module.bias is None else [name(module.bias)]
            nodes.append(helper.make_node("Conv", [x, name(module.weight), *bias], [f"{x}o"]))
        else:
            weight, bias = name(module.weight), name(module.bias)
            nodes += [
                helper.make_node("InstanceNormalization", [x, "one", "nil"], [f"{x}a"]),
                helper.make_node("Reshape", [f"{x}a", "shape"], [f"{x}b"]),
                helper.make_node("Mul", [f"{x}b", weight], [f"{x}c"]),
                helper.make_node("Add", [f"{x}c", bias], [f"{x}o"]),
            ]
    tensors = [numpy_helper.from_array(v.numpy(), k) for k, v in values.items()]
    onnx.save(helper.make_model(helper.make_graph(nodes, "g", [], [], tensors)), str(path))


@pytest.mark.parametrize("row", KINDS)
def test_a_folded_file_is_read_in_running_order(row, tmp_path):
    network = fuse(lively(row))
    written(network, tmp_path / "folded.onnx")
    read = interop.load_onnx(tmp_path / "folded.onnx", row).state_dict()
    for name, value in network.state_dict().items():
        if name in read:
            assert torch.equal(read[name], value), name
        else:  # a folded bias is that of the normalization, the next module
            parent, place = name.removesuffix(".bias").rsplit(".", 1)
            norm = str(int(place) + 1) if place.isdigit() else place.replace("conv", "bn")
            assert torch.equal(read[f"{parent}.{norm}.bias"], value), name


def test_a_folded_file_of_another_row_is_refused(tmp_path):
    written(fuse(lively("scrfd-500m")), tmp_path / "folded.onnx")
    with pytest.raises(WeightsError, match=r"no row 'scrfd-3g'"):
        interop.load_onnx(tmp_path / "folded.onnx", "scrfd-3g")
    with pytest.raises(WeightsError, match=r"is no scrfd-2\.5g: "):
        interop.load_onnx(tmp_path / "folded.onnx", "scrfd-2.5g")
    with pytest.raises(WeightsError, match="is of shape"):
        interop.load_onnx(tmp_path / "folded.onnx", "mobilenet-0.5g")
    model = onnx.load(str(tmp_path / "folded.onnx"))
    names = ["neck.fpn_convs.1.conv.weight", "neck.fpn_convs.2.conv.weight"]
    for node in model.graph.node:
        for place, name in enumerate(node.input):
            if name in names:
                node.input[place] = names[1 - names.index(name)]
    onnx.save(model, str(tmp_path / "swapped.onnx"))
    with pytest.raises(WeightsError, match=r"found neck\.fpn_convs\.2\.conv\.weight, expected"):
        interop.load_onnx(tmp_path / "swapped.onnx", "scrfd-500m")
    written(fuse(lively("scrfd-2.5g")), tmp_path / "short.onnx", skip=1)
    with pytest.raises(WeightsError, match=r"is no scrfd-2\.5g: "):
        interop.load_onnx(tmp_path / "short.onnx", "scrfd-2.5g")


@pytest.mark.parametrize(
    ("file", "row"),
    [
        ("scrfd_500m.onnx", "scrfd-500m"),
        ("scrfd_2.5g.onnx", "scrfd-2.5g"),
        ("scrfd_500m_kps_640.onnx", "scrfd-500m-kps"),
        ("scrfd_2.5g_kps_640.onnx", "scrfd-2.5g-kps"),
    ],
)
def test_our_network_with_published_weights_is_the_published_network(shared, file, row):
    path = shared / "weights" / file
    picture = resize(images.read(shared / "weights" / "t1.jpg"), (443, 640))
    canvas = np.full((640, 640, 3), 128, np.uint8)
    canvas[:443] = picture
    x = np.ascontiguousarray(canvas.transpose(2, 0, 1)[None])
    theirs = open_model(path)(x)
    ours = TorchRuntime(interop.load_onnx(path, row))(x)
    assert (theirs.scores > 0.5).sum() > 20  # six faces, several anchors each
    np.testing.assert_allclose(ours.scores, theirs.scores, atol=1e-4)
    np.testing.assert_allclose(ours.boxes, theirs.boxes, atol=0.02)
    assert (ours.landmarks is None) == (theirs.landmarks is None) == ("kps" not in row)
    if ours.landmarks is not None:
        np.testing.assert_allclose(ours.landmarks, theirs.landmarks, atol=0.02)


@pytest.mark.parametrize("row", KINDS)
def test_a_folded_file_becomes_a_checkpoint_of_the_same_outputs(row, tmp_path):
    network = fuse(lively(row))
    written(network, tmp_path / "folded.onnx")
    assert interop.detect_format(tmp_path / "folded.onnx").name == "scrfd-onnx"
    done = interop.convert(tmp_path / "folded.onnx", tmp_path / "deep" / "ours.pt")
    assert done.recipe == f"{row}-released"
    recipe, ours = recipes.load_network(tmp_path / "deep" / "ours.pt")
    assert recipe.name == done.recipe
    assert [m for m in ours.modules() if isinstance(m, nn.BatchNorm2d)]
    pictures = torch.randint(0, 256, (1, 3, 64, 96))
    for got, want in zip(raw(ours(pictures)), raw(network(pictures)), strict=True):
        assert (got is None) == (want is None)
        if got is not None:
            torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)


def test_a_row_that_a_file_is_not_is_refused(tmp_path):
    torch.save({"state_dict": official("scrfd-2.5g")}, tmp_path / "official.pth")
    with pytest.raises(WeightsError, match=r"is no scrfd-10g, it is scrfd-2\.5g"):
        interop.convert(tmp_path / "official.pth", tmp_path / "ours.pt", row="scrfd-10g")
    written(fuse(lively("scrfd-500m")), tmp_path / "short.onnx", skip=1)
    with pytest.raises(WeightsError, match="layers are those of none"):
        interop.convert(tmp_path / "short.onnx", tmp_path / "ours.pt")
    assert not (tmp_path / "ours.pt").exists()
