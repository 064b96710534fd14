"""Meshes from mesh parameters to `Faces.mesh`, by a runtime that finds one face anywhere."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from facefind.detector import FaceDetector
from facefind.errors import WeightsError
from facefind.merging import survivors
from facefind.mesh.decoding import CAMERA, moved
from facefind.protocols import ShortSide, TestProtocol, View
from facefind.runtimes import Candidates, Card
from facefind.systems.mesh.decoder import MeshDecoder
from facefind.systems.mesh.template import face_template
from facefind.systems.mesh.topology import levels


@pytest.fixture(scope="module")
def decoder():
    torch.manual_seed(0)
    template = face_template()
    network = MeshDecoder.over(levels(template.mesh))
    network.landmarks, network.mirror = template.landmarks, template.mirror
    return network.frozen()


class Spotter:
    """Finds the one bright blob of an image, twice, and gives it a face turned by half a radian."""

    name, provider, precision, threads = "spotter", "cpu", "fp32", 1

    def __init__(self, mesh="face-mesh"):
        self.card = Card("spotter", "test", size_multiple=1, landmarks=True, mesh=mesh)

    def __call__(self, images):
        many = len(images)
        boxes, points = np.empty((many, 3, 4)), np.empty((many, 3, 5, 2))
        mesh = np.zeros((many, 3, 144))
        for i, image in enumerate(images):
            y, x = np.nonzero(image[0] > 100)
            cx, cy, side = x.mean() + 0.5, y.mean() + 0.5, np.ptp(x) + 1.0
            for k, grown in enumerate((1, 1.1, 1.05)):
                half = side * grown / 2
                boxes[i, k] = cx - half, cy - half, cx + half, cy + half
            points[i] = cx, cy
            turn = 0.5 if x.mean() < image.shape[2] / 2 else -0.5  # towards the nearer border
            mesh[i, :, CAMERA] = np.array([cx, cy, 8, 0, turn, 0.2 * np.sign(turn), 4 * side])[
                :, None
            ].T
            mesh[i, :, 0] = 1
        scores = np.repeat([[0.9, 0.8, 0.1]], many, 0)
        if not self.card.mesh:
            return Candidates(boxes, scores, points)
        return Candidates(*(a.astype(np.float32) for a in (boxes, scores, points, mesh)))


def picture(left=30, top=20, side=24, size=(100, 140)):
    image = np.zeros((*size, 3), np.uint8)
    image[top : top + side, left : left + side] = 200
    return image


def detector(decoder, **rules):
    protocol = TestProtocol(name="test", **({"sizes": (None,)} | rules))
    return FaceDetector(Spotter(), protocol=protocol, min_score=0.5, mesh=decoder)


def test_a_face_has_a_mesh_where_it_is(decoder):
    faces = detector(decoder).detect(picture())
    assert len(faces) == 1
    assert faces.mesh.shape == (1, 775, 3)
    expected = np.zeros((1, 144), np.float32)
    expected[0, CAMERA] = 42, 32, 8, 0, 0.5, 0.2, 96
    expected[0, 0] = 1
    np.testing.assert_allclose(faces.mesh, decoder.vertices(expected), atol=1e-3)


def test_a_scaled_pass_gives_pixels_of_the_original(decoder):
    plain = detector(decoder).detect(picture())
    scaled = detector(decoder, sizes=(ShortSide(200),)).detect(picture())
    np.testing.assert_allclose(scaled.mesh, plain.mesh, atol=0.5)


def test_a_mirrored_pass_gives_the_same_face(decoder):
    """Passes as they are and mirrored: both must lay the mesh where the face is."""
    both = detector(decoder, flip=True).detect(picture())
    assert len(both) == 1
    straight = picture()
    runtime = Spotter()
    flipped = runtime(straight[:, ::-1].transpose(2, 0, 1)[None])
    back = moved(flipped.mesh[0, :1], lambda xy: (140, 0) + (-1, 1) * xy, 1.0, mirrored=True)
    got = decoder.vertices(back, np.array([True]))
    expected = decoder.vertices(flipped.mesh[0, :1])[0, decoder.mirror]
    expected = expected * (-1, 1, 1) + (140, 0, 0)
    np.testing.assert_allclose(got[0], expected, atol=1e-3)


@pytest.mark.parametrize("turns", [1, 2, 3])
@pytest.mark.parametrize("mirrored", [False, True])
def test_a_mesh_of_a_turned_pass_is_turned_back(decoder, turns, mirrored):
    view = View((100, 140), turns=turns, mirrored=mirrored)
    canvas, placement = view.render(picture(), None, 1)
    seen = Spotter()(canvas.transpose(2, 0, 1)[None])
    rules = TestProtocol(name="test")
    found = survivors(seen, 0, placement, view, rules, 0.85, meshes=True)
    np.testing.assert_allclose(found.boxes, [[30, 20, 54, 44]])
    parameters, flags = found.meshes[:, :-1], found.meshes[:, -1] > 0
    expected = decoder.vertices(seen.mesh[0, :1])
    expected[..., :2] = view.restored(expected[..., :2], (100, 140))
    if mirrored:
        expected = expected[:, decoder.mirror]
    np.testing.assert_allclose(decoder.vertices(parameters, flags), expected, atol=1e-3)


def test_voting_keeps_the_best_one_s_mesh(decoder):
    faces = detector(decoder, voting=0.4).detect(picture())
    single = detector(decoder).detect(picture())
    np.testing.assert_allclose(faces.mesh, single.mesh, atol=1e-3)


def test_without_asking_there_is_no_mesh():
    assert FaceDetector(Spotter(), min_score=0.5).detect(picture()).mesh is None


def test_an_empty_picture_has_no_meshes(decoder):
    faces = FaceDetector(Spotter(), min_score=0.95, mesh=decoder).detect(picture())
    assert len(faces) == 0
    assert faces.mesh is None or faces.mesh.shape[0] == 0


def test_a_model_without_meshes_says_so(decoder):
    with pytest.raises(WeightsError, match="gives no meshes"):
        FaceDetector(Spotter(mesh=""), mesh=decoder)
    with pytest.raises(WeightsError, match=r"no mesh decoder nowhere\.npz"):
        FaceDetector(Spotter(mesh="nowhere"), mesh=True)


def test_candidates_check_the_parameters():
    with pytest.raises(ValueError, match="mesh must be"):
        Candidates(np.zeros((1, 2, 4)), np.zeros((1, 2)), None, np.zeros((1, 2, 143)))
