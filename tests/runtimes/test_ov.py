"""What only OpenVINO does with a file: when it compiles, and what it computes before."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import textwrap
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facefind import weights
from facefind.runtimes import compiled, open_model, ov

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "reference"))
import block_model


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return block_model.write(tmp_path_factory.mktemp("models") / "blocks.onnx")


# Without what the tests share of compiled models.
OPEN = ov.OpenvinoSession.__init__


def noise(*shape: int) -> Any:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def test_openvino_computes_in_fp32_unless_told_otherwise(path: Path) -> None:
    session = ov.OpenvinoSession(path)
    session.run(noise(1, 3, 32, 32))
    (compiled,) = session._for_shape._own.values()
    assert compiled.model.get_property("INFERENCE_PRECISION_HINT").to_string() == "f32"


def test_a_session_is_closed_as_soon_as_nothing_holds_it(path: Path) -> None:
    session = ov.OpenvinoSession(path)
    session.run(noise(1, 3, 32, 32))
    gc.collect()
    gc.disable()
    try:
        closed = weakref.ref(session)
        del session
        assert closed() is None
    finally:
        gc.enable()


def test_openvino_computes_once_what_constants_decide_but_no_int8_weights(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ov.OpenvinoSession, "__init__", OPEN)
    file = weights.find("scrfd-500m-kps")
    plain = ov.OpenvinoSession(file)._for_shape._make.args[0]
    assert len(plain.get_ops()) < 0.7 * len(ov._core().read_model(str(file)).get_ops())
    file = weights.choose("scrfd-500m-kps", "int8")[0]
    quantized = ov.OpenvinoSession(file)._for_shape._make.args[0]
    kinds = {node.get_element_type().get_type_name() for node in quantized.get_ordered_ops()
             if node.get_type_name() == "Constant"}  # fmt: skip
    assert "i8" in kinds


def test_openvino_keeps_few_compiled_models_however_many_shapes_come(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ov, "_WORTH_COMPILING", 2)
    session = ov.OpenvinoSession(path, threads=1)
    for _ in range(3):
        for side in range(32, 32 * 9, 32):
            images = noise(1, 3, side, 32)
            boxes, scores, _ = session.run(images)
            assert boxes.shape == (1, side // 32, 4)
            assert np.allclose(scores, block_model.candidates(images).scores, atol=1e-5)
    assert len(session._for_shape._own) == ov._OWN_SHAPES


def test_openvino_keeps_what_it_compiles(path: Path) -> None:
    cache = path.parent / "compiled"
    open_model(path, "openvino", engine_cache=cache)(np.zeros((1, 3, 64, 64), np.uint8))
    assert list(cache.iterdir())


def test_what_is_compiled_of_int8_files_is_kept_in_the_users_cache(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ov.OpenvinoSession, "__init__", OPEN)
    quantized = weights.choose("scrfd-500m-kps", "int8")[0]
    images = np.zeros((1, 3, 64, 64), np.uint8)
    cache = tmp_path / "deep" / "cache"
    monkeypatch.setenv("FACEFIND_CACHE", str(cache))
    first = open_model(quantized, "openvino", threads=1)(images)
    (kept,) = cache.iterdir()
    open_model(path, "openvino", threads=1)(images)  # fp32 is fast to compile
    assert list(cache.iterdir()) == [kept]
    again = open_model(quantized, "openvino", threads=1)(images)
    assert np.array_equal(first.scores, again.scores)
    if not ov.library().__version__.startswith("2025.1"):  # takes it for new within one process
        assert list(cache.iterdir()) == [kept]
    for file in set(cache.iterdir()) - {kept}:
        file.unlink()

    monkeypatch.setattr(compiled, "_MOST_BYTES", 2500)
    for day in range(4):
        (cache / f"{day}.blob").write_bytes(bytes(1000))
        os.utime(cache / f"{day}.blob", (day, day))
    os.utime(kept, (0, 0))
    assert compiled.folder() == cache
    assert {file.name for file in cache.iterdir()} == {"2.blob", "3.blob"}

    monkeypatch.setenv("FACEFIND_CACHE", "")
    assert compiled.folder() is None
    monkeypatch.setenv("FACEFIND_CACHE", str(cache / "2.blob" / "in a file"))
    assert compiled.folder() is None
    np.testing.assert_array_equal(open_model(quantized, threads=1)(images).scores, first.scores)
    monkeypatch.delenv("FACEFIND_CACHE")
    own = tmp_path / "own"
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name, appauthor: own / name)
    assert compiled.folder() == own / "facefind"
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name, appauthor: Path("~", name))
    monkeypatch.chdir(tmp_path)
    assert compiled.folder() is None
    assert not Path("~").exists()


def test_nothing_is_told_of_the_use_of_openvino(tmp_path: Path) -> None:
    code = """
        import sys
        import facefind
        facefind.FaceDetector("scrfd-500m-kps", runtime="openvino", precision="fp32")
        assert not {"openvino_telemetry", "openvino.tools.ovc"} & set(sys.modules)
        import openvino
        assert not hasattr(openvino, "nothing")
        assert openvino.convert_model.__module__ == "openvino.tools.ovc.convert"
    """
    environment = {**os.environ, "HOME": str(tmp_path), "USERPROFILE": str(tmp_path)}
    environment["CI"] = "1"  # the converter, asked for by name, does not send either then
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, env=environment)
