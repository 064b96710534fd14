"""SmallHardFace: counts, anchors, targets, hard anchors, losses, the weakest positive."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kinds import CRITERIA, packed, target
from kinds import SMALLHARDFACE as KINDS
from reference import smallhardface_targets as oracle
from torch import nn
from torch.nn import functional

from facefind.learn.criterion_config import CriterionConfig, SamplerConfig
from facefind.learn.samplers import OHEMQuota
from facefind.nn.cost import measure
from facefind.nn.detector import DenseOutput
from facefind.nn.heads import DilatedHead
from facefind.nn.necks import FusedMap
from facefind.nn.upsampling import FixedBilinear
from facefind.systems.smallhardface import CRITERION, DILATIONS, ROWS, SmallHardFaceConfig

# Parameters, and multiply-adds of convolutions at 640x480.
COUNTS = {
    "smallhardface": (18_077_010, 111_035_596_800),
    "smallhardface-single": (17_929_426, 108_912_230_400),
    "smallhardface-three": (19_111_652, 109_795_584_000),
    "smallhardface-light": (300_298, 982_732_800),
}


@pytest.fixture(params=KINDS)
def kind(request) -> str:
    return request.param


def build(config: SmallHardFaceConfig, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return config.build()


@pytest.mark.parametrize("row", ROWS)
def test_counts(row):
    with torch.device("meta"):
        cost = measure(ROWS[row].build(), 480, 640)
    assert (cost.parameters, cost.multiply_adds) == COUNTS[row]


def test_the_full_model_is_vgg_and_3_362_322_more():
    with torch.device("meta"):
        parts = measure(ROWS["smallhardface"].build(), 32, 32).parts
    assert parts["backbone"]["parameters"] == 14_714_688
    assert parts["neck"]["parameters"] + parts["head"]["parameters"] == 3_362_322


def test_one_map_takes_sizes_that_are_multiples_of_16():
    network = build(KINDS["smallhardface-full"])
    found = network.candidates(torch.zeros(1, 3, 48, 16))
    assert (found.boxes.shape[1], network.size_multiple) == (6 * 2 * 3, 16)
    build(KINDS["smallhardface-three"]).candidates(torch.zeros(1, 3, 48, 16))


def test_the_anchors_of_a_small_image():
    anchors = build(KINDS["smallhardface-full"])(torch.zeros(1, 3, 32, 32)).anchors
    windows = oracle.anchors(4, 4)
    assert windows[:3].tolist() == [[0, 0, 15, 15], [-8, -8, 23, 23], [-24, -24, 39, 39]]
    # Ours end where the next pixel begins, the released ones on the last pixel.
    assert torch.equal(anchors.boxes, torch.tensor(windows + np.array([0, 0, 1, 1])).float())
    assert anchors.per_level == (48,)


def test_three_maps_carry_six_sizes():
    anchors = build(KINDS["smallhardface-three"])(torch.zeros(1, 3, 64, 64)).anchors
    assert anchors.per_level == (128, 32, 8)
    assert sorted(set(anchors.sizes[:, 0].tolist())) == [16, 32, 64, 128, 256, 512]
    assert torch.equal(anchors.sizes[:, 0], anchors.sizes[:, 1])
    assert anchors.boxes[0].tolist() == [0, 0, 16, 16]


def test_the_three_branches_share_one_convolution():
    torch.manual_seed(0)
    head = DilatedHead(6, 8, DILATIONS, norm=False)
    assert [name for name, p in head.named_parameters() if p.shape == (8, 8, 3, 3)] == [
        "shared.weight"
    ]
    x = torch.randn(2, 6, 9, 11)
    raw = head([x])
    inside, weight = head.reduce(x), head.shared.weight
    for branch, dilation in enumerate((1, 2, 4)):
        seen = functional.conv2d(inside, weight, head.shared.bias, 1, dilation, dilation).relu()
        logits = head.cls[branch](seen).permute(0, 2, 3, 1).reshape(2, 99, 2)
        deltas = head.box[branch](seen).permute(0, 2, 3, 1).reshape(2, 99, 4)
        torch.testing.assert_close(raw.logits[:, branch::3], logits)
        torch.testing.assert_close(raw.boxes[:, branch::3], deltas)
        (grad,) = torch.autograd.grad(raw.logits[:, branch::3].sum(), weight, retain_graph=True)
        assert grad.abs().sum() > 0


def test_the_fused_map_takes_the_coarser_map_first_enlarged():
    torch.manual_seed(0)
    neck = FusedMap((3, 5), 4, 6, FixedBilinear(), pyramid=True)
    fine, coarse = torch.randn(1, 3, 8, 12), torch.randn(1, 5, 4, 6)
    up = FixedBilinear()(neck.coarse(coarse))
    both = torch.cat([up, neck.fine(fine)], 1)
    maps = neck([fine, coarse])
    torch.testing.assert_close(maps[0], neck.fuse(both))
    assert torch.equal(maps[1], coarse)
    assert torch.equal(maps[2], functional.max_pool2d(coarse, 2))
    assert neck.widths == (6, 5, 5)


def test_a_plain_head_keeps_the_order_of_the_anchors():
    network = build(KINDS["smallhardface-single"])
    with torch.no_grad():
        for parameter in network.head.parameters():
            parameter.zero_()
        network.head.cls[0].bias.copy_(torch.tensor([1.0, 2, 3, 4, 5, 6]))  # classes, then anchors
        network.head.box[0].bias.copy_(torch.arange(12.0))
    raw = network(torch.zeros(1, 3, 16, 16))
    assert raw.logits[0, :4].tolist() == [[1, 4], [2, 5], [3, 6], [1, 4]]
    assert raw.boxes[0, 1].tolist() == [4, 5, 6, 7]


def test_the_dilated_head_has_one_map_only():
    with pytest.raises(ValueError, match="dilated off"):
        replace(KINDS["smallhardface-three"], dilated=True).build()


def test_numbers_of_another_backbone_are_refused():
    with pytest.raises(ValueError, match="expected 3 depths, 3 widths and 2 stem channels"):
        replace(ROWS["smallhardface"], block="depthwise").build()
    with pytest.raises(ValueError, match="expected 5 depths"):
        replace(ROWS["smallhardface-light"], block="vgg").build()


NETWORK = KINDS["smallhardface-full"].build()
RULES = {"plain": CRITERION, "released": CRITERIA["smallhardface-released"]}


def criterion(rules: str | CriterionConfig = "released"):
    return (RULES[rules] if isinstance(rules, str) else rules).build(NETWORK)


def match(outputs, one, rules="released"):
    """What the anchors (A,) of one image learn, before they are sampled.

    Labels, which anchors learn a box, and these boxes (A,4).
    """
    seen = []
    everything = replace(RULES[rules], sampler=SamplerConfig(kind="all"))
    learn = criterion(everything)
    learn.terms = {"spy": lambda matched: seen.append(matched) or {}}
    learn(outputs, packed([one], outputs.images.shape[-2:]))
    (found,) = seen
    return found.labels[0], found.box_face[0] < len(found.targets.boxes), found.boxes[0]


def losses(outputs, targets, rules="released"):
    return criterion(rules)(outputs, packed(targets, outputs.images.shape[-2:]))


def made_outputs(height, width, seed=0, images=1):
    """Outputs of the right anchors with random numbers in them."""
    generator = torch.Generator().manual_seed(seed)
    anchors = NETWORK.anchors([(height // 8, width // 8)])
    logits = 3 * torch.randn(images, len(anchors), 2, generator=generator)
    deltas = torch.randn(images, len(anchors), 4, generator=generator)
    pictures = torch.zeros(images, 3, height, width)
    return DenseOutput(logits, deltas, None, anchors, NETWORK.coder, pictures)


faces = st.lists(
    st.tuples(st.integers(-4, 70), st.integers(-4, 50), st.integers(6, 70), st.integers(6, 70)),
    max_size=6,
)


@settings(max_examples=40, deadline=None)
@given(faces, st.integers(0, 1000))
def test_targets_and_losses_are_the_released_code_s(some, seed):
    boxes = [[x, y, x + w, y + h] for x, y, w, h in some]
    outputs = made_outputs(64, 96, seed)
    found, learned, goals = match(outputs, target(boxes))
    windows = oracle.anchors(8, 12)
    labels, regressed, goal = oracle.targets(windows, np.array(boxes, float), 64, 96)
    assert found.tolist() == labels.tolist()
    assert learned.tolist() == regressed.tolist()
    ours = NETWORK.coder.encode(goals, outputs.anchors)
    np.testing.assert_allclose(ours[learned].numpy(), goal[regressed], atol=1e-5)

    found = losses(outputs, [target(boxes)])
    logits, deltas = (v[0].double().numpy() for v in (outputs.logits, outputs.boxes))
    cls, box, weakest = oracle.losses(logits, deltas, labels, regressed, goal)
    assert found.terms["cls"].item() == pytest.approx(cls, rel=1e-4)
    assert found.terms["box"].item() == pytest.approx(box, rel=1e-4)
    assert found.min_positive_scores.item() == pytest.approx(weakest, rel=1e-4, nan_ok=True)


def test_boxes_are_decoded_as_the_released_code_does():
    outputs = made_outputs(32, 48)
    got = NETWORK.decode(outputs).boxes[0]
    windows = oracle.anchors(4, 6)
    deltas = outputs.boxes[0].numpy()
    want = [oracle.decode(d, w) for d, w in zip(deltas, windows, strict=True)]
    np.testing.assert_allclose(got.numpy(), want, rtol=1e-5, atol=1e-3)


def test_without_the_extra_pixel_a_box_is_learned_as_it_is():
    outputs, face = made_outputs(64, 96), [40.0, 24, 58, 41]
    _, learned, boxes = match(outputs, target([face]), "plain")
    goal = NETWORK.coder.encode(boxes, outputs.anchors)
    back = NETWORK.coder.decode(goal, outputs.anchors)[learned]
    assert len(back)
    torch.testing.assert_close(back, torch.tensor([face]).expand_as(back))
    _, learned, boxes = match(outputs, target([face]))
    assert boxes[learned][0].tolist() == [40, 24, 59, 42]


def test_no_face_gets_an_anchor_by_force():
    some = target([[0, 0, 200, 200], [20, 20, 26, 26]])
    labels, learned, _ = match(made_outputs(64, 96), some)
    assert not (labels == 1).any()
    assert not learned.any()


@pytest.mark.parametrize(
    ("anchor", "overlap", "label", "learned"),
    [
        ([32.0, 40, 48, 56], 224 / 288, 1, True),
        ([32.0, 32, 48, 48], 160 / 352, -1, True),
        ([32.0, 24, 48, 40], 32 / 480, 0, False),
    ],
)
def test_between_the_thresholds_a_box_is_learned_and_no_score(anchor, overlap, label, learned):
    outputs, face = made_outputs(64, 96), [32.0, 38, 48, 54]
    labels, learns, _ = match(outputs, target([face]), "plain")
    place = (outputs.anchors.boxes == torch.tensor(anchor)).all(1).nonzero().item()
    last = np.array([0, 0, 1, 1])
    assert oracle.overlap(anchor - last, face - last) == pytest.approx(overlap)
    assert (labels[place], learns[place]) == (label, learned)


def test_anchors_that_leave_the_image_take_no_part():
    outputs = made_outputs(64, 96)
    boxes = outputs.anchors.boxes
    labels, _, _ = match(outputs, target([]))
    inside = (boxes >= 0).all(1) & (boxes[:, 2] <= 96) & (boxes[:, 3] <= 64)
    assert torch.equal(labels, torch.where(inside, 0, -1))
    padded, _, _ = match(outputs, replace(target([]), size=(40, 80)))
    inside &= (boxes[:, 2] <= 80) & (boxes[:, 3] <= 40)
    assert torch.equal(padded, torch.where(inside, 0, -1))
    nowhere, _, _ = match(made_outputs(16, 16), replace(target([]), size=(12, 12)))
    assert (nowhere == 0).all()  # none lies inside: all count


def test_ignored_regions_are_no_background():
    outputs = made_outputs(64, 96)
    labels, _, _ = match(outputs, target([[30, 20, 50, 40]], ignore=[[-1, -1, 97, 65]]))
    assert (labels == 1).any()
    assert not (labels == 0).any()


def test_sixty_four_of_many_positives_and_256_in_all():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(-1, 2, (2, 900), generator=generator)
    labels[1, labels[1] == 1] = 0
    scores = torch.rand(2, 900, generator=generator)
    picked = OHEMQuota()(labels, scores)
    assert ((picked == 1).sum(1).tolist(), (picked == 0).sum(1).tolist()) == ([64, 0], [192, 256])
    assert scores[0, picked[0] == 1].max() <= scores[0, (labels[0] == 1) & (picked[0] == -1)].min()
    assert scores[0, picked[0] == 0].min() >= scores[0, (labels[0] == 0) & (picked[0] == -1)].max()


def test_a_smaller_quota_learns_fewer_anchors_of_each_image():
    rules = replace(CRITERION, sampler=replace(CRITERION.sampler, positives=2, total=6))
    outputs = made_outputs(64, 96, images=2)
    outputs.logits.requires_grad_()
    targets = [target([[10, 10, 42, 42], [50, 20, 80, 50]]), target([])]
    assert (match(made_outputs(64, 96), targets[0], "plain")[0] == 1).sum() > 2
    losses(outputs, targets, rules).terms["cls"].backward()
    learned = (outputs.logits.grad != 0).any(-1)
    faces = outputs.logits.grad[..., 1] < 0  # scores that are to rise
    assert learned.sum(1).tolist() == [6, 6]
    assert faces.sum(1).tolist() == [2, 0]


def test_the_lowest_positive_score_is_that_before_sampling():
    """Among more than 64 positives, and NaN where an image has none."""
    outputs = made_outputs(256, 256, images=3)
    crowd = [[x, y, x + 16, y + 16] for x in range(0, 240, 16) for y in range(0, 240, 16)]
    targets = [target(crowd), target([]), target([[0, 0, 250, 250]])]
    labels, _, _ = match(made_outputs(256, 256), targets[0])
    assert (labels == 1).sum() > 64
    scores = outputs.logits.softmax(-1)[0, labels == 1, 1]
    lowest = losses(outputs, targets).min_positive_scores
    assert lowest[0].item() == pytest.approx(scores.min().item(), rel=1e-4)
    assert lowest[1:].isnan().all()


def test_every_image_counts_alike():
    outputs = made_outputs(64, 96, images=2)
    targets = [target([[30, 20, 50, 40]]), target([[10, 10, 70, 60], [60, 30, 80, 50]])]
    both = losses(outputs, targets).terms
    for name, value in both.items():
        alone = []
        for i in range(2):
            row = slice(i, i + 1)
            one = replace(outputs, logits=outputs.logits[row], boxes=outputs.boxes[row])
            alone.append(losses(one, targets[row]).terms[name])
        torch.testing.assert_close(value, sum(alone) / 2)
