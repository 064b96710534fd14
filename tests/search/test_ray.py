"""Trials on a Ray cluster: a local one of two workers."""

from __future__ import annotations

import importlib.util
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from facefind.errors import RuntimeUnavailableError
from facefind.search.settings import Settings
from facefind.search.study import Study
from facefind.search.workers import RayRunner

# In a process of its own: Ray leaves threads, sockets and warnings behind it.
RUN = """
import pickle, sys
from facefind.search.study import Study
from facefind.search.workers import RayRunner
study = Study(sys.argv[1], pickle.loads(bytes.fromhex(sys.argv[2])))
runner = RayRunner(None, num_cpus=2, include_dashboard=False)
assert runner.slots() == 2
study.run(runner)
runner.close()
"""
needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="Ray is not installed (the extra `ray`)"
)


@needs_ray
@pytest.mark.slow
def test_a_local_cluster_of_two_does_what_one_process_does(
    settings: Settings, tmp_path: Path
) -> None:
    there, here = tmp_path / "ray", tmp_path / "here"
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(there), pickle.dumps(settings).hex()],
        env={**os.environ, "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    clustered, alone = Study(there, settings), Study(here, settings)
    alone.run()
    for step in (1, 2):
        mine, theirs = clustered.entries(step), alone.entries(step)
        assert [(e.network, e.scores) for e in mine] == [(e.network, e.scores) for e in theirs]


def test_without_ray_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(RuntimeUnavailableError, match=r"facefind\[ray\]"):
        RayRunner()
