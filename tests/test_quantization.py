"""int8 files: what is quantized, what it costs, what is refused."""

from collections import Counter
from dataclasses import replace
from itertools import product

import numpy as np
import onnx
import pytest

from facefind import FaceDetector, cli, quantization, weights
from facefind.boxes import iou as pairwise_iou
from facefind.datasets import Sample
from facefind.errors import DataError, RuntimeUnavailableError, WeightsError
from facefind.export import relabel, save
from facefind.learn.initialization import initialize
from facefind.pipeline import DetectorSettings
from facefind.quantization import BITS, KEPT, SCALES, _convolutions, quantize
from facefind.runtimes import Card, cpu, open_model
from facefind.systems.scrfd import FAMILY

pytest.importorskip("nncf")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
MODEL = "scrfd-2.5g-kps"


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    """A photograph's parts, and the faces that the model finds in them."""
    from PIL import Image

    photograph = pytest.importorskip("skimage.data").astronaut()
    folder = tmp_path_factory.mktemp("pictures")
    detector, found = FaceDetector(MODEL, protocol="640", min_score=0.5, threads=1), []
    for number, left in enumerate((0, 30, 60, 90)):
        picture = np.ascontiguousarray(photograph[left // 2 : left // 2 + 400, left : left + 420])
        path = folder / f"{number}.png"
        Image.fromarray(picture).save(path)
        found.append(Sample(path.name, path, detector.detect(path).boxes))
    assert all(len(one.boxes) for one in found)
    return found


@pytest.fixture(scope="module")
def made(samples, tmp_path_factory):
    out = tmp_path_factory.mktemp("int8") / f"{MODEL}-int8.onnx"
    return quantize(weights.find(MODEL), out, samples, samples, max_drop=0.5, threads=1)


def kinds(path):
    return Counter(node.op_type for node in onnx.load(str(path)).graph.node)


def test_the_file_is_quantized_small_and_known_as_such(made):
    assert kinds(made.path)["QuantizeLinear"] > 30
    assert made.path.stat().st_size < 0.5 * weights.find(MODEL).stat().st_size
    card = Card.from_file(made.path)
    assert (card.name, card.precision) == (f"{MODEL}-int8", "int8")
    assert card.results[0]["quantized"] == made.quantized == next(iter(KEPT))
    assert card.results[0]["scales"] == made.scales == SCALES[0]
    assert card.results[0]["bits"] == made.bits == 7
    assert card.loss("avx2") == card.loss("vnni") == made.drop  # by whatever it was measured
    assert card.results[0]["ap_int8"] == made.after
    assert made.before["height>=34"] == 1
    assert made.drop <= 0.5


def test_no_sum_of_two_products_is_cut_at_16_bits(made):
    graph = onnx.load(str(made.path)).graph
    values = {one.name: onnx.numpy_helper.to_array(one) for one in graph.initializer}
    weights = [one for one in values.values() if one.dtype == np.int8 and one.ndim == 4]
    assert len(weights) > 30
    assert max(2 * 255 * np.abs(one.astype(int)).max() for one in weights) < 2**15


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
def test_both_runtimes_find_the_same_faces_in_int8(made, samples, runtime):
    detector = FaceDetector(made.path, runtime=runtime, protocol="640", threads=1)
    assert detector.runtime.precision == "int8"
    for sample in samples:
        found = detector.detect(sample.path)
        assert len(found) == len(sample.boxes)
        assert pairwise_iou(sample.boxes, found.boxes).max(1).min() > 0.8


def test_a_model_with_its_precision_is_its_quantized_file(made, tmp_path, monkeypatch):
    plain = tmp_path / f"{MODEL}.onnx"
    plain.write_bytes(weights.find(MODEL).read_bytes())
    with pytest.raises(WeightsError, match=r"no int8 file of scrfd-2.5g-kps.*facefind quantize"):
        FaceDetector(plain, precision="int8")
    (tmp_path / made.path.name).write_bytes(made.path.read_bytes())
    assert FaceDetector(plain, precision="int8").runtime.path.name == made.path.name
    monkeypatch.setenv("FACEFIND_WEIGHTS", str(tmp_path))
    there = tmp_path / made.path.name
    assert weights.choose(MODEL, "int8") == weights.choose(there.stem, "int8") == (there, "int8")
    with pytest.raises(WeightsError, match="not quantized"):
        open_model(plain, precision="int8")
    with pytest.raises(RuntimeUnavailableError, match="export and quantize"):
        open_model(FAMILY["scrfd-2.5g"].build(), precision="int8")


@pytest.fixture
def pair(tmp_path, monkeypatch):
    """Makes a model and its quantized file, whose cards state losses of AP, of 1."""

    monkeypatch.delenv("FACEFIND_PRECISION")

    def make(loss, loss_in_bf16=None):
        plain = tmp_path / f"{MODEL}.onnx"
        plain.write_bytes(weights.find(MODEL).read_bytes())
        if loss_in_bf16 is not None:
            in_bf16 = {"a": 0.8 - loss_in_bf16}
            stated = {"measure": "bf16", "ap_fp32": {"a": 0.8}, "ap_bf16": in_bf16}
            relabel(plain, replace(Card.from_file(plain), results=(stated,)))
        shipped = weights.find(f"{MODEL}-int8")
        stated = {"measure": "quantization", "ap_fp32": {"a": 0.8}, "ap_int8": {"a": 0.8 - loss}}
        card = replace(Card.from_file(shipped), results=({"measure": "wider"}, stated))
        save(onnx.load(str(shipped)), tmp_path / shipped.name, card)
        return plain, tmp_path / shipped.name

    return make


@pytest.mark.parametrize(
    ("loss", "features", "runtime", "provider", "expected"),
    [
        (0.0019, {"avx2"}, "openvino", None, "int8"),
        (0.0019, {"avx2", "avx512_vnni"}, "auto", None, "int8"),
        (-0.01, {"avx2"}, "auto", "cpu", "int8"),
        (0.0021, {"avx2"}, "auto", None, "fp32"),  # too much is lost
        (0.0019, {"avx2"}, "onnxruntime", None, "fp32"),  # slower there
        (0.0019, {"avx2"}, "auto", "gpu", "fp32"),
        (0.0019, {"neon"}, "auto", None, "fp32"),
        (0.0019, None, "auto", None, "fp32"),
    ],
)
def test_auto_is_int8_where_that_is_faster_and_costs_little(
    pair, monkeypatch, loss, features, runtime, provider, expected
):
    plain, quantized = pair(loss)
    monkeypatch.setattr(cpu, "features", lambda: features)
    path = quantized if expected == "int8" else plain
    assert weights.choose(plain, "auto", runtime, provider) == (path, expected)
    assert weights.choose(plain, "int8", runtime, provider) == (quantized, "int8")
    assert weights.choose(plain, "fp32", runtime, provider) == (plain, "fp32")


@pytest.mark.parametrize(
    ("loss", "loss_in_bf16", "features", "runtime", "expected"),
    [
        (0.0021, 0.0019, {"avx2", "avx512_bf16"}, "auto", "bf16"),
        (0.0019, 0.0001, {"avx2", "avx512_bf16"}, "auto", "int8"),  # which is faster
        (0.0021, 0.0021, {"avx2", "avx512_bf16"}, "auto", "fp32"),
        (0.0021, None, {"avx2", "avx512_bf16"}, "auto", "fp32"),  # not measured
        (0.0021, 0.0001, {"avx2"}, "auto", "fp32"),
        (0.0021, 0.0001, {"avx2", "avx512_bf16"}, "onnxruntime", "fp32"),
    ],
)
def test_auto_is_bf16_where_int8_costs_too_much(
    pair, monkeypatch, loss, loss_in_bf16, features, runtime, expected
):
    plain, quantized = pair(loss, loss_in_bf16)
    monkeypatch.setattr(cpu, "features", lambda: features)
    path = quantized if expected == "int8" else plain
    assert weights.choose(plain, "auto", runtime) == (path, expected)


def test_a_variable_says_what_auto_is(pair, monkeypatch):
    plain, quantized = pair(0.5)
    meant = {"int8": (quantized, "int8"), "bf16": (plain, "bf16"), "auto": (plain, "fp32")}
    for named, expected in (meant | {"": meant["auto"]}).items():
        monkeypatch.setenv("FACEFIND_PRECISION", named)
        assert weights.choose(plain, "auto") == expected
        assert weights.choose(plain, "fp32") == (plain, "fp32")
    monkeypatch.setenv("FACEFIND_PRECISION", "int4")
    with pytest.raises(
        RuntimeUnavailableError, match=r"\$FACEFIND_PRECISION must be one of auto, fp32"
    ):
        weights.choose(plain, "auto")
    with pytest.raises(RuntimeUnavailableError, match=r"^precision must be one of auto, fp32"):
        weights.choose(plain, "int4")


def test_the_loss_is_that_of_such_processors(pair):
    card = Card.from_file(pair(0.0019)[1])
    assert card.loss() == card.loss("avx2") == card.loss("vnni") == pytest.approx(0.0019)
    stated = {"measure": "quantization", "ap_fp32": {"a": 0.8}, "ap_int8": {"a": 0.799}}
    measured = replace(card, results=(*card.results, stated | {"arithmetic": "vnni"}))
    assert measured.loss("vnni") == pytest.approx(0.001)
    assert measured.loss() == measured.loss("avx2") == pytest.approx(0.0019)
    assert replace(card, results=measured.results[-1:]).loss("avx2") is None
    assert replace(card, results=()).loss() is card.loss("bf16") is None
    in_bf16 = {"measure": "bf16", "ap_fp32": {"a": 0.8}, "ap_bf16": {"a": 0.795}}
    plain = replace(card, results=(in_bf16,))
    assert plain.loss("bf16") == plain.loss() == pytest.approx(0.005)
    assert plain.loss("vnni") is None


def test_auto_is_what_detectors_take_and_said(pair, tmp_path, monkeypatch, capsys):
    plain, quantized = pair(0.001)
    monkeypatch.setattr(cpu, "features", lambda: {"avx2"})
    opened = {
        precision: FaceDetector(plain, precision=precision, threads=1).runtime
        for precision in ("auto", "fp32", "int8")
    }
    assert {name: one.precision for name, one in opened.items()} == {
        "auto": "int8",
        "fp32": "fp32",
        "int8": "int8",
    }
    assert "precision='int8'" in repr(FaceDetector(plain, precision="auto", threads=1))
    assert FaceDetector(plain, threads=1).runtime.precision == "int8"
    settings = DetectorSettings(model=str(plain), threads=1)
    noted = settings.open()[1]
    assert noted["precision"] == "fp32"
    assert list(noted)[:2] == ["model", "precision"]  # a resumed run names the first that differs
    assert replace(settings, precision="auto").open()[1]["precision"] == "int8"
    monkeypatch.setenv("FACEFIND_WEIGHTS", str(tmp_path))
    assert cli.main(["doctor"]) in (0, 1)
    lines = capsys.readouterr().out.splitlines()
    said = dict(line.split("  ", 1) for line in lines if "  " in line)
    assert MODEL in said["auto is int8"].split()
    assert MODEL not in said["auto is fp32"].split()
    weights.describe(quantized)
    quantized.write_bytes(quantized.read_bytes() + b"\0")
    assert cli.main(["doctor"]) == 1  # a damaged model is named, and the others are told of
    printed = capsys.readouterr().out
    assert f"problem: {quantized} is damaged" in printed
    assert "scrfd-500m-kps" in printed


def test_auto_of_a_file_without_a_quantized_one_is_itself(made, tmp_path, monkeypatch):
    monkeypatch.delenv("FACEFIND_PRECISION")
    monkeypatch.setattr(cpu, "features", lambda: {"avx2"})
    alone = tmp_path / "alone.onnx"
    alone.write_bytes(weights.find(MODEL).read_bytes())
    assert weights.choose(alone) == (alone, "fp32")
    assert weights.choose(made.path, "fp32") == (made.path, "fp32")
    assert FaceDetector(made.path, precision="fp32", threads=1).runtime.precision == "int8"


def test_training_does_not_begin_with_it(made):
    with pytest.raises(WeightsError, match="is quantized: begin with the model"):
        initialize(FAMILY[MODEL].build(), made.path)
    with pytest.raises(WeightsError, match="quantized already"):
        quantize(made.path, made.path.with_name("again.onnx"), [None], [None])


def test_where_too_much_is_lost_more_is_kept_and_then_nothing_written(
    samples, tmp_path, monkeypatch
):
    before, small = sorted(tmp_path.iterdir()), weights.find("scrfd-500m-kps")
    tried, last, made = [], list(KEPT.values())[-1], quantization._quantized

    def the_last_alone(graph, samples, kept, bits, scales, *more):  # each takes seconds
        tried.append((kept, bits, scales))
        whole = tried[-1] != (last, BITS[-1], SCALES[-1])
        return graph if whole else made(graph, samples, kept, bits, scales, *more)

    monkeypatch.setattr(quantization, "_quantized", the_last_alone)
    with pytest.raises(WeightsError, match="loses more than -1 points") as error:
        quantize(small, tmp_path / "no.onnx", samples[:1], samples[:1], max_drop=-0.01)
    assert all(words in str(error.value) for words in KEPT)
    assert tried == list(product(KEPT.values(), BITS, SCALES))
    assert sorted(tmp_path.iterdir()) == before
    with pytest.raises(DataError, match="0 pictures to choose scales on and 1 to measure"):
        quantize(weights.find(MODEL), tmp_path / "no.onnx", [], samples[:1])
    empty = Sample("0.png", samples[0].path, np.zeros((0, 4), np.float32))
    with pytest.raises(DataError, match="no face is labeled in the 1 images to measure the loss"):
        quantize(weights.find(MODEL), tmp_path / "no.onnx", samples[:1], [empty])


def test_the_parts_of_a_network_are_found():
    graph = onnx.load(str(weights.find(MODEL)))
    named = {node.name: node.input[1] for node in graph.graph.node if node.op_type == "Conv"}
    outputs = {named[name] for name in _convolutions("outputs", graph)}
    assert outputs == {
        f"network.head.{part}.{level}.weight"
        for part in ("cls", "box", "landmarks")
        for level in range(3)
    }
    assert [named[name] for name in _convolutions("image", graph)] == [
        "network.backbone.stem.0.weight"
    ]


def test_the_command_says_what_is_wrong(tmp_path, capsys):
    arguments = ["quantize", MODEL, "--data", str(tmp_path), "--out"]
    assert cli.main([*arguments, str(tmp_path / "model.bin")]) == 2
    assert "must end in .onnx" in capsys.readouterr().err
