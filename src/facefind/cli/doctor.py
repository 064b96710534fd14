"""`facefind doctor`: what is installed, what it can do here, and what clashes."""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import tyro

from facefind import weights
from facefind.cli import output
from facefind.cli.options import File, Flag
from facefind.errors import FacefindError
from facefind.runtimes import Precision, compiled, cpu

__all__ = ["clashes", "doctor", "main"]

_PACKAGES = (
    "facefind",
    "numpy",
    "pillow",
    "openvino",
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-openvino",
    "onnxruntime-directml",
    "opencv-python",
    "opencv-python-headless",
    "opencv-contrib-python",
    "opencv-contrib-python-headless",
    "torch",
    "torchvision",
    "onnx",
    "onnxscript",
    "scipy",
    "matplotlib",
    "fastapi",
    "uvicorn",
    "tensorboard",
    "pyyaml",
    "tyro",
    "tqdm",
)
# Wheels that write the same files: the one installed last wins, and taking either out breaks both.
_SAME_FILES = {
    "cv2": tuple(name for name in _PACKAGES if name.startswith("opencv-")),
    "onnxruntime": tuple(name for name in _PACKAGES if name.startswith("onnxruntime")),
}
# What the runtimes' kernels choose by, slowest to fastest.
_CPU_FEATURES = (
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx_vnni",
    "avx512_bf16",
    "amx_bf16",
    "amx_int8",
)


_NVIDIA = Path("/proc/driver/nvidia/version")


def main(args: Sequence[str]) -> int:
    """Exit code of `facefind doctor` with these arguments."""
    return tyro.cli(doctor, args=args, prog="facefind doctor")


def doctor(
    *,
    json: Flag = False,
    out: File = None,
) -> int:
    """Report what is installed, what it can do on this machine and what clashes.

    The exit code is 1 where something clashes.

    Args:
        json: Print JSON instead of text.
        out: Write the same as JSON to this file.
    """
    installed = _installed()
    runtimes, faults = _runtimes(installed)
    precisions, damaged = _precisions()
    problems = clashes(installed, _requirements("torchvision")) + faults + damaged
    report = {
        "machine": _machine(),
        "packages": installed,
        "runtimes": runtimes,
        "precisions": precisions,
        "cache": None if (cache := compiled.folder()) is None else str(cache),
        "problems": problems,
        "notes": _notes(runtimes),
    }
    output.emit(report, _text(report), as_json=json, out=out)
    return 1 if problems else 0


def clashes(installed: Mapping[str, str], torchvision_needs: Sequence[str] = ()) -> list[str]:
    """What is wrong with a set of packages (name to version), and how to mend it.

    `torchvision_needs` are the requirements that the installed torchvision states.
    """
    problems = []
    for module, names in _SAME_FILES.items():
        both = [name for name in names if name in installed]
        if len(both) > 1:
            keep = min(both, key=_worth)
            problems.append(
                f"{' and '.join(both)} overwrite each other's {module}: "
                f"pip uninstall -y {' '.join(both)}; pip install {keep}"
            )
    if "torchvision" in installed:
        vision, torch = installed["torchvision"], installed.get("torch")
        pinned = next((m[1] for need in torchvision_needs if (m := _TORCH_PIN.match(need))), None)
        if torch is None:
            problems.append(f"torchvision {vision} is there without torch: pip install torch")
        elif pinned and torch.partition("+")[0] != pinned:
            problems.append(
                f"torchvision {vision} is built for torch {pinned} and torch is {torch}: facefind "
                "needs no torchvision, so pip uninstall torchvision, or install the matching pair"
            )
    return problems


def _worth(name: str) -> tuple[bool, bool]:
    """Sorts what is worth keeping to the front: what can do more, then what needs less."""
    return "contrib" not in name and "-gpu" not in name, "headless" not in name


_TORCH_PIN = re.compile(r"torch\s*\(?==\s*([0-9][0-9.]*[0-9])")


def _installed() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _requirements(name: str) -> list[str]:
    try:
        return metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        return []


def _machine() -> dict[str, Any]:
    has = cpu.features()
    return {
        "system": platform.platform(),
        "python": platform.python_version(),
        "cpus": len(cpu.logical_cpus()),
        "cpu_limit": cpu.quota(),
        "cpu_features": None if has is None else [name for name in _CPU_FEATURES if name in has],
    }


def _runtimes(installed: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """What each runtime can compute on, and those packages that are there and can't be loaded."""
    probes: dict[str, tuple[Sequence[str], Callable[[], Any]]] = {
        "openvino": (["openvino"], _openvino),
        "onnxruntime": (_SAME_FILES["onnxruntime"], _onnxruntime),
        "torch": (["torch"], _torch),
        "torchvision": (["torchvision"], lambda: _version("torchvision")),
        "cv2": (_SAME_FILES["cv2"], lambda: _version("cv2")),
    }
    able: dict[str, Any] = {}
    faults = []
    for module, (packages, probe) in probes.items():
        if not set(packages) & set(installed):
            continue
        try:
            able[module] = probe()
        except Exception as error:  # a broken package may raise whatever it likes
            reason = " ".join(str(error).split()) or type(error).__name__
            faults.append(f"{module} is installed and can't be imported: {reason}")
    return able, faults


def _version(module: str) -> dict[str, Any]:
    return {"version": import_module(module).__version__}


def _openvino() -> dict[str, Any]:
    from facefind.runtimes.ov import library

    core = library().Core()
    return {
        device: {
            "name": core.get_property(device, "FULL_DEVICE_NAME"),
            "precisions": sorted(core.get_property(device, "OPTIMIZATION_CAPABILITIES")),
        }
        for device in core.available_devices
    }


def _onnxruntime() -> dict[str, Any]:
    return {"providers": list(import_module("onnxruntime").get_available_providers())}


def _torch() -> dict[str, Any]:
    torch = import_module("torch")
    cuda = torch.cuda
    devices = [cuda.get_device_name(i) for i in range(cuda.device_count())]
    return {"threads": torch.get_num_threads(), "cuda": torch.version.cuda, "devices": devices}


def _precisions() -> tuple[dict[str, Precision], list[str]]:
    """What the precision "auto" is of each model here, and models that are damaged."""
    precisions: dict[str, Precision] = {}
    try:
        names = [card.name for card in weights.available() if card.precision == "fp32"]
    except FacefindError as error:
        return precisions, [str(error)]
    faults = []
    for name in names:
        try:
            _, precisions[name] = weights.choose(name)
        except FacefindError as error:
            faults.append(str(error))
    return precisions, faults


def _notes(runtimes: Mapping[str, Any]) -> list[str]:
    """What works and could work better."""
    providers = runtimes.get("onnxruntime", {}).get("providers", [])
    if _NVIDIA.exists() and "CUDAExecutionProvider" not in providers:
        return [
            "this machine has an NVIDIA GPU and no ONNX Runtime that uses it: "
            "pip uninstall -y onnxruntime; pip install 'facefind[gpu]'"
        ]
    return []


def _text(report: Mapping[str, Any]) -> str:
    machine = report["machine"]
    features = machine["cpu_features"]
    limit = machine["cpu_limit"]
    rows = [
        ("system", machine["system"]),
        ("python", f"{machine['python']} ({sys.executable})"),
        ("cpus", f"{machine['cpus']}" + (f", limited to {limit:g}" if limit else "")),
        ("cpu features", "unknown" if features is None else " ".join(features) or "none"),
    ]
    able = report["runtimes"]
    for device, has in able.get("openvino", {}).items():
        rows.append((f"openvino {device}", f"{has['name']}: {' '.join(has['precisions'])}"))
    if "onnxruntime" in able:
        rows.append(("onnxruntime", " ".join(able["onnxruntime"]["providers"])))
    if "torch" in able:
        has = able["torch"]
        devices = ", ".join(has["devices"]) or "CPU only"
        rows.append(("torch", f"{devices}, {has['threads']} threads"))
    for precision in sorted(set(report["precisions"].values())):
        models = [name for name, its in report["precisions"].items() if its == precision]
        rows.append((f"auto is {precision}", " ".join(models)))
    rows.append(("cache", report["cache"] or "nothing is kept"))
    label = max(len(name) for name in [*(name for name, _ in rows), *report["packages"]])
    lines = [f"{name:<{label}}  {value}" for name, value in rows]
    lines += ["", *(f"{name:<{label}}  {value}" for name, value in report["packages"].items()), ""]
    lines += [f"note: {text}" for text in report["notes"]]
    lines += [f"problem: {text}" for text in report["problems"]] or ["no problem found"]
    return "\n".join(lines)
