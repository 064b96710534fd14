"""`facefind export`: a run, checkpoint or model becomes one ONNX file with its card inside."""

from __future__ import annotations

import contextlib
import dataclasses
import json as json_text
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from facefind.cli.options import Flag, Number, TestProtocolName, Text, check_written
from facefind.errors import DataError, WeightsError
from facefind.files import scratch, sha256

if TYPE_CHECKING:
    from facefind.learn.recipe import Recipe

__all__ = ["export", "main"]


def main(args: Sequence[str]) -> int:
    """Exit code of `facefind export` with these arguments."""
    return tyro.cli(export, args=args, prog="facefind export")


def export(
    run: Annotated[str, tyro.conf.arg(metavar="RUN|CHECKPOINT|MODEL")],
    /,
    *,
    out: Annotated[Path, tyro.conf.arg(metavar="FILE.onnx")],
    name: Text = None,
    test_protocol: TestProtocolName = None,
    min_score: Number = None,
    blend: Number = None,
    license: str = "",
    notes: str = "",
    with_nms: Flag = False,
    size: Annotated[
        str | None, tyro.conf.arg(metavar="WIDTHxHEIGHT", help_behavior_hint="")
    ] = None,
    json: Flag = False,
) -> int:
    """Write a trained network as one ONNX file, or a model once more for other chips.

    The file is compared with the network, or the model, in every installed runtime, and refused
    where they differ; it carries its card, so facefind detect --model takes it as it is.

    Args:
        run: A run folder, whose result is taken, or else its last checkpoint; or a checkpoint, such
            as the best.pt of a run; or, with --with-nms or --size, a model that ships (see
            `facefind models`) or an .onnx file of facefind.
        out: The file to write.
        name: The model's name; the file's if not given.
        test_protocol: How images are scaled and faces merged unless users choose otherwise:
            everyday, or the model's own, if not given; with --with-nms or --size, one pass.
        min_score: Score from which faces are shown unless users choose otherwise: 0.5, or the
            model's own, if not given. With --with-nms nobody can lower it later.
        blend: After a fine-tuning, the share of its own weights, 0 to 1; the rest is of those that
            it began with. So it loses less of what they knew.
        license: Terms under which the weights may be used; those of the weights that training
            started from, or of a checkpoint that facefind convert made, if not given.
        notes: What else users should know.
        with_nms: Put NMS into the file: its outputs are the faces of one pass, best first.
        size: Fix the input at one image of this size, as other chips need it.
        json: Print the card as JSON.
    """
    from facefind import protocols
    from facefind.adaptation import adapt
    from facefind.runtimes import Card

    if out.suffix != ".onnx":
        raise DataError(f"--out {out}: the name of the file must end in .onnx")
    model = _model(run)
    check_written([model or run], out=out)
    if test_protocol is not None:
        protocols.get(test_protocol)
    fixed = None if size is None else protocols.parse_size(size)
    said: dict[str, Any] = {
        "name": name or out.stem,
        "protocol": test_protocol,
        "min_score": min_score,
        "license": license,
        "notes": notes,
    }
    said = {key: value for key, value in said.items() if value not in (None, "")}
    if model is not None and blend is not None:
        raise DataError("--blend is of a run: a model does not say what it began with")
    if model is None and not with_nms and fixed is None:
        _export(Path(run), out, said, blend)
    else:
        out.parent.mkdir(parents=True, exist_ok=True)
        with scratch(out) as folder:
            plain = model or _export(Path(run), folder / out.name, said, blend)
            card = Card.from_file(plain)
            adapt(
                plain,
                out,
                with_nms=with_nms,
                size=fixed,
                protocol=test_protocol,
                card=None if card is None else dataclasses.replace(card, **said),
            )
    written = Card.from_file(out)
    assert written is not None  # it has just been put there
    if json:
        print(written.to_json())
    else:
        megabytes = out.stat().st_size / 1e6
        print(
            f"{out}: {written.parameters:,} parameters, {megabytes:.1f} MB, SHA-256 {sha256(out)}"
        )
    return 0


def _model(run: str) -> Path | None:
    """The file of a model that is given by name or path; None for a run or a checkpoint."""
    from facefind import weights

    if run.endswith(".onnx") or run == "default":
        return weights.find(run)
    known = run in (card.name for card in weights.available())
    return weights.find(run) if known and not Path(run).exists() else None


def _export(run: Path, out: Path, said: dict[str, Any], share: float | None) -> Path:
    """Write the network of a run or checkpoint, its card made of what is known of it and `said`."""
    from facefind import recipes
    from facefind.export import export as write
    from facefind.learn.checkpoints import provenance
    from facefind.learn.initialization import blend
    from facefind.runtimes import Card

    recipe, network = recipes.load_network(run)
    published = _published(run)
    training: dict[str, Any] = {"published": published} if published else _training(recipe, run)
    known: dict[str, Any] = {"license": published.get("license", "") or _license(training)}
    if share is not None:
        if not recipe.run.init_from:
            raise DataError(f"--blend {share}: {run} began with random weights")
        blend(network, recipe.run.init_from, share)
        training["blend"] = share
    card = Card(
        system=recipe.network.system,
        recipe=recipe.name,
        size_multiple=getattr(network, "size_multiple", 32),
        training=training,
        commit=provenance()["commit"],
        **(known | said),
    )
    return write(network, out, card)


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
