"""The card of a model: what it is, how to feed it, where it came from and how well it did."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from facefind.errors import WeightsError

METADATA_KEY = "facefind_card"
"""Name under which an exported ONNX file carries its card."""
STATISTICS_KEY = "facefind_statistics"
"""Name under which it carries what folding loses of batch normalization, as `nn.statistics` packs
it: for training, no runtime needs it."""
SMALL_LOSS = 0.002
"""AP, of 1, that the precision "auto" may cost."""


@dataclass(frozen=True)
class Suppression:
    """What NMS inside a file has done to its outputs: only faces are left, best first.

    Attributes:
        min_score: Candidates below this score are not among them.
        iou: Candidates that overlap a better one by more than this are not, either.
        candidates: Only the best so many candidates of an image were looked at. The outputs have
            as many rows, or one a candidate; those that no face fills have the score 0.
    """

    min_score: float
    iou: float
    candidates: int

    def __post_init__(self) -> None:
        if not 0 < self.min_score <= 1:
            raise WeightsError(
                f"NMS in a file needs a min_score above 0 and up to 1, got {self.min_score}"
            )
        if not 0 <= self.iou <= 1 or self.candidates < 1:
            raise WeightsError(
                f"NMS in a file needs an iou in 0..1 and at least 1 of candidates, got {self}"
            )


@dataclass(frozen=True)
class Card:
    """What a user may look up of a model file, and all that a runtime must know of it.

    Attributes:
        name: Short name of the model, also the stem of its file.
        system: The system it belongs to: "scrfd", "retinaface", ...
        recipe: Name of the recipe that trained it; "" where unknown.
        color_order: Channel order that the file expects. Runtimes always take RGB.
        strides: Cell sizes of the feature maps in input pixels.
        size_multiple: Input height and width must be multiples of this.
        fixed_size: The only input (height, width) the file accepts, or None where any is.
        landmarks: Whether the model gives five landmarks a face.
        mesh: Name of the mesh decoder that its mesh parameters are for; "" where it gives none.
        protocol: Name of the test protocol used where the caller names none.
        precision: Numbers that the file computes with: "fp32", or "int8" where it was quantized.
        min_score: Score from which a detection is shown where the caller sets none.
        suppression: What NMS inside the file does, or None where it has none and its outputs are
            all candidates.
        parameters: Number of weights, or None where not counted.
        multiply_adds: Multiply-adds of one 640x480 image, or None where not counted.
        training: Images, schedule, epochs, seed and the like.
        results: One mapping a measurement: protocol, image set, digest, AP, command.
        license: Terms under which the weights may be used; "" where unknown.
        commit: Commit of the code that made the file.
        notes: Anything else a user should know.
    """

    name: str
    system: str
    recipe: str = ""
    color_order: str = "RGB"
    strides: tuple[int, ...] = (8, 16, 32)
    size_multiple: int = 32
    fixed_size: tuple[int, int] | None = None
    landmarks: bool = False
    mesh: str = ""
    protocol: str = "everyday"
    precision: str = "fp32"
    min_score: float = 0.5
    suppression: Suppression | None = None
    parameters: int | None = None
    multiply_adds: int | None = None
    training: Mapping[str, Any] = field(default_factory=dict)
    results: tuple[Mapping[str, Any], ...] = ()
    license: str = ""
    commit: str = ""
    notes: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "strides", tuple(int(s) for s in self.strides))
        object.__setattr__(self, "results", tuple(dict(r) for r in self.results))
        if self.fixed_size is not None:
            height, width = self.fixed_size
            object.__setattr__(self, "fixed_size", (int(height), int(width)))
        if isinstance(self.suppression, Mapping):  # as JSON has it
            known = {f.name for f in dataclasses.fields(Suppression)}
            given = {key: value for key, value in self.suppression.items() if key in known}
            object.__setattr__(self, "suppression", Suppression(**given))
        if not self.name or not self.system:
            raise WeightsError(
                f"a card needs a name and a system, got {self.name!r}, {self.system!r}"
            )
        if self.size_multiple < 1:
            raise WeightsError(f"size_multiple must be at least 1, got {self.size_multiple}")
        for name, sides in (("strides", self.strides), ("fixed_size", self.fixed_size or ())):
            if min(sides, default=1) < 1:
                raise WeightsError(f"{name} must be at least 1, got {sides}")
        if not 0 <= self.min_score <= 1:
            raise WeightsError(f"min_score must lie in 0..1, got {self.min_score}")

    def loss(self, arithmetic: str | None = None) -> float | None:
        """Most AP, of 1, that a lower precision cost by any measurement; None where there is none.

        Args:
            arithmetic: "bf16"; or, of a quantized file, of which processors, as of
                `cpu.int8_arithmetic`: "vnni" takes measurements by AVX2 where there are no others,
                for it computes more exactly; "avx2" takes only its own. Those that name none are as
                good as by AVX2: of weights of 7 bits, which give the same by both. None takes all.
        """
        losses: dict[str, list[float]] = {"avx2": [], "vnni": [], "bf16": []}
        for result in self.results:
            if result.get("measure") == "quantization":
                kind, lower = result.get("arithmetic") or "avx2", result["ap_int8"]
            elif result.get("measure") == "bf16":
                kind, lower = "bf16", result["ap_bf16"]
            else:
                continue
            losses[kind] += [before - lower[name] for name, before in result["ap_fp32"].items()]
        if arithmetic is None:
            return max(itertools.chain(*losses.values()), default=None)
        if arithmetic == "vnni" and not losses["vnni"]:
            arithmetic = "avx2"
        return max(losses[arithmetic], default=None)

    def to_json(self) -> str:
        """Return the card as a JSON text that `from_json` reads back to an equal card."""
        return json.dumps(dataclasses.asdict(self), indent=2, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> Card:
        """Return the card written in a JSON text.

        Keys that this version does not know are ignored, so that a file made by a later
        version still opens. A text that is no card raises WeightsError.
        """
        try:
            values = json.loads(text)
        except ValueError as error:
            raise WeightsError(f"this model card is no JSON: {error}") from error
        if not isinstance(values, dict):
            raise WeightsError(f"a model card must be a JSON object, got {type(values).__name__}")
        known = {f.name for f in dataclasses.fields(cls)}
        try:
            return cls(**{key: value for key, value in values.items() if key in known})
        except (TypeError, ValueError) as error:
            raise WeightsError(f"this model card cannot be used: {error}") from error

    @classmethod
    def from_file(cls, path: str | Path) -> Card | None:
        """Return the card that an ONNX file carries, or None where it carries none."""
        from facefind.runtimes.onnx_file import metadata

        text = metadata(path).get(METADATA_KEY)
        return None if text is None else cls.from_json(text)

    @classmethod
    def of_export(cls, path: str | Path) -> Card:
        """Return the card of a file that is facefind's own; another one raises WeightsError."""
        card = cls.from_file(path)
        if card is None:
            raise WeightsError(f"{path} carries no card: it was not made by facefind's export")
        return card
