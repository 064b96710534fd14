"""`facefind samples`: tables, JSON, figure, mistakes."""

import json

import numpy as np
import pytest
from PIL import Image

from facefind.cli import main


@pytest.fixture
def labeled(tmp_path):
    event = tmp_path / "set" / "images" / "0--Parade"
    event.mkdir(parents=True)
    lines = []
    for name in "ab":
        Image.fromarray(np.zeros((96, 128, 3), np.uint8)).save(event / f"{name}.png")
        lines += [f"0--Parade/{name}.png", "1", "44 15 24 32 0 0 0 0 0 0"]
    (tmp_path / "set" / "two_bbx_gt.txt").write_text("\n".join(lines) + "\n")
    return tmp_path / "set"


def test_recipes_side_by_side(labeled, tmp_path, capsys):
    out, plot = tmp_path / "counts.json", tmp_path / "figures" / "counts.png"
    names = ["scrfd-2.5g-nosr", "scrfd-2.5g"]
    args = ["samples", *names, "--data", str(labeled), "--images", "6"]
    assert main([*args, "--out", str(out), "--plot", str(plot)]) == 0
    told = capsys.readouterr().out
    assert all(name in told for name in names)
    assert "6 crops a recipe" in told
    found = json.loads(out.read_text())
    assert list(found["counts"]) == names
    for counts in found["counts"].values():
        assert counts["images"] == 6
        assert sum(counts["faces"]) >= 6
        assert len(counts["faces"]) == len(found["face_scales"])
        assert set(counts["anchors"]) == {"16", "32", "64", "128", "256", "512"}
    assert plot.stat().st_size > 1000
    assert main([*args, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == found


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["scrfd-2.5"], "scrfd-2.5g"),
        (["scrfd-2.5g", "--images", "0"], "--images 0"),
        ([], "no recipe was named"),
    ],
)
def test_mistakes_are_one_line(args, message, labeled, capsys):
    assert main(["samples", *args, "--data", str(labeled)]) == 2
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1
