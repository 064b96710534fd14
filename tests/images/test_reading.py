"""Every kind of source and picture becomes the right upright RGB array."""

from __future__ import annotations

import io
import threading
import warnings

import numpy as np
import pytest
from PIL import Image, features
from reference import malformed

from facefind import images
from facefind.errors import ImageError

RNG = np.random.default_rng(5)
PICTURE = np.asarray(malformed.picture(RNG))

UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, 1),
}


def encoded(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def exif(value):
    block = Image.Exif()
    block[0x0112] = value
    return block


@pytest.fixture(scope="module")
def png():
    return encoded(Image.fromarray(PICTURE), "PNG")


def test_every_kind_of_source_gives_the_same_array(tmp_path, png):
    path = tmp_path / "pícture 1.png"
    path.write_bytes(png)
    with path.open("rb") as file:
        sources = [str(path), path, png, bytearray(png), memoryview(png), io.BytesIO(png), file]
        sources += [Image.open(path), Image.fromarray(PICTURE), PICTURE]
        for source in sources:
            got = images.read(source)
            assert got.dtype == np.uint8
            assert got.flags.c_contiguous
            np.testing.assert_array_equal(got, PICTURE)


def test_array_in_order_is_not_copied_and_files_give_writable_arrays(png):
    assert images.read(PICTURE) is PICTURE
    assert images.read(png).flags.writeable
    turned = images.read(PICTURE[:, ::-1])
    assert turned.flags.c_contiguous
    np.testing.assert_array_equal(turned, PICTURE[:, ::-1])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "MPO"])
def test_exif_orientation(kind, orientation):
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow was built without AVIF")
    image = Image.fromarray(PICTURE)
    plain = images.read(encoded(image, kind))
    got = images.read(encoded(image, kind, exif=exif(orientation)))
    np.testing.assert_array_equal(got, UPRIGHT[orientation](plain))


@pytest.mark.parametrize("orientation", range(9))
def test_the_size_is_that_of_the_upright_picture(tmp_path, orientation):
    path = tmp_path / "a.jpg"
    Image.fromarray(PICTURE).save(path, exif=exif(orientation))
    assert images.read_size(path) == images.read(path).shape[:2]


def test_no_size_without_a_picture(tmp_path):
    path = tmp_path / "a.jpg"
    with pytest.raises(ImageError, match="does not exist"):
        images.read_size(path)
    path.write_text("no picture")
    with pytest.raises(ImageError, match="known format"):
        images.read_size(path)


def test_exif_orientation_of_a_pil_image_that_stays_as_it_is():
    picture = Image.open(io.BytesIO(encoded(Image.fromarray(PICTURE), "PNG", exif=exif(6))))
    np.testing.assert_array_equal(images.read(picture), np.rot90(PICTURE, -1))
    assert picture.size == PICTURE.shape[1::-1]
    np.testing.assert_array_equal(images.read(picture), np.rot90(PICTURE, -1))


@pytest.mark.parametrize("value", [0, 9, 77])
def test_meaningless_orientation_leaves_the_picture(value):
    data = encoded(Image.fromarray(PICTURE), "PNG", exif=exif(value))
    np.testing.assert_array_equal(images.read(data), PICTURE)


def test_xmp_orientation():
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf tiff:Orientation="8"/></x:xmpmeta>'
    data = encoded(Image.fromarray(PICTURE), "WEBP", lossless=True, xmp=xmp)
    np.testing.assert_array_equal(images.read(data), np.rot90(PICTURE, 1))


def test_gray_is_repeated():
    gray = PICTURE[..., 0].copy()
    for source in (gray, gray[..., None], Image.fromarray(gray)):
        np.testing.assert_array_equal(images.read(source), np.repeat(gray[..., None], 3, 2))
    bits = gray > 128
    for source in (bits, Image.fromarray(bits)):
        np.testing.assert_array_equal(images.read(source)[..., 1], np.where(bits, 255, 0))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled(kind):
    deep = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    want = np.round(deep / 257)
    for source in (deep, Image.fromarray(deep), encoded(Image.fromarray(deep), kind)):
        np.testing.assert_array_equal(images.read(source)[..., 0], want)
    assert np.array_equal(images.read(deep.astype(">u2"))[..., 0], want)


def test_sixteen_bit_color_png_is_scaled():
    deep = RNG.integers(0, 65536, (6, 5, 3)).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in deep)
    got = images.read(malformed.png(5, 6, rows, depth=16))
    assert np.abs(got - deep / 257).max() <= 1


def test_whole_numbers_of_32_bits():
    for top in (255, 65535):
        values = np.linspace(0, top, 30).astype(np.int32).reshape(5, 6)
        got = images.read(Image.fromarray(values))
        assert np.abs(got[..., 0] - values * (255 / top)).max() <= 0.5
    for bad in (-1, 65536):
        with pytest.raises(ImageError, match="beyond 16 bits"):
            images.read(Image.fromarray(np.array([[0, bad]], np.int32)))


def test_floats_in_0_to_1_and_no_others():
    values = RNG.random((7, 9, 3))
    for kind in (np.float16, np.float32, np.float64):
        assert np.abs(images.read(values.astype(kind)) - values * 255).max() <= 0.7
    single = values[..., 0].astype(np.float32)
    assert np.abs(images.read(Image.fromarray(single))[..., 0] - single * 255).max() <= 0.51
    for bad in (PICTURE.astype(np.float32), values - 0.5, np.full((2, 2, 3), np.nan)):
        with pytest.raises(ImageError, match=r"floats must lie in 0\.\.1"):
            images.read(bad)


def test_transparency_is_laid_over_white():
    alpha = RNG.integers(0, 256, PICTURE.shape[:2]).astype(np.uint8)
    rgba = np.dstack([PICTURE, alpha])
    part = alpha[..., None] / 255
    want = PICTURE * part + 255 * (1 - part)
    sources = [rgba, Image.fromarray(rgba), encoded(Image.fromarray(rgba), "PNG")]
    sources.append(encoded(Image.fromarray(rgba), "TIFF"))
    sources.append(encoded(Image.fromarray(rgba), "WEBP", lossless=True, exact=True))
    for source in sources:
        assert np.abs(images.read(source) - want).max() <= 0.51
    opaque = np.dstack([PICTURE, np.full_like(alpha, 255)])
    np.testing.assert_array_equal(images.read(opaque), PICTURE)
    gray_alpha = Image.fromarray(rgba).convert("LA")
    gray = np.asarray(gray_alpha)[..., 0]
    want = gray * part[..., 0] + 255 * (1 - part[..., 0])
    assert np.abs(images.read(encoded(gray_alpha, "PNG"))[..., 2] - want).max() <= 0.51


def test_palettes_and_their_transparency():
    palette = Image.new("P", (3, 1))
    palette.putpalette([10, 20, 30, 200, 100, 50, 7, 8, 9])
    palette.putdata([0, 1, 2])
    rows = [[10, 20, 30], [200, 100, 50], [7, 8, 9]]
    for kind in ("PNG", "GIF", "BMP"):
        np.testing.assert_array_equal(images.read(encoded(palette, kind))[0], rows)
    clear = [[10, 20, 30], [255, 255, 255], [7, 8, 9]]
    for kind in ("PNG", "GIF"):
        got = images.read(encoded(palette, kind, transparency=1))
        np.testing.assert_array_equal(got[0], clear)
    half = images.read(encoded(palette, "PNG", transparency=bytes([255, 0, 128])))[0]
    np.testing.assert_array_equal(half[:2], clear[:2])
    assert np.abs(half[2] - np.array([131, 131, 132])).max() <= 1


def test_rgb_png_with_one_transparent_color():
    image = PICTURE.copy()
    image[3, 4] = 1, 2, 3
    got = images.read(encoded(Image.fromarray(image), "PNG", transparency=(1, 2, 3)))
    assert got[3, 4].tolist() == [255, 255, 255]
    assert got[0, 0].tolist() == image[0, 0].tolist()


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_has_the_colors_of_the_picture(kind):
    # Pillow writes JPEGs as Adobe does, with inverted ink.
    cmyk = Image.fromarray(PICTURE).convert("CMYK")
    options = {"quality": 100, "subsampling": 0} if kind == "JPEG" else {}
    got = images.read(encoded(cmyk, kind, **options))
    assert np.abs(got.astype(int) - PICTURE).mean() < 4


@pytest.mark.parametrize("mode", ["YCbCr", "HSV", "LAB", "RGBX", "RGBa", "PA"])
def test_other_modes_of_pil_have_the_colors_of_the_picture(mode):
    if mode == "LAB" and not features.check("littlecms2"):
        pytest.skip("this Pillow was built without LittleCMS")
    few = Image.fromarray(PICTURE).quantize(64).convert("RGB")
    image = few.quantize(64).convert("PA") if mode == "PA" else None
    image = image or (few.convert("RGBA") if mode == "RGBa" else few).convert(mode)
    assert image.mode == mode
    assert np.abs(images.read(image).astype(int) - np.asarray(few)).mean() < 4


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_first_frame_of_several(kind):
    red, blue = (Image.new("RGB", (20, 10), c) for c in ("red", "blue"))
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(red, kind, save_all=True, append_images=[blue], **options)
    got = images.read(data)
    assert got.shape == (10, 20, 3)
    assert (got == [255, 0, 0]).all()


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "BMP", "AVIF", "JPEG2000", "PPM", "ICO"])
def test_formats_are_known_by_content(tmp_path, kind):
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow was built without AVIF")
    path = tmp_path / "picture.txt"
    path.write_bytes(encoded(Image.fromarray(PICTURE[:32, :32]), kind))
    assert np.abs(images.read(path).astype(int) - PICTURE[:32, :32]).mean() < 12


def test_outside_programs_are_never_called():
    data = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
    with pytest.raises(ImageError, match="no picture of a known format"):
        images.read(data)


def test_pixel_limit_before_decoding(png):
    height, width = PICTURE.shape[:2]
    assert images.read(PICTURE, max_pixels=1) is PICTURE  # is decoded already
    for source in (png, Image.fromarray(PICTURE)):
        assert images.read(source, max_pixels=height * width).shape == PICTURE.shape
        with pytest.raises(ImageError, match=f"{width} x {height} pixels, more than max_pixels"):
            images.read(source, max_pixels=height * width - 1)
    with pytest.raises(ImageError, match="max_pixels"):
        images.read(malformed.png(20000, 20000, b""))


def test_pixel_limit_can_be_raised_above_that_of_pillow(png, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ImageError, match="raise max_pixels"):
        images.read(png, max_pixels=150)
    np.testing.assert_array_equal(images.read(png, max_pixels=10**6), PICTURE)
    assert Image.MAX_IMAGE_PIXELS == 100


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (b"", "empty"),
        (io.BytesIO(b""), "no bytes left"),
        (io.StringIO("text"), "open it in mode 'rb'"),
        ("no/such/file.jpg", r"'no/such/file\.jpg' does not exist"),
        ("https://example.org/a.jpg", "download it first"),
        ("nul\0byte.jpg", "nul"),
        (None, "got builtins.NoneType"),
        ([[1, 2], [3, 4]], "got builtins.list"),
        (np.zeros((0, 5, 3), np.uint8), r"no pixels: its shape is \(0, 5, 3\)"),
        (np.zeros(5, np.uint8), r"got \(5,\)"),
        (np.zeros((2, 3, 4, 3), np.uint8), r"\(2, 3, 4, 3\)"),
        (np.zeros((3, 8, 9), np.uint8), r"use array.transpose\(1, 2, 0\)"),
        (np.zeros((2, 8, 9, 3), np.uint8), r"several images are a list of them: list\(array\)"),
        (np.zeros((8, 9, 2), np.uint8), r"\(8, 9, 2\)"),
        (np.zeros((8, 9, 3), np.int64), "int64"),
        (np.zeros((8, 9, 3), complex), "complex128"),
        (np.array([["a"]]), "U1"),
        (Image.new("RGB", (0, 4)), "0 wide"),
    ],
)
def test_what_is_no_picture_says_so(source, message):
    with pytest.raises(ImageError, match=message):
        images.read(source)


def test_folder_and_special_file_say_so(tmp_path):
    with pytest.raises(ImageError, match=r"is a folder; images\.find"):
        images.read(tmp_path)
    with pytest.raises(ImageError, match="not a regular file"):
        images.read("/dev/null")


def test_file_objects_that_fail(png):
    class Broken:
        name = "socket"

        def read(self):
            raise ConnectionResetError("gone")

    with pytest.raises(ImageError, match="'socket' cannot be read: gone"):
        images.read(Broken())


def test_threads_read_the_same_and_leave_the_warning_filters(png):
    before = list(warnings.filters)
    results, errors = [], []

    def work():
        try:
            results.extend(images.read(png).sum() for _ in range(30))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert set(results) == {PICTURE.sum()}
    assert len(results) == 180
    assert warnings.filters == before
