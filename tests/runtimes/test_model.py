from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from facefind.errors import ImageError, RuntimeUnavailableError, WeightsError
from facefind.runtimes import Candidates, Runtime, cpu, installed, open_model, ort, ov
from facefind.systems.scrfd import ROWS

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "reference"))
import block_model

RUNTIMES = ["onnxruntime", "openvino", "torch"]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return block_model.write(tmp_path_factory.mktemp("models") / "blocks.onnx")


def opened(path: Path, name: str, **options: Any) -> Runtime:
    if name == "torch":
        return open_model(block_model.network(), card=block_model.card(), **options)
    return open_model(path, name, **options)  # type: ignore[arg-type]


def noise(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def gap(a: Candidates, b: Candidates) -> float:
    pairs = [(a.boxes, b.boxes), (a.scores, b.scores), (a.landmarks, b.landmarks)]
    return max(float(np.abs(x - y).max()) for x, y in pairs if x is not None and y is not None)


@pytest.mark.parametrize("name", RUNTIMES)
def test_every_runtime_gives_what_the_model_means(path: Path, name: str) -> None:
    model = opened(path, name, threads=1)
    for shape in [(1, 3, 32, 32), (3, 3, 96, 160), (2, 3, 160, 96), (1, 3, 96, 160)]:
        images = noise(*shape)
        found = model(images)
        assert gap(found, block_model.candidates(images)) < 1e-5
        assert all(a.dtype == np.float32 for a in (found.boxes, found.scores, found.landmarks))


@pytest.mark.parametrize("name", RUNTIMES)
def test_what_runs_it_is_shown(path: Path, name: str) -> None:
    model = opened(path, name, threads=1)
    assert (model.name, model.precision, model.threads) == (name, "fp32", 1)
    assert model.provider.lower().startswith("cpu")
    assert model.card == block_model.card()
    for part in ("blocks", "threads=1", "precision='fp32'", model.provider):
        assert part in repr(model)


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_threads_left_open_come_to_the_cores_at_hand(path: Path, name: str) -> None:
    assert opened(path, name).threads == cpu.usable_cores()


@pytest.mark.parametrize("name", RUNTIMES)
def test_bf16_runs_where_the_processor_has_it_and_is_refused_elsewhere(
    path: Path, name: str
) -> None:
    if name == "onnxruntime" or not cpu.has_bf16():
        with pytest.raises(RuntimeUnavailableError, match="bf16"):
            opened(path, name, precision="bf16")
        return
    model = opened(path, name, precision="bf16")
    images = noise(2, 3, 64, 96)
    assert model.precision == "bf16"
    assert gap(model(images), block_model.candidates(images)) < 0.02


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_why_a_library_cannot_be_imported_is_said(
    path: Path, runtime: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be missing, or there and broken, which no installing mends."""

    def broken() -> None:
        raise ImportError("libgomp.so.1: cannot open shared object file")

    monkeypatch.setattr("facefind.runtimes.ov.library", broken)
    monkeypatch.setattr("facefind.runtimes.ov._core_of", ov._core_of.__wrapped__)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(RuntimeUnavailableError, match=r"cannot be imported \((lib|import of)"):
        open_model(path, runtime)


@pytest.mark.parametrize("name", RUNTIMES)
def test_a_provider_that_is_absent_is_an_error_that_names_those_present(
    path: Path, name: str
) -> None:
    with pytest.raises(RuntimeUnavailableError, match=r"(?i)no (provider|device).*cpu"):
        opened(path, name, provider="cuda:7" if name == "torch" else "npu9")
    if name == "openvino":
        with pytest.raises(RuntimeUnavailableError, match=r"present: .*pip install 'facefind\[gpu"):
            opened(path, name, provider="cuda")


def test_a_provider_that_onnxruntime_drops_is_an_error_and_no_silent_cpu(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime

    class Fallen:
        def __init__(self, *_: Any, **__: Any) -> None: ...
        def get_providers(self) -> list[str]:
            return ["CPUExecutionProvider"]

    present = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: present)
    monkeypatch.setattr(onnxruntime, "InferenceSession", Fallen)
    with pytest.raises(RuntimeUnavailableError, match="did not start"):
        ort.OrtSession(path, provider="cuda")


def test_auto_warns_when_the_gpu_it_chose_does_not_start(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = ort.OrtSession

    def refuse(path: Path, threads: Any, precision: Any, provider: Any, **device: Any) -> Any:
        if provider == "CUDAExecutionProvider":
            raise RuntimeUnavailableError("no driver")
        return real(path, threads, precision, provider, **device)

    monkeypatch.setattr(ort, "offers_cuda", lambda: True)
    monkeypatch.setattr(ort, "OrtSession", refuse)
    assert open_model(path).name in ("openvino", "onnxruntime")
    assert "no driver" in caplog.text


def test_cuda_is_offered_where_its_library_and_its_provider_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    present = ["CPUExecutionProvider"]
    monkeypatch.setattr(ort, "providers", lambda: present)
    spec = ModuleSpec("onnxruntime", None)
    monkeypatch.setattr(ort, "find_spec", lambda name: spec)
    assert not ort.offers_cuda()
    spec.submodule_search_locations = [str(tmp_path / "none"), str(tmp_path)]
    present.append("CUDAExecutionProvider")
    assert not ort.offers_cuda()
    (tmp_path / "capi").mkdir()
    (tmp_path / "capi" / "libonnxruntime_providers_cuda.so").touch()
    assert ort.offers_cuda()
    present.pop()
    assert not ort.offers_cuda()
    monkeypatch.setattr(ort, "find_spec", lambda name: None)
    assert not ort.offers_cuda()


def test_auto_takes_openvino_before_onnxruntime_and_what_is_there(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert open_model(path).name == "openvino"
    monkeypatch.setattr("facefind.runtimes.model.installed", lambda: ["onnxruntime"])
    assert open_model(path).name == "onnxruntime"
    monkeypatch.setattr("facefind.runtimes.model.installed", lambda: ["torch"])
    with pytest.raises(RuntimeUnavailableError, match="no runtime is installed"):
        open_model(path)


def test_auto_with_a_provider_that_nothing_has_names_what_each_has(path: Path) -> None:
    with pytest.raises(RuntimeUnavailableError, match=r"OpenVINO has no .*onnxruntime has no"):
        open_model(path, provider="abacus")


def test_installed_names_all_three_here() -> None:
    assert set(installed()) == set(RUNTIMES)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"runtime": "tensorflow"}, "runtime must be one of"),
        ({"precision": "fp8"}, "precision must be one of"),
        ({"threads": 0}, "threads must be at least 1"),
        ({"runtime": "torch"}, "runs networks"),
    ],
)
def test_options_that_cannot_be_are_named(path: Path, options: Any, said: str) -> None:
    with pytest.raises(RuntimeUnavailableError, match=said):
        open_model(path, **options)


def test_a_network_is_not_run_by_a_library_for_files() -> None:
    with pytest.raises(RuntimeUnavailableError, match="export it first"):
        open_model(block_model.network(), "openvino")
    with pytest.raises(TypeError, match="candidates"):
        open_model(SimpleNamespace())  # type: ignore[arg-type]


@pytest.mark.parametrize("name", RUNTIMES)
@pytest.mark.parametrize(
    ("images", "said"),
    [
        (np.zeros((1, 3, 64, 64), np.float32), "uint8"),
        (np.zeros((3, 64, 64), np.uint8), "shape"),
        (np.zeros((1, 64, 64, 3), np.uint8), "shape"),
        (np.zeros((0, 3, 64, 64), np.uint8), "shape"),
        (np.zeros((1, 3, 64, 65), np.uint8), "multiples of 32.*64x65.*pad"),
        ([[0]], "list"),
    ],
)
def test_images_that_do_not_fit_are_named(path: Path, name: str, images: Any, said: str) -> None:
    with pytest.raises(ImageError, match=said):
        opened(path, name)(images)


def test_a_model_of_one_size_refuses_others(tmp_path: Path) -> None:
    path = block_model.write(tmp_path / "fixed.onnx", block_model.card(fixed_size=(64, 96)))
    model = open_model(path)
    assert gap(model(noise(2, 3, 64, 96)), block_model.candidates(noise(2, 3, 64, 96))) < 1e-5
    with pytest.raises(ImageError, match="64 high and 96 wide"):
        model(noise(1, 3, 96, 64))


def test_a_file_that_breaks_the_contract_is_refused(tmp_path: Path) -> None:
    import onnx

    model = onnx.load(str(block_model.write(tmp_path / "a.onnx")))
    del model.graph.output[2]
    (tmp_path / "b.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(WeightsError, match="breaks the contract"):
        open_model(tmp_path / "b.onnx")


def test_a_card_that_wants_another_color_order_is_refused(tmp_path: Path) -> None:
    path = block_model.write(tmp_path / "bgr.onnx", block_model.card("bgr", color_order="BGR"))
    with pytest.raises(WeightsError, match="BGR"):
        open_model(path)


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_a_damaged_graph_is_an_error_of_ours(tmp_path: Path, name: str) -> None:
    import onnx

    model = onnx.load(str(block_model.write(tmp_path / "a.onnx")))
    model.graph.node[3].op_type = "Frobnicate"
    (tmp_path / "b.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(WeightsError, match="cannot open"):
        open_model(tmp_path / "b.onnx", name)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", RUNTIMES)
def test_threads_share_a_model_without_mixing_their_results(path: Path, name: str) -> None:
    model = opened(path, name, threads=1)
    inputs = [noise(1 + i % 2, 3, 32 * (1 + i % 3), 64, seed=i) for i in range(24)]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(model, inputs))
    for images, found in zip(inputs, results, strict=True):
        assert gap(found, block_model.candidates(images)) < 1e-5


@pytest.mark.parametrize("name", RUNTIMES)
def test_results_stay_as_they_were_when_the_model_runs_again(path: Path, name: str) -> None:
    model = opened(path, name)
    first = model(noise(1, 3, 64, 64))
    kept = replace(first, scores=first.scores.copy(), boxes=first.boxes.copy())
    model(np.zeros((1, 3, 64, 64), np.uint8))
    assert np.array_equal(first.scores, kept.scores)
    assert np.array_equal(first.boxes, kept.boxes)


def test_candidates_of_odd_shapes_are_refused() -> None:
    boxes, scores = np.zeros((1, 2, 4), np.float32), np.zeros((1, 2), np.float32)
    assert len(Candidates(boxes, scores)) == 1
    with pytest.raises(ValueError, match="scores"):
        Candidates(boxes, scores[0])
    with pytest.raises(ValueError, match="boxes"):
        Candidates(boxes[:, :1], scores)
    with pytest.raises(ValueError, match="landmarks"):
        Candidates(boxes, scores, np.zeros((1, 2, 10), np.float32))


class Bare(torch.nn.Module):
    """A network that says nothing of itself."""

    def __init__(self) -> None:
        super().__init__()
        self.candidates = block_model.network().candidates


def test_a_network_without_a_card_says_what_it_takes() -> None:
    """Strides and the size multiple are the network's own, not the card's defaults."""
    network = block_model.network()
    network.strides, network.size_multiple, network.system = (64,), 64, "blocks"
    network.landmarks, network.mesh_decoder = True, ""
    model = open_model(network)
    assert (model.card.name, model.card.system, model.card.strides) == ("blocks", "blocks", (64,))
    assert (model.card.size_multiple, model.card.landmarks, model.card.mesh) == (64, True, "")
    assert model(noise(1, 3, 64, 128)).scores.shape == (1, 8)
    with pytest.raises(ImageError, match="multiples of 64"):
        model(noise(1, 3, 96, 96))
    plain = open_model(Bare()).card
    assert (plain.name, plain.system) == ("bare", "bare")
    assert (plain.strides, plain.size_multiple, plain.landmarks) == ((8, 16, 32), 32, False)


@pytest.mark.parametrize("row", ["scrfd-500m", "scrfd-500m-kps"])
def test_a_detector_of_ours_needs_no_card(row: str) -> None:
    card = open_model(ROWS[row].build()).card
    assert (card.system, card.strides, card.size_multiple) == ("scrfd", (8, 16, 32), 32)
    assert card.landmarks == row.endswith("kps")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("onnxruntime", "provider is the CPU"),
        ("openvino", "no device 'CPU' 1"),
        ("torch", "no dev"),
    ],
)
def test_a_device_that_is_absent_is_an_error(path: Path, name: str, said: str) -> None:
    with pytest.raises(RuntimeUnavailableError, match=said):
        opened(path, name, device_id=1)
    with pytest.raises(RuntimeUnavailableError, match="at least 0"):
        opened(path, name, device_id=-1)


def test_the_device_reaches_the_provider(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    real, seen = onnxruntime.InferenceSession, []
    pictures = [np.zeros((1, 3, 32 * rows, 32), np.uint8) for rows in range(1, 8)]
    expected = [ort.OrtSession(path).run(picture) for picture in pictures]

    def note(file: str, sess_options: Any, providers: Any, enable_fallback: int) -> Any:
        assert not enable_fallback
        seen.append(providers)
        session = real(file, sess_options=sess_options, providers=["CPUExecutionProvider"])
        monkeypatch.setattr(session, "get_providers", lambda: [providers[0][0]])
        return session

    names = ("CUDA", "Tensorrt", "CoreML", "Dml", "CPU")
    present = [f"{name}ExecutionProvider" for name in names]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: present)
    monkeypatch.setattr(onnxruntime, "InferenceSession", note)
    session = ort.OrtSession(path, provider="cuda", device_id=3)
    assert session.provider == "CUDAExecutionProvider"
    settings = {"device_id": "3", "use_tf32": "0", "arena_extend_strategy": "kSameAsRequested"}
    settings["cudnn_conv_algo_search"] = "HEURISTIC"
    assert seen == [[("CUDAExecutionProvider", settings), "CPUExecutionProvider"]]
    del seen[:]
    for _ in range(3):
        for picture, arrays in zip(pictures, expected, strict=True):
            for given, wanted in zip(session.run(picture), arrays, strict=True):
                np.testing.assert_array_equal(given, wanted)
    assert len(seen) == ort._OWN_SHAPES  # beside the first; the last three shapes share one
    for _ in range(3):
        session.run(pictures[-1])
    assert len(seen) == ort._OWN_SHAPES + 1
    cache = path.parent / "engines"
    kept = {"engine_cache": cache, "memory_limit": 1 << 30}
    open_model(path, "onnxruntime", provider="tensorrt", **kept)
    name, settings = seen[-1][0]
    assert name == "TensorrtExecutionProvider"
    assert settings["trt_engine_cache_path"] == settings["trt_timing_cache_path"] == str(cache)
    assert settings["trt_max_workspace_size"] == str(1 << 30)
    ort.OrtSession(path, provider="cuda", memory_limit=1 << 30)
    assert seen[-1][0][1]["gpu_mem_limit"] == str(1 << 30)
    limited, opened_before = ort.OrtSession(path, provider="cuda", memory_limit=1 << 30), len(seen)
    for picture in pictures * 5:
        limited.run(picture)
    assert len(seen) == opened_before  # or each session would take as much
    ort.OrtSession(path, provider="coreml", engine_cache=cache)
    assert seen[-1][0][1]["ModelCacheDirectory"] == str(cache)
    ort.OrtSession(path, provider="directml")
    assert seen[-1][0][0] == "DmlExecutionProvider"
    with pytest.raises(RuntimeUnavailableError, match="nothing that engine_cache could keep"):
        ort.OrtSession(path, provider="cuda", engine_cache=cache)
    with pytest.raises(RuntimeUnavailableError, match="not of CPUExecutionProvider"):
        ort.OrtSession(path, memory_limit=1)
    with pytest.raises(RuntimeUnavailableError, match="OpenVINO has none"):
        ov.OpenvinoSession(path, memory_limit=1)

    monkeypatch.setattr(ov, "devices", lambda: ["CPU", "GPU.0", "GPU.1"])
    core = SimpleNamespace(get_property=lambda device, _: pytest.fail(f"opened {device}"))
    monkeypatch.setattr(ov, "_core", lambda: core)
    with pytest.raises(pytest.fail.Exception, match=r"opened GPU\.1"):
        ov.OpenvinoSession(path, provider="gpu", device_id=1)
