"""Model files run by onnxruntime, on a CPU or by any provider that its wheel brings."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facefind import forking
from facefind.errors import RuntimeUnavailableError, WeightsError
from facefind.runtimes.contract import Precision, TensorSpec
from facefind.runtimes.cpu import usable_cores
from facefind.runtimes.shapes import ByShape

_SHORT = {"directml": "dml", "trt": "tensorrt"}
_OWN_SHAPES = 4  # sessions of CUDA kept for input shapes that come again and again
_WORTH_A_SESSION = 4  # calls after which a later shape has earned its own
_DTYPES = {"tensor(uint8)": "uint8", "tensor(float)": "float32", "tensor(float16)": "float16"}


def providers() -> list[str]:
    """Return the providers that the installed onnxruntime offers, the fastest first."""
    try:
        import onnxruntime
    except ImportError as error:
        raise RuntimeUnavailableError(
            f"onnxruntime cannot be imported ({error}): `pip install facefind[onnx]`, "
            "or `facefind[gpu]` for NVIDIA GPUs"
        ) from error
    # AzureExecutionProvider calls a remote service and runs nothing here.
    return [p for p in onnxruntime.get_available_providers() if not p.startswith("Azure")]


def offers_cuda() -> bool:
    """Whether onnxruntime is installed with CUDA; without, it is not imported to tell."""
    spec = find_spec("onnxruntime")
    folders = (spec.submodule_search_locations if spec else None) or []
    libraries = (Path(folder, "capi").glob("*onnxruntime_providers_cuda*") for folder in folders)
    return any(map(any, libraries)) and "CUDAExecutionProvider" in providers()


class OrtSession:
    """An ONNX file opened by onnxruntime.

    With CUDA a session prepares itself anew for some tenths of a second whenever an image's shape
    is not that of the image before. So the shapes that keep coming have a session each, four at
    most, beside one for the others; with a `memory_limit` all share one.

    Args:
        path: The ONNX file.
        threads: Threads one call uses; None takes the physical cores this process may use.
        precision: Only "fp32": on x86 onnxruntime has no bfloat16 arithmetic for fp32 models.
        provider: "cpu", "cuda", "CUDAExecutionProvider", ...; None is the CPU. A provider that is
            not there, or that does not start, raises RuntimeUnavailableError.
        device_id: Which of the provider's devices, from 0; None is the first. The CPU has one.
        engine_cache: A folder for what the provider compiles: of TensorRT and CoreML.
        memory_limit: Bytes of a GPU that the provider's arena takes at most: of CUDA and TensorRT.
            An image that needs more fails.
    """

    name = "onnxruntime"

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
        present = providers()
        import onnxruntime

        if precision != "fp32":
            raise RuntimeUnavailableError(
                f"onnxruntime cannot run an fp32 model in {precision}; "
                "the openvino and torch runtimes can, on processors that have it"
            )
        named = _full_name(provider or "cpu", present)
        if named == "CPUExecutionProvider" and device_id is not None:
            raise RuntimeUnavailableError(
                f"device_id {device_id} selects a GPU, and the provider is the CPU: name a provider"
            )
        self.precision: Precision = precision
        self.threads = threads or usable_cores()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Spinning stays on: without it small networks take half as long again, as threads
        # fall asleep between two layers. Threads do rest once a call is over.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        chosen: list[Any] = ["CPUExecutionProvider"]
        settings = _settings(named, device_id, engine_cache, memory_limit)
        if named not in chosen:
            chosen.insert(0, (named, settings))
            _load_cuda(onnxruntime)

        def opened() -> Any:
            with forking.whole(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                # Another provider in the place of one that fails would only be slow.
                return onnxruntime.InferenceSession(
                    str(path), sess_options=options, providers=chosen, enable_fallback=0
                )

        try:
            first = opened()
        except Exception as error:  # onnxruntime's errors share no base of their own
            if named != "CPUExecutionProvider":
                raise RuntimeUnavailableError(f"{named} cannot open {path}: {error}") from error
            raise WeightsError(f"onnxruntime cannot open {path}: {error}") from error
        self.provider: str = first.get_providers()[0]
        if self.provider != named:
            raise RuntimeUnavailableError(
                f"{named} did not start (onnxruntime fell back to "
                f"{self.provider}): check the driver and the CUDA/cuDNN libraries it needs"
            )
        self.inputs = [_spec(node) for node in first.get_inputs()]
        self.outputs = [_spec(node) for node in first.get_outputs()]
        self._for_shape: Callable[[tuple[int, ...]], Any] = lambda _: first
        if named == "CUDAExecutionProvider" and memory_limit is None:
            spare = [first]
            self._for_shape = ByShape[Any](
                lambda _: spare.pop() if spare else opened(),
                kept=_OWN_SHAPES,
                early=_OWN_SHAPES,
                worth=_WORTH_A_SESSION,
            )

    def run(self, x: NDArray[np.generic]) -> list[NDArray[np.float32]]:
        """Return the model's arrays for its one input; they belong to the caller."""
        try:
            session = self._for_shape(x.shape)
            with forking.whole():
                arrays: list[NDArray[np.float32]] = session.run(None, {self.inputs[0].name: x})
        except Exception as error:  # onnxruntime's errors share no base of their own
            raise RuntimeError(f"onnxruntime fails on an input {x.shape}: {error}") from error
        return arrays


def _load_cuda(onnxruntime: Any) -> None:
    """Load the CUDA libraries that lie in Python packages, where onnxruntime does not look."""
    if hasattr(onnxruntime, "preload_dlls"):  # since 1.21; without CUDA it does nothing
        with contextlib.redirect_stdout(sys.stderr):  # it prints what it cannot find
            onnxruntime.preload_dlls()


def _settings(
    name: str, device_id: int | None, engine_cache: Path | None, memory_limit: int | None
) -> dict[str, str]:
    """The options of a provider, by its own names for them."""
    settings = {} if device_id is None else {"device_id": str(device_id)}
    if name == "CUDAExecutionProvider":
        settings["use_tf32"] = "0"  # TF32 is not what fp32 promises
        # Each new size of picture would wait for a search that times every algorithm.
        settings["cudnn_conv_algo_search"] = "HEURISTIC"
        # Grown by what is needed: by default it doubles, and images of many sizes fill it.
        settings["arena_extend_strategy"] = "kSameAsRequested"
    if engine_cache is not None:
        folder = str(engine_cache)
        caching = {
            "TensorrtExecutionProvider": {
                "trt_engine_cache_enable": "1",
                "trt_engine_cache_path": folder,
                "trt_timing_cache_enable": "1",
                "trt_timing_cache_path": folder,
            },
            "CoreMLExecutionProvider": {"ModelFormat": "MLProgram", "ModelCacheDirectory": folder},
        }
        if name not in caching:
            raise RuntimeUnavailableError(
                f"onnxruntime's {name} compiles nothing that engine_cache could keep; "
                "the providers tensorrt and coreml do, and OpenVINO's devices"
            )
        engine_cache.mkdir(parents=True, exist_ok=True)
        settings |= caching[name]
    if memory_limit is not None:
        limits = {
            "CUDAExecutionProvider": "gpu_mem_limit",
            "TensorrtExecutionProvider": "trt_max_workspace_size",
        }
        if name not in limits:
            raise RuntimeUnavailableError(
                f"memory_limit is of the providers cuda and tensorrt, not of {name}"
            )
        settings[limits[name]] = str(memory_limit)
    return settings


def _full_name(provider: str, present: list[str]) -> str:
    """Return onnxruntime's name of a provider given by its full or short name."""
    provider = _SHORT.get(provider.lower(), provider)
    for name in present:
        if provider.lower() in {name.lower(), name.removesuffix("ExecutionProvider").lower()}:
            return name
    hint = " (`pip install facefind[gpu]` in an environment without plain onnxruntime)"
    raise RuntimeUnavailableError(
        f"onnxruntime has no provider {provider!r} here; present: {', '.join(present)}"
        + (hint if "cuda" in provider.lower() or "tensorrt" in provider.lower() else "")
    )


def _spec(node: Any) -> TensorSpec:
    shape = tuple(size if isinstance(size, int) else None for size in node.shape)
    return TensorSpec(node.name, shape, _DTYPES.get(node.type, node.type))
