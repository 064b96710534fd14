"""Copies of pictures and videos show no face, and keep all else that they should."""

from __future__ import annotations

import io
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageSequence
from reference.seeing_runtimes import Seeing

from facefind import FaceDetector, pipeline
from facefind.errors import DataError, ImageError
from facefind.images import Found
from facefind.pipeline.redacting import REPORT, RedactedFolder, redacted_name
from facefind.redaction import Redaction

RED = Redaction(method="fill", shape="box", color=(255, 0, 0), grow=1.1)


def detector(**options: Any) -> FaceDetector:
    return FaceDetector(Seeing(), protocol="original", min_score=0.5, batch_size=1, **options)


def patched(left: int = 20) -> np.ndarray:
    """An image (60,80,3) with a white patch, x from `left` on and 20 wide, y 20 to 44."""
    image = np.full((60, 80, 3), 60, np.uint8)
    image[20:44, left : left + 20] = 250
    return image


def redact(path: Path, how: Redaction = RED, **options: Any) -> tuple[Path, dict[str, Any]]:
    """The copy of a file, and its line in the report."""
    out = path.parent / "out"
    with RedactedFolder(out, detector(), how, resume=True, **options) as folder:
        results = list(folder.redact([Found(path, path.name)]))
        for result in results:
            if result.error is not None:
                raise result.error
    return out / redacted_name(path.name), folder.last


@pytest.mark.parametrize(
    "name", ["a.jpg", "a.png", "a.webp", "a.tif", "a.bmp", "a.ppm", "a.jp2", "a.gif"]
)
def test_each_format_is_written_without_the_face(name: str, tmp_path: Path) -> None:
    Image.fromarray(patched()).save(tmp_path / name)
    before = (tmp_path / name).read_bytes()
    copy, record = redact(tmp_path / name)
    with Image.open(copy) as picture:
        after = np.asarray(picture.convert("RGB")).astype(int)
    assert np.abs(after[22:42, 22:38] - (255, 0, 0)).max() < 30
    assert np.abs(after[:, 50:] - 60).max() < 12
    assert (record["faces"], record["file"]) == (1, name)
    assert np.abs(np.array(record["boxes"][0]) - (20, 20, 40, 44)).max() <= 3
    assert record["lowest_score"] == 0.9
    assert (tmp_path / name).read_bytes() == before


def with_exif(turned: int = 1) -> Image.Exif:
    exif = Image.Exif()
    exif[0x010F] = "Camera"
    exif[0x0112] = turned
    exif.get_ifd(0x8825)[1] = "N"
    exif.get_ifd(0x8769)[0x927C] = b"note of the maker, with a preview"
    return exif


PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def test_metadata_is_left_out_the_profile_stays_and_the_picture_is_upright(tmp_path: Path) -> None:
    stored = np.rot90(patched())  # orientation 6 turns it back
    Image.fromarray(stored).save(
        tmp_path / "a.jpg", exif=with_exif(6), icc_profile=PROFILE, quality=95, comment="Anna"
    )
    copy, _ = redact(tmp_path / "a.jpg")
    with Image.open(copy) as picture:
        assert dict(picture.getexif()) == {}
        assert picture.info["icc_profile"] == PROFILE
        assert picture.size == (80, 60)
        pixels = np.asarray(picture).astype(int)
    assert np.abs(pixels[24:40, 24:36] - (255, 0, 0)).max() < 30
    for word in (b"Camera", b"Exif", b"Anna", b"note of"):
        assert word not in copy.read_bytes()


def test_kept_metadata_shows_no_preview(tmp_path: Path) -> None:
    upside_down = Image.fromarray(patched()[::-1, ::-1].copy())
    upside_down.save(tmp_path / "a.jpg", exif=with_exif(3).tobytes(), quality=95)
    copy, _ = redact(tmp_path / "a.jpg", metadata=True)
    with Image.open(copy) as picture:
        exif = picture.getexif()
        assert exif[0x010F] == "Camera"
        assert 0x0112 not in exif
        assert exif.get_ifd(0x8825)[1] == "N"
        assert 0x927C not in exif.get_ifd(0x8769)
        assert np.abs(np.asarray(picture).astype(int)[24:40, 24:36] - (255, 0, 0)).max() < 30
    assert b"note of" not in copy.read_bytes()


def test_thumbnails_are_gone_even_where_exif_stays(tmp_path: Path) -> None:
    """Exif with a second directory, which holds a small picture of the face."""
    small = io.BytesIO()
    Image.fromarray(patched()).resize((16, 12)).save(small, "JPEG")
    thumbnail = small.getvalue()
    first = struct.pack("<HHHII", 1, 0x010F, 2, 7, 26) + struct.pack("<I", 34) + b"Camera\0\0"
    second = struct.pack("<HHHIIHHII", 2, 0x0201, 4, 1, 64, 0x0202, 4, 1, len(thumbnail))
    exif = b"Exif\0\0II*\0" + struct.pack("<I", 8) + first + second + bytes(4) + thumbnail
    Image.fromarray(patched()).save(tmp_path / "a.jpg", exif=exif)
    assert thumbnail in (tmp_path / "a.jpg").read_bytes()
    copy, _ = redact(tmp_path / "a.jpg", metadata=True)
    assert thumbnail[20:] not in copy.read_bytes()
    with Image.open(copy) as picture:
        assert picture.getexif()[0x010F] == "Camera"
        assert not picture.getexif().get_ifd(1)


def test_sixteen_bits_stay(tmp_path: Path) -> None:
    deep = patched()[..., 0].astype(np.uint16) * 257 + 5
    Image.fromarray(deep).save(tmp_path / "a.png")
    copy, _ = redact(tmp_path / "a.png", Redaction(method="pixelate", shape="box", blocks=2))
    with Image.open(copy) as picture:
        after = np.asarray(picture)
    assert after.dtype == np.uint16
    np.testing.assert_array_equal(after[:, 50:], deep[:, 50:])
    assert len(np.unique(after[20:44, 20:40])) <= 4
    assert (redact_once(tmp_path / "a.png", "image")[24:40, 24:36] == 200 * 257).all()


def redact_once(path: Path, method: Any) -> np.ndarray:
    with Image.open(path) as original:
        mode = original.mode
    out = path.parent / "once"
    how = Redaction(method=method, picture=np.full((4, 4, 3), 200, np.uint8))
    with RedactedFolder(out, detector(), how) as folder:
        assert all(r.error is None for r in folder.redact([Found(path, path.name)]))
    with Image.open(out / path.name) as picture:
        assert picture.mode == mode
        return np.asarray(picture)


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "CMYK", "P", "1"])
def test_any_mode(mode: str, tmp_path: Path) -> None:
    name = "a.tif" if mode == "CMYK" else "a.png"
    Image.fromarray(patched()).convert(mode, dither=Image.Dither.NONE).save(tmp_path / name)
    copy, record = redact(tmp_path / name, Redaction(method="fill", shape="box"))
    assert record["faces"] == 1
    with Image.open(copy) as picture:
        assert picture.mode == {"P": "RGB", "1": "L"}.get(mode, mode)
        after = np.asarray(picture.convert("RGB"))
    assert after[24:40, 24:36].max() < 40
    assert abs(int(after[:, 60:].mean()) - (0 if mode == "1" else 60)) < 20


def test_what_lies_hidden_under_transparency_is_gone(tmp_path: Path) -> None:
    rgba = np.dstack([patched(), np.full((60, 80), 255, np.uint8)])
    rgba[:, 50:] = (9, 200, 9, 0)
    Image.fromarray(rgba).save(tmp_path / "a.png")
    copy, _ = redact(tmp_path / "a.png", Redaction(method="blur"))
    with Image.open(copy) as picture:
        after = np.asarray(picture)
    assert (after[:, 50:] == 0).all()
    assert (after[:, :50, 3] == 255).all()


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.webp"])
def test_animations_are_redacted_in_all_frames(name: str, tmp_path: Path) -> None:
    """In the third frame the face is too dark to be found, and hidden all the same."""
    frames = [patched(10 + 4 * number) for number in range(5)]
    frames[2][frames[2] == 250] = 120
    first, *others = map(Image.fromarray, frames)
    first.save(tmp_path / name, save_all=True, append_images=others, duration=80, loop=2)
    copy, record = redact(tmp_path / name)
    with Image.open(copy) as picture:
        seen = [np.asarray(f.convert("RGB")).astype(int) for f in ImageSequence.Iterator(picture)]
        assert picture.info["duration"] == 80
        assert picture.info["loop"] == 2
    assert len(seen) == 5
    for number, image in enumerate(seen):
        inside = image[24:40, 13 + 4 * number : 27 + 4 * number]
        assert np.abs(inside - (255, 0, 0)).max() < 40, number
    assert record["faces"] == 1
    assert [(t["detected"], t["filled"]) for t in record["tracks"]] == [(4, 1)]


def test_pages_are_pictures_of_their_own(tmp_path: Path) -> None:
    pages = [Image.fromarray(patched(10)), Image.fromarray(patched(50))]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    copy, record = redact(tmp_path / "a.tif")
    with Image.open(copy) as picture:
        seen = [np.asarray(f).copy() for f in ImageSequence.Iterator(picture)]
    assert [tuple(page[30, x]) for page, x in zip(seen, (20, 60), strict=True)] == [(255, 0, 0)] * 2
    assert (seen[0][:, 50:] == 60).all()
    assert [len(boxes) for boxes in record["pages"]] == [1, 1]


def test_what_cannot_be_kept_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    Image.fromarray(np.full((60, 80), 0.5, np.float32)).save(tmp_path / "a.tif")
    moving = [Image.fromarray(patched(10)), Image.fromarray(patched(50))]
    moving[0].save(tmp_path / "b.gif", save_all=True, append_images=moving[1:], duration=50)
    (tmp_path / "b.gif").rename(tmp_path / "b.jpg")
    for name, said in (("a.tif", "holds floats"), ("b.jpg", "2 frames, which no JPEG file holds")):
        with pytest.raises(ImageError, match=said):
            redact(tmp_path / name)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [REPORT, "settings.json"]


def test_names_of_copies() -> None:
    for name, copy in {
        "a/b.JPG": "a/b.JPG",
        "a.heic": "a.heic.png",
        "a.avi": "a.avi.mkv",
        "a.webm": "a.webm",
        "../../a.png": "a.png",
    }.items():
        assert redacted_name(name).as_posix() == copy


def test_copies_are_resumed_with_the_same_settings_alone(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        Image.fromarray(patched()).save(tmp_path / name)
    _, first = redact(tmp_path / "a.png")
    with RedactedFolder(tmp_path / "out", detector(), RED, resume=True) as folder:
        assert folder.names == {"a.png"}
    for other in ({"how": Redaction()}, {"metadata": True}, {"every": 2}):
        how = other.pop("how", RED)
        with pytest.raises(DataError, match="was made with"):
            RedactedFolder(tmp_path / "out", detector(), how, resume=True, **other)
    with pytest.raises(DataError, match="redacted copies already"):
        RedactedFolder(tmp_path / "out", detector(), RED)
    lines = (tmp_path / "out" / REPORT).read_text().splitlines()
    assert [json.loads(line) for line in lines] == [first]


def test_contact_sheets_show_the_copies(tmp_path: Path) -> None:
    Image.fromarray(patched()).save(tmp_path / "a.png")
    redact(tmp_path / "a.png", review=True)
    (sheet,) = (tmp_path / "out" / "review").iterdir()
    with Image.open(sheet) as picture:
        pixels = np.asarray(picture).astype(int)
    assert (np.abs(pixels - (255, 0, 0)).max(-1) < 30).any()
    assert not (np.abs(pixels - 250).max(-1) < 4).any()
    redact(tmp_path / "a.png", review=True)  # adds a page, and leaves the first
    assert len(list((tmp_path / "out" / "review").iterdir())) == 2


def test_a_detector_of_bgr_arrays_finds_the_same(tmp_path: Path) -> None:
    frames = [Image.fromarray(patched(10)), Image.fromarray(patched(14))]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:], duration=50)
    with pipeline.RedactedFolder(tmp_path / "x", detector(color="bgr"), RED) as folder:
        list(folder.redact([Found(tmp_path / "a.gif", "a.gif")]))
    assert folder.last["faces"] == 1
