"""Margin-based classification: what a margin changes, and what it leaves."""

from __future__ import annotations

import torch
from kinds import packed, target

from facefind.learn.assigners import MaxIoU
from facefind.learn.criterion import Criterion, CrossEntropy
from facefind.learn.losses import margin_cross_entropy
from facefind.learn.samplers import OHEMRatio
from facefind.learn.targets import Target
from facefind.nn.anchors import AnchorGrid
from facefind.nn.coders import DistanceCoder
from facefind.nn.detector import DenseOutput


def test_a_margin_is_taken_off_the_right_class_s_logit():
    """As a softmax over background and face, of which the right one has less."""
    torch.manual_seed(0)
    pair, faces = torch.randn(50, 2, dtype=torch.float64), torch.arange(50) % 2
    harder = pair.clone()
    harder[torch.arange(50), faces] -= 0.35
    wanted = torch.nn.functional.cross_entropy(harder, faces, reduction="none")
    logits = pair[:, 1] - pair[:, 0]
    found = margin_cross_entropy(logits, faces.double(), 0.35)
    assert torch.allclose(found, wanted)
    plain = margin_cross_entropy(logits, faces.double(), 0.0)
    assert (found > plain).all()


def test_a_margin_changes_what_is_learned_and_not_which_anchors():
    anchors = AnchorGrid((16,), ((32.0,),), 16.0)([(6, 6)])
    output = DenseOutput(
        torch.zeros(2, 36, 1),
        torch.zeros(2, 36, 4),
        None,
        anchors,
        DistanceCoder(),
        torch.zeros(2, 3, 96, 96),
    )
    targets = packed([target([[16.0, 16, 48, 48]]), Target.empty()])
    sampler = OHEMRatio(3.0, 5)
    made = {
        name: Criterion(MaxIoU(), sampler, {"cls": term})(output, targets)
        for name, term in {
            "plain": CrossEntropy(2.0),
            "some": CrossEntropy(2.0, margin=0.7),
        }.items()
    }
    # Logits of 0: each of the sampled anchors, 5 an image and the face, at a loss of log(1 + e^m).
    averaged = 2 * (1 + 5 + 5) / 2 * torch.tensor(0.7).exp().log1p()
    torch.testing.assert_close(made["some"].terms["cls"], averaged)
    least, same = (made[name].min_positive_scores for name in ("some", "plain"))
    torch.testing.assert_close(least, same, equal_nan=True)
