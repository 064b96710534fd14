import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from facefind.learn.samplers import by_quota, by_ratio


def example(seed, count=40):
    rng = np.random.default_rng(seed)
    labels = rng.choice([1, 0, -1], (3, count), p=rng.dirichlet([1, 3, 1]))
    return torch.from_numpy(labels), torch.from_numpy(rng.permutation(3 * count).reshape(3, count))


def sorted_places(labels, scores, kind, *, lowest=False):
    places = [i for i, label in enumerate(labels.tolist()) if label == kind]
    return sorted(places, key=lambda i: scores[i].item(), reverse=not lowest)


@given(st.integers(0, 2**31), st.sampled_from([0.5, 1, 3, 7]), st.integers(0, 6))
def test_by_ratio_keeps_faces_and_the_hardest_negatives(seed, ratio, least):
    labels, scores = example(seed)
    got = by_ratio(labels, scores.double(), ratio=ratio, least=least)
    for row in range(3):
        faces = sorted_places(labels[row], scores[row], 1)
        wanted = int(np.ceil(max(ratio * len(faces), least)))
        negatives = sorted_places(labels[row], scores[row], 0)[:wanted]
        want = torch.full((40,), -1)
        want[faces], want[negatives] = 1, 0
        assert torch.equal(got[row], want)


@given(st.integers(0, 2**31), st.integers(0, 8), st.integers(8, 50))
def test_by_quota_keeps_the_hardest_of_both(seed, positives, total):
    labels, scores = example(seed)
    got = by_quota(labels, scores.double(), positives=positives, total=total)
    for row in range(3):
        faces = sorted_places(labels[row], scores[row], 1, lowest=True)[:positives]
        negatives = sorted_places(labels[row], scores[row], 0)[: total - len(faces)]
        want = torch.full((40,), -1)
        want[faces], want[negatives] = 1, 0
        assert torch.equal(got[row], want)


@pytest.mark.parametrize("pick", [by_ratio, by_quota])
def test_nothing_to_pick_from(pick):
    nothing = torch.full((2, 9), -1)
    assert torch.equal(pick(nothing, torch.rand(2, 9)), nothing)
    empty = torch.zeros(2, 0, dtype=torch.int64)
    assert pick(empty, torch.zeros(2, 0)).shape == (2, 0)


def test_an_image_without_faces_keeps_what_it_is_promised():
    labels, scores = torch.zeros(1, 9, dtype=torch.int64), torch.arange(9.0)[None]
    assert (by_ratio(labels, scores) == -1).all()
    assert by_ratio(labels, scores, least=2)[0].tolist() == [-1] * 7 + [0, 0]
    assert (by_ratio(labels, scores, least=100) == 0).all()
