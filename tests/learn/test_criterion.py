"""The criterion: its terms by hand, its auxiliary shots, and that parts go together."""

import math
from dataclasses import replace

import pytest
import torch
from kinds import FACE, packed, target
from random_outputs import PARTS, crowd, maps, random_output

from facefind.learn.assigners import ATSS, MaxIoU, SimOTA
from facefind.learn.criterion import (
    BoxLoss,
    Criterion,
    CrossEntropy,
    LandmarkLoss,
    QualityFocal,
    rows_or_zeros,
)
from facefind.learn.criterion_config import (
    AssignerConfig,
    ClassificationConfig,
    CriterionConfig,
    SamplerConfig,
)
from facefind.learn.samplers import AllAnchors, OHEMQuota, OHEMRatio
from facefind.learn.targets import Target
from facefind.nn.anchors import AnchorGrid
from facefind.nn.coders import AnchorBoxCoder, DistanceCoder
from facefind.systems import retinaface, scrfd, smallhardface

# --- what each term is, by hand ---------------------------------------------------------------

COARSE = AnchorGrid((16,), ((32.0,),), 16.0)([(6, 6)])
"""Anchors of 32 pixels around (16,16), (32,16), ...: a third of each is shared with the next."""
ON_ANCHOR = torch.tensor([[16.0, 16, 48, 48]])
"""A face that is the anchor of row 1 and column 1."""
AT = 7


def zeros(anchors=COARSE, logits=1, images=1):
    """An output of zeros: scores of 0.5, boxes that are the anchors, landmarks at their centers."""
    output = random_output(anchors, AnchorBoxCoder(), images, logits)
    return replace(
        output, **{p: torch.zeros_like(getattr(output, p)).requires_grad_() for p in PARTS}
    )


def test_cross_entropy_is_divided_by_the_positives_and_not_by_what_was_sampled():
    """Four positives and thirty negatives at a score of 1/2: 34 ln 2 / 4."""
    boxes = torch.cat([ON_ANCHOR + 32 * torch.tensor([[x, y, x, y]]) for x, y in
                       ((0, 0), (1, 0), (0, 1), (1, 1))])  # fmt: skip
    config = replace(retinaface.CRITERION, sampler=SamplerConfig(kind="ohem", min_negatives=30))
    wide = AnchorGrid((16,), ((32.0,),), 16.0)([(12, 12)])
    terms = learn(config)(zeros(wide, logits=2), packed([target(boxes)], (192, 192))).terms
    assert terms["cls"].item() == pytest.approx(34 * math.log(2) / 4)
    assert terms["cls"].item() == pytest.approx(5.89, abs=0.01)
    # An image without faces counts as if it had one positive anchor.
    two = packed([target(boxes), Target.empty()], (192, 192))
    terms = learn(config)(zeros(wide, logits=2, images=2), two).terms
    assert terms["cls"].item() == pytest.approx((34 + 30) * math.log(2) / 5)


def learn(config, landmarks=True):
    class Network:
        mesh, inclusive_pixels, logit_scale = None, False, 1.0

    made = config.build(Network())
    if not landmarks:
        del made.terms["landmarks"]
    return made


def test_the_averages_of_cross_entropy():
    output = replace(zeros(images=2), logits=torch.randn(2, 36, 1))
    entropy = torch.nn.functional.softplus(output.logits[..., 0])
    entropy[0, AT] -= output.logits[0, AT, 0]
    neighbors = MaxIoU().assign(COARSE, packed([target(ON_ANCHOR)])).face[0] == -2
    sampled = torch.stack([~neighbors, torch.ones(36, dtype=torch.bool)])
    assert neighbors.sum() == 4
    entropy = entropy * sampled
    want = {
        "positives": entropy.sum() / 2,
        "sampled": entropy.sum() / sampled.sum(),
        "images": (entropy.sum(1) / sampled.sum(1)).mean(),
    }
    for average, value in want.items():
        term = CrossEntropy(3.0, average)
        made = Criterion(MaxIoU(), AllAnchors(), {"cls": term})
        found = made(output, packed([target(ON_ANCHOR), Target.empty()])).terms["cls"]
        torch.testing.assert_close(found, 3 * value)


POINTS = torch.tensor([[16.0, 32], [48, 32], [32, 32], [24, 56], [32, 16]])
"""Landmarks whose shifts from the center of `AT` are -1/2, 0; 1/2, 0; 0, 0; -1/4, 3/4; 0, -1/2."""
HALF_SQUARES = torch.tensor([1 / 8, 1 / 8, 0, 1 / 32 + 9 / 32, 1 / 8])


@pytest.mark.parametrize("missing", [None, 0, 2, 3])
@pytest.mark.parametrize("by_score", [False, True])
def test_the_visible_landmarks_of_a_face_are_learned_without_the_others(missing, by_score):
    points = POINTS.clone()
    visible = torch.ones(5, dtype=torch.bool)
    if missing is not None:
        points[missing, missing % 2] = torch.nan  # half a landmark is none
        visible[missing] = False
    face = Target(ON_ANCHOR, points[None], torch.zeros(0, 4))
    made = Criterion(MaxIoU(), AllAnchors(), {"landmarks": LandmarkLoss(0.2, 1.0, by_score)})
    output = zeros()
    found = made(output, packed([face])).terms["landmarks"]
    want = HALF_SQUARES[visible].sum().item()
    assert want > 0
    part = 1 if by_score else visible.sum().item() / 5
    assert found.item() == pytest.approx(0.2 * want / part)
    found.backward()
    learned = (output.landmarks.grad != 0).any(-1)[0]
    assert learned[AT].tolist() == (visible & (HALF_SQUARES > 0)).tolist()
    assert learned.sum() == learned[AT].sum()


def test_landmarks_weigh_by_score_over_all_positives():
    """Two faces of one image, one of which has no landmarks."""
    aside = 32 * torch.tensor([[1.0, 1, 1, 1]])
    landmarks = torch.stack([POINTS, torch.full((5, 2), torch.nan)])
    landmarks[0, 4] = torch.nan
    both = Target(torch.cat([ON_ANCHOR, ON_ANCHOR + aside]), landmarks, torch.zeros(0, 4))
    logits = torch.zeros(1, 36, 1)
    logits[0, AT], logits[0, AT + 14] = 2.0, -1.0
    output = replace(zeros(), logits=logits)
    strong, weak = logits[0, [AT, AT + 14], 0].sigmoid().tolist()
    want = HALF_SQUARES[:4].sum().item()
    for by_score, value in ((True, strong * want / (strong + weak)), (False, want / 0.8)):
        made = Criterion(MaxIoU(), AllAnchors(), {"landmarks": LandmarkLoss(1.0, 1.0, by_score)})
        found = made(output, packed([both])).terms["landmarks"]
        assert found.item() == pytest.approx(value)


@pytest.mark.parametrize("kind", ["diou", "smooth-l1"])
def test_boxes_are_averaged_over_anchors_by_score_or_by_image(kind):
    """One face in the first image, two in the second, none in the third."""
    one, two = ON_ANCHOR + torch.tensor([0.0, 2, 0, 0]), ON_ANCHOR + torch.tensor([3.0, 0, 0, 4])
    aside = 32 * torch.tensor([[1.0, 1, 1, 1]])
    targets = packed([target(one), target(torch.cat([two, two + aside])), Target.empty()])
    output = replace(zeros(images=3), logits=torch.randn(3, 36, 1))

    def loss(box):
        anchor = ON_ANCHOR[0]
        if kind == "smooth-l1":
            goal = output.coder.encode(box, AnchorGrid((16,), ((32.0,),), 32.0)([(1, 1)]))[0]
            return sum(g * g / 2 for g in goal.tolist())
        inner = torch.minimum(box[0], anchor)[2:] - torch.maximum(box[0], anchor)[:2]
        areas = [(b[2:] - b[:2]).prod() for b in (box[0], anchor)]
        gap = ((box[0, :2] + box[0, 2:] - anchor[:2] - anchor[2:]) / 2).square().sum()
        corner = torch.maximum(box[0], anchor)[2:] - torch.minimum(box[0], anchor)[:2]
        iou = inner.prod() / (sum(areas) - inner.prod())
        return (1 - iou + gap / corner.square().sum()).item()

    first, second = loss(one), loss(two)
    assert 0 < first < second
    scores = output.face_logits.sigmoid()
    a, b, c = (scores[at].item() for at in ((0, AT), (1, AT), (1, AT + 14)))
    want = {
        (False, False): (first + 2 * second) / 3,
        (True, False): (a * first + (b + c) * second) / (a + b + c),
        (False, True): (first + second + 0) / 3,
    }
    for (by_score, by_image), value in want.items():
        term = BoxLoss(kind, 2.0, 1.0, by_score, by_image)
        found = Criterion(MaxIoU(), AllAnchors(), {"box": term})(output, targets).terms["box"]
        assert found.item() == pytest.approx(2 * value, rel=1e-5)


def test_boxes_that_are_no_positives_are_learned_where_the_assigner_says():
    """`box_iou`: the four neighbors of the anchor overlap by a third."""
    output = replace(zeros(), boxes=torch.full((1, 36, 4), 0.1, requires_grad=True))
    made = Criterion(MaxIoU(box_iou=0.3), AllAnchors(), {"box": BoxLoss("smooth-l1")})
    made(output, packed([target(ON_ANCHOR)])).terms["box"].backward()
    learned = (output.boxes.grad != 0).any(-1)[0].view(6, 6)
    assert learned.nonzero().tolist() == [[0, 1], [1, 0], [1, 1], [1, 2], [2, 1]]


def test_the_quality_that_scores_learn_is_the_iou_of_their_boxes():
    output = zeros()
    face = target(ON_ANCHOR + torch.tensor([0.0, 0, 0, 8]))  # 32 x 40: an IoU of 0.8
    made = Criterion(MaxIoU(0.7, 0.1), AllAnchors(), {"cls": QualityFocal(2.0)})
    found = made(output, packed([face])).terms["cls"]
    background = (made.match(output, packed([face]))[1] == 0).sum().item()
    assert found.item() == pytest.approx(2 * math.log(2) * (0.3**2 + background * 0.25), rel=1e-5)
    found.backward()
    assert output.boxes.grad is None


def test_the_lowest_score_of_an_image_s_positives_before_sampling():
    logits = torch.linspace(-3, 3, 36)[None, :, None].repeat(3, 1, 1)
    output = replace(zeros(images=3), logits=logits)
    aside = 32 * torch.tensor([[1.0, 1, 1, 1]])
    faces = [target(torch.cat([ON_ANCHOR + aside, ON_ANCHOR])), Target.empty(), target(ON_ANCHOR)]
    sampler = OHEMRatio(0, 0)
    lowest = Criterion(MaxIoU(), sampler, {})(output, packed(faces)).min_positive_scores
    assert lowest[[0, 2]].tolist() == pytest.approx([logits[0, AT, 0].sigmoid().item()] * 2)
    assert lowest.isnan().tolist() == [False, True, False]


def test_inclusive_pixels_make_targets_a_pixel_wider_and_move_landmarks_by_half():
    seen = []

    def spy(matched):
        seen.append(matched)
        return {}

    face = Target(ON_ANCHOR - torch.tensor([0.0, 0, 1, 1]), POINTS[None] - 0.5, torch.zeros(0, 4))
    made = Criterion(MaxIoU(), AllAnchors(), {"spy": spy}, inclusive_pixels=True)
    targets = packed([face, Target.empty()])
    made(zeros(images=2), targets)
    (matched,) = seen
    assert torch.equal(matched.boxes[0, AT], ON_ANCHOR[0])
    assert torch.equal(matched.targets.landmarks[0], POINTS)
    assert torch.equal(targets.boxes, face.boxes)  # what was given is left as it is
    assert matched.positive.nonzero().tolist() == [[0, AT]]


def test_rows_or_zeros():
    values = torch.arange(6.0).view(2, 3)
    found = rows_or_zeros(values, torch.tensor([[1, 2], [0, 2]]))
    assert found.tolist() == [[[3, 4, 5], [0, 0, 0]], [[0, 1, 2], [0, 0, 0]]]
    assert rows_or_zeros(values[:, 0] > 0, torch.tensor([[0, 1, 2]])).tolist() == [
        [False, True, False]
    ]


@pytest.mark.parametrize("assigner", [ATSS(), SimOTA()])
@pytest.mark.parametrize("sampler", [AllAnchors(), OHEMRatio(), OHEMQuota(2, 20)])
def test_learning_on_the_few_anchors_near_faces_is_learning_on_all(assigner, sampler):
    """Terms and gradients; assigners list the few anchors that may have a face, some twice."""
    faces = crowd(3, 20)
    terms = {
        "quality": QualityFocal(),
        "cls": CrossEntropy(),
        "diou": BoxLoss(by_score=True),
        "image": BoxLoss("smooth-l1", by_image=True),
        "landmarks": LandmarkLoss(by_score=True),
        "points": LandmarkLoss(),
    }

    def everywhere(output, targets):
        return replace(assigner(output, targets), slots=None, slot_face=None)

    found = []
    for one in (assigner, everywhere):
        output = random_output(GRID(maps(GRID.strides)), AnchorBoxCoder(), 3)
        losses = Criterion(one, sampler, terms)(output, faces)
        sum(losses.terms.values()).backward()
        found.append((losses, [getattr(output, part).grad for part in PARTS]))
    (few, few_grads), (whole, whole_grads) = found
    listed = assigner(output, faces)
    assert len(listed.slots) < listed.face.numel()
    assert len(listed.slots.unique()) < len(listed.slots)
    given = listed.slots[listed.slot_face >= 0]  # each anchor with a face, once
    assert given.sort().values.tolist() == (listed.face >= 0).flatten().nonzero()[:, 0].tolist()
    assert torch.equal(listed.face.flatten()[given], listed.slot_face[listed.slot_face >= 0])
    for name, term in whole.terms.items():
        assert term > 0
        torch.testing.assert_close(few.terms[name], term, msg=name)
    for one, other in zip(few_grads, whole_grads, strict=True):
        assert (other != 0).any()
        torch.testing.assert_close(one, other)


# --- auxiliary shots --------------------------------------------------------------------------

GRID = AnchorGrid((8, 16, 32), ((16.0, 32.0), (64.0, 128.0), (256.0, 512.0)))


@pytest.mark.parametrize("config", [scrfd.CRITERION, retinaface.CRITERION, smallhardface.CRITERION])
def test_auxiliary_shots_add_terms_of_their_own_anchors(config):
    sizes = maps(GRID.strides)
    output = random_output(GRID(sizes), AnchorBoxCoder(), 2)
    shots = tuple(
        random_output(grid(sizes), AnchorBoxCoder(), 2, seed=seed)
        for grid, seed in ((GRID.halved(), 1), (GRID, 2))
    )
    targets = packed([FACE, Target.empty()])
    alone = [learn(config)(one, targets) for one in (output, *shots)]
    made = learn(replace(config, auxiliary_weight=0.25))
    found = made(replace(output, auxiliary=shots), targets)
    names = ("cls", "box", "landmarks")
    assert list(found.terms) == [f"{n}{end}" for end in ("", "_aux", "_aux2") for n in names]
    for name in names:
        assert torch.equal(found.terms[name], alone[0].terms[name])
        assert torch.equal(found.terms[f"{name}_aux"], 0.25 * alone[1].terms[name])
        assert torch.equal(found.terms[f"{name}_aux2"], 0.25 * alone[2].terms[name])
    assert alone[0].terms["cls"] != alone[1].terms["cls"]
    torch.testing.assert_close(
        found.min_positive_scores, alone[0].min_positive_scores, equal_nan=True
    )
    sum(found.terms.values()).backward()
    assert all((shot.boxes.grad != 0).any() for shot in (output, *shots))


def test_halved_anchors_are_assigned_smaller_faces():
    sizes = maps(GRID.strides)
    face = packed([target([[36.0, 36, 44, 44]])])
    positives = [
        (MaxIoU().assign(grid(sizes), face).face >= 0).any().item()
        for grid in (GRID, GRID.halved())
    ]
    assert positives == [False, True]


# --- anchors that are not square --------------------------------------------------------------

UPRIGHT = AnchorGrid(
    (8, 16, 32), tuple(tuple((s, 1.5 * s) for s in sides) for sides in GRID.sizes), None, "head"
)


@pytest.mark.parametrize(
    "assigner",
    [
        AssignerConfig(),
        AssignerConfig(kind="max-iou", positive_iou=0.4, low_quality_iou=0.2),
        AssignerConfig(kind="simota"),
    ],
)
@pytest.mark.parametrize("coder", [DistanceCoder(), AnchorBoxCoder((0.1, 0.1, 0.2, 0.2), 0.1)])
def test_anchors_may_be_higher_than_wide(assigner, coder):
    """What was predicted perfectly costs nothing, and heads fit upright anchors best."""
    anchors = UPRIGHT(maps(UPRIGHT.strides))
    assert anchors.name == "head"
    boxes = torch.tensor([[12.0, 8, 28, 32], [52, 40, 84, 88]])  # 16 x 24 and 32 x 48
    landmarks = (boxes[:, None, :2] + boxes[:, None, 2:]) / 2 + torch.randn(2, 5, 2)
    targets = packed([Target(boxes, landmarks, torch.zeros(0, 4))])
    output = random_output(anchors, coder)
    terms = learn(CriterionConfig(assigner=assigner))(output, targets).terms
    assert all(torch.isfinite(term) and term > 0 for term in terms.values())
    near = (anchors.centers[:, 0] > 40).long()  # each anchor predicts the face on its side
    perfect = replace(
        output,
        boxes=coder.encode(boxes[near], anchors)[None],
        landmarks=coder.encode_landmarks(landmarks[near], anchors)[None],
    )
    config = CriterionConfig(assigner=assigner)
    terms = learn(config)(perfect, targets).terms
    assert terms["box"].item() == pytest.approx(0, abs=1e-5)
    assert terms["landmarks"].item() == pytest.approx(0, abs=1e-8)
    if assigner.kind == "max-iou":
        squares = GRID(maps(GRID.strides))
        found = [
            MaxIoU(low_quality_iou=0.2).assign(a, targets).face.ge(0).sum()
            for a in (anchors, squares)
        ]
        assert found[0] >= found[1]


# --- parts of all systems go together ----------------------------------------------------------


@pytest.mark.parametrize("assigner", ["atss", "max-iou", "simota"])
@pytest.mark.parametrize("sampler", ["all", "ohem", "ohem-quota"])
@pytest.mark.parametrize("scores", ["quality-focal", "cross-entropy"])
def test_every_assigner_sampler_and_term_go_together(assigner, sampler, scores):
    config = CriterionConfig(
        assigner=AssignerConfig(kind=assigner),
        sampler=SamplerConfig(kind=sampler),
        classification=ClassificationConfig(kind=scores),
    )
    made = learn(config)
    expected = {"atss": ATSS, "max-iou": MaxIoU, "simota": SimOTA}
    assert isinstance(made.assigner, expected[assigner])
    for logits in (1, 2):
        output = random_output(GRID(maps(GRID.strides)), AnchorBoxCoder(), 2, logits)
        losses = made(output, packed([FACE, Target.empty()]))
        assert all(torch.isfinite(t) and t > 0 for t in losses.terms.values())
        sum(losses.terms.values()).backward()
        for part in (output.logits, output.boxes, output.landmarks):
            assert part.grad.isfinite().all()
            assert (part.grad != 0).any()


@pytest.mark.parametrize("assigner", ["atss", "max-iou", "simota"])
def test_without_faces_nothing_is_a_face_with_inclusive_pixels_too(assigner):
    """The padding of an empty batch does not become a face of one pixel."""
    rules = AssignerConfig(kind=assigner, low_quality_iou=1e-4)
    made = learn(CriterionConfig(assigner=rules, inclusive_pixels=True))
    for offset in (0.0, 0.5):
        anchors = replace(GRID, offset=offset)(maps(GRID.strides))
        losses = made(random_output(anchors, AnchorBoxCoder()), packed([Target.empty()]))
        assert losses.terms["box"] == losses.terms["landmarks"] == 0
        assert losses.min_positive_scores.isnan().all()
