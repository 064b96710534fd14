"""What this machine's processor offers: cores that may be used, and bfloat16 arithmetic."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

_SYSTEM = Path("/sys/devices/system/cpu")
_QUOTA = Path("/sys/fs/cgroup/cpu.max")
_CPUINFO = Path("/proc/cpuinfo")


def usable_cores() -> int:
    """Return how many physical cores this process may use, at least 1.

    Counts the cores behind the processors that the process is allowed to run on (two hardware
    threads of a core are one), and no more than a container's CPU quota grants.
    """
    allowed = (
        sorted(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else list(range(os.cpu_count() or 1))
    )
    cores = set()
    for cpu in allowed:
        topology = _SYSTEM / f"cpu{cpu}" / "topology"
        try:
            package = (topology / "physical_package_id").read_text().strip()
            core = (topology / "core_id").read_text().strip()
        except OSError:
            package, core = "", str(cpu)
        cores.add((package, core))
    return max(1, min(len(cores), _quota(len(cores))))


def _quota(otherwise: int) -> int:
    """Return the whole CPUs that the container's quota grants, or `otherwise` without one."""
    try:
        limit, period = _QUOTA.read_text().split()
        return otherwise if limit == "max" else max(1, round(int(limit) / int(period)))
    except (OSError, ValueError):
        return otherwise


@lru_cache(maxsize=1)
def has_bf16() -> bool:
    """Return whether the processor multiplies bfloat16 numbers in hardware.

    Read from the processor flags of Linux; elsewhere nothing is claimed and the answer is False.
    """
    try:
        text = _CPUINFO.read_text()
    except OSError:
        return False
    flags: set[str] = set()
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in {"flags", "Features"}:
            flags.update(value.split())
    return bool(flags & {"avx512_bf16", "amx_bf16", "bf16"})
