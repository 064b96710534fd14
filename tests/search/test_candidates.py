"""Study, store, workers and report serve the search of any system."""

from __future__ import annotations

import ast
import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import facefind.search
from facefind import recipes
from facefind.learn.recipe import NetworkConfig
from facefind.search.candidates import Candidates, Entry, NetworkCost
from facefind.search.report import draw, report
from facefind.search.settings import Settings
from facefind.search.study import Study

GENERAL = (
    *("candidates", "report", "settings", "statistics", "store", "study", "trial", "workers"),
)


@dataclass(frozen=True)
class Widths:
    """One step over the widths of a RetinaFace."""

    widths: tuple[int, ...]

    @property
    def steps(self) -> tuple[int, ...]:
        return (1,)

    @property
    def found_name(self) -> str:
        return "retinaface-found"

    @property
    def title(self) -> str:
        return "a width"

    def draw(self, study: Study, step: int) -> Sequence[NetworkConfig]:
        like = study.settings.trial.network
        return [dataclasses.replace(like, width=width) for width in self.widths]  # type: ignore[call-arg]

    def train(self, step: int, content: dict[str, Any]) -> dict[str, Any]:
        width = content["network"]["width"]
        measured = {"images_measured": 1, "digest_measured": "a" * 64}
        return {"ap": {"height>=9": 1 / (1 + abs(width - 24))}, "seconds": 1.0} | measured

    def found(self, study: Study) -> NetworkConfig:
        return study.best(1).network

    def cost(self, network: NetworkConfig) -> NetworkCost:
        width: int = network.width  # type: ignore[attr-defined]
        return NetworkCost({"neck": width**2}, {"neck": 9 * width**2, "head": 1})

    def shares(self, entries: Sequence[Entry], step: int) -> dict[str, list[float]]:
        return {"neck": [entry.cost.share("neck") for entry in entries]}

    def panels(self, entries: Sequence[Entry], step: int) -> dict[str, dict[str, list[float]]]:
        return {"widths": self.shares(entries, step)}

    def details(self, study: Study) -> dict[str, Any]:
        return {"tried": len(self.widths)}

    def figures(self, study: Study, folder: Path) -> list[Path]:
        return [folder / "own.png"]

    def to_dict(self) -> dict[str, Any]:
        return {"widths": list(self.widths)}


def test_another_system_is_searched(squares: Path, settings: Settings, tmp_path: Path) -> None:
    recipe = recipes.get("retinaface-mobile")
    trial = dataclasses.replace(recipe, data=settings.trial.data, run=settings.trial.run)
    candidates: Candidates = Widths((16, 24, 32, 48))
    study = Study(tmp_path, Settings(candidates=candidates, models=4, trial=trial, final=recipe))
    study.run()
    assert study.best(1).network == dataclasses.replace(recipe.network, width=24)  # type: ignore[call-arg]
    found = report(study)
    assert found["candidates"] == {"widths": [16, 24, 32, 48]}
    assert found["tried"] == 4
    assert found["step1"]["best"]["shares"]["neck"] == pytest.approx(5184 / 5185)
    kept = recipes.from_dict(json.loads((tmp_path / "found.json").read_text()))
    assert (kept.name, kept.network) == ("retinaface-found", study.best(1).network)
    assert recipes.get(f"{tmp_path}/found.py:found") == kept
    pytest.importorskip("matplotlib")
    assert [path.name for path in draw(study)] == ["widths.png", "own.png"]


@pytest.mark.parametrize("name", GENERAL)
def test_what_serves_any_search_imports_no_system(name: str) -> None:
    path = Path(facefind.search.__file__).with_name(f"{name}.py")
    special = ("facefind.systems", "facefind.recipes.")
    special += tuple(
        f"facefind.search.{other}"
        for other in (
            *("budgets", "cost", "redistribution", "sampling", "space"),
            *("autofem", "supernet", "bilevel"),
        )
    )
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert not (node.module or "").startswith(special)
