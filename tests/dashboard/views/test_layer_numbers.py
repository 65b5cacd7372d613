"""Views call layers by their number in the model, which may have attention in a part of its layers only."""

from __future__ import annotations

from typing import Any

import panel as pn
import pytest
import xarray as xr
from bokeh.models import HoverTool

import attnxr
from attnxr.dashboard import (
    AttentionMatrix,
    EncodingMap,
    HeadMap,
    NeighborTable,
    OverLayers,
    PositionMap,
    SignalOrNoise,
    State,
    TokenStrip,
)
from attnxr.dashboard.address import codec
from attnxr.dashboard.compute import aspects
from attnxr.dashboard.compute.answering import nearest_positions
from attnxr.dashboard.files import standalone
from attnxr.dashboard.parts import Heading
from attnxr.dashboard.session.answer import Answer
from attnxr.dashboard.views.controls import Controls
from attnxr.dashboard.views.take_away import FILES
from tests.dashboard.views.test_over_layers import part, sources, tap
from tests.support.families import build

TEXT = [11, 40, 23, 40, 57, 8, 33, 62]
NUMBERS = [0, 2]


@pytest.fixture(scope="module")
def model() -> attnxr.Model:
    options: dict[str, Any] = {"attn_layer_period": 2, "attn_layer_offset": 0, "use_mamba_kernels": False}
    options |= {"num_key_value_heads": 2, "mamba_dt_rank": 4, "mamba_d_state": 8, "num_experts": 2}
    return attnxr.Model(build("jamba", options | {"num_hidden_layers": 4}))


@pytest.fixture(scope="module")
def enc(model: attnxr.Model) -> xr.Dataset:
    return model.encode(token_ids=TEXT)


@pytest.fixture
def state(model: attnxr.Model, enc: xr.Dataset) -> State:
    state = State(["jamba"])
    near, sequence = model.neighbors(enc, k=5), nearest_positions(enc, "cosine")
    state.land(Answer(state.request, enc, near, sequence, model.vocab_size, xr.Dataset()))
    state.select(layer=1, head=1, position=2)
    return state


def figure(view: Any) -> Any:
    pn.panel(view).get_root()
    ((plot, _),) = part(view, pn.pane.HoloViews)._plots.values()
    return plot.state


def ticks(axis: Any) -> list[str]:
    return [axis.major_label_overrides[tick] for tick in axis.ticker.ticks]


def test_headings_and_choices(state: State) -> None:
    assert state.answer is not None
    assert state.answer.layers == NUMBERS
    for view in (TokenStrip(state), NeighborTable(state), AttentionMatrix(state), SignalOrNoise(state)):
        assert "layer 2" in part(view, Heading).detail
    controls = Controls(state, TokenStrip(state))
    (field,) = (each for each in controls._choices.fields if each["name"] == "layer")
    assert (field["options"], field["value"]) == ([[0, "0"], [1, "2"]], 1)


def test_axes_and_tooltips(state: State) -> None:
    heads = HeadMap(state)
    assert ticks(figure(heads).yaxis[0]) == ["0", "2"]
    cells = sources(heads)["HeatMap.I"]
    assert [NUMBERS[layer] for layer in cells["layer"]] == list(cells["number"])

    (hover,) = figure(PositionMap(state)).select({"type": HoverTool})
    assert hover.formatters["$y"].args["numbers"] == NUMBERS

    lines = OverLayers(state)
    assert ticks(figure(lines).xaxis[0]) == ["0", "2"]
    assert list(sources(lines)["Scatter.Chosen"]["number"]) == NUMBERS


def test_a_point_of_the_map_chooses_its_layer(state: State, model: attnxr.Model) -> None:
    view = EncodingMap(state)
    answer, (wanted,) = state.answer, state.wanted
    assert answer is not None
    found = aspects.compute(answer, model, wanted, lambda _message, _fraction: None)
    state.land_aspect(answer, wanted, found)
    pn.panel(view).get_root()
    ring = sources(view)["Scatter.Here"]
    assert [ring["x"][0], ring["y"][0]] == pytest.approx(found.coordinate.values[1, :2])
    tap(view, *found.coordinate.values[0, :2])
    assert state.layer == 0


def test_addresses_and_files(state: State) -> None:
    assert state.answer is not None
    query, _ = codec.write(state)
    assert "layer=2" in query
    assert codec.read(query, state, {}).selection["layer"] == 2
    state.select(layer=0)
    state.go_to({}, {"layer": 2})
    assert state.layer == 1
    state.go_to({}, {"layer": 1})
    assert state.layer == 0
    assert state.notices == ["The address asks for layer 1; there are layers 0, 2."]

    chosen = standalone.Selection(1, 0, 2)
    assert standalone.contents(state.answer, chosen)["layers"] == NUMBERS
    assert "layer 2" in FILES["neighbors"].about(state.answer, chosen)
