"""Maps of the chosen measure: over layers and heads, and over layers and positions."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import holoviews as hv
import numpy as np
import panel as pn
import param
import xarray as xr

from attnxr.dashboard.parts import Choices, Heading
from attnxr.dashboard.rows.measured import FOLLOWED, Demand, chosen, known, landed, reading
from attnxr.dashboard.session.state import ASKED, State
from attnxr.dashboard.views.fields import choice_field
from attnxr.dashboard.views.figure import Columns, Figure
from attnxr.dashboard.views.question import sentence
from attnxr.dashboard.views.view import View
from attnxr.plots import head_columns, head_map, position_columns, position_map
from attnxr.plots.grids import cell_outline, name_positions, outlines, token_label, token_names
from attnxr.plots.layer_maps import position_outlines

_CELLS, _IMAGE, _OUTLINE = "HeatMap.I", "Image.I", "Rectangles.I"


class _Measured(Figure):
    """A figure whose colours are those of the chosen measure."""

    follows = ("answer", "layer", "head", "position", *FOLLOWED)

    def __init__(self, given: State | xr.Dataset, heading: Heading, **params: Any) -> None:
        self._kept: tuple[Hashable, Columns] = (None, {})
        super().__init__(given, heading, **params)

    def _scale(self) -> Hashable:
        """What colours mean: the measure, and where it begins and ends."""
        return self._state.measure, chosen(self._state).limits(self._answer.near)

    def _cells(self, at: int) -> Columns:
        """What `_columns` says, worked out again only when it may say something else."""
        key = (self._answer, self._state.measure, len(landed(self._answer, self._state.measure)), at)
        if self._kept[0] != key:
            self._kept = key, self._columns(at)
        return self._kept[1]

    def _columns(self, at: int) -> Columns:
        raise NotImplementedError

    def _dress(self, layer: str, plot: Any) -> None:
        if layer != _OUTLINE:
            plot.handles["color_mapper"].palette = chosen(self._state).palette(self.dark)


class HeadMap(_Measured):
    """The chosen measure in every layer and head, at the chosen token; a click chooses layer and head.

    Parameters
    ----------
    given : State or xarray.Dataset
        What to follow, and where a click goes; or what ``model.neighbors`` returned.
    **params
        Starting values of the parameters.
    """

    tapped = _CELLS
    height = 300

    def __init__(self, given: State | xr.Dataset, **params: Any) -> None:
        super().__init__(given, Heading(title="Layers and heads"), **params)

    def _shape(self) -> Hashable:
        answer = self._state.answer
        return answer and (tuple(answer.layers), answer.n_columns, answer.columns, self._scale())

    def _plot(self) -> hv.Overlay:
        state, answer = self._state, self._answer
        drawn = head_map(
            answer.near,
            state.position,
            measure=state.measure,
            dark=self.dark,
            **known(answer, state.measure),
        )
        if answer.columns == "head":
            return drawn
        cells = drawn.HeatMap.I
        told = cells.opts.get("plot").kwargs["hover_tooltips"][1:]
        if answer.columns:
            cells.opts(hover_tooltips=[("Layer, key/value head", "@number, @head"), *told])
            return drawn.opts(xlabel="Key/value head")
        cells.opts(hover_tooltips=[("Layer", "@number"), *told])  # there is no head to be named
        return drawn.opts(xlabel="Stream", xticks=[(0, "")])

    def _sources(self) -> dict[str, Columns]:
        return {
            _CELLS: self._cells(self._state.position),
            _OUTLINE: cell_outline(self._state.layer, self._answer.column(self._state.head)),
        }

    def _columns(self, at: int) -> Columns:
        answer, measure = self._answer, self._state.measure
        columns = head_columns(answer.near, at, measure=measure, **known(answer, measure))
        return {**columns, "zvalues": columns["value"]}

    def _detail(self) -> str:
        state = self._state
        value = self._cells(state.position)["zvalues"][
            state.layer * self._answer.n_columns + self._answer.column(state.head)
        ]
        return f"“{token_label(self._answer.encodings, state.position)}” · {reading(state, float(value))}"

    def _blank(self, layer: str, columns: Columns) -> Columns:
        """Grey cells, where they were."""
        if layer == _OUTLINE:
            return super()._blank(layer, columns)
        blank = np.full(len(columns["zvalues"]), np.nan)
        empty = np.full(len(blank), "", dtype=object)
        numbers = dict.fromkeys(("zvalues", "value", "own_rank", "distance"), blank)
        return {**numbers, "written": empty, "nearest": empty}

    def _tap(self, x: float, y: float) -> None:
        self._state.select_column(round(x), layer=round(y))


class PositionMap(_Measured):
    """The chosen measure in every layer and at every token, of the chosen head; a click chooses layer and token.

    Parameters
    ----------
    given : State or xarray.Dataset
        What to follow, and where a click goes; or what ``model.neighbors`` returned.
    **params
        Starting values of the parameters.
    """

    tapped = _IMAGE
    height = 240

    def __init__(self, given: State | xr.Dataset, **params: Any) -> None:
        heading = Heading(
            title="Layers and positions",
            help="The same number for every layer, in the chosen head if there are heads, at all tokens of the text; "
            "the colours are those of the map above. Click to choose a layer and a token.",
        )
        super().__init__(given, heading, **params)

    def _shape(self) -> Hashable:
        answer = self._state.answer
        return answer and (tuple(answer.layers), answer.n_positions, self._scale())

    def _rename(self, layer: str, plot: Any) -> None:
        if layer == _IMAGE:
            name_positions(plot, token_names(self._answer.near), "x")

    def _plot(self) -> hv.Overlay:
        state, answer = self._state, self._answer
        return position_map(
            answer.near,
            answer.column(state.head),
            measure=state.measure,
            dark=self.dark,
            **known(answer, state.measure),
        )

    def _sources(self) -> dict[str, Columns]:
        state = self._state
        edges = position_outlines(self._answer.n_layers, state.layer, state.position)
        return {_IMAGE: self._cells(self._answer.column(state.head)), _OUTLINE: outlines(*edges)}

    def _columns(self, at: int) -> Columns:
        answer, measure = self._answer, self._state.measure
        return position_columns(answer.near, at, measure=measure, **known(answer, measure))

    def _detail(self) -> str:
        return self._answer.named(self._state.head)

    def _blank(self, layer: str, columns: Columns) -> Columns:
        """A grey image, where it was."""
        if layer == _OUTLINE:
            return super()._blank(layer, columns)
        (image,) = columns["image"]
        return {"image": [np.full_like(image, np.nan)], "nearest": [np.full(image.shape, "", dtype=object)]}

    def _tap(self, x: float, y: float) -> None:
        self._state.select(layer=round(y), position=round(x))


class Maps(View):
    """Both maps, under the choice of what colours them.

    Parameters
    ----------
    given : State or xarray.Dataset
        What to follow, and where a click goes; or what ``model.neighbors`` returned.
    **params
        Starting values of the parameters.
    """

    def __init__(self, given: State | xr.Dataset, **params: Any) -> None:
        super().__init__(**params)
        state = self._state = self._take(given)
        self._choices = Choices(self._choose, margin=(-8, 0, 6, 0))
        self._heads = HeadMap(state, dark=self.dark, shown=self.shown)
        self._positions = PositionMap(state, dark=self.dark, shown=self.shown)
        self._demand = Demand(state)
        self._demand.show(self.shown)
        state.param.watch(self._show, ["measure", "stack", "answer", *ASKED])
        self._show()

    def cleanup(self) -> None:
        """Clean up both maps."""
        self._heads.cleanup()
        self._positions.cleanup()

    def _show(self, *_events: object) -> None:
        measure = chosen(self._state)
        self._choices.fields = [choice_field(self._state, "measure", "Colour by")]
        self._heads.explain(f"{sentence(self._state)} {measure.help} Click a cell to choose it.")

    def _choose(self, data: dict[str, str]) -> None:
        self._state.measure = data["value"]

    @param.depends("dark", "shown", watch=True)
    def _pass_on(self) -> None:
        for view in (self._heads, self._positions):
            view.param.update(dark=self.dark, shown=self.shown)
        self._demand.show(self.shown)

    def __panel__(self) -> pn.Column:
        below = pn.Column(self._positions, margin=(14, 0, 0, 0), sizing_mode="stretch_width")
        return pn.Column(self._choices, self._heads, below, sizing_mode="stretch_width")
