from __future__ import annotations

import ast
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

import facefind


def test_type_checkers_see_the_names_that_python_sees() -> None:
    tree = ast.parse(Path(facefind.__file__).read_text(encoding="utf-8"))
    (checking,) = [node for node in tree.body if isinstance(node, ast.If)]
    imports = [node for node in checking.body if isinstance(node, ast.ImportFrom)]
    seen = {alias.name: node.module for node in imports for alias in node.names}
    assert set(seen) | {"__version__"} == set(facefind.__all__)
    for name, module in seen.items():
        assert module == f"facefind.{facefind._HOME[name]}"


def test_errors_come_back_whole_from_other_processes() -> None:
    from facefind.serve.errors import Overloaded

    for error in (facefind.ImageError("no image"), Overloaded("busy", 3)):
        error.add_note("of a test")
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is type(error)
        assert str(again) == str(error)
        assert vars(again) == vars(error)


def test_every_name_comes_from_its_room() -> None:
    for name in facefind.__all__:
        value = getattr(facefind, name)
        if name != "__version__":
            assert value.__module__.startswith(f"facefind.{facefind._HOME[name]}")
        assert name in dir(facefind)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'detekt'"):
        facefind.detekt  # noqa: B018


def test_a_star_import_brings_the_public_names() -> None:
    space: dict[str, object] = {}
    exec("from facefind import *", space)
    assert set(facefind.__all__) <= space.keys()


def test_importing_the_package_is_quick() -> None:
    code = "import time; t = time.process_time(); import facefind; print(time.process_time() - t)"
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        for _ in range(3)
    ]
    assert min(float(run.stdout) for run in runs) < 0.15


def test_detecting_imports_no_torch() -> None:
    code = (
        "import facefind, sys; facefind.FaceDetector; facefind.draw; print('torch' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"
