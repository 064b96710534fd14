from dataclasses import replace

import numpy as np
import pytest
import torch
from kinds import CRITERIA, FACE, RETINAFACE, criterion, packed, target

from facefind.learn.assigners import MaxIoU
from facefind.learn.criterion import Criterion
from facefind.learn.criterion_config import SamplerConfig
from facefind.learn.samplers import AllAnchors
from facefind.learn.targets import Target
from facefind.systems import retinaface


@pytest.fixture(scope="module", params=RETINAFACE)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def network(kind):
    torch.manual_seed(0)
    return RETINAFACE[kind].build()


def test_candidates_are_softmax_scores_and_decoded_boxes(network):
    images = torch.randint(0, 256, (1, 3, 64, 96), dtype=torch.uint8)
    network.eval()
    outputs = network(images)
    found = network.candidates(images)
    wanted = outputs.logits.softmax(-1)[..., 1]
    if network.stride4_score_scale != 1:
        wanted[:, : outputs.anchors.per_level[0]] *= network.stride4_score_scale
    torch.testing.assert_close(found.scores, wanted)
    anchors = outputs.anchors
    last = float(network.inclusive_pixels)  # sides are x2 - x1 + 1 then
    sides = found.boxes[..., 2:] - found.boxes[..., :2] + last
    stds = torch.tensor(network.coder.stds)
    torch.testing.assert_close(
        sides.log(), (outputs.boxes * stds)[..., 2:] + anchors.sizes.log(), atol=1e-4, rtol=1e-5
    )
    middle = (found.boxes[..., 2:] + found.boxes[..., :2] + last) / 2
    shift = (outputs.boxes * stds)[..., :2] * anchors.sizes
    torch.testing.assert_close(middle, anchors.centers + shift, atol=1e-3, rtol=1e-5)
    if outputs.landmarks is not None:
        shift = outputs.landmarks * network.coder.landmark_std * anchors.sizes[:, None]
        wanted = anchors.centers[:, None] + shift - last / 2
        torch.testing.assert_close(found.landmarks, wanted, atol=1e-3, rtol=1e-5)


def config(kind):
    return CRITERIA.get(kind, retinaface.CRITERION)


def example(kind, targets, **sampler):
    """Random outputs of a network in float64, and its criterion with another sampling."""
    torch.manual_seed(0)
    network = RETINAFACE[kind].build().double().eval()
    outputs = network(torch.zeros(len(targets), 3, 96, 96))
    draw = {
        part: torch.randn_like(value, requires_grad=True)
        for part in ("logits", "boxes", "landmarks")
        if (value := getattr(outputs, part)) is not None
    }
    rules = config(kind)
    rules = replace(rules, sampler=replace(rules.sampler, **sampler))
    return rules, rules.build(network), replace(outputs, **draw)


SECOND = target(FACE.boxes + 30)
POINTS = FACE.landmarks.clone() - 8
POINTS[0, 3] = torch.nan
THIRD = Target(FACE.boxes - 8, POINTS, FACE.ignore)
TARGETS = [FACE, Target.empty(), SECOND, THIRD]


def smooth(gap, beta):
    gap = abs(gap)
    return gap**2 / (2 * beta) if gap < beta else gap - beta / 2


@pytest.mark.parametrize("kind", ["retinaface-paper", "retinaface-released"])
def test_the_terms_are_equation_1_anchor_by_anchor(kind):
    rules, learn, outputs = example(kind, TARGETS, min_negatives=5)
    stds, landmark_std = RETINAFACE[kind].box_stds, RETINAFACE[kind].landmark_std
    at = outputs.anchors.boxes.double()
    cls = box = points = positives = counted = learned = parts = 0
    for index, one in enumerate(TARGETS):
        assigner = rules.assigner.build()
        found = assigner.assign(outputs.anchors, packed([one])).face[0].tolist()
        chance = outputs.logits[index].softmax(-1)
        faces = [a for a, face in enumerate(found) if face >= 0]
        background = [a for a, face in enumerate(found) if face == -1]
        background.sort(key=lambda a: chance[a, 1].item(), reverse=True)
        kept = background[: max(int(rules.sampler.ratio) * len(faces), 5)]
        counted += max(len(faces), 1)  # the same for an image without faces as for one anchor
        cls -= sum(chance[a, 1].log().item() for a in faces)
        cls -= sum(chance[a, 0].log().item() for a in kept)
        for a in faces:
            positives += 1
            parts += int(index == 3)
            side = at[a, 2] - at[a, 0]
            center = (at[a, :2] + at[a, 2:]) / 2
            real = one.boxes[found[a]].double()
            want = [
                *((real[:2] + real[2:]) / 2 - center) / side / stds[0],
                *((real[2:] - real[:2]) / side).log() / stds[2],
            ]
            box += sum(
                smooth((d - w).item(), rules.box.smooth_l1_beta)
                for d, w in zip(outputs.boxes[index, a], want, strict=True)
            )
            for place, point in enumerate(one.landmarks[found[a]].double()):
                if point.isfinite().all():
                    learned += 1
                    goal = (point - center) / side / landmark_std
                    gaps = outputs.landmarks[index, a, place] - goal
                    points += sum(smooth(g.item(), rules.landmarks.smooth_l1_beta) for g in gaps)
    terms = learn(outputs, packed(TARGETS)).terms
    assert positives > learned / 5 > 0
    assert parts > 0  # four landmarks of a face are learned without the fifth
    want = {
        "cls": rules.classification.weight * cls / counted,
        "box": rules.box.weight * box / positives,
        "landmarks": rules.landmarks.weight * points / (learned / 5),
    }
    assert {name: term.item() for name, term in terms.items()} == pytest.approx(want, rel=1e-5)


def test_only_what_is_sampled_gets_a_gradient():
    rules, learn, outputs = example("retinaface-paper", TARGETS)
    sum(learn(outputs, packed(TARGETS)).terms.values()).backward()
    learned = (outputs.logits.grad != 0).any(-1).sum(1)
    regressed = (outputs.boxes.grad != 0).any(-1).sum(1)
    points = (outputs.landmarks.grad != 0).any(-1).sum((1, 2))
    for index in range(len(TARGETS)):
        negatives = max(3 * int(regressed[index]), rules.sampler.min_negatives)
        assert learned[index] == regressed[index] + negatives
    assert regressed[0] > 0
    assert regressed[3] > 0
    assert points.tolist() == [5 * regressed[0].item(), 0, 0, 4 * regressed[3].item()]


def test_a_quota_holds_on_every_level():
    big = replace(FACE, boxes=torch.tensor([[8.0, 8, 72, 72]]))  # a face of the second level
    rules, learn, outputs = example("retinaface-authors", [big])
    assert rules.sampler == SamplerConfig(kind="ohem-quota", by_level=True)
    learn(outputs, packed([big])).terms["cls"].backward()
    learned = (outputs.logits.grad != 0).any(-1)[0]
    levels = learned.split(outputs.anchors.per_level)
    wider = target(big.boxes + torch.tensor([0.0, 0, 1, 1]))
    found = MaxIoU().assign(outputs.anchors, packed([wider])).face[0]
    counted = [int(level.sum()) for level in (found > -2).split(outputs.anchors.per_level)]
    assert counted[0] > 256 > counted[1] > counted[2]
    assert [int(level.sum()) for level in levels] == [256, *counted[1:]]


def test_the_authors_sums_are_divided_by_their_quota():
    """Scores by the anchors of each level, boxes and points by 256 for each image."""
    _, learn, outputs = example("retinaface-authors", TARGETS)
    seen = []
    learn.terms["spy"] = lambda matched: seen.append(matched) or {}
    terms = learn(outputs, packed(TARGETS)).terms
    (matched,) = seen
    chance = outputs.logits.float().softmax(-1)
    levels = zip(
        *(part.split(outputs.anchors.per_level, 1) for part in (matched.labels, chance)),
        strict=True,
    )
    cls = 0.0
    for labels, score in levels:
        right = torch.where(labels == 1, score[..., 1], score[..., 0])[labels >= 0]
        cls -= right.log().mean()
    torch.testing.assert_close(terms["cls"], cls)
    positive = matched.labels == 1
    gaps = outputs.boxes - outputs.coder.encode(matched.boxes, outputs.anchors)
    box = sum(smooth(gap, 1 / 9) for gap in gaps[positive].flatten().tolist())
    assert terms["box"].item() == pytest.approx(0.25 * 16**2 * box / 256 / 4, rel=1e-4)
    faces = matched.face[positive]
    goal = outputs.coder.encode_landmarks(
        matched.targets.landmarks[matched.face.clamp(max=len(matched.targets.boxes) - 1)],
        outputs.anchors,
    )
    known = matched.targets.visible[faces]
    gaps = (outputs.landmarks - goal)[positive][known]
    points = sum(smooth(gap, 1 / 9) for gap in gaps.flatten().tolist())
    assert terms["landmarks"].item() == pytest.approx(64 * points / 256 / 4, rel=1e-4)


def test_the_lowest_score_of_an_image_s_positives(kind, network):
    outputs = network(torch.randint(0, 256, (4, 3, 96, 96)).float())
    outputs = replace(outputs, logits=torch.randn_like(outputs.logits))
    learn = criterion(kind, network)
    lowest = learn(outputs, packed(TARGETS)).min_positive_scores
    assert lowest.shape == (4,)
    assert not lowest.requires_grad
    assert lowest.isnan().tolist() == [False, True, False, False]
    scores = outputs.logits.softmax(-1)[..., 1]
    last = torch.tensor([0.0, 0, 1, 1]) * float(network.inclusive_pixels)
    for index in (0, 2, 3):
        one = packed([target(TARGETS[index].boxes + last)])
        positive = config(kind).assigner.build().assign(outputs.anchors, one).face[0] >= 0
        assert lowest[index].item() == pytest.approx(scores[index, positive].min().item())


def test_the_paper_s_numbers():
    rules = retinaface.CRITERION
    assigner = rules.assigner
    assert (assigner.kind, assigner.positive_iou, assigner.negative_iou) == ("max-iou", 0.5, 0.3)
    assert assigner.low_quality_iou is None
    assert (rules.sampler.kind, rules.sampler.ratio) == ("ohem", 3)
    assert (rules.classification.weight, rules.box.weight, rules.landmarks.weight) == (1, 0.25, 0.1)
    assert not rules.inclusive_pixels


# The authors' code, rewritten plainly: anchors are windows of pixels from the first to the last,
# around the pixels 0..15 whatever the stride; sides are x2 - x1 + 1, centers x1 + (side - 1) / 2.


def authors_windows(map_sizes, strides, sizes):
    found = []
    for (rows, columns), stride, sides in zip(map_sizes, strides, sizes, strict=True):
        for y in range(rows):
            for x in range(columns):
                for side in sides:
                    low, high = 7.5 - (side - 1) / 2, 7.5 + (side - 1) / 2
                    shift = stride * np.array([x, y, x, y])
                    found.append(np.array([low, low, high, high]) + shift)
    return np.array(found)


def authors_overlap(a, b):
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
    inner = np.prod(np.maximum(high - low + 1, 0))
    areas = [np.prod(c[2:] - c[:2] + 1) for c in (a, b)]
    return inner / (sum(areas) - inner)


def authors_center(box):
    return box[:2] + (box[2:] - box[:2] + 1 - 1) / 2


def test_the_authors_targets_are_those_of_whole_pixels():
    """Labels, deltas and landmarks, and decoding them again, by the convention of their code."""
    network = RETINAFACE["retinaface-authors"].build().eval()
    assert network.inclusive_pixels
    output = network(torch.zeros(1, 3, 96, 96))
    levels = output.anchors.levels
    windows = authors_windows(
        [level.map_size for level in levels], network.strides, retinaface.THREE_SIZES
    )
    face, points = FACE.boxes[0].numpy(), FACE.landmarks[0].numpy()
    overlaps = np.array([authors_overlap(window, face) for window in windows])
    labels = np.where(overlaps >= 0.5, 1, np.where(overlaps < 0.3, 0, -1))
    assert {*labels} == {-1, 0, 1}

    seen = []
    learn = Criterion(
        config("retinaface-authors").assigner.build(),
        AllAnchors(),
        {"spy": lambda matched: seen.append(matched) or {}},
        inclusive_pixels=config("retinaface-authors").build(network).inclusive_pixels,
    )
    learn(output, packed([FACE]))
    (matched,) = seen
    assert matched.labels[0].tolist() == labels.tolist()

    sides = windows[:, 2:] - windows[:, :2] + 1
    centers = np.array([authors_center(window) for window in windows])
    real = face[2:] - face[:2] + 1
    deltas = np.concatenate([(authors_center(face) - centers) / sides, np.log(real / sides)], 1)
    shifts = (points - centers[:, None]) / sides[:, None]
    positive = labels == 1
    encoded = network.coder.encode(matched.boxes, output.anchors)[0]
    np.testing.assert_allclose(encoded[positive], deltas[positive], atol=1e-5)
    goal = network.coder.encode_landmarks(
        matched.targets.landmarks.expand(len(windows), 5, 2), output.anchors
    )
    np.testing.assert_allclose(goal, shifts, atol=1e-4)

    # Their decoding: corners at center -+ (side - 1) / 2.
    generator = np.random.default_rng(0)
    raw = generator.normal(0, 0.3, (len(windows), 4))
    raw_points = generator.normal(0, 0.3, (len(windows), 5, 2))
    middle, half = raw[:, :2] * sides + centers, (np.exp(raw[:, 2:]) * sides - 1) / 2
    found = network.decode(
        replace(
            output,
            boxes=torch.from_numpy(raw)[None].float(),
            landmarks=torch.from_numpy(raw_points)[None].float(),
        )
    )
    want = np.concatenate([middle - half, middle + half], 1)
    np.testing.assert_allclose(found.boxes[0].numpy(), want, atol=1e-3)
    want = raw_points * sides[:, None] + centers[:, None]
    np.testing.assert_allclose(found.landmarks[0].numpy(), want, atol=1e-3)
