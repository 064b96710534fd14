import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from facefind.learn.samplers import AllAnchors, OHEMQuota, OHEMRatio


def example(seed, count=40):
    rng = np.random.default_rng(seed)
    labels = rng.choice([1, 0, -1], (3, count), p=rng.dirichlet([1, 3, 1]))
    return torch.from_numpy(labels), torch.from_numpy(rng.permutation(3 * count).reshape(3, count))


def sorted_places(labels, scores, kind, *, lowest=False):
    places = [i for i, label in enumerate(labels.tolist()) if label == kind]
    return sorted(places, key=lambda i: scores[i].item(), reverse=not lowest)


@given(st.integers(0, 2**31), st.sampled_from([0.5, 1, 3, 7]), st.integers(0, 6))
def test_a_ratio_keeps_faces_and_the_hardest_negatives(seed, ratio, least):
    labels, scores = example(seed)
    got = OHEMRatio(ratio, least)(labels, scores.double())
    for row in range(3):
        faces = sorted_places(labels[row], scores[row], 1)
        wanted = int(np.ceil(max(ratio * len(faces), least)))
        negatives = sorted_places(labels[row], scores[row], 0)[:wanted]
        want = torch.full((40,), -1)
        want[faces], want[negatives] = 1, 0
        assert torch.equal(got[row], want)


@given(st.integers(0, 2**31), st.integers(0, 8), st.integers(8, 50))
def test_a_quota_keeps_the_hardest_of_both(seed, positives, total):
    labels, scores = example(seed)
    got = OHEMQuota(positives, total)(labels, scores.double())
    for row in range(3):
        faces = sorted_places(labels[row], scores[row], 1, lowest=True)[:positives]
        negatives = sorted_places(labels[row], scores[row], 0)[: total - len(faces)]
        want = torch.full((40,), -1)
        want[faces], want[negatives] = 1, 0
        assert torch.equal(got[row], want)


@given(st.integers(0, 2**31), st.integers(0, 4), st.integers(4, 20))
def test_a_quota_by_level_is_a_quota_of_each_level(seed, positives, total):
    labels, scores = example(seed)
    sampler = OHEMQuota(positives, total, by_level=True)
    got = sampler(labels, scores.double(), (25, 10, 5))
    alone = OHEMQuota(positives, total)
    for level in (slice(0, 25), slice(25, 35), slice(35, 40)):
        assert torch.equal(got[:, level], alone(labels[:, level], scores[:, level].double()))


@pytest.mark.parametrize(
    "sampler", [AllAnchors(), OHEMRatio(), OHEMQuota(), OHEMQuota(by_level=True)]
)
def test_nothing_to_sample_from(sampler):
    nothing = torch.full((2, 9), -1)
    assert torch.equal(sampler(nothing, torch.rand(2, 9), (6, 3)), nothing)
    empty = torch.zeros(2, 0, dtype=torch.int64)
    assert sampler(empty, torch.zeros(2, 0), (0, 0)).shape == (2, 0)


def test_all_anchors_are_all():
    labels, scores = example(0)
    assert torch.equal(AllAnchors()(labels, scores, (40,)), labels)


def test_samplers_carry_no_gradient():
    labels, scores = example(1)
    for sampler in (OHEMRatio(), OHEMQuota()):
        assert not sampler(labels, scores.double().requires_grad_()).requires_grad


def test_an_image_without_faces_keeps_what_it_is_promised():
    labels, scores = torch.zeros(1, 9, dtype=torch.int64), torch.arange(9.0)[None]
    assert (OHEMRatio(min_negatives=0)(labels, scores) == -1).all()
    assert OHEMRatio(min_negatives=2)(labels, scores)[0].tolist() == [-1] * 7 + [0, 0]
    assert (OHEMRatio(min_negatives=100)(labels, scores) == 0).all()
