"""Networks on an NVIDIA GPU: milliseconds a picture and memory, with torch and with onnxruntime.

    python benchmarks/gpu.py --networks scrfd-34g retinaface-r152 dsfd-r152 asfd-d6
    python benchmarks/gpu.py --models scrfd-2.5g-kps --runtimes onnxruntime
    python benchmarks/gpu.py search --models scrfd-2.5g-kps

`--networks` are recipes, built with random weights; `--models` are files. In a row:

- torch, onnxruntime: facefind's runtime, from pictures in the host's memory to candidates there,
  in fp32 (torch's convolutions in TF32, as torch has it; of torch in bf16, too);
- network: torch's forward pass alone in bf16, channels-last, captured as a CUDA graph, from
  pictures on the GPU to candidates there: what papers mean by a network's time;
- memory: the most that torch's tensors take in its fp32 call.

Calls take turns, for `--seconds` a row or three rounds; medians are printed. `search` times what
onnxruntime's search of convolution algorithms costs at each new size of picture, and what it gains.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from facefind import recipes, weights
from facefind.protocols import parse_size
from facefind.runtimes import Card, open_model
from facefind.runtimes.pytorch import TorchRuntime

KINDS = ("torch fp32", "torch bf16", "network bf16", "onnxruntime")
SEARCHES = ("EXHAUSTIVE", "HEURISTIC", "DEFAULT")


def main() -> None:
    options = arguments()
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}", flush=True)
    if options.what == "search":
        for model in options.models:
            search(weights.find(model), options.rounds)
        return
    height, width = options.size
    print(f"{width}x{height}, up to {options.rounds} rounds, medians, ms a picture")
    print(f"{'':<22}{'batch':>6}" + "".join(f"{kind:>14}" for kind in KINDS) + f"{'MiB':>10}")
    for name, network, file in subjects(options):
        for batch in options.batch:
            pictures = np.random.default_rng(0).integers(
                0, 256, (batch, 3, height, width), dtype=np.uint8
            )
            row(name, network, file, pictures, options)
            torch.cuda.empty_cache()


def subjects(options: argparse.Namespace) -> Iterator[tuple[str, nn.Module | None, Path | None]]:
    """Name, network and file of each model, name and network of each recipe."""
    with_torch = "torch" in options.runtimes
    for model in options.models:
        file = weights.find(model)
        card = Card.from_file(file)
        assert card is not None
        yield model, recipes.get(card.recipe).network.build() if with_torch else None, file
    for name in options.networks:
        yield name, recipes.get(name).network.build(), None


def row(
    name: str, network: nn.Module | None, file: Path | None, pictures: Any, options: Any
) -> None:
    """Print the times of a network or file for a batch of pictures (B,3,H,W) uint8."""
    calls: dict[str, Callable[[], Any]] = {}
    memory, told = float("nan"), []
    with torch.inference_mode():
        if network is not None:
            with trying(told):
                alone = captured(network, torch.from_numpy(pictures).cuda())
                calls["network bf16"] = alone
            network = network.to(memory_format=torch.contiguous_format)
            for precision in ("fp32", "bf16"):
                with trying(told):
                    runtime = TorchRuntime(network, precision=precision, provider="cuda")
                    torch.cuda.reset_peak_memory_stats()
                    before = torch.cuda.memory_allocated()
                    runtime(pictures)
                    if precision == "fp32":
                        memory = (torch.cuda.max_memory_allocated() - before) / 2**20
                    calls[f"torch {precision}"] = lambda r=runtime: r(pictures)
        if file is not None and "onnxruntime" in options.runtimes:
            with trying(told):
                opened = open_model(file, "onnxruntime", provider="cuda")
                opened(pictures)
                calls["onnxruntime"] = lambda: opened(pictures)
        times = timed(calls, options.rounds, options.seconds)
    found = {kind: statistics.median(times[kind]) * 1e3 / len(pictures) for kind in times}
    print(
        f"{name:<22}{len(pictures):>6}"
        + "".join(f"{found.get(kind, float('nan')):>14.2f}" for kind in KINDS)
        + f"{memory:>10.0f}",
        *told,
        flush=True,
    )


@contextmanager
def trying(told: list[str]) -> Iterator[None]:
    """Go on without a call that fails, as of too little memory, and note why."""
    try:
        yield
    except Exception as error:  # whatever it is, the next figure is worth having
        told.append(f"{type(error).__name__}: {str(error).splitlines()[0][:80]}")


def captured(network: nn.Module, x: torch.Tensor) -> Callable[[], Any]:
    """The forward pass in bf16 and channels-last as a CUDA graph, waited for."""
    network = network.cuda().eval().to(memory_format=torch.channels_last)
    x = x.to(memory_format=torch.channels_last)
    stream = torch.cuda.Stream()
    graph = torch.cuda.CUDAGraph()
    with torch.autocast("cuda", torch.bfloat16, cache_enabled=False):
        with torch.cuda.stream(stream):
            for _ in range(3):
                network.candidates(x)
        torch.cuda.synchronize()
        with torch.cuda.graph(graph):
            kept = network.candidates(x)

    def call() -> Any:
        graph.replay()
        torch.cuda.synchronize()
        return kept

    return call


def timed(calls: dict[str, Callable[[], Any]], rounds: int, limit: float) -> dict[str, list[float]]:
    """Seconds of each call in each round, fewer rounds where a limit in seconds is over.

    Each call is made once before, untimed.
    """
    times: dict[str, list[float]] = {kind: [] for kind in calls}
    for call in calls.values():
        call()
    began = time.perf_counter()
    for turn in range(rounds):
        if turn >= 3 and time.perf_counter() - began > limit:
            break
        for kind, call in reversed(calls.items()) if turn % 2 else calls.items():
            start = time.perf_counter()
            call()
            times[kind].append(time.perf_counter() - start)
    return times


def search(file: Path, rounds: int) -> None:
    """Print the time of a first picture of a size, and of further ones, for each way to search."""
    import onnxruntime

    sizes = [(480 + 32 * step, 640 - 32 * step) for step in range(6)]
    for kind in SEARCHES:
        session = onnxruntime.InferenceSession(
            str(file), providers=[("CUDAExecutionProvider", {"cudnn_conv_algo_search": kind})]
        )
        name = session.get_inputs()[0].name
        as_float = session.get_inputs()[0].type != "tensor(uint8)"
        firsts, nexts = [], []
        for height, width in sizes:
            x = np.zeros((1, 3, height, width), np.float32 if as_float else np.uint8)
            seconds = [call_seconds(session, name, x) for _ in range(rounds + 1)]
            firsts.append(seconds[0])
            nexts.append(statistics.median(seconds[1:]))
        print(
            f"{file.stem}, {kind}: first picture {firsts[0] * 1e3:.0f} ms, first of another size "
            f"{statistics.median(firsts[1:]) * 1e3:.1f} ms, further ones "
            f"{statistics.median(nexts) * 1e3:.2f} ms",
            flush=True,
        )


def call_seconds(session: Any, name: str, x: Any) -> float:
    start = time.perf_counter()
    session.run(None, {name: x})
    return time.perf_counter() - start


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="?", choices=("times", "search"), default="times")
    shipped = [card.name for card in weights.available() if card.precision == "fp32"]
    parser.add_argument("--models", nargs="*", default=shipped)
    parser.add_argument("--networks", nargs="*", default=[])
    parser.add_argument("--runtimes", nargs="+", default=["torch", "onnxruntime"])
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 8, 64])
    parser.add_argument("--size", type=parse_size, default=(480, 640), metavar="WIDTHxHEIGHT")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=1.5, help="of rounds in a row")
    return parser.parse_args()


if __name__ == "__main__":
    main()
