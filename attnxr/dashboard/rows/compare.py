"""What the comparison shows, as plain lists and strings."""

from __future__ import annotations

from typing import Any

import numpy as np

from attnxr.dashboard.rows.neighbors import number
from attnxr.dashboard.session.answer import Answer, Request
from attnxr.dashboard.session.comparing import Comparison
from attnxr.plots.grids import token_label
from attnxr.tokens import label

_MOST_NAMED = 12


def neighbor_lists(comparison: Comparison, layer: int, head: int, position: int) -> dict[str, Any]:
    """The neighbours of one layer, head and token in both answers, side by side.

    Parameters
    ----------
    comparison : Comparison
        The two answers.
    layer, head, position : int
        What is chosen in the first.

    Returns
    -------
    dict
        ``lists``, one for each answer: ``side`` (which of the two), ``title``, ``own`` (rank and distance of the own
        token) and ``rows`` (token, distance, and its rank in the other list, 0 where that has it not); ``note``, a
        sentence on how the two differ, or why there is one only.
    """
    a, b = comparison.a, comparison.b
    counterpart = int(comparison.counterpart[position])
    lists = [_list(a, layer, head, position)]
    sides = _sides(a.request, b.request)
    row = comparison.row(position)
    if comparison.differences is None and counterpart >= 0:
        lists.append(_list(b, layer, head, counterpart))
        note = comparison.refusal
    elif row is None or comparison.differences is None:
        name = f"“{token_label(a.encodings, position)}” at position {position}"
        note = comparison.refusal or f"{name} has no counterpart in the other text."
    else:
        lists.append(_list(b, layer, head, counterpart))
        here = comparison.differences.isel(layer=layer, head=a.column(head), position=row)
        n = int(here.attrs["n"])
        note = f"{round(float(here['overlap']) * n)} of {n} are in both; rank-biased overlap {float(here['rbo']):.2f}"
        if "attention_distance" in here:
            note += f"; {100 * float(here['attention_distance']):.0f} % of the attention goes elsewhere"
        note += "."
    names = [[key for key, *_ in each["keyed"]] for each in lists]
    for i, each in enumerate(lists):
        others = names[1 - i] if len(lists) > 1 else []
        ranks = {key: rank for rank, key in enumerate(others, start=1)}
        each["rows"] = [[shown, distance, ranks.get(key, 0)] for key, shown, distance in each.pop("keyed")]
        each["side"] = sides[i]
    return {"lists": lists, "note": note}


def _sides(a: Request, b: Request) -> tuple[str, str]:
    """What tells one from the other, in a word or two."""
    if a.model != b.model:
        return a.model, b.model
    if a.text != b.text:
        return "this text", "the other text"
    if a.question != b.question:
        return "this question", "the other question"
    return ("mask off", "mask on") if b.causal else ("mask on", "mask off")


def difference_note(comparison: Comparison) -> str:
    """Which tokens have no counterpart; empty where all have one, or nothing can be compared."""
    if comparison.differences is None:
        return ""
    a, b = comparison.a, comparison.b
    alone_a = np.flatnonzero(comparison.counterpart < 0)
    alone_b = np.setdiff1d(np.arange(b.n_positions), comparison.counterpart)
    said = [
        f"{_named(each, alone)} of {which}"
        for each, alone, which in ((a, alone_a, "this answer"), (b, alone_b, "the other"))
        if len(alone)
    ]
    return f"Without counterpart: {'; '.join(said)}." if said else ""


def _named(answer: Answer, positions: np.ndarray) -> str:
    names = [f"“{token_label(answer.encodings, int(at))}” ({at})" for at in positions[:_MOST_NAMED]]
    more = len(positions) - len(names)
    return ", ".join(names) + (f" and {more:,} more" if more else "")


def _list(answer: Answer, layer: int, head: int, position: int) -> dict[str, Any]:
    here = answer.near.isel(layer=layer, head=answer.column(head), position=position)
    columns = (here[name].values for name in ("neighbor", "neighbor_text", "distance"))
    return {
        "title": f"“{token_label(answer.encodings, position)}” at position {position}",
        "own": [f"{int(here['own_rank']):,}", number(float(here["own_distance"]))],
        "keyed": [
            [str(token), label(str(token), str(text)), number(far)] for token, text, far in zip(*columns, strict=True)
        ],
    }
