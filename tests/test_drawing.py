"""Drawing marks the faces, and the given image is never changed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facefind import drawing, redaction
from facefind.errors import ImageError
from facefind.faces import Faces

GRAY = np.full((300, 400, 3), 90, np.uint8)


def one(box=(100, 80, 180, 180), landmarks=None, ids=None, image_size=(300, 400)):
    landmarks = None if landmarks is None else [landmarks]
    return Faces([box], [0.875], landmarks, ids=ids, image_size=image_size)


def changed(image, before=GRAY):
    return (image != before).any(-1)


def test_box_lies_where_the_face_is():
    out = drawing.draw(GRAY, one(), labels=False, line_width=2)
    want = np.zeros((300, 400), bool)
    want[80:180, 100:180] = True
    want[82:178, 102:178] = False
    np.testing.assert_array_equal(changed(out), want)
    assert (out[80, 100:180] == drawing.GREEN).all()


def test_landmarks_are_drawn_in_their_colors():
    points = [[120, 110], [160, 110], [140, 130], [125, 155], [155, 155]]
    out = drawing.draw(GRAY, one(landmarks=points), labels=False)
    marks = [tuple(out[y, x]) for x, y in points]
    assert marks[0] == marks[3] != marks[1] == marks[4] != marks[2]
    assert not changed(drawing.draw(GRAY, one(landmarks=points), landmarks=False))[110, 120]


def test_label_stands_above_the_box_or_inside_where_there_is_no_room():
    above = changed(drawing.draw(GRAY, one()))
    assert above[:80].any()
    top = changed(drawing.draw(GRAY, one(box=(100, 0, 180, 100))))
    assert top[2:10, 104:140].any()
    assert not changed(drawing.draw(GRAY, one(), labels=False))[:80].any()
    tiny = drawing.draw(GRAY, one(box=(100, 80, 106, 87)))
    assert not changed(tiny)[:80].any()  # too narrow to be labeled
    right = drawing.draw(GRAY, one(box=(380, 80, 400, 110)))
    assert right.shape == GRAY.shape


def test_lines_suit_the_image_and_the_face():
    large = np.zeros((3000, 4000, 3), np.uint8)
    thick = drawing.draw(large, one((1000, 800, 1800, 1800), image_size=(3000, 4000)), labels=False)
    thin = drawing.draw(large, one((1000, 800, 1040, 850), image_size=(3000, 4000)), labels=False)
    assert changed(thick[1300, 900:1100], 0).sum() >= 8
    assert 1 <= changed(thin[825, 990:1020], 0).sum() <= 3


def test_colors_and_ids():
    red = drawing.draw(GRAY, one(), box_color=(255, 0, 0), labels=False)
    assert tuple(red[80, 140]) == (255, 0, 0)
    first, second = (
        drawing.draw(GRAY, one(ids=[i]), labels=False)[80, 140].tolist() for i in (1, 2)
    )
    assert first != second


@pytest.mark.parametrize(
    "function", [drawing.draw, redaction.blur, redaction.pixelate, redaction.fill]
)
@given(data=st.data())
@settings(max_examples=25)
def test_any_faces_can_be_drawn_and_the_image_stays(function, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    image = rng.integers(0, 256, (60, 80, 3), np.uint8)
    far = st.sampled_from([-1e30, -500, -3.5, 0, 7.25, 30, 79.9, 200, 1e30])
    boxes = data.draw(st.lists(st.tuples(far, far, far, far), max_size=4))
    points = np.full((len(boxes), 5, 2), data.draw(far))
    faces = Faces(boxes, np.linspace(0, 1, len(boxes)), points, image_size=(60, 80))
    before = image.copy()
    out = function(image, faces)
    assert out.shape == image.shape
    assert out.dtype == np.uint8
    assert out.flags.writeable
    assert not np.shares_memory(out, image)
    np.testing.assert_array_equal(image, before)
    if not boxes:
        np.testing.assert_array_equal(out, image)


@pytest.mark.parametrize(
    "function", [drawing.draw, redaction.blur, redaction.pixelate, redaction.fill]
)
def test_wrong_image_says_so(function):
    with pytest.raises(ImageError, match="upright image"):
        function(GRAY[:200], one())
    with pytest.raises(ImageError, match="uint8"):
        function(GRAY.astype(float), one())


def test_a_mesh_is_laid_over_its_face_alone():
    from facefind.systems.mesh.template import face_template

    template = face_template().mesh
    image = np.full((80, 100, 3), 40, np.uint8)
    mesh = template.vertices * (20, -20, -20) + (50, 40, 0)
    boxes, scores = [(35, 20, 65, 60)], [0.9]
    faces = Faces(boxes, scores, mesh=mesh[None], image_size=(80, 100))
    plain = drawing.draw(image, faces, labels=False)
    drawn = drawing.draw(image, faces, labels=False, triangles=template.triangles)
    changed = (drawn != plain).any(-1)
    assert changed[40, 50]
    assert drawn[40, 50].min() > 40
    rows, columns = np.nonzero(changed)
    assert rows.min() >= 18
    assert rows.max() <= 62
    assert columns.min() >= 33
    assert columns.max() <= 67
    away = Faces(boxes, scores, mesh=mesh[None] + (500, 0, 0), image_size=(80, 100))
    np.testing.assert_array_equal(
        drawing.draw(image, away, labels=False, triangles=template.triangles), plain
    )
