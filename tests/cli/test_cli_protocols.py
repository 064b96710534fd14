"""`facefind evaluate protocols`: accuracy, time and memory of one model, protocol by protocol."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from facefind.cli import main


@pytest.fixture
def labeled(tmp_path: Path, portrait: np.ndarray) -> Path:
    """The portrait with its one face, and a blank picture, in WIDER FACE's layout."""
    folder = tmp_path / "set"
    event = folder / "images" / "0--Parade"
    event.mkdir(parents=True)
    Image.fromarray(portrait).save(event / "a.png", compress_level=1)
    Image.fromarray(np.full((200, 300, 3), 90, np.uint8)).save(event / "b.png")
    (folder / "two_bbx_gt.txt").write_text(
        "0--Parade/a.png\n1\n177 60 95 130 0 0 0 0 0 0\n0--Parade/b.png\n0\n0 0 0 0 0 0 0 0 0 0\n"
    )
    return folder


def command(labeled: Path, model: str, *more: str) -> list[str]:
    args = ["evaluate", "protocols", "--model", model, "--images", str(labeled / "images")]
    return [*args, "--data", str(labeled), "--threads", "1", *more]


def test_protocols_stand_side_by_side_and_a_run_goes_on(
    labeled: Path, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, keep = tmp_path / "r.json", tmp_path / "keep"
    args = command(labeled, model, "--keep", str(keep), "--out", str(out))
    args += ["--test-protocols", "320", "smallhardface:64,320:no-flip"]
    assert main(args) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split()[0] == "protocol"
    assert header.split()[-5:] == ["ms", "passes", "Mpixels", "peak", "MiB"]
    assert [row.split()[0] for row in rows[:2]] == ["320", "smallhardface:64,320:no-flip"]
    report = json.loads(out.read_text())
    one, two = report["rows"]
    assert one["ap"]["height>=34"] == 1
    assert one["test_protocol"]["sizes"] == [320]
    assert two["test_protocol"]["voting"] == 0.4
    assert (one["passes"], two["passes"]) == (1, 2)
    # 512x512 and 300x200, at a long side of 320: 320x320 and 320x213
    assert one["megapixels"] == pytest.approx((320 * 320 + 320 * 213) / 2e6, abs=1e-6)
    shown = (64 * 64 + 320 * 320 + 96 * 64 + 480 * 320) / 2e6
    assert two["megapixels"] == pytest.approx(shown, abs=1e-6)
    for row in report["rows"]:
        assert row["milliseconds"] > 0
        assert row["images_timed"] == 2
        assert row["threads"] == 1
        assert row["peak_mib"] is None or 30 < row["peak_mib"] < 10_000
    assert report["digest"]
    assert report["command"].startswith("facefind evaluate protocols ")

    kept = keep / "smallhardface-64,320-no-flip.jsonl"
    lines = kept.read_text().splitlines(keepends=True)
    kept.write_text(lines[0] + lines[1][:20])  # as a kill leaves it
    assert main([*args, "--markdown"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("| protocol | height>=34 |")
    assert kept.read_text().splitlines(keepends=True)[0] == lines[0]
    again = json.loads(out.read_text())["rows"]
    assert again[0] == one
    assert again[1]["ap"] == two["ap"]
    # What was kept is what the other protocols take, too.
    args = ["evaluate", "wider", "--detections", str(kept), "--data", str(labeled), "--json"]
    assert main(args) == 0
    whole: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert whole["ap"] == two["ap"]


def test_a_protocol_that_a_model_cannot_take_is_left_out_and_said(
    labeled: Path, shared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(shared / "weights" / "scrfd_500m_kps_640.onnx")  # takes one size alone
    assert main(command(labeled, model, "--test-protocols", "640", "original", "--json")) == 1
    printed = capsys.readouterr()
    assert "original is left out: protocol 'original' has a pass at full size" in printed.err
    assert [row["name"] for row in json.loads(printed.out)["rows"]] == ["640"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--test-protocols", "vgaa"], "did you mean 'vga'"),
        (["--test-protocols", "vga:huge"], "'huge' is no change"),
        (["--test-protocols"], "name at least one"),
        (["--test-protocols", "vga", "--min-score", "2"], "--min-score 2.0"),
        (["--test-protocols", "vga", "--images", "nowhere"], "nowhere"),
    ],
)
def test_mistakes_are_one_line_before_any_work(
    more: list[str],
    message: str,
    labeled: Path,
    model: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(command(labeled, model, *more)) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.err.count("\n") == 1
    assert printed.out == ""
