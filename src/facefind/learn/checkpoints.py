"""Checkpoints: all that a run needs to be resumed, in one file that is whole or not there.

Every torch file is read here, those of others too, and none may run code.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from facefind.errors import WeightsError
from facefind.files import atomic

LAST = "last.pt"
FINAL = "final.pt"
BEST = "best.pt"

_PREFIX = "module."  # what torch's data parallel wrappers put before every name


def save(path: Path, content: dict[str, Any]) -> None:
    """Write tensors and plain values to `path`; a kill leaves the old file or the new, whole."""
    with atomic(path) as draft, draft.open("wb") as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:
            if isinstance(error.__context__, OSError):  # such as no space left: torch hides it
                raise error.__context__ from None
            raise


def path_of(run: Path) -> Path:
    """The checkpoint of a run's folder, the final one where there is one; a file is itself."""
    if not run.is_dir():
        return run
    final = run / FINAL
    return final if final.exists() else run / LAST


def load(path: Path) -> dict[str, Any]:
    """The content of a checkpoint, on the CPU. Only tensors and plain values are unpickled.

    Raises:
        WeightsError: if the file is missing or not a checkpoint.
    """
    if not path.is_file():
        raise WeightsError(f"no checkpoint at {path}; expected a .pt file that training wrote")
    content = read(path)
    if not isinstance(content, dict) or "network" not in content:
        raise WeightsError(f"{path} is no checkpoint of facefind: it holds no 'network' entry")
    return content


def read(path: Path) -> Any:
    """What a torch or .safetensors file holds, on the CPU: tensors and plain values, no objects.

    Raises:
        WeightsError: if the file is missing, damaged, or holds anything else.
    """
    if not path.is_file():
        raise WeightsError(f"there is no file {path}")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except ImportError as error:
        reason = f"{error}; `pip install safetensors`"
    except Exception as error:  # torch raises many kinds for a damaged file
        reason = _reason(str(error))
    # Outside of the handler: torch's text, which advises to read the file unsafely, is not shown.
    raise WeightsError(f"{path} cannot be read: {reason}")


def state_dict(content: Any, path: Path, expected: str = "") -> dict[str, Tensor]:
    """The tensors of a network by name, out of what a file wraps them in; averaged ones first.

    Args:
        content: what `read` gave.
        path: the file, for the error.
        expected: what it should be, for the error.

    Raises:
        WeightsError: if there are none.
    """
    state = content
    for key in ("ema", "network", "state_dict", "model"):
        if isinstance(content, dict) and key in content:
            state = content[key]
            break
    tensors = isinstance(state, dict) and all(isinstance(v, Tensor) for v in state.values())
    if not tensors or not state:
        raise WeightsError(f"{path} holds no state dict{expected and f'; expected {expected}'}")
    parallel = all(name.startswith(_PREFIX) for name in state)
    return {name.removeprefix(_PREFIX * parallel): value for name, value in state.items()}


def _reason(text: str) -> str:
    """Why torch read nothing, by the text of its error."""
    stored = re.search(r"GLOBAL ([\w.]+)", text)
    if stored or "TorchScript" in text:
        what = f"an object of the kind {stored[1]}" if stored else "a program (TorchScript)"
        return (
            f"it holds {what}, which may run any code as it is opened. Only tensors and plain "
            "values are read: where you trust the file, open it with the program that wrote it, "
            "and save its tensors alone, torch.save(network.state_dict(), FILE)"
        )
    return "it is damaged, or no file of tensors"


def provenance() -> dict[str, str]:
    """Versions and commit that a run was made with."""
    import platform

    import numpy

    from facefind import __version__

    return {
        "facefind": __version__,
        "commit": _commit(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "python": platform.python_version(),
    }


def _commit() -> str:
    folder = Path(__file__).parent
    try:
        head = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=True
        ).stdout.strip()
        dirty = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{head}+changes" if dirty else head
