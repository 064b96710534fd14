"""Statistics of batch normalization: packed beside folded weights, put back, measured."""

import pytest
import torch
from reference.folding import graph_of, lively
from test_onnx_weights import KPS, LIGHT, VGG

from facefind.errors import WeightsError
from facefind.nn.onnx_weights import match
from facefind.nn.statistics import measure, pack, restore


def pictures(count=3):
    torch.manual_seed(4)
    return torch.randint(0, 256, (count, 3, 96, 128), dtype=torch.uint8)


def outputs(network, images, *, training=False):
    network.train(training)
    with torch.no_grad():
        found = network(images)
    network.eval()
    return [found.logits, found.boxes]


def restored(config, network, *, statistics=True):
    fresh = config.build().eval()
    found = match(fresh, graph_of(network))
    if statistics:
        restore(found, fresh, pack(network))
    fresh.load_state_dict(fresh.state_dict() | found.state)
    return fresh


@pytest.mark.parametrize("config", [KPS, LIGHT], ids=["kps", "light"])
def test_training_goes_on_from_where_it_was(config):
    """A folded network with its statistics is the network before, in evaluation and in training."""
    network = lively(config.build())
    measure(network, [pictures()])  # so that batches are about what the statistics say
    mine, bare = restored(config, network), restored(config, network, statistics=False)
    for training in (False, True):
        wanted = outputs(network, pictures(2), training=training)
        got = outputs(mine, pictures(2), training=training)
        torch.testing.assert_close(got, wanted, rtol=2e-3, atol=2e-3)
    lost = outputs(bare, pictures(2), training=True)
    gap = [(a - b).abs().mean() for a, b in zip(lost, wanted, strict=True)]
    kept = [(a - b).abs().mean() for a, b in zip(got, wanted, strict=True)]
    assert all(a > 100 * b for a, b in zip(gap, kept, strict=True))


def test_running_statistics_are_restored_up_to_the_scale_that_was_folded():
    network = lively(KPS.build())
    mine = restored(KPS, network)
    norm, again = network.backbone.stem[0][1], mine.backbone.stem[0][1]
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    torch.testing.assert_close(again.running_mean, norm.running_mean * scale)
    torch.testing.assert_close(again.running_var, norm.running_var * scale.square())
    assert torch.equal(mine.backbone.stem[0][1].num_batches_tracked, torch.tensor(0))


@pytest.mark.parametrize("config", [KPS, LIGHT], ids=["kps", "light"])
def test_measured_statistics_make_training_what_evaluation_is(config):
    network = lively(config.build())
    network.backbone.train()
    before = outputs(network, pictures())
    network.train()
    network.neck.eval()
    measure(network, [pictures()[:1], pictures()[1:]])
    assert network.training
    assert not network.neck.training
    torch.testing.assert_close(outputs(network, pictures()), before, rtol=1e-4, atol=1e-4)
    trained = outputs(network, pictures(), training=True)
    torch.testing.assert_close(trained, before, rtol=1e-3, atol=1e-3)


def test_statistics_of_another_network_are_refused():
    network, fresh = lively(KPS.build()), KPS.build()
    found = match(fresh, graph_of(network))
    for text in (pack(lively(LIGHT.build())), pack(network)[:-8], "none"):
        with pytest.raises(WeightsError, match="statistics of batch normalization do not fit"):
            restore(found, fresh, text)


def test_a_network_without_batch_normalization_has_none():
    assert pack(VGG.build()) == ""
