"""Roles: what a head's attention does, told from the places it goes to, over one text or many."""

from collections.abc import Iterable, Iterator

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from attnxr.analysis import attending
from attnxr.analysis.attending import MEASURES
from attnxr.analysis.corpora import on_corpora
from attnxr.analysis.given import attribute, check_attention
from attnxr.checking import same_labels, tokens, with_all_dims
from attnxr.errors import InputError
from attnxr.schema import ROLES, describe, validate
from attnxr.texts import OF_TEXTS, places, token_ids

_OF_ONE = {*OF_TEXTS, "text", "truncated"}  # attrs
_USE = "roles(model.encode(text) for text in texts)"


@on_corpora
def roles(encodings: xr.Dataset | Iterable[xr.Dataset]) -> xr.Dataset:
    r"""Measure how much every head attends to the previous token, to what followed its token earlier, and so on.

    A measure is a mean over positions q, of all texts alike: a long text counts for more than a short one. With
    a[q, k] the attention from q to k, it is the mean of Σ a[q, k] over these k:

    - ``self_attention_score`` [1]_: k = q;
    - ``prev_token_score`` [1]_: k = q − 1;
    - ``next_token_score``: k = q + 1;
    - ``duplicate_token_score``: all other places of the token that stands at q. Under a causal mask these are the
      earlier ones, as in TransformerLens' detection pattern [2]_; without it the later ones too;
    - ``induction_score`` [1]_: k = p + 1 for all earlier places p of the token that stands at q. Weights below 0.01
      count as 0. Earlier ones only, whatever the mask, so that the number means the same in every model. The
      literature calls it prefix matching [3]_;
    - ``first_token_score``: k = 0, for all q but 0: the share that goes to an attention sink [4]_;
    - ``special_token_score``: the tokenizer's special tokens [5]_, that at q itself too.

    Left out of a mean are positions that have no such k, or see none under a causal mask: there is no previous token at
    position 0, and no next one that a decoder sees. A sliding window that hides k does not leave it out; a is 0 there.
    Over all positions are

    - ``pattern_entropy`` [1]_: mean of −Σ a ln a, in nats;
    - ``qk_distance`` [1]_: mean of ``Σ a·|q − k|``;
    - ``qk_distance_variance`` [1]_: mean of Σ a·(q − k)², less the square of ``qk_distance``.

    Weights are taken as they are. What a learned sink takes is in none of the sums, so that the other measures of a
    head that gives much to its sink are small, its entropy and distance too.

    Parameters
    ----------
    encodings : xr.Dataset or iterable of xr.Dataset
        What `Model.encode` returns of one text, with its ``attention``, or a selection of its layers, heads and
        positions; only the chosen positions are then averaged over. Of many texts, one Dataset each, of the same model,
        mask, layers and heads. They are looked at one after the other: of a generator no more than two are in memory.

    Returns
    -------
    xr.Dataset
        The measures named above, each (layer, head) float64, NaN where the mean is over no positions, and
        ``n_positions`` (measure) int64, how many it is over. Which tokens are special is known of those whose positions
        are there; where others are attended to, the text is left out of ``special_token_score``. attrs: model,
        fingerprint, causal, ``n_texts`` and versions.

    Raises
    ------
    InputError
        If a Dataset is not what is expected, has no attention, as where several texts were encoded at once, or not all
        of it along ``key_position``; if two of them differ in model, mask, layers or heads; or if there are none.

    References
    ----------
    .. [1] HeadVis, https://transformer-circuits.pub/2026/headvis, whose names and definitions these are.
    .. [2] TransformerLens, ``head_detector.get_duplicate_token_head_detection_pattern``.
    .. [3] Olsson et al., "In-context Learning and Induction Heads", 2022.
    .. [4] Xiao et al., "Efficient Streaming Language Models with Attention Sinks", 2023.
    .. [5] Clark et al., "What Does BERT Look At?", 2019.

    Examples
    --------
    >>> import attnxr
    >>> model = attnxr.load_model("minilm")
    >>> texts = attnxr.random_repeats(model, length=20, n=4)
    >>> found = attnxr.roles(model.encode(token_ids=ids) for ids in texts)
    >>> found.induction_score.dims
    ('layer', 'head')
    """
    total, count = np.zeros(()), np.zeros((), np.int64)
    first: xr.Dataset | None = None
    dropped: list[str] = []
    n_texts = 0
    for name, given in _each(encodings):
        one, of_one = _taken(given, name)
        if first is None:
            first, dropped = one.drop_vars([*one.data_vars, *_of_positions(one)]), of_one
        else:
            _check_same(first, one, name)
        sums, positions = _sums(one, name)
        total, count = total + sums, count + positions
        n_texts += 1
    if first is None:
        raise InputError(f"No Dataset was given; expected one or more that Model.encode returns: {_USE}.")
    found = np.moveaxis(attending.means(total, count), -1, 0)
    result = first.assign({name: (("layer", "head"), each) for name, each in zip(MEASURES, found, strict=True)})
    result = result.assign_coords(measure=np.array(MEASURES, object))
    result["n_positions"] = "measure", count
    result.attrs = {key: value for key, value in first.attrs.items() if key not in _OF_ONE} | {"n_texts": n_texts}
    return describe(result, ROLES).isel({dim: 0 for dim in dropped if dim != "position"})


def _each(encodings: xr.Dataset | Iterable[xr.Dataset]) -> Iterator[tuple[str, xr.Dataset]]:
    """The Datasets that were given, and what messages call each."""
    if isinstance(encodings, xr.Dataset):
        yield "The Dataset", encodings
        return
    if not isinstance(encodings, Iterable) or isinstance(encodings, str):
        raise InputError(
            f"encodings={encodings!r:.80} was given; expected what Model.encode returns, or several: {_USE}."
        )
    for number, one in enumerate(encodings):
        yield f"Dataset {number}", one


def _taken(encodings: xr.Dataset, name: str) -> tuple[xr.Dataset, list[str]]:
    """Attention, with all dimensions, and those that a selection had dropped."""
    validate(encodings, {})
    if "attention" not in encodings:
        raise InputError(
            f"{name} has no attention, as where several texts are encoded at once. Encode them one by one: {_USE}."
        )
    check_attention(encodings, name)
    validate(encodings, {}, required=("layer", "head", "position", "token_id", "is_special"))
    one, dropped = with_all_dims(encodings, "attention")
    tokens(one, name)
    if 0 in one.sizes.values():
        raise InputError(
            f"{name} has sizes {dict(one.sizes)}; expected at least one layer, head and position. Select less narrowly."
        )
    return one, dropped


def _of_positions(one: xr.Dataset) -> list[str]:
    return [str(name) for name, coord in one.coords.items() if "position" in coord.dims or "source_id" in coord.dims]


def _check_same(first: xr.Dataset, one: xr.Dataset, name: str) -> None:
    for key in ("fingerprint", "causal"):
        here, there = attribute(one, key, name), attribute(first, key, "Dataset 0")
        if here != there:
            raise InputError(
                f"Dataset 0 and {name} differ in attrs[{key!r}]: {there!s:.80} and {here!s:.80}. Expected texts that "
                "one model read with one mask."
            )
    advice = "Select the same from all."
    same_labels(first, one, ("layer", "head"), ("Dataset 0", name), advice)


def _sums(one: xr.Dataset, name: str) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Sums over the positions of one text, (layer, head, measure), and over how many positions they are."""
    (text,) = token_ids(one, name)
    ids = np.array([text])
    _, place = places(one)
    causal = bool(attribute(one, "causal", name))
    about = place, attending.places_of_same(ids), _special(one, ids[0])[None], causal
    weights = one.variables["attention"]
    layers = range(one.sizes["layer"])
    sums = [attending.sums(weights.isel(layer=layer).values[None].astype(np.float32), *about) for layer in layers]
    return np.stack(sums), attending.counts(*about)


def _special(one: xr.Dataset, ids: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which tokens of the text are special; none, where that is not known of all."""
    special = dict(zip(one["token_id"].values.tolist(), one["is_special"].values.tolist(), strict=True))
    if not special.keys() >= set(ids.tolist()):
        return np.zeros(len(ids), bool)
    return np.array([special[i] for i in ids.tolist()])
