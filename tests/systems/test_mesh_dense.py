from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from facefind.mesh.decoding import CAMERA
from facefind.systems.mesh import dense
from facefind.systems.mesh.config import MeshConfig
from facefind.systems.mesh.decoder import MeshDecoder
from facefind.systems.mesh.dense import DenseBranch, crops, spread
from facefind.systems.mesh.template import face_template
from facefind.systems.mesh.topology import levels

CONFIG = MeshConfig(size=24, landmarks=1.0, prior=0.1)


@pytest.fixture(scope="module")
def decoder():
    torch.manual_seed(0)
    template = face_template()
    network = MeshDecoder.over(levels(template.mesh))
    network.landmarks, network.mirror = template.landmarks, template.mirror
    with torch.no_grad():
        network.mean[:, 3:] = 0.5 + 0.4 * torch.sin(9 * network.mean[:, :2].sum(1, keepdim=True))
        network.last.weight *= 0.02
    return network


@pytest.fixture
def branch(decoder):
    return DenseBranch(decoder, CONFIG)


BOXES = torch.tensor([[4.0, 6, 44, 46], [20, 10, 60, 50]])
IMAGE = torch.tensor([0, 1])
UNKNOWN = torch.full((2, 5, 2), torch.nan)


def shown(branch, raw):
    """Images (2,3,64,64) in 0..255 in which the faces of `raw` are seen, and their points."""
    with torch.no_grad():
        whole = torch.tensor([[0.0, 0, 64, 64]]).expand(2, 4)
        picture = branch.render(branch.resolve(raw, BOXES), whole, 64, 0.1)
        points = picture.screen[:, branch.decoder.landmarks, :2]
    return 255 * picture.images, points


def test_a_face_compared_with_itself_costs_nothing_else_something(branch):
    raw = torch.zeros(2, 144)
    images, points = shown(branch, raw)
    same = branch.compare(raw, BOXES, IMAGE, images, points)
    assert set(same) == {"pixel", "mesh", "prior"}
    assert same["mesh"] < 1e-9
    assert same["prior"] == 0
    aside = raw.clone()
    aside[:, CAMERA.start] = 0.15
    other = branch.compare(aside, BOXES, IMAGE, images, points)
    assert same["pixel"] < 0.3 * other["pixel"]
    assert other["mesh"] > 0.01


def test_all_144_numbers_have_gradients_and_the_frozen_decoder_none(branch):
    raw = (0.1 * torch.randn(2, 144, generator=torch.Generator().manual_seed(0))).requires_grad_()
    images = torch.rand(2, 3, 64, 64) * 255
    terms = branch.compare(raw, BOXES, IMAGE, images, UNKNOWN)
    assert terms["mesh"] == 0  # no face has points
    terms["pixel"].backward()
    assert (raw.grad != 0).all()
    assert all(p.grad is None for p in branch.decoder.parameters())


def test_the_loss_is_equation_3(branch, decoder):
    """The mean over a crop's pixels of the L1 distance; uncovered ones show the image itself."""
    raw = torch.zeros(2, 144)
    images = torch.rand(2, 3, 64, 64) * 255
    with torch.no_grad():
        goal, _ = crops(images, IMAGE, BOXES, 24)
        seen = branch.render(branch.resolve(raw, BOXES), BOXES, 24, goal / 255)
        wanted = (255 * seen.images - goal).abs().sum(1).mean()
        share = seen.covered.float().mean()
    terms = branch.compare(raw, BOXES, IMAGE, images, UNKNOWN)
    torch.testing.assert_close(terms["pixel"], 0.01 * wanted)
    covered = DenseBranch(decoder, replace(CONFIG, mean="covered"))
    terms = covered.compare(raw, BOXES, IMAGE, images, UNKNOWN)
    torch.testing.assert_close(terms["pixel"], 0.01 * wanted / share, rtol=1e-2, atol=0)


def test_nothing_to_render_is_zero_with_gradients(branch):
    small = torch.tensor([[4.0, 6, 14, 16], [20, 10, 30, 20]])
    for boxes, raw in ((small, torch.zeros(2, 144)), (BOXES[:0], torch.zeros(0, 144))):
        raw.requires_grad_()
        count = len(boxes)
        terms = branch.compare(
            raw, boxes, IMAGE[:count], torch.zeros(2, 3, 64, 64), UNKNOWN[:count]
        )
        assert sum(terms.values()) == 0
        sum(terms.values()).backward()
        assert (raw.grad == 0).all()


def test_the_number_of_rendered_anchors_is_limited(decoder):
    branch = DenseBranch(decoder, replace(CONFIG, max_anchors=1))
    raw = torch.zeros(2, 144, requires_grad=True)
    branch.compare(raw, BOXES, IMAGE, torch.rand(2, 3, 64, 64), UNKNOWN)["pixel"].backward()
    assert (raw.grad.abs().sum(1) > 0).sum() == 1


def test_descent_finds_a_moved_face(branch):
    goal = torch.zeros(2, 144)
    goal[:, CAMERA] = torch.tensor([0.06, -0.05, 0.0, 0.1, -0.2, 0.1, 0.1])
    images, points = shown(branch, goal)
    raw = torch.zeros(2, 144, requires_grad=True)
    optimizer = torch.optim.Adam([raw], 0.02)
    history = []
    for _ in range(50):
        terms = branch.compare(raw, BOXES, IMAGE, images, points)
        optimizer.zero_grad()
        sum(terms.values()).backward()
        optimizer.step()
        history.append((terms["pixel"].item(), terms["mesh"].item()))
    assert history[-1][0] < 0.6 * history[0][0]
    assert history[-1][1] < 0.2 * history[0][1]


def test_a_crop_is_the_image_s_part():
    images = torch.arange(2 * 3 * 16 * 16, dtype=torch.float32).reshape(2, 3, 16, 16)
    found, within = crops(images, torch.tensor([1]), torch.tensor([[2.0, 4, 10, 12]]), 8)
    torch.testing.assert_close(found[0], images[1, :, 4:12, 2:10], rtol=1e-4, atol=0.01)
    assert within.all()
    found, within = crops(images, torch.tensor([0]), torch.tensor([[-4.0, 4, 4, 12]]), 8)
    np.testing.assert_array_equal(within[0].numpy(), np.arange(8)[None].repeat(8, 0) >= 4)
    assert (found[0, :, :, :4] == 0).all()


def test_the_landmark_term_needs_landmarks(decoder):
    plain = MeshDecoder.from_decoder(decoder.frozen())
    plain.landmarks = None
    with pytest.raises(ValueError, match="--landmarks"):
        DenseBranch(plain, CONFIG)
    DenseBranch(plain, MeshConfig())


@pytest.mark.parametrize("most", [1, 2, 5, 16, 40])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 5, 17, 40])
def test_a_selection_is_spread_evenly_over_what_is_masked(most, count):
    """As many as are masked up to `most`, the first and the last among them, at even steps."""
    generator = torch.Generator().manual_seed(count)
    mask = torch.zeros(40, dtype=torch.bool)
    mask[torch.randperm(40, generator=generator)[:count]] = True
    chosen, real = spread(mask, most)
    assert chosen.shape == real.shape == (most,)
    assert real.tolist() == [1.0] * min(most, count) + [0.0] * (most - min(most, count))
    masked = mask.nonzero().flatten().tolist()
    picked = chosen[real > 0].tolist()
    assert len(set(picked)) == len(picked)
    assert set(picked) <= set(masked)
    if count <= most:
        assert picked == masked
    elif most > 1:
        ranks = [masked.index(index) for index in picked]
        steps = [after - before for before, after in pairwise(ranks)]
        assert (ranks[0], ranks[-1]) == (0, count - 1)
        assert max(steps) - min(steps) <= 1
    assert ((chosen >= 0) & (chosen < 40)).all()


def test_a_selection_is_of_one_size_and_reads_nothing_back():
    assert [len(spread(torch.ones(n, dtype=torch.bool), 4)[0]) for n in (1, 3, 4, 9)] == [
        1,
        3,
        4,
        4,
    ]
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        spread(torch.rand(50) > 0.5, 4)
    names = {event.name for event in profile.events()}
    assert "aten::searchsorted" in names
    assert not names & {"aten::item", "aten::_local_scalar_dense", "aten::nonzero"}


def test_what_is_not_positive_is_not_rendered(branch):
    raw = torch.zeros(2, 144, requires_grad=True)
    images = torch.rand(2, 3, 64, 64) * 255
    positive = torch.tensor([False, True])
    terms = branch.compare(raw, BOXES, IMAGE, images, UNKNOWN, positive)
    alone = branch.compare(raw[1:], BOXES[1:], IMAGE[1:], images, UNKNOWN[1:])
    for name, term in alone.items():
        torch.testing.assert_close(terms[name], term)
    terms["pixel"].backward()
    assert (raw.grad != 0).any(1).tolist() == [False, True]
    none = branch.compare(raw, BOXES, IMAGE, images, UNKNOWN, torch.zeros(2, dtype=torch.bool))
    assert all(term == 0 for term in none.values())
    wild = torch.tensor([[torch.inf], [0.0]]).expand(2, 144)
    other = branch.compare(wild, BOXES, IMAGE, images, UNKNOWN, positive)
    assert {name: term.item() for name, term in other.items()} == pytest.approx(
        {name: term.item() for name, term in alone.items()}
    )


def test_processes_divide_by_the_anchors_of_all(branch, monkeypatch):
    """One renders an anchor, one renders two: the mean of their losses is that of one process."""
    boxes = torch.cat([BOXES, BOXES[:1] + 8])
    image, raw = torch.tensor([0, 1, 1]), 0.1 * torch.randn(3, 144)
    images, points = torch.rand(2, 3, 64, 64) * 255, torch.rand(3, 5, 2) * 64
    points[0, 1:] = torch.nan
    whole = branch.compare(raw, boxes, image, images, points)
    parts = (slice(0, 1), slice(1, 3))

    def compared(part, mean):
        monkeypatch.setattr(dense, "mean_over_processes", mean)
        rows = (raw[part], boxes[part], image[part], images, points[part])
        return branch.compare(*rows)

    counts: list[list[torch.Tensor]] = [[], []]
    for part, seen in zip(parts, counts, strict=True):
        compared(part, lambda count, seen=seen: seen.append(count) or count)
    both = []
    for part in parts:
        shared = iter(zip(*counts, strict=True))
        both.append(compared(part, lambda _, shared=shared: sum(next(shared)) / 2))
    for name, term in whole.items():
        torch.testing.assert_close((both[0][name] + both[1][name]) / 2, term)


def test_small_anchors_are_not_rendered(decoder):
    raw = torch.zeros(2, 144, requires_grad=True)
    boxes = torch.tensor([[4.0, 6, 44, 46], [20, 10, 43, 33]])  # sides of 40 and 23
    images = torch.rand(2, 3, 64, 64) * 255
    for least, rendered in ((24.0, [True, False]), (23.0, [True, True]), (41.0, [False, False])):
        branch = DenseBranch(decoder, replace(CONFIG, min_anchor=least))
        raw.grad = None
        branch.compare(raw, boxes, IMAGE, images, UNKNOWN)["pixel"].backward()
        assert (raw.grad != 0).any(1).tolist() == rendered
