"""Jobs: planned once, done once, by workers that may be killed; a line for each picture."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import simulated
from simulated import BAD, detect, units

from facefind.batch import Claims, Done, Job, Worker, failures, read_shard, run_local, status
from facefind.batch.claims import MOST_GENERATIONS
from facefind.errors import DataError, FacefindError, WeightsError
from facefind.faces import Faces
from facefind.pipeline.units import Unit


def begin(where: Path | str, count: int = 95, **more: Any) -> Job:
    options = {"format": "jsonl", "per_shard": 10, "lease": 5.0} | more
    job = Job.begin(where, {"weights_sha256": "12"}, {}, **options)
    job.plan(units(count))
    return job


def lines(job: Job) -> Counter[str]:
    """How often each picture is in the results."""
    return Counter(one["image"] for shard in job.done() for one in read_shard(job, shard))


def expected(count: int) -> Counter[str]:
    return Counter(unit.name for unit in units(count))


def test_a_job_is_planned_once_and_shared(tmp_path: Path) -> None:
    job = begin(tmp_path)
    assert job.manifest() | {"plan": ""} == {
        **{"plan": "", "shards": 10},
        **{"units": 95, "containers": 0},
    }
    job.plan(units(7))
    assert job.manifest()["units"] == 95
    assert job.units(9)[-1] == Unit("00000094.jpg", "/nowhere/00000094.jpg")
    again = Job.begin(tmp_path, {"weights_sha256": "12"}, {"model": "other"}, per_shard=3)
    assert again.per_shard == 10
    with pytest.raises(DataError, match='done with weights_sha256 "12", not "13"'):
        Job.begin(tmp_path, {"weights_sha256": "13"}, {})
    with pytest.raises(DataError, match="no job"):
        Job.open(tmp_path / "none")
    fresh = Job.begin(tmp_path / "b", {}, {})
    with pytest.raises(DataError, match="no pictures yet"):
        fresh.manifest()
    with pytest.raises(DataError, match="stdin"):
        fresh.plan([Unit("-", "-")])


def test_two_who_plan_at_once_have_one_plan(tmp_path: Path) -> None:
    job = Job.begin(tmp_path, {}, {}, per_shard=1)
    gate = threading.Barrier(2)

    def slow(count: int) -> Any:
        yield from units(count)
        gate.wait()

    others = [threading.Thread(target=lambda n=n: job.plan(slow(n))) for n in (3, 5)]
    for other in others:
        other.start()
    for other in others:
        other.join()
    manifest = job.manifest()
    plans = [path.name for path in (tmp_path / "plans").iterdir() if any(path.iterdir())]
    assert plans == [manifest["plan"]]
    assert manifest["shards"] in (3, 5)


def test_a_container_is_a_shard_of_its_own(tmp_path: Path) -> None:
    job = Job.begin(tmp_path, {}, {}, per_shard=2)
    names = ["a.jpg", "s3://b/x.tar", "b.jpg", "c.jpg", "e.parquet", "d.jpg"]
    job.plan(Unit(name, name) for name in names)
    shards = [[unit.name for unit in job.units(n)] for n in range(job.manifest()["shards"])]
    assert shards == [["s3://b/x.tar"], ["a.jpg", "b.jpg"], ["e.parquet"], ["c.jpg", "d.jpg"]]
    assert job.units(0)[0].place == "s3://b/x.tar"
    assert Path(job.units(1)[0].place).is_absolute()


@pytest.mark.parametrize("format", ["parquet", "csv", "jsonl"])
def test_what_failed_has_its_row_and_reason(tmp_path: Path, format: str) -> None:
    (tmp_path / "a.tar").write_bytes(b"no tar" * 200)
    job = Job.begin(tmp_path / "job", {}, {}, format=format)
    job.plan([Unit(BAD, BAD), Unit("1.jpg", "1.jpg"), Unit("a.tar", str(tmp_path / "a.tar"))])
    for done in Worker(job, detect).run():
        assert done.kept
    assert lines(job) == Counter([BAD, "1.jpg", "a.tar"])
    reasons = {one["image"]: one["error"] for one in failures(job)}
    assert sorted(reasons) == [BAD, "a.tar"]
    assert reasons[BAD] == f"{BAD} is no picture"
    assert "no tar file" in reasons["a.tar"]
    assert status(job).is_done


def test_each_picture_has_a_line(tmp_path: Path) -> None:
    job = begin(tmp_path / "job", 95)
    said: list[Done] = []
    whole = list(Worker(job, detect, watch=said.append).run())
    assert lines(job) == expected(95)
    assert sum(done.pictures for done in whole) == sum(done.faces for done in whole) == 95
    assert [done.whole for done in said] == [False, True] * 10
    assert Faces.from_dict(next(read_shard(job, 0))) == simulated.FACE


def test_a_killed_worker_costs_no_line_and_makes_none_twice(tmp_path: Path) -> None:
    job = begin(tmp_path / "job")
    (tmp_path / "marks").mkdir()
    (tmp_path / "marks" / "1").touch()
    said: list[Done] = []
    kill = {"kill_at": "00000042.jpg", "marks": str(tmp_path / "marks")}
    run_local(job, 2, said.append, make=simulated.worker, **kill)
    assert lines(job) == expected(95)
    assert sum(done.kept for done in said) == 10
    assert max(done.generation for done in said) == 2
    assert not list((tmp_path / "marks").iterdir())


def test_a_picture_that_ends_all_workers_is_not_tried_for_ever(tmp_path: Path) -> None:
    job = begin(tmp_path / "job", lease=0.4)
    for _ in range(MOST_GENERATIONS - 1):
        claim = Claims(job, poll=0.01).of(4)
        assert claim is not None
        claim.release()
    run_local(job, 1, make=simulated.worker, kill_at="00000042.jpg")
    assert lines(job) == expected(95) - Counter(u.name for u in list(units(95))[40:50])
    now = status(job)
    assert (now.done, now.shards, now.given_up) == (9, 10, [4])
    assert not now.is_done


def test_workers_that_die_again_and_again_end_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("facefind.batch.local._RESTARTS", 0)
    job = begin(tmp_path / "job")
    with pytest.raises(FacefindError, match="died again and again, the last with exit code -9"):
        run_local(job, 1, make=simulated.worker, kill_at="00000042.jpg")
    lost = Job(job.store, {}, {"model": "none.onnx"})
    with pytest.raises(WeightsError, match=r"no model file none\.onnx"):
        run_local(lost, 1)


def test_status_says_who_works_on_what(tmp_path: Path) -> None:
    assert status(Job.begin(tmp_path, {}, {})).shards == 0
    job = begin(tmp_path / "b")
    worker = Worker(job, detect).run()
    next(worker)
    now = status(job)
    assert (now.done, now.shards, now.units, now.claimed) == (1, 10, 95, {})
    assert job.pictures_left() == 95 - len(job.units(job.done().pop()))
    claim = next(iter(Claims(job)))
    assert status(job).claimed == {claim.shard: claim.owner}
