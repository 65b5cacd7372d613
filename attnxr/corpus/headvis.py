"""The atlas in the folder of JSON that HeadVis' front end reads."""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from attnxr.corpus.declared import ATLAS
from attnxr.errors import InputError
from attnxr.model import Model
from attnxr.schema import validate
from attnxr.texts import quoted

METRICS: dict[str, str] = {
    "self_attention_score": "Mean of attention[q, q] over queries",
    "prev_token_score": "Mean of attention[q, q - 1] over queries q >= 1",
    "pattern_entropy": "Mean over queries of the entropy of the attention, in nats",
    "qk_distance": "Mean over queries of the sum of attention times |q - k|",
    "qk_distance_variance": "The same with (q - k)^2, less the square of qk_distance",
    "induction_score": "Attention to what followed earlier places of the token, mean over queries with any",
    "next_token_score": "Mean of attention[q, q + 1] over queries that see it",
    "duplicate_token_score": "Attention to other places of the query's token, mean over queries that see any",
    "first_token_score": "Mean of attention[q, 0] over queries q >= 1",
    "special_token_score": "Attention to special tokens, mean over queries that see any",
    "own_share": "Share of tokens where the vocabulary entry nearest to what the head writes is the token itself",
    "other_share": "Share of tokens where it is another token of the text",
    "neither_share": "Share of tokens where it is not in the text",
    "nearer_share": "Share of tokens of a sample where it is nearer than chance has it (0.05 by chance)",
    "change": "Relative change of the last hidden states where the head writes its mean over the text",
    "recovered": "How much of that the nearest entry in its place recovers, 1 = all",
}
"""What is told of each head, by the names of the front end where it has them."""
_KEYS = 8  # of a row that are kept
_LEAST = 0.005  # of weights
_PLOTS = {"qk_distance_histogram": "Distance from query to key", "own_rank_histogram": "Own rank of what is written"}
_TABLES = {
    "top_query_tokens": "Tokens that look",
    "top_key_tokens": "Tokens looked at",
    "written": "Words written most",
    "distinctive": "Words written more than by other heads",
}
_MADE_OF = {
    "qk_distance_histogram": "distance_share",
    "own_rank_histogram": "own_rank_count",
    "top_query_tokens": "query_id",
    "top_key_tokens": "key_id",
    "written": "written_id",
    "distinctive": "distinctive_id",
}
Sparse = tuple[NDArray[np.int64], NDArray[np.float32]]
"""Places in an attention matrix, counted row by row, and their weights."""
_OF_ONE = {"change": "mean", "recovered": "neighbor"}  # replacements


def export_headvis(atlas: xr.Dataset, folder: str | Path, model: Model) -> None:
    """Write an atlas as the folder of JSON that HeadVis' front end [1]_ reads.

    The model reads the texts that are examples once more, with the mask of the corpus, for their attention: at most 8
    keys a query, and no weight below 0.005. Distances and the tokens that are attended to are those of the whole
    corpus. Of each head ten intervals are deciles of activation; the eleventh holds the texts with the largest ones of
    the corpus.

    What the front end calls ``max_activation`` leaves out query 0 and key 0. Here it is `example_activation`, which
    leaves out the other special tokens too: encoders attend strongly to the one at the end.

    Parameters
    ----------
    atlas : xr.Dataset
        What `attnxr.atlas` returns, with the measures roles, looking and examples; or some of its layers and heads.
    folder : str or Path
        Where to write; made where it is not there. Files of the same names are replaced.
    model : Model
        The one that the corpus was made with.

    Raises
    ------
    InputError
        If it is no such atlas, lacks one of these measures, or is of another model.

    References
    ----------
    .. [1] https://transformer-circuits.pub/2026/headvis

    Examples
    --------
    >>> import attnxr
    >>> model = attnxr.load_model("minilm")
    >>> texts = ["Time flies like an arrow.", "Fruit flies like a banana."]
    >>> corpus = attnxr.build_corpus(texts, "out.zarr", model, sample=1)
    >>> from attnxr.corpus.headvis import export_headvis
    >>> folder = export_headvis(attnxr.atlas("out.zarr"), "headvis", model)
    """
    validate(atlas, {}, required=("layer", "head"))
    for name, measure in {
        "pattern_entropy": "roles",
        "key_token": "looking",
        "quoted_token": "examples",
    }.items():
        if name not in atlas:
            raise InputError(f"The atlas has no {name!r}. Expected one with the measure {measure!r}.")
    if atlas.attrs.get("fingerprint") != model.fingerprint:
        raise InputError(
            f"The atlas is of a model with fingerprint {atlas.attrs.get('fingerprint')}, and {model.name!r} has "
            f"{model.fingerprint}. Expected the model that the corpus was made with."
        )
    whole = _whole(atlas)
    root = Path(folder)
    for name in ("heads", "attributions"):
        (root / name).mkdir(parents=True, exist_ok=True)
    metrics = [name for name in METRICS if name in whole]
    _write(root / "config.json", _config(whole, metrics, model))
    _write(root / "scatter_data.json", _scatter(whole, metrics))
    _write(root / "server_config.json", {})
    _write(root / "attributions" / "manifest.json", {})
    attention, tokens = _attention(whole, model), _tokens(whole)
    for i, layer in enumerate(whole["layer"].values.tolist()):
        for j, head in enumerate(whole["head"].values.tolist()):
            content = _of_head(whole.isel(layer=i, head=j), attention[i, j], tokens)
            _write(root / "heads" / f"L{layer}H{head}.json", content)


def _whole(atlas: xr.Dataset) -> xr.Dataset:
    """With the dimensions that selecting one layer or head has dropped."""
    dropped = [dim for dim in ("layer", "head") if dim not in atlas.dims]
    of_heads = [str(name) for name in atlas.data_vars if "layer" in ATLAS[str(name)].dims]
    return atlas.assign({name: atlas[name].expand_dims(dropped) for name in of_heads}).transpose("layer", "head", ...)


def _config(whole: xr.Dataset, metrics: list[str], model: Model) -> dict[str, Any]:
    heads = [[layer, head] for layer in whole["layer"].values.tolist() for head in whole["head"].values.tolist()]
    attrs = {name: each for name, each in whole.attrs.items() if isinstance(each, str | int | float)}
    attrs |= {name: each.item() for name, each in whole.attrs.items() if isinstance(each, np.generic)}
    return {
        "model_name": model.name,
        "dataset_name": f"{attrs.get('n_texts', int(whole['n_active']))} texts",
        "heads": heads,
        "n_layers": model.n_layers,
        "n_heads": model.n_heads,
        "n_intervals": int(whole["example_interval"].max()),
        "metrics": metrics,
        "metric_descriptions": {name: METRICS[name] for name in metrics},
        "head_data_pattern": "L{layer}H{head}.json",
        "has_umap": False,
        "umap_heads": [],
        "custom_plots": _listed(_PLOTS, whole),
        "custom_tables": _listed(_TABLES, whole),
        "statistics_display": {
            "n_samples": {"label": "Texts", "format": "d"},
            "mean_max_activation": {"label": "Mean activation", "format": ".3f"},
        },
        "pipeline_config": {
            "program": f"attnxr {version('attnxr')}",
            "activation": "largest attention between two tokens that are neither special nor the first of the text",
            "intervals": f"1 to 10: deciles of {int(whole['n_drawn'])} texts drawn at random; 11: the largest of all",
            **attrs,
        },
    }


def _listed(labels: dict[str, str], whole: xr.Dataset) -> list[dict[str, str]]:
    return [{"key": key, "label": label} for key, label in labels.items() if _MADE_OF[key] in whole]


def _scatter(whole: xr.Dataset, metrics: list[str]) -> list[dict[str, Any]]:
    """One row a head."""
    columns = {}
    for name in metrics:
        of_heads = whole[name].sel(replacement=_OF_ONE[name]) if name in _OF_ONE else whole[name]
        columns[name] = of_heads.transpose("layer", "head").values
    return [
        {"layer": layer, "head": head, **{name: _number(values[i, j]) for name, values in columns.items()}}
        for i, layer in enumerate(whole["layer"].values.tolist())
        for j, head in enumerate(whole["head"].values.tolist())
    ]


def _attention(whole: xr.Dataset, model: Model) -> dict[tuple[int, int], dict[int, Sparse]]:
    """The attention of each head, by index, in each text that is an example of it, by number."""
    wanted: dict[int, list[tuple[int, int]]] = {}
    found: dict[tuple[int, int], dict[int, Sparse]] = {}
    for i, j in np.ndindex(whole.sizes["layer"], whole.sizes["head"]):
        found[i, j] = {}
        for text in np.unique(whole["example_text_id"].values[i, j]).tolist():
            wanted.setdefault(text, []).append((i, j))
    causal = bool(whole.attrs["causal"])
    mask = None if causal == model.batches().causal else causal  # some models have only their own
    for text, lies in quoted(whole).items():
        if text in wanted:
            ids = whole["quoted_token_id"].values[lies].tolist()
            read = model.encode(token_ids=ids, causal=mask)
            seen = read["attention"].sel(layer=whole["layer"], head=whole["head"]).values
            for at in wanted[text]:
                found[at][text] = _sparse(seen[at])
    return found


def _sparse(attention: NDArray[np.float32]) -> Sparse:
    """Of each query the 8 keys that it attends to most, where that is 0.005 or more: query · n + key, and weights."""
    order = np.argsort(-attention, axis=1, kind="stable")[:, :_KEYS]
    kept = np.sort((order + len(attention) * np.arange(len(attention))[:, None]).ravel())
    weights = attention.ravel()[kept]
    return kept[weights >= _LEAST], weights[weights >= _LEAST]


def _tokens(whole: xr.Dataset) -> dict[int, list[str]]:
    """The tokens of each text that is an example, as a person reads them."""
    read = [
        token if "\ufffd" in text else text
        for token, text in zip(whole["quoted_token"].values, whole["quoted_text"].values, strict=True)
    ]
    return {text: read[lies] for text, lies in quoted(whole).items()}


def _of_head(one: xr.Dataset, attention: dict[int, Sparse], tokens: dict[int, list[str]]) -> dict[str, Any]:
    sequences = []
    examples = zip(
        one["example_text_id"].values.tolist(),
        one["example_interval"].values.tolist(),
        one["example_activation"].values.tolist(),
        strict=True,
    )
    for text, interval, activation in examples:
        if text < 0:
            continue
        indices, weights = attention[text]
        sequences.append(
            {
                "sequence_id": text,
                "interval": interval,
                "tokens": tokens[text],
                "attention_indices": indices.tolist(),
                "attention_values": weights.tolist(),
                "seq_len": len(tokens[text]),
                "max_activation": activation,
            }
        )
    edges = [*one["activation_low"].values.tolist(), one["activation_high"].values.tolist()[-1]]
    found = {
        "sequences": sequences,
        "qk_distance_histogram": _distances(one),
        "histogram": {"bin_edges": edges, "bin_values": one["activation_count"].values.tolist()},
        "statistics": {
            "n_samples": int(one["n_active"]),
            "mean_max_activation": _number(one["activation_mean"].item()),
        },
        "top_query_tokens": _table(one, "query", "mass"),
        "top_key_tokens": _table(one, "key", "mass"),
    }
    if "written_id" in one:
        found |= {"written": _table(one, "written", "count"), "distinctive": _table(one, "distinctive", "lift")}
    if "own_rank_count" in one:
        ranks = [*one["rank_low"].values.tolist(), one["rank_high"].values.tolist()[-1] + 1]
        found["own_rank_histogram"] = {"bin_edges": ranks, "bin_values": one["own_rank_count"].values.tolist()}
    return found


def _distances(one: xr.Dataset) -> dict[str, list[float]]:
    """Share of attention by distance, both ways together, up to the farthest there is any of."""
    low, share = one["offset_low"].values, np.nan_to_num(one["distance_share"].values)
    middle = int(np.flatnonzero(low == 0)[0])
    both = share[middle:].copy()
    both[1:] += share[:middle][::-1]
    last = int(np.flatnonzero(both)[-1]) if both.any() else 0
    edges = [*low[middle:].tolist(), int(one["offset_high"].values[-1]) + 1]
    return {"bin_edges": edges[: last + 2], "bin_values": both[: last + 1].tolist()}


def _table(one: xr.Dataset, kind: str, weight: str) -> list[dict[str, Any]]:
    there = one[f"{kind}_id"].values >= 0
    columns = (one[f"{kind}_{name}"].values[there] for name in ("token", "text", weight))
    return [
        {"token": token if "\ufffd" in text else text, "weight": _number(amount)}
        for token, text, amount in zip(*columns, strict=True)
    ]


def _number(value: Any) -> float | None:
    return None if np.isnan(value) else float(value)


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, allow_nan=False), encoding="utf-8")
