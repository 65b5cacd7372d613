"""Two answers held against each other: what to ask for the second, and what the library says of the pair."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import xarray as xr

from attnxr.analysis.comparison import comparison
from attnxr.dashboard.session.answer import COLUMN_NAMES, Answer, Request
from attnxr.errors import InputError

CHANGES = {
    "causal": "the causal mask turned",
    "text": "another text",
    "target": "another target",
    "model": "another model",
    "question": "another question",
}
"""What the second answer may differ in from the first."""


@dataclass(frozen=True, eq=False)
class Comparison:
    """An answer held against another one.

    Parameters
    ----------
    a, b : Answer
        The one that is shown, and the other.
    differences : xarray.Dataset or None
        What `attnxr.comparison` says of them, but for ``attention_difference``, which would be as large as the
        attention of both answers.
    counterpart : numpy.ndarray
        Of each position of a, its position in b; −1 where it has none.
    refusal : str
        Why nothing can be said, where `differences` is None.
    """

    a: Answer
    b: Answer
    differences: xr.Dataset | None
    counterpart: np.ndarray
    refusal: str = ""

    def row(self, position: int) -> int | None:
        """Where a position of a stands in `differences`; None where it has no counterpart."""
        if self.differences is None or self.counterpart[position] < 0:
            return None
        return int(np.flatnonzero(self.differences["position"].values == position)[0])


def changed(
    answer: Answer, change: str, text: str, model: str, question: Mapping[str, Any] = MappingProxyType({})
) -> Request:
    """Derive the second request from the first.

    Parameters
    ----------
    answer : Answer
        The answer to the first.
    change : str
        One of `CHANGES`.
    text, model : str
        The other text, or target, and the other model.
    question : mapping
        ``of``, ``space``, ``vocab_layer`` and ``metric`` of the other question.

    Returns
    -------
    Request
        As the first, but for one thing.

    Raises
    ------
    InputError
        If there is no such request yet, or nothing would be different.
    """
    request = answer.request
    if change == "causal":
        return replace(request, causal=not answer.encodings.attrs["causal"])
    if change == "question":
        other = replace(request, **question)
        if other == request:
            raise InputError("That is the same question. Choose another one.")
        return other
    if change in ("text", "target"):
        if change == "target" and request.stack is None:
            raise InputError("No target is read here. Compare with another text.")
        if not text.strip():
            raise InputError(f"Type another {change} to compare with.")
        if text == getattr(request, change):
            raise InputError(f"That is the same {change}. Type another one.")
        if request.opened is not None and request.opened.model != request.model:
            raise InputError(
                f"The file's model {request.opened.model!r} is not on this server, so that it can read no other text."
            )
        other = replace(request, opened=None)
        return replace(other, text=text) if change == "text" else replace(other, target=text)
    if model in ("", request.model):
        raise InputError("This server has no other model to compare with. Start it with two: attnxr serve gpt2 minilm")
    return replace(request, model=model, opened=None)


def held_against(a: Answer, b: Answer, report: Callable[[float], object] = lambda _fraction: None) -> Comparison:
    """Compare two answers, layer by layer, so that little memory is needed at a time.

    Parameters
    ----------
    a, b : Answer
        The one that is shown, and the other.
    report : callable
        Told the fraction done. What it raises ends the work.

    Returns
    -------
    Comparison
        With a refusal where they cannot be compared.
    """
    same_tokens = np.array_equal(a.neighbors["token"].values, b.neighbors["token"].values)
    nothing = np.arange(a.n_positions) if same_tokens else np.full(a.n_positions, -1)
    shapes = [(each.n_layers, each.n_columns, each.columns) for each in (a, b)]
    if shapes[0] != shapes[1]:
        said = [f"{each.encodings.attrs['model']} has {_shape(each)}" for each in (a, b)]
        refusal = f"{' and '.join(said)}: their heads have no counterparts in each other."
        if a.encodings.attrs["fingerprint"] == b.encodings.attrs["fingerprint"]:
            refusal = (
                f"The one is of {_shape(a)}, the other of {_shape(b)}: there is no map of differences. The lists stand "
                "side by side."
            )
        else:
            nothing = np.full(a.n_positions, -1)
        return Comparison(a, b, None, nothing, refusal)
    # Attention belongs to heads, and is the same whatever is asked of them.
    both_attend = a.request.run != b.request.run and all(
        "attention" in each.encodings and each.columns == "head" for each in (a, b)
    )
    layers = []
    try:
        for layer in range(a.n_layers):
            near: Any = [each.near.isel(layer=[layer]) for each in (a, b)]
            attention = [each.encodings[["attention"]].isel(layer=[layer]) for each in (a, b)] if both_attend else []
            layers.append(comparison(*near, *attention).drop_dims("key_position", errors="ignore"))
            report((layer + 1) / a.n_layers)
    except InputError as error:
        shared = set(a.neighbors["token"].values) & set(b.neighbors["token"].values)
        refusal = str(error) if shared else "The two have no token in common, so that there is nothing to compare."
        return Comparison(a, b, None, nothing, refusal)
    differences = xr.concat(layers, "layer", data_vars="all", coords="minimal", compat="override", join="override")
    counterpart = nothing.copy()
    counterpart[differences["position"].values] = differences["other_position"].values
    return Comparison(a, b, differences, counterpart)


def _shape(answer: Answer) -> str:
    """How many vectors a token has, in words."""
    layers, name = f"{answer.n_layers} layers", COLUMN_NAMES[answer.columns]
    return f"{layers} × {answer.n_columns} {name}s" if name else f"{layers} without heads"
