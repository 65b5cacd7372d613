"""What each head does to the logits when it reads a token, whatever the text: token, value, W_O, output embeddings."""

from collections.abc import Sequence

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from attnxr import schema
from attnxr.checking import boolean, some_of, vocabulary_ids, whole_number
from attnxr.errors import InputError, UnsupportedModelError
from attnxr.probe.additions import Additions
from attnxr.probe.heads import output_map
from attnxr.probe.language_head import LanguageHead
from attnxr.probe.linear_head import LinearHead
from attnxr.query.attribution import named_extremes
from attnxr.query.snapshot import Snapshot
from attnxr.search import nearest
from attnxr.search.nearest import Nearest, Progress, within
from attnxr.vocabulary.arrival import arrivals
from attnxr.vocabulary.encodings import random_text

_NUMBERS = 1 << 23  # of what the heads of a layer write that are at hand at once
_TOKENS = 8  # of the text on which it is seen which norms there are


def answer(
    seen: Snapshot,
    name: str,
    ids: Sequence[int],
    layers: Sequence[int] | None,
    heads: Sequence[int] | None,
    k: int,
    after_first_block: bool,
    progress: Progress,
) -> xr.Dataset:
    """Ranks of tokens among what heads promote that read them; see `Model.head_maps`."""
    window, layout, size = seen.window, seen.window.layout, seen.vocabulary.size
    k = whole_number("k", k, 1, size, f"the size of the vocabulary of {name!r}")
    boolean("after_first_block", after_first_block)
    tokens = np.asarray(list(ids), np.int64)
    if not len(tokens):
        raise InputError("No tokens were given; expected at least one.")
    vocabulary_ids(tokens.tolist(), size, name)
    chosen = some_of("layers", layers, layout.layers, window.family)
    which = some_of("heads", heads, range(layout.n_heads), window.family)
    if layout.gated:
        raise UnsupportedModelError(
            f"{window.family} multiplies what its heads write by a gate or a norm that depends on the text before W_O "
            "reads it, so that no head does the same to the logits whatever the text. Ask attnxr.attribute of a text."
        )
    if window.stack is not None:
        raise UnsupportedModelError(
            f"A map of the vocabulary was asked of the decoder of {window.family}, whose blocks also add what "
            "they read of the encoder's text. Expected a model without an encoder."
        )
    length = min(_TOKENS, layout.max_tokens or _TOKENS)
    additions = Additions(window, random_text(window, size, length, seed=0).tolist(), (), None)
    head = LinearHead(LanguageHead(window, size, "A map of the vocabulary was"), additions.hidden, size)
    _check_width(seen, additions)
    shape = (len(chosen), len(which), len(tokens))
    most, least = Nearest.empty(shape, k), Nearest.empty(shape, k)
    done, total = 0, len(chosen) * len(tokens)
    step = max(1, _NUMBERS // (len(which) * additions.hidden.shape[1]))
    for i, label in enumerate(chosen):
        layer = layout.layers.index(label)
        if not seen.vocabulary.can_leave_positions_out(layer):
            raise UnsupportedModelError(
                f"{window.family} adds positions to its embeddings in a way that does not show as a module of its own, "
                "so that there are no tokens without a position to map."
            )
        norms = additions.norms_after(layer)
        matrix, _ = output_map(window, layer)
        of_heads = matrix.reshape(len(matrix), layout.n_heads, -1)[:, which]
        for start in range(0, len(tokens), step):
            some = slice(start, start + step)
            values = _values(seen, layer, tokens[some], after_first_block)[np.array(which) // _group(seen)]
            vectors = np.einsum("dhf,hmf->hmd", of_heads, values, optimize=True)
            for norm in norms:
                vectors = norm.direction(vectors)
            told = within(progress, done / total, len(tokens[some]) / total)
            ends = _both_ends(seen, np.sign(head.scale) * vectors[None], tokens[some], k, told)
            for whole, part in zip((most, least), ends, strict=True):
                for array, of_part in zip(whole.arrays, part.arrays, strict=True):
                    array[i, :, some] = of_part[0]
            done += len(tokens[some])
    if not seen.is_current():
        raise InputError("The model's weights were changed or moved during the call; expected weights that stay.")
    dims = ("layer", "head", "vocab", "rank")
    both = (most.ids, -most.distance), (least.ids, least.distance)
    variables = named_extremes(seen, *both, dims) | {
        "own_rank": (dims[:3], most.own_rank),
        "lowest_rank": (dims[:3], least.own_rank),
    }
    coords = {
        "layer": np.array(chosen),
        "head": np.array(which),
        "vocab": tokens,
        "rank": np.arange(1, k + 1),
        "vocab_token": ("vocab", seen.tokens.token[tokens]),
        "vocab_text": ("vocab", seen.tokens.text[tokens]),
    }
    attrs = {
        "model": name,
        "fingerprint": seen.fingerprint,
        "vocab_size": size,
        "k": k,
        "after_first_block": int(after_first_block),
        "transform": "left out" if head.has_transform else "none",
    }
    return schema.describe(xr.Dataset(variables, coords, attrs), schema.VOCABULARY_MAP)


def _both_ends(
    seen: Snapshot, vectors: NDArray[np.float64], own: NDArray[np.int64], k: int, progress: Progress
) -> tuple[Nearest, Nearest]:
    """Search the output embeddings for the largest and the smallest products with vectors (L, H, n, E).

    Distances are minus the products for the one, and the products for the other; own ranks count from that end.
    """
    layers, heads, n, _ = vectors.shape
    found = nearest.search(
        seen.vocabulary.unembedding(),
        np.concatenate([vectors, -vectors]),
        np.zeros(heads, np.intp),
        np.zeros(n, np.intp),
        own,
        k,
        "dot",
        progress,
    )
    most, least = (Nearest(*(each[part] for each in found.arrays)) for part in (slice(layers), slice(layers, None)))
    return most, least


def _values(seen: Snapshot, layer: int, tokens: NDArray[np.int64], through_first: bool) -> NDArray[np.float64]:
    """Values that a layer computes of tokens without a position: float64 (kv heads, m, d)."""
    found = arrivals(seen.window, "value", layer, torch.zeros(1), torch.from_numpy(tokens), through_first)
    return found.numpy().astype(np.float64)


def _group(seen: Snapshot) -> int:
    """How many heads share a key/value head."""
    return seen.window.layout.n_heads // seen.window.layout.n_kv_heads


def _check_width(seen: Snapshot, additions: Additions) -> None:
    width, expected = additions.hidden.shape[1], seen.vocabulary.output_width()
    if width != expected:
        raise UnsupportedModelError(
            f"{seen.window.family} has a stream of {width} numbers and output embeddings of {expected}: the transform "
            "in between needs a text to be linear at. Use attnxr.promoted, which has one."
        )
