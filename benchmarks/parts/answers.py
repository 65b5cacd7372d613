"""Is an answer the right one? Judged by the float64 brute force of the tests, which shares no code with the library."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from transformers import LlamaModel, RobertaModel

_BATCH = 2048  # words at once, so that they stay in cache

Vocabulary = Callable[[int], NDArray]
"""From a position to the value vectors of all vocabulary entries there: float64 (key/value heads, V, d)."""


@dataclass(frozen=True, eq=False)
class Found:
    """The answer at one position, for some of the layers.

    Attributes
    ----------
    position : int
    layers : list of int
    ids, distance : arrays (layers, H, k)
    own_rank, own_distance : arrays (layers, H), or None where the way cannot tell
    """

    position: int
    layers: list[int]
    ids: NDArray
    distance: NDArray
    own_rank: NDArray | None = None
    own_distance: NDArray | None = None


def of_dataset(near: xr.Dataset, positions: Iterable[int] | None = None) -> list[Found]:
    """What `Model.neighbors` found at some positions, or at all."""
    return [
        Found(
            position,
            list(range(near.sizes["layer"])),
            near.neighbor_id.values[:, :, position],
            near.distance.values[:, :, position],
            near.own_rank.values[:, :, position],
            near.own_distance.values[:, :, position],
        )
        for position in (range(near.sizes["position"]) if positions is None else positions)
    ]


def roberta_vocabulary(hf_model: RobertaModel, token_ids: NDArray) -> Vocabulary:
    """The vocabulary of a RoBERTa, from its weights in float64."""
    from tests.support import oracles  # asv, which looks into every file here, has no tests on its path

    reference = oracles.Bert(hf_model)
    places = reference.position_ids(token_ids)
    batches = np.array_split(np.arange(reference.vocab_size), 1 + reference.vocab_size // _BATCH)

    def vocabulary(position: int) -> NDArray:
        place = int(places[position])
        each = [reference.project(0, "value", reference.embed(batch, place)) for batch in batches]
        return np.concatenate(each, axis=1)

    return vocabulary


def llama_vocabulary(hf_model: LlamaModel) -> Vocabulary:
    """The vocabulary of a Llama, from its weights in float64: W_V of an RMS norm of the word, at any position."""
    config, layer = hf_model.config, hf_model.layers[0]
    words, gain, W = (
        weight.detach().double().numpy()
        for weight in (hf_model.embed_tokens.weight, layer.input_layernorm.weight, layer.self_attn.v_proj.weight)
    )
    words = words / np.sqrt((words**2).mean(-1, keepdims=True) + config.rms_norm_eps) * gain
    values = (words @ W.T).reshape(len(words), config.num_key_value_heads, -1).swapaxes(0, 1)
    return lambda position: values


def judge(
    vocabulary: Vocabulary, encodings: xr.Dataset, answers: Mapping[tuple[str, str], Iterable[Found]]
) -> dict[tuple[str, str], str]:
    """Compare answers with distances computed in float64 to every vocabulary entry; ties within 1e-6 count as equal.

    Parameters
    ----------
    vocabulary : callable
    encodings : xr.Dataset
        What was asked about.
    answers : dict
        By who gave them and by which metric.

    Returns
    -------
    dict of str
        For each of the answers the first thing that is wrong with it, ``""`` where nothing is.
    """
    from tests.support import oracles

    wrong = dict.fromkeys(answers, "")
    by_position: dict[int, list[tuple[tuple[str, str], Found]]] = {}
    for name, parts in answers.items():
        for found in parts:
            by_position.setdefault(found.position, []).append((name, found))
    for position, here in sorted(by_position.items()):
        words, own = vocabulary(position), int(encodings.token_id[position])
        queries = encodings["head_encoding"].values[:, :, position]
        for h in range(queries.shape[1]):
            # Column by column, as the reference goes through them.
            rows = np.asfortranarray(words[h * len(words) // queries.shape[1]])
            for metric in sorted({metric for (_, metric), _ in here}):
                true = oracles.distances(metric, queries[:, h], rows)
                tolerance = oracles.tolerances(metric, queries[:, h], rows)
                for name, found in here:
                    if name[1] == metric and not wrong[name]:
                        wrong[name] = _fault(found, h, true[found.layers], tolerance[found.layers], own)
    return wrong


def _fault(found: Found, head: int, true: NDArray, tolerance: NDArray, own: int) -> str:
    """What is wrong with one head's answer, given the true (layers, V) distances."""
    from tests.support import oracles

    try:
        oracles.check_neighbors(found.ids[:, head], found.distance[:, head], true, tolerance)
        if found.own_rank is not None and found.own_distance is not None:
            oracles.check_own(found.own_rank[:, head], found.own_distance[:, head], true, tolerance, own)
    except AssertionError as fault:
        return f"position {found.position}, head {head}: {fault}"
    return ""


def must_be_exact(faults: Mapping[tuple[str, str], str], who: str) -> None:
    """Fail where somebody's answer is wrong.

    Raises
    ------
    RuntimeError
    """
    wrong = [f"{metric}: {fault}" for (name, metric), fault in faults.items() if name == who and fault]
    if wrong:
        raise RuntimeError(f"{who} gave an answer that is not exact; {'; '.join(wrong)}")
