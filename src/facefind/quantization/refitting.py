"""Fits the last convolutions of a quantized network to what they are given.

What int8 does inside a network reaches its outputs as errors that are much alike from picture to
picture. Which weights of a last convolution bring its outputs, of the quantized inputs, nearest to
those of the network in floats follows from sums over pictures, in closed form. Fitting layers to
their quantized inputs is of AdaQuant (Hubara et al., "Accurate Post Training Quantization With
Small Calibration Sets", ICML 2021), which takes all layers, by gradients; here positions count by
the scores of their faces, too.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Target", "refit", "targets"]

LIKELY = 0.05
"""All positions with a face of this score are fitted to, and one in `EVERY` of all."""
EVERY = 50
BACKGROUND = 0.02
"""A position counts by the score of its best face and this."""
DAMPING = 0.01
"""How firmly weights are held where they were, by the mean square of what they multiply."""

Feeds = Iterable[Mapping[str, Any]]
"""What a graph is given, picture after picture, by the names of its inputs."""


class Target(NamedTuple):
    """What a convolution is to give for one picture.

    Attributes:
        rows, columns: Positions on its map, (N,).
        importance: By which each counts, (N,).
        values: Its outputs there, (N, O).
    """

    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    importance: NDArray[np.float64]
    values: NDArray[np.float64]


def targets(model: Any, names: Sequence[str], feeds: Feeds) -> list[dict[str, Target]]:
    """What convolutions of a ModelProto in floats give for each picture, by their names.

    Args:
        model: Its output "scores" is (1, A): map after map of the convolutions from the largest,
            row by row, with equally many anchors a position.
        names: Of the convolutions.
        feeds: The pictures, of batch 1.
    """
    nodes = {node.name: node for node in model.graph.node}
    made = [nodes[name].output[0] for name in names]
    return [
        _targets_of(
            out["scores"][0], {name: out[tap][0] for name, tap in zip(names, made, strict=True)}
        )
        for out in _run(model, ["scores", *made], feeds)
    ]


def refit(
    model: Any, plain: Any, wanted: Sequence[Mapping[str, Target]], feeds: Feeds, limit: int
) -> None:
    """Fit the convolutions of a quantized ModelProto, in place.

    Args:
        model: The quantized one; convolutions have the names that they have in `plain`.
        plain: What it was made of: its weights are held to.
        wanted: What `targets` has made of `plain`, by the names of the convolutions to be fitted;
            each has stride 1, and as large a map as its input.
        feeds: The pictures that `targets` was given, in their order.
        limit: The largest of the weights that are stored as integers.
    """
    from onnx import numpy_helper

    nodes = {node.name: node for node in model.graph.node}
    before = {node.name: node for node in plain.graph.node}
    old = {one.name: numpy_helper.to_array(one) for one in plain.graph.initializer}
    names = list(wanted[0])
    sharing = defaultdict(list)
    for name in names:
        sharing[nodes[name].input[1]].append(name)
    taps = list({nodes[name].input[0] for name in names})
    sums: dict[str, list[NDArray[Any]]] = {}
    for targets_of_one, out in zip(wanted, _run(model, taps, feeds), strict=True):
        for shared, users in sharing.items():
            for name in users:
                kernel = old[before[name].input[1]].shape[-1]
                added = _sums(out[nodes[name].input[0]][0], targets_of_one[name], kernel)
                sums[shared] = [a + b for a, b in zip(sums.get(shared, (0, 0)), added, strict=True)]
    stored = {one.name: one for one in model.graph.initializer}
    readers = {name: node for node in model.graph.node for name in node.output}
    for shared, users in sharing.items():
        weights, *biases = (old[name].astype(np.float64) for name in before[users[0]].input[1:])
        bias = biases[0] if biases else np.zeros(len(weights))  # zeros are left out of files
        weights, bias = _solved(weights, bias, *sums[shared])
        values = {}
        for name in users:
            if len(nodes[name].input) == 2:
                nodes[name].input.append(f"{name}/bias")
            values[nodes[name].input[2]] = bias.astype(np.float32)
        if shared in stored:
            values[shared] = weights.astype(np.float32)
        else:
            quantized, scale = readers[shared].input[:2]
            largest = np.abs(weights).max((1, 2, 3), keepdims=True)
            steps = np.maximum(largest, np.finfo(np.float32).tiny * limit) / limit
            values |= {quantized: np.rint(weights / steps).astype(np.int8)}
            values |= {scale: steps.reshape(-1).astype(np.float32)}
        for name, value in values.items():
            tensor = stored.get(name) or model.graph.initializer.add()
            tensor.CopyFrom(numpy_helper.from_array(value, name))


def _run(model: Any, names: Sequence[str], feeds: Feeds) -> Iterator[dict[str, NDArray[Any]]]:
    """Tensors of a ModelProto, for picture after picture."""
    import onnx
    import onnxruntime

    tapped = onnx.ModelProto()
    tapped.CopyFrom(model)
    known = {output.name for output in tapped.graph.output}
    tapped.graph.output.extend(
        onnx.helper.make_empty_tensor_value_info(name) for name in names if name not in known
    )
    session = onnxruntime.InferenceSession(
        tapped.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    for given in feeds:
        yield dict(zip(names, session.run(list(names), given), strict=True))


def _targets_of(scores: NDArray[Any], maps: Mapping[str, NDArray[Any]]) -> dict[str, Target]:
    """Of one picture: of scores (A,) and maps (O, H, W)."""
    sizes = sorted({one.shape[1:] for one in maps.values()}, key=lambda size: -size[0] * size[1])
    best = scores.reshape(sum(high * wide for high, wide in sizes), -1).max(1)
    splits = np.cumsum([high * wide for high, wide in sizes])[:-1]
    found = {}
    for size, part in zip(sizes, np.split(best.astype(np.float64), splits), strict=True):
        chosen = np.flatnonzero((part >= LIKELY) | (np.arange(len(part)) % EVERY == 0))
        rows, columns = np.unravel_index(chosen, size)
        for name, values in maps.items():
            if values.shape[1:] == size:
                picked = values[:, rows, columns].T.astype(np.float64)
                found[name] = Target(rows, columns, part[chosen] + BACKGROUND, picked)
    return found


def _sums(given: NDArray[Any], target: Target, kernel: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Weighted sums of what is multiplied, squared (n, n) and by what is wanted (n, O)."""
    edge = kernel // 2
    padded = np.pad(given.astype(np.float64), ((0, 0), (edge, edge), (edge, edge)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (kernel, kernel), (1, 2))
    rows = windows[:, target.rows, target.columns].swapaxes(0, 1).reshape(len(target.rows), -1)
    rows = np.concatenate([rows, np.ones((len(rows), 1))], 1)
    weighed = (rows * target.importance[:, None]).T
    return weighed @ rows, weighed @ target.values


def _solved(
    weights: NDArray[np.float64],
    bias: NDArray[np.float64],
    squares: NDArray[np.float64],
    products: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The weights (O, I, k, k) and bias (O,) of least weighted squares, near those given.

    They minimize the sum over positions of `importance * |W x + b - wanted|^2`, and `DAMPING` times
    the mean of x^2, summed so, times `|W - before|^2`.
    """
    before = np.concatenate([weights.reshape(len(weights), -1), bias[:, None]], 1).T
    held = np.full(len(squares), DAMPING * np.diag(squares)[:-1].mean())
    held[-1] = 0
    after = np.linalg.solve(squares + np.diag(held), products + held[:, None] * before)
    return after[:-1].T.reshape(weights.shape), after[-1]
