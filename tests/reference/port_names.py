"""Names and shapes of the RetinaFace checkpoints of the PyTorch port, from a list of its parts."""

from __future__ import annotations

Shapes = dict[str, tuple[int, ...]]
MOBILE_BLOCKS = {
    "stage1": [(8, 16), (16, 32), (32, 32), (32, 64), (64, 64)],
    "stage2": [(64, 128), *[(128, 128)] * 5],
    "stage3": [(128, 256), (256, 256)],
}


def _norm(name: str, channels: int) -> Shapes:
    kinds = ("weight", "bias", "running_mean", "running_var")
    return {f"{name}.{kind}": (channels,) for kind in kinds} | {f"{name}.num_batches_tracked": ()}


def _conv_norm(name: str, inputs: int, outputs: int, side: int) -> Shapes:
    return {f"{name}.0.weight": (outputs, inputs, side, side)} | _norm(f"{name}.1", outputs)


def _mobile() -> Shapes:
    found = _conv_norm("body.stage1.0", 3, 8, 3)
    for stage, blocks in MOBILE_BLOCKS.items():
        for place, (inputs, outputs) in enumerate(blocks, start=stage == "stage1"):
            block = f"body.{stage}.{place}"
            found |= {f"{block}.0.weight": (inputs, 1, 3, 3)} | _norm(f"{block}.1", inputs)
            found |= {f"{block}.3.weight": (outputs, inputs, 1, 1)} | _norm(f"{block}.4", outputs)
    return found


def _resnet50() -> Shapes:
    found = {"body.conv1.weight": (64, 3, 7, 7)} | _norm("body.bn1", 64)
    inputs = 64
    for layer, (depth, width) in enumerate(((3, 64), (4, 128), (6, 256), (3, 512)), 1):
        for place in range(depth):
            block = f"body.layer{layer}.{place}"
            shapes = [(width, inputs, 1), (width, width, 3), (4 * width, width, 1)]
            for number, (out, into, side) in enumerate(shapes, 1):
                found |= {f"{block}.conv{number}.weight": (out, into, side, side)}
                found |= _norm(f"{block}.bn{number}", out)
            if place == 0:
                found |= _conv_norm(f"{block}.downsample", inputs, 4 * width, 1)
            inputs = 4 * width
    return found


def shapes(backbone: str) -> Shapes:
    """Every tensor of the `mobile` or `resnet50` checkpoint by name."""
    mobile = backbone == "mobile"
    found, width = (_mobile(), 64) if mobile else (_resnet50(), 256)
    for level, inputs in enumerate((64, 128, 256) if mobile else (512, 1024, 2048), 1):
        found |= _conv_norm(f"fpn.output{level}", inputs, width, 1)
    for level in (1, 2):
        found |= _conv_norm(f"fpn.merge{level}", width, width, 3)
    half, quarter = width // 2, width // 4
    for level in (1, 2, 3):
        found |= _conv_norm(f"ssh{level}.conv3X3", width, half, 3)
        found |= _conv_norm(f"ssh{level}.conv5X5_1", width, quarter, 3)
        for view in ("conv5X5_2", "conv7X7_2", "conv7x7_3"):
            found |= _conv_norm(f"ssh{level}.{view}", quarter, quarter, 3)
    for head, values in (("ClassHead", 4), ("BboxHead", 8), ("LandmarkHead", 20)):
        for level in range(3):
            found[f"{head}.{level}.conv1x1.weight"] = (values, width, 1, 1)
            found[f"{head}.{level}.conv1x1.bias"] = (values,)
    return found
