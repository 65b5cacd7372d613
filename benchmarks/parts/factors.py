"""What is made once per model, when it is first asked: measured by new Models, with all code compiled before."""

from functools import partial

import torch

import attnxr
from benchmarks.parts import shapes
from benchmarks.parts.measure import say, seconds
from benchmarks.parts.report import Report, Table, in_seconds, times


def run(quick: bool) -> Report:
    """Measure the first search of a new Model less a later one, against one V × D × D product."""
    shape = shapes.SMALL_ROBERTA if quick else shapes.ROBERTA_BASE
    hf_model = shapes.roberta(shape)
    encodings = shapes.encode(attnxr.Model(hf_model), shape)
    attnxr.Model(hf_model).neighbors(encodings)  # compiles
    words, square = torch.randn(shape.vocabulary, shape.width), torch.randn(shape.width, shape.width)
    out = torch.empty_like(words)
    torch.mm(words, square, out=out)
    took: dict[str, list[float]] = {"product": [], "new": [], "first": [], "later": []}
    for i in range(2 if quick else 7):
        say(f"new model {i + 1}")
        took["product"].append(seconds(partial(torch.mm, words, square, out=out)))
        took["new"].append(seconds(partial(attnxr.Model, hf_model)))
        search = partial(attnxr.Model(hf_model).neighbors, encodings)
        took["first"].append(seconds(search))
        took["later"] += [seconds(search), seconds(search)]
    shortest = {name: min(each) for name, each in took.items()}
    factors = shortest["first"] - shortest["later"]
    report = Report()
    table = Table(f"Once per model: {shape}", ("", "time", "÷ product"))
    for name, value in (
        (f"one product, {shape.vocabulary:,} × {shape.width} × {shape.width}", shortest["product"]),
        ("factors: the first search of a new model less a later one", factors),
        ("the first search", shortest["first"]),
        ("a later search", shortest["later"]),
        ("Model(hf_model), checked", shortest["new"]),
    ):
        table.rows.append((name, in_seconds(value), times(value / shortest["product"])))
    report.tables.append(table)
    report.target("P4", {"factors": factors / shortest["product"]}, 3, "× one product")
    return report
