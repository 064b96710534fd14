"""Frames of any video, with their exact times, upright, whatever is broken in it."""

from __future__ import annotations

from fractions import Fraction
from functools import partial
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("av", reason="the extra `video` brings PyAV")

from reference import videos

from facefind.errors import ImageError
from facefind.video import VideoReader, is_stream, is_video, opening, reading
from facefind.video.turning import Turn


def read(source: object, **options: object) -> tuple[VideoReader, list[reading.DecodedFrame]]:
    with VideoReader(source, **options) as reader:  # type: ignore[arg-type]
        return reader, list(reader)


def test_frames_have_their_index_and_exact_time(tmp_path: Path) -> None:
    path = videos.write(
        tmp_path / "a.mp4",
        videos.moving(6),
        base=Fraction(1, 30000),
        steps=lambda number: 1001 * (1 + number % 3),
    )
    reader, frames = read(path)
    ticks = [0, 1, 3, 6, 7, 9]
    assert [frame.index for frame in frames] == list(range(6))
    assert [frame.time for frame in frames] == [Fraction(1001 * t, 30000) for t in ticks]
    assert (reader.image_size, reader.frames, reader.broken) == ((96, 128), 6, 0)
    assert not reader.live
    for frame, image in zip(frames, videos.moving(6), strict=True):
        assert np.abs(frame.image().astype(int) - image).mean() < 4


@pytest.mark.parametrize(
    ("form", "size"),
    [
        ("yuv420p10le", (96, 128)),
        ("yuv422p", (96, 128)),
        ("yuv444p", (95, 127)),
        ("gray", (95, 127)),
    ],
)
def test_any_depth_and_any_size(form: str, size: tuple[int, int], tmp_path: Path) -> None:
    path = videos.write(tmp_path / "a.mkv", videos.moving(2, size=size), codec="ffv1", form=form)
    reader, frames = read(path)
    assert reader.image_size == size
    assert np.abs(frames[1].image().astype(int) - videos.moving(2, size=size)[1]).mean() < 3


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_frames_are_turned_upright_as_players_do(degrees: int, tmp_path: Path) -> None:
    path = videos.write(tmp_path / "a.mov", videos.moving(1), turned=degrees)
    reader, (frame,) = read(path)
    want = np.rot90(videos.moving(1)[0], degrees // 90)
    assert frame.image().shape == want.shape
    assert reader.image_size == want.shape[:2]
    assert np.abs(frame.image().astype(int) - want).mean() < 4


@pytest.mark.parametrize("turn", [Turn(a, b, c) for a in (0, 1) for b in (0, 1) for c in (0, 1)])
def test_boxes_lie_on_the_same_pixels_however_a_frame_is_turned(turn: Turn) -> None:
    stored = np.zeros((6, 9), np.uint8)
    stored[1:3, 4:8] = 1
    upright = turn.upright(stored)
    ys, xs = np.nonzero(upright)
    box = (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
    assert turn.stored_boxes([box], upright.shape).tolist() == [[4, 1, 8, 3]]
    assert upright.shape == turn.size(stored.shape)
    np.testing.assert_array_equal(turn.stored(upright), stored)


def test_a_broken_packet_costs_its_frame_alone(tmp_path: Path) -> None:
    path = videos.write(tmp_path / "a.mkv", videos.moving(8), options={"g": "1"})
    data = bytearray(path.read_bytes())
    damaged = videos.packets(path, "video")[3][3]
    at = data.find(damaged)
    data[at : at + len(damaged)] = b"\xff" * len(damaged)
    path.write_bytes(data)
    reader, frames = read(path)
    assert reader.broken >= 1
    assert [round(frame.time * 25) for frame in frames] == [0, 1, 2, 4, 5, 6, 7]
    assert [frame.index for frame in frames] == list(range(7))


def test_a_file_without_its_end_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    path = videos.write(tmp_path / "a.mkv", videos.moving(20), options={"g": "5"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    _, frames = read(path)
    assert 1 <= len(frames) < 20


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("cut.mp4", None, "no video that can be"),
        ("text.mp4", b"no video", "is no video that can be read"),
        ("empty.mkv", b"", "is no video that can be read"),
    ],
)
def test_what_is_no_video_is_said_so(
    name: str, content: bytes | None, said: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    if content is None:  # an MP4 file without its index, which is at the end
        content = videos.write(tmp_path / "whole.mp4", videos.moving(5)).read_bytes()[:900]
    path.write_bytes(content)
    with pytest.raises(ImageError, match=said):
        VideoReader(path)


def test_missing_files_and_sound_alone(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="does not exist"):
        VideoReader(tmp_path / "none.mp4")
    both = videos.write(tmp_path / "both.mkv", videos.moving(5), sound="aac")
    import av

    with av.open(str(both)) as file, av.open(str(tmp_path / "sound.mkv"), "w") as out:
        stream = out.add_stream_from_template(file.streams.audio[0])
        for packet in file.demux(file.streams.audio[0]):
            if packet.size:
                packet.stream = stream
                out.mux(packet)
    with pytest.raises(ImageError, match="holds no video"):
        VideoReader(tmp_path / "sound.mkv")


def test_numbered_pictures_are_a_video(tmp_path: Path) -> None:
    for number, image in zip((3, 4, 7), videos.moving(3), strict=True):
        Image.fromarray(image).save(tmp_path / f"f_{number:05}.png")
    (tmp_path / "f_00005.png").write_bytes(b"torn")
    reader, frames = read(tmp_path / "f_%05d.png", rate=10)
    assert [frame.time for frame in frames] == [Fraction(0), Fraction(1, 10), Fraction(4, 10)]
    assert (reader.broken, reader.image_size) == (1, (96, 128))
    np.testing.assert_array_equal(frames[2].image(), videos.moving(3)[2])
    (tmp_path / "f_00005.png").unlink()
    assert len(read(tmp_path)[1]) == 3
    with pytest.raises(ImageError, match="no pictures are called"):
        VideoReader(tmp_path / "g_%05d.png")


def test_what_a_source_is_taken_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert is_stream(0)
    assert is_stream("0")
    assert is_stream("rtsp://host/a")
    assert not is_stream("a.mp4")
    for video in ("movie.MP4", "f_%05d.png", "http://host/x", "0"):
        assert is_video(video)
    (tmp_path / "0").mkdir()
    (tmp_path / "clips.mov").mkdir()
    for other in ("photo.jpg", "0", "clips.mov", "photos", "*.jpg"):
        assert not is_video(other)


def test_passwords_are_in_no_result(tmp_path: Path) -> None:
    for source, name in {
        "rtsp://me:secret@host:554/a/b?key=1": "rtsp://host:554/a/b",
        "http://host/live": "http://host/live",
        "0": "0",
        str(tmp_path / "a@b.mp4"): "a@b.mp4",
    }.items():
        assert opening.name_of(source) == name


def live(path: Path, first: int = 0, frames: int = 10, **options: Any) -> bytes:
    """A part of a stream, whose pictures begin with one of those of `videos.moving`."""
    images = videos.moving(first + frames)[first:]
    base = Fraction(1, 90000)
    return videos.write(path, images, base=base, steps=lambda _: 3600, **options).read_bytes()


def test_a_stream_that_stops_is_opened_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It counts its time anew, of pictures and of sound."""
    monkeypatch.setattr(reading, "_FIRST_WAIT", 0.01)
    part, again = live(tmp_path / "a.ts", sound="aac"), live(tmp_path / "b.ts", 5, sound="aac")
    with videos.served([(part, False), (again, False)]) as (address, seen):
        frames: list[reading.DecodedFrame] = []
        with VideoReader(address, retries=2, packets=True) as reader:
            assert reader.live
            said = r"after 20 frames .*did not come back in 2 tries"
            with pytest.raises(ImageError, match=said):
                collect(reader, frames)
    assert [frame.index for frame in frames] == list(range(20))
    rising = [frame.time for frame in frames]
    assert rising == sorted(set(rising))
    assert reader.reconnects == 1
    assert len(seen) == 4  # twice there, twice not
    sound = [float(p.dts * p.time_base) for one in frames for p in one.packets]
    assert sound == sorted(set(sound))
    assert abs(sound[-1] - float(rising[-1])) < 0.3  # it goes on beside the pictures


def test_what_a_stream_sends_again_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "_FIRST_WAIT", 0.01)
    whole = live(tmp_path / "a.ts", frames=30, options={"g": "5", "tune": "zerolatency"})
    some = whole[: len(whole) // 2 // 188 * 188]
    with videos.served([(some, False), (whole, False), (whole, False)]) as (address, seen):
        reader, frames = read(address)
    times = [frame.time for frame in frames]
    assert [round((time - times[0]) * 25) for time in times] == list(range(30))
    assert (reader.live, reader.reconnects, len(seen)) == (True, 2, 3)  # then nothing was new
    for frame, image in zip(frames, videos.moving(30), strict=True):
        assert np.abs(frame.image().astype(int) - image).mean() < 4


@pytest.mark.parametrize("stream", [False, True])
def test_times_that_begin_again_go_on(
    stream: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of joined files, and of a sender that is started again while the connection holds."""
    monkeypatch.setattr(reading, "_FIRST_WAIT", 0.001)
    both = b"".join(live(tmp_path / f"{n}.ts", n, frames=60, sound="aac") for n in (0, 5))
    (tmp_path / "both.ts").write_bytes(both)
    with videos.served([(both, False)]) as (address, _):
        frames: list[reading.DecodedFrame] = []
        with VideoReader(address if stream else tmp_path / "both.ts", packets=True) as reader:
            if stream:
                with pytest.raises(ImageError, match="did not come back"):
                    collect(reader, frames)
            else:
                collect(reader, frames)
    times = [frame.time for frame in frames]
    assert times == sorted(set(times))
    assert (len(times), reader.reconnects) == (120, 0)
    assert times[60] - times[59] == Fraction(1, 25) or stream
    sound = [float(p.dts * p.time_base) for one in frames for p in one.packets]
    assert sound == sorted(set(sound))
    assert len(sound) > 60
    assert abs(sound[-1] - float(times[-1])) < 0.3


def test_a_playlist_without_end_is_a_stream(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "_FIRST_WAIT", 0.001)
    live(tmp_path / "a.ts")
    lines = ("#EXTM3U", "#EXT-X-VERSION:3", "#EXT-X-TARGETDURATION:1", "#EXTINF:0.4,", "a.ts", "")
    (tmp_path / "a.m3u8").write_text("\n".join(lines))
    frames: list[reading.DecodedFrame] = []
    with (
        videos.serving(partial(Quiet, directory=str(tmp_path))) as address,
        VideoReader(f"{address}/a.m3u8", retries=1, timeout=0.1) as reader,
    ):
        assert reader.live
        with pytest.raises(ImageError, match=r"after 10 frames .*did not come back in 1 tries"):
            collect(reader, frames)
    assert (len(frames), reader.reconnects) == (10, 1)


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def collect(reader: VideoReader, frames: list[reading.DecodedFrame]) -> None:
    for frame in reader:
        frames.append(frame)  # those before an error, too


def test_a_file_at_an_address_ends_where_it_ends(tmp_path: Path) -> None:
    path = videos.write(tmp_path / "a.ts", videos.moving(10))
    with videos.served([(path.read_bytes(), True)]) as (address, seen):
        reader, frames = read(address)
    assert (len(frames), reader.live, len(seen)) == (10, False, 1)


def test_a_reader_is_run_through_once(tmp_path: Path) -> None:
    with VideoReader(videos.write(tmp_path / "a.mp4", videos.moving(3))) as reader:
        assert len(list(reader)) == 3
        with pytest.raises(ValueError, match="read once"):
            list(reader)


def test_without_pyav_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'facefind\[video\]'"):
        opening.library()
