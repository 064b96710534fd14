from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import spectral

from facefind.errors import DataError
from facefind.mesh import Mesh
from facefind.systems.mesh.template import face_template
from facefind.systems.mesh.topology import (
    laplacian,
    levels,
    nearest_on_triangles,
    scaled_laplacian,
    simplify,
    upsampling,
)


def sheet(rows=8, columns=9, curved=0.3):
    v, u = np.mgrid[0:rows, 0:columns].reshape(2, -1).astype(float)
    points = np.stack([u, v, curved * np.sin(u) * np.cos(v)], -1)
    place = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = place[:-1, :-1], place[:-1, 1:], place[1:, :-1], place[1:, 1:]
    cells = [np.stack([a, b, c], -1), np.stack([b, d, c], -1)]
    return Mesh(points, np.concatenate(cells).reshape(-1, 3))


def ball(rings=8, around=12):
    angle = np.arange(around) / around * 2 * np.pi
    height = np.cos(np.arange(1, rings) / rings * np.pi)
    wide = np.sqrt(1 - height**2)
    points = [(0, 0, 1)]
    points += [
        (w * np.cos(t), w * np.sin(t), h) for h, w in zip(height, wide, strict=True) for t in angle
    ]
    points += [(0, 0, -1)]
    last, triangles = len(points) - 1, []
    for i in range(around):
        j = (i + 1) % around
        triangles.append((0, 1 + i, 1 + j))
        for ring in range(rings - 2):
            a, b = 1 + ring * around, 1 + (ring + 1) * around
            triangles += [(a + i, b + i, a + j), (a + j, b + i, b + j)]
        bottom = 1 + (rings - 2) * around
        triangles.append((last, bottom + j, bottom + i))
    return Mesh(points, triangles)


def euler_number(mesh):
    return len(np.unique(mesh.triangles)) - len(mesh.edges) + len(mesh.triangles)


def test_the_laplacian_is_degrees_less_edges():
    mesh = sheet(3, 4)
    wanted = spectral.laplacian(len(mesh), mesh.triangles.tolist())
    np.testing.assert_array_equal(laplacian(mesh).toarray(), wanted)


@pytest.mark.parametrize("mesh", [sheet(), sheet(3, 3), ball(14, 20)], ids=["73", "9", "262"])
def test_the_scaled_laplacian_has_eigenvalues_from_minus_one_to_one(mesh):
    values = np.linalg.eigvalsh(scaled_laplacian(mesh).dense().astype(float))
    assert values.min() == pytest.approx(-1, abs=1e-5)
    assert values.max() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(("mesh", "count"), [(sheet(), 20), (ball(), 24), (ball(), 6)])
def test_simplifying_keeps_a_subset_and_the_topology(mesh, count):
    coarse, kept = simplify(mesh, count)
    assert len(coarse) == len(kept) == count
    np.testing.assert_array_equal(coarse.vertices, mesh.vertices[kept])
    assert euler_number(coarse) == euler_number(mesh)
    shared = np.sort(coarse.triangles, 1)
    assert len(np.unique(shared, axis=0)) == len(shared)


def test_simplifying_a_plane_costs_nothing():
    mesh = sheet(curved=0)
    coarse, _ = simplify(mesh, 12)
    up = upsampling(mesh, coarse)
    np.testing.assert_allclose(up @ coarse.vertices, mesh.vertices, atol=1e-5)


def test_simplifying_stays_near_a_ball():
    coarse, _ = simplify(ball(16, 24), 90)
    corners = coarse.vertices[coarse.triangles]
    assert np.linalg.norm(corners.mean(1), axis=1).min() > 0.85
    facing = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert ((facing * corners.mean(1)).sum(1) > 0).all()  # none turned over


def test_points_of_no_triangle_go_first():
    mesh = sheet(4, 4)
    loose = Mesh(np.vstack([mesh.vertices, [(50, 50, 50)]]), mesh.triangles)
    coarse, kept = simplify(loose, 16)
    assert kept.tolist() == list(range(16))
    up = upsampling(loose, coarse)
    np.testing.assert_allclose(
        (up @ coarse.vertices)[16], (3, 3, coarse.vertices[15, 2]), atol=1e-5
    )


def test_up_sampling_is_barycentric_and_leaves_kept_vertices_alone():
    mesh = ball()
    coarse, kept = simplify(mesh, 24)
    up = upsampling(mesh, coarse)
    full = up.dense()
    np.testing.assert_allclose(full.sum(1), 1, atol=1e-6)
    assert full.min() >= 0
    assert (np.count_nonzero(full, axis=1) <= 3).all()
    np.testing.assert_allclose(full[kept], np.eye(24), atol=1e-6)


@settings(max_examples=30)
@given(st.integers(0, 10_000))
def test_the_nearest_point_is_nearest(seed):
    rng = np.random.default_rng(seed)
    corners, points = rng.normal(size=(5, 3, 3)), rng.normal(size=(5, 3)) * 2
    weights = nearest_on_triangles(points, corners)
    assert weights.min() >= -1e-12
    np.testing.assert_allclose(weights.sum(1), 1)
    found = np.linalg.norm((weights[..., None] * corners).sum(1) - points, axis=1)
    a, b = np.mgrid[0:1:41j, 0:1:41j].reshape(2, -1)
    grid = np.stack([1 - a, a * (1 - b), a * b], 1)  # covers the triangle
    tried = np.linalg.norm(np.einsum("gk,nkd->gnd", grid, corners) - points, axis=2).min(0)
    assert (found <= tried + 1e-9).all()
    assert (found >= tried - 0.2).all()


def test_the_nearest_triangle_is_found_among_all():
    mesh = ball(10, 14)
    coarse, _ = simplify(mesh, 20)
    up = upsampling(mesh, coarse)
    found = np.linalg.norm(up @ coarse.vertices - mesh.vertices, axis=1)
    corners = coarse.vertices.astype(float)[coarse.triangles]
    for vertex, distance in zip(mesh.vertices, found, strict=True):
        points = np.repeat(vertex[None].astype(float), len(corners), 0)
        on = (nearest_on_triangles(points, corners)[..., None] * corners).sum(1)
        assert distance == pytest.approx(np.linalg.norm(on - points, axis=1).min(), abs=1e-5)


def test_levels_of_the_template():
    pyramid = levels(face_template().mesh)
    assert [len(level.mesh) for level in pyramid] == [775, 194, 49, 13]
    assert pyramid[0].up is None
    for fine, coarse in pairwise(pyramid):
        assert coarse.up.shape == (len(fine.mesh), len(coarse.mesh))


def test_a_mesh_too_small_is_refused():
    with pytest.raises(DataError, match="at least 12 vertices, this one has 9"):
        levels(sheet(3, 3), 1)
    with pytest.raises(DataError, match="9"):
        levels(sheet(3, 3))


@pytest.mark.slow
def test_a_mesh_of_the_paper_s_size():
    mesh = sheet(171, 166)
    assert [len(level.mesh) for level in levels(mesh, 4)] == [28386, 7097, 1775, 444, 111]
