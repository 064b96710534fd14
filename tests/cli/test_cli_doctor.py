"""What doctor says of this machine, and of sets of packages that clash."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path

import pytest

from facefind.cli import doctor, main
from facefind.cli.doctor import clashes


def test_a_sound_set_has_no_clash() -> None:
    assert (
        clashes({"onnxruntime": "1.31.1", "opencv-python-headless": "5.0", "torch": "2.13"}) == []
    )


@pytest.mark.parametrize(
    ("both", "keep"),
    [
        (("opencv-python", "opencv-python-headless"), "opencv-python-headless"),
        (("opencv-contrib-python", "opencv-python"), "opencv-contrib-python"),
        (("onnxruntime", "onnxruntime-gpu"), "onnxruntime-gpu"),
    ],
)
def test_wheels_that_write_the_same_files(both: tuple[str, str], keep: str) -> None:
    (problem,) = clashes(dict.fromkeys(both, "1.0"))
    assert all(name in problem for name in both)
    assert problem.endswith(f"pip install {keep}")


@pytest.mark.parametrize(
    ("torch", "needs", "problems"),
    [
        ("2.13.0+cpu", "torch==2.13.0", 0),
        ("2.13.0", "torch (==2.13.0)", 0),
        ("2.12.1", "torch==2.13.0", 1),
        (None, "torch==2.13.0", 1),
        ("2.14.0", "torch>=2.14", 0),
    ],
)
def test_torchvision_of_another_torch(torch: str | None, needs: str, problems: int) -> None:
    installed = {"torchvision": "0.28.0"} | ({} if torch is None else {"torch": torch})
    assert len(clashes(installed, ["numpy", needs, "pillow!=8.3.*,>=5.3.0"])) == problems


def test_json_and_file_say_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "doctor.json"
    main(["doctor", "--json", "--out", str(out)])
    said = json.loads(capsys.readouterr().out)
    assert said == json.loads(out.read_text())
    assert said["packages"]["numpy"] == metadata.version("numpy")
    assert said["machine"]["cpus"] >= 1
    assert "FP32" in said["runtimes"]["openvino"]["CPU"]["precisions"]


def test_a_fault_is_named_and_sets_the_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    versions = {"opencv-python": "4.1", "opencv-python-headless": "4.1"}
    monkeypatch.setattr(doctor, "_installed", lambda: versions)
    assert main(["doctor"]) == 1
    assert "problem: opencv-python and opencv-python-headless" in capsys.readouterr().out


def test_a_package_that_can_not_be_loaded_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> object:
        raise RuntimeError(f"operator of {name}\nis missing")

    monkeypatch.setattr(doctor, "import_module", broken)
    able, faults = doctor._runtimes({"torchvision": "0.28.0"})
    assert able == {}
    assert faults == [
        "torchvision is installed and can't be imported: operator of torchvision is missing"
    ]


def test_no_problem_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_installed", lambda: {"numpy": "2.4.6"})
    assert main(["doctor"]) == 0
