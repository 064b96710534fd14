"""`facefind evaluate wider`: numbers that name all they depend on."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facefind import weights
from facefind.cli import main
from facefind.cli.evaluate import reporting


@pytest.fixture
def labeled(tmp_path: Path, portrait: np.ndarray) -> Path:
    """Two pictures in WIDER FACE's layout: the portrait with its one face, and a blank."""
    folder = tmp_path / "set"
    event = folder / "images" / "0--Parade"
    event.mkdir(parents=True)
    Image.fromarray(portrait).save(event / "a.png", compress_level=1)
    Image.fromarray(np.full((200, 300, 3), 90, np.uint8)).save(event / "b.png")
    (folder / "two_bbx_gt.txt").write_text(
        "0--Parade/a.png\n1\n177 60 95 130 0 0 0 0 0 0\n0--Parade/b.png\n0\n0 0 0 0 0 0 0 0 0 0\n"
    )
    return folder


def test_model_on_a_labeled_set(
    labeled: Path, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, keep = tmp_path / "r.json", tmp_path / "keep" / "found.jsonl"
    args = ["evaluate", "wider", "--model", model, "--images", str(labeled / "images")]
    args += ["--data", str(labeled), "--mode", "strict", "--out", str(out), "--keep", str(keep)]
    assert main(args) == 0
    text = capsys.readouterr().out
    assert "100.00" in text
    report = json.loads(out.read_text())
    assert report["ap"] == {"height>=34": 1.0, "height>=16": 1.0, "height>=9": 1.0}
    assert report["mode"] == "strict"
    assert report["images"] == 2
    assert report["test_protocol"]["name"] == "vga"
    assert report["min_score"] == 0.02
    assert report["runtime"] in ("openvino", "onnxruntime")
    assert report["precision"] == "fp32"
    digest = hashlib.sha256(weights.find(model).read_bytes()).hexdigest()
    assert report["weights_sha256"] == digest
    assert report["command"].startswith("facefind evaluate wider --model ")
    assert len(report["digest"]) == 64

    # The same numbers from the detections that were kept.
    args = ["evaluate", "wider", "--detections", str(keep), "--data", str(labeled), "--json"]
    assert main([*args, "--mode", "strict"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["ap"] == report["ap"]
    assert again["digest"] == report["digest"]


def test_subset_curves_and_faces_that_were_missed(
    labeled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = tmp_path / "found.jsonl"
    found.write_text('{"image": "0--Parade/a.png", "boxes": [[0, 0, 30, 30]], "scores": [0.9]}\n')
    chosen = tmp_path / "list.txt"
    chosen.write_text("0--Parade/a.png\n")
    args = ["evaluate", "wider", "--detections", str(found), "--data", str(labeled)]
    assert main([*args, "--subset", str(chosen), "--curves", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["images"] == 1
    assert report["ap"]["height>=34"] == 0
    assert len(report["curves"]["height>=34"]["precision"]) == 1000
    assert main(args) == 0
    assert "without detections: 1, e.g. 0--Parade/b" in capsys.readouterr().out


def test_official_labels_give_easy_medium_and_hard(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = shared / "data" / "wider_reference" / "ground_truth"
    listed = shared / "data" / "wider_val_public" / "list.txt"
    name = listed.read_text().split()[0]
    chosen = tmp_path / "one.txt"
    chosen.write_text(name + "\n")
    nothing = tmp_path / "found.jsonl"
    nothing.write_text(json.dumps({"image": name, "boxes": [], "scores": []}) + "\n")
    args = ["evaluate", "wider", "--data", str(labels), "--detections", str(nothing), "--json"]
    assert main([*args, "--subset", str(chosen)]) == 0
    report = json.loads(capsys.readouterr().out)
    assert set(report["ap"]) == {"easy", "medium", "hard"}
    assert report["image_set"] == "1 of WIDER FACE val"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["coco"], "no benchmark 'coco'"),
        (["wider", "--data", "{set}"], "give either --model"),
        (["widr"], "there is no benchmark 'widr', did you mean 'wider'"),
        (["wider", "--data", "{set}", "--model", "x"], "no model 'x'"),
        (["wider", "--data", "gone", "--detections", "x.jsonl"], "gone"),
        (["wider", "--data", "{set}", "--detections", "gone.jsonl"], "gone.jsonl"),
        (["wider", "--data", "{set}", "--detections", "x", "--subset", "gone.txt"], "gone.txt"),
        (["wider", "--data", "{set}", "--model", "x", "--min-score", "2"], "--min-score 2"),
        (["wider", "--data", "{set}", "--detections", "x", "--keep", "y"], "--keep keeps"),
        (["fddb", "--data", "gone", "--detections", "x"], "gone"),
        (["pascal", "--data", "gone", "--detections", "x"], "gone"),
        (["landmarks", "--data", "{set}", "--detections", "gone.jsonl"], "gone.jsonl"),
        (["cost", "--model", "x.onnx", "--sizes", "big"], "640x480, got 'big'"),
        (["compare", "gone.json"], "two results"),
        (["verification", "--embeddings", "gone.npy"], "--pairs"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(
    args: list[str], message: str, labeled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", *(arg.format(set=labeled) for arg in args)]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("facefind evaluate: ")
    assert message in printed
    assert printed.count("\n") == 1


def test_help_names_the_protocols(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate"]) == 0
    assert "wider" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("report", "name"),
    [
        ({"model": "scrfd-2.5g-kps"}, "scrfd-2.5g-kps"),
        ({"model": "runs/scrfd-2.5g.onnx"}, "scrfd-2.5g"),
        ({"detections_from": "found.jsonl"}, "found"),
        ({}, "wider"),
    ],
)
def test_a_result_is_called_after_its_model(report: dict[str, str], name: str) -> None:
    assert reporting._name(report, "wider") == name


def test_a_set_that_holds_its_images_needs_no_option_more(
    labeled: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["evaluate", "wider", "--data", str(labeled), "--model", model, "--mode", "strict"]
    assert main([*args, "--json", "--threads", "1"]) == 0
    assert json.loads(capsys.readouterr().out)["ap"]["height>=34"] == 1.0
    (labeled / "images").rename(labeled / "elsewhere")
    assert main([*args, "--threads", "1"]) == 2
    assert "none of the 2 labeled images is there" in capsys.readouterr().err


def test_official_labels_need_the_folder_of_the_images(
    shared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = shared / "data" / "wider_reference" / "ground_truth"
    assert main(["evaluate", "wider", "--data", str(labels), "--model", "default"]) == 2
    assert "come without images: give their folder by --images" in capsys.readouterr().err
