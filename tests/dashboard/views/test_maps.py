"""Maps show the Datasets, follow the selection, and a click moves it; driven without a server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import holoviews as hv
import numpy as np
import panel as pn
import pytest
import xarray as xr
from panel.viewable import Viewer

import attnxr
from attnxr.dashboard import AttentionMatrix, HeadMap, Maps, PositionMap
from attnxr.dashboard.compute import aspects
from attnxr.dashboard.parts import Choices, Heading
from attnxr.dashboard.session.answer import Answer, Aspect, Request
from attnxr.dashboard.session.state import State
from attnxr.plots import MEASURES, measure_values
from tests.support import models

Solve = Callable[[Request], Answer]
Kind = type[HeadMap] | type[PositionMap] | type[AttentionMatrix]


def part(view: Viewer, kind: type[Any]) -> Any:
    (found,) = pn.panel(view).select(kind)
    return found


def drawn(view: Viewer) -> list[Any]:
    """The plots of the figure on screen: its cells and its outline."""
    ((plot, _),) = part(view, pn.pane.HoloViews)._plots.values()
    return list(plot.subplots.values())


def sources(view: Viewer) -> list[dict[str, Any]]:
    return [dict(plot.handles["source"].data) for plot in drawn(view)]


def edges(view: Viewer) -> list[tuple[float, ...]]:
    outline = sources(view)[1]
    return list(zip(*(outline[name] for name in ("left", "bottom", "right", "top")), strict=True))


def tap(view: Viewer, x: float, y: float) -> None:
    overlay = part(view, pn.pane.HoloViews).object
    (stream,) = (found for layer in overlay for found in hv.streams.Stream.registry.get(layer, []))
    stream.event(x=x, y=y)


def values(view: HeadMap) -> np.ndarray:
    """What the map over layers and heads shows, by layer and head."""
    cells = sources(view)[0]
    found = np.full((int(max(cells["layer"])) + 1, int(max(cells["head"])) + 1), -1.0)
    found[np.asarray(cells["layer"], int), np.asarray(cells["head"], int)] = cells["zvalues"]
    return found


@pytest.fixture
def answer(answered: State) -> Answer:
    assert answered.answer is not None
    return answered.answer


def opened(kind: Kind, state: State) -> Any:
    view = kind(state)
    pn.panel(view).get_root()
    return view


@pytest.mark.parametrize("measure", MEASURES)
def test_both_maps_show_the_chosen_measure_and_follow(answered: State, answer: Answer, measure: str) -> None:
    answered.measure = measure
    heads, positions = opened(HeadMap, answered), opened(PositionMap, answered)
    figures = [part(view, pn.pane.HoloViews).object for view in (heads, positions)]
    for place in ({"layer": 2, "head": 1, "position": 5}, {"layer": 1, "head": 3, "position": 2}):
        answered.select(**place)
        expected = measure_values(measure, answer.neighbors, position=place["position"])
        np.testing.assert_array_equal(values(heads), expected)
        (image,) = sources(positions)[0]["image"]
        expected = measure_values(measure, answer.neighbors, head=place["head"])
        np.testing.assert_array_equal(image, expected.astype(np.float32))
        layer, head, position = place.values()
        assert edges(heads) == [(head - 0.5, layer - 0.5, head + 0.5, layer + 0.5)]
        assert edges(positions)[1] == (position - 0.5, layer - 0.5, position + 0.5, layer + 0.5)
    assert [part(view, pn.pane.HoloViews).object for view in (heads, positions)] == figures  # not drawn again


def test_another_measure_brings_its_colours(answered: State) -> None:
    views = [opened(HeadMap, answered), opened(PositionMap, answered)]
    for measure in MEASURES:
        answered.measure = measure
        for view in views:
            mapper = drawn(view)[0].handles["color_mapper"]
            assert list(mapper.palette) == MEASURES[measure].palette()


def test_the_heading_says_the_number_at_the_selection(answered: State, answer: Answer) -> None:
    heading = part(opened(HeadMap, answered), Heading)
    answered.select(layer=2, head=3, position=2)
    assert heading.detail == f"“flies” · own rank: {int(answer.neighbors['own_rank'][2, 3, 2]):,}"
    answered.measure = "q_value"
    assert heading.detail == "“flies” · q-value still to come"
    answered.land_aspect(answer, Aspect("significance", 2), "It cannot be had.")
    assert heading.detail == "“flies” · It cannot be had."


def test_the_attention_matrix_follows(answered: State, answer: Answer) -> None:
    view = opened(AttentionMatrix, answered)
    figure = part(view, pn.pane.HoloViews).object
    answered.select(layer=2, head=3, position=4)
    (image,) = sources(view)[0]["image"]
    weights = answer.encodings["attention"].values[2, 3]
    np.testing.assert_array_equal(image, weights)
    assert edges(view) == [(-0.5, 3.5, answer.n_positions - 0.5, 4.5)]
    assert part(view, pn.pane.HoloViews).object is figure
    most = int(weights[4].argmax())
    assert part(view, Heading).detail.endswith(f"at position {most}, {weights[4, most]:.0%}")


@pytest.mark.parametrize(
    ("kind", "chosen"),
    [
        (HeadMap, {"layer": 1, "head": 3}),
        (PositionMap, {"layer": 1, "position": 3}),
        (AttentionMatrix, {"position": 1}),
    ],
)
def test_a_click_moves_the_selection_and_one_beside_the_map_does_not(
    answered: State, kind: Kind, chosen: dict[str, int]
) -> None:
    answered.select(layer=0, head=0, position=0)
    view = opened(kind, answered)
    tap(view, 2.8, 1.2)
    place = {"layer": 0, "head": 0, "position": 0} | chosen
    assert {name: getattr(answered, name) for name in place} == place
    tap(view, -3.0, 99.0)
    assert {name: getattr(answered, name) for name in place} == place


@pytest.mark.parametrize("kind", [HeadMap, PositionMap, AttentionMatrix])
def test_nothing_of_an_old_answer_stays(answered: State, kind: Kind) -> None:
    view = opened(kind, answered)
    before = sources(view)[0]
    answered.text = "Fruit flies."
    cells = sources(view)[0]
    assert edges(view) == []
    assert part(view, Heading).detail == ""
    assert cells.keys() == before.keys()
    for name, column in cells.items():
        for entry in column:
            if name == "image":
                assert np.isnan(entry).all()
            elif name in ("nearest", "written"):
                assert set(np.ravel(entry)) == {""}
            elif name in ("zvalues", "own_rank", "distance", "value"):
                assert np.isnan(entry)


@pytest.mark.parametrize("kind", [HeadMap, PositionMap, AttentionMatrix])
def test_a_figure_displayed_late_shows_what_is_chosen_now(answered: State, kind: Kind) -> None:
    view = kind(answered)
    answered.select(layer=2, head=1, position=5)
    pn.panel(view).get_root()
    now = opened(kind, answered)
    for late, expected in zip(sources(view), sources(now), strict=True):
        for name in expected:
            np.testing.assert_array_equal(late[name], expected[name])


@pytest.mark.parametrize("kind", [HeadMap, PositionMap, AttentionMatrix])
def test_a_model_of_another_shape_is_drawn_anew(answered: State, solve: Solve, kind: Kind) -> None:
    view = opened(kind, answered)
    answered.model = "roberta"
    answered.land(solve(answered.request))
    fresh = opened(kind, answered)
    for name, column in sources(fresh)[0].items():
        np.testing.assert_array_equal(sources(view)[0][name], column)


@pytest.mark.parametrize("kind", [PositionMap, AttentionMatrix])
def test_another_text_of_as_many_tokens_is_named_in_the_figure_that_is_there(
    answered: State, solve: Solve, kind: Kind
) -> None:
    late, view = kind(answered), opened(kind, answered)
    figure = part(view, pn.pane.HoloViews).object
    answered.text = " ".join(reversed(models.SENTENCE.rstrip(".").split())) + "."
    answered.land(solve(answered.request))
    fresh = opened(kind, answered)
    pn.panel(late).get_root()
    assert part(view, pn.pane.HoloViews).object is figure
    names = [tokens_named(each) for each in (view, late, fresh)]
    assert names[0] == names[1] == names[2]
    assert names[0]["$x"]["names"][1:4] == ["banana", "a", "like"]


def tokens_named(view: Viewer) -> dict[str, Any]:
    """What a figure calls the tokens and the layers: in its tooltip, by axis, and on its axes."""
    plot = drawn(view)[0]
    formatters = plot.handles["hover"].formatters
    said = {axis: dict(formatters[axis].args) for axis in ("$x", "$y") if axis in formatters}
    return {**said, "axes": [axis.major_label_overrides for axis in (*plot.state.xaxis, *plot.state.yaxis)]}


@pytest.mark.parametrize("kind", [HeadMap, PositionMap, AttentionMatrix])
def test_colours_turn_with_the_theme(answered: State, kind: Kind) -> None:
    view = opened(kind, answered)
    mapper = drawn(view)[0].handles["color_mapper"]
    light = list(mapper.palette)
    view.dark = True
    assert list(mapper.palette) == light[::-1]


@pytest.mark.parametrize("kind", [HeadMap, PositionMap, AttentionMatrix])
def test_it_lets_go_of_its_plots(answered: State, kind: Kind) -> None:
    view = opened(kind, answered)
    callbacks = [callback for plot in drawn(view) for callback in plot.callbacks]
    assert any(callback.streams for callback in callbacks)
    view.cleanup()
    assert not any(callback.streams for callback in callbacks)
    answered.select(position=2)


def test_the_choice_of_the_measure_says_what_it_means(answered: State) -> None:
    maps = Maps(answered)
    choices = part(maps, Choices)
    assert [name for name, _ in choices.fields[0]["options"]] == list(MEASURES)
    choices._handle_msg({"name": "measure", "value": "overlap"})
    assert answered.measure == choices.fields[0]["value"] == "overlap"
    heads, _ = pn.panel(maps).select(Heading)
    assert MEASURES["overlap"].help in heads.help
    choices._handle_msg({"name": "measure", "value": "made up"})
    assert answered.measure == "overlap"


def test_q_values_are_asked_for_where_they_are_looked_at_and_shown_when_they_come(
    answered: State, answer: Answer, solve: Solve
) -> None:
    maps = Maps(answered)
    pn.panel(maps).get_root()
    assert answered.wanted == []
    answered.measure = "q_value"
    answered.select(layer=1)
    wanted = Aspect("significance", 1)
    assert answered.wanted == [wanted]

    rng = np.random.default_rng(0)
    q = rng.uniform(size=(1, answer.n_heads, answer.n_positions))
    known = xr.Dataset({"nearest_q": (("layer", "head", "position"), q)}, {"layer": [1]})
    answered.land_aspect(answer, wanted, known)
    expected = np.full((answer.n_layers, answer.n_heads), np.nan)
    expected[1] = q[0, :, answered.position]
    np.testing.assert_array_equal(values(maps._heads), expected)

    maps.shown = False
    assert answered.wanted == []
    maps.shown = True
    assert answered.wanted == [wanted]
    answered.measure = "own_rank"
    assert answered.wanted == []


def test_recovered_shares_are_asked_for_of_the_chosen_token_and_shown_of_those_that_came(
    answered: State, answer: Answer, shelf: dict[str, attnxr.Model]
) -> None:
    maps = Maps(answered)
    pn.panel(maps).get_root()
    answered.measure = "recovered"
    answered.select(position=2)
    wanted = Aspect("recovered", position=2)
    assert answered.wanted == [wanted]
    found = aspects.compute(answer, shelf["bert"], wanted, lambda _message, _fraction: None)
    answered.land_aspect(answer, wanted, found)
    alone = attnxr.effects(shelf["bert"], answer.encodings, by="neighbor")
    expected = alone.recovered.isel(replacement=0).sel(measure="hidden_change_anywhere")
    np.testing.assert_allclose(values(maps._heads), expected.isel(position=2), rtol=1e-3, atol=1e-4)
    answered.select(position=3)
    assert np.isnan(values(maps._heads)).all()
    assert answered.wanted == [Aspect("recovered", position=3)]
