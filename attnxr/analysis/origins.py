"""Origins: is what a head wrote nearest to its own token, to another token of the text, or to neither?"""

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from attnxr.analysis.arrays import is_lazy
from attnxr.analysis.corpora import on_corpora
from attnxr.analysis.given import attention, attribute, neighbors
from attnxr.schema import ORIGINS, describe
from attnxr.texts import has_many, places, token_ids


@on_corpora
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
    near : xr.Dataset or xr.DataTree
        What `Model.neighbors` returns, of one text or of many, or a selection from it; or a corpus, of which everything
        is computed when it is asked for, chunk by chunk.
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

    Examples
    --------
    >>> import attnxr
    >>> model = attnxr.load_model("minilm")
    >>> enc = model.encode("Time flies like an arrow.")
    >>> near = model.neighbors(enc, k=5)
    >>> found = attnxr.origins(near, enc)
    >>> found.origin.sel(layer=0, head=3, position=2).item()
    'neither'
    """
    given = neighbors(near, "neighbor_id")
    paid = None if encodings is None else attention(given, encodings)
    nearest = given.near["neighbor_id"].transpose("rank", "layer", ..., "position").data[0]
    token = given.near["token_id"].data
    if not has_many(near):
        nearest, token = np.asarray(nearest), np.asarray(token)
    own = nearest == token
    elsewhere = _in_corpus(given.near, nearest) if has_many(near) else _in_texts(given.near, nearest, paid)
    position = np.where(own, given.near["position"].values, elsewhere)
    kinds = {"own": own, "other": ~own & (position >= 0), "neither": position < 0}
    dims = given.dims
    result = given.bare()
    result["origin"] = dims, np.where(own, "own", np.where(position < 0, "neither", "other")).astype(object)
    result["origin_position"] = dims, position
    if paid is not None:
        paid_there = np.take_along_axis(paid, np.maximum(position, 0)[..., None], axis=-1)[..., 0]
        result["origin_attention"] = dims, np.where(position < 0, np.float32(np.nan), paid_there)
    for kind, here in kinds.items():
        result[f"{kind}_share"] = dims[:-1], here.mean(axis=-1)
    return describe(result, given.described(ORIGINS)).isel(dict.fromkeys(given.dropped, 0))


def _in_texts(near: xr.Dataset, nearest: NDArray[np.int32], paid: NDArray[np.float32] | None) -> NDArray[np.int64]:
    """`_elsewhere`, of Datasets whose attrs say the texts."""
    texts = [np.array(ids) for ids in token_ids(near, "near")]
    return _elsewhere(nearest, texts, *places(near), bool(attribute(near, "causal")), paid)


def _in_corpus(near: xr.Dataset, nearest: Any) -> Any:
    """`_elsewhere`, of a corpus: lazily, for one chunk of positions and the texts they are in after the other."""
    import dask
    import dask.array

    sizes, position = near["row_size"].values, near["position"].values
    ends = np.cumsum(sizes)
    ids, causal = near["source_token_id"].data, bool(attribute(near, "causal"))
    lazy = dask.array.asarray(nearest)
    parts = []
    for stop, step in zip(np.cumsum(lazy.chunks[-1]), lazy.chunks[-1], strict=True):
        here, part = position[stop - step : stop], lazy[..., stop - step : stop]
        first, last = np.searchsorted(ends, [here.min(), here.max()], side="right")
        begin = ends[first] - sizes[first]
        found = dask.delayed(_of_part, pure=True)(
            part, ids[begin : ends[last]], sizes[first : last + 1], here, begin, causal
        )
        parts.append(dask.array.from_delayed(found, part.shape, np.int64))
    found = dask.array.concatenate(parts, axis=-1)
    return found if is_lazy(nearest) else found.compute()


def _of_part(
    nearest: NDArray[np.int32],
    ids: NDArray[np.int32],
    sizes: NDArray[np.int64],
    position: NDArray[np.int64],
    begin: int,
    causal: bool,
) -> NDArray[np.int64]:
    """`_elsewhere`, of positions of texts that lie end to end from one place in a corpus on."""
    text_of = np.repeat(np.arange(len(sizes)), sizes)[position - begin]
    ends = np.cumsum(sizes)
    found = _elsewhere(
        nearest, np.split(ids, ends[:-1]), text_of, position - begin - (ends - sizes)[text_of], causal, None
    )
    return np.where(found < 0, -1, begin + found)


def _elsewhere(
    nearest: NDArray[np.int32],
    texts: list[NDArray],
    text_of: NDArray[np.int64],
    at: NDArray[np.int64],
    causal: bool,
    paid: NDArray[np.float32] | None,
) -> NDArray[np.int64]:
    """Position of another place where each of the ids (…, position) stands in its text; −1 where there is none."""
    starts = np.cumsum([0, *map(len, texts)])
    found = np.full(nearest.shape, -1)
    for text in np.unique(text_of):
        here = np.flatnonzero(text_of == text)
        away = np.arange(len(texts[text])) - at[here, None]  # (position, place)
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
