"""Vocabulary map: which tokens a head promotes when it reads a token, whatever the text. Copying and suppression."""

from collections.abc import Sequence

import numpy as np
import xarray as xr

from attnxr.analysis.attribute import ids_of
from attnxr.checking import whole_number
from attnxr.errors import InputError
from attnxr.model import Model
from attnxr.search.nearest import Progress

_SAMPLE = 300


def vocabulary_map(
    model: Model,
    *,
    layers: int | Sequence[int] | None = None,
    heads: int | Sequence[int] | None = None,
    tokens: Sequence[int | str] | int | str | None = None,
    sample: int | None = None,
    seed: int = 0,
    k: int = 10,
    after_first_block: bool = False,
    progress: Progress | None = None,
) -> xr.Dataset:
    """Map each token to the tokens that a head promotes and suppresses when it attends to that token alone.

    No text is needed: where the head looks is left open, and what it would write is the same anywhere [1]_. ::

        token v → its embedding, without a position → the layer's value of it, u[l, h, v] → W_O[l, h] u
                → through the norms that come after it → products with all V output embeddings

    A head that *copies* has its own token among those it promotes most (``own_rank`` near 1), one that *suppresses* has
    it at the other end (``lowest_rank`` near 1).

    The value is what the layer itself computes of the embedding as it enters the model, its own norm and the bias of
    its values included, as `Model.vocabulary_encodings` has it with ``vocab_layer=l, positional=False``. Of the norms
    that come after the head, the last one in GPT-2 and Llama, those of all later layers in BERT and RoBERTa, the weight
    is there (and what subtracts the mean), and the scale is not: a text would give it one, and it changes no rank.
    ``promoted_logit`` is therefore a logit but for a positive factor, the same for all entries of a token and head.
    A head for language with a transform (BERT, RoBERTa: dense, GELU, norm) is not linear without a text: the transform
    is left out, and ``attrs["transform"]`` says so [2]_. A cap of the logits changes no rank either.

    With `after_first_block`, the token goes through the first block on its way, as a text of this one token: its
    attention sees the token alone, then comes the feed-forward. Models with untied or long-trained embeddings use the
    first block to make of them what later layers read; studies of copying heads do the same or leave out the attention
    [3]_ [4]_, and their numbers differ from those without. Heads of the first layer read the embeddings all the same.

    Parameters
    ----------
    model : Model
        With its head for language.
    layers, heads : int or list of int, optional
        Which; by default all. The search is over the whole vocabulary for each token and head, so that it takes a
        while for many.
    tokens : list of str or int, optional
        Tokens that are read: vocabulary entries by name, such as ``"Ġflies"``, or id.
    sample : int, optional
        In place of `tokens`: how many entries are drawn at random, each once; 300 unless told. The size of the
        vocabulary for all of them.
    seed : int
        Of the sample: the same seed draws the same entries.
    k : int
        How many of the promoted and suppressed tokens.
    after_first_block : bool
        Whether tokens go through the first block first.
    progress : callable, optional
        Told the fraction done, 0 … 1, now and then; what it raises ends the search.

    Returns
    -------
    xr.Dataset
        - ``own_rank``, ``lowest_rank`` (layer, head, vocab) int32: 1 + the number of entries of the whole vocabulary
          that the head promotes more, or suppresses more, than the token itself;
        - ``promoted_id``, ``promoted``, ``promoted_text``, ``promoted_logit`` (layer, head, vocab, rank), and
          ``suppressed_…`` likewise;
        - coords ``vocab`` (id), ``vocab_token``, ``vocab_text``: the tokens that are read.

        attrs: model, fingerprint, vocab_size, k, after_first_block, transform; sample and seed, if one was drawn.

    Raises
    ------
    InputError
        If a layer, head or token is not there, or both `tokens` and `sample` are given.
    UnsupportedModelError
        If the model has no head for language, does more to its stream than to add and to norm, has output embeddings
        of another size than its stream, or adds positions that cannot be left out.

    References
    ----------
    .. [1] Elhage et al., A Mathematical Framework for Transformer Circuits, 2021, on OV circuits.
    .. [2] Dar et al., Analyzing Transformers in Embedding Space, 2022, who leave it out too.
    .. [3] Wang et al., Interpretability in the Wild, 2022; McDougall et al., Copy Suppression, 2023.
    .. [4] Elhelo & Geva, Inferring Functionality of Attention Heads from their Parameters (MAPS), 2024.
    """
    if tokens is not None and sample is not None:
        raise InputError(f"tokens and sample={sample!r} were given; expected one of the two.")
    seed = whole_number("seed", seed, 0)
    drawn = {}
    if tokens is not None:
        ids = ids_of(model, tokens).values.ravel()
    else:
        size = model.vocab_size
        count = min(_SAMPLE, size) if sample is None else whole_number("sample", sample, 1, size)
        ids = np.sort(np.random.default_rng(seed).choice(size, count, replace=False))
        drawn = {"sample": count, "seed": seed}
    found = model.head_maps(
        ids.tolist(),
        layers=_several(layers),
        heads=_several(heads),
        k=k,
        after_first_block=after_first_block,
        progress=progress,
    )
    return found.assign_attrs(drawn)


def _several(given: int | Sequence[int] | None) -> Sequence[int] | None:
    return [given] if isinstance(given, int | np.integer) else given
