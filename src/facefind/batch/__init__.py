"""Jobs of any size: pictures in shards, done once each by workers of one machine or of a cluster.

>>> from facefind import FaceDetector, batch, pipeline
>>> detector = FaceDetector(threads=1)
>>> job = batch.Job.begin("job", pipeline.detector_settings(detector), {"model": "default"})
>>> job.plan(pipeline.list_units(["photos"]))
>>> batch.run_local(job, workers=2)
>>> batch.status(job).is_done
"""

from facefind.batch.claims import Claim, Claims
from facefind.batch.job import Job
from facefind.batch.local import run_local
from facefind.batch.status import Status, failures, read_shard, status, write_failures
from facefind.batch.worker import Done, Worker

__all__ = [
    "Claim",
    "Claims",
    "Done",
    "Job",
    "Status",
    "Worker",
    "failures",
    "read_shard",
    "run_local",
    "status",
    "write_failures",
]
