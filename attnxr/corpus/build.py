"""From texts to a corpus: the plan, its units, the atlas; begun anew, or gone on with where it was."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import xarray as xr

from attnxr.checking import boolean, choices, some_of, whole_number
from attnxr.corpus import reading as first_pass
from attnxr.corpus.finish import finish, is_finished
from attnxr.corpus.measures import MEASURES
from attnxr.corpus.opened import open_corpus
from attnxr.corpus.plan import LOCK, PLAN, Options, Plan, differences, needs
from attnxr.corpus.schema import KEPT
from attnxr.corpus.sources import texts_of
from attnxr.corpus.storage import Storage, at
from attnxr.corpus.unit import run, threads_limited, waiting
from attnxr.errors import InputError
from attnxr.options import Metric, VocabLayer
from attnxr.search.nearest import Progress, told_to

_OURS = ("atlas/", "attnxr/", "results/", "tokens/", "zarr.json")
_NOT_COMPARED = ("model", "name")  # the same model can lie elsewhere


def build_corpus(
    texts: Any,
    store: str | Path,
    model: Any,
    *,
    measures: Sequence[str] | None = None,
    keep: str | Sequence[str] = (),
    k: int = 15,
    metric: Metric = "cosine",
    vocab_layer: VocabLayer = "input",
    positional: bool = True,
    causal: bool | None = None,
    layers: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
    keep_layers: Sequence[int] | None = None,
    keep_heads: Sequence[int] | None = None,
    sample: int = 16,
    seed: int = 0,
    truncate: bool = True,
    unit_tokens: int = 1 << 12,
    batch_bytes: int = 1 << 28,
    threads: int = 1,
    client: Any = None,
    progress: Progress | None = None,
    reading: Callable[[int], None] | None = None,
) -> xr.DataTree:
    """Run many texts through a model, and store what is measured of its heads, and what is kept of each token.

    What was interrupted, by whatever, goes on with the same call: what is done stays, and the finished store is the
    same to the byte as that of a run without a break. Texts are first read, all of them, and written as tokens; these
    are cut into *units* of `unit_tokens`, which are done one after the other. Texts of one length in a unit go through
    the model together, without padding: the numbers are those of each text alone, but for rounding in their last digits
    (a relative 1e-6 in float32), by which the order of entries that are equally near can differ.

    Parameters
    ----------
    texts : iterable of str, path, URL, Hugging Face dataset or Source
        What `texts_of` takes or returns. It is iterated from its beginning by each call: one that can only be iterated
        once, such as a generator, has to be made anew.
    store : str or Path
        A folder, or a URL that fsspec knows, such as ``s3://bucket/name``.
    model : attnxr.Model
    measures : list of str, optional
        What to measure of each head; by default all there is, ``attnxr.corpus.measures.MEASURES``.
    keep : str or list of str
        What to keep of each token. Any of ``head_encoding``, ``neighbor_id``, ``distance``, ``in_sequence``,
        ``own_rank``, ``own_distance``. Neighbours take 9 bytes for each of the k of each token, layer and head.
    k, metric, vocab_layer, positional
        As in `Model.neighbors`.
    causal : bool, optional
        As in `Model.encode`.
    layers : list of int, optional
        Which layers to measure; by default all.
    heads : list of int, optional
        Which heads to measure; by default all.
    keep_layers : list of int, optional
        Of which layers it is kept; by default of all that are measured.
    keep_heads : list of int, optional
        Of which heads it is kept; by default of all that are measured.
    sample : int
        How many texts are shown whole to measures that take long. They are those whose numbers have the smallest
        hashes.
    seed : int
        Which texts these are: the same seed draws the same.
    truncate : bool
        Keep the start of a text that is too long. ``cut`` says how many tokens were cut. Otherwise it is none of the
        corpus, with the reason in ``error``, as a text that is blank.
    unit_tokens : int
        How many tokens a unit has, which is done as a whole: what is done again, at most, after a break, and what of
        results is held at once.
    batch_bytes : int
        What texts may take that go through the model together, in bytes. One text may take more. Texts whose neighbours
        are searched together may take as much: the more they are, the faster is the search.
    threads : int
        How many threads torch, the search and BLAS have. Part of the plan, as sums depend on it in their last digits.
    client : distributed.Client, optional
        Of a cluster that does the units in place of this process; the store is the same to the byte. Each worker loads
        the model once, by the name and with the options with which `attnxr.load_model` made `model`, so that
        ``device="cuda"`` is a worker's own first device; it has to find `store` under the same path or URL, and to have
        the same versions. A worker of several threads does as many units at once, with `threads` threads each. Workers
        may die or join while it runs.
    progress : callable, optional
        Told the fraction done, 0 … 1: once the texts are read, after each batch of them, now and then while neighbours
        are searched, after each text of the sample, and once more for each unit that is stored; by workers, no more
        than twice a second. It is that of tokens, where one of the sample counts for 40 more, about as many as it takes
        the time of. What it raises ends the call.
    reading : callable, optional
        Told how many texts were read, after each of them: once, before anything runs; what was begun before reads them
        again, to compare. How many there will be is not known. What it raises ends the call.

    Returns
    -------
    xr.DataTree
        What `open_corpus` returns. A text that could not be read, or fails in the model, is part of neither ``atlas``
        nor ``results``; ``tokens.error`` says why, and the others go on.

    Raises
    ------
    InputError
        If an option is invalid; if the store holds something else, or a corpus of another model, other texts or other
        settings, which are named; if another builder that lives is at work on it; or if no text can be read.
    OSError
        If files cannot be written, as on a full disk. What is done stays.

    Examples
    --------
    >>> import attnxr
    >>> model = attnxr.load_model("minilm")
    >>> texts = ["Time flies like an arrow.", "Fruit flies like a banana."]
    >>> corpus = attnxr.build_corpus(texts, "out.zarr", model, measures=["roles"])
    >>> one = corpus["atlas"].sel(layer=3, head=7)
    >>> corpus["tokens"].sizes["text"]
    2
    """
    storage = at(store)
    chosen = choices("measures", tuple(MEASURES) if measures is None else measures, tuple(MEASURES))
    kept = choices("keep", keep, tuple(KEPT))
    if not chosen and not kept:
        raise InputError(
            f"Nothing is to be measured or kept. Expected measures, of {', '.join(MEASURES) or 'none'}, or something "
            f"to keep, of {', '.join(KEPT)}."
        )
    if not kept and (keep_layers is not None or keep_heads is not None):
        raise InputError(
            f"keep_layers or keep_heads was given, and nothing to keep. Expected keep, of {', '.join(KEPT)}."
        )
    boolean("truncate", truncate)
    if callable(getattr(model, "batches", None)) is False:
        raise InputError(f"model={model!r:.80} was given; expected an attnxr.Model, as attnxr.load_model returns.")
    of_batches = {
        "layers": layers,
        "heads": heads,
        "causal": causal,
        "k": k,
        "metric": metric,
        "vocab_layer": vocab_layer,
        "positional": positional,
    }
    batches = model.batches(**of_batches)
    options = Options(
        **of_batches
        | {
            "layers": batches.layers,
            "heads": batches.heads,
            "k": int(k),
            "vocab_layer": vocab_layer if isinstance(vocab_layer, str) else int(vocab_layer),
            "positional": bool(positional),
            "causal": None if causal is None else bool(causal),
        },
        measures=chosen,
        keep=kept,
        keep_layers=tuple(sorted(some_of("keep_layers", keep_layers, batches.layers, "the corpus"))),
        keep_heads=tuple(sorted(some_of("keep_heads", keep_heads, batches.heads, "the corpus"))),
        sample=whole_number("sample", sample, 0),
        seed=whole_number("seed", seed, 0),
        truncate=bool(truncate),
        unit_tokens=whole_number("unit_tokens", unit_tokens, 1),
        batch_bytes=whole_number("batch_bytes", batch_bytes, 1),
        threads=whole_number("threads", threads, 1),
    )
    source = texts_of(texts)
    _check_place(storage)
    with storage.lock(LOCK):
        if storage.exists(PLAN):
            here = first_pass.settings(batches, model, options, {})
            _check_same(Plan.read(storage), first_pass.told_of(source, reading), here)
        else:
            with threads_limited(threads):
                batches.try_out("neighbors" in needs(options))
            _begin(storage)
            texts_read = first_pass.told_of(source, reading)
            first_pass.make(storage, texts_read, source.record, batches, model, options)
        plan = Plan.read(storage)
        if not is_finished(storage, plan):
            _do(plan, storage, model, client, progress)
            finish(storage)
        storage.clean()
    return open_corpus(store)


def _do(plan: Plan, storage: Storage, model: Any, client: Any, progress: Progress | None) -> None:
    """Do the units that wait: in order, or on a cluster."""
    units = waiting(storage, plan)
    told = _Told(plan, units, told_to(progress))
    if client is None:
        for number in units:
            run(plan, number, model, partial(told, number))
            told(number, 1.0)
    else:
        from attnxr.corpus import cluster  # which wants distributed

        cluster.do(plan, units, model, client, told)


class _Told:
    """Makes one fraction, that of the corpus, of those of its units."""

    def __init__(self, plan: Plan, units: list[int], progress: Progress):
        self._plan, self._progress = plan, progress
        self._total = sum(plan.work(number) for number in plan.units)
        self._done = self._total - sum(plan.work(number) for number in units)
        self._going: dict[int, float] = {}
        self._last = self._done / self._total
        progress(self._last)

    def __call__(self, number: int, fraction: float) -> None:
        """Tell that so much of a unit is done, 1 where it is stored; one that begins anew takes nothing back."""
        self._going[number] = max(fraction, self._going.get(number, 0.0))
        if fraction == 1:
            del self._going[number]
            self._done += self._plan.work(number)
        part = sum(self._plan.work(number) * fraction for number, fraction in self._going.items())
        self._last = max(self._last, (self._done + part) / self._total)
        self._progress(self._last)


def _check_place(storage: Storage) -> None:
    """Refuse a place that holds something else."""
    if storage.exists(PLAN) or storage.exists(LOCK):
        return
    others = [name for name in storage.names() if not name.startswith("attnxr/")]
    if others:
        raise InputError(
            f"The store {storage.url!r} holds other files, such as {others[0]!r}; expected a place of its own for a "
            "corpus, or a corpus to go on with."
        )


def _begin(storage: Storage) -> None:
    """Remove what a first pass that was interrupted has written."""
    storage.clean()
    for name in storage.names():
        if name != LOCK and name.startswith(_OURS):
            storage.remove(name)


def _check_same(plan: Plan, texts: Iterable[str], settings: dict[str, Any]) -> None:
    """Refuse to go on with another model, other options, versions or texts than a corpus was begun with."""
    found = list(differences(_compared(plan.settings), _compared(settings)))
    if not found:
        there = {name: plan.settings["texts"][name] for name in ("count", "sha256")}
        found = list(differences({"texts": there}, {"texts": first_pass.identity_of(texts)}))
    if found:
        raise InputError(
            f"The corpus at {plan.store!r} was begun with other settings: {'; '.join(found)}. Expected the same, to go "
            "on with it; or another store, for another corpus."
        )


def _compared(settings: dict[str, Any]) -> dict[str, Any]:
    return {
        part: {name: value for name, value in values.items() if (part, name) != _NOT_COMPARED}
        for part, values in settings.items()
        if part != "texts"
    }
