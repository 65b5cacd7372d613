"""What HeadVis' front end expects of its folder, written from the facts about its format; no code of the library."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

FILES = {"config.json", "scatter_data.json", "server_config.json", "attributions/manifest.json"}
CONFIG = {
    "model_name": str,
    "dataset_name": str,
    "heads": list,
    "n_layers": int,
    "n_heads": int,
    "n_intervals": int,
    "metrics": list,
    "metric_descriptions": dict,
    "head_data_pattern": str,
    "has_umap": bool,
    "umap_heads": list,
    "custom_plots": list,
    "custom_tables": list,
    "statistics_display": dict,
    "pipeline_config": dict,
}
SEQUENCE = {
    "sequence_id": int,
    "interval": int,
    "tokens": list,
    "attention_indices": list,
    "attention_values": list,
    "seq_len": int,
    "max_activation": float,
}


def read(path: Path) -> Any:
    def refuse(word: str) -> Any:
        raise ValueError(f"{path} has {word}, which is no JSON")

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


def check_histogram(histogram: Any) -> None:
    assert set(histogram) == {"bin_edges", "bin_values"}
    edges, values = histogram["bin_edges"], histogram["bin_values"]
    assert len(edges) == len(values) + 1
    assert all(a < b for a, b in pairwise(edges))
    assert all(isinstance(value, int | float) and value >= 0 for value in values)


def check(folder: Path) -> dict[str, Any]:
    """Fail unless a folder is as the front end reads it; what it holds is returned."""
    config = read(folder / "config.json")
    assert set(config) == set(CONFIG)
    for name, kind in CONFIG.items():
        assert type(config[name]) is kind, name
    assert config["has_umap"] is False
    assert config["umap_heads"] == []
    assert config["head_data_pattern"] == "L{layer}H{head}.json"
    heads = [tuple(each) for each in config["heads"]]
    assert len(set(heads)) == len(heads) > 0
    assert all(0 <= layer < config["n_layers"] and 0 <= head < config["n_heads"] for layer, head in heads)
    assert set(config["metric_descriptions"]) == set(config["metrics"])
    assert all(type(each) is str and each for each in config["metric_descriptions"].values())
    assert all(set(each) == {"key", "label"} for each in config["custom_plots"] + config["custom_tables"])
    assert all(set(each) == {"label", "format"} for each in config["statistics_display"].values())
    assert read(folder / "server_config.json") == {}
    assert read(folder / "attributions" / "manifest.json") == {}

    rows = read(folder / "scatter_data.json")
    assert [(row["layer"], row["head"]) for row in rows] == heads
    for row in rows:
        assert set(row) == {"layer", "head", *config["metrics"]}
        assert all(row[name] is None or type(row[name]) is float for name in config["metrics"])

    found = {}
    for layer, head in heads:
        name = f"heads/L{layer}H{head}.json"
        found[layer, head] = read(folder / name)
        check_head(found[layer, head], config)
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert files == FILES | {f"heads/L{layer}H{head}.json" for layer, head in heads}
    return {"config": config, "scatter": rows, "heads": found}


def check_head(head: Any, config: Any) -> None:
    facts = {"sequences", "qk_distance_histogram", "top_query_tokens", "top_key_tokens", "histogram", "statistics"}
    custom = {each["key"] for each in config["custom_plots"] + config["custom_tables"]}
    assert facts <= set(head) == facts | custom
    for each in config["custom_plots"]:
        check_histogram(head[each["key"]])
    for each in config["custom_tables"]:
        assert all(set(row) == {"token", "weight"} and type(row["token"]) is str for row in head[each["key"]])
    check_histogram(head["qk_distance_histogram"])
    check_histogram(head["histogram"])
    assert set(head["statistics"]) == set(config["statistics_display"]) == {"n_samples", "mean_max_activation"}
    assert len({one["sequence_id"] for one in head["sequences"]}) == len(head["sequences"])
    for one in head["sequences"]:
        assert set(one) == set(SEQUENCE)
        for name, kind in SEQUENCE.items():
            assert type(one[name]) is kind, name
        assert 1 <= one["interval"] <= config["n_intervals"]
        n, indices, values = one["seq_len"], one["attention_indices"], one["attention_values"]
        assert len(one["tokens"]) == n
        assert all(type(token) is str for token in one["tokens"])
        assert len(indices) == len(values)
        assert len(set(indices)) == len(indices)
        assert all(0 <= index < n * n for index in indices)
        of_query = [index // n for index in indices]
        assert max(map(of_query.count, of_query), default=0) <= 8
        assert all(0.005 <= value <= 1.0001 for value in values)
