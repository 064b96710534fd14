import copy

import numpy as np
import pytest
import torch
from reference import spectral

from facefind.errors import WeightsError
from facefind.mesh import Decoder
from facefind.systems.mesh.chebyshev import ChebyshevConv
from facefind.systems.mesh.decoder import MeshDecoder
from facefind.systems.mesh.template import face_template
from facefind.systems.mesh.topology import levels, scaled_laplacian


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    template = face_template()
    network = MeshDecoder.over(levels(template.mesh))
    network.landmarks, network.mirror = template.landmarks, template.mirror
    return network


@pytest.mark.parametrize("order", [1, 2, 3, 6])
def test_the_recursion_is_filtering_in_the_spectrum(order):
    torch.manual_seed(order)
    mesh = levels(face_template().mesh)[2].mesh
    conv = ChebyshevConv(scaled_laplacian(mesh), 3, 2, order).double()
    torch.nn.init.normal_(conv.bias)
    x = torch.randn(2, len(mesh), 3, dtype=torch.float64)
    plain = spectral.laplacian(len(mesh), mesh.triangles.tolist())
    weight, bias = conv.weight.detach().numpy(), conv.bias.detach().numpy()
    for got, item in zip(conv(x), x, strict=True):
        wanted = spectral.chebyshev_filter(plain, item.numpy(), weight, bias, order)
        np.testing.assert_allclose(got.detach().numpy(), wanted, atol=2e-5)


def test_the_convolution_has_right_gradients():
    mesh = levels(face_template().mesh)[3].mesh
    conv = ChebyshevConv(scaled_laplacian(mesh), 2, 2, 4).double()
    x = torch.randn(2, len(mesh), 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(conv, (x,))


def test_an_order_reaches_so_many_edges_less_one():
    mesh = levels(face_template().mesh)[1].mesh
    conv = ChebyshevConv(scaled_laplacian(mesh), 1, 1, 3)
    x = torch.zeros(1, len(mesh), 1)
    x[0, 0] = 1
    reached = (conv(x) - conv(x * 0))[0, :, 0].abs() > 1e-7
    near, edges = {0}, mesh.edges.tolist()
    for _ in range(2):
        near |= {b for a, b in edges if a in near} | {a for a, b in edges if b in near}
    assert set(reached.nonzero().squeeze(1).tolist()) <= near
    assert reached.sum() > 1


def test_a_decoder_gives_six_numbers_a_vertex_and_its_mean_where_it_is_silent(network):
    assert network(torch.randn(3, 128)).shape == (3, 775, 6)
    silent = copy.deepcopy(network)
    torch.nn.init.zeros_(silent.last.weight)
    mean = silent(torch.randn(1, 128))[0].detach().numpy()
    np.testing.assert_allclose(mean[:, :3], face_template().mesh.vertices, atol=1e-6)


def test_numpy_decodes_as_torch_does(network, tmp_path):
    codes = torch.randn(3, 128)
    with torch.no_grad():
        wanted = network(codes).numpy()
    frozen = network.frozen()
    np.testing.assert_allclose(frozen(codes.numpy()), wanted, atol=1e-4)
    loaded = Decoder.load(frozen.save(tmp_path / "a.npz"))  # in half precision
    np.testing.assert_allclose(loaded(codes.numpy()), wanted, atol=0.02)
    np.testing.assert_array_equal(loaded.landmarks, network.landmarks)
    np.testing.assert_array_equal(loaded.mirror, network.mirror)
    again = MeshDecoder.from_decoder(loaded)
    with torch.no_grad():
        np.testing.assert_allclose(again(codes).numpy(), loaded(codes.numpy()), atol=1e-4)


def test_operators_are_no_weights(network):
    names = set(network.state_dict())
    assert {"mean", "scale", "first.weight", "last.bias", "convs.0.weight"} <= names
    assert not any("indices" in name or "values" in name for name in names)


def test_files_that_hold_no_decoder_are_told(network, tmp_path):
    with pytest.raises(WeightsError, match="no mesh decoder"):
        Decoder.load(tmp_path / "missing.npz")
    (tmp_path / "text.npz").write_text("no archive")
    with pytest.raises(WeightsError, match="cannot be read"):
        Decoder.load(tmp_path / "text.npz")
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    with pytest.raises(WeightsError, match="version"):
        Decoder.load(tmp_path / "other.npz")
    path = network.frozen().save(tmp_path / "a.npz")
    arrays = dict(np.load(path))
    del arrays["1.laplacian.values"]
    np.savez(tmp_path / "torn.npz", **arrays)
    with pytest.raises(WeightsError, match=r"1\.laplacian"):
        Decoder.load(tmp_path / "torn.npz")
    np.savez(tmp_path / "later.npz", **(dict(np.load(path)) | {"version": 99}))
    with pytest.raises(WeightsError, match="version 99"):
        Decoder.load(tmp_path / "later.npz")
