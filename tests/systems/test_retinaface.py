from dataclasses import replace

import pytest
import torch
from kinds import FACE, RETINAFACE

from facefind.learn.assigners import by_iou
from facefind.learn.targets import Target
from facefind.systems.retinaface import LossWeights, Matching


@pytest.fixture(scope="module", params=RETINAFACE)
def config(request):
    return RETINAFACE[request.param]


@pytest.fixture(scope="module")
def network(config):
    torch.manual_seed(0)
    return config.build()


def test_candidates_are_softmax_scores_and_decoded_boxes(network):
    images = torch.randint(0, 256, (1, 3, 64, 96), dtype=torch.uint8)
    network.eval()
    outputs = network(images)
    boxes, scores, _ = network.candidates(images)
    wanted = outputs.classes.softmax(-1)[..., 1]
    if network.stride4_score_scale != 1:
        wanted[:, : outputs.anchors.per_level[0]] *= network.stride4_score_scale
    torch.testing.assert_close(scores, wanted)
    anchors = outputs.anchors
    sides = boxes[..., 2:] - boxes[..., :2] + float(network.boxes.plus_one)
    stds = torch.tensor(network.boxes.stds)
    torch.testing.assert_close(
        sides.log(), (outputs.deltas * stds)[..., 2:] + anchors.sizes.log()[:, None]
    )
    middle = (boxes[..., 2:] + boxes[..., :2]) / 2
    shift = (outputs.deltas * stds)[..., :2] * anchors.sizes[:, None]
    torch.testing.assert_close(middle, anchors.centers + shift, atol=1e-3, rtol=1e-5)


def example(config, targets):
    """Random outputs of a network in float64, with the network."""
    torch.manual_seed(0)
    network = config.build().double().eval()
    outputs = network(torch.zeros(len(targets), 3, 96, 96))
    draw = {
        part: torch.randn_like(value, requires_grad=True)
        for part in ("classes", "deltas", "offsets")
        if (value := getattr(outputs, part)) is not None
    }
    return network, replace(outputs, **draw)


PAPER = RETINAFACE["retinaface-paper"]
SECOND = Target(FACE.boxes + 30, torch.full((1, 5, 2), torch.nan), FACE.ignore)
TARGETS = [FACE, Target.empty(), SECOND]


def smooth(gap, bend):
    gap = abs(gap)
    return gap**2 / (2 * bend) if gap < bend else gap - bend / 2


@pytest.mark.parametrize("kind", ["retinaface-paper", "retinaface-released"])
def test_the_terms_are_equation_1_anchor_by_anchor(kind):
    config = replace(RETINAFACE[kind], matching=replace(RETINAFACE[kind].matching, least=5))
    network, outputs = example(config, TARGETS)
    rules, weights = config.matching, config.loss
    at = outputs.anchors.boxes.double()
    cls = box = kps = picked = positives = pointed = 0
    for index, target in enumerate(TARGETS):
        found = by_iou(
            at, target.boxes.double(), positive=rules.positive, negative=rules.negative,
            force=rules.force,
        ).assigned.tolist()  # fmt: skip
        chance = outputs.classes[index].softmax(-1)
        faces = [a for a, face in enumerate(found) if face >= 0]
        background = [a for a, face in enumerate(found) if face == -1]
        background.sort(key=lambda a: chance[a, 1].item(), reverse=True)
        kept = background[: max(int(rules.ratio) * len(faces), 5)]
        picked += len(faces) + len(kept)
        cls -= sum(chance[a, 1].log().item() for a in faces)
        cls -= sum(chance[a, 0].log().item() for a in kept)
        for a in faces:
            positives += 1
            side = at[a, 2] - at[a, 0]
            center = (at[a, :2] + at[a, 2:]) / 2
            real = target.boxes[found[a]].double()
            want = [
                *((real[:2] + real[2:]) / 2 - center) / side / config.box_stds[0],
                *((real[2:] - real[:2]) / side).log() / config.box_stds[2],
            ]
            box += sum(
                smooth((d - w).item(), weights.bend)
                for d, w in zip(outputs.deltas[index, a], want, strict=True)
            )
            points = target.landmarks[found[a]].double()
            if points.isfinite().all():
                pointed += 1
                goal = (points - center) / side / config.point_std
                gaps = (outputs.offsets[index, a] - goal).flatten()
                kps += sum(smooth(gap.item(), weights.bend) for gap in gaps)
    terms = network.losses(outputs, TARGETS).terms
    assert positives > pointed > 0
    want = {
        "cls": weights.cls * cls * (1 + rules.ratio) / picked,
        "box": weights.box * box / positives,
        "kps": weights.points * kps / pointed,
    }
    assert {name: term.item() for name, term in terms.items()} == pytest.approx(want, rel=1e-5)


def test_only_what_is_picked_gets_a_gradient():
    network, outputs = example(PAPER, TARGETS)
    sum(network.losses(outputs, TARGETS).terms.values()).backward()
    learned = (outputs.classes.grad != 0).any(-1).sum(1)
    regressed = (outputs.deltas.grad != 0).any(-1).sum(1)
    pointed = (outputs.offsets.grad != 0).flatten(2).any(-1).sum(1)
    rules = PAPER.matching
    for index in range(3):
        assert learned[index] == regressed[index] + max(3 * int(regressed[index]), rules.least)
    assert regressed[0] > 0
    assert pointed.tolist() == [regressed[0].item(), 0, 0]


def test_a_quota_holds_on_every_level():
    config = RETINAFACE["retinaface-authors"]
    big = replace(FACE, boxes=torch.tensor([[8.0, 8, 72, 72]]))  # a face of the second level
    network, outputs = example(config, [big])
    network.losses(outputs, [big]).terms["cls"].backward()
    learned = (outputs.classes.grad != 0).any(-1)[0]
    levels = learned.split(outputs.anchors.per_level)
    at = outputs.anchors.corners(plus_one=True)
    found = by_iou(at, big.boxes, positive=0.5, negative=0.3, plus_one=True).assigned
    counted = [int(level.sum()) for level in (found > -2).split(outputs.anchors.per_level)]
    assert counted[0] > 256 > counted[1] > counted[2]
    assert [int(level.sum()) for level in levels] == [256, *counted[1:]]


def test_the_weakest_is_the_lowest_score_of_an_image_s_positives(network):
    outputs = network(torch.randint(0, 256, (3, 3, 96, 96)).float())
    outputs = replace(outputs, classes=torch.randn_like(outputs.classes))
    weakest = network.losses(outputs, TARGETS).min_positive_scores
    assert weakest.shape == (3,)
    assert not weakest.requires_grad
    assert weakest.isnan().tolist() == [False, True, False]
    scores = outputs.classes.softmax(-1)[..., 1]
    plus_one, rules = network.boxes.plus_one, network.matching
    for index in (0, 2):
        found = by_iou(
            outputs.anchors.corners(plus_one=plus_one), TARGETS[index].boxes,
            positive=rules.positive, negative=rules.negative, plus_one=plus_one, force=rules.force,
        )  # fmt: skip
        positive = found.assigned >= 0
        assert weakest[index].item() == pytest.approx(scores[index, positive].min().item())


def test_the_paper_s_numbers():
    rules, weights = Matching(), LossWeights()
    assert (rules.positive, rules.negative, rules.ratio) == (0.5, 0.3, 3)
    assert rules.force is None
    assert (weights.cls, weights.box, weights.points) == (1, 0.25, 0.1)
