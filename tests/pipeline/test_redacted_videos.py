"""In redacted videos no face shows for a moment; what was stopped goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("av", reason="the extra `video` brings PyAV")

from reference import videos
from reference.seeing_runtimes import Seeing

from facefind import FaceDetector, pipeline
from facefind.errors import DataError, ImageError
from facefind.images import Found
from facefind.pipeline.redacted_videos import redact_stream
from facefind.pipeline.redacting import RedactedFolder
from facefind.pipeline.videos import FrameLines
from facefind.redaction import Redaction
from facefind.video import VideoReader, VideoWriter, read_video

RED = Redaction(method="fill", shape="box", color=(255, 0, 0), grow=1.1)


def detector() -> FaceDetector:
    return FaceDetector(Seeing(), protocol="original", min_score=0.5, batch_size=1)


def exposed(path: Path) -> list[int]:
    """Frames of a copy of `videos.moving` in which the patch shows, or no red is in its place."""
    found = []
    for number, image in enumerate(videos.images(path)):
        x1, y1, x2, y2 = videos.MOVES
        inside = image[y1 + 2 : y2 - 2, x1 + 2 * number + 2 : x2 + 2 * number - 2].astype(int)
        if np.abs(inside - (255, 0, 0)).max() > 60:
            found.append(number)
    return found


@pytest.mark.parametrize(("every", "hidden"), [(1, {0, 1, 7, 8, 9, 18, 19}), (3, {9}), (4, ())])
def test_no_face_shows_before_between_and_after_its_detections(
    every: int, hidden: Any, tmp_path: Path
) -> None:
    source = videos.write(tmp_path / "a.mp4", videos.moving(20, hidden), sound="aac")
    with RedactedFolder(tmp_path / "out", detector(), RED, every=every) as folder:
        assert [r.error for r in folder.redact([Found(source, "a.mp4")])] == [None]
    copy = tmp_path / "out" / "a.mp4"
    assert exposed(copy) == []
    assert videos.times(copy) == videos.times(source)
    assert videos.packets(copy, "audio") == videos.packets(source, "audio")
    (track,) = folder.last["tracks"]
    assert track["detected"] + track["filled"] == folder.last["frames"] == 20
    beside = [image[:, 100:] for image in videos.images(copy)]
    assert all(np.abs(image.astype(int) - 40).max() < 12 for image in beside)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        *("a.mp4", "report.jsonl", "settings.json"),
    ]


def test_a_turned_video_is_redacted_where_its_faces_are(tmp_path: Path) -> None:
    source = videos.write(tmp_path / "a.mp4", videos.moving(6), turned=90)
    with RedactedFolder(tmp_path / "out", detector(), RED, sound=False) as folder:
        list(folder.redact([Found(source, "a.mp4")]))
    assert exposed(tmp_path / "out" / "a.mp4") == []
    with VideoReader(tmp_path / "out" / "a.mp4") as reader:
        assert reader.image_size == (128, 96)


def test_what_was_found_before_a_stop_is_not_searched_for_again(tmp_path: Path) -> None:
    source = videos.write(tmp_path / "a.mp4", videos.moving(16, {5}))
    folders = {}
    for name, stop in (("whole", None), ("first", 6), ("second", 20)):
        out, seen = tmp_path / name, detector()

        def watch(step: str, frame: int, stop: int | None = stop, count: list[int] = []) -> None:  # noqa: B006
            count.append(frame)
            if stop is not None and len(count) == stop:
                count.clear()
                raise KeyboardInterrupt

        if stop is not None:
            with (
                pytest.raises(KeyboardInterrupt),
                RedactedFolder(out, seen, RED, review=True) as folder,
            ):
                list(folder.redact([Found(source, "a.mp4")], watch=watch))
            assert not (out / "a.mp4").exists()
            assert folder.last == {}
        again = detector()
        with RedactedFolder(out, again, RED, resume=True) as folder:
            list(folder.redact([Found(source, "a.mp4")]))
        assert exposed(out / "a.mp4") == []
        folders[name] = folder.last
        calls = len(again.runtime.shapes)  # type: ignore[attr-defined]
        assert calls == {"whole": 16, "first": 10, "second": 0}[name]
    assert folders["first"] == folders["second"] == folders["whole"]


@pytest.mark.slow
def test_a_kill_at_any_moment_leaves_no_copy_and_can_be_resumed(tmp_path: Path) -> None:
    """Killed without warning, again and again, until it is done."""
    source = videos.write(tmp_path / "a.mp4", videos.moving(40))
    (tmp_path / "run.py").write_text(
        "import sys, time\n"
        "from reference.seeing_runtimes import Seeing\n"
        "from facefind import FaceDetector\n"
        "from facefind.images import Found\n"
        "from facefind.pipeline.redacting import RedactedFolder\n"
        "from facefind.redaction import Redaction\n"
        "from pathlib import Path\n"
        "how = Redaction(method='fill', shape='box', color=(255, 0, 0), grow=1.1)\n"
        "def watch(step, frame):\n"
        "    print(step, frame, flush=True)\n"
        "    time.sleep(0.005)\n"
        "detector = FaceDetector(Seeing(), protocol='original', min_score=0.5, batch_size=1)\n"
        "with RedactedFolder('out', detector, how, resume=True) as folder:\n"
        f"    list(folder.redact([Found(Path({str(source)!r}), 'a.mp4')], watch=watch))\n"
    )
    paths = os.pathsep.join(filter(None, [str(Path(__file__).parents[1]), *sys.path]))
    for at in ("finding 30", "writing 12", None):
        run = subprocess.Popen(
            [sys.executable, "run.py"],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": paths},
        )
        assert run.stdout is not None
        for line in run.stdout:
            if line.strip() == at:
                run.send_signal(signal.SIGKILL)
                break
        run.stdout.close()
        code = run.wait()
        if at is not None:
            assert code == -signal.SIGKILL
            assert not (tmp_path / "out" / "a.mp4").exists()
    assert code == 0
    assert exposed(tmp_path / "out" / "a.mp4") == []
    report = (tmp_path / "out" / "report.jsonl").read_text().splitlines()
    assert [json.loads(line)["frames"] for line in report] == [40]


def test_a_broken_video_fails_alone(tmp_path: Path) -> None:
    good = videos.write(tmp_path / "b.mp4", videos.moving(5))
    (tmp_path / "a.mp4").write_bytes(b"no video")
    files = [Found(tmp_path / "a.mp4", "a.mp4"), Found(good, "b.mp4")]
    with (
        pipeline.JsonLines(tmp_path / "failed.jsonl") as failures,
        RedactedFolder(tmp_path / "out", detector(), RED) as folder,
    ):
        errors = [result.error for result in folder.redact(files, failures)]
    assert [type(error) for error in errors] == [ImageError, type(None)]
    assert failures.path.read_text().count("\n") == 1
    assert not (tmp_path / "out" / "a.mp4").exists()


def test_a_stream_is_redacted_with_a_bounded_look_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A face that is found from frame 4 on is hidden before, too, though the stream is written."""
    source = videos.write(tmp_path / "a.ts", videos.moving(30, {0, 1, 2, 3, 12, 13, 14}),
                          base=Fraction(1, 90000), steps=lambda _: 3600)  # fmt: skip
    hiding = pipeline.Hiding(lead=0.2, most_gap=0.4)
    held = []
    for number, (frame, _, _) in enumerate(
        redact_stream(str(source), tmp_path / "b.mp4", detector(), RED, hiding=hiding)
    ):
        held.append(frame.index - number)
    assert held == [0] * 30
    assert exposed(tmp_path / "b.mp4") == []
    short = list(redact_stream(str(source), tmp_path / "c.mp4", detector(), RED, seconds=0.4))
    assert len(short) == len(videos.times(tmp_path / "c.mp4")) == 10


def test_a_stream_that_breaks_off_leaves_what_came(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = videos.write(tmp_path / "a.mkv", videos.moving(12))
    decoded = VideoReader.__iter__

    def breaking(self: VideoReader) -> Any:
        for frame in decoded(self):
            if frame.index == 8:
                raise ImageError("it is gone")
            yield frame

    monkeypatch.setattr(VideoReader, "__iter__", breaking)
    with pytest.raises(ImageError, match="it is gone"):
        list(redact_stream(str(source), tmp_path / "b.mp4", detector(), RED))
    assert len(videos.times(tmp_path / "b.mp4")) == 8
    monkeypatch.undo()
    assert exposed(tmp_path / "b.mp4") == []


def test_a_stream_that_comes_back_in_another_size_leaves_what_came_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("facefind.video.reading._FIRST_WAIT", 0.001)
    parts = [
        videos.write(tmp_path / f"{size[0]}.ts", videos.moving(12, size=size)).read_bytes()
        for size in ((96, 128), (100, 160))
    ]
    hiding = pipeline.Hiding(lead=0, most_gap=0.2)
    with (
        videos.served([(part, False) for part in parts]) as (address, _),
        pytest.raises(ImageError, match="frame 12 is of 160x100 pixels"),
    ):
        list(redact_stream(address, tmp_path / "b.mp4", detector(), RED, hiding=hiding))
    assert len(videos.times(tmp_path / "b.mp4")) == 12
    assert exposed(tmp_path / "b.mp4") == []


def test_an_interrupt_leaves_each_frame_with_its_own_faces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frames of which several wait to be written, as there comes none for a while."""
    source = videos.write(
        tmp_path / "a.mkv", videos.moving(20), steps=lambda number: 5120 if number == 7 else 512
    )
    written: list[int] = []
    write = VideoWriter.write

    def interrupted(self: VideoWriter, frame: Any, raw: Any = None) -> None:
        write(self, frame, raw)
        written.append(frame.index)
        if len(written) == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(VideoWriter, "write", interrupted)
    hiding = pipeline.Hiding(lead=0, most_gap=0.2)
    with pytest.raises(KeyboardInterrupt):
        list(redact_stream(str(source), tmp_path / "b.mp4", detector(), RED, hiding=hiding))
    assert written == list(range(len(written)))
    assert exposed(tmp_path / "b.mp4") == []


def test_lines_of_frames_are_resumed_to_the_same_file(tmp_path: Path) -> None:
    source = videos.write(tmp_path / "a.mp4", videos.moving(10, {3}))
    settings = pipeline.video_settings(str(source), detector(), every=1)

    def run(path: Path, resume: bool) -> int:
        found = detector()
        with FrameLines(path, "a.mp4", resume=resume, settings=settings) as lines:
            video = read_video(source, found, track=True, known=lines.known())
            for _ in pipeline.detect_video(video, lines):
                pass
        return len(found.runtime.shapes)  # type: ignore[attr-defined]

    assert run(tmp_path / "whole.jsonl", False) == 10
    whole = (tmp_path / "whole.jsonl").read_bytes()
    for cut in (0, 1, len(whole) // 2, len(whole) - 1, len(whole)):
        part = tmp_path / f"{cut}.jsonl"
        part.write_bytes(whole[:cut])
        note = (tmp_path / "whole.jsonl.source.json").read_bytes()
        (tmp_path / f"{cut}.jsonl.source.json").write_bytes(note)
        assert run(part, True) == 10 - whole[:cut].count(b"\n")
        assert part.read_bytes() == whole
    with pytest.raises(DataError, match="was made with every"):
        FrameLines(part, "a.mp4", resume=True, settings=settings | {"every": 2})
    with pytest.raises(DataError, match=r"line 1: is not frame 0 of b\.mp4"):
        FrameLines(part, "b.mp4", resume=True)
    first = json.loads(whole.splitlines()[0])
    assert list(first)[:3] == ["image", "frame", "time"]
    assert first["ids"] == [1]
