"""Published RetinaFaces in our networks: names both ways, golden faces, the port's ONNX layout."""

from __future__ import annotations

import json
import tarfile

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from reference import port_names
from torch import nn

from facefind import images, interop, recipes
from facefind.detector import FaceDetector
from facefind.errors import WeightsError
from facefind.interop import retinaface as published
from facefind.interop.formats import read_state
from facefind.protocols import TestProtocol
from facefind.runtimes import open_model
from facefind.runtimes.adapters import RetinaFaceReader
from facefind.runtimes.pytorch import TorchRuntime
from facefind.systems.retinaface import ROWS

KINDS = {"mobile": "retinaface-mobile-released", "resnet50": "retinaface-r50-released"}


def official(kind: str) -> dict[str, torch.Tensor]:
    """A state dict in the port's names; every tensor begins with a number of its own."""
    found = {}
    for number, (name, shape) in enumerate(port_names.shapes(kind).items()):
        whole = name.endswith("num_batches_tracked")
        found[name] = torch.zeros(shape, dtype=torch.int64 if whole else torch.float32)
        found[name].view(-1)[0] = number
    return found


@pytest.mark.parametrize("kind", list(KINDS))
def test_names_map_both_ways(kind):
    theirs = official(kind)
    ours = published.from_port(theirs)
    assert published.recognize(ours) == KINDS[kind]
    with torch.device("meta"):
        network = ROWS[KINDS[kind]].build()
    network.load_state_dict(ours, strict=True, assign=True)
    back = published.to_port(network.state_dict())
    assert back.keys() == theirs.keys()
    for name, value in theirs.items():
        assert torch.equal(back[name], value), name


def test_the_mobile_file_has_300_tensors(shared):
    state = read_state(shared / "weights/retinaface_mobilenet025.pth")
    assert len(state) == 300
    assert {name: tuple(x.shape) for name, x in state.items()} == port_names.shapes("mobile")


def test_names_land_where_they_belong():
    one = torch.ones(1)
    assert list(
        published.from_port(
            {
                "body.stage1.3.4.running_var": one,
                "body.stage2.5.0.weight": one,
                "body.layer3.22.conv2.weight": one,
                "fpn.merge2.1.bias": one,
                "ssh3.conv7x7_3.0.weight": one,
                "LandmarkHead.1.conv1x1.bias": one,
            }
        )
    ) == [
        "backbone.layer1.1.4.running_var",
        "backbone.layer3.5.0.weight",
        "backbone.layer3.22.conv2.weight",
        "neck.smooths.1.1.bias",
        "context.2.conv7_3.0.weight",
        "head.landmarks.1.bias",
    ]


def test_blue_and_red_change_places():
    first = torch.arange(3.0).reshape(1, 3, 1, 1).expand(8, 3, 3, 3)
    ours = published.from_port({"body.stage1.0.0.weight": first})["backbone.stem.0.0.weight"]
    assert ours[0, :, 0, 0].tolist() == [2, 1, 0]


GOLDEN_RULES = TestProtocol(name="golden", sizes=(None,), min_score=0.5, nms_iou=0.4)


def test_our_network_with_published_weights_gives_the_golden_faces(shared):
    file = "retinaface_mobilenet025.pth"
    golden = json.loads((shared / "weights/golden_t1_retinaface.json").read_text())["files"][file]
    row, network = published.load_port(shared / "weights" / file)
    assert row == "retinaface-mobile-released"
    picture = images.read(shared / "weights/t1.jpg").transpose(2, 0, 1)[None]
    with torch.inference_mode():  # at its own size, 1280 x 886, as the golden faces were made
        found = network.candidates(torch.from_numpy(np.ascontiguousarray(picture)))
    boxes, scores, points = found.boxes, found.scores, found.landmarks
    assert points is not None
    for face, corners in zip(golden["det"], golden["kps"], strict=True):
        gaps = np.abs(boxes[0].numpy() - face[:4]).max(1)
        anchor = int(gaps.argmin())
        assert gaps[anchor] < 0.002
        assert scores[0, anchor] == pytest.approx(face[4], abs=2e-3)
        assert np.abs(points[0, anchor].numpy() - corners).max() < 0.002
    # And through the detector, which pads the image: each of them once, and nothing else.
    found = FaceDetector(TorchRuntime(network), protocol=GOLDEN_RULES).detect(
        shared / "weights/t1.jpg"
    )
    assert len(found) == len(golden["det"])
    assert found.landmarks is not None
    for face, corners in zip(golden["det"], golden["kps"], strict=True):
        gaps = np.abs(found.boxes - face[:4]).max(1)
        assert gaps.min() < 1
        assert np.abs(found.landmarks[gaps.argmin()] - corners).max() < 1


PICTURES = (
    "9--Press_Conference/9_Press_Conference_Press_Conference_9_161",
    "39--Ice_Skating/39_Ice_Skating_Ice_Skating_39_163",
)


def test_the_published_detections_come_out_under_the_port_s_protocol(shared):
    """The port's own results on WIDER FACE, whole pixels and all scores from 0.02."""
    reference = shared / "data/wider_reference/detections/retinaface_mobilenet025_original.tar.gz"
    network = published.load_port(shared / "weights/retinaface_mobilenet025.pth")[1]
    detector = FaceDetector(TorchRuntime(network), protocol="retinaface-original")
    with tarfile.open(reference) as archive:
        for name in PICTURES:
            lines = archive.extractfile(f"widerface_txt/{name}.txt").read().decode().splitlines()
            rows = np.array([line.split() for line in lines[2:]], float)
            found = detector.detect(shared / f"data/wider_val_public/images/{name}.jpg")
            assert len(found) == len(rows)
            corners = np.concatenate([rows[:, :2], rows[:, :2] + rows[:, 2:4]], 1)
            clear = rows[:, 4] > 0.5  # fainter ones change a little with the padding of the image
            np.testing.assert_array_equal(found.boxes[clear], corners[clear])
            np.testing.assert_allclose(found.scores[clear], rows[clear, 4], atol=2e-3)


@pytest.mark.parametrize(
    ("kind", "prefix"), [("mobile", ""), ("mobile", "module."), ("resnet50", "module.")]
)
def test_a_file_becomes_a_checkpoint(kind, prefix, tmp_path):
    state = {f"{prefix}{name}": value for name, value in official(kind).items()}
    torch.save(state, tmp_path / "port.pth")
    assert interop.detect_format(tmp_path / "port.pth").name == "retinaface-port"
    made = interop.convert(tmp_path / "port.pth", tmp_path / "ours.pt")
    assert (made.format, made.recipe) == ("retinaface-port", KINDS[kind])
    recipe, network = recipes.load_network(tmp_path / "ours.pt")
    assert recipe == recipes.get(KINDS[kind])
    assert published.recognize(network.state_dict()) == KINDS[kind]


def test_what_does_not_fit_is_told(tmp_path):
    state = official("mobile")
    del state["ssh1.conv3X3.0.weight"]
    with pytest.raises(WeightsError, match=r"mobile-released comes nearest.*context\.0\.conv3"):
        published.recognize(published.from_port(state))
    for name in ("body.stage1.9.0.weight", "ssh1.conv9X9.0.weight", "fc.weight", "Head.1.x"):
        with pytest.raises(WeightsError, match="is no name of the PyTorch port"):
            published.from_port({name: torch.ones(1)})
    with pytest.raises(WeightsError, match="is no name of a three-level RetinaFace"):
        published.to_port({"neck.coarser.0.weight": torch.ones(1)})
    torch.save(official("mobile"), tmp_path / "mobile.pth")
    with pytest.raises(WeightsError, match="is no retinaface-r50-released"):
        interop.convert(tmp_path / "mobile.pth", tmp_path / "x.pt", row="retinaface-r50-released")


def answering(path, arrays):
    """An ONNX file of the port's form that gives these arrays, whatever it is shown."""
    shapes = [
        ("input0", [1, 3, 96, 128]),
        *((f"o{i}", list(a.shape)) for i, a in enumerate(arrays)),
    ]
    ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n, shape in shapes]
    zero = numpy_helper.from_array(np.float32(0), "zero")
    nodes = [
        helper.make_node("Mul", ["input0", "zero"], ["nil"]),
        helper.make_node("ReduceSum", ["nil"], ["nothing"], keepdims=0),
    ]
    for index, array in enumerate(arrays):
        tensor = numpy_helper.from_array(array, f"c{index}")
        nodes += [
            helper.make_node("Constant", [], [f"c{index}"], value=tensor),
            helper.make_node("Add", [f"c{index}", "nothing"], [f"o{index}"]),
        ]
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:], [zero])
    opset = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), str(path))


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_an_onnx_file_of_the_port_is_read(runtime, tmp_path):
    """Its outputs are our network's raw ones, its candidates must be our network's candidates."""
    torch.manual_seed(0)
    network = ROWS["retinaface-mobile-released"].build().eval()
    for parameter in network.head.parameters():
        nn.init.normal_(parameter, std=0.3)
    picture = torch.randint(0, 256, (1, 3, 96, 128), dtype=torch.uint8)
    with torch.inference_mode():
        raw = network(picture)
    found = [raw.boxes, raw.logits.softmax(-1), raw.landmarks.flatten(2)]
    answering(tmp_path / "port.onnx", [values.numpy() for values in found])
    model = open_model(tmp_path / "port.onnx", runtime)
    assert (model.card.system, model.card.fixed_size) == ("retinaface", (96, 128))
    assert model.card.landmarks
    got, want = model(picture.numpy()), TorchRuntime(network)(picture.numpy())
    np.testing.assert_allclose(got.scores, want.scores, atol=1e-5)
    np.testing.assert_allclose(got.boxes, want.boxes, atol=1e-2)
    np.testing.assert_allclose(got.landmarks, want.landmarks, atol=1e-2)


def test_the_port_s_input_is_blue_first_less_the_means():
    reader = RetinaFaceReader.match("x", outputs(504, (4, 2, 10)), (96, 128), None)
    picture = np.array([[[200]], [[150]], [[100]]], np.uint8)[None]  # red 200
    x = reader.prepare(picture)
    assert x.dtype == np.float32
    assert x.ravel().tolist() == [100 - 104, 150 - 117, 200 - 123]


def outputs(rows: int, kinds: tuple[int, ...], *, raw: bool = False) -> list[np.ndarray]:
    made = [np.zeros((1, rows, kind), np.float32) for kind in kinds]
    if not raw:
        made[kinds.index(2)][...] = 0.5
    return made


def test_only_the_port_s_layout_is_taken_for_it():
    rows = 2 * (12 * 16 + 6 * 8 + 3 * 4)

    def read(*args, **more):
        return RetinaFaceReader.match("x", outputs(*args, **more), (96, 128), None)

    assert read(rows, (4, 2, 10)).card.landmarks
    assert not read(rows, (2, 4)).card.landmarks
    assert read(rows + 2, (4, 2, 10)) is None
    assert read(rows, (4, 2, 8)) is None
    assert read(rows, (4, 2, 10), raw=True) is None
