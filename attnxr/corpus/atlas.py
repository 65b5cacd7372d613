"""The atlas: everything that a corpus says of each head, with the words that ids stand for and the examples' texts."""

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from attnxr.corpus.declared import ATLAS
from attnxr.corpus.opened import open_corpus
from attnxr.errors import InputError
from attnxr.schema import describe

_LISTS = ("key", "query", "written", "distinctive")


def atlas(corpus: xr.DataTree | str | Path) -> xr.Dataset:
    """Everything that was measured of every head over a corpus.

    Parameters
    ----------
    corpus : xr.DataTree, str or Path
        What `attnxr.open_corpus` gives, or where the corpus is: a folder, or a URL that fsspec knows. All of it must
        have been measured.

    Returns
    -------
    xr.Dataset
        In memory, with the dimensions ``layer`` and ``head`` first; ``atlas.sel(layer=3, head=7)`` is all of one head.
        Of the measures that were asked for:

        - *roles*: the variables of `attnxr.roles`, and ``n_positions`` (measure);
        - *looking*: ``distance_share`` (offset), how the attention is shared out over distances; the tokens of most
          attention, ``key_…`` for those looked at and ``query_…`` for those that look (order): ``id``, ``token``,
          ``text``, ``mass`` and ``lift``;
        - *own*: ``own_share``, ``other_share`` and ``neither_share`` as of `attnxr.origins`, and ``own_rank_count``
          (rank_bin), from ``rank_low`` to ``rank_high``;
        - *words*: ``written_…``, the entries that are most often nearest to what the head writes, and
          ``distinctive_…``, those with the largest lift over the other heads (order): ``id``, ``token``, ``text``,
          ``count``, ``share`` and ``lift``;
        - *examples* (example): ``example_text_id``, ``example_activation``, ``example_query``, ``example_key``, and the
          places that the query attends to most, ``example_attended`` with ``example_weight`` (attended);
          ``example_interval`` says of which decile an example is. The texts themselves are in ``quoted_token``,
          ``quoted_text``, ``quoted_token_id`` and ``quoted_special``, end to end: text ``quoted_id[i]`` has the next
          ``quoted_size[i]`` of them. ``activation_count`` (activation_bin), ``activation_mean`` and
          ``activation_decile`` are of the whole corpus;
        - *significance*: ``nearer_share`` and ``own_nearer_share``, 0.05 by chance;
        - *effects*: ``change`` and ``recovered`` (replacement), of a model with a head for language ``kl_change`` and
          ``kl_recovered`` too.

        A lift is ``(count + 5) / (expected + 5)``, with the other heads' share of the entry to make what is expected: 1
        where a head writes a word as often as others do, and near 1 where there are few counts to tell by.
        Each variable's ``description`` says more; attrs are those of the corpus.

    Raises
    ------
    InputError
        If there is no such corpus, or it is not finished.

    Examples
    --------
    >>> import attnxr
    >>> model = attnxr.load_model("minilm")
    >>> texts = ["Time flies like an arrow.", "Fruit flies like a banana."]
    >>> corpus = attnxr.build_corpus(texts, "out.zarr", model, measures=["words"])
    >>> atlas = attnxr.atlas("out.zarr")
    >>> one = atlas.sel(layer=3, head=7)
    >>> counts = dict(zip(one.written_text.values, one.written_count.values))
    """
    if not isinstance(corpus, xr.DataTree | str | Path):
        raise InputError(
            f"corpus was given as a {type(corpus).__name__}; expected what attnxr.open_corpus gives, or where it is."
        )
    tree = corpus if isinstance(corpus, xr.DataTree) else open_corpus(corpus)
    missing = [node for node in ("tokens", "atlas") if node not in tree.children]
    if missing:
        raise InputError(
            f"The corpus has no {missing[0]!r}, only {sorted(tree.children)}: nothing was measured, or not yet all of "
            "it. Call attnxr.build_corpus again, which goes on where it was."
        )
    found = tree.children["atlas"].to_dataset(inherit=False).load()
    tokens = tree.children["tokens"].to_dataset(inherit=False)
    names = {"token": tokens["vocab_token"].values, "text": tokens["vocab_text"].values}
    for kind in _LISTS:
        if f"{kind}_id" in found:
            ids = found[f"{kind}_id"]
            for name, table in names.items():
                found[f"{kind}_{name}"] = ids.dims, _strings(table, ids.values)
    if "example_text_id" in found:
        found = found.assign(_quoted(found["example_text_id"].values, tokens, names))
    return describe(found.drop_encoding(), ATLAS)


def _quoted(numbers: np.ndarray, tokens: xr.Dataset, names: dict[str, np.ndarray]) -> dict[str, Any]:
    """The texts that are examples, each once, end to end."""
    texts = np.unique(numbers[numbers >= 0])
    sizes = tokens["row_size"].values
    starts = np.concatenate([[0], np.cumsum(sizes)])
    where = [np.arange(starts[text], starts[text + 1]) for text in texts]
    position = np.concatenate([np.zeros(0, np.int64), *where])
    there = tokens[["token_id", "is_special"]].isel(position=position)
    ids = there["token_id"].values.astype(np.int64)
    return {
        "quoted_id": ("quoted", texts),
        "quoted_size": ("quoted", sizes[texts].astype(np.int64)),
        "quoted_token_id": ("quoted_position", ids),
        "quoted_special": ("quoted_position", there["is_special"].values),
        **{f"quoted_{name}": ("quoted_position", _strings(table, ids)) for name, table in names.items()},
    }


def _strings(table: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Strings of ids; none of −1."""
    return np.append(table.astype(object), "")[ids]
