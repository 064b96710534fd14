"""Tiles cover the image, overlap as asked, and stay inside."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facefind import images
from facefind.errors import ImageError


@given(data=st.data(), image=st.tuples(st.integers(1, 200), st.integers(1, 200)))
def test_every_face_smaller_than_the_overlap_is_whole_in_a_tile(data, image):
    size = data.draw(st.tuples(st.integers(1, 90), st.integers(1, 90)))
    overlap = data.draw(st.integers(0, min(size) - 1))
    windows = images.tiles(image, size, overlap)
    assert len(set(windows)) == len(windows)
    seen = np.zeros(image, bool)
    for window in windows:
        assert 0 <= window.x1 < window.x2 <= image[1]
        assert 0 <= window.y1 < window.y2 <= image[0]
        assert window.y2 - window.y1 == min(size[0], image[0])
        assert window.x2 - window.x1 == min(size[1], image[1])
        window.cut(seen)[:] = True
    assert seen.all()
    # Any stretch of `overlap` pixels lies within one window, along both sides.
    for first, last, length in (("x1", "x2", image[1]), ("y1", "y2", image[0])):
        spans = {(getattr(w, first), getattr(w, last)) for w in windows}
        for start in range(max(1, length - overlap + 1)):
            end = min(length, start + overlap)
            assert any(a <= start and end <= b for a, b in spans)


def test_there_are_no_more_tiles_than_needed():
    assert images.tiles((100, 100), 100) == [(0, 0, 100, 100)]
    assert len(images.tiles((1000, 1000), 500)) == 4
    assert images.tiles((50, 250), (100, 100), 20) == [
        (0, 0, 100, 50),
        (75, 0, 175, 50),
        (150, 0, 250, 50),
    ]


@pytest.mark.parametrize(
    ("image", "size", "overlap"), [((0, 5), 4, 0), ((5, 5), 0, 0), ((9, 9), 4, 4), ((9, 9), 4, -1)]
)
def test_bad_sizes_say_so(image, size, overlap):
    with pytest.raises(ImageError):
        images.tiles(image, size, overlap)
