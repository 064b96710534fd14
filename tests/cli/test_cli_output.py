"""Tables that fit, and files that are whole or absent."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facefind.cli import output

CELL = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=30)


@given(
    st.integers(1, 5).flatmap(
        lambda n: st.lists(st.lists(CELL, min_size=n, max_size=n), min_size=1, max_size=6)
    )
)
def test_columns_stand_under_each_other(rows: list[list[str]]) -> None:
    wide = output.widths(rows, limit=10_000)
    for cells in rows:
        line = output.line(cells, wide)
        start = 0
        for cell, width in zip(cells, wide, strict=True):
            assert line[start : start + width].rstrip() == cell
            start += width + 2


def test_narrow_terminal_cuts_the_first_column_and_keeps_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    text = output.table(("image", "faces"), [("a/long/path/to/the/picture/number_17.jpg", "3")])
    assert all(len(line) <= 40 for line in text.splitlines())
    assert "number_17.jpg" in text
    assert "…" in text


def test_table_that_can_not_fit_becomes_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    header = ("model", "multiply-adds", "license")
    text = output.table(header, [("small", "0.51 G", "Apache-2.0"), ("large", "2.5 G", "")])
    assert text.splitlines() == [
        "model          small",
        "multiply-adds  0.51 G",
        "license        Apache-2.0",
        "",
        "model          large",
        "multiply-adds  2.5 G",
    ]


def test_names_neither_tear_a_line_nor_reach_the_terminal_as_commands(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert output.printable("é two\nlines\x1b[2J\udcff") == "é two\\nlines\\x1b[2J\\udcff"
    monkeypatch.setenv("COLUMNS", "80")
    rows = [("a\nb.jpg", "1"), ("c.jpg", "22")]
    assert output.table(("image", "faces"), rows).split("\n")[1:] == [
        "a\\nb.jpg  1",
        "c.jpg     22",
    ]


def test_numbers_end_flush(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = output.table(("name", "n"), [("a", "5"), ("b", "1234")], right=(1,))
    assert text.splitlines() == ["name     n", "a        5", "b     1234"]


def test_emit_prints_one_and_writes_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = {"a": [1, 2]}
    output.emit(result, "the table", as_json=False, out=tmp_path / "deep" / "r.json")
    assert capsys.readouterr().out == "the table\n"
    assert json.loads((tmp_path / "deep" / "r.json").read_text()) == result
    output.emit(result, "the table", as_json=True, out=None)
    assert json.loads(capsys.readouterr().out) == result


def test_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "r.json"
    output.emit("old", "", as_json=False, out=target)

    def fail(self: Path, target: Path) -> Path:
        raise OSError("no space")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="no space"):
        output.emit("new", "", as_json=False, out=target)
    assert json.loads(target.read_text()) == "old"
    assert list(tmp_path.iterdir()) == [target]
