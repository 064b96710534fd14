import numpy as np
import pytest

from facefind import weights
from facefind.errors import DataError
from facefind.mesh import Decoder, Mesh, write_obj
from facefind.systems.mesh.pretrain import Components, pretrain
from facefind.systems.mesh.template import Template, face_template, own_template
from facefind.systems.mesh.topology import simplify
from facefind.systems.mesh.variation import generate


def test_the_template_is_a_symmetric_open_surface():
    template = face_template()
    mesh = template.mesh
    assert (len(mesh), len(mesh.triangles)) == (775, 1440)
    mirrored = mesh.vertices[template.mirror] * (-1, 1, 1)
    np.testing.assert_allclose(mirrored, mesh.vertices, atol=1e-6)
    turned = np.sort(template.mirror[mesh.triangles], 1).tolist()
    assert sorted(turned) == sorted(np.sort(mesh.triangles, 1).tolist())
    assert len(mesh) - len(mesh.edges) + len(mesh.triangles) == 1  # a disc
    assert mesh.vertices[:, 1].min() == -1
    assert mesh.vertices[:, 1].max() == 1


def test_the_landmarks_lie_where_faces_have_them():
    template = face_template()
    left_eye, right_eye, nose, left, right = template.mesh.vertices[template.landmarks]
    assert template.mirror[template.landmarks].tolist() == [
        template.landmarks[i] for i in (1, 0, 2, 4, 3)
    ]
    assert left_eye[0] < nose[0] < right_eye[0]
    assert left[0] < right[0]
    assert left_eye[1] > nose[1] > left[1]
    assert nose[2] == template.mesh.vertices[:, 2].max()


def test_generated_faces_vary_and_stay_faces():
    template = face_template()
    faces = generate(template, 40, np.random.default_rng(0))
    assert faces.shape == (40, 775, 6)
    assert faces.dtype == np.float32
    assert faces[..., 3:].min() >= 0
    assert faces[..., 3:].max() <= 1
    assert 0.02 < faces[..., :3].std(0).mean() < 0.2
    points = faces[:, template.landmarks, :2]
    assert (points[:, 0, 0] < points[:, 1, 0]).all()  # eyes do not change sides
    assert (points[:, :2, 1].min(1) > points[:, 2, 1]).all()  # nor noses climb above them
    for face in faces:  # no triangle is turned away from the viewer by much
        assert (Mesh(face[:, :3], template.mesh.triangles).normals()[:, 2] > -0.5).all()
    same = generate(template, 40, np.random.default_rng(0))
    np.testing.assert_array_equal(faces, same)


def test_a_user_s_mesh_is_brought_into_the_face_s_frame(tmp_path):
    own = face_template()
    tilt = np.array([(0.8, -0.6, 0), (0.6, 0.8, 0), (0, 0, 1)])
    moved = Mesh(own.mesh.vertices @ tilt.T * 90 + (5, -300, 12), own.mesh.triangles)
    path = write_obj(moved, tmp_path / "user.obj")
    fitted = own_template(path, own.landmarks.tolist())
    np.testing.assert_allclose(fitted.mesh.vertices, own.mesh.vertices, atol=1e-3)
    np.testing.assert_array_equal(fitted.landmarks, own.landmarks)
    upright = Mesh(own.mesh.vertices * 90 + (5, -300, 12), own.mesh.triangles)
    plain = own_template(write_obj(upright, tmp_path / "upright.obj"))
    np.testing.assert_allclose(plain.mesh.vertices, own.mesh.vertices, atol=1e-4)
    assert plain.landmarks is None


def test_wrong_landmarks_are_told(tmp_path):
    path = write_obj(face_template().mesh, tmp_path / "user.obj")
    with pytest.raises(DataError, match=r"five indices in 0\.\.774"):
        own_template(path, [1, 2, 3, 4, 775])
    with pytest.raises(DataError, match="five indices"):
        own_template(path, [1, 2])
    with pytest.raises(DataError, match="at one point"):
        own_template(path, [1] * 5)


def test_components_give_codes_of_variance_one_and_the_faces_back():
    faces = generate(face_template(), 60, np.random.default_rng(0))
    components = Components(faces, 128)
    codes = components.codes(faces)
    assert codes.shape == (60, 128)
    np.testing.assert_allclose(codes[:, :59].var(0), 1, atol=1e-3)
    assert (codes[:, 59:] == 0).all()
    np.testing.assert_allclose(components.faces(codes), faces, atol=2e-3)


def test_the_decoder_that_ships_knows_unseen_faces():
    decoder = Decoder.load(weights.mesh_decoder())
    template = face_template()
    np.testing.assert_array_equal(decoder.mean.triangles, template.mesh.triangles)
    np.testing.assert_array_equal(decoder.landmarks, template.landmarks)
    np.testing.assert_array_equal(decoder.mirror, template.mirror)
    # Its average face is the template with a mean expression and skin.
    far = np.linalg.norm(decoder.mean.vertices - template.mesh.vertices, axis=1)
    assert far.max() < 0.08
    silent = decoder(np.zeros((1, 128)))[0]
    assert np.linalg.norm(silent[:, :3] - decoder.mean.vertices, axis=1).mean() < 0.02
    drawn = decoder(np.random.default_rng(0).normal(size=(20, 128)))
    points = drawn[:, decoder.landmarks, :2]
    assert (points[:, 0, 0] < points[:, 1, 0]).all()
    assert (points[:, :2, 1].min(1) > points[:, 2, 1]).all()


def test_pre_training_learns_on_any_mesh():
    mesh, kept = simplify(face_template().mesh, 120)
    assert len(kept) == 120
    template = Template(mesh, None, None)
    heard = []
    decoder, report = pretrain(
        template,
        steps=300,
        batch=16,
        faces=640,
        unseen=32,
        level_count=1,
        progress=lambda step, loss: heard.append((step, loss)),
    )
    assert [step for step, _ in heard] == [100, 200, 300]
    assert heard[-1][1] < heard[0][1]
    assert report.decoder.position < 0.8 * report.average.position
    assert report.decoder.color < 0.8 * report.average.color
    assert report.linear.position < report.average.position
    assert decoder(np.zeros((2, 128), np.float32)).shape == (2, 120, 6)
