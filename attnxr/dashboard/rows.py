"""What the views show, as plain lists and strings: Dataset in, rows out."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from attnxr.dashboard.answer import Answer
from attnxr.tokens import label


def token_chips(encodings: xr.Dataset) -> list[dict[str, Any]]:
    """One entry a token, in order.

    Parameters
    ----------
    encodings : xarray.Dataset
        What ``model.encode`` returns.

    Returns
    -------
    list of dict
        ``label`` (how the token is shown), ``special`` (whether the model put it there), ``joined`` (whether
        it goes on with the word before it) and ``title`` (what is said of it when the pointer rests on it).
    """
    names = _labels(encodings["token"].values, encodings["text"].values)
    special = encodings["is_special"].values.astype(bool)
    words = encodings["word"].values
    joined = np.zeros(len(words), dtype=bool)
    joined[1:] = (words[1:] == words[:-1]) & (words[1:] >= 0)
    return [
        {
            "label": name,
            "special": bool(special[i]),
            "joined": bool(joined[i]),
            "title": f"position {i}, token {encodings['token'].values[i]}, id {encodings['token_id'].values[i]}",
        }
        for i, name in enumerate(names)
    ]


def token_label(encodings: xr.Dataset, position: int) -> str:
    """How the token at a position is shown."""
    here = slice(position, position + 1)
    return _labels(encodings["token"].values[here], encodings["text"].values[here])[0]


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
        ``heads`` (their number), ``own`` (rank and distance of the own token, by head) and ``cells`` (by rank
        and head: token, distance, mark; the mark is "own", "text" or empty).
    """
    here = answer.neighbors.isel(layer=layer, position=position).transpose("rank", "head")
    own = here["neighbor_id"].values == int(here["token_id"].values)
    marks = np.where(own, "own", np.where(here["in_sequence"].values, "text", ""))
    names = _labels(here["neighbor"].values.ravel(), here["neighbor_text"].values.ravel())
    cells = zip(names, here["distance"].values.ravel(), marks.ravel(), strict=True)
    return {
        "heads": answer.n_heads,
        "own": [
            [f"{rank:,}", number(distance)]
            for rank, distance in zip(here["own_rank"].values, here["own_distance"].values, strict=True)
        ],
        "cells": _by_rank([[name, number(distance), str(mark)] for name, distance, mark in cells], answer),
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
    here = answer.sequence.isel(layer=layer, position=position).transpose("rank", "head")
    encodings = answer.encodings
    names = _labels(encodings["token"].values, encodings["text"].values)
    same = encodings["token_id"].values == encodings["token_id"].values[position]
    cells = [
        [names[other], number(distance), "own" if same[other] else "", str(other)]
        for other, distance in zip(here["other_position"].values.ravel(), here["distance"].values.ravel(), strict=True)
    ]
    return {"heads": answer.n_heads, "own": [], "cells": _by_rank(cells, answer)}


def number(distance: float) -> str:
    """Format a distance: three decimals, or fewer where the number is large."""
    size = abs(float(distance))
    decimals = 3 if size < 10 else 2 if size < 100 else 1
    text = f"{distance:.{decimals}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def _by_rank(cells: list[list[str]], answer: Answer) -> list[list[list[str]]]:
    return [cells[i : i + answer.n_heads] for i in range(0, len(cells), answer.n_heads)]


def _labels(tokens: np.ndarray, texts: np.ndarray) -> list[str]:
    return [label(str(token), str(text)) for token, text in zip(tokens, texts, strict=True)]
