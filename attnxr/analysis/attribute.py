"""Direct logit attribution: what each head, feed-forward, embedding and bias adds to the logits."""

from collections.abc import Sequence

import numpy as np
import xarray as xr

from attnxr.analysis.corpora import on_corpora
from attnxr.errors import InputError
from attnxr.model import Model
from attnxr.search.nearest import Progress


@on_corpora
def attribute(
    model: Model,
    encodings: xr.Dataset,
    *,
    tokens: Sequence[int | str] | int | str | xr.DataArray | None = None,
    progress: Progress | None = None,
) -> xr.Dataset:
    """Take the logits of chosen tokens apart: embeddings, every head, every feed-forward and all biases.

    The last hidden state of a position is a sum of what was added to the residual stream on the way, once the scale of
    every norm is held where the text has it [1]_. A norm ``(x − mean(x)) · g / s(x) + b`` (an RMSNorm without the mean)
    is then linear, with a bias, and each part goes through all norms that come after it: in GPT-2 and Llama the last
    one, in BERT and RoBERTa those of all later layers too. So ::

        logit[v] = Σ_lh part(W_O[l, h] z[l, h]) + Σ_l part(feed-forward) + part(embedding) + biases + remainder

    - *embedding*: the stream that enters the first block, with all that the model adds to it or norms on the way there;
    - *head*: W_O[l, h] z without the bias; the bias of the values, which the attention only passes on, is in it;
    - *feed-forward*: what it adds to the stream, its own biases included; all of its experts, where it has some;
    - *biases*: those of W_O, of the norms and of the head for language.

    The head for language is linear in most decoders, and the remainder is rounding: some 1e-6 of the logit in float32.
    Where it has a transform (BERT, RoBERTa: dense, GELU, norm), that is linearised at the text: the derivative at the
    text's own hidden state for the activation, the text's own scale for the norm. What is lost by it is the remainder.
    Where the logits are capped (Gemma 2: c tanh(x / c)), parts are those of the logit before the cap, ``logit`` is the
    model's own, and the remainder what the cap took.

    Logits are as the model makes them, not centred. Only differences of logits matter to its probabilities: to know
    what speaks for one word against another, attribute both, and subtract.

    How a block adds to its stream is found by looking at what it does to this text, and holds to rounding; a model that
    does something else is refused.

    Parameters
    ----------
    model : Model
        With its head for language.
    encodings : xr.Dataset
        What `Model.encode` returns, of one text or of many, or a selection from it. The whole texts are run again.
    tokens : list of str or int, or xr.DataArray, optional
        Whose logits: names of vocabulary entries as in ``model.vocabulary.token``, such as ``"Ġflies"``, or ids; along
        ``entry``. An array of ids may have ``position``, ``entry`` or both. By default the true token: the one that
        stands there where tokens see both ways, the next one where the model is causal (after the last there is
        none: −1, and NaN).
    progress : callable, optional
        Told the fraction done, 0 … 1, now and then; what it raises ends the call.

    Returns
    -------
    xr.Dataset
        float64, without ``entry`` for the true token:

        - ``head_logit`` (layer, head, position, entry), ``feed_forward_logit`` (layer, position, entry);
        - ``embedding_logit``, ``bias_logit`` (position, entry);
        - ``rest_logit`` (position, entry): the heads and feed-forwards that were not selected, 0 where all were;
        - ``logit`` (position, entry), the model's own, and ``remainder``: it less all of the above;
        - coords ``target_id``, ``target`` and ``target_text`` (position, entry): whose logit it is.

    Raises
    ------
    InputError
        If a token is none of the vocabulary's, or the Dataset is not this model's, or was changed.
    UnsupportedModelError
        If the model has no head for language, or does more to its stream than to add and to norm.

    References
    ----------
    .. [1] Elhage et al., A Mathematical Framework for Transformer Circuits, 2021; Wang et al., Interpretability in the
       Wild: a Circuit for Indirect Object Identification in GPT-2 small, 2022, appendix on direct logit attribution.
    """
    return model.logit_parts(encodings, None if tokens is None else ids_of(model, tokens), progress=progress)


@on_corpora
def promoted(model: Model, encodings: xr.Dataset, *, k: int = 10, progress: Progress | None = None) -> xr.Dataset:
    """Find the tokens of the whole vocabulary to whose logits each head adds most, and least.

    What a head adds to a logit is its ``head_logit`` of `attribute`: W_O[l, h] z through the norms that come after it,
    with the text's scales, through the head's transform, linearised, and onto the output embeddings. Exact over the
    vocabulary: the products are those of float64, in their order.

    Parameters
    ----------
    model : Model
        With its head for language.
    encodings : xr.Dataset
        What `Model.encode` returns, of one text or of many, or a selection from it. The whole texts are run again.
    k : int
        How many of each.
    progress : callable, optional
        Told the fraction done, 0 … 1, now and then; what it raises ends the search.

    Returns
    -------
    xr.Dataset
        (layer, head, position, rank), ``rank`` 1 … k: ``promoted_id``, ``promoted``, ``promoted_text`` and
        ``promoted_logit`` (float32), descending; ``suppressed_id``, ``suppressed``, ``suppressed_text`` and
        ``suppressed_logit``, ascending: the most negative first.

    Raises
    ------
    InputError
        If `k` is out of range, or the Dataset is not this model's, or was changed.
    UnsupportedModelError
        As in `attribute`.
    """
    return model.logit_extremes(encodings, k=k, progress=progress)


def ids_of(model: Model, tokens: Sequence[int | str] | int | str | xr.DataArray) -> xr.DataArray:
    """Ids of vocabulary entries that were given by their tokens or ids."""
    if isinstance(tokens, xr.DataArray):
        return tokens
    given = [tokens] if isinstance(tokens, str | int | np.integer) else list(tokens)
    return xr.DataArray(np.array([_id(model, each) for each in given], np.int64), dims="entry")


def _id(model: Model, token: int | str) -> int:
    if isinstance(token, int | np.integer) and not isinstance(token, bool):
        return int(token)
    names = model.vocabulary.token
    found = [i for i, name in enumerate(names) if name == token]
    if not found:
        near = [name for name in names if isinstance(token, str) and token.strip() and token.strip() in name][:5]
        hint = f" Did you mean one of {', '.join(map(repr, near))}?" if near else ""
        raise InputError(
            f"The token {token!r} was given; expected ids, or tokens of the vocabulary as its tokenizer writes them, "
            f"such as {names[len(names) // 2]!r}.{hint}"
        )
    return found[0]
