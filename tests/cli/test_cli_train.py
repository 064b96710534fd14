"""`facefind train`, `cost` and `export`: recipes by name, by file, and changed by options."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facefind import weights
from facefind.cli import main
from facefind.nn import genotypes
from facefind.recipes import by_system, names
from facefind.runtimes import Card

pytestmark = pytest.mark.slow

TINY = [
    *("--network.widths", "8", "8", "8", "8", "--network.depths", "1", "1", "1", "1"),
    *("--network.stem", "8", "8", "--network.neck", "32", "--network.head", "32"),
    *("--augment.size", "64", "--schedule.batch", "2", "--data.hold-out", "0"),
    *("--data.workers", "0", "--run.threads", "1", "--run.precision", "fp32"),
]
TINY_COST = TINY[: TINY.index("--augment.size")]


@pytest.fixture
def labeled(tmp_path: Path, portrait: np.ndarray) -> Path:
    """Four small portraits in WIDER FACE's layout."""
    folder = tmp_path / "set"
    event = folder / "images" / "0--Parade"
    event.mkdir(parents=True)
    lines = []
    for name in "abcd":
        Image.fromarray(portrait[::4, ::4]).save(event / f"{name}.png")
        lines += [f"0--Parade/{name}.png", "1", "44 15 24 32 0 0 0 0 0 0"]
    (folder / "four_bbx_gt.txt").write_text("\n".join(lines) + "\n")
    return folder


def steps(run: Path) -> list[int]:
    lines = (run / "log.jsonl").read_text().splitlines()
    return [record["step"] for record in map(json.loads, lines) if "loss_cls" in record]


def test_a_run_is_trained_and_resumed(
    labeled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    args = ["train", "scrfd-500m-short", "--data", str(labeled), *TINY]
    args += ["--schedule.epochs", "1", "--run.log-every", "1"]
    assert main([*args, "--out", str(run), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"run": str(run)}
    assert steps(run) == [1, 2]
    recipe = json.loads((run / "recipe.json").read_text())
    assert recipe["network"]["neck"] == 32
    assert recipe["name"] == "scrfd-500m-short"
    assert (run / "final.pt").exists()

    assert main([*args, "--out", str(run)]) == 2  # a run is not written over
    assert "--resume" in capsys.readouterr().err

    assert main(["train", "--resume", str(run), "--schedule.batch", "4", "--optim.lr", "1"]) == 2
    err = capsys.readouterr().err
    assert "--optim.lr 0.0015, not 1.0; --schedule.batch 2, not 4" in err
    assert f"--init-from {run} --out NEW" in err
    assert json.loads((run / "recipe.json").read_text()) == recipe

    assert main(["train", "--resume", str(run), "--schedule.epochs", "2"]) == 0
    assert steps(run) == [1, 2, 3, 4]
    assert f"facefind export {run}" in capsys.readouterr().out


def test_cost_is_the_sum_of_its_parts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "cost.json"
    assert main(["cost", "scrfd-2.5g", "--json", "--out", str(out)]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown == json.loads(out.read_text())
    assert (shown["width"], shown["height"]) == (640, 480)
    assert set(shown["parts"]) == {"backbone", "neck", "head"}
    for key in ("parameters", "multiply_adds"):
        assert shown[key] == sum(part[key] for part in shown["parts"].values())
    assert 2.4e9 < shown["multiply_adds"] < 2.6e9  # what its name says


def test_cost_grows_with_the_image_and_with_options(capsys: pytest.CaptureFixture[str]) -> None:
    def cost(*args: str) -> dict[str, int]:
        assert main(["cost", "scrfd-500m", "--json", *args]) == 0
        shown: dict[str, int] = json.loads(capsys.readouterr().out)
        return shown

    usual, large, tiny = cost(), cost("--size", "1280x960"), cost(*TINY_COST)
    assert large["multiply_adds"] == 4 * usual["multiply_adds"]
    assert large["parameters"] == usual["parameters"]
    assert tiny["parameters"] < usual["parameters"]


def test_cost_as_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cost", "scrfd-500m", *TINY_COST]) == 0
    rows = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert rows == ["part", "backbone", "neck", "head", "all"]


def test_cost_at_a_size_that_no_network_takes_is_that_of_the_next_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    costs = []
    for size in ("100x130", "128x160"):
        assert main(["cost", "scrfd-500m", *TINY_COST, "--size", size, "--json"]) == 0
        costs.append(json.loads(capsys.readouterr().out))
    assert costs[0] == costs[1]
    assert (costs[0]["width"], costs[0]["height"]) == (128, 160)
    assert main(["cost", "scrfd-500m", *TINY_COST, "--size", "100x130"]) == 0
    assert "counted at 128x160: sides are multiples of 32" in capsys.readouterr().out


def test_recipe_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from dataclasses import replace\n"
        "from facefind import recipes\n"
        "def narrow():\n"
        "    base = recipes.get('scrfd-500m')\n"
        "    return replace(base, name='narrow', network=replace(base.network, head=16))\n"
        "def nothing():\n"
        "    return 3\n"
    )
    assert main(["cost", f"{file}:narrow", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["recipe"] == "narrow"
    for wrong in (f"{file}:nothing", f"{file}:absent", f"{tmp_path}/gone.py:narrow"):
        assert main(["cost", wrong]) == 2
        assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("command", ["train", "cost"])
def test_help_before_a_recipe_lists_them(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"usage: facefind {command} RECIPE" in shown
    assert all(name in shown for name in names())
    assert main([command]) == 2


def test_recipes_are_listed_by_system(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--help"]) == 0
    system, listed = "", {}
    for line in capsys.readouterr().out.partition("recipes:\n")[2].splitlines():
        if line.startswith("    "):
            listed |= dict.fromkeys(line.split(), system)
        else:
            system = line.strip()
    groups = {name: system for system, recipes in by_system().items() for name in recipes}
    assert {name: listed[name] for name in groups} == groups


def test_a_typo_in_an_option_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["train", "scrfd-2.5g", "--data.workrs", "3"])
    assert stop.value.code == 2
    shown = capsys.readouterr()
    assert "--data.workers" in shown.out + shown.err


def test_short_options_are_the_only_ones_for_their_values(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        main(["train", "scrfd-2.5g", "--help"])
    words = capsys.readouterr().out.split()
    for name in ("data", "val", "cache", "init-from", "device", "out", "resume"):
        assert f"--{name}" in words
    assert not {"--data.root", "--data.val", "--run.out", "--run.device", "--run.init-from"} & {
        *words
    }


@pytest.mark.parametrize("command", ["train", "cost"])
def test_help_after_a_recipe_tells_its_values(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main([command, "scrfd-2.5g", "--help"])
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    assert "--network.head INT" in shown
    assert "--help" in shown


def test_minutes_phases_and_the_best_weights(
    labeled: Path,
    tmp_path: Path,
    stub_export: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("FACEFIND_MAX_STEPS", "4")
    run, model = tmp_path / "run", tmp_path / "best.onnx"
    args = ["train", "scrfd-500m-short", "--data", str(labeled), "--val", str(labeled), *TINY]
    args += ["--schedule.minutes", "9", "--augment.phases", "0.5:32", "0.75:96"]
    assert main([*args, "--run.evaluate-every", "1", "--out", str(run)]) == 0
    shown = capsys.readouterr()
    assert "sides of 32 until 50% of the run, 96 until 75% of the run, 64 pixels" in shown.err
    assert f"{run / 'best.pt'} holds the weights" in shown.out
    assert main(["export", str(run / "best.pt"), "--out", str(model)]) == 0
    card = Card.from_file(model)
    assert card is not None
    assert card.training["images"] == 4
    with pytest.raises(SystemExit):
        main([*args, "--augment.phases", "x"])
    assert "--augment.phases" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["train", "scrfd-2.5"], "scrfd-2.5g"),
        (["train", "scrfd-2.5g", "--data", "SET", "--schedule.minutes", "0"], "more than 0, got 0"),
        (["train", "scrfd-2.5g", "--data", "SET", "--schedule.batch", "0"], "--schedule.batch"),
        (["train", "scrfd-2.5g"], "--data SET"),
        (["train", "scrfd-2.5g", "--data", "SET", "--device", "tpu"], "--device"),
        (["train", "scrfd-2.5g", "--data", "SET", "--device", "cuda:99"], "--device cuda:99"),
        (["train", "--resume", "gone"], "gone"),
        (["train", "scrfd-500m", "--network.neck", "10"], "multiple"),
        (["cost", "scrfd-500m", "--network.neck", "10"], "multiple"),
        (["cost", "scrfd-2.5g", "--size", "big"], "640x480"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(
    args: list[str],
    message: str,
    labeled: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FACEFIND_MAX_STEPS", "1")  # what should be refused must not train on
    assert main([str(labeled) if arg == "SET" else arg for arg in args]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith(f"facefind {args[0]}: ")
    assert message in shown
    assert shown.count("\n") == 1


def test_the_card_of_an_export_tells_of_its_run(
    labeled: Path, tmp_path: Path, stub_export: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """That a run's export detects, too, is seen where README's commands are run."""
    first, run, model = tmp_path / "first", tmp_path / "run", tmp_path / "models" / "mine.onnx"
    args = ["train", "scrfd-500m-short", "--data", str(labeled), *TINY]
    args += ["--schedule.epochs", "0.5"]
    assert main([*args, "--out", str(first)]) == 0
    assert main([*args, "--out", str(run), "--init-from", str(first), "--run.seed", "1"]) == 0
    capsys.readouterr()
    assert main(["export", str(run), "--out", str(model), "--license", "CC0-1.0", "--json"]) == 0
    card = json.loads(capsys.readouterr().out)
    assert (card["name"], card["system"], card["recipe"]) == ("mine", "scrfd", "scrfd-500m-short")
    assert card["training"]["sets"] == ["set"]
    assert card["training"]["images"] == 4
    assert len(card["training"]["digest"]) == 64
    seeds = card["training"]["seed"], card["training"]["began_with"]["seed"]
    assert seeds == (1, 0)
    assert card["training"]["steps"] == card["training"]["began_with"]["steps"] > 0
    assert str(tmp_path) not in json.dumps(card)
    assert Card.from_file(model) == Card.from_json(json.dumps(card))
    assert main(["export", str(run), "--out", str(model), "--blend", "0.5", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["training"]["blend"] == 0.5
    assert main(["export", str(first), "--out", str(model), "--blend", "0.5"]) == 2
    assert "began with random weights" in capsys.readouterr().err


def test_the_card_of_a_fine_tuning_holds_what_it_began_with(
    tmp_path: Path,
) -> None:
    from facefind import recipes
    from facefind.cli import export
    from facefind.learn import checkpoints

    recipe = recipes.get("scrfd-500m-kps-finetune")
    run, later = tmp_path / "run.pt", tmp_path / "later.pt"
    again = replace(recipe, run=replace(recipe.run, init_from=str(run)))
    for path, made in ((run, recipe), (later, again)):
        checkpoints.save(path, {"network": {}, "recipe": made.to_dict(), "step": 7})
    card = Card.from_file(weights.find("scrfd-500m-kps"))
    assert card is not None
    first = export._training(recipe, run)
    assert first["began_with"] == {"model": card.name, "license": card.license, **card.training}
    second = export._training(again, later)
    assert second["began_with"] == first
    assert export._license(second) == export._license(first) == card.license != ""
    assert export._license({"recipe": "scrfd-2.5g"}) == ""
    gone = export._training(replace(again, run=replace(again.run, init_from="gone.pt")), later)
    assert gone["began_with"] == {"file": "gone.pt"}


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["gone", "--out", "x.onnx"], "gone"),
        (["gone", "--out", "x.pt"], ".onnx"),
        (["gone", "--out", "x.onnx", "--protocol", "vgaa"], "did you mean 'vga'"),
        (["default", "--out", "x.onnx", "--blend", "0.5"], "--blend is of a run"),
    ],
)
def test_export_mistakes_are_one_line(
    args: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", *args]) == 2
    shown = capsys.readouterr().err
    assert message in shown
    assert shown.count("\n") == 1


def test_a_genotype_s_file_is_an_option(tmp_path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "found.json"
    genotypes.write(genotypes.RELEASED_PYRAMID, path)
    assert main(["cost", "scrfd-500m", "--network.pyramid", str(path)]) == 0
    assert main(["cost", "scrfd-500m", "--network.pyramid", "autofem"]) == 0
    by_file, by_name = capsys.readouterr().out.split("part ")[1:]
    assert by_file == by_name
    path.write_text('{"version": 1, "kind": "fpn", "nodes": [[["sep_conv_9x9", 0]]]}')
    with pytest.raises(SystemExit) as stop:
        main(["cost", "scrfd-500m", "--network.pyramid", str(path)])
    assert stop.value.code == 2
    assert "sep_conv_9x9" in capsys.readouterr().err
    assert main(["cost", "scrfd-500m", "--network.pyramid", "bi-fpn"]) == 2
    assert "no pyramid is called 'bi-fpn'; expected none" in capsys.readouterr().err
