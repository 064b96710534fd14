"""Ray does a job with actors, of which some are killed in the middle."""

from __future__ import annotations

from pathlib import Path

import pytest
import simulated
from test_jobs import begin, expected, lines

from facefind.batch import Done, status
from facefind.batch.cluster import run_ray

pytestmark = pytest.mark.filterwarnings("ignore")


def test_actors_that_are_killed_cost_no_line_and_make_none_twice(tmp_path: Path) -> None:
    ray = pytest.importorskip("ray", reason="Ray is an extra of its own")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        job = begin(tmp_path / "job", lease=2.0)
        (tmp_path / "marks").mkdir()
        for name in ("1", "2"):
            (tmp_path / "marks" / name).touch()
        said: list[Done] = []
        kill = {"kill_at": "00000042.jpg", "marks": str(tmp_path / "marks")}
        run_ray(job, 2, said.append, make=simulated.worker, **kill)
    finally:
        ray.shutdown()
    assert not list((tmp_path / "marks").iterdir())
    assert lines(job) == expected(95)
    assert status(job).is_done
    assert max(done.generation for done in said) == 3
    assert sum(done.pictures for done in said) == 95
