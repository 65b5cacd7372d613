"""Figures of the page: drawn once for a shape, then only given new data."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping
from functools import partial
from typing import Any, ClassVar
from weakref import WeakMethod, WeakSet

import holoviews as hv
import numpy as np
import panel as pn
import param
import xarray as xr

from attnxr.dashboard.files.exports import citation, file_name
from attnxr.dashboard.parts import FigureFiles, Heading
from attnxr.dashboard.patch import in_one_patch
from attnxr.dashboard.session.answer import Answer
from attnxr.dashboard.session.state import State
from attnxr.dashboard.views.view import View

Columns = Mapping[str, Any]


class Figure(View):
    """A HoloViews figure under its heading.

    Drawing a figure costs a hundred times what replacing its data does, so it is drawn again only when its
    shape changes. A subclass says what is drawn: `_shape`, `_plot` and `_sources`, and, where it has them,
    `_rename`, `_detail`, `_blank`, `_dress` and `_tap`.

    Parameters
    ----------
    given : State or xarray.Dataset
        What to follow, and where a click goes; or the Dataset to show.
    heading : Heading
        The title, and what the numbers mean.
    **params
        Starting values of the parameters.
    """

    follows: ClassVar[tuple[str, ...]] = ("answer", "layer", "head", "position")
    """Parameters of the state that the figure depends on."""
    tapped: ClassVar[str] = ""
    """The layer whose clicks go to `_tap`; none do where it is empty."""
    height: ClassVar[int] = 430
    """Of the figure, in pixels."""
    max_width: ClassVar[int | None] = None
    """Of the figure, in pixels; without one it is as wide as its place."""

    def __init__(self, given: State | xr.Dataset, heading: Heading, **params: Any) -> None:
        super().__init__(**params)
        self._state = self._take(given)
        self._heading = heading
        self._drawn: Hashable = None
        # By the names of the layers, their plots: one for every place the figure is displayed at, gone when it is
        # displayed there no more.
        self._plots: dict[str, WeakSet[Any]] = {}
        self._sent: dict[str, Columns | None] = {}
        self._named: Answer | None = None
        self._files = FigureFiles(self._save, title=heading.title)
        self._pane = pn.pane.HoloViews(
            None, height=self.height, max_width=self.max_width, sizing_mode="stretch_width", linked_axes=False
        )
        self._state.param.watch(self._follow, list(self.follows))
        self._follow()

    @property
    def _answer(self) -> Answer:
        """The answer, where there is a shape."""
        assert self._state.answer is not None
        return self._state.answer

    def _shape(self) -> Hashable:
        """All that the figure must be drawn again for when it changes; None when there is nothing to draw."""
        raise NotImplementedError

    def _plot(self) -> hv.Overlay:
        """The figure, as a function of `attnxr.plots` returns it. Called when there is a shape."""
        raise NotImplementedError

    def _sources(self) -> dict[str, Columns]:
        """Columns of the layers by their names in the overlay, as in "HeatMap.I". Called when there is a shape."""
        raise NotImplementedError

    def _rename(self, layer: str, plot: Any) -> None:
        """Have a layer's plot call the tokens as the answer does. Called when there is a shape."""

    def _detail(self) -> str:
        """What the figure shows at this moment, in a few words."""
        return ""

    def _blank(self, _layer: str, columns: Columns) -> Columns:
        """Columns of a layer while there is nothing to show, given those it has."""
        return {name: [] for name in columns}

    def _dress(self, layer: str, plot: Any) -> None:
        """Set what is no data of a layer's plot, like its colours; `dark` may have changed."""

    def _tap(self, x: float, y: float) -> None:
        """Answer a click, given where it was on the axes."""

    def explain(self, help: str) -> None:
        """Say what the numbers mean."""
        self._heading.help = help

    def cleanup(self) -> None:
        """Let go of the drawn figures: their click stream would keep the whole session alive."""
        for plots in self._plots.values():
            for plot in list(plots):
                plot.cleanup()
        self._plots = {}
        self._sent = {}

    @param.depends("shown", watch=True)
    def _follow(self, *_events: object) -> None:
        if not self.shown:
            return
        shape = self._shape()
        self._heading.detail = "" if shape is None else self._detail()
        if shape not in (None, self._drawn):
            self._drawn = shape
            self._draw()
            return
        sources = None if shape is None else self._sources()
        renamed = shape is not None and self._named is not self._answer
        if renamed:
            self._named = self._answer
        for layer, plots in self._plots.items():
            if renamed:
                for plot in plots:
                    self._rename(layer, plot)
            columns = sources and sources[layer]
            if layer in self._sent and _same(columns, self._sent[layer]):
                continue
            self._sent[layer] = columns
            for plot in plots:
                self._fill(layer, plot, columns)
        pn.io.push_notebook(self._pane)

    def _draw(self) -> None:
        self.cleanup()
        overlay = self._plot().opts(responsive=True, frame_width=None, frame_height=None)
        for key, element in overlay.items():
            layer = ".".join(key)
            self._plots[layer] = WeakSet()
            own = element.opts.get("plot", defaults=False).kwargs.get("hooks", [])
            element.opts(hooks=[*own, _weakly(self._keep, layer)])
            if layer == self.tapped:
                hv.streams.Tap(source=element).add_subscriber(self._on_tap)
        self._pane.object = overlay

    # HoloViews calls this when it has drawn a figure, which may be long after: it starts from what holds then.
    def _keep(self, layer: str, plot: Any) -> None:
        if layer not in self._plots:
            return
        self._plots[layer].add(plot)
        fits = self._drawn is not None and self._shape() == self._drawn
        if fits:
            self._named = self._answer
            self._rename(layer, plot)
        self._fill(layer, plot, self._sources()[layer] if fits else None)
        self._dress(layer, plot)

    def _fill(self, layer: str, plot: Any, columns: Columns | None) -> None:
        known = plot.handles["source"].data
        wanted = self._blank(layer, dict(known)) if columns is None else columns
        # Each column that is sent is two messages of its own.
        changed = {name: column for name, column in wanted.items() if not _equal(column, known.get(name))}
        if changed:
            known.update(changed)

    def _on_tap(self, x: Any, y: Any) -> None:
        # HoloViews calls from a coroutine that does not hold the page's lock; the figure may not be touched there.
        if all(isinstance(each, (int, float)) and abs(each) < math.inf for each in (x, y)):
            in_one_patch(partial(self._tap, x, y))

    def _about(self) -> str:
        """What the figure is called, and what it shows at this moment."""
        return " · ".join(filter(None, (self._heading.title, self._heading.detail)))

    def _save(self, data: dict[str, str]) -> None:
        answer, kind = self._state.answer, data["format"]
        if answer is not None and kind in ("png", "svg"):
            name = file_name(answer, self._heading.title, self._heading.detail, suffix=kind)
            caption = [self._about(), self._heading.help, f"Text: {answer.request.own_text}", citation(answer)]
            self._files.send({"format": kind, "file": name, "caption": caption})

    @param.depends("dark", watch=True)
    def _recolor(self) -> None:
        for layer, plots in self._plots.items():
            for plot in plots:
                self._dress(layer, plot)
        pn.io.push_notebook(self._pane)

    def __panel__(self) -> pn.Column:
        # The figure's place is kept while there is none, so that nothing below moves when it comes.
        kept = pn.Column(self._pane, height=self.height, sizing_mode="stretch_width")
        return pn.Column(self._heading, kept, self._files, sizing_mode="stretch_width")


def _same(columns: Columns | None, others: Columns | None) -> bool:
    if columns is None or others is None or columns is others:
        return columns is others
    return columns.keys() == others.keys() and all(_equal(columns[name], others[name]) for name in columns)


def _equal(column: Any, other: Any) -> bool:
    if column is other:
        return True
    if isinstance(column, np.ndarray) and isinstance(other, np.ndarray):
        return np.array_equal(column, other, equal_nan=column.dtype.kind == other.dtype.kind == "f")
    if isinstance(column, list) and isinstance(other, list):
        return len(column) == len(other) and all(map(_equal, column, other))
    return type(column) is type(other) and bool(np.all(column == other))


def _weakly(method: Callable[[str, Any], None], layer: str) -> Callable[[Any, object], None]:
    """A hook for HoloViews, which keeps the options of every plot for the life of the process, and with them these."""
    reference = WeakMethod(method)

    def hook(plot: Any, _element: object) -> None:
        alive = reference()
        if alive is not None:
            alive(layer, plot)

    return hook
