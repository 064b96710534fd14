from dataclasses import replace

import pytest
import torch
from kinds import CRITERIA, FACE, SCRFD, assigned, criterion, packed

from facefind.learn.assigners import ATSS
from facefind.learn.targets import Target


@pytest.mark.parametrize("kind", [kind for kind in SCRFD if kind not in CRITERIA])
def test_the_lowest_score_of_an_image_s_positives(kind):
    torch.manual_seed(0)
    network = SCRFD[kind].build()
    outputs = network(torch.randint(0, 256, (3, 3, 96, 96)).float())
    anchors = outputs.anchors
    outputs = replace(outputs, logits=torch.randn(3, len(anchors), 1))
    second = Target(FACE.boxes + 30, FACE.landmarks, FACE.ignore)
    learn = criterion(kind, network)
    assert learn.assigner == ATSS()
    lowest = learn(outputs, packed([FACE, Target.empty(), second])).min_positive_scores
    assert lowest.shape == (3,)
    assert not lowest.requires_grad
    assert lowest.isnan().tolist() == [False, True, False]
    scores = outputs.logits.squeeze(-1).sigmoid()
    for index, one in ((0, FACE), (2, second)):
        positive = assigned(ATSS(), anchors, one.boxes, (96, 96)) >= 0
        assert lowest[index].item() == pytest.approx(scores[index, positive].min().item())
