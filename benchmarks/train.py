"""Training speed: images a second for a recipe in each precision and memory layout, interleaved.

Usage: python benchmarks/train.py [--recipe scrfd-2.5g-kps] [--size 320] [--batch 16] [--rounds 5]

One step is forward, losses, backward and optimizer on random images with nine faces each; loading
is not in it (a run's log gives it as `load_s`). The modes take turns, so that a machine whose speed
drifts slows all alike; medians and the ratio to the first mode are printed. On a GPU the peak
memory is printed too.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch

from facefind import recipes
from facefind.learn.optimizers import make_optimizer
from facefind.learn.targets import Target

MODES = {
    "fp32": (torch.contiguous_format, None),
    "fp32 channels-last": (torch.channels_last, None),
    "bf16": (torch.contiguous_format, torch.bfloat16),
    "bf16 channels-last": (torch.channels_last, torch.bfloat16),
}


def targets(batch: int, size: int, device: torch.device) -> list[Target]:
    """Nine faces an image, from 8 pixels to half the image."""
    sides = torch.linspace(8, size / 2, 9)
    corners = torch.linspace(0, size / 2, 9)
    boxes = torch.stack([corners, corners, corners + sides, corners + sides], 1)
    points = boxes[:, None, :2] + sides[:, None, None] * torch.linspace(0.3, 0.7, 5)[:, None]
    return [Target(boxes, points.expand(-1, 5, 2), torch.zeros(0, 4)).to(device)] * batch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--recipe", default="scrfd-2.5g-kps")
    parser.add_argument("--size", type=int, default=320)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int)
    asked = parser.parse_args()
    if asked.threads:
        torch.set_num_threads(asked.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    recipe = recipes.get(asked.recipe)
    images = torch.randint(0, 256, (asked.batch, 3, asked.size, asked.size), device=device).float()
    faces = targets(asked.batch, asked.size, device)
    runs = {}
    for mode, (layout, kind) in MODES.items():
        network = recipe.network.build().to(device).to(memory_format=layout).train()
        runs[mode] = (network, make_optimizer(network, recipe.optim), layout, kind)

    def step(mode: str) -> float:
        network, optimizer, layout, kind = runs[mode]
        began = time.perf_counter()
        with torch.autocast(device.type, kind, enabled=kind is not None):
            outputs = network(images.contiguous(memory_format=layout))
        loss = torch.stack(list(network.losses(outputs, faces).terms.values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - began

    for mode in MODES:
        step(mode)
    taken: dict[str, list[float]] = {mode: [] for mode in MODES}
    for _ in range(asked.rounds):
        for mode in MODES:
            taken[mode].append(step(mode))
    first = statistics.median(taken["fp32"])
    print(f"{asked.recipe}, {asked.batch} x {asked.size}x{asked.size}, {torch.get_num_threads()} "
          f"threads, {device}, torch {torch.__version__}")  # fmt: skip
    for mode, times in taken.items():
        median = statistics.median(times)
        print(f"{mode:20} {asked.batch / median:7.1f} images/s  {first / median:5.2f}x fp32")
    if device.type == "cuda":
        print(f"peak memory {torch.cuda.max_memory_allocated() / 2**20:.0f} MiB")


if __name__ == "__main__":
    main()
