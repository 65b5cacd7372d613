"""Which families of models are tested, how they are looked into, and what came of the others when they were tried.

The documentation says the same.
"""

import csv
from pathlib import Path
from typing import NamedTuple

FILE = Path(__file__).with_name("tested.csv")
"""Made by ``python -m tests.support.supported`` from what the tests look into."""

TRIED = Path(__file__).with_name("tried.csv")
"""Made by ``python -m tests.support.tried``, which tries all other model types of text."""


class Family(NamedTuple):
    """A family of models, as tested.

    Attributes
    ----------
    family : str
        As people call it.
    model_type : str
        As the configuration of its models calls it.
    door : str
        How its attention is seen: ``first``, transformers' attention interface, or ``second``, the torch functions
        that it calls, see `attnxr.probe.seen`.
    mask : str
        Which tokens a token sees: ``causal`` or ``both ways``.
    positions : str
        Where positions come from: ``learned`` (a term added to the embeddings, sinusoids too), ``rotary``,
        ``relative`` (a bias of the scores by distance), or ``computed`` by no module.
    values, keys, queries : str
        By which way the vocabulary's encodings in that space are made, see `attnxr.vocabulary.paths`.
    """

    family: str
    model_type: str
    door: str
    mask: str
    positions: str
    values: str
    keys: str
    queries: str


def read_families() -> list[Family]:
    """Read the families that are tested, in the order of the documentation."""
    return [Family(**row) for row in _rows(FILE)]


class Tried(NamedTuple):
    """What came of a model type that is not among the tested families, when a small random model of it was tried.

    Attributes
    ----------
    model_type : str
        As the configuration of its models calls it.
    outcome : str
        ``looked into``: it passes the checks of `attnxr.Model.verify`. ``refused``: attnxr says why it cannot be right.
        ``broken``: it fails in another way. ``not ended``: it ran for too long. ``not built``: no small model of it
        could be made, which says nothing of attnxr.
    reason : str
        The door, see `Family`, or the reason.
    transformers : str
        The version of transformers that it was tried with.
    """

    model_type: str
    outcome: str
    reason: str
    transformers: str


def read_tried() -> list[Tried]:
    """Read what came of the model types that are not tested, in alphabetical order."""
    return [Tried(**row) for row in _rows(TRIED)]


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
