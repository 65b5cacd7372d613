"""How the cost grows with the tokens, the vocabulary, the heads and their size, beside that of the bare products."""

import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import matplotlib as mpl
from matplotlib import ticker
from matplotlib.figure import Figure

import attnxr
from benchmarks.parts import shapes
from benchmarks.parts.measure import interleaved, say
from benchmarks.parts.products import Products
from benchmarks.parts.report import Report, Table, in_seconds, times
from benchmarks.parts.shapes import K, Shape

FIGURE = Path(__file__).resolve().parents[2] / "docs" / "scaling.png"

Series = list[tuple[int, float, float]]
"""Size, seconds of attnxr, seconds of the bare products."""


def run(quick: bool) -> Report:
    """Measure at several sizes of each, the others as RoBERTa-base has them, and draw the figure."""
    base = shapes.SMALL_ROBERTA if quick else shapes.ROBERTA_BASE
    axes = {
        "tokens": [(n, replace(base, tokens=n)) for n in ((2, 6) if quick else (1, 4, 14, 56, 224))],
        "vocabulary entries": [
            (V, replace(base, vocabulary=V)) for V in ((1000, 3000) if quick else (6250, 12500, 25000, 50000, 100000))
        ],
        "layers × heads, as many of each": [
            (L * L, replace(base, layers=L, heads=L)) for L in ((2, 4) if quick else (3, 6, 12, 18))
        ],
        "head size": [(d, replace(base, head_size=d)) for d in ((16, 32) if quick else (16, 32, 64, 128))],
    }
    measured: dict[str, Series] = {}
    table = Table(f"How the cost grows, by cosine, from: {base}", ("", "size", "attnxr", "bare products", "÷ products"))
    for name, points in axes.items():
        measured[name] = []
        for size, shape in points:
            say(f"{name}: {size:,}")
            ours, floor = _measure(shape, 2 if quick else 5)
            measured[name].append((size, ours, floor))
            table.rows.append((name, f"{size:,}", in_seconds(ours), in_seconds(floor), times(ours / floor)))
    with tempfile.TemporaryDirectory() as folder:
        figure = Path(folder) / FIGURE.name if quick else FIGURE
        draw(measured, figure)
    return Report([table])


def _measure(shape: Shape, turns: int) -> tuple[float, float]:
    model = attnxr.Model(shapes.roberta(shape))
    encodings = shapes.encode(model, shape)
    products = Products(shape)
    tiling = products.best_tiling(0.3)
    took = interleaved(
        {"ours": partial(model.neighbors, encodings, k=K), "products": partial(products.run, tiling)}, turns
    )
    return took["ours"], took["products"]


def draw(measured: dict[str, Series], file: Path) -> None:
    """Draw a panel for each, both scales logarithmic: a straight line of slope 1 is a cost in proportion."""
    quiet, loud, grey = "#8a8a8a", "#0b5fa5", "#404040"
    style = {"font.size": 10, "axes.edgecolor": quiet, "xtick.color": grey, "ytick.color": grey, "text.color": grey}
    with mpl.rc_context(style):
        figure = Figure(figsize=(9, 6.4), dpi=150, layout="constrained")
        for axes, (name, series) in zip(figure.subplots(2, 2, sharey=True).flat, measured.items(), strict=True):
            sizes, ours, floor = zip(*series, strict=True)
            axes.plot(sizes, floor, color=quiet, linestyle="--", marker="o", markersize=4, label="bare matrix products")
            axes.plot(sizes, ours, color=loud, marker="o", markersize=5, label="attnxr: exact neighbours, own ranks")
            axes.set(
                xscale="log",
                yscale="log",
                title=name,
                ylabel="seconds" if axes.get_subplotspec().is_first_col() else "",
            )
            axes.xaxis.set_major_locator(ticker.FixedLocator(sizes))
            axes.xaxis.set_minor_locator(ticker.NullLocator())
            axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda size, _: f"{size:,.0f}"))
            axes.yaxis.set_major_formatter(ticker.FuncFormatter(lambda took, _: f"{took:g}"))
            axes.grid(color="#e6e6e6")
            axes.spines[["top", "right"]].set_visible(False)
        figure.axes[0].legend(frameon=False, loc="upper left")
        figure.savefig(file)
