"""`facefind batch`: begun, joined, resumed, and the same faces as the library."""

from __future__ import annotations

import csv
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tyro
from PIL import Image

from facefind import FaceDetector
from facefind.batch import Claims, Done, Job, failures, read_shard, write_failures
from facefind.cli import batch, main
from facefind.errors import DataError
from facefind.pipeline import Meter
from facefind.redaction import CAREFUL, RedactOptions

COVER = ("--with", "image", "--picture")
FAST = ("--test-protocol", "320")


def test_a_job_is_begun_and_joined(
    broken: Path, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job, failed = str(tmp_path / "job"), tmp_path / "failed.csv"
    args = ["batch", "run", job, str(broken), "--model", model, "--per-shard", "2"]
    args += ["--workers", "2", "--lease", "4", *FAST]
    assert main([*args, "--progress", "json"]) == 1
    said = capsys.readouterr().err.splitlines()
    last = json.loads(said[-2])["progress"]
    assert (last["done"], last["failed"], last["faces"]) == (5, 1, 3)
    assert set(last["stages"]) == {"reading", "network", "writing"}
    assert said[-1].startswith("5 pictures, 3 faces, 3 shards done, 1 failed in ")
    one = Job.open(job)
    records = {r["image"]: r for shard in one.done() for r in read_shard(one, shard)}
    assert list(records) == ["a.jpg", "blank.gif", "broken.jpg", "deep/b.png", "z.jpg"]
    faces = FaceDetector(model, threads=1, protocol="320").detect(broken / "a.jpg")
    np.testing.assert_allclose(records["a.jpg"]["boxes"], faces.boxes, atol=1e-3)
    assert "damaged or truncated" in records["broken.jpg"]["error"]
    assert main(["batch", "status", job, "--failures", str(failed)]) == 1
    printed = capsys.readouterr().out
    assert "3 of 3 shards done" in printed
    assert "broken.jpg: " in printed
    (row,) = csv.DictReader(failed.read_text().splitlines())
    assert (row["image"], row["shard"]) == ("broken.jpg", "1")
    assert "damaged or truncated" in row["error"]
    assert main(["batch", "status", job, "--failures", str(failed)]) == 2
    assert "is there already" in capsys.readouterr().err
    pandas = pytest.importorskip("pandas")
    write_failures(failures(one), tmp_path / "failed.parquet")
    (cells,) = pandas.read_parquet(tmp_path / "failed.parquet").to_dict("records")
    assert {**row, "shard": 1} == cells
    assert len(pandas.read_parquet(Path(job) / "results")) == 5
    for path in (Path(job) / "results").glob("*1.parquet"):
        path.unlink()  # as after a kill: its shard is not done
    claim = Path(job) / "claims" / "00000001.1"
    claim.write_text(json.dumps(json.loads(claim.read_text()) | {"released": True}))
    assert main(["batch", "run", job, "--workers", "1", "--quiet"]) == 1
    assert capsys.readouterr().err.startswith("2 pictures, 1 faces, 3 shards done")
    assert main(["batch", "status", job, "--json"]) == 1
    now = json.loads(capsys.readouterr().out)
    assert (now["done"], now["shards"], now["failed"], now["claimed"]) == (3, 3, 1, {})


def test_a_job_lies_in_a_bucket(album: Path, model: str, bucket: str) -> None:
    import fsspec

    fsspec.core.url_to_fs(bucket)[0].put(str(album), f"{bucket}/album", recursive=True)
    job = f"{bucket}/jobs/one"
    args = ["batch", "run", job, f"{bucket}/album", "--model", model, "--workers", "1", *FAST]
    assert main(args) == 0
    one = Job.open(job)
    assert one.detector == {"model": model, "protocol": "320", "precision": "fp32"}
    found = [(r["image"], len(r["scores"])) for r in read_shard(one, 0)]
    assert found == [("a.jpg", 1), ("blank.gif", 0), ("deep/b.png", 1)]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["run", "job"], "there is no job in"),
        (["status", "job"], "there is no job in"),
        (["go", "job"], "no action 'go'"),
        (["run", "memory://job", "{album}"], "a job lies where other processes see it"),
        (["run", "{album}", "{album}"], "is or holds"),
        (["run", "{other}", "{album}"], "holds files that are no job"),
        (["run", "job", "-"], "no picture on stdin"),
        (["run", "job", "{album}", "--provider", "cuda"], "cuda"),
        (["run", "job", "{album}", "--workers", "0"], "--workers 0"),
        (["run", "job", "{album}", "--memory-limit", "9", "--runtime", "openvino"], "memory_limit"),
        (["run", "job", "{album}", "--address", "x"], "--engine ray"),
        (["run", "job", "{album}", "--size", "64"], "--size is of --do align: name both"),
        (["run", "job", "{album}", "--do", "align", "--with=fill"], "--with is of --do redact"),
        (
            ["run", "job", "{album}", "--do", "redact", *COVER, "none.png"],
            "none.png does not",
        ),
    ],
)
def test_mistakes_are_one_line(
    args: list[str],
    said: str,
    album: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").touch()
    places = {"{album}": str(album), "{other}": str(tmp_path / "other")}
    assert main(["batch", *(places.get(arg, arg) for arg in args)]) == 2
    printed = capsys.readouterr()
    assert said in printed.err
    assert printed.err.count("\n") == 1


def test_another_model_or_setting_is_another_job(
    album: Path, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = str(tmp_path / "job")
    args = ["batch", "run", job, str(album), "--model", model, "--workers", "1", *FAST]
    assert main(args) == 0
    assert main([*args, "--min-score", "0.3"]) == 2
    assert "is done with min_score" in capsys.readouterr().err
    assert main(["batch", "run", job, str(album / "deep"), *args[4:]]) == 2
    assert "is done with sources" in capsys.readouterr().err
    assert main(["batch", "--help"]) == 0
    assert "status" in capsys.readouterr().out


def test_a_job_has_one_precision_on_all_machines(
    album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = str(tmp_path / "job")
    args = ["batch", "run", job, str(album), "--model", "scrfd-500m-kps", "--workers", "1", *FAST]
    monkeypatch.setenv("FACEFIND_PRECISION", "int8")
    assert main(args) == 0
    assert Job.open(job).detector["precision"] == "int8"
    monkeypatch.setenv("FACEFIND_PRECISION", "fp32")
    assert main(args) == 0
    assert main([*args, "--precision", "fp32"]) == 2


OWN = {
    "align": ["--size", "64", "--faces", "largest", "--format", "webp", "--quality", "80"],
    "redact": ["--with", "fill", "--no-strip-metadata", "--shape", "box", "--color", *"00", "200"],
}


@pytest.mark.parametrize("do", ["align", "redact"])
def test_crops_and_copies_lie_in_a_tar_file_for_each_shard(
    do: str, broken: Path, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job, exif = tmp_path / "job", Image.Exif()
    exif[0x010E] = "a portrait"
    with Image.open(broken / "a.jpg") as picture:
        picture.save(broken / "a.jpg", quality=95, exif=exif)
    args = ["batch", "run", str(job), str(broken), "--model", model, "--per-shard", "2"]
    args += ["--do", do, *OWN[do], "--workers", "1", *FAST]
    assert main(args) == 1
    one = Job.open(str(job))
    assert Claims(one).of(1) is None
    records = {r["image"]: r for shard in one.done() for r in read_shard(one, shard)}
    assert len(records) == 5
    assert "damaged or truncated" in records.pop("broken.jpg")["error"]
    tars: dict[str, set[str]] = {}
    for path in (job / "tars").iterdir():
        with tarfile.open(path) as tar:
            tars[path.name] = set(tar.getnames())
    assert {record["tar"] for record in records.values()} == {f"tars/{name}" for name in tars}
    for record in records.values():
        files = [crop["file"] for crop in record["crops"]] if do == "align" else [record["file"]]
        assert set(files) <= tars[record["tar"].removeprefix("tars/")]
    with tarfile.open(job / records["a.jpg"]["tar"]) as tar:
        name = "a.webp" if do == "align" else "a.jpg"
        made = Image.open(io.BytesIO(tar.extractfile(name).read()))  # type: ignore[union-attr]
    if do == "align":
        assert (made.format, made.size) == ("WEBP", (64, 64))
    else:
        assert made.getexif()[0x010E] == "a portrait"
        x1, y1, x2, y2 = map(round, records["a.jpg"]["boxes"][0])
        face = np.asarray(made)[y1:y2, x1:x2].astype(int)
        assert np.abs(face - (0, 0, 200)).max() < 40
    (job / "results" / "00000001.jsonl").unlink()  # as after a kill: its tar file is there already
    kept = json.loads((job / "claims" / "00000001.1").read_text()) | {"released": True}
    (job / "claims" / "00000001.1").write_text(json.dumps(kept))
    assert main(["batch", "run", str(job), "--workers", "1", "--quiet"]) == 1
    assert {record["tar"] for record in read_shard(one, 1) if "tar" in record} == {
        "tars/00000001.2.tar"
    }
    assert not (job / "tars" / "00000001.1.tar").exists()
    capsys.readouterr()
    for other in ([], ["--do", do, *OWN[do][:2]]):
        assert main([*args[:8], *other, "--workers", "1", *FAST]) == 2
        assert "does {'do'" in capsys.readouterr().err


def test_what_a_dead_worker_counted_is_counted_once() -> None:
    meter = Meter(20)
    watch = batch._Watch(meter, lambda: None)
    said = [(1, 0), (1, 7), (2, 0), (2, 5), (2, 10)]  # the first worker died after 7 of 10 pictures
    for generation, pictures in said:
        watch(Done(3, generation, pictures, whole=pictures == 10, stages={"reading": pictures / 2}))
    watch(Done(4, 1, 10, whole=True))
    assert (meter.done, meter.total, meter.stages["reading"]) == (20, 20, 8.5)


def test_options_of_copies_are_those_of_the_command(tmp_path: Path) -> None:
    def begun(*args: str) -> Any:
        return tyro.cli(batch._kind(args), args=["job", "photos", *args])

    careful = begun("--do", "redact", "--careful", "--min-score", "0.4")
    assert careful.options() == {"protocol": CAREFUL.protocol, "min_score": 0.4}
    picture = tmp_path / "sun.png"
    Image.new("RGB", (8, 8), (250, 200, 0)).save(picture)
    covered = begun("--do=redact", "--with", "image", "--picture", str(picture))
    work = json.loads(json.dumps(covered.work()))
    assert work.pop("do") == "redact"
    assert RedactOptions.from_dict(work) == RedactOptions(method="image", picture=picture)
    picture.write_bytes(b"another")
    with pytest.raises(DataError, match="is not the picture that was named"):
        RedactOptions.from_dict(work)
