"""The models at hand: those in this folder, and those in the folder $FACEFIND_WEIGHTS.

A model is `<name>.onnx` with its card beside it in `<name>.json`: the card that the file itself
carries, and with it the file's SHA-256 and whether it is the default.
"""

from __future__ import annotations

import json
import os
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

from facefind.errors import RuntimeUnavailableError, WeightsError, did_you_mean
from facefind.files import sha256, write_json
from facefind.runtimes import Card, Precision, PrecisionName, RuntimeName, gains_from
from facefind.runtimes.card import SMALL_LOSS
from facefind.runtimes.cpu import int8_arithmetic

if TYPE_CHECKING:
    from facefind.mesh import Decoder

ENVIRONMENT = "FACEFIND_WEIGHTS"

MESH_DECODER = "face-mesh"
"""Name of the mesh decoder over the project's own template."""

PRECISION = "FACEFIND_PRECISION"
"""Environment variable that says what the precision "auto" is, the same on every machine."""

QUANTIZED = "-int8"
"""How the names of quantized models end."""

__all__ = [
    "MESH_DECODER",
    "QUANTIZED",
    "available",
    "choose",
    "default",
    "describe",
    "find",
    "folders",
    "mesh_decoder",
    "open_decoder",
]


def folders() -> list[Path]:
    """Return the folders in which models are looked for, the first one first.

    A folder named by $FACEFIND_WEIGHTS that does not exist raises WeightsError.
    """
    own = Path(__file__).parent
    named = os.environ.get(ENVIRONMENT)
    if not named:
        return [own]
    folder = Path(named).expanduser()
    if not folder.is_dir():
        raise WeightsError(f"${ENVIRONMENT} names {folder}, which is no folder")
    return [folder, own]


def available() -> list[Card]:
    """Return the cards of all models at hand, by name; of two of one name the one that is found."""
    cards = {name: _card(path) for name, path in _files().items()}
    return [card for _, card in sorted(cards.items())]


def default() -> str:
    """Return the name of the default model: the one whose card file says `"default": true`.

    The first folder that has one decides. Without any, a model that is the only one is it.

    Raises:
        WeightsError: No model is at hand, or several are and none or more than one is marked.
    """
    for folder in folders():
        marked = [p.stem for p in sorted(folder.glob("*.onnx")) if _sidecar(p).get("default")]
        if len(marked) > 1:
            raise WeightsError(f"{folder} has several default models: {', '.join(marked)}")
        if marked:
            return marked[0]
    names = list(_files())
    if len(names) == 1:
        return names[0]
    if not names:
        raise WeightsError(_none())
    raise WeightsError(f"no model is marked as the default; name one of {', '.join(sorted(names))}")


def find(model: str | Path) -> Path:
    """Return the file of a model given by name, by path, or as "default".

    A file with a card beside it is checked against the SHA-256 there, once a process. An unknown
    name, a missing or a damaged file raises WeightsError.
    """
    path = _found(model)
    _check(path)
    return path


def choose(
    model: str | Path,
    precision: PrecisionName = "auto",
    runtime: RuntimeName = "auto",
    provider: str | None = None,
) -> tuple[Path, Precision]:
    """Return the file of a model in a precision, as `find` does, and the precision that is meant.

    "int8" is the quantized file of the model, NAME-int8.onnx beside NAME.onnx; where there is none,
    WeightsError is raised. "auto" is the fastest that is known to gain by the runtime and provider
    here and of which a card states that at most .2 of 100 of AP is lost: int8 (the card of the
    quantized file, by such a processor), else bf16 (the card of the model), else fp32. Where
    $FACEFIND_PRECISION names a precision, "auto" is that one.

    Raises:
        WeightsError: There is no such model, or no int8 file of it.
        RuntimeUnavailableError: `precision` or $FACEFIND_PRECISION names none.
    """
    path = _found(model)
    named, what = precision, "precision"
    if precision == "auto" and os.environ.get(PRECISION):
        named, what = cast(PrecisionName, os.environ[PRECISION]), f"${PRECISION}"
    if named not in get_args(PrecisionName):
        known = ", ".join(get_args(PrecisionName))
        raise RuntimeUnavailableError(f"{what} must be one of {known}, got {named!r}")
    precision = named
    quantized = path
    if not path.stem.endswith(QUANTIZED):
        quantized = path.with_name(f"{path.stem}{QUANTIZED}.onnx")
    if precision == "auto":
        precision = _fastest(path, quantized, runtime, provider)
    if precision != "int8":
        return find(path), precision
    if not quantized.is_file():
        raise WeightsError(
            f"there is no int8 file of {path.stem}, which would be {quantized}: make it by "
            "`facefind quantize`, or take another precision"
        )
    return find(quantized), "int8"


def _fastest(plain: Path, quantized: Path, runtime: RuntimeName, provider: str | None) -> Precision:
    """The fastest precision that gains here and whose loss a card states to be small."""
    lower: tuple[tuple[Precision, Path, str | None], ...] = (
        ("int8", quantized, int8_arithmetic()),
        ("bf16", plain, "bf16"),
    )
    for precision, file, arithmetic in lower:
        if file.is_file() and gains_from(precision, runtime, provider):
            loss = _card(file).loss(arithmetic)
            if loss is not None and loss <= SMALL_LOSS:
                return precision
    return "fp32"


def _found(model: str | Path) -> Path:
    text = os.fspath(model)
    if isinstance(model, Path) or text.endswith(".onnx") or "/" in text or os.sep in text:
        path = Path(model).expanduser()
        if not path.is_file():
            raise WeightsError(f"there is no model file {path}")
    else:
        name = default() if text == "default" else text
        files = _files()
        if name not in files:
            raise WeightsError(_unknown(name, sorted(files)))
        path = files[name]
    return path


def mesh_decoder(name: str = MESH_DECODER, beside: Path | None = None) -> Path:
    """Return the file of a mesh decoder, `<name>.npz`.

    It is looked for in the folder `beside` first, then where models are. A file with a card beside
    it is checked against the SHA-256 there. A missing or damaged file raises WeightsError.
    """
    looked = [*([beside] if beside else []), *folders()]
    for folder in looked:
        path = folder / f"{name}.npz"
        if path.is_file():
            _check(path)
            return path
    raise WeightsError(
        f"there is no mesh decoder {name}.npz in {', '.join(map(str, looked))}: copy it there, or "
        "make one by `facefind mesh pretrain`"
    )


def open_decoder(mesh: bool | str | Path | Decoder, card: Card, model: object) -> Decoder | None:
    """Return the mesh decoder that an option `mesh` means, None where it says that none is made.

    Args:
        mesh: Whether the one on the card is opened, or a decoder, or its file.
        card: Card of the model.
        model: The model's file, beside which its decoder is looked for first, or anything else.

    Raises:
        WeightsError: The model gives no meshes, or the decoder is missing or damaged.
    """
    from facefind.mesh import Decoder

    if mesh is False:
        return None
    if not card.mesh:
        raise WeightsError(
            f"the model {card.name} gives no meshes: use one that does (see `facefind models`), or "
            "leave mesh out"
        )
    if isinstance(mesh, Decoder):
        return mesh
    if mesh is not True:
        return Decoder.load(mesh)
    beside = find(model).parent if isinstance(model, str | Path) else None
    return Decoder.load(mesh_decoder(card.mesh, beside))


def describe(path: str | Path, default: bool = False) -> Path:
    """Write the card file beside an exported model and return its path.

    It holds the card that the model carries, its SHA-256 and, for `default`, the default mark.

    Raises:
        WeightsError: The card names another model than the file.
    """
    path = Path(path)
    card = Card.of_export(path)
    if card.name != path.stem:
        raise WeightsError(f"{path} holds the model {card.name}: rename the file to it")
    values = json.loads(card.to_json())
    values["sha256"] = sha256(path)
    if default:
        values["default"] = True
    sidecar = path.with_suffix(".json")
    write_json(sidecar, values)
    return sidecar


def _files() -> dict[str, Path]:
    """Return the model files by name; a file in an earlier folder hides its namesakes."""
    found: dict[str, Path] = {}
    for folder in folders():
        for path in sorted(folder.glob("*.onnx")):
            found.setdefault(path.stem, path)
    return found


def _sidecar(path: Path) -> dict[str, Any]:
    """Return what the card file beside a model says, {} where there is none."""
    sidecar = path.with_suffix(".json")
    try:
        values = json.loads(sidecar.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise WeightsError(f"the card file {sidecar} cannot be read: {error}") from error
    if not isinstance(values, dict):
        raise WeightsError(f"the card file {sidecar} holds no JSON object")
    return values


def _card(path: Path) -> Card:
    values = _sidecar(path)
    card = Card.from_json(json.dumps(values)) if values else Card.from_file(path)
    return card or Card(name=path.stem, system="unknown", notes="The file carries no card.")


def _check(path: Path) -> None:
    """Raise WeightsError where a file is not the one that its card file was written for."""
    expected = _sidecar(path).get("sha256")
    if expected is None:
        return
    status = path.stat()
    given = _sha256_once(path, status.st_mtime_ns, status.st_size)
    if given != expected:
        raise WeightsError(
            f"{path} is damaged or another file: its SHA-256 is {given}, its card file says "
            f"{expected}; install facefind again, or copy the file again"
        )


@lru_cache(maxsize=64)
def _sha256_once(path: Path, changed: int, size: int) -> str:
    return sha256(path)


def _unknown(name: str, names: list[str]) -> str:
    if not names:
        return f"there is no model {name!r}: {_none()}"
    near = did_you_mean(name, names) or "."
    return (
        f"there is no model {name!r}{near} At hand: {', '.join(names)}; or give the path of an "
        ".onnx file"
    )


def _none() -> str:
    return (
        "no model is at hand: this installation has none, give the path of an .onnx file or name "
        f"a folder of models in ${ENVIRONMENT}"
    )
