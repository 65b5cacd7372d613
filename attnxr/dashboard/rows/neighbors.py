"""What the views show, as plain lists and strings: Dataset in, rows out."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import numpy as np
import xarray as xr

from attnxr.dashboard.session.answer import COLUMN_NAMES, Answer
from attnxr.plots.grids import token_names
from attnxr.tokens import label, pieces
from attnxr.vocabulary.paths import Name

_CHECKS = {"reconstruction": "W_O z", "identity": "identity", "unchanged": "output unchanged"}
_CHECKS_HELP = (
    "Largest relative errors on a short random text: of W_O z, what the heads wrote sent through the output "
    "projection, against what each layer's attention puts out without attnxr; of identity, the vocabulary encodings of "
    "the text's own tokens, against the vectors that the model itself computed for them; of output unchanged, the "
    "model's output while attnxr looks on, against its output alone."
)
PATHS: dict[Name, str] = {
    "factored": "put together from the parts of the embedding",
    "shared": "computed in one pass for all positions",
    "reference": "computed by the model itself, one position at a time",
}


def token_chips(encodings: xr.Dataset) -> list[dict[str, Any]]:
    """One entry a token, in order.

    Parameters
    ----------
    encodings : xarray.Dataset
        What ``model.encode`` returns.

    Returns
    -------
    list of dict
        ``label`` (what stands on it), ``part`` (which of the tokens it is that are the bytes of one character, as
        ``2/3``: the first one's label is that character, and the others have none), ``name`` (what the token is called
        by itself), ``special`` (whether the model put it there), ``generated`` (whether the model wrote it), ``joined``
        (whether it goes on with the word before it) and ``title`` (what is said of it when the pointer rests on it).
    """
    shown = pieces(encodings["token"].values, encodings["text"].values)
    special = encodings["is_special"].values.astype(bool)
    words = encodings["word"].values
    n_own = len(words) - int(encodings.attrs.get("generated", 0))
    joined = np.zeros(len(words), dtype=bool)
    joined[1:] = (words[1:] == words[:-1]) & (words[1:] >= 0)
    return [
        {
            "label": piece.name if piece.count == 1 else piece.character if piece.number == 1 else "",
            "part": f"{piece.number}/{piece.count}" if piece.count > 1 else "",
            "name": piece.name,
            "special": bool(special[i]),
            "generated": i >= n_own,
            "joined": bool(joined[i]) or piece.number > 1,
            "title": f"position {i}, token {encodings['token'].values[i]}, id {encodings['token_id'].values[i]}"
            + (f", part {piece.number} of {piece.count} of {piece.character}" if piece.count > 1 else "")
            + (", generated" if i >= n_own else ""),
        }
        for i, piece in enumerate(shown)
    ]


def chips_help(chips: list[dict[str, Any]]) -> str:
    """What the chips of a text are, as of `token_chips`; of what is not among them nothing is said."""
    said = "The pieces the model reads. Pieces that touch belong to one word; the tokenizer adds the smaller ones."
    if any(chip["part"] for chip in chips):
        said += " Of several that are the bytes of one character, the first shows it, and each says which it is."
    if any(chip["generated"] for chip in chips):
        said += " Underlined ones the model wrote itself."
    return said


def neighbor_table(answer: Answer, layer: int, position: int) -> dict[str, Any]:
    """Vocabulary entries nearest to what each head of a layer wrote at a position.

    Parameters
    ----------
    answer : Answer
        The results.
    layer, position : int
        Indices along ``layer`` and ``position``.

    Returns
    -------
    dict
        ``heads`` (the number of columns), ``name`` (what a column is, empty where there is but one), ``own`` (rank and
        distance of the own token, by head) and ``cells`` (by rank
        and head: token, distance, mark; the mark is "own", "text" or empty).
    """
    near = answer.near
    here = partial(_at, near, layer, position)
    own = here("neighbor_id") == int(near["token_id"].values[position])
    marks = np.where(own, "own", np.where(here("in_sequence"), "text", ""))
    names = _labels(here("neighbor").ravel(), here("neighbor_text").ravel())
    cells = zip(names, here("distance").ravel(), marks.ravel(), strict=True)
    return {
        "heads": answer.n_columns,
        "name": COLUMN_NAMES[answer.columns],
        "own": [
            [f"{rank:,}", number(distance)]
            for rank, distance in zip(here("own_rank"), here("own_distance"), strict=True)
        ],
        "cells": _by_rank([[name, number(distance), str(mark)] for name, distance, mark in cells], answer.n_columns),
    }


def sequence_table(answer: Answer, layer: int, position: int) -> dict[str, Any]:
    """Other tokens of the text, by how near each head of a layer wrote to what it wrote at a position.

    Parameters
    ----------
    answer : Answer
        The results.
    layer, position : int
        Indices along ``layer`` and ``position``.

    Returns
    -------
    dict
        As of `neighbor_table`, without ``own``; each cell says last at which position its token stands.
    """
    here = partial(_at, answer.sequence, layer, position)
    encodings = answer.encodings
    names = token_names(encodings)
    same = encodings["token_id"].values == encodings["token_id"].values[position]
    cells = [
        [names[other], number(distance), "own" if same[other] else "", str(other)]
        for other, distance in zip(here("neighbor_position").ravel(), here("distance").ravel(), strict=True)
    ]
    return {"heads": answer.n_heads, "name": "head", "own": [], "cells": _by_rank(cells, answer.n_heads)}


def fidelity(checks: xr.Dataset) -> dict[str, Any]:
    """How exactly what is said of a model agrees with the model itself.

    Parameters
    ----------
    checks : xarray.Dataset
        What ``model.verify`` returns.

    Returns
    -------
    dict
        ``passed``, ``lead`` (the outcome in words), ``figures`` (of each check its name with the largest error of all
        layers or spaces, and whether that is within the tolerance) and ``help`` (two sentences).
    """
    passed, tolerance = bool(checks.attrs["passed"]), float(checks.attrs["tolerance"])
    figures = []
    for name, shown in _CHECKS.items():
        largest = float(np.max(checks[name].values))  # unlike xarray's, a NaN stays one
        within = largest <= tolerance
        figures.append([f"{shown} {_error(largest)}" + ("" if within else f" (allowed {_error(tolerance)})"), within])
    spaces: dict[Name, list[str]] = {}
    for space, path in json.loads(checks.attrs["path"]).items():
        spaces.setdefault(path, []).append(space)
    ways = "; ".join(f"{PATHS[path]} for {_listed(names)} (path: {path})" for path, names in spaces.items())
    return {
        "passed": passed,
        "lead": "checked:" if passed else "does not agree:",
        "figures": figures,
        "help": [_CHECKS_HELP, f"At most {_error(tolerance)} is allowed, and the vocabulary encodings are {ways}."],
    }


def number(distance: float) -> str:
    """Format a distance: three decimals, or fewer where the number is large."""
    size = abs(float(distance))
    decimals = 3 if size < 10 else 2 if size < 100 else 1
    text = f"{distance:.{decimals}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def _error(error: float) -> str:
    return f"{error:.1e}".replace(".0e", "e") if error else "0"


def _listed(names: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _at(dataset: xr.Dataset, layer: int, position: int, name: str) -> np.ndarray:
    """Values of one variable at a layer and position, by rank and head, or by head alone.

    Of a Dataset xarray would select all variables and coordinates, which takes ten times as long.
    """
    here = dataset.variables[name].isel(layer=layer, position=position)
    return here.transpose(*(dim for dim in ("rank", "head") if dim in here.dims)).values


def _by_rank(cells: list[list[str]], columns: int) -> list[list[list[str]]]:
    return [cells[i : i + columns] for i in range(0, len(cells), columns)]


def _labels(tokens: np.ndarray, texts: np.ndarray) -> list[str]:
    return [label(str(token), str(text)) for token, text in zip(tokens, texts, strict=True)]
