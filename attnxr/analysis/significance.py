"""Is a neighbour list more than noise? p-values of how near the nearest are, against three kinds of chance."""

from typing import Literal

import numpy as np
import xarray as xr
from scipy.stats import false_discovery_control

from attnxr.analysis import nulls
from attnxr.errors import InputError, choice
from attnxr.model import Model
from attnxr.question import Of, Space, VocabLayer, whole_number, with_all_dims
from attnxr.schema import SIGNIFICANCE, describe, without_heads
from attnxr.search import Metric, Progress

Null = Literal["rotation", "heads", "shuffled"]

HYPOTHESES: dict[Null, str] = {
    "rotation": "the vector points nowhere in particular: all directions from the vocabulary's centroid are as likely, "
    "once its covariance is taken out",
    "heads": "the vector has no more to do with its own head's vocabulary than with that of any other head",
    "shuffled": "the order of the text's tokens does not matter to how near the vector comes",
}
_DRAWS = {"rotation": 99, "shuffled": 19}  # each of the latter is a forward pass or two


def significance(
    model: Model,
    encodings: xr.Dataset,
    null: Null = "rotation",
    k: int = 15,
    draws: int | None = None,
    seed: int = 0,
    metric: Metric = "cosine",
    of: Of = "encoding",
    space: Space = "value",
    vocab_layer: VocabLayer = "input",
    positional: bool = True,
    progress: Progress = lambda fraction: None,
) -> xr.Dataset:
    """Hold the nearest distance, and the mean of the k nearest, against what chance would give.

    A nearest neighbour always exists. A small p-value says that so near a one would be rare if the null hypothesis
    held:

    - ``rotation``: *the vector points nowhere in particular.* It is turned about the centroid μ of the vocabulary's
      encodings at its head and position, at random, in coordinates where their covariance Σ is the identity:
      ``w = Σ^-½ (z − μ)`` becomes a uniformly random vector of the same length, the draw ``μ + Σ^½ R w``. What is held
      fixed is how far out the vector is; what is tested, whether its direction leads to a token.
    - ``heads``: *the vector has no more to do with its own head's vocabulary than with another's.* The same vector is
      looked up in the spaces of all G − 1 other (key/value) heads. With as few draws, no p-value is below 1 / G.
    - ``shuffled``: *the order of the text does not matter.* The model reads each text with its tokens, special ones
      aside, in random orders; a vector is compared with that of the same token, of the same layer and head, wherever
      it then stands. A text of m distinct tokens has m! orders, so a short one has few.

    p-values are those of an exact Monte-Carlo test, ``(1 + #{null ≤ observed}) / (1 + draws)`` [1]_ [2]_: a draw that
    is as near as the observed one counts as nearer, so ties make them larger, never smaller. If the null hypothesis
    holds, P(p ≤ α) ≤ α whatever the number of draws, and = α for α a multiple of 1 / (1 + draws) where nothing ties.
    With d draws none is smaller than 1 / (1 + d): to find few among many, take more draws.

    q-values are p-values adjusted after Benjamini and Hochberg [3]_ over all layers, heads and positions of the
    Dataset, for each statistic on its own: to call everything significant that has q ≤ 0.1 is to expect at most a
    tenth of the calls to be false, provided the tests are independent or depend positively [4]_. A selection has other
    q-values.

    Parameters
    ----------
    model : Model
    encodings : xr.Dataset
        What `Model.encode` returns, or a selection from it.
    null : {"rotation", "heads", "shuffled"}
    k : int
        How many neighbours the mean is over.
    draws : int, optional
        How many draws for each vector; unless told 99 of ``rotation``, and 19 of ``shuffled``, each of which is a
        text for the model to read. Not with ``heads``, which has as many as there are other heads.
    seed : int
        Not negative. The same seed gives the same draws, for a selection too.
    metric, of, space, vocab_layer, positional
        As in `Model.neighbors`. ``rotation`` is not for contributions, ``heads`` only for vectors of a head.
    progress : callable
        Told the fraction done, 0 … 1, now and then; what it raises ends the search.

    Returns
    -------
    xr.Dataset
        (layer, head, position), or without ``head`` where the vectors have none: ``nearest`` (float32), the distance
        of the nearest vocabulary entry, and ``k_mean`` (float64), the mean of the k nearest; for each of them the mean
        of the draws (``nearest_null``), the p-value (``nearest_p``) and the q-value (``nearest_q``), all float64.
        attrs: null, hypothesis, draws, seed, k and those of `Model.neighbors`.

    Raises
    ------
    InputError
        If an option is unknown or has no meaning with this null, or as in `Model.neighbors`.
    UnsupportedModelError
        As in `Model.neighbors`.

    References
    ----------
    .. [1] Davison & Hinkley, Bootstrap Methods and their Application, 1997, section 4.2.
    .. [2] Phipson & Smyth, Permutation P-values Should Never Be Zero, 2010.
    .. [3] Benjamini & Hochberg, Controlling the False Discovery Rate, 1995.
    .. [4] Benjamini & Yekutieli, The Control of the False Discovery Rate in Multiple Testing under Dependency, 2001.
    """
    choice("null", null, tuple(HYPOTHESES))
    if null == "heads" and draws is not None:
        raise InputError(
            f"draws={draws!r} was given with null='heads', which has one draw for each other head. Expected no draws."
        )
    draws = whole_number("draws", _DRAWS.get(null, 1) if draws is None else draws, 1)
    seed = whole_number("seed", seed, 0)
    options = {"metric": metric, "of": of, "space": space, "vocab_layer": vocab_layer, "positional": positional}
    near = model.neighbors(encodings, k, **options)  # type: ignore[arg-type]
    variable = "encoding" if of == "contribution" else of
    asked = nulls.Asked(model, with_all_dims(encodings, variable)[0], variable, near.sizes["rank"], options)
    shape = asked.vectors().shape[:3]
    observed = nulls.statistics(near["distance"].values).reshape(2, *shape)
    if null == "rotation":
        drawn = nulls.rotation(asked, draws, seed, progress)
    elif null == "heads":
        drawn = nulls.other_heads(asked, progress)
    else:
        drawn = nulls.shuffled(asked, draws, seed, progress)
    count, total, made = (np.zeros(observed.shape, dtype) for dtype in (np.int64, np.float64, np.int64))
    for here, values in drawn:
        count[..., here] += (values <= observed[..., here]).sum(axis=0)
        total[..., here] += values.sum(axis=0)
        made[..., here] += len(values)
    p = (1 + count) / (1 + made)
    dims = [dim for dim in ("layer", "head", "kv_head", "position") if dim in near.coords]
    dropped = [dim for dim in dims if dim not in near.dims]
    result = near.drop_vars([*near.data_vars, "rank"]).expand_dims(dropped)
    specs = SIGNIFICANCE if len(dims) == 3 else without_heads(SIGNIFICANCE)
    for i, name in enumerate(("nearest", "k_mean")):
        q = false_discovery_control(p[i], axis=None)
        found = {name: observed[i], f"{name}_null": total[i] / made[i], f"{name}_p": p[i], f"{name}_q": q}
        for each, array in found.items():
            result[each] = (dims, array.reshape([result.sizes[dim] for dim in dims]).astype(specs[each].dtype))
    drawn_by = {"null": null, "hypothesis": HYPOTHESES[null], "draws": int(made.flat[0]), "seed": seed}
    result.attrs = {**near.attrs, **drawn_by}
    return describe(result, specs).isel(dict.fromkeys(dropped, 0))
