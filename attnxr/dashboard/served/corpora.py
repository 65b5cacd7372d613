"""The corpus whose heads a server shows: which one, read once for all visitors."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from threading import Lock

from attnxr.corpus.demo import demo_store
from attnxr.dashboard.served.shelf import EMBEDDED, offered
from attnxr.dashboard.session.corpus import Corpus
from attnxr.errors import InputError

_OPTION = "--corpus"
_logger = logging.getLogger(__name__)


def split(arguments: Sequence[str]) -> tuple[list[str], str | None]:
    """Tell the models from the corpus among what a server was started with.

    Parameters
    ----------
    arguments : sequence of str
        Names of models and, anywhere between them, ``--corpus`` with the place of a corpus after it.

    Returns
    -------
    models : list of str
    corpus : str or None
        Where it is; None where none is given.

    Raises
    ------
    InputError
        If nothing comes after ``--corpus``, or there are two.
    """
    models: list[str] = []
    given: list[str] = []
    rest = iter(arguments)
    for each in rest:
        name, is_one, place = each.partition("=")
        if name != _OPTION:
            models.append(each)
        elif place := place if is_one else next(rest, ""):
            given.append(place)
        else:
            raise InputError(f"{_OPTION} was given without a corpus; expected the folder or URL of one after it.")
    if len(given) > 1:
        raise InputError(f"{_OPTION} was given {len(given)} times; a server shows the heads of one corpus.")
    return models, given[0] if given else None


class _Corpora:
    """Corpora by their places, each read when it is first asked for."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._read: dict[str, Corpus | InputError] = {}

    def __call__(self, place: str) -> Corpus:
        """Give a corpus; what could not be read stays so, and the log says why once. Raises InputError."""
        with self._lock:
            if place not in self._read:
                try:
                    self._read[place] = Corpus.read(place)
                except InputError as error:
                    self._read[place] = error
                    _logger.error("%s", error)
            found = self._read[place]
        if isinstance(found, InputError):
            raise found
        return found


CORPORA = _Corpora()


def asked_for(arguments: Sequence[str]) -> tuple[list[str], str | None]:
    """Tell which models a server offers, and the heads of which corpus it shows.

    Parameters
    ----------
    arguments : sequence of str
        As of `split`.

    Returns
    -------
    models : list of str
        As of `attnxr.dashboard.served.shelf.offered`.
    corpus : str or None
        Where it is: the one given, else the demo's where it was made and its model is offered. Without one no heads are
        shown, and the page says how to make it.

    Raises
    ------
    InputError
        As by `split` and `offered`.
    """
    named, place = split(arguments)
    models, demo = offered(named), demo_store()
    if place is None and EMBEDDED in models and demo.exists():
        with suppress(InputError):  # of which the log says why
            CORPORA(str(demo))
            place = str(demo)
    return models, place
