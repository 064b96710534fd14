import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import deformable as oracle
from reference.folding import fuse
from torch.nn import functional

from facefind.nn.cost import measure
from facefind.nn.deform import DeformConv2d, deform_conv


def example(seed, *, stride=1, padding=1, kernel=(3, 3), size=(5, 6), spread=1.5):
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=draw, dtype=torch.float64)

    taps = kernel[0] * kernel[1]
    out = [(size[i] + 2 * padding - kernel[i]) // stride + 1 for i in (0, 1)]
    return (
        normal(2, 3, *size),
        spread * normal(2, 2 * taps, *out),
        torch.rand(2, taps, *out, generator=draw, dtype=torch.float64),
        normal(2, 3, *kernel),
        normal(2),
    )


@settings(max_examples=8)
@given(
    st.integers(0, 2**31),
    st.integers(1, 2),
    st.integers(0, 2),
    st.sampled_from([(3, 3), (1, 3), (2, 1)]),
    st.sampled_from([(4, 5), (5, 4), (3, 7)]),
)
def test_equals_the_plain_loops(seed, stride, padding, kernel, size):
    tensors = example(seed, stride=stride, padding=padding, kernel=kernel, size=size)
    want = oracle.convolve(*(t.numpy() for t in tensors), stride, padding)
    np.testing.assert_allclose(deform_conv(*tensors, stride, padding).numpy(), want, atol=1e-10)


@pytest.mark.parametrize("stride", [1, 2])
def test_gradients_are_right(stride):
    tensors = [t.requires_grad_() for t in example(3, stride=stride, size=(3, 4), spread=0.6)]
    assert torch.autograd.gradcheck(lambda *t: deform_conv(*t, stride), tensors)


@pytest.mark.parametrize("stride", [1, 2])
def test_the_layer_begins_as_a_plain_convolution(stride):
    torch.manual_seed(0)
    layer = DeformConv2d(4, 6, stride)
    x = torch.randn(2, 4, 7, 9)
    plain = functional.conv2d(x, layer.weight, stride=stride, padding=1)
    torch.testing.assert_close(layer(x), plain, atol=1e-5, rtol=1e-5)


def test_the_layer_learns_to_look_elsewhere():
    """Shown images beside the same moved by a pixel and a half, the taps move there."""
    torch.manual_seed(0)
    layer = DeformConv2d(1, 1)
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[0, 0, 1, 1] = 1
    layer.weight.requires_grad_(False)
    optimizer = torch.optim.Adam(layer.parameters(), 0.05)
    wide = torch.randn(8, 1, 12, 15)
    smooth = functional.avg_pool2d(wide, 3, 1)
    x, goal = smooth[..., :-3], (smooth[..., 1:-2] + smooth[..., 2:-1]) / 2
    before = functional.mse_loss(layer(x), goal).item()
    for _ in range(60):
        optimizer.zero_grad()
        loss = functional.mse_loss(layer(x), goal)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.4 * before
    assert layer.offsets.bias[9].item() > 0.7  # x of the tap in the middle


def test_channels_last_and_bf16_give_nearly_the_same():
    torch.manual_seed(0)
    layer = DeformConv2d(8, 8)
    torch.nn.init.normal_(layer.offsets.weight, std=0.1)
    x = torch.randn(2, 8, 10, 12)
    want = layer(x)
    last = layer.to(memory_format=torch.channels_last)
    got = last(x.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        low = layer(x)
    assert low.dtype == torch.bfloat16
    assert (low.float() - want).abs().mean() < 0.03 * want.abs().mean()
    low.float().square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in layer.parameters())


def test_the_layer_counts_and_folds_as_a_convolution():
    torch.manual_seed(0)
    network = torch.nn.Sequential(DeformConv2d(4, 6), torch.nn.BatchNorm2d(6)).eval()
    torch.nn.init.normal_(network[0].offsets.weight, std=0.1)
    network[1].running_mean.normal_()
    network[1].running_var.uniform_(0.5, 2)
    x = torch.randn(2, 4, 6, 7)
    fused = fuse(network)
    assert isinstance(fused[1], torch.nn.Identity)
    torch.testing.assert_close(fused(x), network(x), atol=1e-5, rtol=1e-5)
    plain = torch.nn.Sequential(torch.nn.Conv2d(3, 6, 3, padding=1))
    moves = torch.nn.Sequential(torch.nn.Conv2d(3, 27, 3, padding=1))
    both = measure(torch.nn.Sequential(DeformConv2d(3, 6)), 8, 9).multiply_adds
    assert both == measure(plain, 8, 9).multiply_adds + measure(moves, 8, 9).multiply_adds
