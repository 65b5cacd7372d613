"""Long texts: the time of a search, and the memory it takes beyond the model and its factors."""

import sys
import time
from collections.abc import Callable
from functools import partial

import psutil
import xarray as xr

import attnxr
from benchmarks.parts import answers, shapes
from benchmarks.parts.answers import Vocabulary
from benchmarks.parts.measure import MIB, PeakMemory, interleaved, say, seconds
from benchmarks.parts.products import Products
from benchmarks.parts.report import Report, Table, in_mib, in_seconds, times
from benchmarks.parts.shapes import METRICS, K, Shape

OURS = "attnxr"
MEMORY = 1024 * MIB
COLUMNS = ("metric", "search", "÷ products", "memory", "of it the result")


def run(quick: bool) -> Report:
    """Measure 512 tokens of RoBERTa-base's shape, by every metric, and 2,048 of a Llama's.

    Raises
    ------
    RuntimeError
        If an answer is not the exact one.
    """
    report = Report()
    ratios, memory = _roberta(shapes.SMALL_ROBERTA_LONG if quick else shapes.ROBERTA_LONG, 1 if quick else 2, report)
    llama_memory = _llama(shapes.SMALL_LLAMA_LONG if quick else shapes.LLAMA_LONG, report)
    report.notes.append(
        "Memory: the most beyond what was there before, which is the model, its tables and the encodings. The answers "
        "at the first, middle and last position were judged in float64, and are exact."
    )
    report.target("P2", ratios, 1.5, "× the bare products")
    of = {f"RoBERTa, {metric}": used for metric, used in memory.items()} | {"Llama": llama_memory}
    report.target("P2", {name: used / MIB for name, used in of.items()}, MEMORY / MIB, "MiB")
    return report


def _roberta(shape: Shape, turns: int, report: Report) -> tuple[dict[str, float], dict[str, int]]:
    """Ratios to the bare products, and bytes, by metric."""
    hf_model = shapes.roberta(shape)
    model = attnxr.Model(hf_model)
    encodings = shapes.encode(model, shape)
    vocabulary = answers.roberta_vocabulary(hf_model, encodings.token_id.values)
    table = Table(f"A long text: {shape}", COLUMNS)
    memory, sizes = {}, {}
    for metric in METRICS:
        model.neighbors(encodings.isel(position=[0]), k=K, metric=metric)  # makes the tables, and compiles
        say(f"{shape.tokens} tokens, {metric}")
        with PeakMemory() as peak:
            near = model.neighbors(encodings, k=K, metric=metric, progress=_teller())
        memory[metric], sizes[metric] = peak.beyond, near.nbytes
        _judge(vocabulary, encodings, near, metric)
        del near
    say("attnxr and the bare products, by turns")
    products = Products(shape)
    tiling = products.best_tiling(1.0)
    took = interleaved(
        {"products": partial(products.run, tiling)}
        | {metric: partial(model.neighbors, encodings, k=K, metric=metric) for metric in METRICS},
        turns,
    )
    floor = took.pop("products")
    table.rows.append(("the bare products", in_seconds(floor), times(1), "", ""))
    for metric, value in took.items():
        used = in_mib(memory[metric]), in_mib(sizes[metric])
        table.rows.append((metric, in_seconds(value), times(value / floor), *used))
    report.tables.append(table)
    report.notes.append(f"RoBERTa, the bare products: {tiling}; {shape.operations / floor / 1e9:.0f} GFLOP/s.")
    return {metric: value / floor for metric, value in took.items()}, memory


def _llama(shape: Shape, report: Report) -> int:
    """Bytes; by cosine, once, as it takes minutes."""
    say(f"{shape}: the model, and its encodings")
    hf_model = shapes.llama(shape)
    model = attnxr.Model(hf_model, shapes.word_tokenizer(shape.vocabulary))
    texts = _texts(shape)
    encodings = model.encode(texts).drop_vars("attention", errors="ignore")
    products = Products(shape)
    say("the bare products")
    limit = 20.0
    tiling = products.best_tiling(1.0)
    before, share = products.estimate(tiling, limit)
    model.neighbors(encodings.isel(position=[0]), k=K)  # makes the tables, and compiles
    say("attnxr")
    found: list[xr.Dataset] = []
    with PeakMemory() as peak:
        took = seconds(lambda: found.append(model.neighbors(encodings, k=K, progress=_teller())))
    floor = min(before, products.estimate(tiling, limit)[0])
    say("judging the answers in float64")
    _judge(answers.llama_vocabulary(hf_model), encodings, found[0], "cosine")
    table = Table(f"A long text: {shape}", COLUMNS)
    table.rows += [
        ("the bare products", in_seconds(floor), times(1), "", ""),
        ("cosine", in_seconds(took), times(took / floor), in_mib(peak.beyond), in_mib(found[0].nbytes)),
    ]
    report.tables.append(table)
    measured = "all of them measured" if share == 1 else f"extrapolated from {share:.0%} of them"
    report.notes.append(
        f"Llama, the bare products: {tiling}; {shape.operations / floor / 1e9:.0f} GFLOP/s, {measured}. "
        + ("One text." if len(texts) == 1 else f"{len(texts)} texts end to end, so that their attention fits.")
    )
    return peak.beyond


def _texts(shape: Shape) -> list[str]:
    """Texts of as many tokens together as the shape has: one, or as few as there is memory to encode.

    Encoding holds the attention weights of a text, and some of a layer's besides.
    """
    words = [f"w{i}" for i in shapes.token_ids(shape)]
    pieces = 1
    while True:
        length = len(words) // pieces
        if 4 * (shape.layers + 6) * shape.heads * length**2 < 0.8 * psutil.virtual_memory().available:
            return [" ".join(words[start : start + length]) for start in range(0, len(words), length)]
        pieces *= 2


def _judge(vocabulary: Vocabulary, encodings: xr.Dataset, near: xr.Dataset, metric: str) -> None:
    positions = near.sizes["position"]
    some = answers.of_dataset(near, [0, positions // 2, positions - 1])
    answers.must_be_exact(answers.judge(vocabulary, encodings, {(OURS, metric): some}), OURS)


def _teller() -> Callable[[float], None]:
    """A progress callback that says how far a search is, each tenth of the way."""
    start, said = time.perf_counter(), 0

    def tell(fraction: float) -> None:
        nonlocal said
        if int(10 * fraction) > said:
            said = int(10 * fraction)
            print(f"  {fraction:4.0%}, {time.perf_counter() - start:.1f} s", file=sys.stderr, flush=True)

    return tell
