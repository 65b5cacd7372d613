"""The plots draw what the Datasets say, and render."""

from __future__ import annotations

import holoviews as hv
import numpy as np
import pytest
import xarray as xr
from bokeh.models import LogColorMapper

import attnxr
from attnxr import plots
from attnxr.tokens import label
from tests.cases import Case


@pytest.fixture(scope="module")
def near(bert: Case) -> xr.Dataset:
    return bert.model.neighbors(bert.model.encode(bert.text), k=3)


def test_rank_columns_hold_every_cell_once(near: xr.Dataset) -> None:
    position = 2
    columns = plots.rank_columns(near, position)
    n_layers, n_heads = near.sizes["layer"], near.sizes["head"]

    assert {len(column) for column in columns.values()} == {n_layers * n_heads}
    for head, layer, rank, distance, nearest in zip(*columns.values(), strict=True):
        cell = near.isel(layer=layer, head=head, position=position)
        assert rank == cell["own_rank"].item()
        assert distance == cell["own_distance"].item()
        assert nearest == label(cell["neighbor"].values[0], cell["neighbor_text"].values[0])


def rendered(element: hv.Overlay) -> list[hv.plotting.bokeh.ElementPlot]:
    return list(hv.renderer("bokeh").get_plot(element).subplots.values())


def test_colours_run_from_one_to_the_vocabulary_size_on_a_log_scale(near: xr.Dataset) -> None:
    cells, _ = rendered(plots.rank_map(near, 2))
    mapper = cells.handles["color_mapper"]
    assert isinstance(mapper, LogColorMapper)
    assert (mapper.low, mapper.high) == (1, near.attrs["vocab_size"])
    assert list(mapper.palette) == plots.rank_palette()


def test_rank_one_stands_out_from_the_background() -> None:
    def lightness(colour: str) -> float:
        return sum(int(colour[i : i + 2], 16) for i in (1, 3, 5))

    light, dark = plots.rank_palette(), plots.rank_palette(dark=True)
    assert lightness(light[0]) < lightness(light[-1])
    assert lightness(dark[0]) > lightness(dark[-1])
    steps = np.diff([lightness(colour) for colour in light])
    assert (steps >= -3).all()  # even, so that it can be read without colour vision


def test_the_chosen_cell_is_outlined_and_no_other(near: xr.Dataset) -> None:
    _, outline = rendered(plots.rank_map(near, 2, layer=1, head=3))
    assert {name: list(edge) for name, edge in outline.handles["source"].data.items()} == plots.cell_outline(1, 3)

    _, none = rendered(plots.rank_map(near, 2))
    assert len(none.handles["source"].data["left"]) == 0


@pytest.mark.parametrize("selection", [{"layer": [1]}, {"head": [2]}, {"layer": [0], "head": [0]}])
def test_a_single_layer_or_head_can_be_drawn(near: xr.Dataset, selection: dict[str, list[int]]) -> None:
    cells, _ = rendered(plots.rank_map(near.isel(selection), 1))
    assert len(cells.handles["source"].data["zvalues"]) == near.isel(selection)["own_rank"].isel(position=1).size


@pytest.fixture(scope="module", params=["token over layers", "head over tokens", "both"])
def laid_out(bert: Case, request: pytest.FixtureRequest) -> xr.Dataset:
    chosen = {"token over layers": {"position": [2]}, "head over tokens": {"layer": [1]}, "both": {}}[request.param]
    enc = bert.model.encode(bert.text)
    return attnxr.map_encodings(bert.model, enc, bert.model.neighbors(enc, k=3).isel(chosen).isel(head=[1]))


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
