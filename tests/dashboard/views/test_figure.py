"""A figure is drawn once for a shape, and gets new data while it is shown."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Hashable
from typing import Any

import holoviews as hv
import numpy as np
import panel as pn
import pytest

from attnxr.dashboard.parts import Heading
from attnxr.dashboard.session.state import State
from attnxr.dashboard.views.figure import Columns, Figure, _same


class Dots(Figure):
    """As many points as tokens, and a line at the chosen one."""

    follows = ("answer", "layer", "position")
    tapped = "Points.I"
    calls = 0

    def __init__(self, state: State, **params: Any) -> None:
        super().__init__(state, Heading(title="Dots"), **params)

    def _shape(self) -> Hashable:
        return self._state.answer and self._state.answer.n_positions

    def _plot(self) -> hv.Overlay:
        points = self._sources()["Points.I"]
        return hv.Points((points["x"], points["y"])) * hv.VLines([])

    def _sources(self) -> dict[str, Columns]:
        self.calls += 1
        x = np.arange(self._state.answer.n_positions)
        return {"Points.I": {"x": x, "y": x + self._state.layer}, "VLines.I": {"x": [self._state.position]}}

    def _detail(self) -> str:
        return f"layer {self._state.layer}"

    def _dress(self, layer: str, plot: Any) -> None:
        if layer == self.tapped:
            plot.handles["glyph"].fill_color = "white" if self.dark else "black"

    def _tap(self, x: float, y: float) -> None:
        self._state.select(position=round(x))


def pane(view: Figure) -> pn.pane.HoloViews:
    (found,) = pn.panel(view).select(pn.pane.HoloViews)
    return found


def sources(view: Figure) -> list[dict[str, list[Any]]]:
    ((plot, _),) = pane(view)._plots.values()
    return [
        {name: list(column) for name, column in sub.handles["source"].data.items()} for sub in plot.subplots.values()
    ]


@pytest.fixture
def view(answered: State) -> Dots:
    view = Dots(answered)
    pn.panel(view).get_root()
    return view


def test_new_data_goes_into_the_figure_that_is_there(view: Dots, answered: State) -> None:
    drawn = pane(view).object
    answered.select(layer=2, position=3)
    n = answered.answer.n_positions
    assert pane(view).object is drawn
    assert sources(view) == [{"x": list(range(n)), "y": list(range(2, n + 2))}, {"x": [3]}]


def test_a_layer_whose_data_stayed_is_not_sent_again(view: Dots, answered: State) -> None:
    ((plot, _),) = pane(view)._plots.values()
    points, line = (sub.handles["source"] for sub in plot.subplots.values())
    sent: list[str] = []
    points.on_change("data", lambda attr, old, new: sent.append("points"))
    line.on_change("data", lambda attr, old, new: sent.append("line"))
    answered.select(position=3)
    answered.select(layer=1)
    answered.select(layer=2, position=4)
    assert sent == ["line", "points", "points", "line"]


def test_nothing_stays_of_an_old_answer(view: Dots, answered: State) -> None:
    answered.text = "Fruit flies."
    assert sources(view) == [{"x": [], "y": []}, {"x": []}]
    (heading,) = pn.panel(view).select(Heading)
    assert heading.detail == ""


def test_an_answer_of_another_shape_is_drawn_anew(view: Dots, answered: State, solve: Any) -> None:
    answered.text = "Fruit flies."
    answered.land(solve(answered.request))
    assert len(sources(view)[0]["x"]) == answered.answer.n_positions


def test_a_hidden_figure_does_nothing_and_catches_up(answered: State) -> None:
    view = Dots(answered, shown=False)
    pn.panel(view).get_root()
    answered.select(layer=1)
    assert (view.calls, pane(view).object) == (0, None)
    view.shown = True
    assert sources(view)[0]["y"][0] == 1

    view.shown = False
    calls = view.calls
    answered.select(layer=2)
    assert view.calls == calls
    assert sources(view)[0]["y"][0] == 1
    view.shown = True
    assert sources(view)[0]["y"][0] == 2


def test_what_was_drawn_for_an_old_shape_is_blank_when_displayed_late(answered: State) -> None:
    view = Dots(answered)
    answered.text = "Fruit flies."
    pn.panel(view).get_root()
    assert sources(view) == [{"x": [], "y": []}, {"x": []}]


def test_a_click_goes_to_the_state_and_one_outside_of_the_axes_nowhere(view: Dots, answered: State) -> None:
    (tap,) = hv.streams.Stream.registry[pane(view).object.Points.I]
    tap.event(x=2.3, y=0)
    assert answered.position == 2
    tap.event(x=None, y=None)
    assert answered.position == 2


def test_it_turns_its_colours_with_the_theme(view: Dots) -> None:
    ((plot, _),) = pane(view)._plots.values()
    points, _ = plot.subplots.values()
    assert points.handles["glyph"].fill_color == "black"
    view.dark = True
    assert points.handles["glyph"].fill_color == "white"


def test_options_that_holoviews_keeps_do_not_keep_it_alive(answered: State) -> None:
    view = Dots(answered)
    pn.panel(view).get_root()
    view.cleanup()
    gone = weakref.ref(view)
    for watchers in answered.param.watchers.values():
        for watcher in [watcher for group in watchers.values() for watcher in group]:
            if getattr(watcher.fn, "__self__", None) is view:
                answered.param.unwatch(watcher)
    del view, watchers, watcher
    pn.state.reset()
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"a": np.array([1.0, np.nan])}, {"a": np.array([1.0, np.nan])}, True),
        ({"a": np.array([1, 2])}, {"a": np.array([1, 3])}, False),
        ({"a": np.array(["x"], dtype=object)}, {"a": np.array(["y"], dtype=object)}, False),
        ({"a": [np.eye(2)]}, {"a": [np.eye(2)]}, True),
        ({"a": [np.eye(2)]}, {"a": [np.eye(3)]}, False),
        ({"a": [1, 2]}, {"a": [1, 2]}, True),
        ({"a": [1, 2]}, {"b": [1, 2]}, False),
        ({"a": [1]}, None, False),
    ],
)
def test_columns_are_compared_by_what_is_in_them(one: Columns, other: Columns | None, same: bool) -> None:
    assert _same(one, other) is same
