"""Makes an int8 file of an exported model, which is kept only if it is as good as it must be.

Convolutions of the file compute with 8-bit integers, between pairs of QuantizeLinear and
DequantizeLinear, which onnxruntime and OpenVINO both run as such. NNCF chooses the scales from
pictures, and the last convolutions are fitted to what they are given then. What that costs is
measured: the AP of held-out images, before and after.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from facefind import datasets, images, protocols
from facefind.detector import FaceDetector
from facefind.errors import DataError, ImageError, RuntimeUnavailableError, WeightsError
from facefind.evaluation import wider
from facefind.export import save
from facefind.files import scratch
from facefind.quantization.kernels import with_integer_kernels
from facefind.quantization.refitting import Target, refit, targets
from facefind.runtimes import Card, Precision, installed
from facefind.runtimes.card import SMALL_LOSS
from facefind.runtimes.cpu import int8_arithmetic
from facefind.runtimes.native import INPUT
from facefind.runtimes.ov import library

__all__ = ["BITS", "KEPT", "SCALES", "Quantized", "average_precision", "quantize"]

KEPT: Mapping[str, tuple[str, ...]] = {
    "all convolutions": (),
    "all but those that outputs are made of": ("outputs",),
    "all but these and the first": ("outputs", "image"),
    "all but those of the neck": ("neck",),
}
"""What is quantized, in words, and what of the network stays as it is: tried in order."""

BITS = (7, 8)
"""Of the weights. CPUs without VNNI add products in pairs, in 16 bits: of 8-bit weights large sums
are cut there, and what is lost depends on the CPU; with 7 bits none is, and all CPUs give the same.
"""

SCALES = ("NNCF's", "means", "uncorrected")
"""How scales are chosen, each tried with each of `KEPT` and `BITS`: as NNCF has it by itself
(inputs of depthwise layers by the least and greatest values of all pictures, others by the means of
each picture's); all by means; or as NNCF has it, without its correction of biases. None is the best
for all networks."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Quantized:
    """A quantized file, and what it costs.

    Attributes:
        path: The file.
        card: Its card: `results` has both APs.
        quantized: What of the network is, a key of `KEPT`.
        bits: Of its weights, one of `BITS`.
        scales: How its scales were chosen, one of `SCALES`.
        before: AP of the file that was given, by least height of faces.
        after: AP of the quantized one.
    """

    path: Path
    card: Card
    quantized: str
    bits: int
    scales: str
    before: Mapping[str, float]
    after: Mapping[str, float]

    @property
    def drop(self) -> float:
        """The largest loss of AP."""
        return self.card.loss() or 0.0


def quantize(
    model: str | Path,
    out: str | Path,
    samples: Sequence[datasets.Sample],
    held_out: Sequence[datasets.Sample],
    *,
    count: int = 300,
    max_drop: float = 0.005,
    protocol: str = "vga",
    threads: int | None = None,
) -> Quantized:
    """Write an int8 file of an exported model, with its card.

    Scales are chosen on pictures of `samples`, drawn evenly, as the protocol scales them, and the
    last convolutions are fitted on them (`refitting`). AP is that of `held_out` by OpenVINO, or
    onnxruntime where that is all there is. If it falls by more than `SMALL_LOSS`, scales are chosen
    otherwise, then weights have 8 bits, then layers stay as they are, as `SCALES`, `BITS` and
    `KEPT` have it; where that does not help, the file that loses least is taken.

    Args:
        model: The file of a model that facefind has exported.
        out: Where the file goes, which takes its name from it; what is there is replaced.
        samples: Pictures that are like those the model will see; labels are not used.
        held_out: Completely labeled pictures that AP is measured on.
        count: Most pictures to choose scales on.
        max_drop: Most AP that may be lost, of 1, by any least height of faces.
        protocol: The test protocol that AP is measured under.
        threads: CPU threads of the measurements.

    Raises:
        WeightsError: the model is not of facefind, or quantized already; or too much is lost
            whatever is kept: nothing is written then.
        RuntimeUnavailableError: NNCF or a runtime is not installed.
        DataError: there is no picture to choose scales on, or none to measure.
    """
    import onnx

    model, out = Path(model), Path(out)
    card = Card.of_export(model)
    if card.precision != "fp32":
        raise WeightsError(f"{model} is quantized already: give the model that it was made of")
    if not samples or not held_out:
        raise DataError(
            f"{len(samples)} pictures to choose scales on and {len(held_out)} to measure: "
            "quantizing takes some of both"
        )
    datasets.check_faces(held_out, "to measure the loss on")
    runtime = next((name for name in ("openvino", "onnxruntime") if name in installed()), None)
    if runtime is None:
        raise RuntimeUnavailableError("no runtime is installed to measure with")
    chosen = datasets.evenly_spaced(samples, count)
    plain = onnx.load(str(model))
    wanted = targets(plain, _ends("outputs", plain)[0], _inputs(chosen, card, protocol))
    if not wanted:
        raise DataError(f"none of the {len(chosen)} pictures to choose scales on can be read")
    before = average_precision(model, held_out, protocol, runtime, threads)
    made: list[Quantized] = []
    out.parent.mkdir(parents=True, exist_ok=True)
    with scratch(out) as folder:
        for words, bits, scales in itertools.product(KEPT, BITS, SCALES):
            draft = folder / f"{len(made)}.onnx"
            graph = _quantized(plain, chosen, KEPT[words], bits, scales, card, protocol, wanted)
            own = replace(card, name=out.stem, precision="int8", results=())
            save(graph, draft, own)
            after = average_precision(draft, held_out, protocol, runtime, threads)
            one = Quantized(draft, own, words, bits, scales, before, after)
            result = _measured(one, held_out, chosen, protocol, runtime)
            made.append(replace(one, card=replace(own, results=(result,))))
            _log.info(
                "%s, weights of %d bits, %s scales: %.2f points of AP lost",
                *(words, bits, scales, 100 * made[-1].drop),
            )
            if made[-1].drop <= min(SMALL_LOSS, max_drop):
                break
        best = min(made, key=lambda one: one.drop)
        if best.drop <= max_drop:
            save(onnx.load(str(best.path)), best.path, best.card)
            os.replace(best.path, out)
            return replace(best, path=out)
    least = {one.quantized: one for one in sorted(made, key=lambda one: -one.drop)}
    losses = "; ".join(f"{words}: {100 * least[words].drop:.2f}" for words in KEPT)
    raise WeightsError(
        f"{model} loses more than {100 * max_drop:g} points of AP: {losses}. Give more pictures to "
        "choose scales on, or allow more"
    )


def average_precision(
    file: Path,
    held_out: Sequence[datasets.Sample],
    protocol: str,
    runtime: Any,
    threads: int | None,
    precision: Precision = "fp32",
) -> dict[str, float]:
    """AP of a file, of 1, by least height of the faces that count.

    A quantized file is what it is in "fp32", too, which is the precision of all the rest of it.

    Raises:
        DataError: no picture can be read.
    """
    detector = FaceDetector(
        file,
        runtime=runtime,
        threads=threads,
        precision=precision,
        protocol=protocol,
        min_score=0.02,
    )
    found = {}
    for sample in held_out:
        try:
            found[sample.name] = detector.detect(sample.path)
        except ImageError as error:
            _log.warning("left out a picture: %s", error)
    measured = [sample for sample in held_out if sample.name in found]
    if not measured:
        raise DataError(f"none of the {len(held_out)} held-out pictures can be read")
    truth = wider.from_samples(measured, title="held out")
    return dict(wider.evaluate(found, truth, mode="strict").ap)


def _quantized(
    graph: Any,
    samples: Sequence[datasets.Sample],
    parts: Sequence[str],
    bits: int,
    scales: str,
    card: Card,
    protocol: str,
    wanted: Sequence[Mapping[str, Target]],
) -> Any:
    """The graph with quantized convolutions, but for those of the `parts` that are named.

    The last ones are fitted to what is `wanted` of them.

    What makes boxes and scores of the last convolutions' values stays, too: it is no work, and
    OpenVINO 2026.4 gives scores of a wrong shape where levels that have scales of their own are
    joined.
    """
    nncf = library("nncf")
    from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, OverflowFix
    from nncf.quantization.range_estimator import (
        RangeEstimatorParameters,
        RangeEstimatorParametersSet,
    )

    means = RangeEstimatorParametersSet.MEAN_MINMAX
    logging.getLogger("nncf").setLevel(logging.ERROR)  # not by NNCF, which sets all handlers, too
    kept = _ends("outputs", graph)[1]
    kept += [name for part in parts for name in _convolutions(part, graph)]
    with contextlib.redirect_stdout(io.StringIO()):  # its bars of progress
        quantized = nncf.quantize(
            graph,
            nncf.Dataset(_inputs(samples, card, protocol)),
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(samples),
            ignored_scope=nncf.IgnoredScope(names=kept),
            advanced_parameters=AdvancedQuantizationParameters(
                overflow_fix=OverflowFix.ENABLE if bits == 7 else OverflowFix.FIRST_LAYER,
                activations_range_estimator_params=(
                    means if scales == "means" else RangeEstimatorParameters()
                ),
                disable_bias_correction=scales == "uncorrected",
            ),
        )
    quantized = with_integer_kernels(quantized)
    refit(quantized, graph, wanted, _inputs(samples, card, protocol), 2 ** (bits - 1) - 1)
    return quantized


def _inputs(
    samples: Sequence[datasets.Sample], card: Card, protocol: str
) -> Iterator[dict[str, Any]]:
    """What the file is given of each picture that can be read, under a test protocol.

    Canvases of one size for all would have wide borders, and biases are corrected by averages over
    them: the default lost .36 of 100 of AP so, and .21 like this.
    """
    for sample in samples:
        try:
            picture = images.read(sample.path)
        except ImageError as error:
            _log.warning("left out a picture: %s", error)
            continue
        for view in protocols.get(protocol).views((picture.shape[0], picture.shape[1])):
            canvas, _ = view.render(picture, card.fixed_size, card.size_multiple)
            yield {INPUT: images.to_nchw([canvas])}


def _convolutions(part: str, graph: Any) -> list[str]:
    """Names of a part's convolutions, by the names of their weights where it is the neck."""
    if part != "neck":
        return _ends(part, graph)[0]
    convolutions = [node for node in graph.graph.node if node.op_type == "Conv"]
    return [node.name for node in convolutions if ".neck." in node.input[1]]


def _ends(end: str, graph: Any) -> tuple[list[str], list[str]]:
    """Names of the convolutions next to the "outputs" or the "image", and of all nodes between.

    What takes the size of a map alone is next to neither.
    """
    nodes = [node for node in graph.graph.node if node.op_type != "Shape"]
    if end == "outputs":
        makers = {name: node for node in nodes for name in node.output}
        edges = {name: list(node.input) for name, node in makers.items()}
        start = [output.name for output in graph.graph.output]
    else:
        makers, edges = {}, {}
        for number, node in enumerate(nodes):
            mark = f"node {number}"
            makers[mark], edges[mark] = node, list(node.output)
            for name in node.input:
                edges.setdefault(name, []).append(mark)
        start = [graph.graph.input[0].name]
    convolutions, between, seen = set(), set(), set(start)
    while start:
        name = start.pop()
        node = makers.get(name)
        if node is not None and node.op_type == "Conv":
            convolutions.add(node.name)
            continue
        if node is not None:
            between.add(node.name)
        fresh = [one for one in edges.get(name, ()) if one not in seen]
        seen.update(fresh)
        start += fresh
    return sorted(convolutions), sorted(between)


def _measured(
    made: Quantized,
    held_out: Sequence[datasets.Sample],
    samples: Sequence[datasets.Sample],
    protocol: str,
    runtime: str,
) -> dict[str, Any]:
    """What the card says of the loss."""
    return {
        "measure": "quantization",
        "quantized": made.quantized,
        "bits": made.bits,
        "scales": made.scales,
        "ap_int8": dict(made.after),
        "ap_fp32": dict(made.before),
        "protocol": protocol,
        "images": len(held_out),
        "digest": datasets.digest(held_out),
        "scales_from": {"images": len(samples), "digest": datasets.digest(samples)},
        "runtime": runtime,
        **({} if made.bits == 7 else {"arithmetic": int8_arithmetic()}),
    }
