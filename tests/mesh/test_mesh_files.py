import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facefind.errors import DataError
from facefind.mesh import Mesh, Sparse, read_obj, write_obj, write_ply

SQUARE = Mesh([(0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 0)], [(0, 1, 2), (0, 2, 3)])


def test_an_obj_file_comes_back(tmp_path):
    painted = Mesh(SQUARE.vertices + 0.125, SQUARE.triangles, SQUARE.vertices / 2)
    for mesh in (SQUARE, painted):
        back = read_obj(write_obj(mesh, tmp_path / "a.obj"))
        np.testing.assert_array_equal(back.vertices, mesh.vertices)
        np.testing.assert_array_equal(back.triangles, mesh.triangles)
        assert (back.colors is None) == (mesh.colors is None)
        if mesh.colors is not None:
            np.testing.assert_array_equal(back.colors, mesh.colors)


def test_what_other_programs_write_is_read(tmp_path):
    path = tmp_path / "a.obj"
    path.write_text(
        "# made elsewhere\nmtllib a.mtl\no face\nv 0 0 0 # origin\nv 1 0 0 1.0\nv 1 1 0\nvt 0 0\n"
        "vn 0 0 1\nusemtl skin\ns off\nf 1/1/1 2/1/1 3//1\nv 0 1 0\nf -4 -2 -1\nf 1 2 3 4\n\n"
    )
    mesh = read_obj(path)
    assert mesh.triangles.tolist() == [[0, 1, 2], [0, 2, 3], [0, 1, 2], [0, 2, 3]]
    assert mesh.colors is None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("v 0 0\nf 1 1 1", "line 1: 'v 0 0'"),
        ("v 0 0 x", "line 1"),
        ("v 0 0 0\nf 1 2", "at least 3 corners"),
        ("v 0 0 0\nf 0 1 1", "no vertex 0"),
        ("v 0 0 0\nf -2 1 1", "no vertex -2"),
        ("v 0 0 0\nv 1 0 0\nf 1 2 3", "only 0..1"),
        ("v 0 0 0\nv 1 0 0\nf 1 2 2", "names? a vertex twice"),
        ("v nan 0 0\nv 1 0 0\nv 1 1 0\nf 1 2 3", "NaN or inf"),
        ("ply\n", "0 vertices and 0 triangles"),
    ],
)
def test_a_broken_obj_file_is_told(tmp_path, text, told):
    path = tmp_path / "bad.obj"
    path.write_text(text)
    with pytest.raises(DataError, match=told) as error:
        read_obj(path)
    assert "bad.obj" in str(error.value)


def test_a_ply_file_holds_the_mesh(tmp_path):
    mesh = Mesh(SQUARE.vertices, SQUARE.triangles, np.eye(4, 3))
    header, _, body = write_ply(mesh, tmp_path / "a.ply").read_bytes().partition(b"end_header\n")
    assert b"element vertex 4\n" in header
    assert b"element face 2\n" in header
    assert len(body) == 4 * (12 + 3) + 2 * (1 + 12)
    assert struct.unpack_from("<3f3B", body, 15) == (1, 0, 0, 0, 255, 0)
    assert struct.unpack_from("<B3i", body, 60) == (3, 0, 1, 2)


def test_normals_point_outwards():
    corners = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (9, 9, 9)]
    solid = Mesh(corners, [(0, 2, 1), (0, 1, 3), (0, 3, 2), (1, 2, 3)])
    normals = solid.normals()
    np.testing.assert_allclose(normals[0], -np.ones(3) / 3**0.5, atol=1e-6)
    assert (normals[4] == 0).all()
    assert solid.edges.tolist() == [[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]]


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 99))
def test_a_sparse_matrix_is_its_dense_one(rows, columns, seed):
    rng = np.random.default_rng(seed)
    full = rng.normal(size=(rows, columns)) * (rng.random((rows, columns)) < 0.5)
    full[np.arange(rows), rng.integers(0, columns, rows)] = 1
    matrix = Sparse.from_matrix(full)
    np.testing.assert_allclose(matrix.dense(), full, atol=1e-6)
    x = rng.normal(size=(columns, 3))
    np.testing.assert_allclose(matrix @ x, full @ x, atol=1e-5)


def test_a_matrix_with_an_empty_row_is_refused():
    with pytest.raises(ValueError, match="every row"):
        Sparse.from_matrix(np.diag([1.0, 0.0]))


def test_a_found_face_stands_upright_and_takes_its_colors():
    image = np.zeros((4, 6, 3), np.uint8)
    image[1, 2] = 255, 0, 51
    vertices = np.array([(2.5, 1.5, 3), (2.5, 3.5, 0), (99, -5, 0)], np.float32)
    mesh = Mesh.from_face(vertices, np.array([(0, 1, 2)]), image)
    np.testing.assert_array_equal(mesh.vertices, vertices * (1, -1, -1))
    np.testing.assert_allclose(mesh.colors[0], (1, 0, 0.2))
    assert (mesh.colors[1:] == 0).all()
    assert Mesh.from_face(vertices, np.array([(0, 1, 2)])).colors is None
