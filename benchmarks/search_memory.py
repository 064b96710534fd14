"""What a search of contexts keeps in memory: one path a node against mixtures (table 2 of ASFD).

    python benchmarks/search_memory.py [--row asfd-r50] [--size 640] [--batch 12] [--device cuda]

For 4, 6 and 8 nodes, the gibibytes that a training pass of the architecture keeps for its backward
pass, parameters left out. Without `--device` nothing is computed: sizes are those of the tensors
that torch would keep; `cpu` computes them. With a CUDA device, the peak of a whole pass there,
forward and backward. The paper searched with ResNet-50, maps of 256 channels, and 12 images on each
GPU of 32 GB.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import get_args

import numpy as np
import torch
from torch import Tensor

from facefind.nn.cost import kept_bytes
from facefind.search.supernet import Mode, supernet
from facefind.systems.asfd import ROWS


def gibibytes(row: str, mode: Mode, nodes: int, size: int, batch: int, device: str) -> float:
    """Memory of a pass in which weights rest and the architecture learns."""
    torch.manual_seed(0)
    found = supernet(replace(ROWS[row], pyramid="autofem"), "context", mode, nodes=nodes)
    network = found.network.train()
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    for parameter in found.parameters():
        parameter.requires_grad_(True)
    if device != "meta":
        network.to(device)
    found.draw(np.random.default_rng(0))
    if device == "meta":  # only now, for what is drawn has to be read
        network.to(device)
    images = torch.zeros(batch, 3, size, size, device=device)

    def work() -> Tensor:
        output = network(images)
        shots = [output, *output.auxiliary]
        return torch.stack([shot.logits.sum() + shot.boxes.sum() for shot in shots]).sum()

    if device in ("meta", "cpu"):
        return kept_bytes(work) / 2**30
    torch.cuda.reset_peak_memory_stats()
    work().backward()
    return torch.cuda.max_memory_allocated() / 2**30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--row", default="asfd-r50", choices=ROWS)
    parser.add_argument("--size", type=int, default=640)
    parser.add_argument("--batch", type=int, default=12)
    parser.add_argument("--nodes", type=int, nargs="+", default=[4, 6, 8])
    parser.add_argument("--device", default="meta")
    args = parser.parse_args()

    print(f"{args.row}, {args.batch} images of {args.size}, {args.device}; GiB")
    print("| mode | " + " | ".join(f"{nodes} nodes" for nodes in args.nodes) + " |")
    print("|---|" + "---:|" * len(args.nodes))
    for mode in get_args(Mode):
        found = [
            gibibytes(args.row, mode, nodes, args.size, args.batch, args.device)
            for nodes in args.nodes
        ]
        print(f"| {mode} | " + " | ".join(f"{one:.3g}" for one in found) + " |", flush=True)


if __name__ == "__main__":
    main()
