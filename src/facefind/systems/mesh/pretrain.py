"""Pre-training of a mesh decoder on faces that the project generates.

The codes that the decoder learns to read are the faces' principal components, each of variance 1:
zeros are the average face, and codes of a normal distribution are faces much like those learned.
Shapes: N faces, V vertices.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from facefind.files import scratch
from facefind.mesh import Decoder
from facefind.systems.mesh.decoder import CODES, MeshDecoder
from facefind.systems.mesh.template import Template
from facefind.systems.mesh.topology import levels
from facefind.systems.mesh.variation import generate

logger = logging.getLogger(__name__)
_RATE = 3e-3  # the highest, of Adam; it falls to 0 as a cosine
_CHUNK = 64


@dataclass(frozen=True)
class Errors:
    """How far decoded faces are from those they should be, on faces never learned from.

    Attributes:
        position: mean distance of a vertex, in per cent of the face's height.
        color: mean absolute difference of a channel, of 255.
    """

    position: float
    color: float


@dataclass(frozen=True)
class Report:
    """What pre-training came to: errors of the decoder, and of two things to compare it with.

    Attributes:
        decoder: the decoder as it is saved, in half precision.
        linear: principal components of the same number, not compressed into a decoder.
        average: the average face for every face.
        seconds: of training.
        steps: of training.
        faces: learned from.
    """

    decoder: Errors
    linear: Errors
    average: Errors
    seconds: float
    steps: int
    faces: int


class Components:
    """The principal components of generated faces.

    Args:
        faces: (N,V,6).
        count: how many; fewer where N allows no more, the rest of a code being 0.
    """

    def __init__(self, faces: NDArray[np.float32], count: int = CODES) -> None:
        self.mean = faces.mean(0)
        spread = faces.std(0)
        self.scale = (float(spread[:, :3].mean()), float(spread[:, 3:].mean()))
        self._weights = np.repeat(np.array(self.scale, np.float32), 3)
        rows = self._flat(faces)
        values, vectors = np.linalg.eigh((rows @ rows.T).astype(np.float64) / len(rows))
        order = np.argsort(values)[::-1][: min(count, len(rows) - 1)]
        order = order[values[order] > 1e-9 * values.max()]
        self.deviations = np.sqrt(values[order])
        axes = rows.T @ vectors[:, order] / np.sqrt(len(rows) * values[order])
        self.axes: NDArray[np.float32] = axes.astype(np.float32)
        self.count = count

    def codes(self, faces: NDArray[np.float32]) -> NDArray[np.float32]:
        """Codes (N,count) of faces (N,V,6)."""
        scores = self._flat(faces) @ self.axes / self.deviations
        return np.pad(scores, ((0, 0), (0, self.count - scores.shape[1]))).astype(np.float32)

    def faces(self, codes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Faces (N,V,6) of codes (N,count)."""
        rows = codes[:, : len(self.deviations)] * self.deviations @ self.axes.T
        faces: NDArray[np.float32] = self.mean + self._weights * rows.reshape(-1, *self.mean.shape)
        return faces

    def _flat(self, faces: NDArray[np.float32]) -> NDArray[np.float32]:
        flat: NDArray[np.float32] = ((faces - self.mean) / self._weights).reshape(len(faces), -1)
        return flat


def pretrain(
    template: Template,
    *,
    steps: int = 6000,
    batch: int = 32,
    faces: int = 6144,
    unseen: int = 512,
    level_count: int | None = None,
    seed: int = 0,
    progress: Callable[[int, float], None] | None = None,
) -> tuple[Decoder, Report]:
    """A decoder that has learned generated faces on a template, and how well it did.

    Args:
        template: the project's own or a user's.
        steps: of training.
        batch: faces a step.
        faces: how many are generated to learn from; the first 2,048 give the components.
        unseen: how many others are generated to measure the errors.
        level_count: of coarser meshes; None as `topology.levels`.
        seed: of the faces and the weights.
        progress: called every 100 steps with the step and the mean loss since.
    """
    rng = np.random.default_rng(seed)
    learned = np.concatenate([generate(template, n, rng) for n in _chunks(faces)])
    others = np.concatenate([generate(template, n, rng) for n in _chunks(unseen)])
    components = Components(learned[:2048])
    codes = torch.from_numpy(components.codes(learned))
    logger.info("%d faces are generated; building the levels", faces)

    pyramid = levels(template.mesh, level_count)
    torch.manual_seed(seed)
    network = MeshDecoder.over(pyramid)
    network.landmarks, network.mirror = template.landmarks, template.mirror
    with torch.no_grad():
        network.mean.copy_(torch.from_numpy(components.mean))
        network.scale.copy_(torch.tensor(components.scale).repeat_interleave(3))
    goals = torch.from_numpy(learned)
    started = time.perf_counter()
    optimizer = torch.optim.Adam(network.parameters(), _RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, steps, pct_start=0.05)
    total = 0.0
    for step in range(1, steps + 1):
        some = torch.from_numpy(rng.integers(0, faces, batch))
        loss = ((network(codes[some]) - goals[some]) / network.scale).abs().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        total += loss.item()
        if progress and step % 100 == 0:
            progress(step, total / 100)
            total = 0.0
    seconds = time.perf_counter() - started
    decoder = _halved(network.frozen())
    decoded = [decoder(part) for part in np.split(components.codes(others), _splits(unseen))]
    report = Report(
        _errors(np.concatenate(decoded), others),
        _errors(components.faces(components.codes(others)), others),
        _errors(np.broadcast_to(components.mean, others.shape), others),
        seconds,
        steps,
        faces,
    )
    return decoder, report


def _errors(got: NDArray[np.float32], target: NDArray[np.float32]) -> Errors:
    distance = np.linalg.norm(got[..., :3] - target[..., :3], axis=-1)
    color = np.abs(got[..., 3:] - target[..., 3:])
    return Errors(float(distance.mean()) * 50, float(color.mean()) * 255)  # a face is 2 high


def _halved(decoder: Decoder) -> Decoder:
    """The decoder as a file gives it back."""
    with scratch() as folder:
        return Decoder.load(decoder.save(folder / "decoder.npz"))


def _chunks(count: int) -> list[int]:
    return [min(_CHUNK, count - start) for start in range(0, count, _CHUNK)]


def _splits(count: int) -> list[int]:
    return list(range(_CHUNK, count, _CHUNK))
