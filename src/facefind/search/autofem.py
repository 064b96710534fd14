"""AutoFEM: ASFD's search, of a pyramid and then of the contexts on top of it."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from facefind import files
from facefind.learn.recipe import NetworkConfig
from facefind.nn import genotypes
from facefind.nn.genotypes import CONTEXT_CHOICES, PYRAMID_CHOICES, ContextGenotype, PyramidGenotype
from facefind.search.bilevel import Method, Search
from facefind.search.candidates import Entry, NetworkCost
from facefind.search.settings import trial_key
from facefind.search.supernet import Role

if TYPE_CHECKING:
    from facefind.search.study import Study

_ROLES: dict[int, Role] = {1: "pyramid", 2: "context"}


@dataclass(frozen=True, kw_only=True)
class AutoFEM:
    """A search in two steps, each a supernet that is trained once.

    The network around them is that of the study's trials. Step 1 searches its pyramid, without
    contexts; step 2 its contexts, with the pyramid that was found.

    Source: ASFD, sec. 4.2 ("respectively", then "cascading these two modules").
    """

    method: Method = field(default_factory=Method)
    pyramid: str = ""
    """A pyramid by name or genotype, in place of step 1."""

    @property
    def steps(self) -> tuple[int, ...]:
        """Pyramid, unless it is given, then context."""
        return (2,) if self.pyramid else (1, 2)

    @property
    def found_name(self) -> str:
        """Name of the resulting recipe."""
        return "asfd-found"

    @property
    def title(self) -> str:
        """What is searched for."""
        return "feature modules (AutoFEM)"

    def draw(self, study: Study, step: int) -> Sequence[NetworkConfig]:
        """The network around what a step searches."""
        around = {"pyramid": "none" if step == 1 else self._pyramid(study), "context": "none"}
        return [replace(study.settings.trial.network, **around)]

    def train(self, step: int, content: dict[str, Any]) -> dict[str, Any]:
        """A module searched."""
        from facefind.recipes import from_dict

        began = time.monotonic()
        search = Search(from_dict(content), _ROLES[step], self.method)
        search.run()
        return search.result() | {"seconds": time.monotonic() - began}

    def found(self, study: Study) -> NetworkConfig:
        """The network with both modules."""
        context = genotypes.to_json(self.genotype(study, 2))
        around = {"pyramid": self._pyramid(study), "context": context}
        return replace(study.settings.trial.network, **around)

    def genotype(self, study: Study, step: int) -> genotypes.Genotype:
        """What a finished step has found."""
        result = study.result(trial_key(step, study.best(step).index, 0))
        assert result is not None
        return genotypes.from_json(json.dumps(result["genotype"]), f"step {step}")

    def _pyramid(self, study: Study) -> str:
        return self.pyramid or genotypes.to_json(self.genotype(study, 1))

    def cost(self, network: NetworkConfig) -> NetworkCost:
        """Cost of a network for an image of 640 x 480."""
        import torch

        from facefind.nn.cost import measure

        with torch.device("meta"):
            parts = measure(network.build(), 480, 640).parts
        return NetworkCost(
            {name: part["parameters"] for name, part in parts.items()},
            {name: part["multiply_adds"] for name, part in parts.items()},
        )

    def shares(self, entries: Sequence[Entry], step: int) -> dict[str, list[float]]:
        """None: no numbers are searched."""
        return {}

    def panels(self, entries: Sequence[Entry], step: int) -> dict[str, dict[str, list[float]]]:
        """None, for the same reason."""
        return {}

    def details(self, study: Study) -> dict[str, Any]:
        """The genotypes, which are written to `pyramid.json` and `context.json` too."""
        found: dict[str, Any] = {}
        for step in self.steps:
            result = study.result(trial_key(step, study.best(step).index, 0))
            assert result is not None
            path = study.store.folder / f"{_ROLES[step]}.json"
            genotypes.write(self.genotype(study, step), path)
            found[_ROLES[step]] = {k: result[k] for k in ("genotype", "entropy")}
        return found

    def figures(self, study: Study, folder: Path) -> list[Path]:
        """Each module as a graph, and how its choices came about, where the log is at hand."""
        import torch

        from facefind.plots.cells import draw_context, draw_pyramid
        from facefind.plots.search import draw_choices

        with torch.device("meta"):
            strides = study.settings.trial.network.build().strides
        made = []
        for step in self.steps:
            role, genotype = _ROLES[step], self.genotype(study, step)
            if isinstance(genotype, PyramidGenotype):
                made.append(draw_pyramid(folder / f"{role}.png", genotype.nodes, strides))
            else:
                joined = [genotype.joined(level) for level in range(len(genotype.levels))]
                levels = genotype.levels
                made.append(draw_context(folder / f"{role}.png", levels, joined, strides))
            key = trial_key(step, study.best(step).index, 0)
            log = study.store.run_folder(key) / "log.jsonl"
            if log.exists():
                made.append(draw_choices(folder / f"{role}_choices.png", course(log)))
        return made

    def to_dict(self) -> dict[str, Any]:
        """Method and given pyramid in plain values."""
        return {"method": asdict(self.method), "pyramid": self.pyramid}


def course(log: Path) -> dict[int, dict[str, tuple[float, str, int]]]:
    """How choices went, by a search's log: step -> choice -> entropy, operation and source."""
    return {
        record["step"]: {
            name: (entropy, *record["chosen"][name]) for name, entropy in record["entropy"].items()
        }
        for _, record in files.read_json_lines(log, skip_broken=True)
        if "chosen" in record
    }


def random_pyramid(rng: np.random.Generator, levels: int) -> PyramidGenotype:
    """A pyramid of the search's space in which every operation is as likely."""
    like = genotypes.RELEASED_PYRAMID.at([4 << level for level in range(levels)])
    return PyramidGenotype(
        tuple(
            tuple((str(rng.choice(PYRAMID_CHOICES)), source) for _, source in node)
            for node in like.nodes
        )
    )


def random_context(
    rng: np.random.Generator, levels: int, nodes: int = 6, concat: str = "leaf"
) -> ContextGenotype:
    """Contexts of the search's space in which every path of a node is as likely."""
    return ContextGenotype(
        tuple(
            tuple(
                (str(rng.choice(CONTEXT_CHOICES)), int(rng.integers(n)))
                for n in range(1, nodes + 1)
            )
            for _ in range(levels)
        ),
        "leaf" if concat == "leaf" else "all",
    )
