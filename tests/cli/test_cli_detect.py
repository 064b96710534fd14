"""`facefind detect`: the same faces as the library, in every form."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from facefind import FaceDetector, Faces
from facefind.cli import main


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_json_lines_hold_what_the_library_finds(album: Path, model: str, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "faces.jsonl"
    assert main(["detect", str(album), "--model", model, "--out", str(out)]) == 0
    records = lines(out)
    assert [record["image"] for record in records] == ["a.jpg", "blank.gif", "deep/b.png"]
    detector = FaceDetector(model)
    for record in records:
        faces = detector.detect(album / record["image"])
        printed = Faces.from_dict(record)
        assert printed.image_size == faces.image_size
        np.testing.assert_allclose(printed.boxes, faces.boxes, atol=1e-3)
        np.testing.assert_allclose(printed.scores, faces.scores, atol=1e-5)
        assert (printed.landmarks is None) == (faces.landmarks is None)
    assert [len(record["scores"]) for record in records] == [1, 0, 1]


def test_table_has_a_line_per_image_and_fits(
    album: Path,
    model: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("COLUMNS", "45")
    assert main(["detect", str(album), "--model", model]) == 0
    printed = capsys.readouterr()
    rows = [line.split() for line in printed.out.splitlines()]
    assert rows[0] == ["image", "size", "faces", "scores"]
    assert [row[:3] for row in rows[1:]] == [
        ["a.jpg", "512x512", "1"],
        ["blank.gif", "90x120", "0"],
        ["deep/b.png", "360x400", "1"],
    ]
    assert max(map(len, printed.out.splitlines())) <= 45
    assert printed.err.startswith("3 images, 2 faces in ")


def test_single_image_has_a_line_per_face(
    album: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["detect", str(album / "a.jpg"), "--model", model]) == 0
    header, row = capsys.readouterr().out.splitlines()
    assert header.split() == ["face", "score", "left", "top", "right", "bottom"]
    number, score, left, top, right, bottom = map(float, row.split())
    assert number == 1
    assert 0.5 <= score <= 1
    assert left < 220 < right  # the middle of her face
    assert top < 120 < bottom
    assert main(["detect", str(album / "blank.gif"), "--model", model]) == 0
    assert capsys.readouterr().out == "no face found\n"


def test_json_to_stdout_is_nothing_but_json(
    album: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    name = str(album / "a.jpg")
    assert main(["detect", name, "--model", model, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["image"] == name
    assert set(record) == {"image", "width", "height", "boxes", "scores", "landmarks"}


def test_min_score_and_protocol_reach_the_detector(
    album: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["detect", str(album / "a.jpg"), "--model", model, "--json"]
    main([*args, "--min-score", "0.001", "--test-protocol", "vga"])
    many = json.loads(capsys.readouterr().out)["scores"]
    main([*args, "--min-score", "1.0"])
    none = json.loads(capsys.readouterr().out)["scores"]
    assert len(many) > 1
    assert none == []


def test_drawn_copies_lie_in_the_same_tree(album: Path, model: str, tmp_path: Path) -> None:
    drawn = tmp_path / "drawn"
    main(["detect", str(album), "--model", model, "--draw", str(drawn)])
    made = sorted(p.relative_to(drawn).as_posix() for p in drawn.rglob("*") if p.is_file())
    assert made == ["a.jpg", "blank.gif.png", "deep/b.png", "settings.json"]
    before = np.asarray(Image.open(album / "deep" / "b.png").convert("RGB")).astype(int)
    after = np.asarray(Image.open(drawn / "deep" / "b.png").convert("RGB")).astype(int)
    changed = (np.abs(before - after).max(axis=-1) > 0).mean()
    assert 0.001 < changed < 0.5
    blank = np.asarray(Image.open(drawn / "blank.gif.png").convert("RGB"))
    assert (blank == 90).all()


def test_images_that_fail_are_named_and_the_others_done(
    broken: Path, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "faces.jsonl"
    args = ["detect", str(broken), "--model", model, "--out", str(out), "--batch-size", "2"]
    assert main(args) == 1
    err = capsys.readouterr().err
    assert "facefind detect: broken.jpg: " in err
    assert "4 images, 3 faces, 1 failed in " in err
    names = ["a.jpg", "blank.gif", "deep/b.png", "z.jpg"]
    assert [record["image"] for record in lines(out)] == names


def test_a_failing_call_costs_only_its_own_image(
    album: Path,
    model: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    real = FaceDetector._detect_all

    def detect(self: FaceDetector, pictures: Any) -> Any:
        if any(picture.shape[:2] == (120, 90) for picture in pictures):
            raise RuntimeError("out of\nmemory")
        return real(self, pictures)

    monkeypatch.setattr(FaceDetector, "_detect_all", detect)
    assert main(["detect", str(album), "--model", model, "--json", "--batch-size", "8"]) == 1
    printed = capsys.readouterr()
    assert [json.loads(line)["image"] for line in printed.out.splitlines()] == [
        "a.jpg",
        "deep/b.png",
    ]
    assert "blank.gif: out of memory" in printed.err


def test_resume_does_what_is_left_and_mends_a_torn_line(
    broken: Path, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "faces.jsonl"
    args = ["detect", str(broken), "--model", model, "--out", str(out)]
    main(args)
    whole = out.read_text().splitlines(keepends=True)
    out.write_text("".join(whole[:2]) + whole[2][:20])
    (broken / "broken.jpg").write_bytes((broken / "a.jpg").read_bytes())
    capsys.readouterr()
    assert main([*args, "--resume"]) == 0
    assert "3 images, 3 faces, 2 done before in " in capsys.readouterr().err
    assert out.read_text().splitlines(keepends=True)[:2] == whole[:2]
    names = [record["image"] for record in lines(out)]
    assert names == ["a.jpg", "blank.gif", "broken.jpg", "deep/b.png", "z.jpg"]
    assert main([*args, "--resume"]) == 0
    assert len(lines(out)) == 5


def test_a_table_is_whole_and_takes_what_failed_later(
    broken: Path, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    out, failed = tmp_path / "faces.parquet", tmp_path / "failed.jsonl"
    args = ["detect", str(broken), "--model", model, "--out", str(out), "--failures", str(failed)]
    args += ["--test-protocol", "320"]
    assert main(args) == 1
    names = ["a.jpg", "blank.gif", "deep/b.png", "z.jpg"]
    assert pandas.read_parquet(out)["image"].tolist() == names
    assert (tmp_path / "faces.parquet.journal.jsonl").exists()
    (broken / "broken.jpg").write_bytes((broken / "a.jpg").read_bytes())
    assert main([*args, "--resume", "--retry-failed"]) == 0
    assert "1 image, 1 face, 4 done before" in capsys.readouterr().err
    assert pandas.read_parquet(out)["image"].tolist() == [*names, "broken.jpg"]
    assert not (tmp_path / "faces.parquet.journal.jsonl").exists()
    assert main([*args, "--resume"]) == 0
    assert len(pandas.read_parquet(out)) == 5


def test_resume_refuses_a_file_that_is_something_else(
    album: Path, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "notes.jsonl"
    out.write_text("shopping list\n")
    args = ["detect", str(album), "--model", model, "--out", str(out), "--resume"]
    assert main(args) == 2
    assert "no notes.jsonl.source.json beside it" in capsys.readouterr().err
    assert out.read_text() == "shopping list\n"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "no images given"),
        (["nowhere.jpg"], "'nowhere.jpg' does not exist"),
        (["{a}", "--model", "nonesuch"], "there is no model 'nonesuch'"),
        (["{a}", "--model", "{model}", "--protocol", "vgaa"], "did you mean 'vga'"),
        (["{a}", "--model", "{model}", "--min-score", "3"], "--min-score 3.0"),
        (["{a}", "--batch-size", "0"], "--batch-size 0"),
        (["{a}", "--resume"], "--resume"),
        (["{a}", "--out", "faces.xlsx"], "suffix .xlsx says no format"),
        (["{a}", "--out", "faces.json"], "give --format coco"),
        (["{a}", "--format", "csv"], "--format is that of --out"),
        (["{a}", "--model", "{model}", "--runtime", "torch"], "torch"),
        (["{album}", "{album}/deep/../a.jpg", "{copy}", "--draw", "x"], "would both be"),
        (["{album}", "{copy}"], "would both be called a.jpg"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(
    args: list[str],
    message: str,
    album: Path,
    model: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "a.jpg").write_bytes((album / "a.jpg").read_bytes())
    names = {"a": album / "a.jpg", "model": model, "album": album, "copy": copy}
    assert main(["detect", *(arg.format(**names) for arg in args)]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("facefind detect: ")
    assert message in printed.err
    assert printed.err.count("\n") == 1
    assert printed.out == ""


def test_a_kill_loses_nothing_that_was_done(
    tmp_path: Path, portrait: np.ndarray, model: str
) -> None:
    folder, out = tmp_path / "many", tmp_path / "faces.jsonl"
    folder.mkdir()
    for number in range(200):
        Image.fromarray(portrait).save(folder / f"{number:03}.jpg")
    command = [sys.executable, "-m", "facefind", "detect", str(folder), "--model", model]
    command += ["--out", str(out), "--batch-size", "1", "--threads", "1"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as job:
        deadline = time.monotonic() + 60
        while not (out.exists() and out.read_bytes().count(b"\n") >= 3):
            assert job.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.kill(job.pid, signal.SIGKILL)
    done = out.read_bytes().count(b"\n")
    assert 3 <= done < 200
    for line in out.read_bytes().splitlines()[:done]:
        assert len(json.loads(line)["scores"]) == 1


def test_installed_command_prints_no_progress_into_a_pipe(album: Path, model: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "facefind", "detect", str(album / "a.jpg"), "--model", model],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr.startswith("1 image, 1 face in ")
    assert done.stderr.count("\n") == 1
    assert "\r" not in done.stderr


def test_file_names_that_no_encoding_knows(album: Path, model: str) -> None:
    name = b"caf\xe9 \xe2\x98\x95.jpg"
    (album / "a.jpg").rename(album / os.fsdecode(name))
    command = [sys.executable, "-m", "facefind", "detect", str(album), "--model", model]
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1", "COLUMNS": "50"}
    table = subprocess.run(command, capture_output=True, check=True, env=environment)
    assert rb"caf\udce9 \u2615.jpg" in table.stdout
    listed = subprocess.run([*command, "--json"], capture_output=True, check=True, env=environment)
    records = [json.loads(line) for line in listed.stdout.splitlines()]
    assert os.fsencode(records[1]["image"]) == name


def test_shards_together_are_the_whole_and_protocol_is_an_alias(
    album: Path, model: str, tmp_path: Path
) -> None:
    args = ["detect", str(album), "--model", model, "--protocol", "160", "--threads", "1"]
    assert main([*args, "--out", str(tmp_path / "all.jsonl")]) == 0
    parts = []
    for index in range(2):
        out = tmp_path / f"{index}.jsonl"
        assert main([*args, "--out", str(out), "--shard", f"{index}/2"]) == 0
        parts += lines(out) if out.exists() else []
    assert sorted(parts, key=lambda record: record["image"]) == lines(tmp_path / "all.jsonl")
