"""Blurred, pixelated and filled faces are hidden, and nothing else of the image changes."""

from __future__ import annotations

import io

import numpy as np
import pytest

import facefind
from facefind import redaction
from facefind.errors import DataError
from facefind.faces import Faces
from facefind.redaction import CAREFUL, RedactOptions

ONE = Faces([(100, 80, 180, 180)], [0.875], image_size=(300, 400))


@pytest.fixture
def image():
    return np.random.default_rng(1).integers(0, 256, (300, 400, 3), np.uint8)


def changed(out, before):
    return (out != before).any(-1)


def test_blur_hides_the_face_and_nothing_else(image):
    out = redaction.blur(image, ONE)
    assert out[110:150, 120:160].std() < 10 < image[110:150, 120:160].std()
    touched = changed(out, image)
    touched[65:195, 88:192] = False
    assert not touched.any()
    assert not changed(out, image)[65:68, 88:92].any()  # an ellipse leaves the corners


def test_pixelate_makes_blocks(image):
    out = redaction.pixelate(image, ONE, margin=0, blocks=4)
    part = out[80:180, 100:180]
    assert len(np.unique(part.reshape(-1, 3), axis=0)) <= 4 * 3
    np.testing.assert_allclose(part.mean((0, 1)), image[80:180, 100:180].mean((0, 1)), atol=1.5)
    touched = changed(out, image)
    touched[80:180, 100:180] = False
    assert not touched.any()
    with pytest.raises(ValueError, match="blocks"):
        redaction.pixelate(image, ONE, blocks=0)
    with pytest.raises(ValueError, match=r"shape must be one of .*'box'\), got 'circle'"):
        facefind.redact(image, ONE, shape="circle")
    with pytest.raises(ValueError, match="color must be three numbers from 0 to 255, got 'red'"):
        facefind.fill(image, ONE, color="red")


def test_fill_leaves_nothing_of_the_face(image):
    out = facefind.fill(image, ONE, margin=0.1, color=(9, 8, 7))
    assert (out[70:190, 92:188] == (9, 8, 7)).all()
    touched = changed(out, image)
    touched[70:190, 92:188] = False
    assert not touched.any()


@pytest.mark.parametrize("function", [facefind.blur, facefind.pixelate, facefind.fill])
def test_any_image_that_detect_takes(function, image, tmp_path):
    from PIL import Image

    path = tmp_path / "face.png"
    Image.fromarray(image).save(path)
    want = function(image, ONE)
    assert changed(want, image).any()
    with pytest.raises(ValueError, match=r"margin must be from 0 to 4\.5, got -1"):
        function(image, ONE, margin=-1)
    for source in (
        path,
        str(path),
        path.read_bytes(),
        io.BytesIO(path.read_bytes()),
        Image.fromarray(image),
    ):
        np.testing.assert_array_equal(function(source, ONE), want)


@pytest.mark.parametrize("method", ["fill", "image"])
def test_a_box_that_reaches_far_out_of_the_image_is_covered_whole(method):
    pixels = np.full((40, 60, 3), 200, np.uint8)
    picture = np.zeros((4, 4, 3), np.uint8) if method == "image" else None
    how = redaction.Redaction(method=method, shape="box", picture=picture)
    redaction.hide(pixels, [[-1e30, 10, 1e30, 1e5]], how)
    assert (pixels[:10] == 200).all()
    assert (pixels[10:] == 0).all()


def test_options_of_copies_are_checked_and_careful_ones_grow():
    for wrong, said in (
        ({"grow": 0.5}, "grow 0.5: expected 1 to 10"),
        ({"color": (0, 256, 0)}, "color 256: expected 0 to 255"),
        ({"method": "image"}, "name both, or neither"),
    ):
        with pytest.raises(DataError, match=said):
            RedactOptions(**wrong)
    plain, careful = RedactOptions(), RedactOptions(careful=True)
    assert (plain.redaction().grow, careful.redaction().grow) == (1.2, CAREFUL.grow)
    assert RedactOptions(careful=True, grow=2).redaction().grow == 2
    assert plain.finding(None, None) == (None, None)
    assert careful.finding(None, None) == (CAREFUL.protocol, CAREFUL.min_score)
    assert careful.finding("640", 0.0) == ("640", 0.0)
