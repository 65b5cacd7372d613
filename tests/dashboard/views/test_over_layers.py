"""Own ranks and distances over layers, as the Datasets have them; driven without a server."""

from __future__ import annotations

from typing import Any

import holoviews as hv
import numpy as np
import panel as pn
import pytest
import xarray as xr
from panel.viewable import Viewer

import attnxr
from attnxr.dashboard import OverLayers, State
from attnxr.dashboard.compute import aspects
from attnxr.dashboard.parts import Choices, Heading
from attnxr.dashboard.session.answer import Answer, Aspect
from attnxr.plots.over_layers import HERE, LINE, OTHERS, POINTS, STREAM

STREAM_ASPECT = Aspect("stream")


def part(view: Viewer, kind: type[Any]) -> Any:
    (found,) = pn.panel(view).select(kind)
    return found


def sources(view: Viewer) -> dict[str, dict[str, np.ndarray]]:
    plot, _ = list(part(view, pn.pane.HoloViews)._plots.values())[-1]
    return {".".join(key): dict(each.handles["source"].data) for key, each in plot.subplots.items()}


def tap(view: Viewer, x: float, y: float) -> None:
    overlay = part(view, pn.pane.HoloViews).object
    (stream,) = (found for layer in overlay for found in hv.streams.Stream.registry.get(layer, []))
    stream.event(x=x, y=y)


@pytest.fixture
def answer(answered: State) -> Answer:
    assert answered.answer is not None
    return answered.answer


@pytest.fixture
def view(answered: State) -> OverLayers:
    view = OverLayers(answered)
    pn.panel(view).get_root()
    return view


@pytest.fixture
def stream(answer: Answer, shelf: dict[str, attnxr.Model]) -> xr.Dataset:
    encodings = shelf["bert"].encode(answer.request.text, include=["residual"])
    return shelf["bert"].neighbors(encodings, of="residual", space="embedding")


@pytest.mark.parametrize("quantity", ["own_rank", "own_distance"])
def test_all_tokens_and_the_chosen_one(answered: State, answer: Answer, view: OverLayers, quantity: str) -> None:
    part(view, Choices)._handle_msg({"name": "quantity", "value": quantity})
    pn.panel(view).get_root()
    figure = part(view, pn.pane.HoloViews).object
    for head, position, layer in ((1, 3, 2), (2, 5, 0)):
        answered.select(head=head, position=position, layer=layer)
        shown = sources(view)
        expected = answer.neighbors[quantity].values[:, head].T  # (position, layer)
        lines = np.reshape(shown[OTHERS]["value"], (answer.n_positions, answer.n_layers + 1))
        np.testing.assert_allclose(lines[:, :-1], expected)
        assert np.isnan(lines[:, -1]).all()
        np.testing.assert_allclose(shown[LINE]["value"], expected[position])
        np.testing.assert_allclose(shown[POINTS]["value"], expected[position])
        assert (shown[HERE]["layer"][0], shown[HERE]["value"][0]) == (layer, pytest.approx(expected[position, layer]))
        assert np.isnan(shown[STREAM]["value"]).all()
    assert part(view, pn.pane.HoloViews).object is figure  # not drawn again


@pytest.mark.parametrize("quantity", ["own_rank", "own_distance"])
def test_the_stream_comes_later(
    answered: State,
    answer: Answer,
    view: OverLayers,
    stream: xr.Dataset,
    shelf: dict[str, attnxr.Model],
    quantity: str,
) -> None:
    assert answered.wanted == [STREAM_ASPECT]
    assert part(view, Heading).detail.endswith("residual stream: computing…")
    found = aspects.compute(answer, shelf["bert"], STREAM_ASPECT, lambda _message, _fraction: None)
    xr.testing.assert_equal(found.stream_own_rank, stream.own_rank.rename("stream_own_rank"))
    answered.quantity = quantity
    answered.land_aspect(answer, STREAM_ASPECT, found)
    pn.panel(view).get_root()
    answered.select(position=4)
    np.testing.assert_allclose(sources(view)[STREAM]["value"], stream[quantity].values[:, 4], atol=1e-6)
    assert "computing" not in part(view, Heading).detail
    view.shown = False
    assert answered.wanted == []


@pytest.mark.parametrize("quantity", ["own_rank", "own_distance"])
def test_a_click_near_a_line_chooses_token_and_layer(
    answered: State, answer: Answer, view: OverLayers, quantity: str
) -> None:
    answered.quantity = quantity
    values = answer.neighbors[quantity].values[1, answered.head]
    for position in np.unique(values, return_index=True)[1]:
        answered.select(layer=0)
        tap(view, 1.2, float(values[position]))
        assert (answered.layer, answered.position) == (1, position)
    tap(view, 2.0, 1e9)
    assert (answered.layer, answered.position) == (2, position)
    tap(view, 99.0, 1.0)
    assert answered.layer == 2


def test_nothing_of_an_old_answer_stays(answered: State, view: OverLayers) -> None:
    answered.text = "Fruit flies."
    assert all(len(column) == 0 for columns in sources(view).values() for column in columns.values())
    assert part(view, Heading).detail == ""


def test_neighbors_alone_are_enough(answer: Answer) -> None:
    view = OverLayers(answer.neighbors, shown=False)
    pn.panel(view).get_root()
    with pytest.raises(attnxr.InputError, match="OverLayers needs neighbours"):
        OverLayers(answer.encodings)
