"""A detector whose network runs in Triton Inference Server; all else of it runs here.

    detector = FaceDetector(connect("localhost:8000", "scrfd-2.5g-kps"))
    faces = detector.detect("people.jpg")

The server has what `deploy/triton/layout.py` writes; the package is tritonclient[http].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facefind import weights
from facefind.runtimes import Card
from facefind.runtimes.contract import Candidates, ImageBatch, check_candidates, check_images

Infer = Callable[[ImageBatch], Mapping[str, NDArray[np.float32]]]
"""Gives a model's outputs by name for images (B, 3, H, W) uint8 RGB."""


class RemoteModel:
    """A runtime, as `FaceDetector` takes it, that has another machine run the network.

    Args:
        card: The model's card.
        infer: Sends images there.
    """

    name, provider, precision, threads = "triton", "triton", "fp32", 0

    def __init__(self, card: Card, infer: Infer) -> None:
        self.card, self._infer = card, infer

    def __call__(self, images: ImageBatch) -> Candidates:
        """The candidates of images."""
        check_images(images, self.card)
        found = self._infer(images)
        names = ("boxes", "scores", "landmarks", "mesh")
        arrays = {name: found[name] for name in names if name in found}
        return check_candidates(Candidates(**arrays), self.card.name)


def connect(address: str, model: str) -> RemoteModel:
    """A model of the server at HOST:PORT."""
    import tritonclient.http as triton

    client = triton.InferenceServerClient(address, concurrency=8)
    described: Any = client.get_model_metadata(model)
    names = [output["name"] for output in described["outputs"]]

    def infer(images: ImageBatch) -> Mapping[str, NDArray[np.float32]]:
        sent = triton.InferInput("image", list(images.shape), "UINT8")
        sent.set_data_from_numpy(np.ascontiguousarray(images))
        returned = [triton.InferRequestedOutput(name) for name in names]
        result = client.infer(model, [sent], outputs=returned)
        return {name: result.as_numpy(name) for name in names}

    card = next((card for card in weights.available() if card.name == model), None)
    return RemoteModel(card or Card.from_file(weights.find(model)), infer)  # type: ignore[arg-type]
