"""How much of what a head wrote a replacement says, or what is lost by it, over layers and heads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import holoviews as hv
import holoviews.plotting.bokeh
import numpy as np
import xarray as xr
from bokeh.models import FixedTicker
from numpy.typing import NDArray

from attnxr import schema
from attnxr.checking import boolean, choice, whole_number
from attnxr.errors import InputError
from attnxr.plots import grids
from attnxr.plots.colors import MISSING, MISSING_BETWEEN, diverging, ramp
from attnxr.tokens import label

_MEASURES = ("kl", "kl_anywhere", "hidden_change", "hidden_change_anywhere", "logit_change")
_OVER = {"position": "positions", "source_id": "texts"}  # the latter where their positions are replaced together
_SHARES = {-1: "≤ −1", -0.5: "−0.5", 0: "0: the mean", 0.5: "0.5", 1: "1: all"}


def effect_columns(
    effects: xr.Dataset,
    *,
    replacement: str | None = None,
    measure: str | None = None,
    recovered: bool = True,
    position: int | None = None,
) -> dict[str, np.ndarray]:
    """What the map shows of each head, a flat column for each quantity.

    Parameters
    ----------
    effects, replacement, measure, recovered, position
        As of `effect_map`.

    Returns
    -------
    dict of str to numpy.ndarray
        Columns ``head`` and ``layer`` (indices), ``layer_number`` and ``head_number`` (in the model; ``all`` where
        they are replaced together), ``value`` (float64), ``written`` (the value in words) and ``word`` (what was put
        there; empty where there are several positions, or it is no word), one entry a head.

    Raises
    ------
    InputError
        As in `effect_map`.
    """
    return _columns(_shown(effects, replacement, measure, recovered, position))


def effect_map(
    effects: xr.Dataset,
    *,
    replacement: str | None = None,
    measure: str | None = None,
    recovered: bool = True,
    position: int | None = None,
    layer: int | None = None,
    head: int | None = None,
    dark: bool = False,
) -> hv.Overlay:
    """Map over layers and heads of how much of what a head wrote a replacement says, or of what is lost by it.

    Recovered shares have the same colours in every map: in the middle 0, no more than the mean says; blue up to 1,
    all that the head said; red what misleads. What is below −1 has the colour of −1, and its number at the pointer.

    Parameters
    ----------
    effects : xarray.Dataset
        What ``attnxr.effects`` returns, or a selection from it.
    replacement : str, optional
        A label of ``effects["replacement"]``. By default the only one, or ``"neighbor 1"``.
    measure : str, optional
        Such as ``"hidden_change"``. By default the divergence of the next word, where the model has a head for
        language, else the change of the last hidden state.
    recovered : bool
        Whether the share of the mean's effect that is recovered is drawn, and not the effect itself.
    position : int, optional
        Index along ``position``. By default the median over all of them, or over texts whose positions are replaced
        together; what has no value is left out of it.
    layer, head : int, optional
        The cell to outline, as indices; none is outlined unless both are given.
    dark : bool
        Whether the map will stand on a dark background.

    Returns
    -------
    holoviews.Overlay
        A ``HeatMap`` under a ``Rectangles`` that outlines the chosen cell. Layers or heads that are replaced together
        are one row or column. Gray where there is no value: of a share, where the mean changes nothing.

    Raises
    ------
    InputError
        If there is no such replacement, measure or position, or the Dataset is another one.
    """
    shown = _shown(effects, replacement, measure, recovered, position)
    columns = _columns(shown)
    others = [name for name in columns if name not in ("head", "layer", "value")]
    cells = grids.over_layers_and_heads(columns, [hv.Dimension("value", label=shown.name), *others]).opts(
        **_colors(shown, dark),
        colorbar=True,
        colorbar_position="top",
        line_color="gray",
        line_alpha=0.25,
        tools=["hover"],
        hover_tooltips=[
            ("Layer, head", "@layer_number, @head_number"),
            ("Recovered share" if recovered else shown.name, "@written"),
            *([("Put there", "@word")] if any(columns["word"]) else []),
        ],
    )
    overlay = grids.over_heads(cells, shown.values.to_dataset(name="value"), layer, head)
    return overlay.opts(title=shown.title, **grids.FRAME)


@dataclass(frozen=True, eq=False)
class _Shown:
    """A number of each layer and head.

    Attributes
    ----------
    values : float64 xarray.DataArray (layer, head)
    words : array of str (layer, head)
        What was put there.
    name, title : str
        What the number is; what was put there, and where.
    share, signed : bool
        Whether it is a recovered share; whether it can be negative.
    """

    values: xr.DataArray
    words: NDArray[np.object_]
    name: str
    title: str
    share: bool
    signed: bool


def _shown(
    effects: xr.Dataset, replacement: str | None, measure: str | None, recovered: bool, position: int | None
) -> _Shown:
    boolean("recovered", recovered)
    measures = [name for name in _MEASURES if name in effects]
    if "replacement" not in effects.coords or not measures or (recovered and "recovered" not in effects):
        raise InputError(
            f"A Dataset with {', '.join(map(str, effects.data_vars)) or 'no variables'} was given; expected what "
            "attnxr.effects returns, or a selection from it."
        )
    here = _at(_with(effects, "replacement", *(["measure"] if recovered else [])), position)
    labels = [str(name) for name in here["replacement"].values]
    if replacement is None:
        replacement = labels[0] if len(labels) == 1 else "neighbor 1"
    here = here.isel(replacement=labels.index(choice("replacement", replacement, labels)))
    if recovered:
        known = here["measure"].values.tolist()
        measures = [name for name in _MEASURES if name in known]
    measure = choice("measure", measures[0] if measure is None else measure, measures)
    values = here["recovered"].sel(measure=measure) if recovered else here[measure]
    over = [dim for dim in _OVER if dim in values.dims]
    strange = set(values.dims) - {"layer", "head", *over}
    if strange or not all(values.sizes.values()):
        raise InputError(
            f"The effects have sizes {dict(values.sizes)}; expected layers, heads and positions, one or more of each."
        )
    what = schema.REPLACED[measure].long_name
    name = f"Recovered share: {what}" if recovered else what.capitalize()
    if over:
        place = f", median of {values.sizes[over[0]]} {_OVER[over[0]]}"
        values = xr.apply_ufunc(_median, values, input_core_dims=[over], vectorize=True)
    elif "token" in here.coords:
        place = f" at {label(str(here['token'].values), str(here['text'].values))}"
    else:
        chosen = here.attrs.get("together") == "chosen"
        place = " where it was chosen, together" if chosen else " at all positions together"
    title = f"Replaced by {replacement}{place}"
    values = _over_heads(values)
    words = np.full(values.shape, "", object)
    if not over and "replacement_token" in here:
        put = [_over_heads(here[f"replacement_{part}"]).values.ravel() for part in ("token", "text")]
        words.ravel()[:] = [label(str(token), str(text)) for token, text in zip(*put, strict=True)]
    return _Shown(values, words, name, title, recovered, recovered or measure == "logit_change")


def _with(effects: xr.Dataset, *dims: str) -> xr.Dataset:
    """With dimensions that selecting one has dropped."""
    return effects.expand_dims([dim for dim in dims if dim not in effects.dims])


def _at(effects: xr.Dataset, position: int | None) -> xr.Dataset:
    """What there is of one position: the one that is asked for, or the only one."""
    count = effects.sizes.get("position")
    if position is None:
        return effects.isel(position=0) if count == 1 else effects
    if count is None:
        raise InputError(
            f"position={position!r} was given, and the effects have no dimension position: one was selected, or all "
            "were replaced together. Leave it out."
        )
    return effects.isel(position=whole_number("position", position, 0, count - 1, "an index along position"))


def _median(values: NDArray[np.float64]) -> float:
    there = values[~np.isnan(values)]
    return float(np.median(there)) if there.size else np.nan


def _over_heads(array: xr.DataArray) -> xr.DataArray:
    """As (layer, head), of which those that were selected have one, and those replaced together one that is ``all``."""
    for dim in ("layer", "head"):
        if dim not in array.dims:
            array = array.expand_dims(dim if dim in array.coords else {dim: ["all"]})
    return array.transpose("layer", "head")


def _columns(shown: _Shown) -> dict[str, np.ndarray]:
    layers, heads = np.indices(shown.values.shape)
    values = shown.values.values.ravel()
    return {
        "head": heads.ravel(),
        "layer": layers.ravel(),
        "layer_number": shown.values["layer"].values[layers.ravel()],
        "head_number": shown.values["head"].values[heads.ravel()],
        "value": values,
        "written": np.array([_written(value, shown.share) for value in values], dtype=object),
        "word": shown.words.ravel(),
    }


def _written(value: float, share: bool) -> str:
    if np.isnan(value):
        return "– (the mean changes nothing)" if share else "–"
    text = (f"{value:.2f}" if share else f"{value:.3g}").replace("-", "−")
    return f"{text}, beyond the colours" if share and value < -1 else text


def _colors(shown: _Shown, dark: bool) -> dict[str, Any]:
    """Options that give colours to the values, and say which end is which."""
    bar: dict[str, Any] = {"height": 10}
    if shown.share:
        most = 1.0
        bar |= {"ticker": FixedTicker(ticks=list(_SHARES)), "major_label_overrides": _SHARES}
    else:
        there = shown.values.values[~np.isnan(shown.values.values)]
        most = float(np.abs(there).max(initial=0)) or 1.0
    return {
        "cmap": diverging(dark)[::-1] if shown.signed else ramp(dark)[::-1],
        "clim": (-most if shown.signed else 0.0, most),
        "clipping_colors": {"NaN": MISSING_BETWEEN if shown.signed else MISSING},
        "colorbar_opts": bar,
    }
