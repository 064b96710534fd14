"""Sampling levels of any triangle mesh, and the Laplacian of each.

Shapes: V vertices, T triangles, E edges.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facefind.errors import DataError
from facefind.mesh import Mesh, Sparse

_BORDER = 10.0  # weight of the planes that keep an open border in place
_FACTOR = 4  # by which vertices get fewer from one level to the next


@dataclass(frozen=True, eq=False)
class Level:
    """One resolution of a mesh.

    Attributes:
        mesh: Its vertices are a subset of those of the next finer level.
        laplacian: (V,V), scaled to eigenvalues in -1..1.
        up: (V of the next finer level, V): barycentric up-sampling; None on the finest.
    """

    mesh: Mesh
    laplacian: Sparse
    up: Sparse | None


def levels(mesh: Mesh, count: int | None = None) -> tuple[Level, ...]:
    """A mesh and its coarser versions, each of a quarter of the vertices, the finest first.

    Args:
        mesh: Any triangle mesh.
        count: How many coarser versions; None is 4, or fewer where the coarsest would have less
            than 10 vertices.

    Raises:
        DataError: If the mesh is too small for that.

    Source: RetinaFace, sec. 3.2, whose decoder is that of arXiv:1904.03525 and, before it, CoMA
    (arXiv:1807.10267): simplification by quadric error, up-sampling by barycentric coordinates.
    Neither number of levels nor factor is in the paper; these are CoMA's.
    """
    if count is None:
        count = max(n for n in range(5) if n == 0 or len(mesh) / _FACTOR**n >= 10)
    if count < 1 or len(mesh) / _FACTOR**count < 3:
        raise DataError(
            f"{count} levels of 1/{_FACTOR} need a mesh of at least {3 * _FACTOR ** max(count, 1)} "
            f"vertices, this one has {len(mesh)}"
        )
    found = [Level(mesh, scaled_laplacian(mesh), None)]
    for _ in range(count):
        fine = found[-1].mesh
        coarse, _ = simplify(fine, -(-len(fine) // _FACTOR))
        found.append(Level(coarse, scaled_laplacian(coarse), upsampling(fine, coarse)))
    return tuple(found)


def laplacian(mesh: Mesh) -> Any:
    """The Laplacian L = D - E of the mesh's edges, a scipy matrix (V,V) in float64.

    Source: RetinaFace, sec. 3.2.
    """
    from scipy import sparse

    a, b = mesh.edges.T
    ones = np.ones(2 * len(a))
    rows, columns = np.concatenate([a, b]), np.concatenate([b, a])
    adjacency = sparse.coo_matrix((ones, (rows, columns)), (len(mesh), len(mesh))).tocsr()
    return sparse.diags(np.asarray(adjacency.sum(1)).ravel()).tocsr() - adjacency


def scaled_laplacian(mesh: Mesh) -> Sparse:
    """The Laplacian moved to eigenvalues in -1..1: 2 L / lambda_max - I.

    Source: RetinaFace, sec. 3.2; the scaling is that of arXiv:1606.09375.
    Differs: CoMA's code takes the normalized Laplacian and 2 for its largest eigenvalue; here L is
    the paper's D - E and its largest eigenvalue is computed.
    """
    from scipy import sparse
    from scipy.sparse.linalg import eigsh

    matrix = laplacian(mesh)
    if len(mesh) <= 64:
        largest = float(np.linalg.eigvalsh(matrix.toarray())[-1])
    else:
        start = np.cos(np.arange(len(mesh)))  # any fixed vector, so that two builds are equal
        largest = float(eigsh(matrix, k=1, v0=start, return_eigenvectors=False, tol=1e-6)[0])
    # The identity's ones keep every row alive, were a diagonal entry to cancel exactly.
    scaled = (matrix * (2 / largest) - sparse.identity(len(mesh))).tocsr()
    scaled.setdiag(scaled.diagonal() - np.where(scaled.diagonal() == 0, 1e-12, 0))
    return Sparse.from_matrix(scaled)


def simplify(mesh: Mesh, count: int) -> tuple[Mesh, NDArray[np.int64]]:
    """A mesh of `count` of the given one's vertices, and their indices in it, ascending.

    Edges are collapsed to one of their ends, the least quadric error first; a collapse that would
    change the topology or turn a triangle over is left out. Where no more are possible, as with
    many small separate parts, more than `count` vertices remain.

    Source: Garland and Heckbert, surface simplification using quadric error metrics, 1997.
    """
    kept, triangles = _Collapse(mesh).run(count)
    index = np.full(len(mesh), -1)
    index[kept] = np.arange(len(kept))
    if not len(triangles):
        raise DataError(f"no triangle is left of a mesh of {len(mesh)} vertices cut to {count}")
    colors = None if mesh.colors is None else mesh.colors[kept]
    return Mesh(mesh.vertices[kept], index[triangles], colors), kept


class _Collapse:
    """The heap of edges and the mesh as it shrinks; plain lists, since all steps are small."""

    def __init__(self, mesh: Mesh) -> None:
        self.points = [tuple(p) for p in mesh.vertices.astype(np.float64).tolist()]
        self.triangles: list[tuple[int, int, int] | None] = [
            (a, b, c) for a, b, c in mesh.triangles.tolist()
        ]
        self.around: list[set[int]] = [set() for _ in self.points]
        for number, corners in enumerate(mesh.triangles.tolist()):
            for corner in corners:
                self.around[corner].add(number)
        self.quadrics = _quadrics(mesh).tolist()
        self.stamps = [0] * len(self.points)
        self.alive = len(self.points)
        self.heap: list[tuple[float, int, int, int]] = []

    def run(self, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Indices of the vertices that remain, (K,), and triangles of them, (T,3)."""
        gone = [not around for around in self.around]  # points of no triangle go first
        self.alive -= sum(gone)
        for strict in (True, False):
            if self.alive <= count:
                break
            for vertex in range(len(self.points)):
                if not gone[vertex]:
                    for other in self._neighbors(vertex):
                        if vertex < other:
                            self._push(vertex, other)
            while self.heap and self.alive > count:
                _, stamp, source, target = heapq.heappop(self.heap)
                if gone[source] or gone[target]:
                    continue
                if stamp != self.stamps[source] + self.stamps[target]:
                    continue
                if self._allowed(source, target, strict):
                    self._merge(source, target)
                    gone[source] = True
                    self.alive -= 1
        kept = np.flatnonzero(~np.array(gone))
        triangles = np.array([t for t in self.triangles if t is not None], np.int64)
        return kept, triangles.reshape(-1, 3)

    def _neighbors(self, vertex: int) -> set[int]:
        near: set[int] = set()
        for number in self.around[vertex]:
            near.update(self.triangles[number] or ())
        near.discard(vertex)
        return near

    def _push(self, a: int, b: int) -> None:
        total = [x + y for x, y in zip(self.quadrics[a], self.quadrics[b], strict=True)]
        to_a, to_b = _error(total, self.points[a]), _error(total, self.points[b])
        stamp = self.stamps[a] + self.stamps[b]
        if to_a < to_b:
            heapq.heappush(self.heap, (to_a, stamp, b, a))
        else:
            heapq.heappush(self.heap, (to_b, stamp, a, b))

    def _allowed(self, source: int, target: int, strict: bool) -> bool:
        shared = self.around[source] & self.around[target]
        if not shared or len(shared) > 2:
            return False
        apexes = {v for number in shared for v in self.triangles[number] or ()}
        common = self._neighbors(source) & self._neighbors(target)
        if common != apexes - {source, target}:
            return False  # the link condition: otherwise two sheets would be glued together
        moved = self.around[source] - shared
        if not moved and len(self.around[target]) == len(shared):
            return False  # the last triangles of a part stay
        if not strict:
            return True
        for number in moved:
            a, b, c = self.triangles[number] or (0, 0, 0)
            before = _normal(self.points[a], self.points[b], self.points[c])
            after = _normal(*(self.points[target if v == source else v] for v in (a, b, c)))
            dot = before[0] * after[0] + before[1] * after[1] + before[2] * after[2]
            if dot <= 0:
                return False
        return True

    def _merge(self, source: int, target: int) -> None:
        for number in self.around[source]:
            corners = self.triangles[number] or (0, 0, 0)
            if target in corners:
                self.triangles[number] = None
                for corner in corners:
                    if corner != source:
                        self.around[corner].discard(number)
            else:
                a, b, c = (target if v == source else v for v in corners)
                self.triangles[number] = (a, b, c)
                self.around[target].add(number)
        self.around[source] = set()
        self.quadrics[target] = [
            x + y for x, y in zip(self.quadrics[source], self.quadrics[target], strict=True)
        ]
        self.stamps[target] += 1
        for other in self._neighbors(target):
            self._push(target, other)


def _quadrics(mesh: Mesh) -> NDArray[np.float64]:
    """(V,10): the sum of squared distances to the planes of a vertex's triangles, as a form."""
    corners = mesh.vertices[mesh.triangles].astype(np.float64)
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    length = np.linalg.norm(cross, axis=1, keepdims=True)
    normals = cross / np.where(length > 0, length, 1)
    out = np.zeros((len(mesh), 10))
    planes = _form(normals, -(normals * corners[:, 0]).sum(1)) * length / 2
    for corner in mesh.triangles.T:
        np.add.at(out, corner, planes)
    # Where an edge has but one triangle, a plane upright on it keeps the border in place.
    starts = mesh.triangles.ravel()
    ends = np.roll(mesh.triangles, -1, 1).ravel()
    keys = np.minimum(starts, ends) * len(mesh) + np.maximum(starts, ends)
    _, back, times = np.unique(keys, return_inverse=True, return_counts=True)
    border = np.flatnonzero(times[back] == 1)
    a, b = mesh.vertices[starts[border]], mesh.vertices[ends[border]]
    along = (b - a).astype(np.float64)
    upright = np.cross(along, normals[border // 3])
    length = np.linalg.norm(upright, axis=1, keepdims=True)
    upright /= np.where(length > 0, length, 1)
    walls = _form(upright, -(upright * a).sum(1)) * (_BORDER * (along**2).sum(1, keepdims=True))
    np.add.at(out, starts[border], walls)
    np.add.at(out, ends[border], walls)
    return out


def _form(normals: NDArray[np.float64], offsets: NDArray[np.float64]) -> NDArray[np.float64]:
    """(P,10): xx xy xz xd yy yz yd zz zd dd of planes (x,y,z,d)."""
    planes = np.column_stack([normals, offsets])
    first, second = np.triu_indices(4)
    return planes[:, first] * planes[:, second]


def _error(q: list[float], point: tuple[float, float, float]) -> float:
    x, y, z = point
    return (
        x * (q[0] * x + 2 * (q[1] * y + q[2] * z + q[3]))
        + y * (q[4] * y + 2 * (q[5] * z + q[6]))
        + z * (q[7] * z + 2 * q[8])
        + q[9]
    )


_Point = tuple[float, float, float]


def _normal(a: _Point, b: _Point, c: _Point) -> _Point:
    ux, uy, uz = b[0] - a[0], b[1] - a[1], b[2] - a[2]
    vx, vy, vz = c[0] - a[0], c[1] - a[1], c[2] - a[2]
    return uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx


def upsampling(fine: Mesh, coarse: Mesh) -> Sparse:
    """The matrix (V fine, V coarse) that gives each fine vertex its nearest point's coordinates.

    The nearest point lies on a triangle of the coarse mesh; its barycentric coordinates there, at
    most three, none negative, sum 1, are the vertex's row. The search is exact.
    """
    from scipy import sparse
    from scipy.spatial import cKDTree

    points = fine.vertices.astype(np.float64)
    corners = coarse.vertices.astype(np.float64)[coarse.triangles]  # (T,3,3)
    centers = corners.mean(1)
    reach = float(np.linalg.norm(corners - centers[:, None], axis=2).max())
    near = cKDTree(coarse.vertices[np.unique(coarse.triangles)]).query(points)[0]
    # A triangle within `near` of a vertex has its center within that and the widest reach.
    lists = cKDTree(centers).query_ball_point(points, (near + reach) * (1 + 1e-6) + 1e-9)
    rows, columns, values = [], [], []
    block = 512
    for start in range(0, len(points), block):
        some = lists[start : start + block]
        lengths = np.array([len(one) for one in some])
        triangle = np.concatenate([np.asarray(one, np.int64) for one in some])
        vertex = np.repeat(np.arange(start, start + len(some)), lengths)
        weights = nearest_on_triangles(points[vertex], corners[triangle])
        gap = ((weights[..., None] * corners[triangle]).sum(1) - points[vertex]) ** 2
        order = np.lexsort((triangle, gap.sum(1), vertex))
        best = order[np.concatenate([[0], np.cumsum(lengths)[:-1]])]
        rows.append(np.repeat(vertex[best], 3))
        columns.append(coarse.triangles[triangle[best]].ravel())
        values.append(weights[best].ravel())
    matrix = sparse.coo_matrix(
        (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))),
        (len(fine), len(coarse)),
    ).tocsr()
    matrix.data[abs(matrix.data) < 1e-9] = 0
    matrix.eliminate_zeros()
    return Sparse.from_matrix(matrix)


def nearest_on_triangles(
    points: NDArray[np.float64], corners: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Barycentric coordinates (P,3) of the point of each triangle (P,3,3) nearest to (P,3)."""
    a = corners[:, 0]
    ab, ac, ap = corners[:, 1] - a, corners[:, 2] - a, points - a
    aa, bb, cc = (ab * ab).sum(1), (ab * ac).sum(1), (ac * ac).sum(1)
    pb, pc = (ap * ab).sum(1), (ap * ac).sum(1)
    area = aa * cc - bb * bb
    flat = area <= 1e-30
    safe = np.where(flat, 1, area)
    v, w = (cc * pb - bb * pc) / safe, (aa * pc - bb * pb) / safe
    inside = np.stack([1 - v - w, v, w], 1)
    best, gap = inside, np.full(len(points), np.inf)
    outside = (inside < 0).any(1) | flat
    for i, j in ((0, 1), (1, 2), (2, 0)):  # else the nearest of the three sides
        side = corners[:, j] - corners[:, i]
        length = (side * side).sum(1)
        t = ((points - corners[:, i]) * side).sum(1) / np.where(length > 0, length, 1)
        t = t.clip(0, 1)
        far = ((corners[:, i] + t[:, None] * side - points) ** 2).sum(1)
        weights = np.zeros_like(inside)
        weights[:, i], weights[:, j] = 1 - t, t
        closer = outside & (far < gap)
        best = np.where(closer[:, None], weights, best)
        gap = np.where(closer, far, gap)
    return best
