"""Origins: is what a head wrote nearest to its own token, to another token of the text, or to neither?"""

import json

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from attnxr.analysis.given import Given, attention, attribute, neighbors
from attnxr.schema import ORIGINS, describe


def origins(near: xr.Dataset, encodings: xr.Dataset | None = None) -> xr.Dataset:
    """Where the nearest vocabulary token stands in the text, and how strongly the head attended to that place.

    The nearest token is

    - ``own``, if it is the token of the position, whether or not that stands elsewhere too;
    - ``other``, if it stands elsewhere in the same text, and, where the mask is causal, before the position. Of several
      places the one the head attended most counts; where attention is not given or the same, the one nearest to the
      position, and of two as near the earlier;
    - ``neither``, if it does not stand there.

    The text is the whole one, whatever positions were selected.

    Parameters
    ----------
    near : xr.Dataset
        What `Model.neighbors` returns, of one text or of many, or a selection from it.
    encodings : xr.Dataset, optional
        What `Model.encode` returned for the same text, with its ``attention`` (several texts at once have none).

    Returns
    -------
    xr.Dataset
        - ``origin`` (layer, head, position) str; ``origin_position`` int64, −1 for neither; and with attention
          ``origin_attention`` float32, the weight that goes from the position to that one, NaN for neither;
        - ``own_share``, ``other_share``, ``neither_share`` (layer, head) float64: shares of the positions, which sum
          to 1. Special tokens count where they were not left out: ``near.isel(position=~near.is_special)``.

    Raises
    ------
    InputError
        If a Dataset is not what is expected, or the two are of different texts.
    """
    given = neighbors(near, "neighbor_id")
    paid = None if encodings is None else attention(given, encodings)
    nearest = given.near["neighbor_id"].transpose("rank", "layer", ..., "position").values[0]
    own = nearest == given.near["token_id"].values
    position = np.where(own, given.near["position"].values, _elsewhere(given, nearest, paid))
    kinds = {"own": own, "other": ~own & (position >= 0), "neither": position < 0}
    dims = tuple(dim for dim in ("layer", given.head, "position") if dim)
    result = given.bare()
    result["origin"] = dims, np.select(list(kinds.values()), list(kinds), default="").astype(object)
    result["origin_position"] = dims, position
    if paid is not None:
        paid_there = np.take_along_axis(paid, np.maximum(position, 0)[..., None], axis=-1)[..., 0]
        result["origin_attention"] = dims, np.where(position < 0, np.float32(np.nan), paid_there)
    for kind, here in kinds.items():
        result[f"{kind}_share"] = dims[:-1], here.mean(axis=-1)
    return describe(result, given.described(ORIGINS)).isel(dict.fromkeys(given.dropped, 0))


def _elsewhere(given: Given, nearest: NDArray[np.int32], paid: NDArray[np.float32] | None) -> NDArray[np.int64]:
    """Position of another place where each of the ids (…, position) stands in its text; −1 where there is none."""
    texts = [np.array(ids) for ids in json.loads(attribute(given.near, "token_ids"))]
    starts = np.cumsum([0, *map(len, texts)])
    several = "text_id" in given.near.coords
    places = given.near["text_position" if several else "position"].values
    text_of = given.near["text_id"].values if several else np.zeros(len(places), np.int64)
    causal = bool(attribute(given.near, "causal"))
    found = np.full(nearest.shape, -1)
    for text in np.unique(text_of):
        here = np.flatnonzero(text_of == text)
        away = np.arange(len(texts[text])) - places[here, None]  # (position, place)
        could_see = (away < 0) if causal else (away != 0)
        last_choice = 2 * np.abs(away) + (away > 0)  # the farther, and of two as far the later
        for layer in range(len(nearest)):  # all layers at once would be large
            stands = (nearest[layer][..., here, None] == texts[text]) & could_see
            if paid is not None:
                weight = np.where(stands, paid[layer][..., here, :], -1)
                stands &= weight == weight.max(axis=-1, keepdims=True)
            place = np.where(stands, last_choice, last_choice.max() + 1).argmin(axis=-1)
            found[layer][..., here] = np.where(stands.any(axis=-1), starts[text] + place, -1)
    return found
