"""The tensors of an official SCRFD `.pth`, written from the published list of its names.

Made from a row's numbers alone, without building our network: an oracle for the key map.
"""

from __future__ import annotations

Shapes = dict[str, tuple[int, ...]]


def batch_norm(name: str, channels: int) -> Shapes:
    values = ("weight", "bias", "running_mean", "running_var")
    return {f"{name}.{v}": (channels,) for v in values} | {f"{name}.num_batches_tracked": ()}


def group_norm(name: str, channels: int) -> Shapes:
    return {f"{name}.weight": (channels,), f"{name}.bias": (channels,)}


def conv_bias(name: str, inputs: int, outputs: int, kernel: int) -> Shapes:
    return {f"{name}.weight": (outputs, inputs, kernel, kernel), f"{name}.bias": (outputs,)}


def separable(name: str, inputs: int, outputs: int, places: tuple[int, int, int, int]) -> Shapes:
    dw, dw_norm, pw, pw_norm = places
    return {
        f"{name}.{dw}.weight": (inputs, 1, 3, 3),
        **batch_norm(f"{name}.{dw_norm}", inputs),
        f"{name}.{pw}.weight": (outputs, inputs, 1, 1),
        **batch_norm(f"{name}.{pw_norm}", outputs),
    }


def mobile(config) -> Shapes:
    first, last = config.stem
    found: Shapes = {"backbone.stem.0.0.weight": (first, 3, 3, 3)}
    found |= batch_norm("backbone.stem.0.1", first)
    found |= separable("backbone.stem.1", first, last, (0, 1, 3, 4))
    inputs = last
    for stage, (depth, width) in enumerate(zip(config.depths, config.widths, strict=True), 1):
        for block in range(depth):
            found |= separable(f"backbone.layer{stage}.{block}", inputs, width, (0, 1, 3, 4))
            inputs = width
    return found


def residual(config) -> Shapes:
    (stem,) = config.stem
    found: Shapes = {}
    for place, (inputs, outputs) in zip(
        (0, 3, 6), ((3, stem // 2), (stem // 2, stem // 2), (stem // 2, stem)), strict=True
    ):
        found[f"backbone.stem.{place}.weight"] = (outputs, inputs, 3, 3)
        found |= batch_norm(f"backbone.stem.{place + 1}", outputs)
    expansion = 4 if config.block == "bottleneck" else 1
    inputs = stem
    for stage, (depth, width) in enumerate(zip(config.depths, config.widths, strict=True), 1):
        outputs = width * expansion
        for block in range(depth):
            name = f"backbone.layer{stage}.{block}"
            convs = [(inputs, width, 3), (width, width, 3)]
            if expansion == 4:
                convs = [(inputs, width, 1), (width, width, 3), (width, outputs, 1)]
            for number, (a, b, kernel) in enumerate(convs, 1):
                found[f"{name}.conv{number}.weight"] = (b, a, kernel, kernel)
                found |= batch_norm(f"{name}.bn{number}", b)
            if block == 0 and (stage > 1 or inputs != outputs):
                found[f"{name}.downsample.1.weight"] = (outputs, inputs, 1, 1)
                found |= batch_norm(f"{name}.downsample.2", outputs)
            inputs = outputs
    return found


def shapes(config) -> Shapes:
    """Name -> shape of every tensor of a row's official state dict."""
    depthwise = config.block == "depthwise"
    found = mobile(config) if depthwise else residual(config)
    expansion = 4 if config.block == "bottleneck" else 1
    for level, width in enumerate(config.widths[1:]):
        found |= conv_bias(f"neck.lateral_convs.{level}.conv", width * expansion, config.neck, 1)
    for kind, count in (("fpn_convs", 3), ("downsample_convs", 2), ("pafpn_convs", 2)):
        for level in range(count):
            found |= conv_bias(f"neck.{kind}.{level}.conv", config.neck, config.neck, 3)
    norm, key = (group_norm, "gn") if config.head_groups else (batch_norm, "bn")
    strides = ["0"] if config.shared_head else ["(8, 8)", "(16, 16)", "(32, 32)"]
    for stride in strides:
        inputs = config.neck
        for block in range(config.head_depth):
            name = f"bbox_head.cls_stride_convs.{stride}.{block}"
            if depthwise:
                found[f"{name}.depthwise_conv.conv.weight"] = (inputs, 1, 3, 3)
                found |= norm(f"{name}.depthwise_conv.{key}", inputs)
                found[f"{name}.pointwise_conv.conv.weight"] = (config.head, inputs, 1, 1)
                found |= norm(f"{name}.pointwise_conv.{key}", config.head)
            else:
                found[f"{name}.conv.weight"] = (config.head, inputs, 3, 3)
                found |= norm(f"{name}.{key}", config.head)
            inputs = config.head
        kinds = [("cls", 2), ("reg", 8)] + [("kps", 20)] * config.landmarks
        for kind, outputs in kinds:
            found |= conv_bias(f"bbox_head.stride_{kind}.{stride}", config.head, outputs, 3)
    if config.scales:
        found |= {f"bbox_head.scales.{level}.scale": () for level in range(3)}
    return found | {"bbox_head.integral.project": (9,)}
