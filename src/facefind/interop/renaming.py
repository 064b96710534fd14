"""Published networks whose modules are ours under other names: names and weights, both ways."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from facefind import recipes
from facefind.errors import WeightsError
from facefind.interop.formats import Format, read_state
from facefind.learn.recipe import Recipe

__all__ = ["Published", "normalized"]

State = Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Published:
    """A published network that feeds blue first, where ours feeds red first.

    Attributes:
        row: our network and recipe of it.
        modules: our module, or parameter, by theirs.
        first: weights of the first convolution, in our names: red and blue change places in them.
        about: whose file it is, in a few words.
        license: the terms under which its authors gave the weights.
        signature: names of tensors that no other kind of file has together.
        ignored: part of the names of tensors that are left out.
    """

    row: str
    modules: Mapping[str, str]
    first: str
    about: str
    license: str
    signature: tuple[str, ...]
    ignored: str | None = None

    @property
    def format(self) -> Format:
        """How such files are recognized and read."""
        return Format(
            name=self.row,
            about=self.about,
            license=self.license,
            matches=lambda held: set(self.signature) <= held,
            read=self._read,
        )

    def from_published(self, state: State) -> dict[str, Tensor]:
        """A published state dict in our names, for a strict load into the network of `row`.

        Raises:
            WeightsError: if a name is not one of the published file's.
        """
        kept = {k: v for k, v in state.items() if self.ignored is None or self.ignored not in k}
        return self._flipped({self._renamed(k, self.modules): v for k, v in kept.items()})

    def to_published(self, state: State) -> dict[str, Tensor]:
        """Our state dict of `row` in the published names, complete for a strict load there.

        Raises:
            WeightsError: if a name is not one of our network's.
        """
        back = {ours: theirs for theirs, ours in self.modules.items()}
        return {self._renamed(k, back): v for k, v in self._flipped(state).items()}

    def _renamed(self, name: str, modules: Mapping[str, str]) -> str:
        """A tensor's name with its own, or that of a module around it, exchanged."""
        around = name
        while around not in modules:
            around, dot, _ = around.rpartition(".")
            if not dot:
                raise WeightsError(f"{name!r} is no name of the published {self.row}")
        return modules[around] + name.removeprefix(around)

    def _flipped(self, state: State) -> dict[str, Tensor]:
        """Red and blue changed in the first convolution."""
        return {k: v.flip(1) if k == self.first else v for k, v in state.items()}

    def _read(self, path: Path, row: str | None) -> tuple[Recipe, State]:
        if row not in (None, self.row):
            raise WeightsError(f"{path} is no {row}, it is {self.row}")
        state = self.from_published(read_state(path, f"the published .pth of {self.row}"))
        recipe = recipes.get(self.row)
        with torch.device("meta"):
            expected = recipe.network.build().state_dict()
        # Before torch 0.4.1 normalization counted no batches.
        counts = {k: torch.tensor(0) for k in expected if k.endswith("num_batches_tracked")}
        return recipe, counts | dict(state)


def normalized(convs: Mapping[str, tuple[str, int]]) -> dict[str, str]:
    """Convolution and normalization: `.conv` and `.bn` there, a place and the next one here."""
    found: dict[str, str] = {}
    for theirs, (ours, place) in convs.items():
        found |= {f"{theirs}.conv": f"{ours}.{place}", f"{theirs}.bn": f"{ours}.{place + 1}"}
    return found
