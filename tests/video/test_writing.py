"""Written videos keep times, turn, colors, sound; only what is hidden differs."""

from __future__ import annotations

import logging
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("av", reason="the extra `video` brings PyAV")

import av
from reference import videos

from facefind.errors import DataError, ImageError
from facefind.redaction import Redaction
from facefind.video import VideoReader, VideoWriter
from facefind.video.planes import encodable, hide_faces, planes


def rewrite(source: Path, out: Path, *, packets: bool = True, **options: Any) -> VideoReader:
    with (
        VideoReader(source, packets=packets) as reader,
        VideoWriter(out, reader, **options) as writer,
    ):
        for frame in reader:
            writer.write(frame)
    return reader


@pytest.mark.parametrize("sound", ["aac", "mp3"])
def test_sound_is_copied_packet_by_packet_and_times_are_kept(sound: str, tmp_path: Path) -> None:
    source = videos.write(
        tmp_path / "a.mp4",
        videos.moving(20),
        sound=sound,
        base=Fraction(1, 30000),
        steps=lambda number: 1001 * (1 + number % 3),
    )
    rewrite(source, tmp_path / "b.mp4")
    assert videos.times(tmp_path / "b.mp4") == videos.times(source)
    assert videos.packets(tmp_path / "b.mp4", "audio") == videos.packets(source, "audio")
    assert len(videos.packets(source, "audio")) > 10
    rewrite(source, tmp_path / "silent.mp4", packets=False)
    assert videos.packets(tmp_path / "silent.mp4", "audio") == []


def test_matroska_keeps_times_to_its_millisecond(tmp_path: Path) -> None:
    source = videos.write(tmp_path / "a.mp4", videos.moving(10), sound="aac")
    rewrite(source, tmp_path / "b.mkv")
    apart = [
        b - a for a, b in zip(videos.times(source), videos.times(tmp_path / "b.mkv"), strict=True)
    ]
    assert max(apart) - min(apart) <= Fraction(
        1, 1000
    )  # all moved alike, for sound begins before 0
    sound = [b[0] - a[0] for a, b in zip(videos.packets(source, "audio"),
             videos.packets(tmp_path / "b.mkv", "audio"), strict=True)]  # fmt: skip
    assert abs(sound[5] - apart[5]) <= Fraction(2, 1000)


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_turn_and_colors_are_kept(degrees: int, tmp_path: Path) -> None:
    source = videos.write(
        tmp_path / "a.mp4", videos.moving(3), turned=degrees, colors=(9, 16, 9, 1)
    )
    rewrite(source, tmp_path / "b.mp4")
    with av.open(str(tmp_path / "b.mp4")) as file:
        stream = file.streams.video[0]
        names = ("color_primaries", "color_trc", "colorspace", "color_range")
        assert [getattr(stream, name) for name in names] == [9, 16, 9, 1]
        frame = next(file.decode(video=0))
    with av.open(str(source)) as file:
        assert frame.rotation == next(file.decode(video=0)).rotation != 0


@pytest.mark.parametrize(
    ("form", "codec", "want"),
    [
        ("yuv420p10le", "libx264", ("hevc", "yuv420p10le")),
        ("yuv422p10le", "libx264", ("hevc", "yuv420p10le")),
        ("yuv444p", "libx264", ("h264", "yuv420p")),
        ("yuvj420p", "libx264", ("h264", "yuvj420p")),
        ("bgr0", "ffv1", ("h264", "yuv420p")),
        ("gray", "ffv1", ("h264", "yuv420p")),
    ],
)
def test_depth_and_colors_of_any_format(
    form: str, codec: str, want: tuple[str, str], tmp_path: Path
) -> None:
    images = [image.copy() for image in videos.moving(2)]
    for image in images:
        image[60:90, 10:50] = (200, 60, 30)
    source = videos.write(tmp_path / "a.mkv", images, codec=codec, form=form)
    rewrite(source, tmp_path / "b.mp4")
    with av.open(str(tmp_path / "b.mp4")) as file:
        stream = file.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt) == want
    before, after = videos.images(source)[1], videos.images(tmp_path / "b.mp4")[1]
    inside = np.s_[66:84, 16:44]
    assert np.abs(before[inside].astype(int) - after[inside]).mean() < 5
    assert np.abs(before.astype(int) - after).mean() < 5


def test_ten_bits_are_ten_bits(tmp_path: Path) -> None:
    """A ramp of more than 256 levels comes back with more than 256 levels."""
    ramp = np.tile(np.arange(64, 64 + 4 * 160, 1, np.uint16)[:640], (64, 1))
    with av.open(str(tmp_path / "a.mkv"), "w") as out:
        stream = out.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 640, 64, "yuv420p10le"
        frame = av.VideoFrame(640, 64, "yuv420p10le")
        for plane, _, _ in planes(frame):
            plane[...] = 512 if plane.shape[1] == 320 else ramp
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    rewrite(tmp_path / "a.mkv", tmp_path / "b.mp4", crf=4)
    with av.open(str(tmp_path / "b.mp4")) as file:
        luma = planes(next(file.decode(video=0)))[0][0]
        assert len(np.unique(luma)) > 300
        assert np.abs(luma.astype(int) - ramp).max() < 24
    rewrite(tmp_path / "a.mkv", tmp_path / "c.mp4", deep=False)
    with av.open(str(tmp_path / "c.mp4")) as file:
        assert file.streams.video[0].pix_fmt == "yuv420p"


def test_what_an_hdr_video_says_of_its_display_is_kept_or_said_to_be_lost(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    quiet = "log-level=none:bframes=0"  # they would have no decoding times in so short a video
    light = "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"
    source = videos.write(
        tmp_path / "a.mkv",
        videos.moving(2),
        codec="libx265",
        form="yuv420p10le",
        colors=(9, 16, 9, 1),
        options={"x265-params": f"{quiet}:{light}:max-cll=1000,400", "preset": "ultrafast"},
    )

    def said(path: Path) -> dict[str, bytes]:
        with av.open(str(path)) as file:
            found = {e.type.name: bytes(e) for e in next(file.decode(video=0)).side_data}
        return {name: found[name] for name in sorted(found) if name != "SEI_UNREGISTERED"}

    assert [*said(source)] == ["CONTENT_LIGHT_LEVEL", "MASTERING_DISPLAY_METADATA"]
    for name, deep in (("b.mp4", True), ("c.mkv", True), ("d.mp4", False)):
        rewrite(source, tmp_path / name, deep=deep)
        assert said(tmp_path / name) == said(source)
    assert not caplog.messages
    with caplog.at_level(logging.WARNING):
        rewrite(source, tmp_path / "e.webm")
    assert said(tmp_path / "e.webm") == {}
    (message,) = caplog.messages
    assert message.endswith(
        "e.webm: of HDR, it does not hold the light level, the mastering display"
    )


def test_odd_sides_get_one_more_pixel(tmp_path: Path) -> None:
    source = videos.write(
        tmp_path / "a.mkv", videos.moving(2, size=(95, 127)), codec="ffv1", form="yuv420p"
    )
    rewrite(source, tmp_path / "b.mp4", crf=5)
    before, after = videos.images(source)[1], videos.images(tmp_path / "b.mp4")[1]
    assert after.shape == (96, 128, 3)
    assert np.abs(after[:95, :127].astype(int) - before).mean() < 4
    assert np.abs(after[95, :127].astype(int) - before[94]).mean() < 8


def test_webm_and_its_sound(tmp_path: Path) -> None:
    source = videos.write(tmp_path / "a.mkv", videos.moving(4), sound="libopus", form="yuv420p")
    rewrite(source, tmp_path / "b.webm")
    with av.open(str(tmp_path / "b.webm")) as file:
        kinds = [stream.codec_context.name for stream in file.streams]
    assert kinds[0] == "vp9"
    assert "opus" in kinds[1]
    assert len(videos.times(tmp_path / "b.webm")) == 4
    aac = videos.write(tmp_path / "c.mkv", videos.moving(4), sound="aac")
    with pytest.raises(DataError, match=r"cannot hold sound of the kind aac: write an \.mkv file"):
        rewrite(aac, tmp_path / "d.webm")
    assert not (tmp_path / "d.webm").exists()


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_metadata_comes_along_only_where_given(suffix: str, tmp_path: Path) -> None:
    base = Fraction(1, 1000)
    chapters = [
        {"id": n, "start": 40 * n, "end": 40 * n + 40, "time_base": base, "metadata": {"title": t}}
        for n, t in enumerate(("Yard", "Pond"))
    ]
    source = tmp_path / f"a.{suffix}"
    videos.write(source, videos.moving(2), metadata={"title": "Home"}, chapters=chapters)
    without, kept = tmp_path / f"b.{suffix}", tmp_path / f"c.{suffix}"
    rewrite(source, without)
    rewrite(source, kept, metadata=True)
    assert not any(word in without.read_bytes() for word in (b"Home", b"Yard", b"Pond"))
    with av.open(str(kept)) as file:
        assert file.metadata["title"] == "Home"
        found = [
            (one["start"] * one["time_base"], one["end"] * one["time_base"], one["metadata"])
            for one in file.chapters()
        ]
    assert found == [
        (0, Fraction(1, 25), {"title": "Yard"}),
        (Fraction(1, 25), Fraction(2, 25), {"title": "Pond"}),
    ]


def test_images_in_place_of_frames(tmp_path: Path) -> None:
    source = videos.write(tmp_path / "a.mp4", videos.moving(5), turned=90)
    with VideoReader(source) as reader, VideoWriter(tmp_path / "b.mp4", reader, crf=5) as writer:
        for frame in reader:
            image = frame.image()
            image[:20, :30] = (250, 20, 20)
            writer.write(frame, image)
    with VideoReader(tmp_path / "b.mp4") as reader:
        frames = list(reader)
    assert len(frames) == 5
    for frame in frames:
        assert np.abs(frame.image()[4:16, 4:26].astype(int) - (250, 20, 20)).mean() < 8


def stopping(reader: VideoReader, path: Path) -> None:
    with VideoWriter(path, reader) as writer:
        for frame in reader:
            writer.write(frame)
        raise RuntimeError("stop")


def test_an_error_leaves_no_file_and_no_draft(tmp_path: Path) -> None:
    source = videos.write(tmp_path / "a.mp4", videos.moving(5))
    with VideoReader(source) as reader, pytest.raises(RuntimeError, match="stop"):
        stopping(reader, tmp_path / "b.mp4")
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]
    with VideoReader(source) as reader:
        with pytest.raises(DataError, match=r"\.avi"):
            VideoWriter(tmp_path / "b.avi", reader)
        with pytest.raises(DataError, match=r"a\.mp4 is read as .*: name another file to write"):
            VideoWriter(source, reader)


def test_frames_of_another_size_are_refused(tmp_path: Path) -> None:
    source = videos.write(tmp_path / "a.mp4", videos.moving(2))
    small = np.zeros((48, 64, 3), np.uint8)
    with VideoReader(source) as reader, VideoWriter(tmp_path / "b.mp4", reader) as writer:
        writer.write(reader.first)
        with pytest.raises(ImageError, match="a video is of one size"):
            writer.write(reader.first, small)
        with pytest.raises(ImageError, match=r"an image is a path, .* got builtins\.list"):
            writer.write(reader.first, [small])


@pytest.mark.parametrize("form", ["yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "gray"])
@pytest.mark.parametrize("shape", ["ellipse", "box"])
@pytest.mark.parametrize("method", ["blur", "pixelate", "fill", "image"])
def test_what_is_hidden_is_hidden_in_all_planes_and_nothing_else_is_touched(
    method: Any, shape: Any, form: str
) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (96, 128, 3), np.uint8)
    raw = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format=form)
    before = [plane.copy() for plane, _, _ in planes(raw)]
    picture = np.full((10, 10, 3), 200, np.uint8) if method == "image" else None
    how = Redaction(method=method, shape=shape, color=(255, 0, 0), picture=picture)
    hide_faces(raw, np.array([[31.0, 21, 91, 83], [-20, 70, 12, 130]]), how)
    after = planes(raw)
    for (plane, x, y), old in zip(after, before, strict=True):
        rows, columns = np.nonzero(plane != old)
        inside = (columns >= 30 * x - 1) & (columns <= 92 * x) & (rows >= 20 * y - 1)
        inside &= rows <= 84 * y
        corner = (columns <= 12 * x + 1) & (rows >= 70 * y - 1)
        assert (inside | corner).all()
        middle = np.s_[int(40 * y) : int(64 * y), int(48 * x) : int(74 * x)]
        assert plane[middle].std() < old[middle].std() / 3
    if method == "fill" and form.startswith("yuv"):
        center = raw.to_ndarray(format="rgb24")[50, 60].astype(int)
        assert np.abs(center - (255, 0, 0)).max() < 12


def test_the_decoders_own_memory_is_not_written_to(tmp_path: Path) -> None:
    """What later frames are predicted from stays as it was."""
    source = videos.write(tmp_path / "a.mp4", [videos.moving(1)[0]] * 12)
    with VideoReader(source) as reader:
        for frame in reader:
            assert frame.image()[42:60, 8:20].mean() > 200
            raw = encodable(frame.raw, deep=False)
            hide_faces(raw, np.array([[0.0, 30, 60, 80]]), Redaction(method="fill"))
            assert raw.to_ndarray(format="rgb24")[42:60, 8:20].mean() < 20
