"""Names and shapes of the tensors that layers of published files hold."""

from __future__ import annotations

Shapes = dict[str, tuple[int, ...]]


def conv(name: str, inputs: int, outputs: int, side: int, bias: bool = True) -> Shapes:
    """A square convolution."""
    found: Shapes = {f"{name}.weight": (outputs, inputs, side, side)}
    return found | ({f"{name}.bias": (outputs,)} if bias else {})


def norm(name: str, channels: int, *, counted: bool = True) -> Shapes:
    """A batch normalization; torch 0.3 counted no batches."""
    kinds = ("weight", "bias", "running_mean", "running_var")
    found: Shapes = {f"{name}.{kind}": (channels,) for kind in kinds}
    return found | ({f"{name}.num_batches_tracked": ()} if counted else {})
