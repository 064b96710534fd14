"""Tracks of a whole video and of a stream: no face is left out in between."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from facefind.evaluation.mot import Trajectories, of_faces
from facefind.evaluation.tracking import exposed
from facefind.faces import Faces
from facefind.video.filling import Filler
from facefind.video.tracking import Tracker, TrackerConfig
from facefind.video.tracks import Frame, filled, joined, tracks_of
from facefind.video.two_pass import track

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "reference"))
import moving_faces

SIZE = (200, 400)
STEP = 0.1  # seconds a frame


def faces(*boxes: tuple[float, ...], ids: Iterable[int] | None = None, score=0.9) -> Faces:
    return Faces(boxes, [score] * len(boxes), ids=None if ids is None else [*ids], image_size=SIZE)


def box(x: float, y: float = 50.0, side: float = 40.0) -> tuple[float, ...]:
    return x, y, x + side, y + side


def video(places: dict[int, Faces], length: int) -> list[Frame]:
    none = Faces.empty(SIZE)
    return [(index, STEP * index, places.get(index, none)) for index in range(length)]


def moving(*frames: int, number: int = 1, speed: float = 10.0) -> dict[int, Faces]:
    return {index: faces(box(50 + speed * index), ids=[number]) for index in frames}


def test_tracks_have_their_frames_and_a_video_all_of_them() -> None:
    places = moving(2, 3, 5) | {4: faces(box(10), box(200), ids=[7, 3])}
    tracks = tracks_of(video(places, 8))
    assert [one.id for one in tracks] == [1, 3, 7]
    assert tracks.tracks[0].frames.tolist() == [2, 3, 5]
    assert tracks.tracks[0].times == pytest.approx([0.2, 0.3, 0.5])
    assert tracks.tracks[0].detected.all()
    assert tracks.tracks[0].landmarks is None
    assert tracks.frames.tolist() == [*range(8)]
    assert len(tracks.at(0)) == 0
    assert sorted(tracks.at(4).ids) == [3, 7]
    assert [len(one) for _, _, one in tracks.faces()] == [0, 0, 1, 1, 2, 1, 0, 0]
    assert [one.id for one in tracks_of(video(places, 8), min_detections=2)] == [1]
    assert len(tracks_of([])) == 0


def test_gaps_are_filled_on_a_line_and_leads_go_on_with_the_speed() -> None:
    tracks = filled(tracks_of(video(moving(6, 7, 8, 12, 13), 30)), lead=0.3, most_gap=0.5, grow=0)
    (one,) = tracks
    assert one.frames.tolist() == [*range(3, 17)]
    assert one.boxes[3:11, 0] == pytest.approx(50 + 10 * one.frames[3:11])
    assert one.boxes[:, 0] == pytest.approx(50 + 10 * one.frames, abs=1)
    assert one.boxes[:, 2] - one.boxes[:, 0] == pytest.approx(40)
    assert one.frames[one.detected].tolist() == [6, 7, 8, 12, 13]
    assert len(tracks.at(2)) == 0
    assert tracks.at(10).scores.tolist() == pytest.approx([0.9])


def test_a_box_that_is_small_for_a_frame_is_as_large_as_those_beside_it() -> None:
    places = moving(2, 3, 4, 6, 7) | {5: faces((100, 50, 120, 70), ids=[1])}
    (one,) = filled(tracks_of(video(places, 10)), lead=0)
    assert one.detected.all()
    assert one.boxes[3].tolist() == pytest.approx([100, 50, 140, 90])
    assert one.boxes[[0, 1, 5], 0].tolist() == pytest.approx([70, 80, 120])
    assert one.boxes[-1].tolist() == pytest.approx([*box(120)])


def test_long_gaps_have_leads_on_both_sides() -> None:
    tracks = tracks_of(video(moving(3, 4, 5, 6, 16, 17, 18, 19), 30))
    (one,) = filled(tracks, lead=0.2, most_gap=0.5)
    assert one.frames.tolist() == [*range(1, 9), *range(14, 22)]
    (one,) = filled(tracks, lead=2.0, most_gap=0.5, grow=0)  # each side has its half
    assert one.frames.tolist() == [*range(30)]
    assert one.boxes[:, 0] == pytest.approx(50 + 10 * one.frames, abs=2)


def test_boxes_grow_with_the_time_to_the_nearest_detection() -> None:
    tracks = tracks_of(video(moving(3, 4, 10, 11, speed=0), 20))
    (one,) = filled(tracks, lead=0.5, grow=0.5)
    width = one.boxes[:, 2] - one.boxes[:, 0]
    steps = np.array([3, 2, 1, 0, 0, 1, 2, 3, 2, 1, 0, 0, 1, 2, 3, 4, 5])
    assert width == pytest.approx(40 * (1 + 2 * 0.5 * STEP * steps))
    assert one.boxes[:, [0, 2]].mean(axis=1) == pytest.approx(70)


def test_leads_end_at_cuts_and_where_a_face_has_left_the_image() -> None:
    tracks = tracks_of(video(moving(5, 6, 7), 30), cuts=[4, 9])
    (one,) = filled(tracks, lead=1.0)
    assert one.frames.tolist() == [4, 5, 6, 7, 8]
    leaving = tracks_of(video(moving(1, 2, speed=100), 30))
    (one,) = filled(leaving, lead=1.0)
    assert one.frames.tolist() == [0, 1, 2, 3]  # x 50, 150, 250, 350, and then 450 of 400


def test_landmarks_are_filled_with_the_boxes() -> None:
    def of(x: float) -> Faces:
        points = [[[x + 10, 60], [x + 30, 60], [x + 20, 70], [x + 12, 80], [x + 28, 80]]]
        return Faces([box(x)], [0.9], points, ids=[1], image_size=SIZE)

    full = filled(tracks_of(video({2: of(70), 3: of(80), 5: of(100)}, 8)), lead=0.2)
    for frame in range(8):
        assert full.at(frame).landmarks[0, 2] == pytest.approx([70 + 10 * frame, 70], abs=1)


def test_one_face_under_two_numbers_is_joined() -> None:
    places = moving(1, 2, 3) | moving(9, 10, 11, number=4)
    (one,) = joined(tracks_of(video(places, 20)), most_gap=1.0)
    assert one.id == 1
    assert one.frames.tolist() == [1, 2, 3, 9, 10, 11]
    assert [t.id for t in joined(tracks_of(video(places, 20)), most_gap=0.5)] == [1, 4]
    assert [t.id for t in joined(tracks_of(video(places, 20), cuts=[6]))] == [1, 4]


@pytest.mark.parametrize("other", [box(300), box(130, side=70), box(130, y=120)])
def test_other_faces_are_not_joined(other: tuple[float, ...]) -> None:
    places = moving(1, 2, 3) | {9: faces(other, ids=[4])}
    assert [one.id for one in joined(tracks_of(video(places, 20)))] == [1, 4]


def test_the_nearest_of_two_goes_on_and_ids_come_in_any_order() -> None:
    later = {9: faces(box(143), box(165), ids=[5, 2])}
    tracks = joined(tracks_of(video(moving(1, 2, 3, number=9) | later, 20)))
    assert [(one.id, one.frames.tolist()) for one in tracks] == [(2, [9]), (5, [1, 2, 3, 9])]


def test_faces_of_low_score_before_a_track_begins_belong_to_it() -> None:
    places = {index: faces(box(50 + 5 * index), score=0.3) for index in range(4)}
    places |= {index: faces(box(50 + 5 * index)) for index in range(4, 9)}
    places[1] = Faces([box(55), box(300)], [0.3, 0.3], image_size=SIZE)
    (one,) = track(video(places, 12), TrackerConfig(min_score=0.5, low_score=0.2))
    assert one.frames.tolist() == [*range(9)]
    assert one.detected.all()
    (one,) = track(video(places, 12), TrackerConfig(min_score=0.5, low_score=0.2), cuts=[2])
    assert one.frames.tolist() == [*range(2, 9)]


def test_a_track_of_too_few_frames_is_left_out_and_others_have_all_of_theirs() -> None:
    places = {index: faces(box(50 + 5 * index)) for index in range(5)} | {7: faces(box(300))}
    (one,) = track(video(places, 9), TrackerConfig(hits=3))
    assert one.frames.tolist() == [0, 1, 2, 3, 4]


def test_frames_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="no ids"):
        tracks_of([(0, 0.0, faces(box(10)))])
    with pytest.raises(ValueError, match="in their order"):
        tracks_of([(1, 0.0, Faces.empty(SIZE)), (1, 0.1, Faces.empty(SIZE))])
    with pytest.raises(ValueError, match="in their order"):
        tracks_of([(1, 0.5, Faces.empty(SIZE)), (2, 0.1, Faces.empty(SIZE))])
    with pytest.raises(ValueError, match="one \\(height, width\\)"):
        tracks_of([(0, 0.0, Faces.empty(SIZE)), (1, 0.1, Faces.empty((9, 9)))])
    with pytest.raises(ValueError, match="at least 0"):
        filled(tracks_of([]), lead=-1)
    with pytest.raises(ValueError, match="lead must lie in"):
        Filler(delay=0.5, lead=1.0)


def pushed(filler: Filler, frames: list[Frame], cuts: tuple[int, ...] = ()) -> list[Frame]:
    done = []
    for index, time, found in frames:
        done += filler.push(index, time, found, cut=index in cuts)
        if done and index < frames[-1][0]:
            assert done[-1][1] <= time - filler.delay
            assert len(filler._waiting) == sum(
                t > time - filler.delay for _, t, _ in frames[: index + 1]
            )
    return done + filler.flush()


def test_a_stream_is_filled_as_a_video_is() -> None:
    frames = video(moving(6, 7, 8, 12, 13) | moving(17, 18, 19, number=5), 40)
    whole = filled(tracks_of(frames), lead=0.3, most_gap=0.6)
    streamed = pushed(Filler(delay=0.6, lead=0.3), frames)
    assert [index for index, _, _ in streamed] == [*range(40)]
    for (_, _, one), (_, _, other) in zip(streamed, whole.faces(), strict=True):
        assert len(one) == len(other)
        assert np.allclose(one.boxes, other.boxes, atol=2)
    assert {number for _, _, one in streamed for number in one.ids} == {1}


def test_a_stream_of_changing_size_comes_back_whole() -> None:
    other = [(9, 0.9, Faces([box(10)], [0.9], ids=[2], image_size=(100, 100)))]
    streamed = pushed(Filler(delay=0.5, lead=0.3), video(moving(3, 4), 8) + other)
    assert [index for index, _, _ in streamed] == [*range(8), 9]
    assert streamed[-1][2].image_size == (100, 100)
    assert [len(one) for _, _, one in streamed] == [1] * 8 + [1]


def test_a_long_stream_takes_no_more_memory() -> None:
    filler = Filler(delay=0.5, lead=0.3)
    for index in range(200):
        one = faces(box(50 + 5 * (index % 10)), ids=[1 + index // 10])
        filler.push(index, STEP * index, one, cut=index % 10 == 0)
        assert len(filler._known) < 20
        assert len(filler._cuts) < 5


def hidden(frames: list[Frame], cuts: tuple[int, ...], streamed: bool) -> Trajectories:
    """What is hidden of a video, or of a stream of two seconds' delay."""
    if not streamed:
        return of_faces((i, one) for i, _, one in filled(track(frames, cuts=cuts)).faces())
    tracker = Tracker()
    numbered = [(i, t, tracker.update(one, time=t, cut=i in cuts)) for i, t, one in frames]
    return of_faces((i, one) for i, _, one in pushed(Filler(delay=2.0, lead=1.0), numbered, cuts))


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(("dropped", "most"), [(0.1, 0.0), (0.4, 0.01)])
def test_faces_of_which_half_is_found_are_hidden(dropped, most, streamed) -> None:
    """Of the faces that a detector misses in one frame of ten, in runs, all are hidden; of those
    that it misses in four of ten, all but a few of fast ones in runs of half a second."""
    before = after = 0
    for scene in moving_faces.scenes():
        if scene.name not in ("crossing", "coming and leaving", "uneven frames", "cut"):
            continue
        found = moving_faces.detections(scene, seed=1, dropped=dropped)
        frames = [(i, float(scene.times[i]), one) for i, one in enumerate(found)]
        truth = scene.truth()
        truth = truth[truth.scores > 0]
        truth = replace(truth, boxes=scene.seen(truth.boxes))
        bare = exposed(_plain(frames), truth)
        half = [n for n in np.unique(truth.ids) if bare[truth.ids == n].mean() <= 0.5]
        counted = np.isin(truth.ids, half)
        before += int(bare[counted].sum())
        after += int(exposed(hidden(frames, scene.cut_frames, streamed), truth)[counted].sum())
    assert before > (20 if dropped < 0.2 else 200)
    assert after <= most * before


def _plain(frames: list[Frame]):
    """What is detected from .5, numbered within each frame."""
    sure = [(i, one[one.scores >= 0.5]) for i, _, one in frames]
    return of_faces(
        (i, Faces(one.boxes, one.scores, ids=np.arange(len(one)), image_size=one.image_size))
        for i, one in sure
    )
