"""The map shows what the library lays out, and a click on a point chooses it; driven without a server."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import panel as pn
import pytest
import xarray as xr

import attnxr
from attnxr.dashboard import EncodingMap, State
from attnxr.dashboard.compute import aspects
from attnxr.dashboard.parts import Choices, Heading
from attnxr.dashboard.session.answer import Answer
from attnxr.plots import map_columns
from tests.dashboard.views.test_over_layers import part, sources, tap

Land = Callable[[], xr.Dataset]


@pytest.fixture
def answer(answered: State) -> Answer:
    assert answered.answer is not None
    return answered.answer


@pytest.fixture
def land(answered: State, answer: Answer, shelf: dict[str, attnxr.Model]) -> Land:
    def land() -> xr.Dataset:
        (wanted,) = answered.wanted
        found = aspects.compute(answer, shelf["bert"], wanted, lambda _message, _fraction: None)
        answered.land_aspect(answer, wanted, found)
        return found

    return land


def points(view: EncodingMap) -> np.ndarray:
    shown = sources(view)["Points.Encoding"]
    return np.c_[shown["x"], shown["y"]]


def test_it_shows_the_token_over_layers_and_the_layer_over_tokens(
    answered: State, answer: Answer, land: Land, shelf: dict[str, attnxr.Model]
) -> None:
    answered.select(layer=1, head=2, position=3)
    view = EncodingMap(answered)
    assert part(view, Heading).detail == "computing…"
    land()
    pn.panel(view).get_root()
    figure = part(view, pn.pane.HoloViews).object
    near = answer.neighbors.isel(rank=slice(5))
    expected = attnxr.encoding_map(shelf["bert"], answer.encodings, near.isel(head=2, position=3))
    np.testing.assert_allclose(points(view), expected.coordinate.values[: answer.n_layers])
    assert f"trustworthiness {float(expected.trustworthiness):.2f}" in part(view, Heading).detail
    ring = sources(view)["Scatter.Here"]
    np.testing.assert_allclose([ring["x"][0], ring["y"][0]], expected.coordinate.values[1])

    part(view, Choices)._handle_msg({"name": "map_over", "value": "tokens"})
    assert len(points(view)) == 0
    land()
    expected = attnxr.encoding_map(shelf["bert"], answer.encodings, near.isel(head=2, layer=1))
    np.testing.assert_allclose(points(view), expected.coordinate.values[: answer.n_positions])
    assert list(sources(view)["Points.Encoding"]["token"]) == list(map_columns(expected)["token"])[: len(points(view))]
    assert part(view, pn.pane.HoloViews).object is figure  # not drawn again

    tap(view, *points(view)[4])
    assert (answered.layer, answered.position) == (1, 4)
    tap(view, 99.0, 99.0)
    assert answered.position == 4
    view.shown = False
    assert answered.wanted == []


def test_a_click_over_layers_chooses_the_layer(answered: State, land: Land) -> None:
    view = EncodingMap(answered)
    land()
    pn.panel(view).get_root()
    tap(view, *points(view)[2])
    assert answered.layer == 2


def test_it_needs_both_datasets(answer: Answer) -> None:
    with pytest.raises(attnxr.InputError, match="EncodingMap needs encodings"):
        EncodingMap(answer.neighbors)
