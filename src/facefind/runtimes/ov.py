"""Model files run by OpenVINO, on a CPU or on an Intel GPU."""

from __future__ import annotations

import sys
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facefind import forking
from facefind.errors import RuntimeUnavailableError, WeightsError
from facefind.runtimes import compiled
from facefind.runtimes.contract import Precision, TensorSpec
from facefind.runtimes.cpu import usable_cores
from facefind.runtimes.shapes import ByShape, Shape

_OWN_SHAPES = 5  # compiled models kept for input shapes that come again and again
_EARLY_SHAPES = 3  # of them given to the first that come: upright, lying, and the small pass's
_WORTH_COMPILING = 64  # calls after which a shape has earned a compiled model of its own
_HINTS: dict[Precision, str] = {"fp32": "f32", "bf16": "bf16"}
_NVIDIA = ("CUDA", "TENSORRT", "TRT")  # as users of onnxruntime name its providers


def library(name: str = "openvino") -> Any:
    """Return OpenVINO's module, or another library's that imports it, such as NNCF's.

    OpenVINO's converter and NNCF tell Intel, unasked and by Google Analytics, that they are
    imported and what they do: a thread forks the process for it, and an id of the user is kept in
    ~/intel. So NNCF does not find the package that does that; the converter, which takes half of
    the time of OpenVINO's import, is left for the first who asks for `openvino.convert_model`.

    Raises:
        ImportError: It is not installed.
    """
    converter = "openvino.tools.ovc"
    hidden = {part for part in (converter, "openvino_telemetry") if part not in sys.modules}
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        module = import_module(name)
    finally:
        for part in hidden:
            sys.modules.pop(part, None)
    openvino = sys.modules.get("openvino")
    if converter in hidden and openvino is not None:
        vars(openvino).setdefault("__getattr__", _from_converter)
    return module


def _from_converter(name: str) -> Any:
    """What a module of OpenVINO lacks without its converter."""
    if name != "convert_model":
        raise AttributeError(f"module 'openvino' has no attribute {name!r}")
    return import_module("openvino.tools.ovc").convert_model


def _core() -> Any:
    """OpenVINO's core; a forked process has one of its own, and never closes its parent's."""
    return _core_of(forking.generation())


@cache
def _core_of(generation: int) -> Any:
    try:
        core = library().Core()
    except ImportError as error:
        raise RuntimeUnavailableError(
            f"openvino cannot be imported ({error}): `pip install openvino`"
        ) from error
    forking.keep(core)
    return core


def devices() -> list[str]:
    """Return the devices that the installed OpenVINO sees on this machine."""
    return list(_core().available_devices)


def _device(provider: str | None, device_id: int | None) -> str:
    """Return OpenVINO's name of a device that is there; to look for others than the CPU is slow."""
    if provider is None and device_id is None:
        return "CPU"
    name, present = (provider or "CPU").upper(), devices()
    if device_id is not None and f"{name}.{device_id}" in present:
        return f"{name}.{device_id}"
    if name in present and not device_id:  # a device that is the only one is 0
        return name
    which = "" if device_id is None else f" {device_id}"
    gpu = "; that is onnxruntime's: pip install 'facefind[gpu]'" if name in _NVIDIA else ""
    raise RuntimeUnavailableError(
        f"OpenVINO has no device {provider or 'CPU'!r}{which} here; present: "
        f"{', '.join(present)}{gpu}"
    )


class OpenvinoSession:
    """An ONNX file opened by OpenVINO.

    A model compiled for one input shape runs faster than one that takes any, and compiles no
    slower. So the first three shapes get a compiled model each, later ones share one that takes
    any, and a shape that keeps coming gets its own as well; at most five are kept.

    Args:
        path: The ONNX file.
        threads: Threads one call uses; None takes the physical cores this process may use.
        precision: "fp32" or "bf16". Never left to OpenVINO, which would take bf16 by itself.
        provider: "cpu", "gpu", "GPU.1", ...; None is the CPU. A device that is not there raises
            RuntimeUnavailableError, as does a precision that it does not have.
        device_id: Which of the provider's devices, from 0: "gpu" with 1 is "GPU.1". None leaves
            the choice to OpenVINO, which takes the first. The CPU has one.
        engine_cache: A folder for compiled models, which are read the next time. None is
            `compiled.folder` for quantized files on the CPU, whose compiling takes three times as
            long as that of others, and no folder for others.
        memory_limit: Must be None: OpenVINO has no such limit.
    """

    name = "openvino"

    def __init__(
        self,
        path: Path,
        threads: int | None = None,
        precision: Precision = "fp32",
        provider: str | None = None,
        device_id: int | None = None,
        engine_cache: Path | None = None,
        memory_limit: int | None = None,
    ) -> None:
        if memory_limit is not None:
            raise RuntimeUnavailableError(
                "memory_limit is of onnxruntime's providers cuda and tensorrt: OpenVINO has none"
            )
        core = _core()
        self.provider = _device(provider, device_id)
        capabilities = core.get_property(self.provider, "OPTIMIZATION_CAPABILITIES")
        if precision == "bf16" and "BF16" not in capabilities:
            raise RuntimeUnavailableError(
                f"the device {self.provider} has no bf16 arithmetic "
                f"(it has {', '.join(capabilities)}); use precision='fp32'"
            )
        self.precision: Precision = precision
        self.threads = threads or usable_cores()
        config: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": _HINTS[precision],
        }
        if self.provider == "CPU":
            # Pinned threads of two processes may share a core while another one idles.
            config["ENABLE_CPU_PINNING"] = False
            config["INFERENCE_NUM_THREADS"] = self.threads
            # By default what was prepared for each shape is kept: memory without end for images
            # of many sizes, and no gain in time.
            config["CPU_RUNTIME_CACHE_CAPACITY"] = 0
            if forking.generation():
                # OpenVINO keeps the threads of closed models for the next one, and would wait for
                # those that stayed behind in the parent. Without any, the caller's computes.
                config["NUM_STREAMS"] = 0
        try:
            with forking.whole():
                model = core.read_model(str(path))
                quantized = _is_quantized(model)
                if not quantized:
                    _fold(model)
        except Exception as error:  # openvino raises plain RuntimeError for whatever is wrong
            raise WeightsError(f"OpenVINO cannot open {path}: {error}") from error
        keeps = engine_cache is None and quantized and self.provider == "CPU"
        if engine_cache is not None:
            config["CACHE_DIR"] = str(engine_cache)
        self.inputs = [_spec(port) for port in model.inputs]
        self.outputs = [_spec(port) for port in model.outputs]
        self._for_shape = ByShape(
            partial(_compile, model, self.provider, config, keeps),
            kept=_OWN_SHAPES,
            early=_EARLY_SHAPES,
            worth=_WORTH_COMPILING,
        )

    def run(self, x: NDArray[np.generic]) -> list[NDArray[np.float32]]:
        """Return the model's arrays for its one input; they belong to the caller."""
        with forking.whole():
            return self._for_shape(x.shape).run(x)


def _compile(
    model: Any, device: str, config: dict[str, Any], keeps: bool, shape: Shape | None
) -> _Compiled:
    """A model for one input shape, or for any; `keeps` says to keep it in the cache folder."""
    if shape is not None and model.inputs[0].partial_shape.is_dynamic:
        model = model.clone()
        model.reshape(list(shape))
        if not _is_quantized(model):
            _fold(model)
    if keeps and (folder := compiled.folder()) is not None:
        config = config | {"CACHE_DIR": str(folder)}
    return _Compiled(_core().compile_model(model, device, config))


def _fold(model: Any) -> None:
    """Compute what depends on constants alone, such as the shape of each bias.

    Each compilation would do so, in several times as long. It is not for quantized models: their
    weights would become floats, and their arithmetic too.
    """
    from openvino.passes import ConstantFolding, Manager

    passes = Manager()
    passes.register_pass(ConstantFolding())
    passes.run_passes(model)


def _is_quantized(model: Any) -> bool:
    return any(node.get_type_name() == "FakeQuantize" for node in model.get_ops())


class _Compiled:
    """A compiled model with as many infer requests as threads have called it at once."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self._idle: list[Any] = []  # append and pop of a list are atomic

    def run(self, x: NDArray[np.generic]) -> list[NDArray[np.float32]]:
        try:
            request = self._idle.pop()
        except IndexError:
            request = self.model.create_infer_request()
        try:
            results = request.infer({0: x}, share_inputs=True, share_outputs=False)
            return [results[i] for i in range(len(self.model.outputs))]
        finally:
            self._idle.append(request)


def _spec(port: Any) -> TensorSpec:
    partial = port.partial_shape
    shape = (
        tuple(None if size.is_dynamic else int(size.get_length()) for size in partial)
        if partial.rank.is_static
        else None
    )
    dtype = str(port.element_type.to_dtype())
    return TensorSpec(port.any_name if port.names else "", shape, dtype)
