"""The other protocols of `facefind evaluate`: what they say, keep, refuse and draw."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from facefind.cli import main

FACE = "177 60 95 130"
POINTS = [200, 100, 245, 100, 222, 125, 205, 150, 240, 150]


@pytest.fixture
def parade(tmp_path: Path, portrait: np.ndarray) -> Path:
    """Three pictures in WIDER FACE's layout, of which the last is not on the disk."""
    event = tmp_path / "set" / "images" / "0--Parade"
    event.mkdir(parents=True)
    Image.fromarray(portrait).save(event / "a.png", compress_level=1)
    Image.fromarray(np.full((200, 300, 3), 90, np.uint8)).save(event / "b.png")
    (tmp_path / "set" / "three_bbx_gt.txt").write_text(
        f"0--Parade/a.png\n1\n{FACE} 0 0 0 0 0 0\n0--Parade/b.png\n0\n0 0 0 0 0 0 0 0 0 0\n"
        f"0--Parade/c.png\n1\n{FACE} 0 0 0 0 0 0\n"
    )
    return tmp_path / "set"


@pytest.fixture
def ellipses(tmp_path: Path, portrait: np.ndarray) -> Path:
    """FDDB with one picture that is there and one that is not."""
    folder = tmp_path / "fddb"
    (folder / "originalPics" / "2002").mkdir(parents=True)
    Image.fromarray(portrait).save(folder / "originalPics" / "2002" / "a.jpg")
    (folder / "FDDB-fold-01-ellipseList.txt").write_text(
        "2002/a\n1\n79 52 1.57 224 115 1\n2002/gone\n1\n79 52 1.57 224 115 1\n"
    )
    return folder


def line(image: str, *boxes: list[float], points: list[float] | None = None) -> str:
    found: dict[str, Any] = {"image": image, "boxes": boxes}
    found["scores"] = [0.9 - 0.1 * number for number in range(len(boxes))]
    if points is not None:
        found["landmarks"] = [np.reshape(points, (5, 2)).tolist() for _ in boxes]
    return json.dumps(found) + "\n"


def report(capsys: pytest.CaptureFixture[str], *args: str, code: int = 0) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["evaluate", *args, "--json"]) == code
    printed: dict[str, Any] = json.loads(capsys.readouterr().out)
    return printed


def test_absent_images_are_missed_faces_and_a_stopped_run_goes_on(
    parade: Path, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keep = tmp_path / "kept.jsonl"
    args = ["wider", "--model", model, "--images", str(parade / "images"), "--threads", "1"]
    args += ["--data", str(parade), "--mode", "strict", "--keep", str(keep)]
    whole = report(capsys, *args)
    assert whole["images_absent"] == ["0--Parade/c"]
    assert whole["images_timed"] == 2
    assert whole["faces"]["height>=9"] == 2
    assert whole["ap"]["height>=9"] == pytest.approx(0.5)
    assert whole["versions"]["numpy"] == np.__version__
    first, second = keep.read_text().splitlines(keepends=True)
    keep.write_text(first + second[: len(second) // 2])  # killed in the middle of a line
    again = report(capsys, *args)
    assert again["images_timed"] == 1
    assert again["ap"] == whole["ap"]
    assert keep.read_text() == first + second
    read = report(capsys, "wider", "--detections", str(keep), "--data", str(parade))
    assert read["weights_sha256"] == whole["weights_sha256"]
    assert read["test_protocol"] == whole["test_protocol"]

    # Other settings never go on with these faces.
    assert main(["evaluate", *args, "--test-protocol", "320"]) == 2
    assert "was made with test_protocol" in capsys.readouterr().err
    keep.with_name(keep.name + ".source.json").unlink()
    assert main(["evaluate", *args]) == 2
    assert "no kept.jsonl.source.json beside it" in capsys.readouterr().err


def test_an_image_that_cannot_be_read_is_told_and_the_others_are_done(
    parade: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (parade / "images" / "0--Parade" / "c.png").write_bytes(b"no picture")
    args = ["wider", "--model", model, "--images", str(parade / "images"), "--threads", "1"]
    printed = report(capsys, *args, "--data", str(parade), "--mode", "strict", code=1)
    assert list(printed["images_failed"]) == ["0--Parade/c"]
    assert printed["ap"]["height>=9"] == pytest.approx(0.5)


def test_fddb_leaves_out_absent_images_and_says_so(
    ellipses: Path, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["fddb", "--data", str(ellipses), "--model", model, "--threads", "1"]
    figure = tmp_path / "deep" / "roc.svg"
    assert main(["evaluate", *args, "--plot", str(figure)]) == 0
    text = capsys.readouterr().out
    assert "image files that are not there: 1 (left out with their faces), e.g. 2002/gone" in text
    assert "<svg" in figure.read_text()
    found = tmp_path / "found.txt"
    found.write_text("2002/a\n1\n172 36 104 158 0.9\n2002/gone\n0\n")
    printed = report(capsys, "fddb", "--data", str(ellipses), "--detections", str(found))
    assert (printed["images"], printed["faces"], printed["discrete"]["1000"]) == (1, 1, 1.0)
    assert printed["images_absent"] == ["2002/gone"]
    turned = report(
        capsys, "fddb", "--data", str(ellipses), "--detections", str(found), "--shape", "ellipse"
    )
    assert turned["continuous"]["1000"] != printed["continuous"]["1000"]
    assert "roc" not in printed


def test_pascal_and_afw(parade: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = tmp_path / "found.txt"
    found.write_text("a 0.9 177 60 272 190\nb 0.3 10 10 60 60\n")
    printed = report(capsys, "pascal", "--data", str(parade), "--detections", str(found))
    assert printed["ap"] == pytest.approx(0.5)
    assert printed["measure"] == "pascal"
    args = ["evaluate", "afw", "--data", str(parade), "--detections", str(found), "--markdown"]
    assert main(args) == 0
    assert "| found | 50.00 |" in capsys.readouterr().out


def test_the_curve_of_a_model_is_drawn_and_its_settings_stay(
    parade: Path, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["pascal", "--data", str(parade), "--images", str(parade / "images"), "--model", model]
    plot = tmp_path / "curve.png"
    printed = report(capsys, *args, "--curves", "--plot", str(plot))
    assert printed["precision"] == "fp32"
    assert max(printed["curve"]["precision"]) == 1.0
    assert plot.is_file()


@pytest.fixture
def pointed(tmp_path: Path, portrait: np.ndarray) -> Path:
    """COCO with five points of one face."""
    Image.fromarray(portrait).save(tmp_path / "a.png")
    x, y, w, h = map(float, FACE.split())
    marks = [value for at in range(5) for value in (*POINTS[2 * at : 2 * at + 2], 2)]
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": 512, "height": 512}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [x, y, w, h], "keypoints": marks}
        ],
        "categories": [{"id": 1, "name": "face"}],
    }
    (tmp_path / "points.json").write_text(json.dumps(content))
    return tmp_path / "points.json"


def test_error_of_points(pointed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = tmp_path / "found.jsonl"
    off = [value + 3 * (1 - at % 2) for at, value in enumerate(POINTS)]  # three pixels right
    found.write_text(line("a.png", [177, 60, 272, 190], points=off))
    args = ["landmarks", "--data", str(pointed), "--detections", str(found)]
    printed = report(capsys, *args, "--curves")
    assert printed["nme"] == pytest.approx(3 / np.sqrt(95 * 130))
    assert printed["failure_rate"] == 0
    assert len(printed["errors"]) == 1
    assert main(["evaluate", *args, "--plot", str(tmp_path / "ced.svg")]) == 0
    assert "left mouth corner" in capsys.readouterr().out
    found.write_text(line("a.png"))
    printed = report(capsys, *args, "--curves")
    assert (printed["missed"], printed["nme"], printed["errors"]) == (1, None, [None])
    found.write_text(line("a.png", [177, 60, 272, 190]))
    assert main(["evaluate", *args]) == 2
    assert "faces without landmarks" in capsys.readouterr().err


def test_error_of_points_by_size_and_of_a_part_of_the_set(
    pointed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = json.loads(pointed.read_text())
    content["images"].append({"id": 2, "file_name": "b.png", "width": 512, "height": 512})
    marks = [value for x, y in np.reshape(POINTS, (5, 2)) / 10 for value in (x, y, 2)]
    content["annotations"].append(
        {"id": 2, "image_id": 2, "category_id": 1, "bbox": [17, 6, 10, 13], "keypoints": marks}
    )
    pointed.write_text(json.dumps(content))
    found = tmp_path / "found.jsonl"
    small = line("b.png", [17, 6, 27, 19], points=[value / 10 + 1 for value in POINTS])
    found.write_text(line("a.png", [177, 60, 272, 190], points=POINTS) + small)
    args = ["landmarks", "--data", str(pointed), "--detections", str(found)]
    printed = report(capsys, *args)
    assert list(printed["by_size"]) == ["0-16", "64-128"]
    assert printed["by_size"]["64-128"]["nme"] == 0
    assert printed["by_size"]["0-16"]["nme"] == pytest.approx(np.sqrt(2) / np.sqrt(130))
    assert main(["evaluate", *args]) == 0
    assert "size of the face, pixels" in capsys.readouterr().out
    (tmp_path / "list.txt").write_text("a\n\n")
    printed = report(capsys, *args, "--subset", str(tmp_path / "list.txt"))
    assert (printed["faces"], printed["nme"], printed["images"]) == (1, 0, 1)
    (tmp_path / "list.txt").write_text("a.png\nc.png\n")
    assert main(["evaluate", *args, "--subset", str(tmp_path / "list.txt")]) == 2
    assert "c is not among the labeled images" in capsys.readouterr().err


def test_points_by_yaw(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from scipy.io import savemat

    rng = np.random.default_rng(0)
    points, lines = {}, []
    for number, yaw in enumerate((5, 45, 80)):
        flat = rng.uniform(10, 90, (68, 2))
        name = f"image{number:05d}"
        truth = np.concatenate([flat, np.zeros((68, 1))], axis=1)
        pose = np.radians([[0.0, yaw, 0, 0, 0, 0, 0]])
        savemat(tmp_path / f"{name}.mat", {"pt3d_68": truth.T, "Pose_Para": pose})
        side = np.sqrt(np.prod(flat.max(axis=0) - flat.min(axis=0)))
        shift = side * (number + 1) / 100
        points[name] = flat + np.array([shift, 0])
        eyes = flat[36:42].mean(axis=0), flat[42:48].mean(axis=0)
        five = np.array([*eyes, flat[30], flat[48], flat[54]]) + np.array([0, shift])
        box = [*flat.min(axis=0), *flat.max(axis=0)]
        lines.append(line(name, box, points=five.ravel().tolist()))
    np.savez(tmp_path / "found.npz", **points)
    args = ["landmarks", "--data", str(tmp_path)]
    own = ["--points-68", str(tmp_path / "found.npz"), "--limit", "0.025"]
    printed = report(capsys, *args, *own, "--plot", str(tmp_path / "errors.svg"))
    assert printed["failure_rate"] == pytest.approx(1 / 3)
    assert printed["auc"] == pytest.approx((15 + 5) / 25 / 3, rel=1e-4)
    assert "<svg" in (tmp_path / "errors.svg").read_text()
    expected = {"0-30": 0.01, "30-60": 0.02, "60-90": 0.03, "mean": 0.02}
    for name, value in expected.items():
        assert printed["nme_by_yaw"][name] == pytest.approx(value, rel=1e-4)
    (tmp_path / "found.jsonl").write_text("".join(lines))
    printed = report(capsys, *args, "--detections", str(tmp_path / "found.jsonl"))
    for name, value in expected.items():
        assert printed["nme_by_yaw"][name] == pytest.approx(value, rel=1e-4)


def test_verification(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    people = {name: rng.normal(size=16) for name in ("Ann", "Bob", "Cy", "Di")}
    names = [f"{name}_{number:04d}" for name in people for number in (1, 2)]
    for name in names:
        (tmp_path / f"{name}.jpg").touch()
    features = np.array([people[n.split("_")[0]] + 1e-3 * rng.normal(size=16) for n in names])
    np.savez(tmp_path / "e.npz", features=features, flipped=features, names=names)
    (tmp_path / "pairs.txt").write_text("2\t1\nAnn\t1\t2\nAnn\t1\tBob\t2\nCy\t2\t1\nCy\t1\tDi\t1\n")
    args = ["verification", "--embeddings", str(tmp_path / "e.npz")]
    printed = report(
        capsys, *args, "--pairs", str(tmp_path / "pairs.txt"), "--images", str(tmp_path)
    )
    assert (printed["accuracy"], printed["pairs"]) == (1.0, 4)

    (tmp_path / "ijb_face_tid_mid.txt").write_text(
        "".join(f"{number}.jpg {number // 2} {number}\n" for number in range(8))
    )
    (tmp_path / "ijb_template_pair_label.txt").write_text("0 0 1\n1 1 1\n0 1 0\n2 3 0\n")
    np.save(tmp_path / "e.npy", features)
    printed = report(
        capsys, "verification", "--embeddings", str(tmp_path / "e.npy"), "--ijb", str(tmp_path)
    )
    assert printed["tar"]["1e-06"] == 1.0
    np.save(tmp_path / "e.npy", features[:3])
    args = ["evaluate", "verification", "--embeddings", str(tmp_path / "e.npy")]
    assert main([*args, "--ijb", str(tmp_path)]) == 2
    assert "3 features, expected 8" in capsys.readouterr().err


def test_results_are_compared_only_with_their_like(
    parade: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = []
    for name, box in (("good", [177, 60, 272, 190]), ("bad", [0, 0, 9, 9])):
        (tmp_path / f"{name}.jsonl").write_text(line("0--Parade/a.png", box))
        for mode in ("strict", "official"):
            files.append(tmp_path / f"{name}-{mode}.json")
            args = ["wider", "--data", str(parade), "--mode", mode, "--curves"]
            report(capsys, *args, "--detections", str(tmp_path / f"{name}.jsonl"), "--out",
                   str(files[-1]))  # fmt: skip
    strict, official, bad, _ = map(str, files)
    printed = report(capsys, "compare", strict, bad, "--data", str(parade), "--plot",
                  str(tmp_path / "both.svg"))  # fmt: skip
    assert printed["figures"]["good"]["Height>=9"] == 0.5
    assert printed["figures"]["bad"]["Height>=9"] == 0
    assert printed["paired"]["bad"]["height>=9"]["value"] == pytest.approx(-0.5)
    assert "<svg" in (tmp_path / "both.svg").read_text()
    assert main(["evaluate", "compare", strict, official]) == 2
    err = capsys.readouterr().err
    assert "protocol differs" in err
    assert "mode differs" in err
    assert main(["evaluate", "compare", strict, official, "--force", "--markdown"]) == 0
    assert "NOT COMPARABLE: protocol differs" in capsys.readouterr().out
    assert main(["evaluate", "compare", strict, strict]) == 2
    (tmp_path / "other.json").write_text("[]")
    assert main(["evaluate", "compare", strict, str(tmp_path / "other.json")]) == 2
    assert "expected a result" in capsys.readouterr().err


def test_cost_of_a_published_model(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(shared / "weights" / "scrfd_500m_kps_640.onnx")
    args = ["cost", "--model", model, "--sizes", "640x480", "1280x960", "--rounds", "1"]
    printed = report(capsys, *args, "--threads", "1", code=1)  # it takes no image of 1280 x 960
    cost = printed["models"][0]
    assert cost["parameters"] == pytest.approx(0.64e6, rel=0.05)
    timing = cost["timings"][0]
    assert timing["multiply_adds"] == pytest.approx(0.73e9, rel=0.05)  # at its 640 x 640
    assert timing["milliseconds"] > 0
    assert timing["peak_mib"] is None or timing["peak_mib"] > 30
