"""Multi-scale protocols do what the papers' codes do, and large images are tiled without a seam."""

from __future__ import annotations

import logging
import time
import tracemalloc
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from reference import overlap, pyramid_protocol
from reference.seeing_runtimes import Blind, Seeing, heaps

from facefind import boxes as box_math
from facefind import detector as detector_room
from facefind.detector import FaceDetector
from facefind.errors import ProtocolError
from facefind.nms import box_voting
from facefind.protocols import PROTOCOLS, DsfdPyramid, Pass, Scale, ShortSide, TestProtocol
from facefind.runtimes import Candidates

side = st.integers(20, 6000)


def expected(name: str, height: int, width: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """What a protocol finds with `Blind`, by the plain oracle."""
    rules = PROTOCOLS[name]
    released = name.endswith("-released")
    if name.startswith(("dsfd", "asfd")):
        steps = pyramid_protocol.dsfd(height, width)
        boxes, scores = pyramid_protocol.pooled(
            heaps, height, width, steps, 0.01, int(released), 5000, 0.3
        )
        iou = 0.3
    else:
        sides = [500, 800, 1100, 1400, 1700] if "retina" in name else [100, 300, 600, 1000, 1400]
        factors = [pyramid_protocol.short_side(height, width, s, capped=released) for s in sides]
        steps = [(f, flip, *pyramid_protocol.ANY) for f in factors for flip in (False, True)]
        floor = 0.02 if "retina" in name else 0.05
        boxes, scores = pyramid_protocol.pooled(heaps, height, width, steps, floor, 0)
        iou = 0.4
    last = released and "dsfd" not in name
    voted = overlap.box_voting(boxes, scores, iou, released, last, plus_one=released)
    merged = np.array([box for box, _, _ in voted]).reshape(-1, 4)
    best = np.array([score for _, score, _ in voted])
    merged = box_math.clip(merged, (height, width))
    if rules.rounding == "sides":
        merged = np.trunc(np.c_[merged[:, :2], merged[:, 2:] - merged[:, :2]])
        merged[:, 2:] += merged[:, :2]
    elif rules.rounding == "corners":
        merged = np.trunc(merged)
    elif rules.rounding == "outward":
        low = np.floor(merged[:, :2])
        merged = np.c_[low, low + np.ceil(merged[:, 2:] - merged[:, :2] + released)]
    merged = box_math.clip(merged, (height, width))
    inside = (merged[:, 2:] > merged[:, :2]).all(1)
    return merged[inside][: rules.max_faces], best[inside][: rules.max_faces]


@pytest.mark.parametrize("image_size", [(120, 200), (333, 250), (700, 1033)])
@pytest.mark.parametrize(
    "name",
    [
        *("retinaface", "retinaface-released", "smallhardface", "smallhardface-released"),
        *("dsfd", "dsfd-released", "asfd"),
    ],
)
def test_what_passes_find_is_merged_as_the_papers_codes_do(
    name: str, image_size: tuple[int, int]
) -> None:
    detector = FaceDetector(Blind(), protocol=name)
    faces = detector.detect(np.zeros((*image_size, 3), np.uint8))
    boxes, scores = expected(name, *image_size)
    assert len(faces) > 20
    np.testing.assert_allclose(faces.scores, scores, rtol=1e-6)
    # Where the mean of many boxes falls next to a whole number, its last bits decide the rounding.
    off = np.abs(faces.boxes - boxes)
    if PROTOCOLS[name].rounding is None:
        assert off.max() < 0.01
    else:
        assert off.max() <= 1
        assert (off > 0).mean() < 0.01


@given(
    st.integers(0, 10**6),
    st.sampled_from([0.0, 0.05, 0.3, 0.6, 1.0]),
    st.booleans(),
    st.sampled_from([1.0, 1e-3, 1e4]),
)
def test_voting_looks_at_all_boxes_that_may_overlap_enough(
    seed: int, threshold: float, plus_one: bool, scale: float
) -> None:
    boxes, scores = heaps(seed, 640)
    boxes = (boxes * np.exp(np.random.default_rng(seed).normal(0, 1)) * scale).astype(np.float32)
    got = box_voting(boxes, scores, threshold, plus_one=plus_one)
    want = overlap.box_voting(boxes, scores, threshold, plus_one=plus_one)
    assert got.indices.tolist() == [lead for _, _, lead in want]
    merged = np.array([box for box, _, _ in want])
    np.testing.assert_allclose(got.boxes, merged, rtol=1e-4, atol=1e-3 * scale)


def test_thirty_thousand_boxes_vote_in_seconds() -> None:
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 6000, (30_000, 2)).astype(np.float32)
    boxes = np.concatenate([corner, corner + rng.uniform(8, 40, (30_000, 1))], 1)
    started = time.process_time()
    voted = box_voting(boxes.astype(np.float32), rng.random(30_000), 0.4)
    assert len(voted.scores) > 10_000
    assert time.process_time() - started < 30


def test_boxes_that_nothing_else_votes_for_are_kept_or_not() -> None:
    image = np.zeros((64, 64, 3), np.uint8)
    image[10:20, 10:20] = 255
    for singletons, found in (("all", 1), ("last", 1), ("none", 0)):
        rules = TestProtocol(name="p", sizes=(None,), voting=0.4, singletons=singletons)  # type: ignore[arg-type]
        assert len(FaceDetector(Seeing(), protocol=rules).detect(image)) == found
        twice = replace(rules, flip=True)
        assert FaceDetector(Seeing(), protocol=twice).detect(image).boxes.tolist() == [
            [10, 10, 20, 20]
        ]


@pytest.mark.parametrize(
    ("rounding", "plus_one", "box"),
    [
        (None, False, [10.4, 10.4, 20.2, 20.2]),
        ("corners", False, [10, 10, 20, 20]),
        ("sides", False, [10, 10, 19, 19]),
        ("outward", False, [10, 10, 20, 20]),
        ("outward", True, [10, 10, 21, 21]),
    ],
)
def test_boxes_in_whole_pixels(rounding: Any, plus_one: bool, box: list[float]) -> None:
    class One(Blind):
        def __call__(self, images: NDArray[np.uint8]) -> Candidates:
            boxes = np.array([[[10.4, 10.4, 20.2, 20.2]]], np.float32)
            return Candidates(boxes, np.ones((1, 1), np.float32))

    rules = TestProtocol(name="p", sizes=(None,), rounding=rounding, plus_one=plus_one)
    faces = FaceDetector(One(), protocol=rules).detect(np.zeros((64, 64, 3), np.uint8))
    np.testing.assert_allclose(faces.boxes, [box], atol=1e-5)


def test_a_pass_keeps_its_best_candidates_and_suppresses_among_them() -> None:
    rules = TestProtocol(name="p", sizes=(None,), pass_candidates=7, nms_iou=1.0, min_score=0)
    faces = FaceDetector(Blind(), protocol=rules).detect(np.zeros((640, 640, 3), np.uint8))
    boxes, scores = heaps(640, 640)
    np.testing.assert_array_equal(faces.scores, np.sort(scores)[::-1][:7])
    rules = replace(rules, pass_candidates=None, pass_nms_iou=0.3)
    faces = FaceDetector(Blind(), protocol=rules).detect(np.zeros((640, 640, 3), np.uint8))
    kept = overlap.nms(boxes, scores, 0.3)
    assert set(faces.scores.tolist()) <= set(scores[kept].tolist())


def test_shifted_mirrored_and_turned_passes_agree() -> None:
    image = np.zeros((90, 131, 3), np.uint8)
    image[12:40, 7:31] = image[50:81, 60:95] = 255
    runtime = Seeing()
    rules = TestProtocol(
        name="p",
        sizes=(None,),
        flip=True,
        turned=True,
        shifts=((0, 0), (0, 1), (7, 0), (3, 40)),
        voting=0.99,
    )
    faces = FaceDetector(runtime, protocol=rules).detect(image)
    assert sum(shape[0] for shape in runtime.shapes) == 32
    want = [[7, 12, 31, 40], [60, 50, 95, 81]]
    np.testing.assert_allclose(sorted(faces.boxes.tolist()), want, atol=1e-4)
    assert len(PROTOCOLS["tinaface-multiscale"].views((768, 1024))) == 40


layouts = st.lists(
    st.tuples(st.booleans(), st.integers(8, 88), st.integers(8, 88)), min_size=48, max_size=48
)


@settings(max_examples=30)
@given(layouts, st.booleans(), st.booleans(), st.sampled_from([(), ((0, 0), (2, 3))]))
def test_a_tiled_pass_finds_each_face_once(
    layout: Any, flip: bool, turned: bool, shifts: Any
) -> None:
    """6 x 8 cells of 100 pixels, in some of them a patch; three cells make one large patch."""
    image = np.zeros((600, 800, 3), np.uint8)
    want = []
    for cell, (there, height, width) in enumerate(layout):
        if there and cell >= 3:
            y, x = cell // 8 * 100 + 6, cell % 8 * 100 + 6
            want.append([x, y, x + width, y + height])
    want.append([3, 3, 290, 95])
    for x1, y1, x2, y2 in want:
        image[y1:y2, x1:x2] = 255
    runtime = Seeing()
    rules = TestProtocol(
        name="p",
        sizes=(None,),
        flip=flip,
        turned=turned,
        shifts=shifts or ((0, 0),),
        max_pixels=200 * 200,
    )
    faces = FaceDetector(runtime, protocol=rules).detect(image)
    assert all(h * w <= 224 * 224 for _, _, h, w in runtime.shapes)
    agree = box_math.iou(np.array(want, np.float32), faces.boxes)
    assert len(faces) == len(want)
    assert (agree.max(1) > 0.6).all()
    assert (agree.max(0) > 0.6).all()


@given(side, side, st.sampled_from([None, Scale(2), ShortSide(1700), 640]), st.integers(400, 10**6))
def test_tiles_cover_and_are_bounded(height: int, width: int, size: Any, most: int) -> None:
    rules = TestProtocol(name="p", sizes=(size,), max_pixels=most)
    views = rules.views((height, width))
    assert len(views) < 64
    covered_to = 0
    for view in views:
        assert min(view.size) >= 1
        assert view.size[0] * view.size[1] <= most or min(view.size) == 1
        if view.window is not None:
            covered_to = max(covered_to, view.window.x2 * view.window.y2)
            scale = np.divide(
                view.size,
                (view.window.y2 - view.window.y1, view.window.x2 - view.window.x1),
            )
            if min(view.size) > 100:
                assert scale[0] == pytest.approx(scale[1], rel=0.02)
    assert covered_to in (0, height * width)


def test_tiling_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    rules = TestProtocol(name="small", sizes=(None,), max_pixels=64 * 64)
    detector = FaceDetector(Seeing(), protocol=rules)
    with caplog.at_level(logging.WARNING):
        detector.detect([np.zeros((128, 128, 3), np.uint8)] * 3)
    assert len(caplog.records) == 1
    assert "128x128" in caplog.text
    assert "'small'" in caplog.text
    assert "changes what they find" not in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        FaceDetector(Seeing(), protocol=rules).detect(np.zeros((640, 640, 3), np.uint8))
    assert "changes what they find" in caplog.text


def test_a_pyramid_holds_only_some_of_its_canvases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detector_room, "_CANVAS_BYTES", 3 << 20)
    image = np.zeros((1500, 2000, 3), np.uint8)  # 9 MB; 40 canvases of about 3 MB
    rules = TestProtocol(
        name="p", sizes=(None,) * 5, flip=True, shifts=((0, 0), (1, 1)), max_pixels=10**6
    )
    detector = FaceDetector(Blind(), protocol=rules, batch_size=1)
    detector.detect(image)
    tracemalloc.start()
    detector.detect(image)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 30e6


def test_a_model_of_one_size_takes_what_is_sure_to_fit() -> None:
    runtime = Seeing(fixed_size=(256, 320))
    image = np.zeros((300, 400, 3), np.uint8)
    image[100:140, 200:230] = 255
    rules = TestProtocol(
        name="p", sizes=(ShortSide(200, 250), Pass(size=128, flip=True)), shifts=((0, 0), (6, 6))
    )
    faces = FaceDetector(runtime, protocol=rules).detect(image)
    assert {shape[2:] for shape in runtime.shapes} == {(256, 320)}
    assert box_math.iou(faces.boxes[:1], np.array([[200, 100, 230, 140]], np.float32)) > 0.8
    for size in (ShortSide(200), Scale(0.5), DsfdPyramid(), Pass(), ShortSide(200, 300), 251):
        with pytest.raises(ProtocolError, match="takes only images 256 high and 320 wide"):
            FaceDetector(runtime, protocol=replace(rules, sizes=(size,)))
    lying = replace(rules, sizes=((200, 300),))
    FaceDetector(runtime, protocol=lying)
    with pytest.raises(ProtocolError, match="takes only images 256 high and 320 wide"):
        FaceDetector(runtime, protocol=replace(lying, turned=True))
