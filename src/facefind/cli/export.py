"""`facefind export`: a run or checkpoint becomes one ONNX file with its card inside."""

from __future__ import annotations

import contextlib
import dataclasses
import json as json_text
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from facefind.cli.options import Flag, Text, check_written
from facefind.errors import DataError, WeightsError
from facefind.files import sha256

if TYPE_CHECKING:
    from facefind.learn.recipe import Recipe

__all__ = ["export", "main"]


def main(args: Sequence[str]) -> int:
    """Exit code of `facefind export` with these arguments."""
    return tyro.cli(export, args=args, prog="facefind export")


def export(
    run: Annotated[Path, tyro.conf.arg(metavar="RUN|CHECKPOINT")],
    /,
    *,
    out: Annotated[Path, tyro.conf.arg(metavar="FILE.onnx")],
    name: Text = None,
    test_protocol: Annotated[
        str, tyro.conf.arg(metavar="NAME", aliases=("--protocol",))
    ] = "everyday",
    min_score: float = 0.5,
    license: str = "",
    notes: str = "",
    json: Flag = False,
) -> int:
    """Write a trained network as one ONNX file.

    The file is compared with the network in every installed runtime, and refused where they
    differ; it carries its card, so facefind detect --model takes it as it is.

    Args:
        run: A run folder, whose result is taken, or else its last checkpoint; or a checkpoint, such
            as the best.pt of a run.
        out: The file to write.
        name: The model's name; the file's where not given.
        test_protocol: How images are scaled and faces merged unless users choose otherwise.
        min_score: Score from which faces are shown unless users choose otherwise.
        license: Terms under which the weights may be used; those of the weights that training
            started from, or of a checkpoint that facefind convert made, where not given.
        notes: What else users should know.
        json: Print the card as JSON.
    """
    from facefind import protocols, recipes
    from facefind.export import export as write
    from facefind.learn.checkpoints import provenance
    from facefind.runtimes import Card

    if out.suffix != ".onnx":
        raise DataError(f"--out {out}: the name of the file must end in .onnx")
    check_written([run], out=out)
    protocols.get(test_protocol)
    recipe, network = recipes.load_network(run)
    published = _published(run)
    training = {"published": published} if published else _training(recipe, run)
    card = Card(
        name=name or out.stem,
        system=recipe.network.system,
        recipe=recipe.name,
        size_multiple=getattr(network, "size_multiple", 32),
        protocol=test_protocol,
        min_score=min_score,
        training=training,
        license=license or published.get("license", "") or _license(training),
        commit=provenance()["commit"],
        notes=notes,
    )
    written = Card.from_file(write(network, out, card))
    assert written is not None  # export has just put it there
    if json:
        print(written.to_json())
    else:
        size = out.stat().st_size / 1e6
        print(f"{out}: {written.parameters:,} parameters, {size:.1f} MB, SHA-256 {sha256(out)}")
    return 0


def _published(run: Path) -> dict[str, str]:
    """What a converted checkpoint says of the file that it was made from; empty for our own."""
    from facefind.learn import checkpoints

    if run.is_dir():
        return {}
    known: dict[str, str] = checkpoints.load(run).get("published", {})
    return known


def _training(recipe: Recipe, run: Path) -> dict[str, Any]:
    """What the card says of how the weights came about; sets by name alone.

    A run whose weights were initialized from another has that one's training in its own.
    """
    from facefind.learn import checkpoints

    facts = (run if run.is_dir() else run.parent) / "run.json"
    made: dict[str, Any] = {}
    if facts.is_file():
        made = json_text.loads(facts.read_text(encoding="utf-8"))
    kept = ("images", "images_held_out", "digest", "commit", "torch")
    earlier = _beginning(recipe.run.init_from) if recipe.run.init_from else {}
    return {
        "recipe": recipe.name,
        "sets": [_set_name(root) for root in recipe.data.root],
        "augment": dataclasses.asdict(recipe.augment),
        "optim": dataclasses.asdict(recipe.optim),
        "schedule": dataclasses.asdict(recipe.schedule),
        "seed": recipe.run.seed,
        "steps": checkpoints.load(checkpoints.path_of(run)).get("step"),
        **{key: made[key] for key in kept if key in made},
        **({"began_with": earlier} if earlier else {}),
    }


def _beginning(source: str) -> dict[str, Any]:
    """What is known of the weights that a run started from: their training, and their license."""
    from facefind import interop
    from facefind.learn import checkpoints
    from facefind.learn.initialization import locate
    from facefind.recipes import from_dict
    from facefind.runtimes import Card

    known = {"file": Path(source).name}
    with contextlib.suppress(WeightsError):  # it may be gone, or a backbone of others
        path = locate(source)
        card = Card.from_file(path) if path.suffix == ".onnx" else None
        if card is not None:
            return {"model": card.name, "license": card.license, **card.training}
        with contextlib.suppress(WeightsError):
            content = checkpoints.load(path)
            if "published" in content:
                return dict(content["published"])
            return _training(from_dict(content["recipe"]), path) if "recipe" in content else known
        kind = interop.detect_format(path)
        return known | {"format": kind.name, "license": kind.license}
    return known


def _license(training: Mapping[str, Any]) -> str:
    """The license of the weights that a training started from, however long ago; "" if unknown."""
    earlier = training.get("began_with", {})
    return str(earlier.get("license") or _license(earlier)) if earlier else ""


def _set_name(root: str) -> str:
    """A set's folder by name alone, or a label file with its folder's name."""
    from facefind.datasets import SetSpec

    path = SetSpec.parse(root).path
    return f"{path.parent.name}/{path.name}" if path.suffix else path.name
