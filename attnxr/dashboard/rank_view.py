"""The map of own ranks: drawn once for a shape, then only given new data."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any
from weakref import WeakMethod, WeakSet

import holoviews as hv
import numpy as np
import panel as pn
import param
import xarray as xr

from attnxr.dashboard.answer import Answer
from attnxr.dashboard.components import Heading
from attnxr.dashboard.patch import in_one_patch
from attnxr.dashboard.rows import token_label
from attnxr.dashboard.state import State
from attnxr.dashboard.view import View
from attnxr.plots import cell_outline, rank_columns, rank_map, rank_palette

_HEIGHT = 430
_NOWHERE: dict[str, list[float]] = {"left": [], "bottom": [], "right": [], "top": []}


class RankMap(View):
    """The own rank of the chosen token in every layer and head; a click chooses both.

    Drawing the figure costs a hundred times what replacing its data does, so it is drawn again only when the
    number of layers, heads or vocabulary entries changes.

    Parameters
    ----------
    given : State or xarray.Dataset
        What to follow, and where a click goes; or what ``model.neighbors`` returned.
    """

    dark = param.Boolean(default=False, doc="Whether the map stands on a dark background.")

    def __init__(self, given: State | xr.Dataset, **params: Any) -> None:
        super().__init__(given, **params)
        state = self._state
        self._shape: tuple[int, int, int] | None = None
        # One of each for every place the map is displayed at; gone when it is displayed there no more.
        self._cells: WeakSet[Any] = WeakSet()
        self._outlines: WeakSet[Any] = WeakSet()
        self._heading = Heading(
            title="Own rank in every layer and head",
            help="Rank 1: of the whole vocabulary, this token is the nearest to what the head wrote at it. "
            "Click a cell to choose its layer and head.",
        )
        self._pane = pn.pane.HoloViews(None, height=_HEIGHT, sizing_mode="stretch_width", linked_axes=False)
        state.param.watch(self._draw, ["answer", "position"])
        state.param.watch(self._move, ["answer", "layer", "head"])
        self._draw()

    def cleanup(self) -> None:
        """Let go of the drawn figures: their click stream would keep the whole session alive."""
        for plot in [*self._cells, *self._outlines]:
            plot.cleanup()
        self._cells.clear()
        self._outlines.clear()

    def _draw(self, *_events: object) -> None:
        answer = self._state.answer
        if answer is None:
            self._heading.detail = ""
        else:
            self._heading.detail = f"“{token_label(answer.encodings, self._state.position)}”"
            shape = (answer.n_layers, answer.n_heads, answer.vocab_size)
            if shape != self._shape:
                self._shape = shape
                self._render(answer)
                return
        for plot in self._cells:
            self._fill(plot)
        pn.io.push_notebook(self._pane)

    def _move(self, *_events: object) -> None:
        for plot in self._outlines:
            self._outline(plot)
        pn.io.push_notebook(self._pane)

    def _render(self, answer: Answer) -> None:
        self.cleanup()
        plot = rank_map(answer.neighbors, self._state.position, dark=self.dark).opts(responsive=True)
        plot.HeatMap.I.opts(hooks=[_weakly(self._keep_cells)])
        plot.Rectangles.I.opts(hooks=[_weakly(self._keep_outline)])
        hv.streams.Tap(source=plot.HeatMap.I).add_subscriber(self._tap)
        self._pane.object = plot

    # HoloViews calls these when it has drawn a figure, which may be long after: it starts from what holds then.
    def _keep_cells(self, plot: Any, _element: object) -> None:
        self._cells.add(plot)
        self._fill(plot)
        self._color(plot)

    def _keep_outline(self, plot: Any, _element: object) -> None:
        self._outlines.add(plot)
        self._outline(plot)

    def _fill(self, plot: Any) -> None:
        answer, source = self._state.answer, plot.handles["source"]
        if answer is not None:
            columns = rank_columns(answer.neighbors, self._state.position)
            columns["zvalues"] = columns["own_rank"]
        else:
            blank = np.full(len(source.data["zvalues"]), np.nan)
            columns = dict.fromkeys(("zvalues", "own_rank", "own_distance"), blank)
            columns["nearest"] = np.full(len(blank), "", dtype=object)
        source.data = {**source.data, **columns}

    def _outline(self, plot: Any) -> None:
        state = self._state
        plot.handles["source"].data = _NOWHERE if state.answer is None else cell_outline(state.layer, state.head)

    def _color(self, plot: Any) -> None:
        plot.handles["color_mapper"].palette = rank_palette(self.dark)

    def _tap(self, x: float | None, y: float | None) -> None:
        # HoloViews calls from a coroutine that does not hold the page's lock; the figure may not be touched there.
        if x is not None and y is not None:
            in_one_patch(partial(self._state.select, layer=round(y), head=round(x)))

    @param.depends("dark", watch=True)
    def _recolor(self) -> None:
        for plot in self._cells:
            self._color(plot)
        pn.io.push_notebook(self._pane)

    def __panel__(self) -> pn.Column:
        # The figure's place is kept while there is none, so that nothing below moves when it comes.
        place = pn.Column(self._pane, height=_HEIGHT, sizing_mode="stretch_width")
        return pn.Column(self._heading, place, sizing_mode="stretch_width")


def _weakly(method: Callable[[Any, object], None]) -> Callable[[Any, object], None]:
    """A hook for HoloViews, which keeps the options of every plot for the life of the process, and with them these."""
    reference = WeakMethod(method)

    def hook(plot: Any, element: object) -> None:
        alive = reference()
        if alive is not None:
            alive(plot, element)

    return hook
