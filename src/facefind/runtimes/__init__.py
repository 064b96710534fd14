"""One call, images to candidates, whatever library runs the model and whoever made its file."""

from facefind.runtimes.card import METADATA_KEY, STATISTICS_KEY, Card, Suppression
from facefind.runtimes.contract import Candidates, Precision, PrecisionName, Runtime
from facefind.runtimes.model import RuntimeName, gains_from, installed, open_model

__all__ = [
    "METADATA_KEY",
    "STATISTICS_KEY",
    "Candidates",
    "Card",
    "Precision",
    "PrecisionName",
    "Runtime",
    "RuntimeName",
    "Suppression",
    "gains_from",
    "installed",
    "open_model",
]
