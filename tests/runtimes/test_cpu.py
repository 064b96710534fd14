"""What is known of the machine's processor."""

from __future__ import annotations

from pathlib import Path

import pytest

from facefind.runtimes import cpu


def test_the_processor_is_described(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "_CPUINFO", tmp_path / "cpuinfo")
    assert cpu.features() is None
    assert cpu.processor()
    (tmp_path / "cpuinfo").write_text("model name\t: Abacus 9\nflags : fpu avx2\n\nflags : fpu\n")
    assert cpu.processor() == "Abacus 9"
    assert cpu.features() == {"fpu", "avx2"}
    monkeypatch.setattr(cpu, "_QUOTA", tmp_path / "cpu.max")
    assert cpu.quota() is None
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    assert cpu.quota() == 1.5
