"""Files are whole, claims are exclusive and die with their holder."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from facefind.errors import DataError
from facefind.search.store import Store

HOLD = """
import sys, time
from pathlib import Path
from facefind.search.store import Store
with Store(Path(sys.argv[1])).claim("a") as got:
    print(got, flush=True)
    time.sleep(600)
"""


def test_results_are_kept_and_nothing_else_is_left(tmp_path: Path) -> None:
    store = Store(tmp_path / "study")
    assert store.result("a") is None
    store.finish("a", {"ap": 0.5})
    assert Store(tmp_path / "study").result("a") == {"ap": 0.5}
    assert [path.name for path in store.trials.iterdir()] == ["a.json"]
    (store.trials / "b.json").write_text("{")
    with pytest.raises(DataError, match="not JSON"):
        store.result("b")


def test_one_holder_at_a_time(tmp_path: Path) -> None:
    first, second = Store(tmp_path), Store(tmp_path)
    with first.claim("a") as got:
        assert got
        with second.claim("a") as also, second.claim("b") as other:
            assert not also
            assert other
    with second.claim("a") as got:
        assert got


def test_a_killed_holder_leaves_no_claim(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "True\n"
        with Store(tmp_path).claim("a") as got:
            assert not got
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    with Store(tmp_path).claim("a") as got:
        assert got
