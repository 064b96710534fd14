"""Which kind of published file something is, and what is said of files that are none."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

import pytest
import torch

from facefind import interop, weights
from facefind.errors import WeightsError
from facefind.interop.formats import names, read_state
from facefind.learn import checkpoints


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_state_dict_comes_out_of_its_wrapping(wrapper, prefix, tmp_path):
    state = {f"{prefix}a.weight": torch.ones(2), f"{prefix}b.bias": torch.zeros(1)}
    torch.save(state if wrapper is None else {wrapper: state, "epoch": 3}, tmp_path / "x.pth")
    read = read_state(tmp_path / "x.pth")
    assert list(read) == ["a.weight", "b.bias"]
    assert torch.equal(read["a.weight"], torch.ones(2))
    assert names(tmp_path / "x.pth") == {"a.weight", "b.bias"}


def test_a_name_that_begins_like_a_wrapper_is_kept_where_others_do_not(tmp_path):
    torch.save({"module.a": torch.ones(1), "b": torch.ones(1)}, tmp_path / "x.pth")
    assert names(tmp_path / "x.pth") == {"module.a", "b"}


def test_what_is_ours_already_is_told(tmp_path):
    checkpoints.save(tmp_path / "ours.pt", {"network": {}, "recipe": {}})
    with pytest.raises(WeightsError, match="already: facefind export takes it"):
        interop.detect_format(tmp_path / "ours.pt")
    with pytest.raises(WeightsError, match="already: facefind detect takes it"):
        interop.detect_format(weights.find(weights.default()))


def test_what_is_nobodys_is_told_with_all_kinds(tmp_path):
    torch.save({"fc.weight": torch.ones(1)}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=r"its tensors are fc\.weight") as error:
        interop.convert(tmp_path / "other.pth", tmp_path / "ours.pt")
    assert all(name in str(error.value) for name in interop.FORMATS)
    with pytest.raises(WeightsError, match=r"no format 'caffe'"):
        interop.convert(tmp_path / "other.pth", tmp_path / "ours.pt", format="caffe")
    (tmp_path / "bad.onnx").write_bytes(b"nothing of the kind")
    with pytest.raises(WeightsError, match="is no ONNX model"):
        interop.detect_format(tmp_path / "bad.onnx")
    with pytest.raises(WeightsError, match="no file"):
        interop.detect_format(tmp_path / "gone.onnx")


def test_what_may_be_two_kinds_is_asked_for(tmp_path, monkeypatch):
    torch.save({"fc.weight": torch.ones(1)}, tmp_path / "any.pth")
    both = {name: replace(one, matches=lambda held: True) for name, one in interop.FORMATS.items()}
    monkeypatch.setattr(interop, "FORMATS", MappingProxyType(both))
    with pytest.raises(WeightsError, match="may be scrfd-mmdet or scrfd-onnx"):
        interop.detect_format(tmp_path / "any.pth")


def test_formats_are_known_by_their_own_names():
    for name, one in interop.FORMATS.items():
        assert one.name == name
        assert one.about
        assert one.license
