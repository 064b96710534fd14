"""Networks run by torch itself: for parity with the other runtimes, and while training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from facefind import forking
from facefind.errors import RuntimeUnavailableError
from facefind.runtimes.card import Card
from facefind.runtimes.contract import (
    Candidates,
    ImageBatch,
    Precision,
    check_candidates,
    check_images,
)
from facefind.runtimes.cpu import has_bf16

if TYPE_CHECKING:
    import torch
    from torch import nn


class TorchRuntime:
    """A network that follows the `candidates` contract, run by torch.

    Args:
        network: Module with `candidates(x) -> (boxes, scores, landmarks or None)`, and perhaps mesh
            parameters as a fourth, for (B, 3, H, W) uint8 RGB images. It is put in eval mode and
            moved to the device.
        card: Its card; None makes one of what the network says of itself: its attributes `system`,
            `strides`, `size_multiple`, `landmarks` and `mesh_decoder`, the card's defaults for
            those it lacks, and the class's name.
        threads: CPU threads of torch, which has one number for the whole process; None leaves it.
            A forked process has one, for torch's others do not live through a fork.
        precision: "fp32", or "bf16" by autocast where the device has such arithmetic. On NVIDIA
            GPUs fp32 convolutions follow torch's own `torch.backends.cudnn.allow_tf32`.
        provider: "cpu", "cuda", "mps", ...; None takes the device that the network is on.
        device_id: Which of the provider's devices, from 0; None is the first.
    """

    name = "torch"

    def __init__(
        self,
        network: nn.Module,
        card: Card | None = None,
        threads: int | None = None,
        precision: Precision = "fp32",
        provider: str | None = None,
        device_id: int | None = None,
    ) -> None:
        import torch

        if not callable(getattr(network, "candidates", None)):
            raise TypeError(
                f"a network needs a method candidates(images), {type(network).__name__} has none"
            )
        self._device = _device(network, provider, device_id)
        self.provider = str(self._device)
        if precision == "bf16" and not _does_bf16(self._device):
            raise RuntimeUnavailableError(
                f"the device {self.provider} has no bf16 arithmetic; use precision='fp32'"
            )
        if threads is not None:
            torch.set_num_threads(threads)
        self.precision: Precision = precision
        self.card = card or _card(network)
        self._network = network.to(self._device).eval()
        self._generation = forking.generation()

    @property
    def threads(self) -> int:
        """Number of CPU threads one call uses."""
        import torch

        return torch.get_num_threads()

    def __call__(self, images: ImageBatch) -> Candidates:
        """Return the candidates of (B, 3, H, W) uint8 RGB images."""
        import torch

        check_images(images, self.card)
        if self._generation != forking.generation():
            torch.set_num_threads(1)  # or the first call would wait for its parent's for ever
            self._generation = forking.generation()
        if self._network.training:
            self._network.eval()
        bf16 = torch.autocast(self._device.type, torch.bfloat16, self.precision == "bf16")
        with forking.whole(), torch.inference_mode(), bf16:
            x = torch.from_numpy(np.ascontiguousarray(images)).to(self._device)
            found = self._network.candidates(x)  # type: ignore[operator]
            arrays = [None if t is None else t.float().cpu().numpy() for t in found]
        return check_candidates(Candidates(*arrays), self.card.name)  # type: ignore[arg-type]

    def __repr__(self) -> str:
        return (
            f"TorchRuntime({self.card.name!r}, provider={self.provider!r}, "
            f"threads={self.threads}, precision={self.precision!r})"
        )


def _card(network: nn.Module) -> Card:
    """The card of a network that came without one."""
    given: dict[str, Any] = {"system": type(network).__name__.lower()}
    for key in ("system", "strides", "size_multiple"):
        if (value := getattr(network, key, None)) is not None:
            given[key] = value
    return Card(
        name=given["system"],
        landmarks=bool(getattr(network, "landmarks", False)),
        mesh=str(getattr(network, "mesh_decoder", "")),
        **given,
    )


def _device(network: nn.Module, provider: str | None, device_id: int | None) -> torch.device:
    import torch

    if device_id is not None:
        provider = f"{provider or 'cuda'}:{device_id}"
    if provider is None:
        parameter = next(network.parameters(), None)
        return torch.device("cpu") if parameter is None else parameter.device
    try:
        device = torch.device(provider)
    except RuntimeError as error:
        raise RuntimeUnavailableError(f"torch has no device {provider!r}: {error}") from error
    count = torch.cuda.device_count() if device.type == "cuda" else 1
    if device.type == "cuda" and (device.index or 0) >= count:
        raise RuntimeUnavailableError(
            f"torch has no device {provider!r} here; present: "
            + ", ".join(["cpu", *(f"cuda:{i}" for i in range(count))])
        )
    return device


def _does_bf16(device: torch.device) -> bool:
    import torch

    return torch.cuda.is_bf16_supported() if device.type == "cuda" else has_bf16()
