"""Other ways to the same neighbours, each as its own documentation has it.

All need the vocabulary's encodings at every position, and none knows how to share them between positions: they are
built anew at each, from the Hugging Face model, by plain torch. All heads and layers of a position share what was
built. Each way returns what it can: only those that compute all distances can tell the own token's rank.
"""

from collections.abc import Callable

import faiss
import numpy as np
import torch
from sklearn.neighbors import NearestNeighbors
from torch import Tensor
from transformers import RobertaModel

RIVAL_METRICS = ("euclidean", "cosine")

_BATCH = 4096  # words at once: smaller batches were slower when tried, larger ones no faster


Search = Callable[[Tensor, Tensor, int, int, str], tuple]
"""``(rows (H, V, d), queries (H, layers, d), own, k, metric)`` to ids, distances, own ranks and own distances."""


@torch.inference_mode()
def build(hf_model: RobertaModel, position: int) -> Tensor:
    """The value vectors that layer 0 makes of every vocabulary entry at one position: float32 (H, V, d)."""
    config = hf_model.config
    attention = hf_model.encoder.layer[0].attention.self
    parts = []
    for ids in torch.arange(config.vocab_size).split(_BATCH):
        places = torch.full((len(ids), 1), config.pad_token_id + 1 + position)
        embedded = hf_model.embeddings(input_ids=ids[:, None], position_ids=places)
        parts.append(attention.value(embedded).view(len(ids), config.num_attention_heads, -1))
    return torch.cat(parts).transpose(0, 1).contiguous()


def with_faiss(rows: Tensor, queries: Tensor, own: int, k: int, metric: str) -> tuple:
    """IndexFlatL2, or IndexFlatIP of normalised vectors; one index for each head. No own rank."""
    ids, distance = [], []
    for words, asked in zip(rows.numpy(), queries.numpy(), strict=True):
        if metric == "euclidean":
            index = faiss.IndexFlatL2(words.shape[1])
            index.add(words)
            squares, nearest = index.search(asked, k)
            distance.append(np.sqrt(squares))
        else:
            words, asked = words.copy(), asked.copy()
            faiss.normalize_L2(words)
            faiss.normalize_L2(asked)
            index = faiss.IndexFlatIP(words.shape[1])
            index.add(words)
            cosines, nearest = index.search(asked, k)
            distance.append(1 - cosines)
        ids.append(nearest)
    return np.stack(ids, 1), np.stack(distance, 1), None, None


def with_sklearn(rows: Tensor, queries: Tensor, own: int, k: int, metric: str) -> tuple:
    """``NearestNeighbors(algorithm="brute")``, one for each head. No own rank."""
    found = [
        NearestNeighbors(n_neighbors=k, algorithm="brute", metric=metric).fit(words).kneighbors(asked)
        for words, asked in zip(rows.numpy(), queries.numpy(), strict=True)
    ]
    return np.stack([ids for _, ids in found], 1), np.stack([distance for distance, _ in found], 1), None, None


@torch.inference_mode()
def with_torch(rows: Tensor, queries: Tensor, own: int, k: int, metric: str) -> tuple:
    """``torch.cdist`` and ``topk``, all heads at once; cosine distances are half the squares between unit vectors."""
    if metric == "cosine":
        rows, queries = (torch.nn.functional.normalize(each, dim=-1) for each in (rows, queries))
    distance = torch.cdist(queries, rows)
    if metric == "cosine":
        distance = distance.square().div_(2)
    nearest, ids = distance.topk(k, largest=False)
    own_distance = distance[..., own]
    own_rank = 1 + (distance < own_distance[..., None]).sum(-1)
    return tuple(each.transpose(0, 1).numpy() for each in (ids, nearest, own_rank, own_distance))
