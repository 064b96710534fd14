"""What every system promises to training and detection, whatever its parts."""

from dataclasses import replace

import pytest
import torch
from kinds import FACE, KINDS, criterion, packed

from facefind.learn.targets import Target

BARE = replace(FACE, landmarks=torch.full((1, 5, 2), torch.nan))
EVERYWHERE = torch.tensor([[-40.0, -40, 240, 240]])


@pytest.fixture(scope="module", params=KINDS)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def network(kind):
    torch.manual_seed(0)
    return KINDS[kind].build()


@pytest.fixture(scope="module")
def losses(kind, network):
    """Losses of targets on random images."""
    learn = criterion(kind, network)
    # ASFD normalizes a map of stride 128, whose statistics need more than one cell.
    side = 160 if KINDS[kind].system == "asfd" else 96

    def of(targets):
        torch.manual_seed(1)
        network.train()
        outputs = network(torch.randint(0, 256, (len(targets), 3, side, side)).float())
        return learn(outputs, packed(targets, (side, side)))

    return of


def test_candidates_have_the_contract_s_shapes(kind, network):
    images = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)
    with torch.inference_mode():
        found = network.eval().candidates(images)
    config = KINDS[kind]
    strides = getattr(config, "strides", (8, 16, 32))
    per_cell = len(config.sizes[0]) if hasattr(config, "sizes") else 2
    if config.system == "smallhardface" and not config.three_maps:
        strides, per_cell = (8,), 3
    anchors = per_cell * sum(-(-64 // stride) * -(-96 // stride) for stride in strides)
    assert found.boxes.shape == (2, anchors, 4)
    assert found.scores.shape == (2, anchors)
    assert (found.landmarks is not None) == getattr(config, "landmarks", False)
    assert found.landmarks is None or found.landmarks.shape == (2, anchors, 5, 2)
    assert found.mesh is None
    assert ((found.scores > 0) & (found.scores < 1)).all()


def test_the_network_says_how_it_is_fed(kind, network):
    config = KINDS[kind]
    assert network.system == config.system
    assert network.strides == getattr(config, "strides", (8, 16, 32))
    assert network.size_multiple % (16 if config.system == "smallhardface" else 32) == 0


def test_an_image_without_faces_trains_every_weight(network, losses):
    found = losses([Target.empty(), Target.empty()])
    assert found.terms["cls"] > 0
    assert found.terms["box"] == 0
    assert found.terms.get("landmarks", 0) == 0
    assert found.min_positive_scores.isnan().all()
    network.zero_grad()
    sum(found.terms.values()).backward()
    for parameter in network.parameters():
        assert parameter.grad is not None
        assert torch.isfinite(parameter.grad).all()


def test_a_face_without_points_trains_its_box_only(losses):
    terms = losses([BARE]).terms
    assert terms["box"] > 0
    assert terms.get("landmarks", 0) == 0
    if "landmarks" in terms:
        assert losses([FACE]).terms["landmarks"] > 0
        assert losses([FACE, BARE]).terms["landmarks"] > 0


def test_ignored_regions_take_no_part(kind, losses):
    assert losses([replace(Target.empty(), ignore=EVERYWHERE)]).terms["cls"] == 0
    faces_alone = losses([replace(FACE, ignore=EVERYWHERE)]).terms["cls"]
    assert faces_alone > 0
    if KINDS[kind].system == "scrfd":  # a sum over anchors; the others' is a mean of those picked
        assert faces_alone < losses([FACE]).terms["cls"]


def test_the_least_positive_score_of_each_image_with_a_face(losses):
    weakest = losses([FACE, Target.empty(), BARE]).min_positive_scores
    assert weakest.shape == (3,)
    assert not weakest.requires_grad
    assert weakest.isnan().tolist() == [False, True, False]
    assert ((weakest[::2] > 0) & (weakest[::2] < 1)).all()


@pytest.mark.parametrize(
    ("kind", "images", "lr", "steps", "last", "bounds"),
    [
        # A score that is taught the quality of its box (SCRFD) may rise while boxes get better.
        ("scrfd-500m-kps", 1, 3e-3, 70, 10, {"box": 0.5, "landmarks": 0.5}),
        ("scrfd-simota", 1, 3e-3, 70, 10, {"box": 0.5, "landmarks": 0.5}),
        ("retinaface-paper", 1, 3e-3, 40, 1, {"cls": 0.5, "box": 0.5, "landmarks": 0.5}),
        ("smallhardface-light", 2, 5e-3, 40, 1, {"cls": 0.3, "box": 0.5}),
        ("dsfd-light", 2, 3e-3, 30, 5, {"cls": 0.3, "box": 0.3, "cls_aux": 0.3}),
        ("asfd-d0", 2, 8e-3, 22, 3, {"cls": 0.3, "box": 0.6, "cls_aux": 0.4}),
    ],
)
def test_the_terms_fall_when_trained_on_one_image(kind, images, lr, steps, last, bounds):
    """Below `bounds` of what they were at first, in the best of the `last` steps."""
    torch.manual_seed(0)
    network = KINDS[kind].build().train()
    learn, targets = criterion(kind, network), packed([FACE] * images)
    picture = torch.full((images, 3, 96, 96), 90.0)
    picture[:, :, 20:56, 20:52] = 200
    optimizer = torch.optim.AdamW(network.parameters(), lr)
    seen = []
    for _ in range(steps):
        found = learn(network(picture), targets)
        optimizer.zero_grad()
        sum(found.terms.values()).backward()
        optimizer.step()
        seen.append({name: term.item() for name, term in found.terms.items()})
    for name, bound in bounds.items():
        assert min(terms[name] for terms in seen[-last:]) < bound * seen[0][name]
    assert ((found.min_positive_scores > 0) & (found.min_positive_scores < 1)).all()
