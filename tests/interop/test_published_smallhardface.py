"""SmallHardFace's Caffe layers in our networks, both ways, and the files that hold them.

The published file is not to be had, so layers are made here; `.caffemodel` files are written by
google.protobuf from Caffe's own message numbers, not by anything of facefind.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from facefind import interop
from facefind.errors import WeightsError
from facefind.interop import caffe
from facefind.interop import smallhardface as published
from facefind.nn.backbones import VGG
from facefind.systems.smallhardface import ROWS

WIDTHS = {"conv1": 64, "conv2": 128, "conv3": 256, "conv4": 512, "conv5": 512}
NEW = {
    "conv5_256": (256, 512, 1),
    "conv4_256": (256, 512, 1),
    "conv4_fuse_final": (512, 512, 3),
}
DILATED = {
    "conv4_fuse_final_dim_red": (128, 512, 3),
    **{f"head_{d}": (128, 128, 3) for d in (1, 2, 4)},
    **{f"cls_score_{d}": (2, 128, 1) for d in (1, 2, 4)},
    **{f"bbox_pred_{d}": (4, 128, 1) for d in (1, 2, 4)},
}
PLAIN = {"head": (128, 512, 3), "cls_score": (6, 128, 1), "bbox_pred": (12, 128, 1)}


def trunk() -> dict[str, tuple[int, int, int]]:
    shapes, inputs = {}, 3
    for block, depth in enumerate((2, 2, 3, 3, 3), 1):
        for index in range(1, depth + 1):
            shapes[f"conv{block}_{index}"] = (WIDTHS[f"conv{block}"], inputs, 3)
            inputs = WIDTHS[f"conv{block}"]
    return shapes


def official(dilated: bool = True) -> dict[str, torch.Tensor]:
    """Layers as published; every tensor begins with a number of its own, but shared ones agree."""
    found = {}
    shapes = trunk() | NEW | (DILATED if dilated else PLAIN)
    for number, (name, (outputs, inputs, side)) in enumerate(shapes.items(), 1):
        mark = 99 if name in ("head_1", "head_2", "head_4") else number
        found[f"{name}.weight"] = torch.zeros(outputs, inputs, side, side)
        found[f"{name}.weight"].view(-1)[0] = mark
        found[f"{name}.bias"] = torch.full((outputs,), -float(mark))
    found["conv5_256_up.weight"] = torch.ones(256, 1, 4, 4)
    return found


@pytest.mark.parametrize(
    ("dilated", "row"), [(True, "smallhardface"), (False, "smallhardface-single")]
)
def test_names_map_both_ways(dilated, row):
    theirs = official(dilated)
    with torch.device("meta"):
        network = ROWS[row].build()
    network.load_state_dict(published.from_caffe(theirs), strict=True, assign=True)
    back = published.to_caffe(network.state_dict())
    del theirs["conv5_256_up.weight"]
    assert back.keys() == theirs.keys()
    for name, value in theirs.items():
        assert torch.equal(back[name], value), name


def test_names_land_where_they_belong():
    ours = published.from_caffe(official())
    first = ours["backbone.features.0.weight"]
    assert first[0, :, 0, 0].tolist() == [0, 0, 1]  # what was blue, Caffe's first, is our last
    numbers = {name: -int(ours[f"{name}.bias"][0]) for name in ("head.shared", "neck.fine.0")}
    assert numbers == {"head.shared": 99, "neck.fine.0": 15}
    assert [
        -int(ours[f"head.{part}.{i}.bias"][0]) for part in ("cls", "box") for i in range(3)
    ] == [
        *(21, 22, 23),
        *(24, 25, 26),
    ]


def test_what_does_not_fit_is_told():
    layers = official()
    layers["head_4.weight"] = layers["head_4.weight"] + 1
    with pytest.raises(WeightsError, match=r"head_4\.weight differs from head_1"):
        published.from_caffe(layers)
    layers = official()
    del layers["conv4_256.bias"]
    with pytest.raises(WeightsError, match=r"no conv4_256\.bias"):
        published.from_caffe(layers)
    with pytest.raises(WeightsError, match="fc6"):
        published.from_caffe(official() | {"fc6.weight": torch.ones(1)})
    with pytest.raises(WeightsError, match="fit no published"):
        published.to_caffe({"head.shared.weight": torch.ones(1)})
    with pytest.raises(WeightsError, match=r"no conv1_1\.weight"):
        published.backbone_from_caffe({})


def messages(old: bool):
    """Caffe's messages, as far as a file of weights needs them, by their numbers."""
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name=f"c{old}.proto", package=f"c{old}")

    def message(name, *fields):
        made = file.message_type.add(name=name)
        for field, number, kind, many, packed, of in fields:
            made.field.add(
                name=field,
                number=number,
                type=kind,
                label=kinds.LABEL_REPEATED if many else kinds.LABEL_OPTIONAL,
                type_name=f".c{old}.{of}" if of else None,
                options=descriptor_pb2.FieldOptions(packed=True) if packed else None,
            )

    message("Shape", ("dim", 1, kinds.TYPE_INT64, True, True, ""))
    whole = [
        (n, i, kinds.TYPE_INT32, False, False, "")
        for i, n in enumerate(("num", "channels", "height", "width"), 1)
    ]
    message(
        "Blob",
        *whole,
        ("data", 5, kinds.TYPE_FLOAT, True, True, ""),
        ("shape", 7, kinds.TYPE_MESSAGE, False, False, "Shape"),
    )
    name, blobs, layer = (4, 6, 2) if old else (1, 7, 100)
    message(
        "Layer",
        ("name", name, kinds.TYPE_STRING, False, False, ""),
        ("loss", 5 + 6 * old, kinds.TYPE_FLOAT, True, False, ""),
        ("blobs", blobs, kinds.TYPE_MESSAGE, True, False, "Blob"),
    )
    message(
        "Net",
        ("name", 1, kinds.TYPE_STRING, False, False, ""),
        ("layer", layer, kinds.TYPE_MESSAGE, True, False, "Layer"),
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"c{old}.Net"))


def write(path, layers, old=False):
    net = messages(old)(name="VGG with a head")
    for name in dict.fromkeys(key.rpartition(".")[0] for key in layers):
        layer = net.layer.add(name=name, loss=[0.5])
        for value in ("weight", "bias"):
            if f"{name}.{value}" not in layers:
                continue
            array = layers[f"{name}.{value}"].numpy()
            blob = layer.blobs.add(data=array.ravel().tolist())
            if old:
                shape = (1,) * (4 - array.ndim) + array.shape
                blob.num, blob.channels, blob.height, blob.width = shape
            else:
                blob.shape.dim.extend(array.shape)
    net.layer.add(name="relu")  # a layer without weights
    path.write_bytes(net.SerializeToString())
    return path


SMALL = {
    "conv1_1.weight": torch.arange(54.0).reshape(2, 3, 3, 3),
    "conv1_1.bias": torch.tensor([-1.5, 300.0]),
    "up.weight": torch.ones(1, 1, 4, 4),
}


@pytest.mark.parametrize("old", [False, True])
def test_a_caffemodel_is_read(tmp_path, old):
    found = published.load_layers(write(tmp_path / "a.caffemodel", SMALL, old))
    assert found.keys() == SMALL.keys()
    for name, value in SMALL.items():
        assert torch.equal(found[name].reshape(value.shape), value), name
        assert found[name].ndim == (4 if old else value.ndim)


def test_an_npz_and_a_torch_file_are_read(tmp_path):
    np.savez(tmp_path / "a.npz", **{k: v.numpy() for k, v in SMALL.items()})
    torch.save(SMALL, tmp_path / "a.pth")
    for name in ("a.npz", "a.pth"):
        found = published.load_layers(tmp_path / name)
        assert all(torch.equal(found[key], value) for key, value in SMALL.items())


@pytest.mark.parametrize("content", [b"", b"\x07", b"\xff" * 20, b"\xa2\x06\x05abc"])
def test_what_is_no_caffemodel_is_refused(tmp_path, content):
    (tmp_path / "a.caffemodel").write_bytes(content)
    with pytest.raises(WeightsError, match=r"(cannot be read|no weights).*expected a \.caffemodel"):
        caffe.read_layers(tmp_path / "a.caffemodel")
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(WeightsError, match=r"(cannot be read|no weights).*expected"):
        caffe.read_layers(tmp_path / "a.npz")
    with pytest.raises(WeightsError, match="no file"):
        caffe.read_layers(tmp_path / "b.caffemodel")


def test_caffe_s_imagenet_weights_make_a_backbone():
    layers = {name: value for name, value in official().items() if name.startswith("conv")}
    layers |= {"fc6.weight": torch.ones(2, 2), "conv1_1.bias": torch.ones(1, 1, 1, 64)}
    with torch.device("meta"):
        backbone = VGG()
    backbone.load_state_dict(published.backbone_from_caffe(layers), assign=True)
    assert backbone.features[0].weight[0, 2, 0, 0] == 1


def test_a_published_file_becomes_a_checkpoint(tmp_path):
    from facefind import recipes

    source = write(tmp_path / "final.caffemodel", official())
    assert interop.detect_format(source).name == "smallhardface-caffe"
    done = interop.convert(source, tmp_path / "ours.pt")
    assert done.recipe == "smallhardface-released"
    recipe, network = recipes.load_network(tmp_path / "ours.pt")
    assert recipe == recipes.get("smallhardface-released")
    assert network.head.shared.weight[0, 0, 0, 0] == 99
