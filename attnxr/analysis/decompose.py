"""Decompose: which few vocabulary entries add up to what a head wrote, and is that more than chance would give?"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from attnxr.analysis import nulls
from attnxr.analysis.corpora import on_corpora
from attnxr.analysis.significance import HYPOTHESES
from attnxr.checking import whole_number, with_all_dims
from attnxr.errors import InputError
from attnxr.model import Model
from attnxr.options import VARIABLE, Of, OfPursuit, Space, VocabLayer
from attnxr.schema import DECOMPOSITION, describe, only_dims
from attnxr.search.nearest import Progress, told_to, within

_TIE = 1e-9  # shares that differ by less count as equal, as the same sums in another order would


@on_corpora
def decompose(
    model: Model,
    encodings: xr.Dataset,
    *,
    n: int = 5,
    include: str | Sequence[OfPursuit] = (),
    of: Of = "encoding",
    space: Space = "value",
    vocab_layer: VocabLayer = "input",
    positional: bool = True,
    draws: int = 0,
    seed: int = 0,
    progress: Progress | None = None,
) -> xr.Dataset:
    """Write each vector as the vocabulary's mean encoding plus a few vocabulary entries, each with a positive weight.

    What a head writes is a mixture, the sum of the values of all tokens that it attends to. So the one nearest entry
    says little of it; a few entries that add up to it may say more::

        z − ū ≈ Σ_i w_i (u_i − ū)        w_i ≥ 0

    with u_i the encoding of an entry and ū the vocabulary's mean encoding, both at the vector's head and position, as
    in the metric ``centered_cosine`` and in `Model.moments`. The entries are found by orthogonal matching pursuit [1]_
    with weights that are not negative [2]_ [3]_. In each step

    1. of the whole vocabulary the entry is added that has the largest cosine to what is left, ``rest = z − ū − Σ …``;
    2. the weights of all entries so far are fitted anew, so that ``|rest|²`` is smallest: a word that was added early
       may end with weight 0. The fit is exact, up to rounding.

    The pursuit of a vector ends early where no entry has a positive cosine to what is left, or where what is left is no
    more than rounding, 10⁻⁶ of ``|z| + |ū|``. The search for the entry is that of `Model.neighbors`, exact in float64;
    of two entries whose cosines are the same the one with the smaller id is taken. Each step is the best one, which
    does not make their sum the best of all sums of n entries: no method but to try them all is sure of that.

    ``explained``, the share of ``|z − ū|²`` that the entries up to a step add up to, never falls from step to step, and
    stays where the pursuit has ended.

    **What it says, and what not.** There are many more entries than features, so that a few of them come near to *any*
    vector: of 32 features and 30,522 entries, those of all-MiniLM-L6-v2, five explain 0.94 of a vector in a random
    direction. Hold it against chance: with `draws`, ``explained_p`` is the p-value ``(1 + #{share ≥ observed}) /
    (1 + draws)`` of the null ``rotation`` of `significance`: z − ū turned at random, in coordinates where the
    vocabulary's covariance is the identity, and decomposed in as many steps. A draw costs as much as one layer; as all
    of them with ``vocab_layer="same"``, or where the vocabulary's encodings do not fill their space.

    At layer 0 the truth is known but for the positions, as z is the sum of the text's own values, weighted by
    attention. On all-MiniLM-L6-v2 and "Time flies like an arrow. Fruit flies like a banana.", the first entry is a
    token of the text in 0.71 of 168 heads and positions, and the one with the most attention in 0.27; in 0.64 where
    that has more than half of the attention. The tokens found among five have 0.26 of the attention, and the
    correlation of weights with attention, over all tokens of the text, is 0.53. One reason is that values come from
    other positions, and the encodings are those at z's own: with the tokens' encodings *there*, summed by the same
    attention, the four numbers are 0.43, 0.97, 0.33 and 0.79. The other is that among so many entries some lie between
    those that were added up, and come nearer at once than any of them.

    Parameters
    ----------
    model : Model
    encodings : xr.Dataset
        What `Model.encode` returns, or a selection from it; dimensions that it dropped the result has dropped too.
    n : int
        How many entries at most, 1 … d.
    include : str or list of str
        ``approximation``: ū + Σ w_i (u_i − ū) after each step, with the weights of that step.
    of, space, vocab_layer, positional
        As in `Model.neighbors`.
    draws : int
        How many draws for each vector; with none there are no p-values. Not of contributions.
    seed : int
        Not negative. The same seed gives the same draws, for a selection too.
    progress : callable, optional
        Told the fraction done, 0 … 1, now and then; what it raises ends the search.

    Returns
    -------
    xr.Dataset
        (layer, head, position, step), or without ``head`` where the vectors have none; ``step`` is 1 … n.

        - ``entry_id`` int32, ``entry`` and ``entry_text`` str: the entry that the step added; −1 and empty strings
          where the pursuit had ended. ``in_sequence`` bool: whether it occurs in the text.
        - ``weight`` float64: its weight in the sum of all; NaN where there is no entry.
        - ``explained`` float64: ``1 − |rest|² / |z − ū|²`` after the step; NaN where z = ū.
        - ``explained_p`` float64, with draws: p-value of a share as large.
        - ``approximation`` float32 (…, step, feature), where it was asked for.

        attrs: n and those of `Model.neighbors`; with draws null, hypothesis, draws and seed.

    Raises
    ------
    InputError
        If an option is unknown or has no meaning, or as in `Model.neighbors`.
    UnsupportedModelError
        As in `Model.neighbors`.

    References
    ----------
    .. [1] Pati, Rezaiifar & Krishnaprasad, Orthogonal Matching Pursuit: Recursive Function Approximation with
       Applications to Wavelet Decomposition, 1993.
    .. [2] Bruckstein, Elad & Zibulevsky, On the Uniqueness of Nonnegative Sparse Solutions to Underdetermined Systems
       of Equations, 2008.
    .. [3] Yaghoobi, Wu & Davies, Fast Non-Negative Orthogonal Matching Pursuit, 2015.

    Examples
    --------
    >>> import attnxr
    >>> model = attnxr.load_model("minilm")
    >>> found = attnxr.decompose(model, model.encode("Time flies like an arrow."), n=3)
    >>> of_one = found.sel(layer=0, head=1, position=2)  # which attends to [CLS], [SEP] and arrow
    >>> of_one.entry.values.tolist(), of_one.weight.values.round(2).tolist(), of_one.explained.values.round(2).tolist()
    (['[SEP]', 'arrow', 'long'], [0.58, 0.25, 0.1], [0.71, 0.92, 0.95])
    """
    options: dict[str, Any] = {"of": of, "space": space, "vocab_layer": vocab_layer, "positional": positional}
    draws, seed = whole_number("draws", draws, 0), whole_number("seed", seed, 0)
    if draws and of == "contribution":
        raise InputError(
            f"draws={draws} was given with of='contribution': a head's part of the stream lies in a few of its "
            "dimensions, and turned at random it would be no head's. Expected of='encoding', which it is made from, or "
            "draws=0."
        )
    told = told_to(progress)
    found = model.pursuit(encodings, n=n, include=include, **options, progress=within(told, 0, 1 / (1 + draws)))
    if not draws:
        return found
    variable, n = VARIABLE[of], found.sizes["step"]
    asked = nulls.Asked(
        model, with_all_dims(encodings, variable)[0], variable, 1, options | {"metric": "centered_cosine"}
    )
    shape = asked.vectors().shape[:3]
    observed = found["explained"].values.reshape(*shape, n)
    as_large = np.zeros(observed.shape, np.int64)
    of_draws = within(told, 1 / (1 + draws), draws / (1 + draws))
    for here, turned, told_of_part in nulls.turned(asked, draws, seed, of_draws):
        drawn = model.pursuit(turned, n=n, **options, progress=told_of_part)["explained"].values
        drawn = drawn.reshape(draws, -1, shape[1], len(here), n)
        as_large[:, :, here] += (drawn >= observed[:, :, here] - _TIE).sum(axis=0)
    p = np.where(np.isnan(observed), np.nan, (1 + as_large) / (1 + draws))
    dims = found["explained"].dims
    result = found.assign(explained_p=(dims, p.reshape(found["explained"].shape)))
    result.attrs |= {"null": "rotation", "hypothesis": HYPOTHESES["rotation"], "draws": draws, "seed": seed}
    return describe(result, only_dims(DECOMPOSITION, dims))
