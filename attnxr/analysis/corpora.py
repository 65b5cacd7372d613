"""Which analyses take a corpus as it was opened, and what they are given of it: results beside texts, lazily."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, TypeVar, cast

import numpy as np
import xarray as xr

from attnxr.errors import InputError
from attnxr.schema import MANY_TEXTS, describe
from attnxr.texts import has_many

_F = TypeVar("_F", bound=Callable[..., Any])
_NO_ATTENTION = "a corpus does not keep attention, which grows with the square of a text"
_SEARCHES = "it searches the vocabulary many times for each position"
_RUNS = "it runs the texts again"
_ENCODE = "encode the texts that matter and ask of those, model.encode(token_ids=…)."


@dataclass(frozen=True)
class OnCorpus:
    """What an analysis does with a corpus.

    Attributes
    ----------
    ready : bool
        Whether it takes one.
    how : str
        What is computed when, if it does; otherwise why it does not, and what to do.
    """

    ready: bool
    how: str


def _at_build(why: str, name: str) -> OnCorpus:
    measured = f"Measure {name} as the corpus is built, measures=[{name!r}], and read corpus['atlas']; or {_ENCODE}"
    return OnCorpus(False, f"{why}. {measured}")


def _of_few(why: str) -> OnCorpus:
    return OnCorpus(False, f"{why}. Instead {_ENCODE}")


ON_CORPORA: dict[str, OnCorpus] = {
    "overlap": OnCorpus(True, "lazy: of each position, computed when asked for; a baseline is counted at once"),
    "origins": OnCorpus(True, "lazy: of each position, and the shares of all, computed when asked for"),
    "trajectories": OnCorpus(True, "lazy: of each position, computed when asked for"),
    "hubness": OnCorpus(True, "computed at once, chunk by chunk; positions have to be counted over"),
    "roles": _at_build(_NO_ATTENTION, "roles"),
    "significance": _at_build(f"{_SEARCHES}, and its q-values are of all of them together", "significance"),
    "effects": _at_build(_RUNS, "effects"),
    "hubness_remedies": OnCorpus(False, f"{_SEARCHES}. Ask attnxr.hubness of the corpus; or {_ENCODE}"),
    "words": _of_few("a corpus keeps the ids of tokens, and not which characters and words they are of"),
    "comparison": _of_few("it aligns texts by the strings of their tokens, which a corpus does not keep"),
    "csls_neighbors": _of_few("it takes the distances of all positions to all entries, twice"),
    "rogue_dimensions": _of_few("it takes the mean of the vocabulary anew at each position"),
    "decompose": _of_few(_SEARCHES),
    "significance_power": _of_few(_SEARCHES),
    "attribute": _of_few(_RUNS),
    "promoted": _of_few(_RUNS),
    "encoding_map": _of_few("a map is of as many points as can be looked at"),
    "sequence_distances": _of_few("it is of every two positions"),
    "encoder_neighbors": _of_few("a corpus keeps nothing of cross-attention"),
    "sequence_neighbors": _of_few("it takes the distances of every two positions of a text"),
}
"""By name, all analyses that take a Dataset."""


def on_corpora(analysis: _F) -> _F:
    """Have an analysis take corpora, or refuse them with the reason, as `ON_CORPORA` says.

    Raises
    ------
    InputError
        When the analysis is called with a corpus and is not ready for one, or with a DataTree that is none.
    """
    said = ON_CORPORA[analysis.__name__]

    def taken(given: Any) -> Any:
        is_corpus = isinstance(given, xr.DataTree) or (isinstance(given, xr.Dataset) and has_many(given))
        if is_corpus and not said.ready:
            raise InputError(f"A corpus was given, and attnxr.{analysis.__name__} takes none: {said.how}")
        return results_of(given) if isinstance(given, xr.DataTree) else given

    @wraps(analysis)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        return analysis(*map(taken, args), **{name: taken(each) for name, each in kwargs.items()})

    wrapped.__signature__ = inspect.signature(analysis)  # type: ignore[attr-defined]
    return cast(_F, wrapped)


def results_of(corpus: xr.DataTree) -> xr.Dataset:
    """Put what a corpus keeps token by token beside the tokens it is of, lazily.

    Analyses that take a corpus do so themselves; call it to select layers, heads or positions first.

    Parameters
    ----------
    corpus : xr.DataTree
        What `attnxr.open_corpus` returns, of a corpus that is finished, or its node ``results``.

    Returns
    -------
    xr.Dataset
        The variables of ``results`` as dask arrays, with the coords of their tokens: ``position``, the only one in
        memory, ``token_id``, ``is_special``, ``text_id`` and ``text_position``; and of the corpus in whole, whatever is
        selected, ``source_token_id`` (source_token), ``row_size`` (source_id), ``vocab_token`` and ``vocab_text``
        (vocab). Without the positions of texts that failed; attrs ``texts_failed`` says how many did.

    Raises
    ------
    InputError
        If it is no such DataTree, keeps nothing token by token, or is not finished.

    Examples
    --------
    >>> import attnxr
    >>> model = attnxr.load_model("minilm")
    >>> texts = ["Time flies like an arrow.", "Fruit flies like a banana."]
    >>> corpus = attnxr.build_corpus(texts, "out.zarr", model, measures=[], keep=["neighbor_id"])
    >>> near = attnxr.results_of(corpus).sel(layer=[3])
    >>> shared = attnxr.overlap(near, between="heads").overlap.mean("position").compute()
    """
    root = corpus.root if isinstance(corpus, xr.DataTree) else None
    if root is None or "tokens" not in root.children:
        raise InputError(
            f"A {type(corpus).__name__} was given that is no corpus, or a part of one; expected what "
            "attnxr.open_corpus returns. Select from attnxr.results_of(corpus)."
        )
    if "results" not in root.children:
        raise InputError(
            "The corpus keeps nothing token by token, only what was measured, corpus['atlas']. Build it with keep=, "
            "such as keep=['neighbor_id', 'own_rank', 'own_distance']."
        )
    if not root.attrs.get("finished", 1):
        raise InputError("The corpus is not finished, so that results are missing. Call attnxr.build_corpus again.")
    tokens, results = (root.children[name].to_dataset(inherit=False) for name in ("tokens", "results"))
    n = results.sizes["position"]
    row_size = tokens["row_size"].values
    if n != row_size.sum() or tokens.sizes["position"] != n:
        raise InputError(
            f"The corpus has {n} positions, and its texts {row_size.sum()} tokens: it is a selection. Expected it "
            "whole; select from attnxr.results_of(corpus)."
        )
    of_position = {name: tokens[name].variable for name in ("token_id", "is_special", "text_id", "text_position")}
    of_vocabulary = {name: tokens[name].variable for name in ("vocab_token", "vocab_text")}
    whole = {"source_token_id": ("source_token", tokens["token_id"].data), "row_size": ("source_id", row_size)}
    results = results.assign_coords({"position": np.arange(n), **of_position, **of_vocabulary, **whole})
    failed = (tokens["error"].values != "") & (row_size > 0)
    if failed.any():
        results = results.isel(position=np.flatnonzero(~np.repeat(failed, row_size)))
    results.attrs["texts_failed"] = int(failed.sum())
    return describe(results, MANY_TEXTS)
