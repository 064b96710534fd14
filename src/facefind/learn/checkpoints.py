"""Checkpoints: all that a run needs to be resumed, in one file that is whole or not there."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import torch

from facefind.errors import WeightsError
from facefind.files import atomic

LAST = "last.pt"
FINAL = "final.pt"
BEST = "best.pt"


def save(path: Path, content: dict[str, Any]) -> None:
    """Write tensors and plain values to `path`; a kill leaves the old file or the new, whole."""
    with atomic(path) as draft:
        torch.save(content, draft)


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
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged file
        raise WeightsError(f"{path} cannot be read as a checkpoint: {error}") from error
    if not isinstance(content, dict) or "network" not in content:
        raise WeightsError(f"{path} is no checkpoint of facefind: it holds no 'network' entry")
    return content


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
