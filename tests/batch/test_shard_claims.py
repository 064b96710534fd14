"""Claims: one a generation, taken over where they are not renewed, results written once."""

from __future__ import annotations

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from simulated import units

from facefind.batch import Claims, Job
from facefind.batch.claims import MOST_GENERATIONS, Claim
from facefind.errors import DataError
from facefind.pipeline.stores import Folder, check_store, open_store


@pytest.fixture(params=["folder", "bucket"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "folder":
        return str(tmp_path / "job")
    return f"{request.getfixturevalue('bucket')}/jobs/one"


@pytest.fixture
def job(where: str) -> Job:
    job = Job.begin(where, {"a": 1}, {}, format="jsonl", per_shard=10, lease=0.4)
    job.plan(units(35))
    return job


def test_of_many_who_create_a_file_one_does(where: str) -> None:
    stores = [open_store(where) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        for key in ("a", "deep/b"):
            made = list(pool.map(lambda n: stores[n].create(key, b"%d" % n), range(8)))  # noqa: B023
            assert made.count(True) == 1
            assert stores[0].get(key) == b"%d" % made.index(True)
    store = stores[0]
    assert store.get("c") is None
    store.put("deep/b", b"2")
    assert store.get("deep/b") == b"2"
    assert sorted(store.names("deep")) == ["b"]
    assert list(store.names("none")) == []
    store.remove("deep/b")
    store.remove("deep/b")
    assert list(store.names("deep")) == []
    check_store(store)
    assert [name for name in store.names("") if name.startswith("probe")] == []


def test_stores_that_create_twice_are_refused(tmp_path: Path) -> None:
    class Careless(Folder):
        def create(self, key: str, content: bytes) -> bool:
            self.put(key, content)
            return True

    with pytest.raises(DataError, match="lets a file be created twice"):
        check_store(Careless(tmp_path))
    for where in ("https://h/a.tar", "sftp://h/job"):
        with pytest.raises(DataError, match="s3://"):
            open_store(where)
    with pytest.raises(DataError, match="not in memory"):
        Job.open("memory://job")
    assert isinstance(open_store("a/b"), Folder)


def test_all_shards_are_claimed_once(job: Job) -> None:
    claims = [iter(Claims(job)) for _ in range(3)]
    taken: list[int] = []
    for each in itertools.islice(itertools.cycle(claims), 4):
        claim = next(each)
        taken.append(claim.shard)
        assert claim.generation == 1
        assert claim.commit(b"%d" % claim.shard)
    assert sorted(taken) == [0, 1, 2, 3]
    assert [next(each, None) for each in claims] == [None] * 3
    assert job.done() == {0, 1, 2, 3}


def test_a_claim_that_is_not_renewed_is_taken_over_and_its_holder_writes_nothing(job: Job) -> None:
    first = Claims(job, poll=0.02).of(2)
    assert first is not None
    second = Claims(job, poll=0.02).of(2)  # waits for the lease
    assert second is not None
    assert (first.generation, second.generation) == (1, 2)
    assert not first.commit(b"late")
    assert first.lost
    assert second.commit(b"in time")
    assert not second.commit(b"again")
    assert job.store.get(job.result_key(2)) == b"in time"
    assert Claims(job).of(2) is None


def test_results_are_written_once_even_by_who_does_not_know_better(job: Job) -> None:
    claim = Claims(job).of(0)
    assert claim is not None
    assert claim.commit(b"first")
    blind = Claim(job, 0, MOST_GENERATIONS, "blind")
    assert not blind.commit(b"second")
    assert job.store.get(job.result_key(0)) == b"first"


def test_a_claim_that_is_renewed_is_not_taken_over(job: Job) -> None:
    job = Job(job.store, job.settings, {}, "jsonl", 10, lease=2)  # a busy machine renews late
    claim = Claims(job).of(1)
    assert claim is not None
    found: list[Claim | None] = []
    with claim:
        other = threading.Thread(target=lambda: found.append(Claims(job, poll=0.02).of(1)))
        other.start()
        other.join(1.5 * job.lease)
        assert other.is_alive()
        assert claim.commit(b"x")
    other.join()
    assert found == [None]


def test_a_claim_is_free_at_once_where_its_work_has_failed(job: Job) -> None:
    slow = Job(job.store, job.settings, {}, "jsonl", 10, lease=600)
    claim = Claims(slow).of(1)
    assert claim is not None
    with pytest.raises(RuntimeError), claim:
        raise RuntimeError
    again = Claims(slow, poll=0.02).of(1)
    assert again is not None
    assert again.generation == 2


def test_a_shard_that_ends_its_workers_is_given_up(job: Job) -> None:
    for _ in range(MOST_GENERATIONS):
        claim = Claims(job, poll=0.02).of(3)
        assert claim is not None
        claim.release()
    assert Claims(job, poll=0.02).of(3) is None
    taken = []
    for claim in Claims(job, poll=0.02):
        taken.append(claim.shard)
        claim.commit(b"")
    assert sorted(taken) == [0, 1, 2]
