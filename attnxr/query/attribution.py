"""What each part of a model adds to the logits: its heads, feed-forwards, embeddings and biases."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from attnxr import schema
from attnxr.checking import vocabulary_ids, whole_number
from attnxr.errors import InputError, UnsupportedModelError
from attnxr.probe.additions import Additions, Parts
from attnxr.probe.language_head import LanguageHead
from attnxr.probe.linear_head import LinearHead
from attnxr.probe.norms import tolerance
from attnxr.query.request import Options, Request
from attnxr.query.snapshot import Snapshot
from attnxr.search.ends import ends
from attnxr.search.nearest import Progress, within

_NUMBERS = 1 << 22  # of the heads' contributions that are at hand at once


@dataclass(frozen=True, eq=False)
class _Here:
    """Some positions of one text.

    Attributes
    ----------
    rows : int array (p,)
        Which of the Dataset's positions.
    places : int array (p,)
        Their places in the text.
    parts : Parts
        Of their last hidden states.
    head : LinearHead
        Of the text.
    """

    rows: NDArray[np.intp]
    places: NDArray[np.intp]
    parts: Parts
    head: LinearHead


class _Question:
    """Encodings whose texts are run through the model again, to see what adds up to their logits."""

    def __init__(self, seen: Snapshot, name: str, encodings: xr.Dataset, purpose: str):
        if seen.window.stack is not None:
            raise UnsupportedModelError(
                f"{purpose} asked of the decoder of {seen.window.family}, whose blocks also add what they read of the "
                "encoder's text, so that its logits are not the sum of the parts that are known. Expected a model "
                "without an encoder; Model.replace and attnxr.effects say what the heads of a decoder do."
            )
        self._seen, self._name = seen, name
        self.asked = Request.of(seen, name, encodings, Options("encoding", "value", "input", positional=True))
        self.attrs = {**encodings.attrs, "vocab_size": seen.vocabulary.size}
        self._head = LanguageHead(seen.window, seen.vocabulary.size, purpose)
        self.output = seen.vocabulary.unembedding().rows[0]
        layout, frame = seen.window.layout, self.asked.frame
        self.layers = np.array([layout.layers.index(label) for label in np.asarray(frame.coords["layer"])])
        self.heads = np.asarray(frame.coords["head"])
        causal = bool(encodings.attrs.get("causal", layout.causal))
        self._causal = None if causal == layout.causal else causal

    def __iter__(self) -> Iterator[_Here]:
        """Go through the positions, some of a text at a time."""
        asked, window = self.asked, self._seen.window
        for i, (ids, types) in enumerate(zip(asked.texts, asked.types, strict=True)):
            rows = np.flatnonzero(asked.text_of == i)
            if not len(rows):
                continue
            additions = Additions(window, ids, types, self._causal)
            self._check(additions, rows)
            head = LinearHead(self._head, additions.hidden, self._seen.vocabulary.size)
            of_position = window.layout.n_layers * window.layout.n_heads * additions.hidden.shape[-1]
            step = max(1, _NUMBERS // of_position)
            for start in range(0, len(rows), step):
                some = rows[start : start + step]
                places = asked.at[some]
                yield _Here(some, places, additions.parts(places), head)
        if not self._seen.is_current():
            raise InputError(
                "The model's weights were changed or moved while the text ran through it; expected weights that stay "
                "as they are during a call. Encode the text again."
            )

    def _check(self, additions: Additions, rows: NDArray[np.intp]) -> None:
        """Fail where the head encodings that were given are not those that the text's logits are made from."""
        asked = self.asked
        found = additions.encodings[np.ix_(self.layers, self.heads, asked.at[rows])]
        off = np.linalg.norm(asked.vectors[:, :, rows] - found, axis=-1).max()
        largest = np.linalg.norm(found, axis=-1).max()
        if off > tolerance(self._seen.window.model.dtype) * largest:
            raise InputError(
                f"The head encodings differ from those that the model makes of the text by {off / largest:.1e} of the "
                "largest. Expected what Model.encode returns, unchanged: the parts of other logits than the text's "
                "own are not known."
            )

    def dataset(self, variables: dict[str, tuple], specs: dict[str, schema.Spec], **attrs: object) -> xr.Dataset:
        """The Dataset of an answer, without the dimensions that the selection had dropped."""
        frame = self.asked.frame
        result = xr.Dataset(variables, dict(frame.coords), {**self.attrs, **attrs})
        return schema.describe(result, specs).isel(dict.fromkeys(frame.dropped, 0))


def parts_of_logits(
    seen: Snapshot, name: str, encodings: xr.Dataset, ids: xr.DataArray | None, progress: Progress
) -> xr.Dataset:
    """Contributions of all parts to the logits of chosen vocabulary entries; see `Model.logit_parts`."""
    question = _Question(seen, name, encodings, "The parts of logits were")
    asked = question.asked
    n = len(asked.own)
    targets = _true_tokens(seen, asked) if ids is None else _given(ids, asked, seen.vocabulary.size, name)
    known = np.maximum(targets, 0)
    m = targets.shape[1]
    layers, heads = question.layers, question.heads
    of_heads, of_feed_forward = np.empty((len(layers), len(heads), n, m)), np.empty((len(layers), n, m))
    of_embedding, of_bias, rest, logit = (np.zeros((n, m)) for _ in range(4))
    is_whole = len(layers) == seen.window.layout.n_layers and len(heads) == seen.window.layout.n_heads
    done = 0
    for here in question:
        rows, head, parts, wanted = here.rows, here.head, here.parts, known[here.rows]
        columns = question.output[wanted].astype(np.float64)  # (p, m, E)
        every_head, every_feed_forward = (
            _products(head.directions(part, here.places), columns) for part in (parts.heads, parts.feed_forward)
        )
        of_heads[:, :, rows] = every_head[np.ix_(layers, heads)]
        of_feed_forward[:, rows] = every_feed_forward[layers]
        if not is_whole:
            everything = every_head.sum(axis=(0, 1)) + every_feed_forward.sum(axis=0)
            rest[rows] = everything - of_heads[:, :, rows].sum(axis=(0, 1)) - of_feed_forward[:, rows].sum(axis=0)
        rest[rows] += _products(head.directions(parts.others, here.places), columns)
        of_embedding[rows] = _products(head.directions(parts.embedding, here.places), columns)
        of_bias[rows] = _products(head.directions(parts.bias, here.places, True), columns) + head.bias[wanted]
        logit[rows] = head.logits(here.places, wanted)
        done += len(rows)
        progress(done / n)
    remainder = logit - of_heads.sum(axis=(0, 1)) - of_feed_forward.sum(axis=0) - of_embedding - of_bias - rest
    others = ("entry",) if ids is not None and "entry" in ids.dims else ()
    found = {
        "head_logit": of_heads,
        "feed_forward_logit": of_feed_forward,
        "embedding_logit": of_embedding,
        "bias_logit": of_bias,
        "rest_logit": rest,
        "logit": logit,
        "remainder": remainder,
    }
    missing = targets < 0
    for values in found.values():
        values[..., missing] = np.nan
    names = {
        "target_id": targets,
        "target": np.where(missing, "", seen.tokens.token[known]),
        "target_text": np.where(missing, "", seen.tokens.text[known]),
    }
    specs = {
        each: replace(spec, dims=tuple(dim for dim in spec.dims if dim != "entry" or others))
        for each, spec in schema.ATTRIBUTION.items()
    }
    variables = {
        each: (specs[each].dims, values if others else values[..., 0]) for each, values in (found | names).items()
    }
    result = question.dataset(variables, specs)
    return result.set_coords(list(names))


def _products(directions: NDArray[np.float64], columns: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of vectors (…, p, E) with those of their position, (p, m, E): (…, p, m)."""
    return np.einsum("...pe,pme->...pm", directions, columns, optimize=True)


def _true_tokens(seen: Snapshot, asked: Request) -> NDArray[np.int64]:
    """What the model is to say at each position, (n, 1): the token there, or the next one; −1 where none follows."""
    if not seen.window.layout.causal:
        return asked.own[:, None]
    texts = asked.texts
    places = zip(asked.text_of.tolist(), asked.at.tolist(), strict=True)
    following = [texts[i][at + 1] if at + 1 < len(texts[i]) else -1 for i, at in places]
    return np.array(following, np.int64)[:, None]


def _given(ids: xr.DataArray, asked: Request, size: int, name: str) -> NDArray[np.int64]:
    """Ids (n, m) from an array with the dimensions position, entry, or one of them."""
    others = [str(dim) for dim in ids.dims if dim not in ("position", "entry")]
    if others or ids.dtype.kind not in "iu" or not ids.size:
        raise InputError(
            f"ids with dimensions {ids.dims}, shape {ids.shape} and dtype {ids.dtype} were given; expected whole "
            "numbers along entry, position or both."
        )
    vocabulary_ids(ids.values.ravel().tolist(), size, name)
    n = len(asked.own)
    if "position" in ids.dims and ids.sizes["position"] != n:
        raise InputError(
            f"ids for {ids.sizes['position']} positions were given; the encodings have {n}. Select the same from both."
        )
    whole = ids.expand_dims([dim for dim in ("position", "entry") if dim not in ids.dims])
    whole = whole.transpose("position", "entry")
    return np.broadcast_to(whole.values.astype(np.int64), (n, whole.sizes["entry"]))


def extremes_of_logits(seen: Snapshot, name: str, encodings: xr.Dataset, k: int, progress: Progress) -> xr.Dataset:
    """The entries that each head promotes and suppresses most; see `Model.logit_extremes`."""
    k = whole_number("k", k, 1, seen.vocabulary.size, f"the size of the vocabulary of {name!r}")
    question = _Question(seen, name, encodings, "What heads promote was")
    n, done = len(question.asked.own), 0
    shape = (len(question.layers), len(question.heads), n, k)
    found = [np.empty(shape, dtype) for dtype in (np.int32, np.float32) * 2]
    for here in question:
        chosen = here.parts.heads[np.ix_(question.layers, question.heads)]
        vectors = here.head.directions(chosen, here.places)
        told = within(progress, done / n, len(here.rows) / n)
        of_both = ends(question.output, vectors.reshape(-1, vectors.shape[-1]), k, told)
        for whole, part in zip(found, of_both, strict=True):
            whole[:, :, here.rows] = part.reshape(*vectors.shape[:-1], k)
        done += len(here.rows)
    high_ids, high, low_ids, low = found
    variables = named_extremes(seen, (high_ids, high), (low_ids, low), ("layer", "head", "position", "rank"))
    return question.dataset(variables | {"rank": ("rank", np.arange(1, k + 1))}, schema.PROMOTED, k=k)


def named_extremes(
    seen: Snapshot, most: tuple[NDArray, NDArray], least: tuple[NDArray, NDArray], dims: Sequence[str]
) -> dict[str, tuple]:
    """Variables of what is promoted and suppressed most, ids and logits, with the names of the entries."""
    variables: dict[str, tuple] = {}
    for kind, (ids, logits) in (("promoted", most), ("suppressed", least)):
        variables |= {
            f"{kind}_id": (dims, ids),
            kind: (dims, seen.tokens.token[ids]),
            f"{kind}_text": (dims, seen.tokens.text[ids]),
            f"{kind}_logit": (dims, logits),
        }
    return variables
