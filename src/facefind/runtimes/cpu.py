"""What this machine's processor is and may do: its name, features, cores, and a container's limit.

The one place that reads Linux's cpuinfo and cgroup files. Elsewhere nothing is claimed.
"""

from __future__ import annotations

import os
import platform
from functools import lru_cache
from pathlib import Path

__all__ = [
    "features",
    "has_bf16",
    "int8_arithmetic",
    "logical_cpus",
    "processor",
    "quota",
    "usable_cores",
]

_SYSTEM = Path("/sys/devices/system/cpu")
_QUOTA = Path("/sys/fs/cgroup/cpu.max")
_CPUINFO = Path("/proc/cpuinfo")


def logical_cpus() -> list[int]:
    """Numbers of the logical CPUs that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def usable_cores() -> int:
    """How many physical cores this process may use, at least 1.

    Counts the cores behind the CPUs that the process may run on (two hardware threads of a core
    are one), and no more than a container's CPU quota grants, rounded.
    """
    cores = set()
    for cpu in logical_cpus():
        topology = _SYSTEM / f"cpu{cpu}" / "topology"
        try:
            package = (topology / "physical_package_id").read_text().strip()
            core = (topology / "core_id").read_text().strip()
        except OSError:
            package, core = "", str(cpu)
        cores.add((package, core))
    limit = quota()
    return max(1, len(cores) if limit is None else min(len(cores), round(limit)))


def quota() -> float | None:
    """CPUs' worth of time that the container may use; None without a limit."""
    try:
        limit, period = _QUOTA.read_text().split()
        return None if limit == "max" else int(limit) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def features() -> frozenset[str] | None:
    """Names of the processor's features, as Linux lists them; None where it is not Linux."""
    lines = _cpuinfo()
    if lines is None:
        return None
    return frozenset(
        name for key, value in lines if key in {"flags", "Features"} for name in value.split()
    )


def processor() -> str:
    """The name of the machine's processor."""
    named = [value for key, value in _cpuinfo() or [] if key == "model name"]
    return named[0] if named else platform.processor() or platform.machine()


@lru_cache(maxsize=1)
def has_bf16() -> bool:
    """Whether the processor multiplies bfloat16 numbers in hardware; False where not known."""
    return bool((features() or frozenset()) & {"avx512_bf16", "amx_bf16", "bf16"})


def int8_arithmetic() -> str | None:
    """What the processor multiplies 8-bit integers by: "vnni", "avx2", or None where not known.

    VNNI adds products in 32 bits. Without it pairs of them are added in 16, where large ones are
    cut, so that a quantized model may give other results.
    """
    has = features() or frozenset()
    if has & {"avx512_vnni", "avx_vnni", "amx_int8"}:
        return "vnni"
    return "avx2" if "avx2" in has else None


def _cpuinfo() -> list[tuple[str, str]] | None:
    """Keys and values of the processor's description; None where there is none."""
    try:
        lines = _CPUINFO.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    parts = [line.partition(":") for line in lines]
    return [(key.strip(), value.strip()) for key, _, value in parts]
