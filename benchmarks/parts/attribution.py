"""What each head promotes and suppresses, of the whole vocabulary, against the products that it takes at the least."""

from dataclasses import replace
from functools import partial

import torch
from transformers import RobertaConfig, RobertaForMaskedLM

import attnxr
from benchmarks.parts import shapes
from benchmarks.parts.measure import interleaved, say
from benchmarks.parts.products import Products
from benchmarks.parts.report import Report, Table, in_seconds, times

K = 10


def run(quick: bool) -> Report:
    """Measure all heads of a sentence against the bare products of what they write with all output embeddings."""
    shape = shapes.SMALL_ROBERTA if quick else shapes.ROBERTA_BASE
    model = attnxr.Model(with_head(shape))
    encodings = shapes.encode(model, shape)
    # One head of the vocabulary, as wide as the stream, which all heads look into.
    products = Products(replace(shape, layers=shape.layers * shape.heads, heads=1, head_size=shape.width))
    say("the best tiles for the bare products")
    tiling = products.best_tiling(0.1 if quick else 3)
    say("attribution")
    took = interleaved(
        {
            "bare products": partial(products.run, tiling),
            f"promoted, k = {K}": partial(attnxr.promoted, model, encodings, k=K),
            "attribute, the true tokens": partial(attnxr.attribute, model, encodings),
        },
        2 if quick else 5,
    )
    bare, promoted, _ = took.values()
    report = Report()
    table = Table(f"Attribution of all heads: {shape}, {tiling}", ("", "time", "÷ products"))
    table.rows += [(name, in_seconds(value), times(value / bare)) for name, value in took.items()]
    report.tables.append(table)
    report.target("attribution", {"promoted": promoted / bare}, 2, "× the bare products")
    return report


def with_head(shape: shapes.Shape) -> RobertaForMaskedLM:
    """A RoBERTa with random weights, and its head for language."""
    config = shapes.roberta(replace(shape, layers=1, vocabulary=8)).config.to_dict()
    torch.manual_seed(0)
    sizes = {"vocab_size": shape.vocabulary, "num_hidden_layers": shape.layers}
    return RobertaForMaskedLM(RobertaConfig(**(config | sizes))).eval()
