"""Writes quantized graphs as the integer kernels of ONNX Runtime take them."""

from __future__ import annotations

import itertools
from collections import defaultdict
from typing import Any

import numpy as np

__all__ = ["with_integer_kernels"]


def with_integer_kernels(model: Any) -> Any:
    """A copy of a quantized ModelProto that ONNX Runtime (1.21 on) computes in integers, too.

    Its integer convolution has one type and one scale for all channels on either side, and its
    output must be quantized at once; else it computes in floats between quantizers. NNCF mixes
    signed and unsigned tensors, gives each channel before a depthwise convolution its own scale,
    and leaves ReLU before quantizers. Here all tensors are unsigned; ReLU goes where the quantizer
    cuts at 0 by itself; and scales of channels move into the weights on both sides. Values stay
    what they are, but where channels have zero points of their own: there scales grow, at most
    to twice, until 128 is the zero point of all. Where scales of channels cannot move, tensors are
    signed, beside which floats remain: between two of one type ONNX Runtime takes them for one
    scale, and fails.
    """
    import onnx

    edited = onnx.ModelProto()
    edited.CopyFrom(model)
    graph = _Graph(edited.graph)
    for node in [node for node in edited.graph.node if node.op_type == "QuantizeLinear"]:
        graph.simplify(node)
    used = {name for node in edited.graph.node for name in node.input}
    for tensor in [one for one in edited.graph.initializer if one.name not in used]:
        edited.graph.initializer.remove(tensor)
    del edited.graph.value_info[:]  # of types that are others now
    return edited


class _Graph:
    """A graph with pairs of QuantizeLinear and DequantizeLinear, and who makes and takes what."""

    def __init__(self, graph: Any) -> None:
        from onnx import numpy_helper

        self.graph = graph
        self.values = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
        self.makers = {name: node for node in graph.node for name in node.output}
        self.takers: dict[str, list[Any]] = defaultdict(list)
        for node in graph.node:
            for name in node.input:
                self.takers[name].append(node)

    def simplify(self, node: Any) -> None:
        """Do what `with_integer_kernels` says with one QuantizeLinear."""
        scale, zero = (self.values[name] for name in node.input[1:])
        if zero.dtype == np.int8:
            zero = (zero.astype(np.int16) + 128).astype(np.uint8)
        source, relu = self.makers.get(node.input[0]), None
        if source and source.op_type == "Relu" and not zero.any() and self._alone(source):
            source, relu = self.makers.get(source.input[0]), source
        if scale.size > 1:
            targets = self._targets(node)
            if source is None or not self._foldable(source, targets):
                self._store_for(node, scale, (zero.astype(np.int16) - 128).astype(np.int8))
                return
            if zero.any():
                scale = scale * np.maximum(zero / 128, (255.0 - zero) / 127)
                zero = np.array(128, np.uint8)
            largest = scale.max()
            self._weigh(source, largest / scale, bias=True)
            for target in targets:
                self._weigh(target, scale / largest)
            scale, zero = np.array(largest, np.float32), zero.max()
        if relu is not None:
            node.input[0] = relu.input[0]
            self.graph.node.remove(relu)
        self._store_for(node, scale, zero)

    def _store_for(self, node: Any, scale: Any, zero: Any) -> None:
        """Keep the scale and zero point of a QuantizeLinear, and for those that read it back."""
        names = self._store(node.input[1], scale), self._store(node.input[2], zero)
        for one in (node, *self.takers[node.output[0]]):
            one.input[1], one.input[2] = names
            if scale.size == 1:
                del one.attribute[:]  # the axis

    def _alone(self, node: Any) -> bool:
        """Whether one node takes what this one makes."""
        return len(self.takers[node.output[0]]) == 1

    def _targets(self, node: Any) -> list[Any]:
        """What takes the values that a QuantizeLinear made, read back."""
        return [
            target
            for reader in self.takers[node.output[0]]
            for target in self.takers[reader.output[0]]
        ]

    def _foldable(self, source: Any, targets: list[Any]) -> bool:
        """Whether scales of channels can move: from a convolution to depthwise ones alone."""
        return self._alone(source) and all(
            one.op_type == "Conv"
            and len(self.takers[one.input[1]]) == 1
            and (one is source or self._weights(one).shape[1] == 1)
            for one in (source, *targets)
        )

    def _weights(self, convolution: Any) -> Any:
        """The values, as they are stored, (O, I, h, w)."""
        reader = self.makers.get(convolution.input[1])
        return self.values[convolution.input[1] if reader is None else reader.input[0]]

    def _weigh(self, convolution: Any, factors: Any, bias: bool = False) -> None:
        """Multiply what a convolution makes by factors of its channels, (O,)."""
        weights_or_scales = self.makers.get(convolution.input[1], convolution), 1
        biases = [(convolution, 2)] if bias and len(convolution.input) > 2 else []
        for node, at in [weights_or_scales, *biases]:
            old = self.values[node.input[at]]
            shaped = factors.reshape(-1, *(1,) * (old.ndim - 1))
            node.input[at] = self._store(node.input[at], (old * shaped).astype(old.dtype))

    def _store(self, like: str, value: Any) -> str:
        """Keep a tensor under a new name."""
        from onnx import numpy_helper

        name = next(
            each for count in itertools.count() if (each := f"{like}/{count}") not in self.values
        )
        self.values[name] = np.asarray(value)
        self.graph.initializer.append(numpy_helper.from_array(self.values[name], name))
        return name
