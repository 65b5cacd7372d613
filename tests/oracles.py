"""Slow float64 references, written from the definitions and sharing no code with attnxr.

Only numpy is used: a BERT or RoBERTa is its parameters, read from the Hugging Face model's own state dict.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
METRICS = ("cosine", "euclidean", "dot", "centered_cosine")
TIE = 1e-6
"""Two distances nearer to each other than this, on the scale of what is compared, count as a tie."""

_erf = np.vectorize(math.erf, otypes=[float])


@dataclass(frozen=True)
class Trace:
    """What one forward pass computes: (layer, head, position, d), or (layer, position, D) without heads."""

    query: Array
    key: Array
    value: Array
    attention: Array
    encoding: Array
    attention_output: Array
    residual: Array
    hidden: Array


class Bert:
    """A BERT or RoBERTa encoder in float64, with a vocabulary of the first `vocab_size` words."""

    def __init__(self, hf_model: Any, vocab_size: int | None = None) -> None:
        self.params: dict[str, Array] = {
            name: tensor.detach().double().numpy() for name, tensor in hf_model.state_dict().items()
        }
        config = hf_model.config
        assert config.hidden_act == "gelu"
        self.vocab_size = vocab_size or config.vocab_size
        self.eps = config.layer_norm_eps
        self.n_layers = config.num_hidden_layers
        self.n_heads = config.num_attention_heads
        self.padding_idx = config.pad_token_id if config.model_type == "roberta" else None

    def position_ids(self, token_ids: Any) -> Array:
        """Where each token stands: BERT counts from 0, RoBERTa from padding_idx + 1 and skips padding."""
        token_ids = np.asarray(token_ids)
        if self.padding_idx is None:
            return np.arange(len(token_ids))
        real = token_ids != self.padding_idx
        return np.cumsum(real) * real + self.padding_idx

    def norm(self, name: str, x: Array) -> Array:
        """LayerNorm, with the biased variance."""
        centred = x - x.mean(-1, keepdims=True)
        variance = np.einsum("...d,...d->...", centred, centred)[..., None] / centred.shape[-1]
        scale = self.params[f"{name}.weight"] / np.sqrt(variance + self.eps)
        return centred * scale + self.params[f"{name}.bias"]

    def linear(self, name: str, x: Array) -> Array:
        """A Linear layer, which stores (out, in)."""
        return x @ self.params[f"{name}.weight"].T + self.params[f"{name}.bias"]

    def embed(self, token_ids: Array, position_ids: Array | int | None, types: Array | int = 0) -> Array:
        """Word + token type + position (unless None), normalised."""
        added = self.params["embeddings.token_type_embeddings.weight"][types]
        if position_ids is not None:
            added = added + self.params["embeddings.position_embeddings.weight"][position_ids]
        words = self.params["embeddings.word_embeddings.weight"][token_ids]
        return self.norm("embeddings.LayerNorm", words + added)

    def project(self, layer: int, kind: str, x: Array) -> Array:
        """Query, key or value of every head: (head, position, d)."""
        flat = self.linear(f"encoder.layer.{layer}.attention.self.{kind}", x)
        return flat.reshape(len(x), self.n_heads, -1).transpose(1, 0, 2)

    def vocabulary(self, kind: str, position_id: int | None, token_type: int = 0) -> Array:
        """What layer 0 computes for every vocabulary token at one position: (head, vocab, d)."""
        return self.project(0, kind, self.embed(np.arange(self.vocab_size), position_id, token_type))

    def trace(self, token_ids: Any, types: Any = 0) -> Trace:
        """The whole forward pass of one text."""
        token_ids = np.asarray(token_ids)
        x = self.embed(token_ids, self.position_ids(token_ids), np.asarray(types))
        layers = []
        for layer in range(self.n_layers):
            name = f"encoder.layer.{layer}"
            query, key, value = (self.project(layer, kind, x) for kind in ("query", "key", "value"))
            scores = query @ key.transpose(0, 2, 1) / math.sqrt(query.shape[-1])
            weights = np.exp(scores - scores.max(-1, keepdims=True))
            weights /= weights.sum(-1, keepdims=True)
            encoding = weights @ value
            written = self.linear(f"{name}.attention.output.dense", concatenate_heads(encoding))
            residual = x + written
            x = self.norm(f"{name}.attention.output.LayerNorm", residual)
            inner = self.linear(f"{name}.intermediate.dense", x)
            inner = inner * 0.5 * (1 + _erf(inner / math.sqrt(2)))
            x = self.norm(f"{name}.output.LayerNorm", x + self.linear(f"{name}.output.dense", inner))
            layers.append((query, key, value, weights, encoding, written, residual, x))
        return Trace(*(np.stack(parts) for parts in zip(*layers, strict=True)))


def relative_error(found: Array, true: Array) -> float:
    """The largest of the vectors (..., d)."""
    return float((np.linalg.norm(found - true, axis=-1) / np.linalg.norm(true, axis=-1)).max())


def concatenate_heads(encoding: Array) -> Array:
    """(..., head, position, d) to (..., position, head * d)."""
    swapped = np.swapaxes(encoding, -3, -2)
    return swapped.reshape(*swapped.shape[:-2], -1)


def distances(metric: str, queries: Array, vectors: Array) -> Array:
    """From every query (..., d) to every vector (V, d): (..., V)."""
    queries, vectors = np.asarray(queries, np.float64), np.asarray(vectors, np.float64)
    if metric == "centered_cosine":
        mean = vectors.mean(0)
        return distances("cosine", queries - mean, vectors - mean)
    if metric == "euclidean":  # feature by feature: neither cancellation nor an array of all differences
        return np.sqrt(sum((queries[..., [f]] - vectors[:, f]) ** 2 for f in range(vectors.shape[1])))
    products = queries @ vectors.T
    if metric == "dot":
        return -products
    assert metric == "cosine"
    both = np.linalg.norm(queries, axis=-1)[..., None] * np.linalg.norm(vectors, axis=-1)
    return 1 - np.divide(products, both, out=np.zeros_like(products), where=both > 0)


def tolerances(metric: str, queries: Array, vectors: Array, tie: float = TIE) -> Array:
    """How far each distance may be off: what a relative change of `tie` in both vectors can do to it."""
    queries, vectors = np.asarray(queries, np.float64), np.asarray(vectors, np.float64)
    lengths, sizes = np.linalg.norm(queries, axis=-1)[..., None], np.linalg.norm(vectors, axis=-1)
    if metric == "cosine":
        return np.full(np.broadcast_shapes(lengths.shape, sizes.shape), tie)
    if metric == "euclidean":
        return tie * (lengths + sizes)
    if metric == "dot":
        return tie * lengths * sizes
    assert metric == "centered_cosine"
    mean = vectors.mean(0)
    centred_lengths = np.linalg.norm(queries - mean, axis=-1)[..., None]
    centred_sizes = np.linalg.norm(vectors - mean, axis=-1)
    size = sizes.mean()
    with np.errstate(divide="ignore", invalid="ignore"):
        # subtracting the mean magnifies the relative error of what is left; no cosine is off by more than 2
        grown = (lengths + size) / centred_lengths + (sizes + size) / centred_sizes
    return np.nan_to_num(np.minimum(tie * grown / 2, 2.0), nan=2.0)


def own_rank(dist: Array, own: int) -> Array:
    """1 + the number of entries strictly nearer than the own one."""
    return 1 + (dist < dist[..., [own]]).sum(-1)


def sequence_distances(metric: str, encoding: Array) -> Array:
    """Between the head encodings of all positions of a text: (layer, head, position, other_position)."""
    out = np.empty((*encoding.shape[:3], encoding.shape[2]))
    for index in np.ndindex(*encoding.shape[:2]):
        out[index] = distances(metric, encoding[index], encoding[index])
    return out


def check_neighbors(ids: Array, found: Array, true: Array, tolerance: Array) -> None:
    """Fail unless (..., k) ids and distances are the k nearest of the true (..., V) distances, ties aside."""
    ids, found = np.asarray(ids), np.asarray(found, np.float64)
    k, n_vocab = ids.shape[-1], true.shape[-1]
    assert found.shape == ids.shape == (*true.shape[:-1], k)
    assert ids.min() >= 0
    assert ids.max() < n_vocab
    assert (np.diff(np.sort(ids, axis=-1), axis=-1) > 0).all(), "a neighbour is named twice"
    assert (np.diff(found, axis=-1) >= 0).all(), "the distances do not ascend"
    at, slack = np.take_along_axis(true, ids, -1), np.take_along_axis(tolerance, ids, -1)
    off = np.abs(found - at)
    assert (off <= slack).all(), f"a distance is off by {(off / slack).max():.3g} tolerances"
    assert (at[..., :-1] <= at[..., 1:] + slack[..., :-1] + slack[..., 1:]).all(), "the order is wrong"
    left_out = np.ones(true.shape, bool)
    np.put_along_axis(left_out, ids, False, -1)
    nearest_left_out = np.where(left_out, true + tolerance, np.inf).min(-1)
    assert (at - slack <= nearest_left_out[..., None]).all(), "a nearer entry is missing"


def check_own(rank: Array, found: Array, true: Array, tolerance: Array, own: int) -> None:
    """Fail unless rank and distance of entry `own` follow from the true (..., V) distances, ties aside."""
    at, slack = true[..., own], tolerance[..., own]
    off = np.abs(np.asarray(found, np.float64) - at)
    assert (off <= slack).all(), f"an own distance is off by {(off / slack).max():.3g} tolerances"
    spread = tolerance + slack[..., None]
    others = np.arange(true.shape[-1]) != own
    surely = ((true < at[..., None] - spread) & others).sum(-1)
    perhaps = ((true <= at[..., None] + spread) & others).sum(-1)
    rank = np.asarray(rank)
    assert ((1 + surely <= rank) & (rank <= 1 + perhaps)).all(), "an own rank is wrong"
