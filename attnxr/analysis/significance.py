"""Is a neighbour list more than noise? p-values of how near the nearest are, against three kinds of chance."""

from typing import Literal, get_args

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.stats import false_discovery_control

from attnxr.analysis import nulls
from attnxr.analysis.corpora import on_corpora
from attnxr.analysis.stacks import meant
from attnxr.checking import choice, whole_number, with_all_dims
from attnxr.errors import InputError
from attnxr.model import Model
from attnxr.options import VARIABLE, Metric, Of, Space, VocabLayer
from attnxr.schema import SIGNIFICANCE, describe, only_dims
from attnxr.search.nearest import Progress, told_to

Null = Literal["rotation", "heads", "shuffled"]

HYPOTHESES: dict[Null, str] = {
    "rotation": "the vector points nowhere in particular: all directions from the vocabulary's centroid are as likely, "
    "once its covariance is taken out",
    "heads": "the vector has no more to do with its own head's vocabulary than the vectors of other heads have",
    "shuffled": "the order of the text's tokens does not matter to how near the vector comes",
}
Within = Literal["layer", "head", "all"]

_FAMILIES: dict[Within, str] = {
    "layer": "all heads and positions of a layer",
    "head": "all positions of a head of a layer",
    "all": "all layers, heads and positions",
}
_DRAWS = {"rotation": 99, "shuffled": 19}  # each of the latter is a forward pass or two


@on_corpora
def significance(
    model: Model,
    encodings: xr.Dataset,
    *,
    null: Null = "rotation",
    k: int = 15,
    draws: int | None = None,
    seed: int = 0,
    metric: Metric = "cosine",
    of: Of = "encoding",
    space: Space = "value",
    vocab_layer: VocabLayer = "input",
    positional: bool = True,
    within: Within = "layer",
    progress: Progress | None = None,
) -> xr.Dataset:
    """Hold the nearest distance, and the mean of the k nearest, against what chance would give.

    A nearest neighbour always exists. A small p-value says that so near a one would be rare if the null hypothesis
    held:

    - ``rotation``: *the vector points nowhere in particular.* It is turned about the centroid μ of the vocabulary's
      encodings at its head and position, at random, in coordinates where their covariance Σ is the identity:
      ``w = Σ^-½ (z − μ)`` becomes a uniformly random vector of the same length, the draw ``μ + Σ^½ R w``. What is held
      fixed is how far out the vector is; what is tested, whether its direction leads to a token.
    - ``heads``: *the vector has no more to do with its own head's vocabulary than other heads' vectors have.* The
      vectors that the other heads wrote there are looked up in the space of this head: those of heads that read another
      key/value head, as many draws as there are. With as few, no p-value is below 1 / (1 + draws): of 12 heads each
      has 1/12 at best, and only the layer's p-value, of 999 ways to exchange spaces, can be smaller. Refused where that
      could not be 0.05 either, with fewer than four key/value heads. All heads must be there.
    - ``shuffled``: *the order of the text does not matter.* The model reads each text with its tokens, special ones
      aside, in random orders; a vector is compared with that of the same token, of the same layer and head, wherever
      it then stands. A text of m distinct tokens has m! orders, so a short one has few. Refused of encodings with a
      causal mask, where a token's place fixes how much it sees.

    p-values are those of an exact Monte-Carlo test, ``(1 + #{null ≤ observed}) / (1 + draws)`` [1]_ [2]_: a draw that
    is as near as the observed one counts as nearer, so ties make them larger, never smaller. If the null hypothesis
    holds, P(p ≤ α) ≤ α whatever the number of draws, and = α for α a multiple of 1 / (1 + draws) where nothing ties.
    With d draws none is smaller than 1 / (1 + d): to find few among many, take more draws.

    A large p-value is a finding too: ``nearest_far_p``, ``(1 + #{null ≥ observed}) / (1 + draws)``, is small where so
    *far* a one would be rare. Who looks at both tails at once doubles the smaller of the two.

    "No nearer than chance" is not "noise": the nearest distance has little power for vectors that lie between words.
    `significance_power` says how near to a word a vector must be to be found here. Two statistics see more:

    - ``own_p`` = own rank / V, of the hypothesis that the own token is like one drawn at random from the vocabulary. It
      needs no draws, looks at one entry instead of the nearest of V, and is the same with every null. Where some tokens
      are nearer to everything than others, texts have more of them than the vocabulary, and it is small for that alone.
    - ``nearest_layer_p`` holds the mean over all heads and positions of a layer against the same mean of each draw.
      With ``rotation`` a draw turns each vector independently; where vectors of a layer resemble each other, as those
      of neighbouring positions do, a mean varies more than that, and the p-value is too small. With ``shuffled`` and
      ``heads`` all vectors of a text, or of a layer, move together, and it holds.

    q-values are p-values adjusted after Benjamini and Hochberg [3]_ over a family of tests, for each statistic on its
    own: to call everything significant that has q ≤ 0.1 is to expect at most a tenth of the calls to be false, provided
    the tests are independent or depend positively [4]_. The family is that of `within`: with "all", what is called in
    one layer depends on the other layers that are there. A selection from a family has other q-values.

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
    within : {"layer", "head", "all"}
        What a q-value is corrected for: all heads and positions of its layer, all positions of its head and layer, or
        everything in the Dataset.
    progress : callable, optional
        Told the fraction done, 0 … 1, now and then; what it raises ends the search.

    Returns
    -------
    xr.Dataset
        (layer, head, position), or without ``head`` where the vectors have none: ``nearest`` (float32), the distance
        of the nearest vocabulary entry, and ``k_mean`` (float64), the mean of the k nearest; for each of them the mean
        of the draws (``nearest_null``), the p-value (``nearest_p``), the q-value (``nearest_q``) and the p-value of the
        other tail (``nearest_far_p``), and of the layer ``nearest_layer_p``, all float64; ``own_p`` and ``own_q``.
        attrs: null, hypothesis, draws, seed, k and those of `Model.neighbors`; ``within``, ``family`` in words, and
        ``family_size``, the number of tests in each.

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

    Examples
    --------
    >>> import attnxr
    >>> model = attnxr.load_model("minilm")
    >>> enc = model.encode("Time flies like an arrow.")
    >>> found = attnxr.significance(model, enc.isel(layer=[0], head=[3]), draws=19)
    >>> found.nearest_p.dims, found.attrs["null"]
    (('layer', 'head', 'position'), 'rotation')
    """
    choice("null", null, get_args(Null))
    choice("within", within, get_args(Within))
    if null == "heads" and draws is not None:
        raise InputError(
            f"draws={draws!r} was given with null='heads', which has one draw for each other head. Expected no draws."
        )
    draws = whole_number("draws", _DRAWS.get(null, 1) if draws is None else draws, 1)
    seed = whole_number("seed", seed, 0)
    options = {"metric": metric, "of": of, "space": space, "vocab_layer": vocab_layer, "positional": positional}
    model = meant(model, encodings)
    nulls.check(null, model, encodings, of, space)
    near = model.neighbors(encodings, k=k, **options)  # type: ignore[arg-type]
    variable = VARIABLE[of]
    asked = nulls.Asked(model, with_all_dims(encodings, variable)[0], variable, near.sizes["rank"], options)
    shape = asked.vectors().shape[:3]
    observed = nulls.statistics(near["distance"].values).reshape(2, *shape)
    told = told_to(progress)
    if null == "rotation":
        drawn = nulls.rotation(asked, draws, seed, told)
    elif null == "heads":
        drawn = nulls.other_heads(asked, seed, told)
    else:
        drawn = nulls.shuffled(asked, draws, seed, told)
    nearer, farther, made = (np.zeros(observed.shape, np.int64) for _ in range(3))
    total = np.zeros(observed.shape)
    of_layer = np.zeros((nulls.PERMUTATIONS if null == "heads" else draws, *observed.shape[:2]))
    for here, values, which, sums in drawn:
        nearer[..., here] += (values <= observed[..., here]).sum(axis=0)
        farther[..., here] += (values >= observed[..., here]).sum(axis=0)
        total[..., here] += values.sum(axis=0)
        made[..., here] += len(values)
        of_layer[which] += sums
    p, far_p = (1 + nearer) / (1 + made), (1 + farther) / (1 + made)
    # Sums of the same numbers in another order differ by rounding: as ties they count as nearer.
    of_observed = observed.sum(axis=(-2, -1))
    layer_p = (1 + (of_layer <= of_observed + 1e-9 * np.abs(of_observed)).sum(axis=0)) / (1 + len(of_layer))
    dims = [dim for dim in ("layer", "head", "kv_head", "position") if dim in near.coords]
    dropped = [dim for dim in dims if dim not in near.dims]
    result = near.drop_vars([*near.data_vars, "rank"]).expand_dims(dropped)
    specs = only_dims(SIGNIFICANCE, dims)
    own_p = near["own_rank"].values.reshape(shape) / near.attrs["vocab_size"]
    found = {"own_p": own_p, "own_q": _corrected(own_p, within)}
    for i, name in enumerate(("nearest", "k_mean")):
        found |= {name: observed[i], f"{name}_null": total[i] / made[i]}
        found |= {f"{name}_p": p[i], f"{name}_q": _corrected(p[i], within), f"{name}_far_p": far_p[i]}
        result[f"{name}_layer_p"] = "layer", layer_p[i]
    for name, array in found.items():
        result[name] = (dims, array.reshape([result.sizes[dim] for dim in dims]).astype(specs[name].dtype))
    drawn_by = {"null": null, "hypothesis": HYPOTHESES[null], "draws": int(made.flat[0]), "seed": seed}
    family = {"within": within, "family": _FAMILIES[within], "family_size": own_p.size // _families(own_p, within)}
    result.attrs = {**near.attrs, **drawn_by, **family}
    return describe(result, specs).isel(dict.fromkeys(dropped, 0))


def _families(p: NDArray[np.float64], within: Within) -> int:
    """How many families the p-values (layer, head, position) fall into."""
    layers, heads, _ = p.shape
    return {"layer": layers, "head": layers * heads, "all": 1}[within]


def _corrected(p: NDArray[np.float64], within: Within) -> NDArray[np.float64]:
    """q-values of p-values (layer, head, position), each family on its own."""
    return false_discovery_control(p.reshape(_families(p, within), -1), axis=1).reshape(p.shape)
