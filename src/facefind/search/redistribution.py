"""Computation redistribution: the networks that SCRFD's search tries in its two steps."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from facefind.errors import DataError
from facefind.learn.recipe import NetworkConfig
from facefind.search import sampling
from facefind.search.candidates import Entry, NetworkCost
from facefind.search.cost import BACKBONE, SCRFDConfig, cost
from facefind.search.space import SPACES, Goal, PaperSpace, SpaceName
from facefind.search.trial import train_candidate

if TYPE_CHECKING:
    from facefind.search.study import Study

_SHALLOW = ("stem", "c2", "c3")
_DEEP = ("c4", "c5")
_WHOLE = {"backbone": BACKBONE, "neck": ("neck",), "head": ("head",)}
Scope = Literal["two-step", "backbone", "detector"]
_STEPS: dict[Scope, tuple[int, ...]] = {"two-step": (1, 2), "backbone": (1,), "detector": (2,)}


@dataclass(frozen=True, kw_only=True)
class Redistribution:
    """Candidates of a compute budget.

    Step 1 draws backbones under the goal's neck and head; step 2 draws whole networks whose
    backbones follow what step 1 has found.

    Attributes:
        goal: the compute regime, and what step 1 keeps fixed.
        space: which networks there are.
        scope: both steps; step 1 alone (`backbone`); or step 2 alone, with any backbone
            (`detector`): CR@two-step, CR@backbone and CR@detector of table 3.

    Raises:
        DataError: if step 2 is to go without step 1 in the released space, which scales its best.

    Source: SCRFD, sec. 4.2 and 5.2.
    """

    goal: Goal
    space: SpaceName = "paper"
    scope: Scope = "two-step"

    def __post_init__(self) -> None:
        if self.scope == "detector" and self.space == "released":
            raise DataError(
                "step 2 of the released space scales the best network of step 1: the scope "
                "'detector', which has no step 1, needs the space 'paper'"
            )

    @property
    def steps(self) -> tuple[int, ...]:
        """Backbone (1), then the whole network (2), as far as the scope goes."""
        return _STEPS[self.scope]

    @property
    def found_name(self) -> str:
        """Name of the resulting recipe, such as `scrfd-found-2.5g`."""
        return f"scrfd-found-{self.goal.gflops:g}g"

    @property
    def title(self) -> str:
        """What is searched for."""
        return f"an SCRFD of {self.goal.gflops:g} GF"

    def draw(self, study: Study, step: int) -> Sequence[NetworkConfig]:
        """The networks of a step; those of step 2 follow the study's results of step 1."""
        space, models, seed = SPACES[self.space], study.settings.models, study.settings.seed
        if step == 1:
            return sampling.backbones(space, self.goal, models, seed)
        if not isinstance(space, PaperSpace):
            template = _scrfd(study.best(1).network)
            return sampling.detectors(space, self.goal, models, seed, template=template)
        found = study.intervals(1) if 1 in self.steps else {}
        shares = {part: interval.widened(space.slack) for part, interval in found.items()}
        return sampling.detectors(space, self.goal, models, seed, shares=shares)

    def train(self, step: int, content: dict[str, Any]) -> dict[str, Any]:
        """A network trained and measured."""
        return train_candidate(content)

    def found(self, study: Study) -> NetworkConfig:
        """The best network of the last step."""
        return study.best(self.steps[-1]).network

    def cost(self, network: NetworkConfig) -> NetworkCost:
        """Cost of a network for an image of 640 x 480."""
        return cost(_scrfd(network))

    def shares(self, entries: Sequence[Entry], step: int) -> dict[str, list[float]]:
        """Fractions of the computation.

        Step 1: each part of the backbone in the backbone's (fig. 5). Step 2: backbone, neck and
        head in the whole network's (fig. 9), and again the parts within the backbone.
        """
        found = {part: [e.cost.share(part, of=BACKBONE) for e in entries] for part in BACKBONE}
        if step == 2:
            rest = {name: [e.cost.share(*p) for e in entries] for name, p in _WHOLE.items()}
            found = rest | found
        return found

    def panels(self, entries: Sequence[Entry], step: int) -> dict[str, dict[str, list[float]]]:
        """The paper's figures: 5 and 6 of step 1, 9 of step 2."""
        shares = self.shares(entries, step)
        if step == 2:
            return {"step2": {name: shares[name] for name in _WHOLE}}
        sums = {
            " + ".join(map(_label, parts)): [e.cost.share(*parts, of=BACKBONE) for e in entries]
            for parts in (_SHALLOW, _DEEP)
        }
        return {
            "step1": {_label(part): shares[part] for part in BACKBONE},
            "shallow_deep": sums,
        }

    def details(self, study: Study) -> dict[str, Any]:
        """Nothing: the steps say it all."""
        return {}

    def figures(self, study: Study, folder: Path) -> list[Path]:
        """None beside the panels."""
        return []

    def to_dict(self) -> dict[str, Any]:
        """Goal, space and scope in plain values; both steps are not named, as in older studies."""
        scope = {} if self.scope == "two-step" else {"scope": self.scope}
        return {"goal": dataclasses.asdict(self.goal), "space": self.space, **scope}


def _label(part: str) -> str:
    """`C2` of `c2`; other names stay."""
    return part.upper() if part.startswith("c") else part


def _scrfd(network: NetworkConfig) -> SCRFDConfig:
    assert isinstance(network, SCRFDConfig)
    return network
