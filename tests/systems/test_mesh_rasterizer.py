import numpy as np
import pytest
import torch
from reference import raster

from facefind.mesh.decoding import project, rotation
from facefind.systems.mesh import camera, lighting
from facefind.systems.mesh.rasterizer import barycentric, interpolate, rasterize, render

F = torch.float64


def soup(triangles, seed):
    """Loose triangles before a camera: points (3T,3) in its frame, colors, indices."""
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(3 * triangles, 3)) * (1, 1, 0.5) + (0, 0, 4)
    return points, rng.random((3 * triangles, 2)), np.arange(3 * triangles).reshape(-1, 3)


def on_screen(points, focal, center):
    points = torch.as_tensor(points)
    flat = focal * points[..., :2] / points[..., 2:] + torch.tensor(center, dtype=F)
    return torch.cat([flat, points[..., 2:]], -1)


@pytest.mark.parametrize("seed", range(3))
def test_pixels_show_what_rays_meet(seed):
    points, colors, triangles = soup(6, seed)
    wanted, shown = raster.render(points, colors, triangles, 22.0, (8.2, 5.9), (12, 16))
    got, covered = render(
        on_screen(points, 22.0, (8.2, 5.9))[None],
        torch.as_tensor(colors)[None],
        torch.as_tensor(triangles),
        (12, 16),
        cull=False,
    )
    np.testing.assert_array_equal(covered[0].numpy(), shown >= 0)
    assert 20 < covered.sum() < 12 * 16
    np.testing.assert_allclose(got[0].permute(1, 2, 0).numpy(), wanted, atol=1e-9)


def test_triangles_from_behind_are_left_out():
    corners = torch.tensor([[[1.0, 1, 1], [1, 7, 1], [7, 1, 1]]])  # counter-clockwise, y down
    assert len(rasterize(corners, torch.tensor([[0, 1, 2]]), (8, 8)).x) == 21
    assert len(rasterize(corners, torch.tensor([[0, 2, 1]]), (8, 8)).x) == 0
    assert len(rasterize(corners, torch.tensor([[0, 2, 1]]), (8, 8), cull=False).x) == 21


def test_triangles_that_share_an_edge_leave_no_gap():
    corners = torch.tensor([[[0.5, 0.5, 1], [0.5, 6.5, 1], [6.5, 0.5, 1], [6.5, 6.5, 1]]])
    fragments = rasterize(corners, torch.tensor([[0, 1, 2], [2, 1, 3]]), (8, 8))
    assert len(fragments.x) == 49  # centers on the border and on the diagonal belong to one each
    weights = barycentric(corners, torch.tensor([[0, 1, 2], [2, 1, 3]]), fragments)
    assert weights.min() >= 0
    torch.testing.assert_close(weights.sum(1), torch.ones(49))


def test_nothing_on_the_screen_is_the_background():
    corners = torch.tensor([[[90.0, 1, 1], [90, 7, 1], [97, 1, 1]], [[1.0, 1, 1]] * 3]).double()
    colors = torch.ones(2, 3, 3, dtype=F, requires_grad=True)
    picture, covered = render(corners, colors, torch.tensor([[0, 1, 2]]), (4, 6), 0.25)
    assert picture.shape == (2, 3, 4, 6)
    assert (picture == 0.25).all()
    assert not covered.any()
    picture.sum().backward()
    assert (colors.grad == 0).all()


def test_a_batch_is_its_images_one_by_one():
    points, colors, triangles = soup(8, 5)
    screens = torch.stack(
        [on_screen(points + np.array([0.3 * i, 0, 0]), 9, (8, 8)) for i in range(3)]
    )
    paint = torch.as_tensor(colors).expand(3, -1, -1)
    together, _ = render(screens, paint, torch.as_tensor(triangles), (16, 16), 0.5)
    for i in range(3):
        alone, _ = render(screens[i : i + 1], paint[:1], torch.as_tensor(triangles), (16, 16), 0.5)
        torch.testing.assert_close(alone[0], together[i])


def test_gradients_at_covered_pixels_are_right():
    """With the triangle of each pixel held, as it is everywhere but on edges."""
    points, colors, triangles = soup(4, 1)
    screen = on_screen(points, 12.0, (4, 4))[None].requires_grad_()
    paint = torch.as_tensor(colors)[None].requires_grad_()
    index = torch.as_tensor(triangles)
    fragments = rasterize(screen, index, (8, 8), cull=False)
    assert len(fragments.x) > 10

    def shown(screen, paint):
        weights = barycentric(screen, index, fragments)
        return interpolate(paint, index, fragments, weights)

    assert torch.autograd.gradcheck(shown, (screen, paint))


def bowl():
    """A curved sheet that faces the viewer, (25,3) in the face's frame, with colors."""
    y, x = np.mgrid[1:-1:5j, -1:1:5j].reshape(2, -1)
    place = np.arange(25).reshape(5, 5)
    a, b, c, d = place[:-1, :-1], place[:-1, 1:], place[1:, :-1], place[1:, 1:]
    cells = np.concatenate([np.stack([a, c, b], -1), np.stack([b, c, d], -1)]).reshape(-1, 3)
    points = np.stack([x, y, 0.6 - 0.3 * (x**2 + y**2)], -1)
    paint = np.stack([0.5 + 0.3 * x, 0.5 + 0.3 * y, 0.5 + 0.2 * np.sin(3 * x) * y], -1)
    return torch.tensor(points)[None], torch.tensor(paint)[None], torch.tensor(cells)


def photometric(points, paint, raw_camera, raw_light, triangles, goal, size=16):
    box = torch.tensor([[0, 0, size, size]], dtype=F)
    seen = camera.resolve(raw_camera, box)
    turned = camera.to_camera(points, seen)
    outward = lighting.normals(turned, triangles)
    lit = lighting.shade(paint, turned, outward, lighting.resolve(raw_light))
    picture, covered = render(camera.project(turned, seen), lit, triangles, (size, size))
    return ((picture - goal).square() * covered[:, None]).sum(), covered


@pytest.mark.parametrize("what", ["points", "paint", "camera", "light"])
def test_the_photometric_loss_has_the_gradient_of_finite_differences(what):
    points, paint, triangles = bowl()
    generator = torch.Generator().manual_seed(3)
    values = {
        "points": points,
        "paint": paint,
        "camera": 0.1 * torch.randn(1, 7, generator=generator, dtype=F),
        "light": 0.2 * torch.randn(1, 9, generator=generator, dtype=F),
    }
    goal = torch.rand(1, 3, 16, 16, generator=generator, dtype=F)

    def loss(name, value):
        given = values | {name: value}
        return photometric(
            given["points"], given["paint"], given["camera"], given["light"], triangles, goal
        )

    x = values[what].clone().requires_grad_()
    base, covered = loss(what, x)
    base.backward()
    assert covered.float().mean() > 0.5
    tested = 0
    for index in np.ndindex(*x.shape):
        step = torch.zeros_like(x)
        step[index] = 1e-6
        (above, up), (below, down) = loss(what, x.detach() + step), loss(what, x.detach() - step)
        if not (torch.equal(up, covered) and torch.equal(down, covered)):
            continue  # an outline crossed a pixel's center
        tested += 1
        slope = (above - below).item() / 2e-6
        assert x.grad[index].item() == pytest.approx(slope, rel=1e-4, abs=1e-5)
    assert tested > 0.8 * x.numel()
    assert (x.grad != 0).any()


def test_torch_and_numpy_have_one_camera():
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(4, 9, 3, generator=generator, dtype=F) * 0.5
    box = torch.tensor([[10, 20, 74, 84]], dtype=F).expand(4, 4)
    cameras = camera.resolve(torch.randn(4, 7, generator=generator, dtype=F) * 0.3, box)
    turned = camera.to_camera(points, cameras)
    flat = camera.project(turned, cameras)[..., :2]
    got = project(points.numpy(), cameras.numpy())
    np.testing.assert_allclose(got[..., :2], flat.numpy(), rtol=1e-5)
    scale = (cameras[:, 6] / cameras[:, 2])[:, None]
    np.testing.assert_allclose(got[..., 2], (turned[..., 2] * scale).numpy(), atol=1e-4)
    turn = rotation(cameras[:, 3:6].numpy())
    np.testing.assert_allclose(turn, camera.rotation(cameras[:, 3:6]).numpy(), atol=1e-12)
    np.testing.assert_allclose(
        turn @ turn.transpose(0, 2, 1), np.eye(3)[None].repeat(4, 0), atol=1e-9
    )
    np.testing.assert_allclose(np.linalg.det(turn), 1)


def test_zeros_are_a_frontal_face_that_fills_the_anchor():
    box = torch.tensor([[10.0, 20, 74, 84]])
    ends = torch.tensor([[[0.0, 1, 0], [0, -1, 0], [0, 0, 0]]])
    cameras = camera.resolve(torch.zeros(1, 7), box)
    screen = camera.project(camera.to_camera(ends, cameras), cameras)[0]
    torch.testing.assert_close(screen[:, :2], torch.tensor([[42.0, 20], [42, 84], [42, 52]]))


@pytest.mark.parametrize(
    ("axis", "point", "moved"),
    [
        (0, (0, 0, 1), (0, 1, 0)),  # pitch: the nose goes down in the picture
        (1, (0, 0, 1), (-1, 0, 0)),  # yaw: to the left
        (2, (1, 0, 0), (0, 1, 0)),  # roll: the right side down, clockwise
    ],
)
def test_the_pose_turns_as_it_says(axis, point, moved):
    pose = torch.zeros(1, 7)
    pose[0, 3 + axis] = torch.pi / 2
    got = camera.to_camera(torch.tensor([[point]], dtype=torch.float32), pose)[0, 0]
    torch.testing.assert_close(got, torch.tensor(moved, dtype=torch.float32), atol=1e-6, rtol=0)


def test_lambert_s_law():
    colors = torch.ones(1, 3, 3)
    turned = torch.zeros(1, 3, 3)
    outward = torch.tensor([[[0.0, 0, -1], [0, -1, 0], [0, 0, 1]]])
    light = torch.tensor([[0, 0, -5, 0.5, 0.25, 0, 0.1, 0.2, 0.3]])
    lit = lighting.shade(colors, turned, outward, light)[0]
    torch.testing.assert_close(lit[0], torch.tensor([0.6, 0.45, 0.3]))
    torch.testing.assert_close(lit[1], torch.tensor([0.1, 0.2, 0.3]))
    torch.testing.assert_close(lit[2], torch.tensor([0.1, 0.2, 0.3]))
    zero = lighting.resolve(torch.zeros(1, 9))
    assert (zero[:, 3:] > 0).all()
    assert (lighting.resolve(torch.full((1, 9), -50.0))[:, 3:] > 0).all()


def test_normals_are_those_of_the_mesh():
    from facefind.systems.mesh.template import face_template

    mesh = face_template().mesh
    got = lighting.normals(torch.tensor(mesh.vertices)[None], torch.tensor(mesh.triangles))[0]
    np.testing.assert_allclose(got.numpy(), mesh.normals(), atol=1e-5)
    assert (got[:, 2] > -0.2).all()  # a face looks at the viewer
