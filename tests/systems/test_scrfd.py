from dataclasses import replace

import pytest
import torch

from facefind.learn.assigners import atss
from facefind.learn.targets import Target
from facefind.systems.scrfd import FAMILY

# One of each kind: depthwise and basic, with and without points, and a bottleneck.
KINDS = ["scrfd-500m", "scrfd-500m-kps", "scrfd-2.5g", "scrfd-2.5g-kps", "scrfd-34g-kps"]


@pytest.fixture(scope="module", params=KINDS)
def row(request):
    return request.param


@pytest.fixture(scope="module")
def network(row):
    torch.manual_seed(0)
    return FAMILY[row].build()


def test_candidates_have_the_contract_s_shapes(network):
    images = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)
    boxes, scores, points = network.eval().candidates(images)
    anchors = 2 * (8 * 12 + 4 * 6 + 2 * 3)
    assert boxes.shape == (2, anchors, 4)
    assert scores.shape == (2, anchors)
    assert points is None or points.shape == (2, anchors, 5, 2)
    assert (points is not None) == (network.head.kps is not None)
    assert ((scores > 0) & (scores < 1)).all()


def losses(network, targets):
    torch.manual_seed(1)
    network.train()
    outputs = network(torch.randint(0, 256, (len(targets), 3, 96, 96)).float())
    return network.losses(outputs, targets).terms


FACE = Target(
    boxes=torch.tensor([[20.0, 20, 52, 56]]),
    landmarks=torch.tensor([[[30.0, 30], [44, 30], [37, 38], [31, 46], [43, 46]]]),
    ignore=torch.zeros(0, 4),
)


def test_an_image_without_faces(network):
    terms = losses(network, [Target.empty(), Target.empty()])
    assert terms["cls"] > 0
    assert terms["box"] == 0
    assert terms.get("kps", 0) == 0
    sum(terms.values()).backward()
    for parameter in network.parameters():
        assert parameter.grad is not None
        assert torch.isfinite(parameter.grad).all()


def test_a_face_without_points_trains_its_box_only(network):
    bare = Target(FACE.boxes, torch.full((1, 5, 2), torch.nan), FACE.ignore)
    terms = losses(network, [bare])
    assert terms["box"] > 0
    assert terms.get("kps", 0) == 0
    if "kps" in terms:
        assert losses(network, [FACE])["kps"] > 0


def test_ignored_regions_take_no_part(network):
    everything = Target(
        *(getattr(Target.empty(), f) for f in ("boxes", "landmarks")),
        torch.tensor([[-1.0, -1, 97, 97]]),
    )
    assert losses(network, [everything])["cls"] == 0
    with_face = Target(FACE.boxes, FACE.landmarks, everything.ignore)
    assert 0 < losses(network, [with_face])["cls"] < losses(network, [FACE])["cls"]


@pytest.mark.parametrize("assigner", ["atss", "simota"])
def test_the_terms_fall_when_trained_on_one_image(assigner):
    torch.manual_seed(0)
    network = replace(FAMILY["scrfd-500m-kps"], assigner=assigner).build().train()
    image = torch.full((1, 3, 96, 96), 90.0)
    image[:, :, 20:56, 20:52] = 200
    optimizer = torch.optim.AdamW(network.parameters(), 3e-3)
    totals = []
    for _ in range(70):
        terms = network.losses(network(image), [FACE]).terms
        optimizer.zero_grad()
        sum(terms.values()).backward()
        optimizer.step()
        totals.append({k: v.item() for k, v in terms.items()})
    for name in ("box", "kps"):
        assert min(t[name] for t in totals[-10:]) < 0.5 * totals[0][name]


def test_the_weakest_is_the_lowest_score_of_an_image_s_positives(network):
    outputs = network(torch.randint(0, 256, (3, 3, 96, 96)).float())
    anchors = outputs.anchors
    outputs = replace(outputs, raw=outputs.raw._replace(logits=torch.randn(3, len(anchors.sizes))))
    second = Target(FACE.boxes + 30, FACE.landmarks, FACE.ignore)
    weakest = network.losses(outputs, [FACE, Target.empty(), second]).weakest
    assert weakest.shape == (3,)
    assert not weakest.requires_grad
    assert weakest.isnan().tolist() == [False, True, False]
    scores = outputs.raw.logits.sigmoid()
    for index, target in ((0, FACE), (2, second)):
        positive = atss(anchors, target.boxes) >= 0
        assert weakest[index].item() == pytest.approx(scores[index, positive].min().item())
