"""What a head's writing does: the lists of the panel, as plain strings and numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from attnxr.dashboard.rows.neighbors import number
from attnxr.plots.measures import whole_text_measure
from attnxr.tokens import label

Row = tuple[str, float, str, str]
"""Name, length of the bar as a share of the list's width (−1 … 1), number and note."""

_ROLES = {
    "self_attention_score": "itself",
    "prev_token_score": "the previous token",
    "next_token_score": "the next token",
    "first_token_score": "the first token",
    "special_token_score": "special tokens",
    "duplicate_token_score": "the same token elsewhere",
    "induction_score": "what followed it before",
}

_LEAST_SHARE = -10.0
_REPLACEMENTS = {
    "zero": "nothing",
    "mean": "its mean over the text",
    "neighbor 1": "the nearest word, “{}”",
    "own": "its own token, “{}”",
    "words": "words that add up to it",
}


def bar_list(title: str, columns: tuple[str, str, str], rows: list[Row], wait: str = "") -> dict[str, Any]:
    """One list of `attnxr.dashboard.parts.BarLists`; `wait` is said where there are no rows."""
    return {"title": title, "columns": columns, "rows": rows, "wait": wait}


def word_rows(decomposition: xr.Dataset, head: int, position: int) -> list[Row]:
    """The words that add up to what a head wrote.

    Parameters
    ----------
    decomposition : xarray.Dataset
        What `attnxr.decompose` returned for one layer.
    head, position : int
        Indices along ``head`` and ``position``.

    Returns
    -------
    list of Row
        Each word, its weight, and the share that it and those before it explain.
    """
    here = decomposition.isel(layer=0, head=head, position=position)
    columns = (here[name].values for name in ("entry_id", "entry", "entry_text", "weight", "explained"))
    words = [row for row in zip(*columns, strict=True) if row[0] >= 0]
    largest = max((weight for _, _, _, weight, _ in words), default=0.0)
    return [
        (label(token, text), float(weight / largest) if largest else 0.0, number(weight), f"{explained:.0%}")
        for _, token, text, weight, explained in words
    ]


def role_rows(roles: xr.Dataset, layer: int, head: int) -> list[Row]:
    """Where a head's attention goes: each place, the mean share of attention, and how many positions it is over.

    Parameters
    ----------
    roles : xarray.Dataset
        What `attnxr.roles` returned for the text.
    layer, head : int
        Indices along ``layer`` and ``head``.
    """
    here = roles.isel(layer=layer, head=head)
    rows = []
    for name, words in _ROLES.items():
        count = int(here["n_positions"].sel(measure=name))
        share = float(here[name])
        if count:
            rows.append((words, share, f"{share:.2f}", f"over {count:,} token{'s' * (count != 1)}"))
    return rows


def role_note(roles: xr.Dataset, layer: int, head: int) -> str:
    """How far a head looks, and how spread its attention is, in words."""
    here = roles.isel(layer=layer, head=head)
    distance, entropy = float(here["qk_distance"]), float(here["pattern_entropy"])
    return f"{distance:.1f} tokens away, spread over about {np.exp(entropy):.1f}"


def promoted_rows(promoted: xr.Dataset, head: int, position: int) -> list[Row]:
    """The words whose logits a head raises most, then those that it lowers most.

    Parameters
    ----------
    promoted : xarray.Dataset
        What `attnxr.promoted` returned for one layer.
    head, position : int
        Indices along ``head`` and ``position``.
    """
    here = promoted.isel(layer=0, head=head, position=position)
    found = []
    for kind in ("promoted", "suppressed"):
        columns = (here[f"{kind}{part}"].values for part in ("", "_text", "_logit"))
        found += [(label(token, text), float(logit), kind) for token, text, logit in zip(*columns, strict=True)]
    largest = max(abs(logit) for _, logit, _ in found)
    return [(name, logit / largest if largest else 0.0, f"{logit:+.2f}", kind) for name, logit, kind in found]


def effect_rows(effects: xr.Dataset) -> list[Row]:
    """How the model's output changes where a head writes something else at a token.

    Parameters
    ----------
    effects : xarray.Dataset
        What `attnxr.effects` returned for one layer, head and position, with a replacement ``words`` besides.

    Returns
    -------
    list of Row
        What is put there, the change, and the share that is recovered.
    """
    here = effects.isel(layer=0, head=0, position=0)
    measure = whole_text_measure(effects)
    changes = here[measure].values
    recovered = here["recovered"].sel(measure=measure).values
    largest = float(np.nanmax(changes))
    rows = []
    for i, kind in enumerate(here["replacement"].values.tolist()):
        word = label(here["replacement_token"].values[i], here["replacement_text"].values[i])
        name = _REPLACEMENTS[kind].format(word)
        share = "" if kind == "mean" or np.isnan(recovered[i]) else _share(float(recovered[i]))
        rows.append((name, float(changes[i]) / largest if largest else 0.0, _change(float(changes[i])), share))
    return rows


def effect_line(effect: xr.Dataset) -> str:
    """What a word in the place of what a head wrote does, in words, given `attnxr.effects` of that one replacement."""
    measure = whole_text_measure(effect)
    change, share = float(effect[measure]), float(effect["recovered"].sel(measure=measure))
    if np.isnan(share):
        return "none here: with the head's mean in its place the output stays as it is"
    word = label(effect["replacement_token"].item(), effect["replacement_text"].item())
    return f"“{word}” in its place recovers {_share(share)} (the output changes by {_change(change)})"


def _share(value: float) -> str:
    """In percent; there is no bound below, and where the mean changes hardly anything the digits say nothing."""
    return (f"{value:.0%}" if value >= _LEAST_SHARE else f"< {_LEAST_SHARE:.0%}").replace("-", "−")


def _change(value: float) -> str:
    return "0" if value == 0 else f"{value:.4f}" if value >= 1e-3 else f"{value:.0e}"
