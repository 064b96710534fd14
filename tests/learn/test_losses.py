import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from facefind.learn.boxes import diou, iou
from facefind.learn.losses import quality_focal


@settings(max_examples=200, deadline=None)
@given(st.floats(-12, 12), st.floats(0, 1))
def test_quality_focal_is_the_equation(logit, quality):
    score = 1 / (1 + math.exp(-logit))
    entropy = -(quality * math.log(score) + (1 - quality) * math.log1p(-score))
    want = abs(quality - score) ** 2 * entropy
    got = quality_focal(
        torch.tensor([logit], dtype=torch.float64), torch.tensor([quality]).double()
    )
    assert got.item() == pytest.approx(want, rel=1e-5, abs=1e-9)


def test_quality_focal_is_least_at_the_quality():
    quality = torch.tensor(0.7)
    logits = torch.linspace(-4, 4, 801)
    losses = quality_focal(logits, quality.expand_as(logits))
    assert logits[losses.argmin()].sigmoid().item() == pytest.approx(0.7, abs=0.01)


def test_iou_and_diou_by_hand():
    a, b = torch.tensor([0.0, 0, 10, 10]), torch.tensor([5.0, 0, 15, 10])
    assert iou(a, b).item() == pytest.approx(50 / 150)
    assert diou(a, b).item() == pytest.approx(50 / 150 - 25 / (15**2 + 10**2))
    assert diou(a, a).item() == pytest.approx(1)


def test_diou_of_empty_boxes_is_finite_with_gradient():
    boxes = torch.zeros(3, 4, requires_grad=True)
    loss = diou(boxes, torch.zeros(3, 4)).sum()
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(boxes.grad).all()


def test_diou_gradient_is_right():
    boxes = torch.tensor([[1.0, 2, 9, 12], [3, 1, 5, 8]], dtype=torch.float64, requires_grad=True)
    targets = torch.tensor([[2.0, 1, 10, 11], [30, 30, 40, 44]], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda b: diou(b, targets), boxes)
