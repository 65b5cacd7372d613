"""Which families of models are tested, and how they are looked into; the documentation says the same."""

import csv
from pathlib import Path
from typing import NamedTuple

FILE = Path(__file__).with_name("tested.csv")
"""Made by ``python -m tests.support.supported`` from what the tests look into."""


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
    with FILE.open(encoding="utf-8", newline="") as file:
        return [Family(**row) for row in csv.DictReader(file)]
