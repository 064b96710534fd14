"""The files of `deploy/`, by what reads them where that is at hand, and by what they name."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import yaml

from facefind import FaceDetector, weights
from facefind.cli.serve import _Serve
from facefind.runtimes import open_model
from facefind.serve.metrics import Metrics

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def known_options() -> set[str]:
    return {f"--{name.replace('_', '-')}" for name in _Serve.__dataclass_fields__}


@pytest.mark.parametrize("name", ["facefind.service", "Containerfile"])
def test_options_of_the_command_exist(name: str):
    lines = (DEPLOY / name).read_text().splitlines()
    started = [line for line in lines if re.match(r"ExecStart|ENTRYPOINT|CMD", line)]
    named = set(re.findall(r"--[a-z-]+", " ".join(started)))
    assert named >= {"--host", "--port"}
    assert named <= known_options()


def test_the_unit_is_one_that_systemd_takes(tmp_path: Path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not here")
    text = (DEPLOY / "facefind.service").read_text()
    unit = tmp_path / "facefind.service"
    unit.write_text(text.replace("/opt/facefind/bin/facefind", shutil.which("true") or "/bin/true"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True
    )
    assert "facefind.service" not in done.stderr, done.stderr


def test_alerts_are_over_metrics_that_are_there():
    rules = yaml.safe_load((DEPLOY / "alerts.yaml").read_text())["groups"][0]["rules"]
    metrics = Metrics()
    metrics.requests.labels("/v1/detect", "503").inc()
    metrics.pictures.labels("failed").inc()
    metrics.seconds.labels("/v1/detect").observe(1)
    text = metrics.text()[0].decode()
    there = set(re.findall(r"^(facefind_\w+)", text, re.MULTILINE))
    assert len(rules) >= 5
    for rule in rules:
        assert set(re.findall(r"facefind_\w+", rule["expr"])) <= there
        assert {"alert", "expr", "for", "labels", "annotations"} == set(rule)


@pytest.mark.parametrize("model", [card.name for card in weights.available()])
def test_the_layout_for_triton_has_the_file_and_its_ports(model: str, tmp_path: Path):
    pytest.importorskip("onnx", reason="the layout is read from the file by onnx")
    place = load(DEPLOY / "triton" / "layout.py").write(tmp_path, model)
    assert (place / "1" / "model.onnx").read_bytes() == weights.find(model).read_bytes()
    text = (place / "config.pbtxt").read_text()
    assert f'name: "{model}"' in text
    assert 'input { name: "image" data_type: TYPE_UINT8 dims: [3, -1, -1] }' in text
    assert 'output { name: "boxes" data_type: TYPE_FP32 dims: [-1, 4] }' in text
    assert 'output { name: "scores" data_type: TYPE_FP32 dims: [-1] }' in text


@pytest.mark.parametrize("model", [card.name for card in weights.available()])
def test_triton_s_own_schema_takes_the_config(model: str, tmp_path: Path):
    pytest.importorskip("onnx", reason="the layout is read from the file by onnx")
    text_format = pytest.importorskip("google.protobuf.text_format")
    found = importlib.util.find_spec("tritonclient")
    if found is None or not found.submodule_search_locations:
        pytest.skip("tritonclient, which holds the schema, is not installed")
    schema = load(Path(found.submodule_search_locations[0]) / "grpc" / "model_config_pb2.py")
    place = load(DEPLOY / "triton" / "layout.py").write(tmp_path, model)
    config = text_format.Parse((place / "config.pbtxt").read_text(), schema.ModelConfig())
    assert config.name == model
    assert config.max_batch_size == 8
    assert [list(port.dims) for port in config.input] == [[3, -1, -1]]


def test_a_detector_over_triton_finds_what_one_here_finds(portrait: np.ndarray):
    here = open_model(weights.find("scrfd-500m-kps"))

    def infer(images: np.ndarray) -> dict[str, np.ndarray]:
        found = here(images)
        return {"boxes": found.boxes, "scores": found.scores, "landmarks": found.landmarks}

    remote = load(DEPLOY / "triton" / "client.py").RemoteModel(here.card, infer)
    faces = FaceDetector(remote).detect(portrait)
    expected = FaceDetector("scrfd-500m-kps").detect(portrait)
    assert len(faces) == len(expected) == 1
    assert np.allclose(faces.boxes, expected.boxes, atol=0.01)
    assert np.allclose(faces.landmarks, expected.landmarks, atol=0.01)
