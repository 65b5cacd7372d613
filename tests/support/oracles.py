"""Slow float64 references, written from the definitions and sharing no code with attnxr.

Only numpy and scipy are used: a BERT or RoBERTa is its parameters, read from the Hugging Face model's own state dict.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.optimize
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


def pursuit(z: Array, vectors: Array, n: int) -> list[int]:
    """Ids that non-negative orthogonal matching pursuit adds up to z (d,), among vectors (V, d) less their mean."""
    mean = vectors.mean(0)
    a, y = vectors - mean, z - mean
    ids: list[int] = []
    rest = y
    while len(ids) < n and np.linalg.norm(rest) > TIE * (np.linalg.norm(z) + np.linalg.norm(mean)):
        cosine = distances("cosine", rest, a)
        cosine[ids] = 1
        if cosine.min() >= 1 - TIE:
            break
        ids.append(int(cosine.argmin()))
        weights, _ = scipy.optimize.nnls(a[ids].T, y)
        rest = y - weights @ a[ids]
    return ids


def check_pursuit(ids: Array, weights: Array, explained: Array, z: Array, vectors: Array) -> bool:
    """Fail unless a pursuit of z (d,) in as many steps as `ids` (n,) has took one of the best entries at each.

    Its own entries are followed, so that a tie in one step does not make the next ones another pursuit. Returns
    whether they are those of `pursuit`.
    """
    z, vectors = np.asarray(z, np.float64), np.asarray(vectors, np.float64)
    mean = vectors.mean(0)
    a, y = vectors - mean, z - mean
    lengths, size = np.linalg.norm(a, axis=-1), np.linalg.norm(y)
    off = TIE * (np.linalg.norm(z) + np.linalg.norm(mean))  # how far any of the vectors may be off
    rest, there = y, ids >= 0
    assert not np.diff(there).any() or there[: there.sum()].all(), "entries follow where the pursuit had ended"
    assert len(set(ids[there])) == there.sum(), "an entry is there twice"
    assert (np.isnan(weights) == ~there).all()
    for step, entry in enumerate(ids):
        left = np.linalg.norm(rest)
        with np.errstate(invalid="ignore", divide="ignore"):
            cosine = np.nan_to_num(a @ rest / (lengths * left))
            slack = off / left + off / np.where(lengths > 0, lengths, np.inf)
        cosine[ids[:step]] = -1
        if entry < 0:
            assert left <= 2 * off or (cosine <= 2 * slack).all(), "the pursuit ended too early"
        else:
            assert cosine[entry] + 2 * slack[entry] >= (cosine - 2 * slack).max(), "a better entry is missing"
            w, _ = scipy.optimize.nnls(a[ids[: step + 1]].T, y)
            rest = y - w @ a[ids[: step + 1]]
        share = 1 - (np.linalg.norm(rest) / size) ** 2
        assert abs(explained[step] - share) <= 10 * off / size, "a share is off"
    if there.any():
        assert (weights[there] >= 0).all()
        assert np.linalg.norm((weights[there] - w) @ a[ids[there]]) <= 10 * off, "the weights are off"
    return ids[there].tolist() == pursuit(z, vectors, len(ids))


@dataclass(frozen=True)
class HeldNorm:
    """A norm with the scale that it has for its input x (n, D) in a text; an RMSNorm where it is not centred."""

    x: Array
    weight: Array
    bias: Array | float
    eps: float
    centred: bool = True

    def of(self, part: Array, position: int) -> Array:
        """What a part (D,) of the input at a position becomes, without the bias."""
        x = self.x[position] - self.x[position].mean() if self.centred else self.x[position]
        part = part - part.mean() if self.centred else part
        return part / math.sqrt((x * x).mean() + self.eps) * self.weight


@dataclass(frozen=True)
class BlockParts:
    """What a block did to the stream of a text: see `last_hidden_parts`."""

    z: Array  # (n, H, d)
    matrix: Array  # W_O, (D, H * d)
    offset: Array | float  # its bias
    feed_forward: Array  # what it wrote (n, D), behind its own norm if it has one
    branch: HeldNorm | None = None  # of what the attention wrote
    middle: HeldNorm | None = None  # after it was added
    last: HeldNorm | None = None  # after the feed-forward was added


def last_hidden_parts(embedding: Array, blocks: list[BlockParts], last: HeldNorm | None) -> dict[str, Array]:
    """Each part of the last hidden state goes through all norms that come after it, one after the other."""
    n, width = embedding.shape
    n_heads = blocks[0].z.shape[1]
    out = {
        "embedding": np.zeros((n, width)),
        "head": np.zeros((len(blocks), n_heads, n, width)),
        "feed_forward": np.zeros((len(blocks), n, width)),
        "bias": np.zeros((n, width)),
    }
    steps: list[HeldNorm | None] = [norm for block in blocks for norm in (block.middle, block.last)] + [last]

    def sent(part: Array, position: int, first: int) -> Array:
        for norm in steps[first:]:
            part = part if norm is None else norm.of(part, position)
        return part

    for p in range(n):
        out["embedding"][p] = sent(embedding[p], p, 0)
        for i, norm in enumerate(steps):
            if norm is not None:
                out["bias"][p] += sent(norm.bias * np.ones(width), p, i + 1)
        for i, block in enumerate(blocks):
            size = block.z.shape[2]
            offset = block.offset * np.ones(width)
            if block.branch is not None:
                offset = block.branch.of(offset, p) + block.branch.bias
            out["bias"][p] += sent(offset, p, 2 * i)
            out["feed_forward"][i, p] = sent(block.feed_forward[p], p, 2 * i + 1)
            for h in range(n_heads):
                written = block.matrix[:, h * size : (h + 1) * size] @ block.z[p, h]
                if block.branch is not None:
                    written = block.branch.of(written, p)
                out["head"][i, h, p] = sent(written, p, 2 * i)
    return out


def gelu_slope(u: Array) -> Array:
    """Derivative of the exact GELU."""
    return 0.5 * (1 + _erf(u / math.sqrt(2))) + u * np.exp(-u * u / 2) / math.sqrt(2 * math.pi)


def roles(texts: Any) -> tuple[dict[str, Array], dict[str, int]]:
    """Measures (layer, head) of attention, and the positions each is over, one weight after the other.

    `texts` are (attention (layer, head, position, key_position), token ids, which are special, causal, positions).
    """
    sums: dict[str, Array] = {}
    counts: dict[str, int] = {}

    def add(name: str, value: Any) -> None:
        sums[name] = sums.get(name, 0) + value
        counts[name] = counts.get(name, 0) + 1

    for attention, ids, special, causal, positions in texts:
        a = np.asarray(attention, np.float64)
        zero = np.zeros(a.shape[:2])
        for row, q in enumerate(positions):
            visible = range(q + 1) if causal else range(len(ids))
            add("self_attention_score", a[:, :, row, q])
            if q >= 1:
                add("prev_token_score", a[:, :, row, q - 1])
                add("first_token_score", a[:, :, row, 0])
            if q + 1 in visible:
                add("next_token_score", a[:, :, row, q + 1])
            same = [k for k in visible if k != q and ids[k] == ids[q]]
            if same:
                add("duplicate_token_score", sum((a[:, :, row, k] for k in same), zero))
            earlier = [p for p in range(q) if ids[p] == ids[q]]
            if earlier:
                after = [a[:, :, row, p + 1] for p in earlier]
                add("induction_score", sum((np.where(w < 0.01, 0, w) for w in after), zero))
            specials = [k for k in visible if special[k]]
            if specials:
                add("special_token_score", sum((a[:, :, row, k] for k in specials), zero))
            entropy, distance, square = zero.copy(), zero.copy(), zero.copy()
            for k in range(len(ids)):
                w = a[:, :, row, k]
                entropy -= np.where(w > 0, w * np.log(np.where(w > 0, w, 1)), 0)
                distance += w * abs(q - k)
                square += w * (q - k) ** 2
            add("pattern_entropy", entropy)
            add("qk_distance", distance)
            add("qk_distance_variance", square)
    means = {name: total / counts[name] for name, total in sums.items()}
    means["qk_distance_variance"] = means["qk_distance_variance"] - means["qk_distance"] ** 2
    return means, counts
