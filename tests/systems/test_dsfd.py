"""DSFD's networks: the published sizes, two shots, and what inference leaves out."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from kinds import FACE, packed

from facefind.learn.targets import Target
from facefind.nn.cost import measure
from facefind.systems.dsfd import CRITERION, RELEASED_CRITERION, ROWS, DSFDConfig

_FEW = {"backbone": "mobilenet", "stem": (8, 8), "depths": (1, 1, 1, 1), "widths": (8, 12, 16, 16)}
SMALL = replace(ROWS["dsfd-light"], **_FEW, enhanced=(12,) * 6)
RELEASE = replace(ROWS["dsfd-release"], **_FEW)
LIGHT = ROWS["lightdsfd"]
COUNTS = {
    "dsfd-r152": (143_087_768, 139.26),
    "dsfd-r101": (127_444_120, 116.54),
    "dsfd-r50": (108_451_992, 93.81),
    "dsfd-vgg16": (49_793_432, 138.72),
    "dsfd-se-r101": (132_221_832, 115.12),
    "dsfd-se-rx101": (131_850_376, 117.57),
    "dsfd-dpn98": (217_573_560, 217.13),
    "dsfd-release": (120_058_406, 259.07),
    "dsfd-light": (1_025_786, 0.836),
    "lightdsfd": (986_916, 1.066),
}


def on_meta(config: DSFDConfig):
    with torch.device("meta"):
        return config.build()


@pytest.mark.parametrize("row", ROWS)
def test_parameters_and_multiply_adds(row):
    network = on_meta(ROWS[row])
    with torch.device("meta"):
        cost = measure(network, 480, 640)
    parameters, giga = COUNTS[row]
    assert cost.parameters == parameters
    assert cost.multiply_adds / 1e9 == pytest.approx(giga, rel=1e-3)
    assert cost.parts.get("auxiliary", {"multiply_adds": 0})["multiply_adds"] == 0


@pytest.mark.parametrize(
    ("backbone", "mebibytes"),
    [("resnet-101", 399), ("resnet-152", 459), ("se-resnet-101", 418), ("se-resnext-101", 416),
     ("dpn-98", 515)],
)  # fmt: skip
def test_table_5_gives_the_released_networks_file_sizes(backbone, mebibytes):
    """In MiB at four bytes a number, with what normalization remembers."""
    network = on_meta(replace(ROWS["dsfd-release"], backbone=backbone))
    numbers = sum(v.numel() for v in network.state_dict().values())
    assert numbers * 4 / 2**20 == pytest.approx(mebibytes, abs=1.1)


def test_table_1():
    network = on_meta(ROWS["dsfd-r152"])
    second = network.anchors([(640 // s, 640 // s) for s in network.strides])
    first = network.auxiliary[0].anchors([(640 // s, 640 // s) for s in network.strides])
    assert second.per_level == first.per_level == (25600, 6400, 1600, 400, 100, 25)
    assert len(second) == 34_125
    for anchors, finest in ((second, 16), (first, 8)):
        sides = anchors.sizes.prod(1).sqrt()
        assert sides[0].item() == pytest.approx(finest)
        assert sides[-1].item() == pytest.approx(32 * finest)
        assert (anchors.sizes[:, 1] / anchors.sizes[:, 0]).allclose(torch.tensor(1.5))
    assert second.centers[0].tolist() == [2, 2]
    assert second.centers[-1].tolist() == [576, 576]


@pytest.mark.parametrize("first_shot", ["half", "same"])
def test_the_first_shot_is_learned_in_training_and_never_computed_otherwise(first_shot):
    torch.manual_seed(0)
    network = replace(SMALL, first_shot=first_shot).build()
    images = torch.randint(0, 256, (2, 3, 128, 128)).float()
    calls = []
    network.auxiliary[0].register_forward_hook(lambda *_: calls.append("shot"))
    network.auxiliary[0].head.register_forward_hook(lambda *_: calls.append("head"))
    with torch.inference_mode():
        output = network.eval()(images)
        network.candidates(images)
    assert output.auxiliary == ()
    assert calls == []
    (first,) = network.train()(images).auxiliary
    assert calls == ["head"]
    half = 2 if first_shot == "half" else 1
    assert (first.anchors.sizes * half).equal(output.anchors.sizes)
    assert first.logits.shape == output.logits.shape == (2, len(output.anchors), 2)


@pytest.mark.parametrize("fem", [True, False])
def test_a_network_without_a_first_shot_finds_the_same_at_the_same_cost(fem):
    """Two shots with the weights of one: the first changes nothing of what is found."""
    torch.manual_seed(0)
    dual = replace(SMALL, enhance=fem).build().eval()
    single = replace(SMALL, enhance=fem, first_shot="none").build().eval()
    state = {k: v for k, v in dual.state_dict().items() if not k.startswith("auxiliary")}
    single.load_state_dict(state)
    images = torch.randint(0, 256, (1, 3, 96, 160)).float()
    with torch.inference_mode():
        for one, other in zip(
            dual.candidates(images)[:2], single.candidates(images)[:2], strict=True
        ):
            assert torch.equal(one, other)
    assert measure(dual, 96, 160).multiply_adds == measure(single, 96, 160).multiply_adds


def test_variants_of_the_light_network_cost_the_same_to_run():
    costs = {}
    for name, change in {
        "dual": {},
        "single": {"first_shot": "none"},
        "nopal": {"first_shot": "same"},
        "nofem": {"product": False, "dilation": 1},
    }.items():
        with torch.device("meta"):
            costs[name] = measure(replace(ROWS["dsfd-light"], **change).build(), 480, 640)
    adds = {name: cost.multiply_adds for name, cost in costs.items()}
    assert adds["dual"] == adds["single"] == adds["nopal"] < 1e9
    assert adds["nofem"] == pytest.approx(adds["dual"], rel=0.04)


@pytest.mark.parametrize("criterion", [CRITERION, RELEASED_CRITERION])
def test_both_shots_learn_by_equations_2_to_4(criterion):
    torch.manual_seed(0)
    network = SMALL.build().train()
    targets = packed([FACE, Target.empty()], (128, 128))
    output = network(torch.randint(0, 256, (2, 3, 128, 128)).float())
    learn = criterion.build(network)
    terms = learn(output, targets).terms
    assert terms.keys() == {"cls", "box", "cls_aux", "box_aux"}
    alone = learn(replace(output.auxiliary[0], auxiliary=()), targets).terms
    assert terms["cls_aux"] == alone["cls"]
    assert terms["box_aux"] == alone["box"] > 0
    halved = replace(criterion, auxiliary_weight=0.5).build(network)(output, targets).terms
    assert halved["cls_aux"] == 0.5 * terms["cls_aux"]
    assert halved["cls"] == terms["cls"]


def test_the_released_network_learns_heads_and_bodies_and_leaves_them_out_of_inference():
    torch.manual_seed(0)
    network = RELEASE.build().train()
    images = torch.randint(0, 256, (2, 3, 128, 128)).float()
    output = network(images)
    head, body = output.auxiliary
    assert (head.anchors.name, body.anchors.name) == ("head", "body")
    for part, strides, smallest in (
        (head, {8, 16, 32, 64, 128}, 16),
        (body, {16, 32, 64, 128}, 16),
    ):
        assert set(part.anchors.strides.tolist()) == strides
        assert part.anchors.sizes.prod(1).sqrt().min().item() == pytest.approx(smallest)
        assert part.logits.shape[:2] == part.boxes.shape[:2] == (2, len(part.anchors))
    assert len(head.anchors) == len(output.anchors) - 32 * 32
    targets = packed([FACE, Target.empty()], (128, 128))
    losses = RELEASED_CRITERION.build(network)(output, targets)
    sum(losses.terms.values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters())
    with torch.inference_mode():
        assert network.eval()(images).auxiliary == ()


def test_of_four_scores_the_released_network_takes_the_highest_of_three():
    """On the finest level the background is the highest of three, on the others the face."""
    network = RELEASE.build().eval()
    with torch.no_grad():
        for branch in network.head.cls:
            branch[-1].weight.zero_()
            branch[-1].bias[:4] = torch.tensor([1.0, 3.0, 2.0, 0.5])
        output = network(torch.zeros(1, 3, 128, 128))
    finest = output.anchors.strides == 4
    assert output.logits[0, finest].unique(dim=0).tolist() == [[3, 0.5]]
    assert output.logits[0, ~finest].unique(dim=0).tolist() == [[0.5, 3]]


def test_vgg_s_three_finest_maps_are_normalized_and_an_empty_one_trains():
    """A map of zeros has no direction: its gradient must not be one of no number."""
    from facefind.nn.layers import L2Norm

    norm = L2Norm(4, 10.0)
    x = torch.randn(2, 4, 3, 3)
    x[0, :, 1, 1] = 0
    x.requires_grad_()
    lengths = norm(x).square().sum(1).sqrt()
    wanted = torch.full_like(lengths, 10.0)
    wanted[0, 1, 1] = 0
    assert torch.allclose(lengths, wanted, atol=1e-4)
    norm(x).sum().backward()
    assert torch.isfinite(x.grad).all()
    network = on_meta(ROWS["dsfd-vgg16"])
    scales = [m for m in network.modules() if isinstance(m, L2Norm)]
    assert [len(m.weight) for m in scales] == 2 * [256, 512, 512]
