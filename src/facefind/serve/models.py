"""The models of a service by name: opened when they are first needed, closed when others are."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from facefind import protocols, weights
from facefind.detector import FaceDetector
from facefind.errors import DataError, ProtocolError, did_you_mean
from facefind.merging import check_protocol
from facefind.runtimes import Card
from facefind.serve.errors import RequestError
from facefind.serve.settings import Settings

__all__ = ["Choice", "Models"]

_DETECTORS = 32  # settings of an open model that are kept: they share its weights


@dataclass(frozen=True)
class Choice:
    """How a picture is run: pictures of the same choice may go through a model together."""

    model: str
    protocol: str
    min_score: float
    max_faces: int | None = None
    mesh: bool = False


class _Open:
    """A model in memory, and its detectors by choice."""

    def __init__(self, first: FaceDetector) -> None:
        self.first = first
        self.decoder: Any = None
        self.detectors: OrderedDict[Choice, FaceDetector] = OrderedDict()


class Models:
    """The models that requests may name.

    Args:
        settings: Which they are, and what runs them.

    Attributes:
        default: Name of the one that is taken where a request names none.

    Raises:
        DataError: two models share a name, or a protocol fits none of them.
        WeightsError: a model is not there.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._places, cards = _at_hand(settings.models)
        self.default = next(iter(self._places))
        self._lock = threading.Lock()
        self._loading = {name: threading.Lock() for name in self._places}
        self._open: OrderedDict[str, _Open] = OrderedDict()
        self.loads = 0
        self._cards = {name: card or self._opened(name).first.card for name, card in cards.items()}
        self._protocols = {name: self._fitting(card) for name, card in self._cards.items()}

    def listed(self) -> list[dict[str, Any]]:
        """Of each model its protocols and threshold, and what it gives, as plain values."""
        with self._lock:
            loaded = set(self._open)
        return [
            {
                "name": name,
                "system": card.system,
                "protocols": list(self._protocols[name]),
                "protocol": self._protocols[name][0],
                "threshold": self._threshold(card),
                "landmarks": card.landmarks,
                "mesh": bool(card.mesh),
                "loaded": name in loaded,
            }
            for name, card in self._cards.items()
        ]

    def choose(
        self,
        model: str | None = None,
        protocol: str | None = None,
        min_score: float | None = None,
        max_faces: int | None = None,
        mesh: bool = False,
        landmarks: bool = False,
    ) -> Choice:
        """How the pictures of a request are run, by what it names; the defaults for the rest.

        Raises:
            RequestError: there is no such model or protocol, or the model gives no meshes, or no
                `landmarks`, which are needed.
        """
        name = self.default if model in (None, "", "default") else str(model)
        card = self._cards.get(name)
        if card is None:
            raise RequestError(
                404,
                "unknown-model",
                f"there is no model {name!r}{did_you_mean(name, self._cards) or '.'} "
                f"Here are: {', '.join(self._cards)}",
            )
        allowed = self._protocols[name]
        way = (protocol or allowed[0]).strip().lower()
        if way not in allowed:
            raise RequestError(
                422,
                "unknown-protocol",
                f"protocol={way!r} is not served with {name}: take one of {', '.join(allowed)}",
            )
        if mesh and not card.mesh:
            having = [other.name for other in self._cards.values() if other.mesh]
            raise RequestError(
                422, "no-mesh", f"{name} gives no meshes; {_which(having)}, or leave mesh out"
            )
        if landmarks and not card.landmarks:
            having = [other.name for other in self._cards.values() if other.landmarks]
            raise RequestError(
                422, "no-landmarks", f"{name} finds no landmarks to align by; {_which(having)}"
            )
        if min_score is None:
            min_score = self._settings.min_score
        if min_score is None and (protocol or self._settings.protocol):
            min_score = protocols.get(way).min_score  # as of `FaceDetector`
        score = card.min_score if min_score is None else min_score
        return Choice(name, way, score, max_faces, mesh)

    def detector(self, choice: Choice) -> FaceDetector:
        """The detector of a choice; opens its model where it is not in memory.

        Raises:
            WeightsError, RuntimeUnavailableError: it cannot be opened.
        """
        opened = self._opened(choice.model)
        with self._loading[choice.model]:
            detector = opened.detectors.get(choice)
            if detector is None:
                detector = opened.detectors[choice] = self._detector(choice, opened)
                if len(opened.detectors) > _DETECTORS:
                    opened.detectors.popitem(last=False)
            else:
                opened.detectors.move_to_end(choice)
        return detector

    def _detector(self, choice: Choice, opened: _Open) -> FaceDetector:
        """A detector that shares the runtime of one that is open."""
        if choice.mesh and opened.decoder is None:
            place = self._places[choice.model]
            opened.decoder = FaceDetector(place, mesh=True, **self._settings.running()).mesh_decoder
        running = self._settings.running()
        return FaceDetector(
            opened.first.runtime,
            protocol=choice.protocol,
            min_score=choice.min_score,
            max_faces=choice.max_faces,
            mesh=opened.decoder if choice.mesh else False,
            **{name: running[name] for name in ("batch_size", "max_pixels", "truncated")},
        )

    def _opened(self, name: str) -> _Open:
        with self._lock:
            if name in self._open:
                self._open.move_to_end(name)
                return self._open[name]
        with self._loading[name]:
            with self._lock:
                if name in self._open:
                    return self._open[name]
            opened = _Open(FaceDetector(self._places[name], **self._settings.running()))
            with self._lock:
                self._open[name] = opened
                self.loads += 1
                while len(self._open) > self._settings.loaded:
                    self._open.popitem(last=False)  # memory is free once its last request is done
        return opened

    def _threshold(self, card: Card) -> float:
        score = self._settings.min_score
        return card.min_score if score is None else score

    def _fitting(self, card: Card) -> tuple[str, ...]:
        """Names of the protocols that a model is served with, its default one first."""
        first = self._settings.protocol or card.protocol
        fitting = []
        for name in dict.fromkeys((first, *self._settings.protocols)):
            try:
                check_protocol(card, protocols.get(name))
            except ProtocolError:
                if name == first:
                    raise
                protocols.get(name)  # an unknown name is a mistake, whatever the model
                continue
            fitting.append(name)
        return tuple(fitting)


def _at_hand(models: tuple[str, ...]) -> tuple[dict[str, str | Path], dict[str, Card | None]]:
    """Where models lie, and their cards, by name; the default one first."""
    known = {card.name: card for card in weights.available()}
    if not models:
        first = weights.default()
        models = (first, *(name for name in known if name != first))
    places: dict[str, str | Path] = {}
    cards: dict[str, Card | None] = {}
    for model in models:
        model = weights.default() if model == "default" else model
        path = weights.find(model)
        card = known.get(model) or Card.from_file(path)
        name = path.stem
        if name in places:
            raise DataError(f"two models are called {name}: rename the file of one")
        places[name] = model if model in known else path
        cards[name] = None if card is None else replace(card, name=name)
    return places, cards


def _which(names: list[str]) -> str:
    return (
        f"{' and '.join(names)} does"
        if len(names) == 1
        else (f"{', '.join(names)} do" if names else "no model here does")
    )
