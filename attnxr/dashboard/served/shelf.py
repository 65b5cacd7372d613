"""The models this server offers; each is loaded once and shared by all visitors."""

from __future__ import annotations

import gc
import os
import shlex
from collections.abc import Callable, Sequence
from threading import Lock

from threadpoolctl import threadpool_limits

from attnxr.dashboard.served.memory import give_back
from attnxr.errors import InputError
from attnxr.loading.by_name import is_cached
from attnxr.model import Model, load_model

EMBEDDED = "minilm"
BESIDE = "roberta-base"


class Shelf:
    """Models by name, loaded when first asked for.

    Parameters
    ----------
    load : callable
        Loads the model of a name.
    """

    def __init__(self, load: Callable[[str], Model] = load_model) -> None:
        self._load = load
        self._guard = Lock()
        self._locks: dict[str, Lock] = {}
        self._models: dict[str, Model] = {}

    def __call__(self, name: str) -> Model:
        """Give the model of a name. Who asks while it loads waits; what failed is tried anew.

        Parameters
        ----------
        name : str
            A name that `attnxr.load_model` takes.

        Returns
        -------
        Model
            The one loaded model of that name.
        """
        with self._guard:
            lock = self._locks.setdefault(name, Lock())
        with lock:
            if name not in self._models:
                self._models[name] = self._load(name)
                _keep_for_life()
                # What a page asks has threads of its own. NumPy's, for products as small as a head, would only contend.
                threadpool_limits(1, user_api="blas")
                give_back()
            return self._models[name]

    def loaded(self, name: str) -> Model | None:
        """Give the model of a name where it is loaded already, without waiting.

        Parameters
        ----------
        name : str
            A name that `attnxr.load_model` takes.

        Returns
        -------
        Model or None
            The model.
        """
        return self._models.get(name)


def _keep_for_life() -> None:
    """Have Python no longer look through what is there by now for garbage.

    By now torch, transformers and the model are: most of a million objects, which took half a second whenever a visitor
    had left, and nobody else was answered meanwhile.
    """
    gc.collect()
    gc.freeze()


SHELF = Shelf()


def offered(arguments: Sequence[str]) -> list[str]:
    """Names of the models to offer, the one to start with first.

    Parameters
    ----------
    arguments : sequence of str
        What the server was started with; without any, those of ``ATTNXR_MODELS`` are offered, with spaces between them
        as in a shell; without that, the embedded model and roberta-base.

    Returns
    -------
    list of str
        The names, each once.
    """
    try:
        arguments = arguments or shlex.split(os.environ.get("ATTNXR_MODELS", ""))
    except ValueError as error:
        raise InputError(
            f"ATTNXR_MODELS was set to {os.environ['ATTNXR_MODELS']!r:.200} ({error}); expected names of models with "
            "spaces between them, and quotes around one that has spaces."
        ) from error
    if arguments:
        return list(dict.fromkeys(arguments))
    return [BESIDE, EMBEDDED] if is_cached(BESIDE) else [EMBEDDED, BESIDE]
