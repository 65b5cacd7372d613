"""An answer out of a file: what is in it stands for itself, and what is not needs the model it came from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from attnxr.errors import AttnxrError, InputError
from attnxr.model import Model
from attnxr.saved import Saved, read_apart
from attnxr.search import METRICS

_MOST_TEXT = 1_000_000  # characters
_ASKED = {"of": "encoding", "space": "value", "vocab_layer": "input"}


@dataclass(frozen=True)
class Opened:
    """A file that a visitor has opened in place of a text.

    Parameters
    ----------
    digest : str
        Of its bytes: two files are the same if theirs are.
    name : str
        What the visitor calls it.
    saved : Saved
        What is in it.
    """

    digest: str
    name: str = field(compare=False)
    saved: Saved = field(compare=False, repr=False)

    @property
    def inputs(self) -> dict[str, Any]:
        """Values of the inputs, as far as the file says them: text, metric, positional, causal."""
        attrs = self.saved.attrs
        said: dict[str, Any] = {"text": attrs["text"], "causal": bool(attrs["causal"])}
        if self.saved.neighbors is not None:
            asked = self.saved.neighbors.attrs
            said |= {"metric": asked["metric"], "positional": bool(asked["positional"])}
        return said

    @property
    def model(self) -> str:
        """Name of the model that it came from."""
        return str(self.saved.attrs["model"])

    @property
    def fingerprint(self) -> str:
        """Fingerprint of that model."""
        return str(self.saved.attrs["fingerprint"])


def open_file(path: Path, name: str) -> Opened:
    """Read a file that somebody has sent.

    Parameters
    ----------
    path : pathlib.Path
        Where it lies.
    name : str
        What he calls it.

    Returns
    -------
    Opened
        What is in it.

    Raises
    ------
    InputError
        If it is not what `attnxr.saved.read` takes, or not the whole of one text, as this page shows it.
    """
    saved = read_apart(path)
    for dataset in (saved.encodings, saved.neighbors):
        if dataset is not None:
            _check_whole(dataset)
    if saved.neighbors is not None:
        _check_asked(saved.neighbors)
    with path.open("rb") as file:
        return Opened(hashlib.file_digest(file, "sha256").hexdigest(), name, saved)


def _check_whole(dataset: xr.Dataset) -> None:
    if "text_id" in dataset.coords:
        raise InputError("The file has several texts in it; this page shows one. Save them one by one.")
    if len(dataset.attrs["text"]) > _MOST_TEXT or len(dataset.attrs["model"]) > 500:
        raise InputError(f"The file's text has more than {_MOST_TEXT:,} characters, or its model a very long name.")
    ids = [id for text in json.loads(dataset.attrs["token_ids"]) for id in text]
    wanted = {"layer": None, "head": None, "position": len(ids)}
    for dim, size in wanted.items():
        labels = dataset[dim].values if dim in dataset.dims else None
        if labels is None or not np.array_equal(labels, np.arange(len(labels) if size is None else size)):
            found = "none" if labels is None else str(labels.tolist())
            raise InputError(
                f"The file has a part of a result ({dim}: {found:.80}); this page shows all of it. Save the whole of "
                "what Model.encode and Model.neighbors return."
            )


def _check_asked(near: xr.Dataset) -> None:
    for name, value in _ASKED.items():
        if near.attrs.get(name) != value:
            raise InputError(
                f"The neighbours in the file were found with {name}={near.attrs.get(name)!r}; this page shows those "
                f"with {name}={value!r}. Save what model.neighbors(encodings) returns."
            )
    if near.attrs["metric"] not in METRICS:
        raise InputError(f"The neighbours in the file have the metric {near.attrs['metric']!r:.80}, which is none.")
    k, vocab_size = near.sizes["rank"], int(near.attrs["vocab_size"])
    ids = near["neighbor_id"].values
    if not np.array_equal(near["rank"].values, np.arange(1, k + 1)) or ids.min() < 0 or ids.max() >= vocab_size:
        raise InputError("The neighbours in the file are not of the ranks 1, 2, …, or of ids beyond the vocabulary.")


def model_for(opened: Opened, offered: str, load: Callable[[str], Model], what: str) -> Model:
    """Give the model that a file came from, if this server has it.

    Parameters
    ----------
    opened : Opened
        The file.
    offered : str
        Name of the server's model that is chosen; no other one is loaded, whatever the file says.
    load : callable
        Gives the model of a name.
    what : str
        What it is needed for, for the message.

    Returns
    -------
    Model
        With the same fingerprint.

    Raises
    ------
    InputError
        If the server has no such model.
    """
    source = f"the model {opened.model!r} (fingerprint {opened.fingerprint}) that {opened.name} came from"
    if offered != opened.model:
        raise InputError(f"{what} needs {source}, and this server does not offer it. What the file holds is shown.")
    try:
        model = load(offered)
    except AttnxrError as error:
        raise InputError(f"{what} needs {source}, and this server cannot load it: {error}") from error
    if model.fingerprint != opened.fingerprint:
        raise InputError(
            f"{what} needs {source}; this server's {offered!r} has other weights (fingerprint {model.fingerprint}). "
            "What the file holds is shown."
        )
    return model
