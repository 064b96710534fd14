"""ASFD's networks: the published sizes, one head for two shots, and what lies between the sizes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from kinds import FACE, packed
from torch import nn

from facefind.learn.targets import Target
from facefind.nn.cost import Cost, measure
from facefind.systems.asfd import DRMC, FAMILY, ROWS, ASFDConfig, scaled, within

SMALL = replace(ROWS["asfd-d0"], width=12)
# Parameters, the paper's of table 4 in units of 2**20, its multiply-adds and ours of convolutions.
FAMILY_COUNTS = (
    (667_878, 0.62, 0.73, 0.706),
    (4_065_782, 3.90, 4.27, 4.159),
    (14_218_678, 13.56, 20.48, 20.435),
    (27_935_686, 26.56, 46.32, 46.206),
    (38_687_030, 36.76, 70.45, 70.644),
    (70_951_734, 67.73, 147.40, 147.696),
    (90_282_566, 86.10, 183.11, 182.808),
)
CONTEXT_COUNTS = {
    "asfd-d0-cpm": (703_734, 0.852),
    "asfd-d1-cpm": (4_284_278, 5.072),
    "asfd-d2-cpm": (15_048_886, 23.938),
    "asfd-d3-cpm": (29_770_822, 53.977),
    "asfd-d4-cpm": (41_920_310, 84.361),
    "asfd-d5-cpm": (78_160_950, 178.338),
    "asfd-d6-cpm": (97_491_782, 213.449),
    "asfd-r50": (36_392_230, 61.646),
}


def cost_of(config: ASFDConfig) -> tuple[Cost, int]:
    """The cost at 640 x 480, and the numbers that normalizations give on the way."""
    with torch.device("meta"):
        network = config.build()
        normalized = [0]

        def count(_module, _inputs, output):
            normalized[0] += output.numel()

        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.register_forward_hook(count)
        return measure(network, 480, 640), normalized[0]


@pytest.mark.parametrize("size", range(7))
def test_the_family_s_parameters_and_multiply_adds(size):
    parameters, mebi, paper, giga = FAMILY_COUNTS[size]
    cost, normalized = cost_of(ROWS[f"asfd-d{size}"])
    assert cost.parameters == parameters
    assert cost.parameters / 2**20 == pytest.approx(mebi, rel=0.028)
    assert cost.multiply_adds / 1e9 == pytest.approx(giga, rel=1e-3)
    # The paper's count has normalization in it, at a multiplication and an addition a number.
    assert (cost.multiply_adds + 2 * normalized) / 1e9 == pytest.approx(paper, rel=0.01)


@pytest.mark.parametrize("row", CONTEXT_COUNTS)
def test_other_networks_are_counted_apart(row):
    parameters, giga = CONTEXT_COUNTS[row]
    cost, _ = cost_of(ROWS[row])
    assert cost.parameters == parameters
    assert cost.multiply_adds / 1e9 == pytest.approx(giga, rel=1e-3)
    assert CONTEXT_COUNTS.keys() | {f"asfd-d{n}" for n in range(7)} == ROWS.keys()


def test_the_scaling_rule_gives_the_family_and_what_lies_between():
    assert [scaled(size) for size in range(7)] == list(FAMILY)
    half = scaled(2.5)
    assert (half.backbone, half.width, half.repeats, half.head_depth) == ("resnet-18", 160, 1, 1)
    beyond = scaled(7)
    assert (beyond.backbone, beyond.width) == ("resnet-152", 520)
    with pytest.raises(ValueError, match="at least 0"):
        scaled(-1)


def test_costs_rise_with_the_size():
    adds = []
    for size in (0, 0.5, 0.95, 1, 1.95, 2, 2.95):
        with torch.device("meta"):
            adds.append(measure(scaled(size).build(), 480, 640).multiply_adds)
    assert adds == sorted(adds)


def test_a_budget_gives_the_largest_size_within_it():
    phi = within(3e9, step=0.25)
    assert 0 < phi < 1
    for place, fits in ((phi, True), (phi + 0.25, False)):
        with torch.device("meta"):
            assert (measure(scaled(place).build(), 480, 640).multiply_adds <= 3e9) == fits
    assert within(1e12, parameters=5e6, step=1) == 1
    with pytest.raises(ValueError, match="D0 is the smallest"):
        within(1e8)


@pytest.mark.parametrize("first_shot", ["half", "same"])
def test_both_shots_share_a_head_and_inference_has_one(first_shot):
    torch.manual_seed(0)
    network = replace(SMALL, first_shot=first_shot).build()
    assert not any("auxiliary" in name for name, _ in network.named_parameters())
    images = torch.randint(0, 256, (2, 3, 128, 128)).float()
    calls = []
    network.head.register_forward_hook(lambda _, inputs, __: calls.append(inputs[0]))
    network.extension.register_forward_hook(lambda _, __, maps: calls.append(maps))
    network.train()
    output = network(images)
    first, head, body = output.auxiliary
    laterals, second, shared = calls
    assert shared is laterals
    assert second is not laterals
    half = 2 if first_shot == "half" else 1
    assert (first.anchors.sizes * half).equal(output.anchors.sizes)
    assert (head.anchors.name, body.anchors.name) == ("head", "body")
    assert len(head.anchors) == len(output.anchors) - 32 * 32
    calls.clear()
    with torch.inference_mode():
        assert network.eval()(images).auxiliary == ()
    assert len(calls) == 2


def test_a_network_without_a_first_shot_finds_the_same():
    torch.manual_seed(0)
    dual, single = SMALL.build().eval(), replace(SMALL, first_shot="none").build().eval()
    single.load_state_dict(dual.state_dict())
    images = torch.randint(0, 256, (1, 3, 96, 160)).float()
    with torch.inference_mode():
        pairs = zip(dual.candidates(images)[:2], single.candidates(images)[:2], strict=True)
        assert all(torch.equal(one, other) for one, other in pairs)


def test_drmc_teaches_both_shots_and_all_sets_of_anchors():
    torch.manual_seed(0)
    network = SMALL.build().train()
    targets = packed([FACE, Target.empty()], (128, 128))
    output = network(torch.randint(0, 256, (2, 3, 128, 128)).float())
    terms = DRMC.build(network)(output, targets).terms
    assert terms.keys() == {
        f"{term}{shot}" for term in ("cls", "box") for shot in ("", "_aux", "_aux2", "_aux3")
    }
    assert terms["box_aux"] > 0
    alone = DRMC.build(network)(replace(output.auxiliary[0], auxiliary=()), targets).terms
    assert terms["cls_aux"] == alone["cls"]
    plain = replace(DRMC, classification=replace(DRMC.classification, kind="cross-entropy"))
    easier = plain.build(network)(output, targets).terms
    assert terms["cls"] > easier["cls"]
    assert terms["box"] == easier["box"]


def test_scores_may_be_cosines():
    torch.manual_seed(0)
    network = replace(SMALL, cosine=16.0).build().train()
    output = network(torch.randint(0, 256, (2, 3, 64, 64)).float())
    assert output.logits.abs().max() <= 16
    learn = DRMC.build(network)
    assert learn.terms["cls"].margin == pytest.approx(16 * 0.2)
    assert DRMC.build(SMALL.build()).terms["cls"].margin == 0.2


def test_a_backbone_must_have_four_maps():
    with pytest.raises(ValueError, match="vgg16 has no maps at strides"):
        replace(SMALL, backbone="vgg16").build()
