from dataclasses import replace

import pytest
import torch
from kinds import FACE, SCRFD

from facefind.learn.assigners import atss
from facefind.learn.targets import Target


@pytest.mark.parametrize("kind", [kind for kind in SCRFD if SCRFD[kind].assigner == "atss"])
def test_the_weakest_is_the_lowest_score_of_an_image_s_positives(kind):
    torch.manual_seed(0)
    network = SCRFD[kind].build()
    outputs = network(torch.randint(0, 256, (3, 3, 96, 96)).float())
    anchors = outputs.anchors
    outputs = replace(outputs, raw=outputs.raw._replace(logits=torch.randn(3, len(anchors.sizes))))
    second = Target(FACE.boxes + 30, FACE.landmarks, FACE.ignore)
    weakest = network.losses(outputs, [FACE, Target.empty(), second]).min_positive_scores
    assert weakest.shape == (3,)
    assert not weakest.requires_grad
    assert weakest.isnan().tolist() == [False, True, False]
    scores = outputs.raw.logits.sigmoid()
    for index, target in ((0, FACE), (2, second)):
        positive = atss(anchors, target.boxes) >= 0
        assert weakest[index].item() == pytest.approx(scores[index, positive].min().item())
