"""AFLW, AFLW2000-3D, AFW and PASCAL faces, and pair lists, on files made in their formats."""

from __future__ import annotations

import pickle
import sqlite3

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from facefind import datasets
from facefind.datasets import pairs
from facefind.errors import DataError


def picture(path, size=(80, 60)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(path)


@pytest.fixture
def aflw(tmp_path):
    picture(tmp_path / "flickr/0/a.jpg")
    base = sqlite3.connect(tmp_path / "aflw.sqlite")
    base.executescript(
        """
        CREATE TABLE Faces(face_id, file_id, db_id);
        CREATE TABLE FaceImages(image_id, file_id, filepath, width, height);
        CREATE TABLE FaceRect(face_id, x, y, w, h, annot_type_id);
        CREATE TABLE FeatureCoords(face_id, feature_id, x, y, annot_type_id);
        CREATE TABLE FacePose(face_id, roll, pitch, yaw, annot_type_id);
        INSERT INTO FaceImages VALUES (1, 'a.jpg', '0/a.jpg', 80, 60);
        INSERT INTO Faces VALUES (10, 'a.jpg', 'f'), (11, 'a.jpg', 'f'), (12, 'a.jpg', 'f');
        INSERT INTO FaceRect VALUES (10, 1, 2, 30, 40, 1), (11, 5, 6, 20, 20, 1);
        INSERT INTO FacePose VALUES (10, 0.1, 0.2, 0.3, 1);
        """
    )
    rows = [(10, number, number, 2 * number, 1) for number in range(1, 22) if number != 11]
    base.executemany("INSERT INTO FeatureCoords VALUES (?, ?, ?, ?, ?)", rows)
    base.commit()
    base.close()
    return tmp_path


def test_aflw(aflw):
    (one,) = datasets.read(aflw)
    assert one.boxes.tolist() == [[1, 2, 31, 42], [5, 6, 25, 26]]
    assert one.landmarks[0, [0, 2, 3, 4], 0].tolist() == [8, 15, 18, 20]
    assert np.isnan(one.landmarks[0, 1]).all()
    assert np.isnan(one.landmarks[1]).all()
    np.testing.assert_allclose(one.attributes["pose"][0], [0.1, 0.2, 0.3], rtol=1e-6)
    assert one.image_size == (60, 80)


def test_other_databases_are_refused(tmp_path):
    sqlite3.connect(tmp_path / "aflw.sqlite").close()
    (tmp_path / "aflw.sqlite").write_text("x" * 200)
    with pytest.raises(DataError, match="no AFLW database"):
        datasets.read(tmp_path)


def test_aflw2000(tmp_path):
    picture(tmp_path / "image00002.jpg")
    points = np.arange(204, dtype=float).reshape(68, 3)
    pose = np.array([[0.1, np.pi / 2, 0, 0, 0, 0, 1]])
    savemat(tmp_path / "image00002.mat", {"pt3d_68": points.T, "Pose_Para": pose})
    (one,) = datasets.read(tmp_path)
    assert one.boxes.tolist() == [[0, 1, 201, 202]]
    np.testing.assert_allclose(one.attributes["pose"][0, 1], 90, rtol=1e-6)
    np.testing.assert_allclose(one.attributes["points_68"][0], points)
    np.testing.assert_allclose(one.landmarks[0, 0], points[36:42, :2].mean(axis=0))
    np.testing.assert_allclose(one.landmarks[0, 2:], points[[30, 48, 54], :2])
    savemat(tmp_path / "image00002.mat", {"pt3d_68": points.T})
    with pytest.raises(DataError, match="Pose_Para"):
        datasets.read(tmp_path)


def test_face_eval_with_matrices_and_cells(tmp_path):
    picture(tmp_path / "a.jpg")
    picture(tmp_path / "b.jpg")
    cell = np.empty((1, 2), object)
    cell[0, 0], cell[0, 1] = np.array([[1.0, 2, 50, 60]]), np.array([[5.0, 5, 9, 9, 0, 1]])
    kind = [("imgname", object), ("objects", object)]
    rows = np.array([[("a.jpg", np.array([[1.0, 2, 50, 60, 0, 0], [3, 4, 40, 50, 7, 1]]))],
                     [("b.jpg", cell)]], dtype=kind)  # fmt: skip
    savemat(tmp_path / "new_annotations.mat", {"Annotations": rows})
    first, second = datasets.read(tmp_path)
    assert first.boxes.tolist() == [[1, 2, 50, 60], [3, 4, 40, 50]]
    assert first.ignore.tolist() == [False, True]
    assert second.boxes.tolist() == [[1, 2, 50, 60], [5, 5, 9, 9]]
    assert second.ignore.tolist() == [False, True]
    savemat(tmp_path / "new_annotations.mat", {"other": 1})
    with pytest.raises(DataError, match="Annotations"):
        datasets.read(tmp_path)


LFW = "2\t1\nAda\t1\t2\nAda\t1\tBob Ray\t1\nBob Ray\t1\t2\nBob Ray\t2\tAda\t2\n"


@pytest.mark.parametrize("flat", [False, True])
def test_lfw_pairs(tmp_path, flat):
    for person in ("Ada", "Bob Ray"):
        for number in (1, 2):
            name = f"{person}_{number:04d}.jpg"
            picture(tmp_path / (name if flat else f"{person}/{name}"))
    (tmp_path / "pairs.txt").write_text(LFW)
    read = pairs.read_lfw(tmp_path / "pairs.txt", tmp_path)
    assert read.same.tolist() == [True, False, True, False]
    assert read.folds.tolist() == [0, 0, 1, 1]
    assert [path.name for path in read.second] == [
        "Ada_0002.jpg", "Bob Ray_0001.jpg", "Bob Ray_0002.jpg", "Ada_0002.jpg"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pairs\n", "line 1.*folds pairs"),
        (LFW.replace("2\t1\nAda", "3\t1\nAda"), "promises 3 x 2 x 1"),
        (LFW.replace("Ada\t1\t2\n", "Ada\t1\tx\n", 1), "line 2.*'name i j'"),
        (LFW, "labeled images are not in"),
    ],
)
def test_wrong_lfw_pairs_are_named(tmp_path, text, message):
    (tmp_path / "pairs.txt").write_text(text)
    with pytest.raises(DataError, match=message):
        pairs.read_lfw(tmp_path / "pairs.txt", tmp_path)


def test_cfp_pairs(tmp_path):
    for kind in "FP":
        (tmp_path / "Protocol").mkdir(exist_ok=True)
        lines = "".join(f"{n} ../Data/{kind}{n}.jpg\n" for n in (1, 2))
        (tmp_path / f"Protocol/Pair_list_{kind}.txt").write_text(lines)
    for fold in ("01", "02"):
        folder = tmp_path / "Protocol/Split/FP" / fold
        folder.mkdir(parents=True)
        (folder / "same.txt").write_text("1,2\n")
        (folder / "diff.txt").write_text("2,1\n")
    read = pairs.read_cfp(tmp_path)
    assert [path.name for path in read.first] == ["F1.jpg", "F2.jpg"] * 2
    assert [path.name for path in read.second] == ["P2.jpg", "P1.jpg"] * 2
    assert read.folds.tolist() == [0, 0, 1, 1]
    (folder / "diff.txt").write_text("2,9\n")
    with pytest.raises(DataError, match="line 1"):
        pairs.read_cfp(tmp_path)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_bin_packs_of_bytes_and_arrays(tmp_path, protocol):
    pictures = [b"one", np.frombuffer(b"two", np.uint8), b"three", b"four"]
    with (tmp_path / "p.bin").open("wb") as file:
        pickle.dump((pictures, [True, np.bool_(False)]), file, protocol=protocol)
    read = pairs.read_bin(tmp_path / "p.bin", folds=2)
    assert read.first == (b"one", b"three")
    assert read.second == (b"two", b"four")
    assert read.same.tolist() == [True, False]
    with pytest.raises(DataError, match="equal folds"):
        pairs.read_bin(tmp_path / "p.bin", folds=3)


class Evil:
    def __reduce__(self):
        return (print, ("ran",))


def test_bin_packs_run_no_code(tmp_path, capsys):
    (tmp_path / "p.bin").write_bytes(pickle.dumps(([Evil()], [True])))
    with pytest.raises(DataError, match="not allowed"):
        pairs.read_bin(tmp_path / "p.bin")
    assert "ran" not in capsys.readouterr().out
