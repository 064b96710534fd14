"""Opens a model by whatever runtime is there, and makes it one call: images to candidates."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from facefind import forking
from facefind.errors import RuntimeUnavailableError, WeightsError, check_whole
from facefind.runtimes import adapters, cpu
from facefind.runtimes.card import Card
from facefind.runtimes.contract import (
    PRECISIONS,
    Candidates,
    ImageBatch,
    Precision,
    Runtime,
    Session,
    check_candidates,
    check_images,
    fixed_input,
)
from facefind.runtimes.native import NativeReader

if TYPE_CHECKING:
    from torch import nn

RuntimeName = Literal["auto", "onnxruntime", "openvino", "torch"]
_log = logging.getLogger(__name__)


class OnnxModel:
    """An ONNX file opened by a library: images in, candidates out.

    The libraries' threads do not live through a fork: a forked process opens the file again, at
    its first call.

    Args:
        path: The file.
        open: Opens it.
        session: The opened file.
        reader: How the file is fed and what its outputs mean.
        batch: How many images go in at a time, blank ones among them; None for any number.
    """

    def __init__(
        self,
        path: Path,
        open: Callable[[], Session],
        session: Session,
        reader: adapters.Reader,
        batch: int | None = None,
    ) -> None:
        self.path = path
        self._open = open
        self._sessions = {forking.generation(): session}
        forking.keep(session)
        self._reader = reader
        self._batch = batch
        self.name = session.name
        self.card = reader.card
        self.precision: Precision = "int8" if self.card.precision == "int8" else session.precision
        self.provider = session.provider

    @property
    def threads(self) -> int:
        """Number of CPU threads one call uses."""
        return self._session().threads

    def __call__(self, images: ImageBatch) -> Candidates:
        """Return the candidates of (B, 3, H, W) uint8 RGB images.

        Raises:
            ImageError: The height and width do not suit the card.
            WeightsError: What the file gives is not what its kind of file gives.
        """
        check_images(images, self.card)
        if self._batch in (None, len(images)):
            return self._run(images)
        blank = -len(images) % self._batch
        padded = np.pad(images, ((0, blank), (0, 0), (0, 0), (0, 0)))
        starts = range(0, len(padded), self._batch)
        parts = [self._run(padded[start : start + self._batch]) for start in starts]
        return Candidates.joined(parts, len(images))

    def _session(self) -> Session:
        """The session of this process."""
        generation = forking.generation()
        session = self._sessions.get(generation)
        if session is None:  # several threads may open one each, the first is kept: no lock
            session = self._sessions.setdefault(generation, self._open())
            forking.keep(session)
        return session

    def _run(self, images: ImageBatch) -> Candidates:
        outputs = self._session().run(np.ascontiguousarray(self._reader.prepare(images)))
        try:
            found = self._reader.decode(outputs, (images.shape[2], images.shape[3]))
        except (ValueError, IndexError) as error:  # arrays that do not belong together
            raise WeightsError(
                f"the model {self.card.name} gives arrays {[array.shape for array in outputs]} for "
                f"images {images.shape}, which do not fit each other: {error}"
            ) from error
        return check_candidates(found, self.card.name)

    def __reduce__(self) -> Any:
        raise TypeError(
            "an open model is not copied, nor sent to another process: make a FaceDetector in each "
            "process, as facefind.detect does"
        )

    def __repr__(self) -> str:
        return (
            f"OnnxModel({self.card.name!r}, runtime={self.name!r}, provider={self.provider!r}, "
            f"threads={self.threads}, precision={self.precision!r})"
        )


def installed() -> list[RuntimeName]:
    """Return the names of the runtimes that are installed, without importing them."""
    names: tuple[RuntimeName, ...] = ("onnxruntime", "openvino", "torch")
    return [name for name in names if find_spec(name) is not None]


def gains_from(
    precision: Precision, runtime: RuntimeName = "auto", provider: str | None = None
) -> bool:
    """Whether a lower precision is known to be faster than fp32 by this runtime and provider here.

    So OpenVINO is on a CPU with AVX2 or newer in int8, and in bf16 where the CPU multiplies such
    numbers; docs/speed.md has the figures. ONNX Runtime gains a tenth by int8 where convolutions
    are depthwise, its results are not those that cards state the loss of, and it has no bf16.
    """
    name, device = next(iter(_attempts(runtime, provider, "fp32")), ("", provider))
    if name != "openvino" or not (device is None or device.lower() == "cpu"):
        return False
    feature = {"int8": "avx2", "bf16": "avx512_bf16"}.get(precision)
    return feature in (cpu.features() or ())


def open_model(
    model: str | Path | nn.Module,
    runtime: RuntimeName = "auto",
    threads: int | None = None,
    precision: Precision = "fp32",
    provider: str | None = None,
    card: Card | None = None,
    device_id: int | None = None,
    engine_cache: str | Path | None = None,
    memory_limit: int | None = None,
) -> Runtime:
    """Return a model ready to run.

    Args:
        model: An exported ONNX file, a published one that `runtimes.adapters` knows, or a network.
        runtime: The library to run it, or "auto": onnxruntime on an NVIDIA GPU where its wheel
            offers one, else OpenVINO, else onnxruntime on the CPU. A network always takes torch.
        threads: CPU threads one call uses; None takes the physical cores this process may use
            (torch: what torch is set to). The model's `threads` says what that came to.
        precision: "fp32", or "bf16" where the library and the processor have it; "int8" for a
            file that was quantized, which is what it runs in whatever is named. Nothing but what is
            named here is ever used.
        provider: The kind of device by the library's own name ("cuda", "CPU", "gpu", ...); None is
            the CPU for a named runtime. One that is absent raises RuntimeUnavailableError.
        card: Card of a network; files bring their own.
        device_id: Which of the provider's devices, from 0; None is the first.
        engine_cache: A folder for what a provider compiles of a model, which takes TensorRT minutes
            and is read the next time: of tensorrt, coreml and OpenVINO's devices.
        memory_limit: Bytes that onnxruntime's arena takes of a GPU at most: of cuda and tensorrt.

    Raises:
        WeightsError: The file is missing, damaged, or no face detector that is known.
        RuntimeUnavailableError: The library, provider or precision is not here.
    """
    if precision not in PRECISIONS:
        raise RuntimeUnavailableError(f"precision must be one of {PRECISIONS}, got {precision!r}")
    if runtime not in get_args(RuntimeName):
        raise RuntimeUnavailableError(
            f"runtime must be one of {get_args(RuntimeName)}, got {runtime!r}"
        )
    check_whole(None, threads=threads, device_id=device_id, memory_limit=memory_limit)
    if threads is not None and threads < 1:
        raise RuntimeUnavailableError(f"threads must be at least 1 or None, got {threads}")
    if device_id is not None and device_id < 0:
        raise RuntimeUnavailableError(f"device_id must be at least 0 or None, got {device_id}")
    if not isinstance(model, str | Path):
        if runtime not in ("auto", "torch"):
            raise RuntimeUnavailableError(
                f"a network runs by torch only; to run it by {runtime}, export it first"
            )
        if precision == "int8":
            raise RuntimeUnavailableError(
                "a network runs in fp32 or bf16; for int8, export and quantize it"
            )
        if engine_cache is not None or memory_limit is not None:
            raise RuntimeUnavailableError("torch has no engine_cache and no memory_limit")
        from facefind.runtimes.pytorch import TorchRuntime

        return TorchRuntime(model, card, threads, precision, provider, device_id)
    if runtime == "torch":
        raise RuntimeUnavailableError(
            f"torch runs networks and no ONNX file such as {model}; use onnxruntime or openvino"
        )
    path = Path(model)
    own = Card.from_file(path)  # before any library opens it: these errors are the clearest
    path = path.absolute()  # forks open it again, wherever they work
    if precision == "int8":
        if own is None or own.precision != "int8":
            raise WeightsError(
                f"{path} is not quantized: `facefind quantize` makes an int8 file of a model"
            )
        precision = "fp32"  # of all but what is quantized
    device = {
        "device_id": device_id,
        "engine_cache": None if engine_cache is None else Path(engine_cache).absolute(),
        "memory_limit": memory_limit,
    }
    session = _open_session(path, runtime, threads, precision, provider, device)
    same = provider if session.name == "openvino" else session.provider
    again = partial(_session, path, session.name, session.threads, precision, same, device)
    if own is not None:
        native = NativeReader(session, own)
        return OnnxModel(path, again, session, native, fixed_input(session)[0])
    reader = adapters.detect_format(session, path.stem)
    return OnnxModel(path, again, session, reader, adapters.batch_size(session))


def _open_session(
    path: Path,
    runtime: str,
    threads: int | None,
    precision: Precision,
    provider: str | None,
    device: Mapping[str, Any],
) -> Session:
    """Return the session of the named library, or of the first that has what is named."""
    if runtime != "auto":
        return _session(path, runtime, threads, precision, provider, device)
    failures = []
    for name, kind in _attempts(runtime, provider, precision):
        try:
            return _session(path, name, threads, precision, kind, device)
        except RuntimeUnavailableError as error:
            if kind != provider:
                _log.warning("using the CPU instead: %s", error)
            failures.append(str(error))
    raise RuntimeUnavailableError(
        "; ".join(failures)
        or "no runtime is installed: `pip install openvino`, or `pip install facefind[onnx]`"
    )


def _attempts(
    runtime: str, provider: str | None, precision: Precision
) -> list[tuple[str, str | None]]:
    """Libraries and providers that may run a file, the first one first."""
    if runtime != "auto":
        return [(runtime, provider)]
    attempts: list[tuple[str, str | None]] = [
        (name, provider) for name in ("openvino", "onnxruntime") if name in installed()
    ]
    if provider is None and precision == "fp32" and "onnxruntime" in installed():
        from facefind.runtimes.ort import offers_cuda

        if offers_cuda():
            attempts.insert(0, ("onnxruntime", "CUDAExecutionProvider"))
    return attempts


def _session(
    path: Path,
    runtime: str,
    threads: int | None,
    precision: Precision,
    provider: str | None,
    device: Mapping[str, Any],
) -> Session:
    if runtime == "openvino":
        from facefind.runtimes.ov import OpenvinoSession

        return OpenvinoSession(path, threads, precision, provider, **device)
    from facefind.runtimes.ort import OrtSession

    return OrtSession(path, threads, precision, provider, **device)
