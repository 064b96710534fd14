import dataclasses

import pytest
import torch
from torch import nn

from facefind.errors import DataError
from facefind.learn import checkpoints
from facefind.learn.engine import train
from facefind.learn.optimizers import freeze, make_optimizer, set_rate
from facefind.learn.recipe import OptimConfig, ParameterGroup


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
        self.body2 = nn.Conv2d(4, 4, 1)
        self.head = nn.Conv2d(4, 2, 1)


def values(network, optimizer, key):
    names = {p: name for name, p in network.named_parameters()}
    return {names[p]: group[key] for group in optimizer.param_groups for p in group["params"]}


def test_factors_of_all_groups_multiply():
    network = Two()
    groups = (
        ParameterGroup(part="body", lr=2.0),
        ParameterGroup(part="*.bias", lr=2.0),
        ParameterGroup(part="head.bias", decay=0.0),
    )
    optimizer = make_optimizer(network, OptimConfig(weight_decay=0.5, groups=groups))
    set_rate(optimizer, 0.1)
    assert values(network, optimizer, "lr") == pytest.approx(
        {
            "body.0.weight": 0.2, "body.0.bias": 0.4, "body.1.weight": 0.2, "body.1.bias": 0.4,
            "body2.weight": 0.1, "body2.bias": 0.2, "head.weight": 0.1, "head.bias": 0.2,
        }
    )  # fmt: skip
    decays = values(network, optimizer, "weight_decay")
    assert decays.pop("head.bias") == 0
    assert set(decays.values()) == {0.5}


def test_a_class_s_name_names_all_of_its_modules():
    network = Two()
    (norm,) = freeze(network, ["BatchNorm2d"])
    assert norm is network.body[1]
    fixed = [name for name, p in network.named_parameters() if not p.requires_grad]
    assert fixed == ["body.1.weight", "body.1.bias"]
    groups = (ParameterGroup(part="Sequential", lr=3.0), ParameterGroup(part="Conv2d", lr=2.0))
    optimizer = make_optimizer(network, OptimConfig(groups=groups))
    set_rate(optimizer, 1.0)
    rates = values(network, optimizer, "lr")
    assert (rates["body.0.weight"], rates["body2.bias"]) == (6.0, 2.0)
    with pytest.raises(DataError, match="got 'GroupNorm'"):
        freeze(network, ["GroupNorm"])
    freeze(network, ["body", "body2", "head"])
    with pytest.raises(DataError, match="nothing is left to learn"):
        make_optimizer(network, OptimConfig())


def test_adamw_leaves_vectors_without_decay():
    network = Two()
    groups = (ParameterGroup(part="body", decay=3.0),)
    for config in (OptimConfig(name="adamw"), OptimConfig(name="adamw", groups=groups)):
        decays = values(network, make_optimizer(network, config), "weight_decay")
        for name, parameter in network.named_parameters():
            factor = 3 if config.groups and name.startswith("body.") else 1
            want = config.weight_decay * factor if parameter.ndim > 1 else 0
            assert decays[name] == pytest.approx(want)


def test_without_groups_checkpoints_keep_their_form():
    network = Two()
    assert len(make_optimizer(network, OptimConfig()).param_groups) == 1
    assert len(make_optimizer(network, OptimConfig(name="adamw")).param_groups) == 2
    optimizer = make_optimizer(network, OptimConfig())
    del optimizer.param_groups[0]["factor"]  # as of a checkpoint from before there were groups
    set_rate(optimizer, 0.3)
    assert optimizer.param_groups[0]["lr"] == 0.3


def test_a_name_that_fits_nothing_is_told():
    network = Two()
    with pytest.raises(DataError, match=r"body, body2, head.*'neck'"):
        make_optimizer(network, OptimConfig(groups=(ParameterGroup(part="neck"),)))
    with pytest.raises(DataError, match=r"--optim\.frozen.*'bod'"):
        freeze(network, ("bod",))


def test_what_is_frozen_gets_no_gradient():
    network = Two()
    frozen_bn = freeze(network, ("body", "head.bias"))
    assert frozen_bn == [network.body[1]]
    learning = {name for name, p in network.named_parameters() if p.requires_grad}
    assert learning == {"body2.weight", "body2.bias", "head.weight"}
    optimizer = make_optimizer(network, OptimConfig())
    assert set(values(network, optimizer, "lr")) == learning


def test_a_frozen_part_stays_as_it_was(recipe):
    frozen = ("backbone.stem", "neck")
    optim = dataclasses.replace(
        recipe.optim, frozen=frozen, groups=(ParameterGroup(part="head", lr=0.5),)
    )
    torch.manual_seed(recipe.run.seed)
    before = recipe.network.build().state_dict()
    folder = train(dataclasses.replace(recipe, optim=optim), stop_at=3)
    content = checkpoints.load(folder / "last.pt")
    moved = {k for k, value in content["network"].items() if not torch.equal(value, before[k])}
    # running means and variances are among what stands still
    assert not any(key.startswith(frozen) for key in moved)
    assert any(key.startswith("backbone.layer1") and "running_mean" in key for key in moved)
    assert any(key.startswith("head") for key in moved)
    train(dataclasses.replace(recipe, optim=optim), resume=True, stop_at=4)
