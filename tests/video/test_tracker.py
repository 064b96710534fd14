"""Faces keep their numbers: through misses, crossings, low scores and uneven frames."""

from __future__ import annotations

import numpy as np
import pytest

from facefind.faces import Faces
from facefind.video.cuts import CutDetector
from facefind.video.tracking import Tracker, TrackerConfig

SIZE = (360, 640)


def face(x: float, y: float = 100.0, side: float = 40.0) -> list[float]:
    return [x, y, x + side, y + side]


def found(*boxes: list[float], scores: list[float] | float = 0.9, landmarks=None) -> Faces:
    score = [scores] * len(boxes) if isinstance(scores, float) else scores
    return Faces(boxes, score, landmarks, image_size=SIZE)


def ids(faces: Faces) -> list[int]:
    """Numbers from left to right."""
    assert faces.ids is not None
    return [int(n) for n in faces.ids[np.argsort(faces.boxes[:, 0])]]


def test_faces_keep_the_numbers_they_get_in_the_order_of_their_scores() -> None:
    tracker = Tracker()
    assert ids(tracker.update(found(face(10), face(200), scores=[0.6, 0.9]))) == [2, 1]
    assert ids(tracker.update(found(face(12), face(203), scores=[0.9, 0.6]))) == [2, 1]
    assert ids(tracker.update(found(face(14), face(100), face(206)))) == [2, 3, 1]
    assert len(tracker.update(found())) == 0
    assert ids(tracker.update(found(face(18)))) == [2]


def test_what_comes_back_is_what_was_detected() -> None:
    points = np.arange(20, dtype=np.float32).reshape(2, 5, 2)
    mesh = np.zeros((2, 4, 3))
    faces = Faces([face(10), face(90)], [0.9, 0.8], points, mesh, image_size=SIZE)
    tracked = Tracker().update(faces)
    assert np.array_equal(tracked.boxes, faces.boxes)
    assert np.array_equal(tracked.scores, faces.scores)
    assert np.array_equal(tracked.landmarks, points)
    assert tracked.mesh is not None
    assert tracked.ids is not None
    assert tracked.ids.dtype == np.int64


def test_low_scores_go_on_with_a_track_and_begin_none() -> None:
    tracker = Tracker(TrackerConfig(min_score=0.5, low_score=0.2))
    assert len(tracker.update(found(face(10), scores=0.4))) == 0
    assert ids(tracker.update(found(face(10), scores=0.6))) == [1]
    low = tracker.update(found(face(12), face(200), scores=[0.3, 0.4]))
    assert ids(low) == [1]
    assert low.scores.tolist() == pytest.approx([0.3])
    assert len(tracker.update(found(face(14), scores=0.19))) == 0
    # A sure face is matched first, though the doubted one fits better.
    assert tracker.update(found(face(22), face(16), scores=[0.9, 0.4])).boxes[0, 0] == 22


def test_a_moving_face_is_found_again_where_its_speed_leads() -> None:
    tracker = Tracker()
    for step in range(10):
        tracker.update(found(face(10 + 8 * step)), time=step / 25)
    again = face(10 + 8 * 22)  # 3.2 sides from where it was last seen
    assert ids(tracker.update(found(again), time=22 / 25)) == [1]


def test_two_that_cross_keep_their_numbers() -> None:
    tracker = Tracker()
    for step in range(21):
        left, right = face(100 + 10 * step, 100), face(300 - 10 * step, 106)
        hidden = abs(step - 10) < 2
        faces = tracker.update(found(right) if hidden else found(left, right))
    assert faces.ids is not None
    assert faces.ids[np.argmin(faces.boxes[:, 1])] == 1  # the one of y 100
    assert sorted(faces.ids) == [1, 2]


@pytest.mark.parametrize("speed", [60, 90, 150])
@pytest.mark.parametrize("seen", [0.45, 0.6])
def test_a_face_that_passes_behind_a_pillar_keeps_its_number(speed: int, seen: float) -> None:
    """What is found of it gets narrower, then nothing, then wider on the other side."""
    tracker, numbers, lost = Tracker(), set(), 0
    for step in range(200):
        x1 = 40 + speed * step / 25
        left, right = (x1, min(x1 + 50, 150)), (max(x1, 200), x1 + 50)  # of the pillar
        wider = max(left, right, key=lambda part: part[1] - part[0])
        there = wider[1] - wider[0] >= seen * 50
        boxes = [[wider[0], 100, wider[1], 165]] if there else []
        lost += not there
        numbers.update(ids(tracker.update(found(*boxes), time=step / 25)))
    assert lost >= 5
    assert numbers == {1}


def test_a_face_that_grows_small_and_comes_back_is_found_as_small_as_it_was() -> None:
    tracker = Tracker()
    for step in range(100):  # it goes away, faster than faces are thought to
        tracker.update(found(face(100, side=80 * 0.98**step)), time=step / 25)
    assert ids(tracker.update(found(face(100, side=80 * 0.98**100)), time=5.5)) == [1]


def test_lost_faces_are_kept_for_a_time_and_for_two_frames_at_least() -> None:
    def number_after(seconds: float, frames: int, keep: float) -> list[int]:
        tracker = Tracker(TrackerConfig(keep=keep))
        tracker.update(found(face(10)), time=0.0)
        for time in np.linspace(0, seconds, frames + 2)[1:-1]:
            tracker.update(found(), time=float(time))
        return ids(tracker.update(found(face(10)), time=seconds))

    assert number_after(0.9, 20, keep=1.0) == [1]
    assert number_after(1.2, 20, keep=1.0) == [2]
    assert number_after(4.0, 1, keep=1.0) == [1]


def test_only_faces_found_often_enough_are_returned() -> None:
    tracker = Tracker(TrackerConfig(hits=3))
    some = [found(face(10)), found(), found(face(10)), found(face(10), face(300))]
    assert [len(tracker.update(faces)) for faces in some] == [0, 0, 0, 1]
    assert ids(tracker.update(found(face(300)))) == []
    assert ids(tracker.update(found(face(300)))) == [2]


def test_times_matter_not_the_number_of_frames() -> None:
    """Half of the frames, and the same speed, in a video of any rate."""
    for times in (np.arange(40) / 25, np.arange(40) / 100, np.cumsum(np.tile([0.01, 0.2], 20))):
        tracker = Tracker()
        for time in times:
            faces = tracker.update(found(face(10 + 100 * time), face(600 - 100 * time, 250)),
                                   time=float(time))  # fmt: skip
            assert sorted(faces.ids) == [1, 2]


def test_a_cut_ends_all_tracks() -> None:
    tracker = Tracker()
    tracker.update(found(face(10)))
    assert ids(tracker.update(found(face(10)), cut=True)) == [2]
    assert tracker.cut
    assert ids(tracker.update(found(face(10)))) == [2]
    assert not tracker.cut
    other = Faces([face(10)], [0.9], image_size=(720, 1280))
    assert ids(tracker.update(other)) == [3]


def test_what_is_expected_between_detections() -> None:
    points = np.array([[[110, 110], [130, 110], [120, 120], [112, 130], [128, 130]]])
    tracker = Tracker()
    assert len(tracker.predict(0.0)) == 0
    for step in range(8):
        shift = np.array([10.0 * step, 0])
        tracker.update(found(face(100 + shift[0]), landmarks=points + shift), time=step / 10)
    expected = tracker.predict(0.8)
    assert ids(expected) == [1]
    assert expected.boxes[0] == pytest.approx(face(180), abs=1.5)
    assert expected.landmarks[0] == pytest.approx(points[0] + [80, 0], abs=1.5)
    assert expected.scores[0] == pytest.approx(0.9)
    assert tracker.predict(0.7).boxes[0, 0] < expected.boxes[0, 0]
    assert len(tracker.predict(9.0)) == 0  # it has left the image
    tracker.update(found(), time=1.0)
    assert len(tracker.predict(1.1)) == 0  # it is lost


def test_settings_and_times_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="low_score must be at most min_score"):
        TrackerConfig(min_score=0.3, low_score=0.4)
    with pytest.raises(ValueError, match=r"min_score must lie in 0\.\.1, got 2"):
        TrackerConfig(min_score=2)
    for name in ("keep", "reach"):
        with pytest.raises(ValueError, match=f"{name} must be at least 0"):
            TrackerConfig(**{name: -1})
    with pytest.raises(ValueError, match="hits must be at least 1"):
        TrackerConfig(hits=0)
    with pytest.raises(ValueError, match="frame_rate must be above 0"):
        TrackerConfig(frame_rate=0)
    tracker = Tracker()
    tracker.update(found(face(10)), time=1.0)
    for time in (0.5, float("nan")):
        with pytest.raises(ValueError, match=r"seconds from 1\.0 on"):
            tracker.update(found(face(10)), time=time)
    assert ids(tracker.update(found(face(10)), time=1.0)) == [1]


def textured(seed: int, colors: tuple[int, int, int]) -> np.ndarray:
    """A picture (240,960,3) of large soft spots in one range of colors."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(0.2, 1, (8, 32))
    fine = np.repeat(np.repeat(coarse, 30, axis=0), 30, axis=1)
    return (fine[..., None] * np.array(colors)).astype(np.uint8)


def cuts(*pictures: np.ndarray) -> list[bool]:
    detector = CutDetector()
    return [detector.is_cut(picture) for picture in pictures]


def test_cuts_are_seen_and_pans_flashes_and_noise_are_none() -> None:
    one, other = textured(0, (220, 180, 120)), textured(1, (60, 140, 230))
    scene, second = one[:, :480], other[:, :480]
    assert cuts(scene, scene, second, second) == [False, False, True, False]
    panned = [one[:, 48 * step : 48 * step + 480] for step in range(10)]
    assert not any(cuts(*panned))
    flash = np.clip(scene.astype(int) * 2 + 40, 0, 255).astype(np.uint8)
    assert not any(cuts(scene, flash, scene))
    noise = np.random.default_rng(2).integers(-30, 30, (5, *scene.shape))
    assert not any(cuts(*np.clip(scene + noise, 0, 255).astype(np.uint8)))
    dark = np.zeros_like(scene)
    assert cuts(scene, dark, scene) == [False, True, True]
    with pytest.raises(ValueError, match=r"\(H,W,3\) of uint8"):
        cuts(scene[..., 0])


def test_the_tracker_sees_cuts_in_pictures_between_detections_too() -> None:
    one, other = textured(0, (220, 180, 120)), textured(1, (60, 140, 230))
    tracker = Tracker()
    assert ids(tracker.update(found(face(10)), one, 0.0)) == [1]
    assert ids(tracker.predict(0.1, one)) == [1]
    assert len(tracker.predict(0.2, other)) == 0
    assert tracker.cut
    assert ids(tracker.update(found(face(10)), other, 0.3)) == [2]
