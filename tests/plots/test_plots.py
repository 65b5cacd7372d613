"""The plots draw what the Datasets say, and render."""

from __future__ import annotations

import holoviews as hv
import numpy as np
import pytest
import xarray as xr

import attnxr
from attnxr import plots
from attnxr.tokens import label
from tests.support.cases import Case


@pytest.fixture(scope="module")
def near(bert: Case) -> xr.Dataset:
    return bert.model.neighbors(bert.model.encode(bert.text), k=3)


def rendered(element: hv.Overlay) -> list[hv.plotting.bokeh.ElementPlot]:
    return list(hv.renderer("bokeh").get_plot(element).subplots.values())


@pytest.fixture(scope="module", params=["token over layers", "head over tokens", "both"])
def laid_out(bert: Case, request: pytest.FixtureRequest) -> xr.Dataset:
    chosen = {"token over layers": {"position": [2]}, "head over tokens": {"layer": [1]}, "both": {}}[request.param]
    enc = bert.model.encode(bert.text)
    return attnxr.encoding_map(bert.model, enc, bert.model.neighbors(enc, k=3).isel(chosen).isel(head=[1]))


def test_every_point_of_a_map_is_drawn_once_and_by_its_kind(laid_out: xr.Dataset) -> None:
    columns = plots.map_columns(laid_out)
    kinds = {"encoding": laid_out.kind.values == "encoding", "own token": laid_out.is_own.values}
    kinds["neighbour"] = ~kinds["encoding"] & ~kinds["own token"]
    layers = rendered(plots.map_plot(laid_out))
    drawn = {plot.current_frame.label: plot for plot in layers if isinstance(plot.current_frame, hv.Points)}
    assert set(drawn) == set(kinds)
    colours = {plot.handles["glyph"].fill_color for plot in drawn.values()}
    assert len(colours) == 3
    for kind, here in kinds.items():
        assert set(columns["kind"][here]) == {kind}
        data = drawn[kind].handles["source"].data
        np.testing.assert_array_equal(np.c_[data["x"], data["y"]], laid_out.coordinate.values[here])
        tokens = zip(laid_out.token.values[here], laid_out.text.values[here], strict=True)
        assert list(data["token"]) == [label(*pair) for pair in tokens]


def test_a_line_leads_through_the_layers_of_each_position(laid_out: xr.Dataset) -> None:
    path = plots.map_plot(laid_out).get(0)
    vectors = laid_out.isel(point=laid_out.kind.values == "encoding")
    lines = [np.c_[line["x"], line["y"]] for line in (piece.columns() for piece in path.split())]
    layers = sorted(set(vectors["layer"].values))
    if len(layers) == 1:
        assert not [line for line in lines if len(line)]
        return
    positions = list(dict.fromkeys(vectors["position"].values))
    assert len(lines) == len(positions)
    for line, position in zip(lines, positions, strict=True):
        here = vectors.isel(point=vectors["position"].values == position)
        assert here["layer"].values.tolist() == layers
        np.testing.assert_array_equal(line, here.coordinate)


def test_vectors_are_labelled_by_what_tells_them_apart(laid_out: xr.Dataset) -> None:
    columns = plots.map_columns(laid_out)
    vector = laid_out.kind.values == "encoding"
    several = {dim: len(set(laid_out[dim].values[vector])) > 1 for dim in ("layer", "position")}
    for i in np.flatnonzero(vector):
        here = laid_out.isel(point=i)
        parts = [f"layer {int(here.layer)}"] if several["layer"] else []
        parts += [label(here.token.item(), here.text.item())] if several["position"] else []
        assert columns["label"][i] == " · ".join(parts)
    named = [name for name in columns["label"][~vector] if name]
    assert len(named) == len(set(named))
    outstanding = laid_out.isel(point=laid_out.is_own.values | (laid_out.best_rank.values == 1))
    assert set(named) == {label(*pair) for pair in zip(outstanding.token.values, outstanding.text.values, strict=True)}


@pytest.mark.parametrize("dark", [False, True])
def test_the_axes_say_what_they_are(laid_out: xr.Dataset, dark: bool) -> None:
    plot = hv.renderer("bokeh").get_plot(plots.map_plot(laid_out, dark=dark))
    share = 100 * float(laid_out.explained_variance_ratio[0])
    assert plot.handles["xaxis"].axis_label == f"PC 1 ({share:.0f} % of variance)"
    assert plot.state.title.text == f"PCA by cosine, trustworthiness {float(laid_out.trustworthiness):.2f}"
