"""What commands say meanwhile: lines without a terminal, JSON for programs, nothing when quiet."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from facefind.cli import main, progress

FAST = ("--test-protocol", "320", "--threads", "1")


def test_a_line_at_times_says_how_far_it_is(
    album: Path, model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "_LINE_EVERY", 0.0)
    assert main(["detect", str(album), "--model", model, *FAST]) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if " a second" in line]
    assert len(lines) == 3
    assert lines[2].startswith("facefind detect: 3 of 3 pictures, ")
    assert "network " in lines[2]
    monkeypatch.undo()
    main(["detect", str(album), "--model", model, *FAST])
    assert " a second" not in capsys.readouterr().err


def test_json_is_for_programs_and_quiet_says_nothing_but_failures(
    broken: Path, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = [str(broken), "--model", model, *FAST]
    assert main(["detect", *args, "--progress", "json"]) == 1
    printed = capsys.readouterr()
    said = [json.loads(line) for line in printed.err.splitlines() if line.startswith("{")]
    now = said[-1]["progress"]
    assert (now["done"], now["total"], now["failed"], now["faces"]) == (5, 5, 1, 3)
    assert now["seconds_left"] == 0
    assert sum(now["stages"].values()) == pytest.approx(1, abs=0.01)
    for command, more in (("detect", []), ("align", ["--out", "c"]), ("redact", ["--out", "r"])):
        more = [str(tmp_path / one) if one in "cr" else one for one in more]
        assert main([command, *args, *more, "--quiet"]) == 1
        printed = capsys.readouterr()
        assert printed.out == ""
        failed, last = printed.err.splitlines()
        assert failed.startswith(f"facefind {command}: broken.jpg: ")
        assert "1 failed in" in last
