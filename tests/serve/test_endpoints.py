"""What each address answers, against what the library itself makes of the same bytes."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import requests
from PIL import Image
from reference.services import body, encoded

import facefind
from facefind import FaceDetector, pipeline, weights
from facefind.cli import main
from facefind.images import read
from facefind.redaction import CAREFUL
from facefind.serve.service import SCHEMA


@pytest.fixture(scope="module")
def detector() -> FaceDetector:
    return FaceDetector()


@pytest.fixture(scope="module")
def faces(detector: FaceDetector, jpeg: bytes) -> facefind.Faces:
    found = detector.detect(jpeg)
    assert len(found) == 1
    return found


def test_a_picture_as_the_body_gets_the_line_of_the_command_line(
    address: str, jpeg: bytes, tmp_path: Path, capsys
):
    (tmp_path / "image").write_bytes(jpeg)
    out = tmp_path / "faces.jsonl"
    assert main(["detect", str(tmp_path / "image"), "--out", str(out)]) == 0
    line = json.loads(out.read_text())
    answer = requests.post(f"{address}/v1/detect", **body(jpeg))
    assert answer.status_code == 200
    assert answer.json() == {
        "version": SCHEMA,
        "model": weights.default(),
        "protocol": "everyday",
        "images": [line | {"image": "image"}],
    }
    assert list(answer.json()["images"][0]) == list(line)


def test_pictures_of_a_form_are_answered_in_order_failures_in_their_place(
    address: str, jpeg: bytes, portrait: np.ndarray, detector: FaceDetector
):
    lying = encoded(portrait[::-1].copy(), "PNG")
    files = [("a.jpg", jpeg), ("b\u00e9.png", lying), ("c.txt", b"text"), ("a.jpg", jpeg)]
    answer = requests.post(f"{address}/v1/detect", files=[("file", file) for file in files])
    assert answer.status_code == 200
    images = answer.json()["images"]
    assert [image["image"] for image in images] == ["a.jpg", "b\u00e9.png", "c.txt", "a.jpg"]
    for (name, data), image in zip(files, images, strict=True):
        if name == "c.txt":
            assert set(image) == {"image", "error", "kind"}
            assert image["kind"] == "ImageError"
            assert "no picture of a known format" in image["error"]
        else:
            assert image == pipeline.to_record(name, detector.detect(data))


def test_options_are_those_of_the_detector(address: str, jpeg: bytes):
    options = {"model": "scrfd-500m-kps", "protocol": "vga", "score": 0.02, "max_faces": 3}
    detector = FaceDetector("scrfd-500m-kps", protocol="vga", min_score=0.02, max_faces=3)
    answer = requests.post(f"{address}/v1/detect", params=options, **body(jpeg)).json()
    assert answer["model"] == "scrfd-500m-kps"
    assert answer["protocol"] == "vga"
    assert answer["images"] == [pipeline.to_record("image", detector.detect(jpeg))]
    assert len(answer["images"][0]["boxes"]) > 1
    alone = FaceDetector("scrfd-500m-kps", protocol="vga")
    del options["score"], options["max_faces"]
    answer = requests.post(f"{address}/v1/detect", params=options, **body(jpeg)).json()
    assert answer["images"] == [pipeline.to_record("image", alone.detect(jpeg))]


def test_meshes_come_where_they_are_requested(address: str, jpeg: bytes):
    detector = FaceDetector("retinaface-mobile", mesh=True, min_score=0.3)
    options = {"model": "retinaface-mobile", "mesh": "true", "score": 0.3}
    answer = requests.post(f"{address}/v1/detect", params=options, **body(jpeg)).json()
    expected = detector.detect(jpeg)
    assert len(expected) >= 1
    assert answer["images"] == [pipeline.to_record("image", expected)]
    assert len(answer["images"][0]["mesh"]) == len(expected)


@pytest.mark.parametrize(("media", "form"), [("image/png", "PNG"), ("image/webp", "WEBP")])
def test_accept_gets_the_picture_with_its_faces_drawn(
    address: str, jpeg: bytes, faces: facefind.Faces, media: str, form: str
):
    answer = requests.post(f"{address}/v1/detect", **body(jpeg, Accept=media))
    assert answer.headers["Content-Type"] == media
    assert answer.headers["X-Faces"] == "1"
    with Image.open(io.BytesIO(answer.content)) as picture:
        assert picture.format == form
        drawn = np.array(picture)
    expected = faces.draw(jpeg)
    if form == "PNG":
        assert np.array_equal(drawn, expected)
    assert np.abs(drawn.astype(int) - expected).mean() < 3
    assert np.abs(drawn.astype(int) - read(jpeg)).max() > 100


def test_a_redacted_picture_is_what_the_command_writes(
    address: str, portrait: np.ndarray, tmp_path: Path, capsys
):
    exif = Image.Exif()
    exif[0x010F] = "camera of somebody"
    (tmp_path / "in").mkdir()
    for name, form in (("a.jpg", "JPEG"), ("b.png", "PNG")):
        data = encoded(portrait, form, exif=exif)
        (tmp_path / "in" / name).write_bytes(data)
        out = tmp_path / form
        words = ["redact", str(tmp_path / "in" / name), "--out", str(out), "--with", "fill"]
        assert main([*words, "--color", "200", "30", "30", "--shape", "box", "--grow", "1.5"]) == 0
        options = {"with": "fill", "color": "200,30,30", "shape": "box", "grow": 1.5}
        answer = requests.post(f"{address}/v1/redact", params=options, **body(data))
        (made,) = (path for path in out.rglob(name) if path.suffix in (".jpg", ".png"))
        assert answer.content == made.read_bytes()
        assert answer.headers["Content-Type"] == {"JPEG": "image/jpeg", "PNG": "image/png"}[form]
        assert b"camera of" not in answer.content
        assert answer.headers["X-Faces"] == "1"
        assert float(answer.headers["X-Lowest-Score"]) > 0.5


def test_a_redacted_picture_comes_in_the_format_that_is_accepted(address: str, jpeg: bytes):
    for accept, expected in (("image/webp", "WEBP"), ("image/*", "JPEG"), ("*/*", "JPEG")):
        answer = requests.post(f"{address}/v1/redact", **body(jpeg, Accept=accept))
        with Image.open(io.BytesIO(answer.content)) as picture:
            assert picture.format == expected
    gif = encoded(read(jpeg), "GIF")
    assert requests.post(f"{address}/v1/redact", **body(gif)).headers["Content-Type"] == "image/png"


def test_no_frame_of_an_animation_leaves_as_it_came(address: str, portrait: np.ndarray):
    frames = [Image.fromarray(portrait), Image.fromarray(portrait[:, ::-1].copy())]
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    answer = requests.post(f"{address}/v1/redact", **body(file.getvalue()))
    assert answer.status_code == 422
    assert "several frames" in answer.json()["error"]["message"]


def test_careful_redaction_is_that_of_the_command(address: str, jpeg: bytes):
    answer = requests.post(f"{address}/v1/redact", params={"careful": "true"}, **body(jpeg))
    careful = FaceDetector(protocol=CAREFUL.protocol, min_score=CAREFUL.min_score)
    assert answer.headers["X-Faces"] == str(len(careful.detect(jpeg)))


def test_aligned_crops_are_those_of_the_library(address: str, jpeg: bytes, faces: facefind.Faces):
    answer = requests.post(f"{address}/v1/align", params={"size": 96}, **body(jpeg)).json()
    (line,) = answer["images"]
    assert (line["width"], line["height"]) == (256, 256)
    (crop,) = line["crops"]
    with Image.open(io.BytesIO(base64.b64decode(crop["data"]))) as picture:
        assert np.array_equal(np.array(picture), faces.align(jpeg, 96)[0])
    assert crop["media"] == "image/png"
    assert np.allclose(crop["box"], faces.boxes[0], atol=1e-3)
    points = np.c_[crop["landmarks"], np.ones(5)] @ np.array(crop["transform"]).T
    assert np.abs(points - facefind.landmarks.template(96)).max() < 10


def test_models_say_what_clients_need(address: str):
    answer = requests.get(f"{address}/v1/models").json()
    assert answer["default"] == weights.default()
    cards = {card.name: card for card in weights.available()}
    assert {model["name"] for model in answer["models"]} == set(cards)
    for model in answer["models"]:
        card = cards[model["name"]]
        assert model["threshold"] == card.min_score
        assert model["protocol"] == card.protocol == model["protocols"][0]
        assert model["landmarks"] == card.landmarks
        assert model["mesh"] == bool(card.mesh)
        assert model["system"] == card.system
    assert next(one for one in answer["models"] if one["name"] == answer["default"])["loaded"]


def test_health_metrics_and_description(address: str, jpeg: bytes):
    assert requests.get(f"{address}/healthz").json() == {"status": "alive"}
    assert requests.get(f"{address}/readyz").json() == {"status": "ready"}
    requests.post(f"{address}/v1/detect", **body(jpeg))
    text = requests.get(f"{address}/metrics").text
    assert 'facefind_requests_total{path="/v1/detect",status="200"}' in text
    assert "facefind_queue_pictures 0.0" in text
    assert 'facefind_memory_bytes{of="pictures"} 0.0' in text
    assert 'facefind_stage_seconds_count{stage="network"}' in text
    described = requests.get(f"{address}/openapi.json").json()
    for path in ("/v1/detect", "/v1/redact", "/v1/align"):
        post = described["paths"][path]["post"]
        assert "multipart/form-data" in post["requestBody"]["content"]
        assert {"200", "413", "503"} <= set(post["responses"])
        assert {"model", "protocol", "score"} <= {one["name"] for one in post["parameters"]}
    shown = described["paths"]["/v1/detect"]["post"]["responses"]["200"]["content"]
    example = shown["application/json"]["example"]
    answer = requests.post(f"{address}/v1/detect", **body(jpeg)).json()
    assert set(example) == set(answer)
    assert set(example["images"][0]) == set(answer["images"][0])


def test_pictures_that_go_through_a_model_together_have_the_faces_of_each_alone(
    start: Callable[..., str], portrait: np.ndarray
):
    small = "scrfd-500m-kps"
    address = start(models=(small,), batch_size=4, max_wait=5)
    pictures = [np.roll(portrait, 8 * step, axis=1) for step in range(4)]
    form = [("file", encoded(picture, "PNG")) for picture in pictures]
    lines = requests.post(f"{address}/v1/detect", files=form, timeout=40).json()["images"]
    detector = FaceDetector(small)
    for line, picture in zip(lines, pictures, strict=True):
        expected = detector.detect(picture)
        assert len(line["boxes"]) == len(expected) == 1
        assert np.allclose(line["boxes"], expected.boxes, atol=0.01)
        assert np.allclose(line["scores"], expected.scores, atol=1e-3)
    metrics = requests.get(f"{address}/metrics", timeout=10).text
    assert "facefind_batch_pictures_count 1.0" in metrics
    assert "facefind_batch_pictures_sum 4.0" in metrics
