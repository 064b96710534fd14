"""The wheel and what its metadata promises."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

import facefind

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    pytest.importorskip("hatchling", reason="the build backend is not installed")
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("*.whl")
    return zipfile.ZipFile(path)


def test_wheel_holds_the_package_its_types_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    tops = {name.partition("/")[0] for name in names}
    assert tops == {"facefind", f"facefind-{facefind.__version__}.dist-info"}
    source = ROOT / "src"
    modules = {path.relative_to(source).as_posix() for path in source.rglob("*.py")}
    assert modules <= names
    assert "facefind/py.typed" in names
    assert not [name for name in names if "test" in name.lower().split("/")[-1]]


def test_wheel_holds_every_model_with_its_card(wheel: zipfile.ZipFile) -> None:
    weights = {Path(name) for name in wheel.namelist() if name.startswith("facefind/weights/")}
    models = {path.stem for path in weights if path.suffix in (".onnx", ".npz")}
    cards = {path.stem for path in weights if path.suffix == ".json"}
    assert models
    assert models == cards


def test_wheel_carries_license_command_and_requirements(wheel: zipfile.ZipFile) -> None:
    info = f"facefind-{facefind.__version__}.dist-info"
    license = wheel.read(f"{info}/licenses/LICENSE").decode()
    assert "Apache License" in license
    assert "END OF TERMS AND CONDITIONS" in license
    assert "facefind = facefind.cli:main" in wheel.read(f"{info}/entry_points.txt").decode()
    metadata = Parser().parsestr(wheel.read(f"{info}/METADATA").decode())
    core = [need for need in metadata.get_all("Requires-Dist", []) if "extra ==" not in need]
    names = {need.split(">")[0].strip() for need in core}
    assert names == {"numpy", "pillow", "openvino", "tyro", "tqdm", "platformdirs"}
    assert metadata["License-Expression"] == "Apache-2.0"


def test_extras_that_the_test_group_takes_exist() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = set(project["project"]["optional-dependencies"])
    (own,) = [need for need in project["dependency-groups"]["test"] if need.startswith("facefind[")]
    assert set(own.removeprefix("facefind[").removesuffix("]").split(",")) <= extras


def test_python_m_facefind_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "facefind", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"facefind {facefind.__version__}\n"
