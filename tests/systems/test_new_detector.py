"""A sixth detector, followed from its guide's page through every command by its registration."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from kinds import packed
from PIL import Image

from facefind import FaceDetector, cli, recipes, systems
from facefind.errors import DataError
from facefind.learn.targets import Target

pytestmark = pytest.mark.slow

PAGE = Path(__file__).resolve().parents[2] / "docs" / "guides" / "new-detector.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """The page's file on the path, and its system registered."""
    folder = tmp_path_factory.mktemp("toy")
    (folder / "toy.py").write_text(BLOCKS[0])
    before = dict(systems.SYSTEMS)
    sys.path.insert(0, str(folder))
    systems.register("toy", systems.System("toy"))
    yield folder
    sys.path.remove(str(folder))
    sys.modules.pop("toy", None)
    systems.SYSTEMS.clear()
    systems.SYSTEMS.update(before)


@pytest.fixture(scope="module")
def labeled(tmp_path_factory):
    """Bright squares on dark noise, in WIDER FACE's format."""
    root = tmp_path_factory.mktemp("squares") / "WIDER_train"
    rng = np.random.default_rng(0)
    lines = []
    for number in range(10):
        image = rng.integers(0, 50, (96, 96, 3), dtype=np.uint8)
        x, y = rng.integers(4, 50, 2)
        side = int(rng.integers(20, 32))
        image[y : y + side, x : x + side] = 220
        name = f"0--Event/{number}.jpg"
        path = root / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path, quality=95)
        lines += [name, "1", f"{x} {y} {side} {side} 0 0 0 0 0 0"]
    (root / "wider_face_train_bbx_gt.txt").write_text("\n".join(lines) + "\n")
    return root


def test_it_is_listed_by_its_registration(toy, capsys):
    assert list(recipes.by_system()["toy"]) == ["toy-light", "toy-diou"]
    recipe = recipes.get("toy-light")
    assert recipes.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe
    assert cli.main(["cost", "toy-light", "--size", "96x96"]) == 0
    assert "1,110,528" in capsys.readouterr().out


def test_it_keeps_the_contract(toy):
    recipe = recipes.get("toy-light")
    network = recipe.network.build()
    found = network.eval().candidates(torch.zeros(2, 3, 64, 96))
    assert found.boxes.shape == (2, 8 * 12 * 2, 4)
    assert found.landmarks.shape == (2, 8 * 12 * 2, 5, 2)
    anchors = network(torch.zeros(1, 3, 16, 16)).anchors
    assert anchors.sizes[:2].tolist() == [[16, 16], [24, 36]]
    for name in ("toy-light", "toy-diou"):
        learn = recipes.get(name).criterion.build(network)
        losses = learn(network.train()(torch.zeros(2, 3, 96, 96)), packed([Target.empty()] * 2))
        assert losses.terms["box"] == 0
        assert losses.terms["cls"] > 0


def test_the_page_runs_from_training_to_faces(toy, labeled, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "WIDER_train").symlink_to(labeled)
    first = next((labeled / "images" / "0--Event").iterdir())
    Image.open(first).save("people.jpg")
    names: dict[str, object] = {}
    for block in BLOCKS[1:]:
        exec(compile(block, str(PAGE), "exec"), names)
    assert re.fullmatch(r"\d+ faces\n", capsys.readouterr().out)
    detector = FaceDetector("toy.onnx", min_score=0.0)
    assert (detector.card.system, detector.card.strides) == ("toy", (8,))
    assert detector.card.size_multiple == 8
    live = FaceDetector(names["network"], min_score=0.0, protocol=detector.protocol)
    torch.testing.assert_close(
        torch.tensor(detector.detect("people.jpg").scores[:5]),
        torch.tensor(live.detect("people.jpg").scores[:5]),
        atol=1e-3,
        rtol=0,
    )


def test_a_package_registers_itself_by_an_entry_point(toy, tmp_path):
    """In a fresh process that knows the file by its installed package alone."""
    (tmp_path / "toy_detector-1.dist-info").mkdir()
    (tmp_path / "toy_detector-1.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: toy-detector\nVersion: 1\n"
    )
    (tmp_path / "toy_detector-1.dist-info" / "entry_points.txt").write_text(
        "[facefind.systems]\ntoy = toy\n"
    )
    code = "from facefind import systems; print(list(systems.get('toy').rows))"
    paths = [str(tmp_path), str(toy), *sys.path]
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {paths!r}; {code}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "['toy-light']\n"


def test_a_name_is_registered_once_and_an_unknown_one_refused(toy):
    with pytest.raises(ValueError, match="registered already"):
        systems.register("toy", systems.System("another"))
    with pytest.raises(DataError, match="no system 'tyo'; expected one of scrfd"):
        systems.get("tyo")


def test_listing_recipes_does_not_import_torch():
    code = "import sys, facefind.recipes as r; r.names(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
