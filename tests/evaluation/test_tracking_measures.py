"""MOTA, IDF1 and HOTA of cases worked out by hand, and files in MOTChallenge's form."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest

from facefind.errors import DataError
from facefind.evaluation import mot
from facefind.evaluation.mot import Trajectories
from facefind.evaluation.tracking import evaluate, exposed
from facefind.faces import Faces

A, B = (0, 0, 10, 10), (50, 0, 60, 10)
HALF = (0, 0, 10, 5)  # IoU .5 with A
MOST = (0, 0, 10, 6)  # IoU .6 with A


def rows(*faces: tuple[int, int, tuple[int, int, int, int]], scores=None) -> Trajectories:
    """Trajectories of (frame, id, box)."""
    return Trajectories(
        np.array([frame for frame, _, _ in faces], np.int64),
        np.array([number for _, number, _ in faces], np.int64),
        np.array([box for _, _, box in faces], np.float64).reshape(-1, 4),
        np.ones(len(faces)) if scores is None else np.array(scores, np.float64),
    )


def through(number: int, box: tuple[int, int, int, int], *frames: int):
    return [(frame, number, box) for frame in frames]


ONE = rows(*through(1, A, 0, 1, 2, 3))
TWO = rows(*through(1, A, 0, 1, 2, 3), *through(2, B, 0, 1, 2, 3))


def figures(result):
    return result.mota, result.idf1, result.hota, result.deta, result.assa


def test_what_is_found_as_labeled_is_perfect() -> None:
    result = evaluate(TWO, TWO)
    assert figures(result) == (1, 1, 1, 1, 1)
    assert (result.faces, result.persons, result.tracks, result.frames) == (8, 2, 2, 4)
    assert (result.missed, result.false, result.switches) == (0, 0, 0)


def test_a_person_whose_number_changes_half_way() -> None:
    result = evaluate(rows(*through(7, A, 0, 1), *through(8, A, 2, 3)), ONE)
    assert result.switches == 1
    # Each face shares its number with one of the other three: 2 of 4 in common.
    assert figures(result) == pytest.approx((1 - 1 / 4, 2 * 2 / 8, sqrt(0.5), 1, 0.5))


def test_two_persons_who_exchange_their_numbers() -> None:
    found = rows(*through(1, A, 0, 1), *through(2, A, 2, 3), *through(2, B, 0, 1),
                 *through(1, B, 2, 3))  # fmt: skip
    result = evaluate(found, TWO)
    assert result.switches == 2
    # 2 faces in common, 2 more of the person and 2 more of the number.
    assert figures(result) == pytest.approx((1 - 2 / 8, 2 * 4 / 16, sqrt(1 / 3), 1, 1 / 3))


def test_missed_and_false_faces() -> None:
    result = evaluate(rows(*through(5, A, 0, 1), *through(6, B, 3)), ONE)
    assert (result.missed, result.false, result.switches) == (2, 1, 0)
    assert figures(result) == pytest.approx((1 - 3 / 4, 4 / 7, sqrt(0.4 * 0.5), 2 / 5, 2 / 4))
    assert (result.idp, result.idr) == pytest.approx((2 / 3, 2 / 4))


def test_boxes_that_half_agree() -> None:
    found = rows(*through(1, HALF, 0, 1, 2, 3))
    result = evaluate(found, ONE)
    # An IoU of .5 is found at .05 to .5, ten of the nineteen thresholds.
    assert figures(result) == pytest.approx((1, 1, 10 / 19, 10 / 19, 10 / 19))
    assert result.motp == pytest.approx(0.5)
    assert evaluate(found, ONE, min_iou=0.6).mota == -1  # four missed and four false


def test_a_match_holds_though_another_box_fits_better() -> None:
    found = rows((0, 1, A), (1, 1, MOST), (1, 2, A))
    result = evaluate(found, rows(*through(1, A, 0, 1)))
    assert (result.switches, result.false, result.missed) == (0, 1, 0)
    assert result.motp == pytest.approx((1 + 0.6) / 2)


def test_a_number_that_changes_over_a_gap_is_a_switch() -> None:
    assert evaluate(rows((0, 1, A), (3, 2, A)), ONE).switches == 1
    assert evaluate(rows((0, 1, A), (3, 1, A)), ONE).switches == 0


def test_faces_that_need_not_be_found_count_neither_way() -> None:
    truth = rows(*through(1, A, 0, 1), *through(2, B, 0, 1), scores=[1, 1, 0, 0])
    with_them = rows(*through(1, A, 0, 1), *through(2, B, 0, 1))
    assert figures(evaluate(with_them, truth)) == (1, 1, 1, 1, 1)
    assert figures(evaluate(rows(*through(1, A, 0, 1)), truth)) == (1, 1, 1, 1, 1)
    elsewhere = rows(*through(1, A, 0, 1), (0, 3, (80, 80, 90, 90)))
    assert evaluate(elsewhere, truth).false == 1


def test_videos_are_counted_together() -> None:
    half = rows(*through(7, A, 0, 1), *through(8, A, 2, 3))
    result = evaluate({"a": half, "b": TWO}, {"a": ONE, "b": TWO})
    assert (result.faces, result.switches, result.persons) == (12, 1, 3)
    assert result.mota == pytest.approx(1 - 1 / 12)
    assert result.assa == pytest.approx((4 * 0.5 + 8 * 1) / 12)
    with pytest.raises(DataError, match=r"labels are of \['a'\]"):
        evaluate({"b": TWO}, {"a": ONE})


def test_nothing_found_and_nothing_labeled() -> None:
    result = evaluate(rows(), ONE)
    assert figures(result) == (0, 0, 0, 0, 0)
    assert result.missed == 4
    with pytest.raises(DataError, match="no labeled face"):
        evaluate(ONE, rows())


def test_a_face_is_exposed_where_no_box_covers_enough_of_it() -> None:
    truth = rows(*through(1, A, 0, 1, 2), *through(2, B, 0))
    hidden = rows((0, 1, A), (1, 1, HALF), (2, 2, B))
    assert exposed(hidden, truth).tolist() == [False, True, True, True]
    assert exposed(hidden, truth, covered=0.5).tolist() == [False, False, True, True]
    assert not exposed(hidden, truth[truth.frames < 2], grow=5).any()


def test_files_are_read_as_they_were_written(tmp_path) -> None:
    tracks = rows((3, 2, B), (0, 1, A), (0, 2, HALF), scores=[0.25, 1, 0.5])
    mot.write(tracks, tmp_path / "a.txt")
    assert (tmp_path / "a.txt").read_text().splitlines() == [
        "1,1,0,0,10,10,1,-1,-1,-1",
        "1,2,0,0,10,5,0.5,-1,-1,-1",
        "4,2,50,0,10,10,0.25,-1,-1,-1",
    ]
    again = mot.read(tmp_path / "a.txt")
    assert again.frames.tolist() == [0, 0, 3]
    assert again.boxes.tolist() == [list(A), list(HALF), list(B)]
    assert evaluate(again, tracks).hota == 1
    assert list(mot.read_videos(tmp_path)) == ["a"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0,1,0,0,10,10,1", "line 2: expected frame"),
        ("1.5,1,0,0,10,10,1", "line 2"),
        ("2,1,0,0,-10,10,1", "line 2"),
        ("2,1,0,0,10", "line 2"),
        ("2,x,0,0,10,10,1", "line 2"),
        ("1,1,5,5,10,10,1", "number 1 more than once"),
    ],
)
def test_lines_that_are_not_so_are_named(tmp_path, line, message) -> None:
    (tmp_path / "a.txt").write_text(f"1,1,0,0,10,10,1,-1,-1,-1\n{line}\n")
    with pytest.raises(DataError, match=message):
        mot.read(tmp_path / "a.txt")


def test_folders_without_tracks_are_refused(tmp_path) -> None:
    with pytest.raises(DataError, match=r"expected \.txt files"):
        mot.read_videos(tmp_path)


def test_faces_of_a_tracker_become_trajectories() -> None:
    faces = Faces([A, B], [0.5, 0.75], ids=[4, 3], image_size=(100, 100))
    tracks = mot.of_faces([(0, Faces.empty((100, 100))), (2, faces)])
    assert tracks.frames.tolist() == [2, 2]
    assert tracks.ids.tolist() == [3, 4]  # best score first
    assert tracks.scores.tolist() == [0.75, 0.5]
    assert len(mot.of_faces([])) == 0
    with pytest.raises(DataError, match="no ids"):
        mot.of_faces([(0, Faces([A], [0.5], image_size=(9, 9)))])
