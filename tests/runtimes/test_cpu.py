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


def test_a_container_quota_limits_the_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quota = tmp_path / "cpu.max"
    monkeypatch.setattr(cpu, "_QUOTA", quota)
    unlimited = cpu.usable_cores()
    quota.write_text("max 100000\n")
    assert cpu.usable_cores() == unlimited
    quota.write_text("100000 100000\n")
    assert cpu.usable_cores() == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("flags\t\t: fpu avx512f avx512_bf16 vaes\n", True),
        ("flags : fpu amx_bf16\n", True),
        ("Features\t: fp asimd bf16 i8mm\n", True),
        ("flags : fpu avx512f avx2\nmodel name : bf16 wonder\n", False),
    ],
)
def test_bf16_is_read_from_the_processor_flags(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, expected: bool
) -> None:
    (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr(cpu, "_CPUINFO", tmp_path / "cpuinfo")
    cpu.has_bf16.cache_clear()
    assert cpu.has_bf16() is expected
    monkeypatch.undo()
    cpu.has_bf16.cache_clear()


@pytest.mark.parametrize(
    ("features", "expected"),
    [
        ({"avx2"}, "avx2"),
        ({"avx2", "avx_vnni"}, "vnni"),
        ({"avx2", "avx512_vnni"}, "vnni"),
        ({"asimd"}, None),
        (None, None),
    ],
)
def test_int8_arithmetic_is_the_processor_s(
    monkeypatch: pytest.MonkeyPatch, features: set[str] | None, expected: str | None
) -> None:
    monkeypatch.setattr(cpu, "features", lambda: features)
    assert cpu.int8_arithmetic() == expected
