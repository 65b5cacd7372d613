"""The task itself: all neighbours and own ranks of a text, by attnxr and by other ways, in one process."""

from functools import partial

import torch
from transformers import RobertaModel

import attnxr
from benchmarks.parts import answers, shapes
from benchmarks.parts.measure import PeakMemory, best, fresh_interpreter, interleaved, say, seconds
from benchmarks.parts.products import Products
from benchmarks.parts.race import CLICKS, ONE_CLICK, Cost, race, warm_up
from benchmarks.parts.report import Report, Table, in_mib, in_seconds, times
from benchmarks.parts.rivals import RIVAL_METRICS
from benchmarks.parts.shapes import METRICS, K, Shape

OURS = "attnxr"


def run(quick: bool) -> Report:
    """Measure, judge the answers, and compare.

    Raises
    ------
    RuntimeError
        If an answer of attnxr is not the exact one.
    """
    shape = shapes.SMALL_ROBERTA if quick else shapes.ROBERTA_BASE
    rounds, turns = (1, 2) if quick else (3, 4)
    hf_model = shapes.roberta(shape)
    model = attnxr.Model(hf_model)
    encodings = shapes.encode(model, shape)
    search = {metric: partial(model.neighbors, encodings, k=K, metric=metric) for metric in METRICS}
    products = Products(shape).by_tiling()

    say("warming up, and gauging memory")
    memory = warm_up(hf_model, encodings)
    ours = {metric: search[metric]() for metric in METRICS}
    for metric in METRICS:
        with PeakMemory() as peak:
            search[metric]()
        memory[metric] = peak.beyond
    took: dict[str, float] = {}
    costs: dict[str, Cost] = {}
    for i in range(rounds):
        say(f"round {i + 1} of {rounds}")
        here = interleaved(products | search, turns)
        took = {name: min(value, took.get(name, value)) for name, value in here.items()}
        costs = {name: cost.shorter(costs.get(name, cost)) for name, cost in race(hf_model, encodings).items()}
    floor, tiling = min((took[name], name) for name in products)

    say("judging the answers in float64")
    given = {(OURS, metric): answers.of_dataset(near) for metric, near in ours.items()}
    given |= {(name, metric): found for name, cost in costs.items() for metric, found in cost.found.items()}
    vocabulary = answers.roberta_vocabulary(hf_model, encodings.token_id.values)
    faults = answers.judge(vocabulary, encodings, given)
    answers.must_be_exact(faults, OURS)

    table = Table(
        f"All neighbours of a text: {shape}",
        ("", "build", "search", "together", "÷ products", "÷ attnxr", "exact", "own rank", "memory"),
    )
    table.rows.append(("the bare products", "", "", in_seconds(floor), times(1), "", "", "", ""))
    for metric in METRICS:
        together = in_seconds(took[metric])
        costly = in_mib(memory[metric])
        ratio = times(took[metric] / floor)
        table.rows.append((f"attnxr, {metric}", "", together, together, ratio, times(1), "yes", "yes", costly))
    ahead = {}
    for metric in RIVAL_METRICS:
        for name, cost in costs.items():
            whole = cost.build + cost.search[metric]
            ahead[f"{name}, {metric}"] = whole / took[metric]
            table.rows.append(
                (
                    f"{name}, {metric}",
                    in_seconds(cost.build),
                    in_seconds(cost.search[metric]),
                    in_seconds(whole),
                    times(whole / floor),
                    times(whole / took[metric]),
                    "no" if faults[name, metric] else "yes",
                    "no" if cost.found[metric][0].own_rank is None else "yes",
                    in_mib(memory[name]),
                )
            )
    first = min(seconds(partial(attnxr.Model(hf_model).neighbors, encodings, k=K)) for _ in range(2))
    report = Report([table, _besides(hf_model, model, shape, floor, turns)])
    report.notes = [
        f"The bare products: {tiling}; {shape.operations / floor / 1e9:.0f} GFLOP/s.",
        f"Shortest of {rounds * turns} runs of attnxr and of the products, by turns, and of {rounds} of the others.",
        f"{ONE_CLICK.capitalize()}: {CLICKS} clicks, each one position and one layer, extrapolated to all "
        f"{shape.layers * shape.tokens}.",
        "Build: the vocabulary's encodings, which the others make anew at each position. Those of attnxr are made once "
        f"per model: the first text of a new one takes it {in_seconds(first)} in all.",
        "Memory: the most beyond what was there before.",
        "Exact: ids, distances and own ranks, where there are any, agree with brute force in float64, ties within "
        "1e-6 aside.",
    ]
    report.notes += [f"Not exact: {name}, {metric}: {fault}" for (name, metric), fault in faults.items() if fault]
    report.target("P1", {metric: took[metric] / floor for metric in METRICS}, 1.5, "× the bare products")
    report.target("P5", ahead, 40, "× as long", at_most=False)
    return report


def _besides(hf_model: RobertaModel, model: attnxr.Model, shape: Shape, floor: float, repeat: int) -> Table:
    """What else there is to do with a model, against the cheapest thing that must be done for it."""
    say("what else there is to do")
    table = Table("What else costs time", ("", "time", "", "of"))
    text = shapes.token_ids(shape)
    stream = model.encode(token_ids=text, include=["hidden"])
    encodings = shapes.encode(model, shape)

    @torch.inference_mode()
    def forward() -> None:
        hf_model(torch.tensor([text]))

    passes = interleaved({"alone": forward, "encode": partial(model.encode, token_ids=text)}, repeat)
    for name, took, against, what in (
        ("import attnxr", fresh_interpreter("import attnxr", repeat // 2), None, ""),
        ("import attnxr.model, with torch", fresh_interpreter("import attnxr.model", repeat // 2), None, ""),
        ("Model(hf_model), checked", best(lambda: attnxr.Model(hf_model), 2), None, ""),
        ("encode", passes["encode"], passes["alone"], "a forward pass"),
        ("verify", best(model.verify, repeat), passes["alone"], "a forward pass"),
        (
            "neighbors, in each layer's own space",
            best(partial(model.neighbors, encodings, vocab_layer="same"), repeat),
            floor,
            "the bare products",
        ),
        (
            "neighbors of the hidden states",
            best(partial(model.neighbors, stream, of="hidden", space="embedding"), repeat),
            floor,
            "the bare products",
        ),
    ):
        table.rows.append((name, in_seconds(took), "" if against is None else times(took / against), what))
    return table
