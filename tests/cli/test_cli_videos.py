"""`facefind detect` and `track` of videos, `facefind redact`, as users run them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("av", reason="the extra `video` brings PyAV")

from reference import videos

from facefind.cli import main

FAST = ["--threads", "1", "--test-protocol", "160"]


@pytest.fixture
def portraits(portrait: np.ndarray) -> list[np.ndarray]:
    """Ten frames (120,160,3) of a head that moves."""
    head = Image.fromarray(portrait[:260, 90:350]).resize((96, 96))
    frames = []
    for number in range(10):
        image = Image.new("RGB", (160, 120), (90, 110, 130))
        image.paste(head, (4 + 6 * number, 12))
        frames.append(np.asarray(image))
    return frames


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, portraits: list[np.ndarray]) -> Path:
    """A working folder with a video, and a folder `in` with another, a picture and a torn one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in" / "deep").mkdir(parents=True)
    videos.write(tmp_path / "movie.mp4", portraits, sound="aac")
    videos.write(tmp_path / "in" / "deep" / "clip.mp4", portraits[:4])
    Image.fromarray(portraits[0]).save(tmp_path / "in" / "a.jpg")
    return tmp_path


def test_a_video_is_detected_drawn_and_resumed(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["detect", "movie.mp4", "--out", "faces.jsonl", "--every", "3", *FAST]
    assert main([*command, "--draw", "drawn.mp4"]) == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines()[0].split() == ["frame", "time", "faces", "ids"]
    assert "10 frames" in printed.err
    assert "1 tracks" in printed.err
    whole = Path("faces.jsonl").read_bytes()
    lines = [json.loads(line) for line in whole.splitlines()]
    assert [line["frame"] for line in lines] == list(range(10))
    assert [line.get("detected", True) for line in lines] == [n % 3 == 0 for n in range(10)]
    assert all(line["image"] == "movie.mp4" and line["ids"] == [1] for line in lines)
    assert videos.times(Path("drawn.mp4")) == videos.times(Path("movie.mp4"))
    assert videos.packets(Path("drawn.mp4"), "audio") == videos.packets(Path("movie.mp4"), "audio")
    moved = videos.images(Path("drawn.mp4"))[9].astype(int) - videos.images(Path("movie.mp4"))[9]
    assert (np.abs(moved).max(-1) > 60).sum() > 50  # a box

    assert main(command) == 2
    assert "is there already" in capsys.readouterr().err
    Path("faces.jsonl").write_bytes(whole[: len(whole) // 2])
    assert main([*command, "--resume"]) == 0
    assert Path("faces.jsonl").read_bytes() == whole
    assert "done before" in capsys.readouterr().err


def test_tracks_as_motchallenge_has_them(folder: Path) -> None:
    assert main(["track", "movie.mp4", "--out", "tracks.txt", "--json", *FAST]) == 0
    rows = [line.split(",") for line in Path("tracks.txt").read_text().splitlines()]
    assert [row[:2] for row in rows] == [[str(number), "1"] for number in range(1, 11)]
    assert all(len(row) == 10 for row in rows)


def test_what_is_written_of_a_stream_that_ends_is_whole(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("facefind.video.reading._FIRST_WAIT", 0.001)
    content = videos.write(folder / "live.ts", videos.moving(10)).read_bytes()
    with videos.served([(content, False)]) as (address, _):
        command = ["track", address, "--out", "tracks.txt", "--draw", "drawn.mkv", *FAST]
        assert main(command) == 2
    assert "did not come back in 5 tries" in capsys.readouterr().err
    assert Path("tracks.txt").is_file()
    assert len(videos.times(Path("drawn.mkv"))) == 10


def test_numbered_pictures(folder: Path, portraits: list[np.ndarray]) -> None:
    for number, image in enumerate(portraits[:3]):
        Image.fromarray(image).save(f"f_{number:03}.png")
    assert main(["detect", "f_%03d.png", "--out", "faces.jsonl", *FAST]) == 0
    lines = [json.loads(line) for line in Path("faces.jsonl").read_text().splitlines()]
    assert [line["time"] for line in lines] == [0, 0.04, 0.08]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["detect", "movie.mp4", "--draw", "movie.mp4", "--overwrite"], "is read as movie.mp4"),
        (["track", "movie.mp4", "--out", "movie.mp4"], "is read as movie.mp4"),
        (["detect", "movie.mp4", "in"], "one video at a time"),
        (["detect", "movie.mp4", "--failures", "f"], "--failures is of images"),
        (["detect", "in", "--every", "2"], "--every is of videos"),
        (["track", "movie.mp4", "--resume"], "name them as --out"),
        (["track", "movie.mp4", "--draw", "x.gif"], "videos are written as"),
        (["track", "none.mp4"], "does not exist"),
        (["redact", "in", "--out", "in"], "is or holds in"),
        (["redact", "movie.mp4", "--out", "."], "is or holds movie.mp4"),
        (["redact", "in", "--out", "x", "--with", "image"], "--picture"),
        (["redact", "in", "--out", "x", "--grow", "0.5"], "grow 0.5"),
        (["redact", "in", "--out", "x", "--seconds", "3"], "--seconds is of streams"),
        (["redact", "rtsp://host/a", "in", "--out", "x"], "a stream is redacted alone"),
    ],
)
def test_mistakes_are_told_before_the_first_byte(
    args: list[str], said: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert main([*args, *FAST]) == 2
    assert said in capsys.readouterr().err
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_a_folder_is_redacted_resumed_and_reported(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "in" / "torn.jpg").write_bytes(b"no picture")
    before = {path: path.read_bytes() for path in (folder / "in").rglob("*") if path.is_file()}
    command = ["redact", "in", "--out", "out", "--with", "fill", "--color", "0", "255", "0"]
    options = ["--review", "--failures", "failed.jsonl", *FAST]
    assert main([*command, *options]) == 1
    printed = capsys.readouterr()
    assert "in/torn.jpg" in printed.err or "torn.jpg" in printed.err
    assert "2 files, 2 faces, 1 failed" in printed.err
    assert not Path("out/torn.jpg").exists()
    for image in (np.asarray(Image.open("out/a.jpg")), videos.images(Path("out/deep/clip.mp4"))[0]):
        assert np.abs(image[50, 45].astype(int) - (0, 255, 0)).max() < 40
    report = {}
    for line in Path("out/report.jsonl").read_text().splitlines():
        record = json.loads(line)
        report[record["image"]] = record
    assert set(report) == {"a.jpg", "deep/clip.mp4"}
    assert report["deep/clip.mp4"]["frames"] == 4
    assert 0.3 < report["a.jpg"]["lowest_score"] < 1
    assert list(Path("out/review").iterdir())
    assert {path: path.read_bytes() for path in before} == before

    assert main([*command, "--resume", *options]) == 1
    assert "2 done before" in capsys.readouterr().err
    assert main([*command, "--grow", "2", "--resume", *options]) == 2
    assert "was made with grow 1.2, not 2" in capsys.readouterr().err


def test_careful_finds_more_and_hides_more(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["redact", "in/a.jpg", "--out", "careful", "--careful", "--threads", "1"]) == 0
    settings = json.loads(Path("careful/settings.json").read_text())
    assert (settings["grow"], settings["min_score"]) == (1.5, 0.35)
    assert settings["test_protocol"]["flip"]


def test_without_pyav_the_command_says_what_to_install(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['av'] = None\n"
        "from facefind.cli import main\n"
        "sys.exit(main(['track', 'movie.mp4']))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 2
    assert "pip install 'facefind[video]'" in run.stderr
