"""A room imports from its own floor or lower ones, and floors 0 to 3 work without torch."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import facefind

ROOT = Path(facefind.__file__).parent
FLOORS = {
    **dict.fromkeys(
        ["errors", "files", "forking", "arrays", "boxes", "landmarks", "nms", "mesh"], 0
    ),
    **dict.fromkeys(
        ["images", "faces", "outputs", "conversion", "cropping", "drawing", "redaction"], 1
    ),
    **dict.fromkeys(
        [
            "runtimes",
            "weights",
            "protocols",
            "detector",
            "merging",
            "readers",
            "streaming",
            "video",
        ],
        2,
    ),
    **dict.fromkeys(["pipeline", "datasets", "evaluation", "plots"], 3),
    "nn": 4,
    "learn": 5,
    **dict.fromkeys(["systems", "recipes"], 6),
    **dict.fromkeys(["search", "export", "graph_edits", "adaptation"], 7),
    **dict.fromkeys(["quantization", "interop"], 7),
    **dict.fromkeys(["cli", "serve", "batch", "__main__"], 8),
}
# The package itself only says what its public names are, and where they lie.
FRONT = "__init__"


def room_of(path: Path) -> str:
    return path.relative_to(ROOT).with_suffix("").parts[0]


def sources() -> list[Path]:
    return sorted(ROOT.rglob("*.py"))


def imported(path: Path, text: str) -> Iterator[tuple[int, str]]:
    """Line and room of each import from facefind in `text`, those within functions too."""
    package = ["facefind", *path.relative_to(ROOT).parent.parts]
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else []
            module = [*base, *(node.module.split(".") if node.module else [])]
            names = [[*module, alias.name] for alias in node.names]
        else:
            continue
        for name in names:
            if name[0] == "facefind":
                yield node.lineno, name[1] if len(name) > 1 else FRONT


def climbing(path: Path, text: str) -> list[str]:
    """What breaks the rule in a file: imports from above, or through the package's front."""
    room = room_of(path)
    if room == FRONT:
        return []
    wrong = []
    for line, other in imported(path, text):
        where = f"{path.relative_to(ROOT)}:{line}"
        if other in FLOORS:
            if FLOORS[other] > FLOORS[room]:
                wrong.append(f"{where} {room} is on floor {FLOORS[room]}, {other} on higher")
        elif other != "__version__" and FLOORS[room] < 8:
            wrong.append(f"{where} takes {other} from the package: name the room it lies in")
    return wrong


def test_every_room_has_a_floor() -> None:
    assert {room_of(path) for path in sources()} - {FRONT} <= FLOORS.keys()


def test_contributing_lists_the_rooms_on_their_floors() -> None:
    text = (ROOT.parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    listed: dict[str, int] = {}
    for floor, rooms in re.findall(r"^\| (\d) \| (.+?)(?:: .*)? \|$", text, re.MULTILINE):
        for room in re.findall(r"`(\w+)`", rooms):
            assert room not in listed
            listed[room] = int(floor)
    rooms = {room_of(path) for path in sources()} - {FRONT}
    assert listed == {room: FLOORS[room] for room in rooms}


def test_no_room_imports_from_a_higher_floor() -> None:
    for path in sources():
        assert climbing(path, path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "line",
    [
        "from facefind.detector import FaceDetector",
        "def f():\n    import facefind.nn.cost",
        "from .detector import FaceDetector",
        "from . import cli",
        "from facefind import detect",
    ],
)
def test_the_check_sees_an_import_from_above(line: str) -> None:
    assert climbing(ROOT / "faces.py", line)


@pytest.mark.parametrize(
    "line", ["from facefind.boxes import iou", "from facefind import boxes", "import numpy", ""]
)
def test_the_check_lets_an_import_from_below_pass(line: str) -> None:
    assert not climbing(ROOT / "faces.py", line)


def test_the_lower_half_imports_without_torch_or_any_extra() -> None:
    names = [
        ".".join(["facefind", *path.relative_to(ROOT).with_suffix("").parts]).removesuffix(
            ".__init__"
        )
        for path in sources()
        if room_of(path) != FRONT and FLOORS[room_of(path)] <= 3
    ]
    names.remove("facefind.runtimes.pytorch")  # the torch runtime itself
    absent = ["torch", "cv2", "onnxruntime", "onnx", "scipy", "matplotlib", "safetensors", "av"]
    code = (
        "import importlib, sys\n"
        f"sys.modules.update(dict.fromkeys({absent}))\n"  # None: importing it is an ImportError
        f"for name in {names}:\n    importlib.import_module(name)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def modules_after(code: str) -> set[str]:
    """Top-level packages that are loaded once `code` has run in a new interpreter."""
    code += "\nimport sys; print('|'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in done.stdout.splitlines()[-1].split("|")}


def test_import_facefind_loads_nothing_heavy() -> None:
    loaded = modules_after("import facefind")
    heavy = {"torch", "cv2", "openvino", "onnxruntime", "onnx", "scipy", "matplotlib", "tyro", "av"}
    assert not loaded & heavy


def test_help_loads_neither_numpy_nor_tyro() -> None:
    loaded = modules_after("from facefind.cli import main\nmain(['--help'])")
    assert "facefind" in loaded
    assert not loaded & {"numpy", "tyro", "PIL", "tqdm", "torch", "cv2", "openvino", "onnxruntime"}


def listed_and_bound(tree: ast.Module) -> tuple[list[str], set[str]]:
    """The names of `__all__` (none where there is none), and those that the file defines."""
    listed: list[str] = []
    bound: set[str] = set()
    for node in tree.body:
        for inner in ast.walk(node) if isinstance(node, ast.If) else [node]:
            if isinstance(inner, ast.Assign | ast.AnnAssign):
                targets = inner.targets if isinstance(inner, ast.Assign) else [inner.target]
                names = {target.id for target in targets if isinstance(target, ast.Name)}
                if "__all__" in names and isinstance(inner.value, ast.List | ast.Tuple):
                    listed = [ast.literal_eval(element) for element in inner.value.elts]
                bound |= names
            elif isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                bound.add(inner.name)
            elif isinstance(inner, ast.Import | ast.ImportFrom):
                bound |= {(alias.asname or alias.name).partition(".")[0] for alias in inner.names}
    return listed, bound


def test_every_listed_name_is_defined() -> None:
    for path in sources():
        listed, bound = listed_and_bound(ast.parse(path.read_text(encoding="utf-8")))
        missing = set(listed) - bound
        if path == ROOT / "__init__.py":  # found when asked for
            missing = {name for name in missing if not hasattr(facefind, name)}
        assert not missing, path


def test_the_public_names_are_there_and_listed() -> None:
    assert {"FaceDetector", "Faces", "detect", "__version__"} <= set(facefind.__all__)
    assert set(facefind.__all__) <= set(dir(facefind))
    for name in facefind.__all__:
        assert getattr(facefind, name) is not None
