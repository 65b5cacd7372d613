"""All heads of a corpus as points, by figures that are chosen freely."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import holoviews as hv
import numpy as np

from attnxr.dashboard.files.exports import plain_name
from attnxr.dashboard.parts import Heading
from attnxr.dashboard.rows.heads import points, summary
from attnxr.dashboard.session.corpus import Figure as HeadFigure
from attnxr.dashboard.session.heads import Heads
from attnxr.dashboard.views.figure import Columns, Figure
from attnxr.plots.colors import CHOSEN, ramp

_POINTS, _PINNED, _CHOSEN = "Points.Heads", "Points.Pinned", "Points.Chosen"
_PINNED_COLOR = "#2f6fd0"
_EDGE = "#888888a0"  # the palest colour is much like the paper
_NEAR = 0.06  # of the figure's width, to a point that a click is for


class HeadScatter(Figure):
    """Heads as points; a click chooses the nearest one. Those that the filters leave out are faint.

    Parameters
    ----------
    heads : Heads
        What to follow, and where a click goes.
    **params
        Starting values of the parameters.
    """

    follows = ("x", "y", "color", "words", "of_layer", "chosen", "pinned")
    tapped = _POINTS
    height = 420

    def __init__(self, heads: Heads, **params: Any) -> None:
        self._heads = heads
        self._kept: tuple[Hashable, Columns] = (None, {})
        heading = Heading(
            title="Heads",
            help="A point is a head. Click one to see its card; the two rings are the chosen head (orange) and the "
            "pinned one (blue).",
        )
        super().__init__(heads, heading, **params)  # type: ignore[arg-type]  # it is not of an answer

    def _take(self, given: Any) -> Any:
        return given

    @property
    def _answer(self) -> Any:
        return None

    def _figures(self) -> dict[str, HeadFigure]:
        heads = self._heads
        return {axis: heads.corpus.figures[getattr(heads, axis)] for axis in ("x", "y", "color")}

    def _shape(self) -> Hashable:
        heads = self._heads
        return heads.x, heads.y, heads.color

    def _limits(self, axis: str) -> tuple[float, float]:
        values = self._figures()[axis].values
        low, high = (float(end(values[np.isfinite(values)])) for end in (np.min, np.max))
        room = 0.06 * (high - low) or 0.5
        return low - room, high + room

    def _plot(self) -> hv.Overlay:
        figures, sources = self._figures(), self._sources()
        labels = {axis: figure.label for axis, figure in figures.items()}
        told = [
            ("", "@name"),
            *((labels[axis], f"@{axis}_shown") for axis in dict.fromkeys(figures)),
            ("writes most", "@words"),
        ]
        many = self._heads.corpus.n > 300

        def rings(layer: str, color: str, size: int) -> hv.Points:
            return hv.Points(sources[layer], ["x", "y"], label=layer.partition(".")[2]).opts(
                size=size,
                fill_alpha=0,
                line_color=color,
                line_width=3,
                show_legend=False,
                # On a canvas of its own: when it moves, the points under it need not be drawn again.
                backend_opts={"glyph_renderer.level": "overlay"},
            )

        values = figures["color"].values
        there = values[np.isfinite(values)]
        names = [name for name in sources[_POINTS] if name not in ("x", "y")]
        drawn = hv.Points(sources[_POINTS], ["x", "y"], names, label="Heads").opts(
            color="color",
            alpha="alpha",
            cmap=ramp(self.dark),
            clim=(float(there.min()), float(there.max() if there.max() > there.min() else there.min() + 1)),
            colorbar=True,
            colorbar_position="top",
            colorbar_opts={"height": 10, "padding": 5},
            clabel=labels["color"],
            line_color=_EDGE,
            line_width=0.7,
            size=7 if many else 9,
            tools=["hover"],
            hover_tooltips=told,
            show_legend=False,
        )
        overlay = hv.Overlay([drawn, rings(_PINNED, _PINNED_COLOR, 19), rings(_CHOSEN, CHOSEN, 15)])
        return overlay.opts(
            xlabel=labels["x"],
            ylabel=labels["y"],
            xlim=self._limits("x"),
            ylim=self._limits("y"),
            title="",
            toolbar=None,
            backend_opts={"plot.output_backend": "canvas", "plot.outline_line_color": None},
            default_tools=[],
            show_legend=False,
        )

    def _sources(self) -> dict[str, Columns]:
        heads = self._heads
        drawn = self._points()
        here = {layer: [at] if at >= 0 else [] for layer, at in ((_PINNED, heads.pinned), (_CHOSEN, heads.chosen))}
        return {_POINTS: drawn} | {layer: {axis: drawn[axis][at] for axis in ("x", "y")} for layer, at in here.items()}

    def _points(self) -> Columns:
        """Columns of all heads, worked out again only when they may be others."""
        heads = self._heads
        key = (self._shape(), heads.words, heads.of_layer)
        if self._kept[0] != key:
            found = points(heads)
            told = {name: np.array(found[name], dtype=object) for name in found if not name.endswith("_value")}
            axes = {axis: found[f"{axis}_value"] for axis in ("x", "y", "color")}
            self._kept = key, {**axes, "alpha": np.where(heads.kept, 0.9, 0.1), **told}
        return self._kept[1]

    def _detail(self) -> str:
        heads, figures = self._heads, self._figures()
        nowhere = int(np.isnan(figures["x"].values + figures["y"].values).sum())
        across, up = (figures[axis].shown[heads.chosen] for axis in ("x", "y"))
        said = f"{heads.corpus.name(heads.chosen)} · {across} across, {up} up"
        return said + (f" · {nowhere:,} heads have no such number" if nowhere else "")

    def _dress(self, layer: str, plot: Any) -> None:
        if layer == _POINTS:
            plot.handles["color_color_mapper"].palette = ramp(self.dark)
            # HoloViews makes one number of a column whose values are the same, which no filter could change then.
            plot.handles["glyph"].update(fill_alpha="alpha", line_alpha="alpha")

    def _tap(self, x: float, y: float) -> None:
        away = []
        for axis, at in (("x", x), ("y", y)):
            low, high = self._limits(axis)
            away.append((self._figures()[axis].values - at) / (high - low))
        distance = np.hypot(*away)
        distance[~self._heads.kept] += _NEAR / 2  # what is kept comes first
        if np.nanmin(distance, initial=np.inf) <= _NEAR:
            self._heads.select(int(np.nanargmin(distance)))

    def _save(self, data: dict[str, str]) -> None:
        heads = self._heads
        labels = [figure.label for figure in self._figures().values()]
        name = plain_name(heads.corpus.model, "heads", *labels, suffix=data["format"])
        caption = [
            self._about(),
            self._heading.help,
            f"Heads of a corpus, {', '.join(labels)}: {summary(heads.corpus)}",
        ]
        self._files.send({"format": data["format"], "file": name, "caption": caption})
