"""`facefind evaluate tracking`: figures of files, one or a folder of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from facefind.cli import main

TRUTH = "".join(f"{frame},1,0,0,10,10,1,-1,-1,-1\n" for frame in range(1, 5))
FOUND = "".join(f"{frame},{1 + frame // 3},0,0,10,10,.9,-1,-1,-1\n" for frame in range(1, 5))


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    for name, text in (("truth", TRUTH), ("found", FOUND)):
        (tmp_path / name).mkdir()
        for video in ("a", "b"):
            (tmp_path / name / f"{video}.txt").write_text(text)
    return tmp_path / "found", tmp_path / "truth"


def run(found: Path, truth: Path, *more: str) -> int:
    return main(["evaluate", "tracking", "--predictions", str(found), "--truth", str(truth), *more])


def test_figures_of_one_video(files, tmp_path, capsys) -> None:
    found = tmp_path / "mine.txt"
    found.write_text(FOUND)
    out = tmp_path / "result.json"
    assert run(found, files[1] / "a.txt", "--out", str(out)) == 0
    assert "75.00  50.00  70.71" in capsys.readouterr().out
    result = json.loads(out.read_text())
    assert result["measure"] == "tracking"
    assert result["switches"] == 1
    assert result["hota"] == pytest.approx(0.5**0.5)
    assert result["name"] == "mine"
    assert len(result["digest"]) == 64
    assert main(["evaluate", "compare", str(out), str(out).replace("result", "other")]) == 2


def test_figures_of_a_folder_stand_in_a_table(files, tmp_path, capsys) -> None:
    assert run(*files, "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["videos"], result["faces"], result["switches"]) == (2, 8, 2)
    assert run(*files, "--markdown") == 0
    assert "| found | 75.00 | 50.00 | 70.71 |" in capsys.readouterr().out
    ours, theirs = tmp_path / "ours.json", tmp_path / "theirs.json"
    assert run(*files, "--out", str(ours)) == run(*files, "--out", str(theirs)) == 0
    assert main(["evaluate", "compare", str(ours), str(theirs)]) == 0
    (files[0] / "b.txt").unlink()
    assert run(*files) == 2
    assert "labels are of ['a', 'b'], predictions of ['a']" in capsys.readouterr().err


def test_what_is_no_file_of_tracks_is_named(files, tmp_path, capsys) -> None:
    (files[0] / "a.txt").write_text("1,1,0,0,10\n")
    assert run(files[0] / "a.txt", files[1] / "a.txt") == 2
    assert "a.txt, line 1: expected frame (from 1),id,left" in capsys.readouterr().err
    assert run(files[0] / "c.txt", files[1] / "a.txt") == 2
    assert "c.txt" in capsys.readouterr().err
    assert run(*files, "--out", str(files[1] / "a.txt")) == 2
    assert (files[1] / "a.txt").read_text() == TRUTH
    assert run(*files, "--min-iou", "0") == 2
